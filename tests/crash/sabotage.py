"""Wrong ways to send, each of which breaks a promise: so that the harness is seen to notice."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import update

from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.schema import BatchState, batch_table
from airflow_provider_sms.ledger.settling import Answer


def apply(name: str | None) -> None:
    """Break this process's code in one of these ways; None leaves it whole."""
    if name is not None:
        WAYS[name]()


def _claims_are_not_stored_before_the_request() -> None:
    claim = Outbox.claim

    def forgotten(outbox: Outbox, *args: Any) -> Claim | None:
        claimed = claim(outbox, *args)
        if claimed is not None:
            _set(outbox, batch_table.c.id == claimed.batch_id, BatchState.PLANNED)
        return claimed

    _put(Outbox, "claim", forgotten)
    _put(Outbox, "check", lambda outbox, claim, seconds: None)


def _leases_are_ignored() -> None:
    overtake = Outbox.overtake

    def taken(outbox: Outbox) -> Any:
        _set(outbox, batch_table.c.state == BatchState.SENDING, BatchState.PLANNED)
        return overtake(outbox)

    _put(Outbox, "overtake", taken)
    _put(Outbox, "check", lambda outbox, claim, seconds: None)


def _batches_of_the_dead_are_sent_again() -> None:
    overtake = Outbox.overtake

    def planned(outbox: Outbox) -> Any:
        held = overtake(outbox)
        _set(outbox, batch_table.c.refusal == "OwnerGone", BatchState.PLANNED)
        return held

    _put(Outbox, "overtake", planned)


def _every_try_is_a_campaign_of_its_own() -> None:
    whole = CampaignKey.hash
    assert isinstance(whole, property)
    _put(CampaignKey, "hash", property(lambda key: f"{os.getpid()} {whole.fget(key)}"[:64]))


def _acceptances_are_not_stored() -> None:
    def lost(outbox: Outbox, claim: Claim, answer: Answer) -> None:
        outbox.refuse(claim, "RefusedError", "")

    _put(Outbox, "accept", lost)


def _task_ids_are_mixed_up() -> None:
    accept = Outbox.accept

    def mixed(outbox: Outbox, claim: Claim, answer: Answer) -> None:
        accept(outbox, claim, Answer(answer.taskid[::-1], answer.accepted, answer.remain_point))

    _put(Outbox, "accept", mixed)


def _put(owner: type, name: str, value: object) -> None:
    assert hasattr(owner, name), f"{owner.__name__} has no {name} any more"
    setattr(owner, name, value)


def _set(outbox: Outbox, which: Any, state: BatchState) -> None:
    of_campaign = batch_table.c.campaign_id == outbox._campaign.id
    with outbox._ledger.writing() as connection:
        connection.execute(update(batch_table).where(of_campaign, which).values(state=state))


WAYS = {
    "claims are not stored before the request": _claims_are_not_stored_before_the_request,
    "leases are ignored": _leases_are_ignored,
    "batches of the dead are sent again": _batches_of_the_dead_are_sent_again,
    "every try is a campaign of its own": _every_try_is_a_campaign_of_its_own,
    "acceptances are not stored": _acceptances_are_not_stored,
    "taskIds are mixed up": _task_ids_are_mixed_up,
}
