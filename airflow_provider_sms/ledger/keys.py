"""What makes a campaign the same campaign, whichever try, worker or account sends it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from airflow_provider_sms.ledger.errors import LedgerUsageError

LONGEST_KEY = 250


@dataclass(frozen=True, slots=True)
class TaskInstanceKey:
    """Where in Airflow a campaign is sent from. Never the try: every try carries the same campaign on.

    :param map_index: -1 where the task is not mapped.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def __str__(self) -> str:
        name = f"{self.dag_id}/{self.run_id}/{self.task_id}"
        return name if self.map_index < 0 else f"{name}/{self.map_index}"


@dataclass(frozen=True, slots=True)
class CampaignKey:
    """One campaign: a task instance's, or one that the user names.

    :param namespace: tells installations apart that share a ledger.
    :param sender: the task instance, if it is one that sends.
    :param campaign_key: the user's own name; it then is the key, and the task instance is not.
    :raises LedgerUsageError: the name can not be kept.
    """

    namespace: str
    sender: TaskInstanceKey | None = None
    campaign_key: str | None = None

    def __post_init__(self) -> None:
        if self.campaign_key is None and self.sender is None:
            raise LedgerUsageError("campaign_key: needed outside a task.")
        if self.campaign_key is not None:
            # A template that is rendered to a native object makes a number of digits.
            if not isinstance(self.campaign_key, str):
                raise LedgerUsageError(f"campaign_key: expected text, got {type(self.campaign_key).__name__}.")
            if not self.campaign_key.strip() or not self.campaign_key.isprintable():
                raise LedgerUsageError("campaign_key: empty, or with characters that can not be shown.")
            if len(self.campaign_key) > LONGEST_KEY:
                raise LedgerUsageError(
                    f"campaign_key: {len(self.campaign_key)} characters; up to {LONGEST_KEY} can be kept."
                )

    @property
    def name(self) -> str:
        """What people call the campaign."""
        return self.campaign_key if self.campaign_key is not None else str(self.sender)

    @property
    def hash(self) -> str:
        """The key as the ledger looks it up."""
        if self.sender is None or self.campaign_key is not None:
            return _hash("key", self.namespace, self.campaign_key)
        place = (self.sender.dag_id, self.sender.run_id, self.sender.task_id, self.sender.map_index)
        return _hash("task", self.namespace, *place)

    def once_scope(self, content_hash: str) -> str | None:
        """Within what a phone gets a text once: all instances of a mapped task in its run. None if not mapped."""
        if self.campaign_key is not None or self.sender is None or self.sender.map_index < 0:
            return None
        return _hash("once", self.namespace, self.sender.dag_id, self.sender.run_id, self.sender.task_id, content_hash)


def text_hash(content: str) -> str:
    """Tell texts apart where the text itself has been removed."""
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
