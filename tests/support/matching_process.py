"""What a process does that matches and does nothing else, until it is killed."""

from __future__ import annotations

from multiprocessing.connection import Connection

from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.matching import Matcher


def match_for_ever(url: str, told: Connection) -> None:
    """Say "ready", and match what there is in the ledger of that URL."""
    matcher = Matcher(Ledger(read_url(url)), None)
    told.send("ready")
    while True:
        matcher.look(7)
        matcher.revisit()
