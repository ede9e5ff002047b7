"""What the ledger and the platforms say about one run of a DAG; and a person who settles what is in doubt.

Opens a connection for each question and closes it: the process that reads here also forks.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, func, select
from sqlalchemy.engine import Connection, Row
from sqlalchemy.pool import NullPool

from airflow_provider_sms.ledger import verdicts
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table, recipient_table, text_table
from tests.crash.tries import Ended


@dataclass(frozen=True)
class Platform:
    """One account at the simulated platform.

    :param conn_id: the connection that leads there.
    """

    conn_id: str
    base_url: str
    app_id: str
    app_key: str

    def connection(self, timeout: float) -> str:
        """The connection as Airflow reads it from the environment."""
        fields = {"conn_type": "sms", "host": self.base_url, "login": self.app_id, "password": self.app_key}
        return json.dumps({**fields, "extra": json.dumps({"timeout": int(timeout)})})

    def reset(self) -> None:
        """Forget everything, and take a second text to a phone within the minute: nothing but us shall prevent it."""
        self._ask("POST", "reset", {})
        self._ask("DELETE", "faults")
        self._ask("POST", "settings", {"one_per_minute": False})

    def order(self, *faults: dict[str, Any]) -> None:
        """Put these faults in the place of those that are still to come."""
        self._ask("DELETE", "faults")
        self._ask("POST", "faults", faults)

    def accepted(self) -> list[dict[str, Any]]:
        """The batches accepted so far."""
        return self._ask("GET", "accepted")  # type: ignore[no-any-return]

    def asked(self) -> int:
        """How many whole requests to send it has answered."""
        counters = self._ask("GET", "requests")["counters"]
        return 0 if counters["inFlight"] else int(counters["send"])

    def _ask(self, method: str, page: str, body: object = None) -> Any:
        parts = urllib.parse.urlsplit(self.base_url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        try:
            connection.request(method, f"/_simulator/{page}", None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def wait_for_platforms(platforms: Sequence[Platform], tries: Sequence[Ended]) -> None:
    """Wait until every request that left has been seen to: also those of the dead."""
    left, leaving = sum(each.left for each in tries), sum(each.leaving for each in tries)
    begun = time.monotonic()
    # One whose last bytes were on their way when its process was killed may never have left.
    while (asked := sum(each.asked() for each in platforms)) < leaving:
        waited = time.monotonic() - begun
        if asked >= left and waited > 0.3:
            return
        assert waited < 10, f"{left} requests left, the platforms have answered {asked}"
        time.sleep(0.01)


@dataclass(frozen=True)
class Batch:
    """One batch in the ledger, with the phones that its positions hold."""

    id: int
    campaign_id: int
    number: int
    state: BatchState
    account: str | None
    taskid: str | None
    counted: int
    accepted: int
    phones: tuple[str, ...]


@dataclass(frozen=True)
class Books:
    """The ledger about one run.

    :param plans: complete campaigns, by map index.
    :param drafts: how many half plans there are.
    :param strays: how many recipients and batches belong to no campaign.
    :param recipients: position, phone and reason, by campaign.
    """

    plans: dict[int, Row[Any]]
    drafts: int
    strays: int
    recipients: dict[int, list[Row[Any]]]
    batches: list[Batch]

    def batches_of(self, map_index: int) -> list[Batch]:
        plan = self.plans.get(map_index)
        return [] if plan is None else [batch for batch in self.batches if batch.campaign_id == plan.id]

    def phones_in(self, *states: BatchState) -> set[str]:
        return {phone for batch in self.batches if batch.state in states for phone in batch.phones}


class Auditor:
    """Reads one ledger.

    :param url: as SQLAlchemy writes it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = create_engine(url, poolclass=NullPool)

    def read(self, run_id: str) -> Books:
        """Read all about one run."""
        with self._connection() as connection:
            query = select(campaign_table).where(campaign_table.c.run_id == run_id)
            campaigns = connection.execute(query).all()
            known = {row.map_index: row for row in campaigns if row.key_hash is not None and row.planned_at is not None}
            ids = [row.id for row in known.values()]
            recipients = {each: _recipients(connection, each) for each in ids}
            query = select(batch_table).where(batch_table.c.campaign_id.in_(ids))
            rows = connection.execute(query.order_by(batch_table.c.campaign_id, batch_table.c.number)).all()
            batches = [_batch(row, recipients[row.campaign_id]) for row in rows]
            drafts = sum(row.key_hash is None for row in campaigns)
            return Books(known, drafts, _strays(connection), recipients, batches)

    def owners(self, state: BatchState) -> list[tuple[str, str]]:
        """Run and owner of every batch in a state; none as long as there is no ledger."""
        query = select(campaign_table.c.run_id, batch_table.c.owner).where(
            campaign_table.c.id == batch_table.c.campaign_id, batch_table.c.state == state
        )
        if self._engine.url.database is None or not Path(self._engine.url.database).exists():
            return []
        with self._connection() as connection:
            return [(row.run_id, row.owner) for row in connection.execute(query)]

    def settle(self, batch: Batch, task_id: str | None) -> None:
        """Do what a person does who has looked into the platform's console: `airflow-sms resolve`."""
        with closing(Ledger(read_url(self._url))) as ledger:
            if task_id is None:
                verdicts.resolve_as_not_sent(ledger, batch.campaign_id, batch.number)
            else:
                verdicts.resolve_as_sent(ledger, batch.campaign_id, batch.number, task_id)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection


def _recipients(connection: Connection, campaign_id: int) -> list[Row[Any]]:
    table = recipient_table
    query = select(table.c.position, table.c.phone, table.c.reason).where(table.c.campaign_id == campaign_id)
    return list(connection.execute(query.order_by(table.c.position)).all())


def _batch(row: Row[Any], recipients: Sequence[Row[Any]]) -> Batch:
    inside = [each for each in recipients if row.first_position <= each.position <= row.last_position]
    return Batch(
        id=row.id,
        campaign_id=row.campaign_id,
        number=row.number,
        state=BatchState(row.state),
        account=row.account,
        taskid=row.taskid,
        counted=row.phones,
        accepted=row.accepted,
        phones=tuple(each.phone for each in inside if each.reason is None),
    )


def _strays(connection: Connection) -> int:
    known = select(campaign_table.c.id)
    return sum(
        connection.execute(
            select(func.count()).select_from(table).where(table.c.campaign_id.not_in(known))
        ).scalar_one()
        for table in (recipient_table, batch_table, text_table)
    )
