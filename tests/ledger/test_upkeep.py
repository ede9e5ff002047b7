"""Phones and texts that are kept no longer, on every database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from airflow_provider_sms.gateway import errors
from airflow_provider_sms.ledger import reports, upkeep
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import CampaignPurgedError, LedgerUnreachableError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    campaign_table,
    delivery_table,
    once_table,
    quarantine_table,
    receipt_table,
    recipient_table,
    reply_claim_table,
    reply_table,
)
from airflow_provider_sms.ledger.upkeep import Count, Removed, count_purgeable, purge
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Try, begin
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import ACCOUNT, PHONES, SENDER, TEXT, Campaigns, Platform
from tests.support.heard import deliveries, look, marks, receipt, reply

DAY = datetime(2021, 1, 1, tzinfo=UTC)
BEFORE = DAY.replace(tzinfo=None) - timedelta(days=9)
AFTER = DAY.replace(tzinfo=None) + timedelta(days=9)
LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
UNSENT = errors.UnsentError("The platform can not be reached: Connection refused.")
KEY = CampaignKey("", SENDER)


@pytest.fixture
def campaigns(any_ledger: Ledger) -> Campaigns:
    """Campaigns in a ledger of each kind."""
    return Campaigns(any_ledger)


def removing(campaigns: Campaigns) -> Removed:
    """What is removed, which has to be what was said before."""
    said = count_purgeable(campaigns.ledger, DAY)
    removed = purge(campaigns.ledger, DAY, lambda so_far: None)
    assert said == removed
    return removed


def put_back(campaigns: Campaigns, time: datetime = BEFORE) -> None:
    """Let everything have happened at that time."""
    with campaigns.ledger.writing() as connection:
        late = time + timedelta(days=1)
        values = {"created_at": time, "planned_at": time, "valid_until": late, "lease_until": time}
        connection.execute(update(campaign_table).values(**values))
        connection.execute(update(batch_table).values(claimed_at=time, lease_until=time))
        connection.execute(update(batch_table).where(batch_table.c.settled_at.is_not(None)).values(settled_at=time))


def campaign(campaigns: Campaigns) -> Any:
    with campaigns.ledger.reading() as connection:
        return connection.execute(select(campaign_table).order_by(campaign_table.c.id)).first()


def count(campaigns: Campaigns, table: Any) -> int:
    with campaigns.ledger.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_phones_and_text_go_and_counts_and_a_tombstone_stay(campaigns: Campaigns) -> None:
    with pytest.raises(CampaignError):
        campaigns.run(Platform(None, LOST), [*PHONES, PHONES[0], "x"])
    put_back(campaigns)
    campaign_id = campaign(campaigns).id
    before = reports.report(campaigns.ledger, campaign_id)
    assert removing(campaigns) == Removed(campaigns=1, phones=12)
    row = campaign(campaigns)
    assert (row.content, row.fingerprint) == (None, None)
    assert row.purged_at is not None
    assert row.phones == 10
    assert count(campaigns, recipient_table) == 0
    assert reports.report(campaigns.ledger, campaign_id) == before
    with pytest.raises(CampaignPurgedError, match="Campaign 'dag/run/send' was sent, and its phones and texts were"):
        begin(campaigns.ledger, KEY, Try(2))
    again = Platform()
    with pytest.raises(CampaignPurgedError):
        campaigns.run(again)
    assert again.requests == []
    assert removing(campaigns) == Removed()


@pytest.mark.parametrize("what", ["planned", "settled", "to be sent"])
def test_what_is_not_old_enough_stays(campaigns: Campaigns, what: str) -> None:
    campaigns.run(Platform())
    put_back(campaigns)
    with campaigns.ledger.writing() as connection:
        match what:
            case "planned":
                connection.execute(update(campaign_table).values(planned_at=AFTER))
            case "settled":
                only = batch_table.c.number == 3
                connection.execute(update(batch_table).where(only).values(settled_at=AFTER))
            case "to be sent":
                connection.execute(update(campaign_table).values(send_time=AFTER))
    assert removing(campaigns).campaigns == 0
    assert count(campaigns, recipient_table) == 10


def test_what_is_being_sent_stays(campaigns: Campaigns) -> None:
    campaigns.run(Platform())
    put_back(campaigns)
    with campaigns.ledger.reading() as connection:
        lease = campaigns.ledger.now(connection) + timedelta(minutes=1)
    campaigns.change_batches(batch_table.c.number == 3, state=BatchState.SENDING, lease_until=lease)
    assert removing(campaigns) == Removed(kept=1)


def test_what_may_still_go_out_stays_and_what_may_not_ends_as_expired(campaigns: Campaigns) -> None:
    with pytest.raises(CampaignError):
        campaigns.run(Platform(None, UNSENT, UNSENT, UNSENT, UNSENT))
    put_back(campaigns)
    with campaigns.ledger.writing() as connection:
        tomorrow = campaigns.ledger.now(connection) + timedelta(days=1)
        connection.execute(update(campaign_table).values(valid_until=tomorrow))
    assert removing(campaigns) == Removed(kept=1)
    put_back(campaigns)
    assert removing(campaigns) == Removed(campaigns=1, phones=10)
    assert [batch.state for batch in campaigns.batches()] == ["accepted"] + ["expired"] * 4


def test_what_was_being_sent_by_a_process_that_ended_is_in_doubt(campaigns: Campaigns) -> None:
    campaigns.run(Platform())
    put_back(campaigns)
    campaigns.change_batches(batch_table.c.number == 3, state=BatchState.SENDING, settled_at=None)
    assert removing(campaigns) == Removed(campaigns=1, phones=10)
    assert [batch.state for batch in campaigns.batches()].count("in_doubt") == 1


def test_somebody_who_begins_in_the_meantime_is_left_alone(
    campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaigns.run(Platform())
    put_back(campaigns)
    bury = upkeep._bury

    def once_somebody_has_begun(ledger: Ledger, *arguments: Any) -> int:
        with ledger.reading() as connection:
            lease = ledger.now(connection) + timedelta(minutes=1)
        campaigns.change_batches(batch_table.c.number == 3, state=BatchState.SENDING, lease_until=lease)
        return bury(ledger, *arguments)

    monkeypatch.setattr(upkeep, "_bury", once_somebody_has_begun)
    assert purge(campaigns.ledger, DAY, lambda so_far: None).campaigns == 0
    assert count(campaigns, recipient_table) == 10


def test_instances_of_a_mapped_task_go_together(campaigns: Campaigns) -> None:
    campaigns.run(Platform(), PHONES[:2], map_index=0)
    campaigns.run(Platform(), PHONES[1:3], map_index=1)
    put_back(campaigns)
    campaigns.change_batches(batch_table.c.campaign_id == campaigns.batches()[1].campaign_id, settled_at=AFTER)
    assert removing(campaigns) == Removed(kept=2)
    assert count(campaigns, once_table) == 3
    put_back(campaigns)
    assert removing(campaigns) == Removed(campaigns=2, phones=4)
    assert count(campaigns, once_table) == 0


@pytest.mark.parametrize("table", [receipt_table, reply_table], ids=["receipts", "replies"])
def test_what_was_heard_before_goes_by_its_own_time(
    campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch, table: Any
) -> None:
    monkeypatch.setattr(upkeep, "_IDS_AT_ONCE", 2)
    with campaigns.ledger.writing() as connection:
        for number, time in enumerate([BEFORE, BEFORE, AFTER, BEFORE, BEFORE, BEFORE, AFTER]):
            values = {"mobile": PHONES[number], "taskid": "T1", "received_at": time, "digest": "1"}
            connection.execute(insert(table).values(**values))
    removed = removing(campaigns)
    assert (removed.receipts, removed.replies) == ((5, 0) if table is receipt_table else (0, 5))
    assert count(campaigns, table) == 2


def test_what_is_known_of_each_phone_goes_with_it_and_counts_stay(
    campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "_DELIVERIES_AT_ONCE", 3)
    ledger = campaigns.ledger
    campaigns.run(Platform(), key=CampaignKey("", campaign_key="stays"))
    campaigns.run(Platform(), PHONES[:2])
    gone = campaigns.batches()[-1].campaign_id
    campaigns.change_batches(batch_table.c.campaign_id != gone, taskid=None)
    campaigns.change_batches(batch_table.c.campaign_id != gone, batch_table.c.number == 1, taskid="X1")
    receipt(ledger, PHONES[0], "T1")
    receipt(ledger, PHONES[1], "T1", "0", "MK:0001")
    receipt(ledger, PHONES[0], "X1")
    look(ledger)
    assert count(campaigns, delivery_table) == 3
    with ledger.writing() as connection:
        only = campaign_table.c.id == gone
        old = {"planned_at": BEFORE, "valid_until": BEFORE}
        connection.execute(update(campaign_table).where(only).values(**old))
    campaigns.change_batches(batch_table.c.campaign_id == gone, settled_at=BEFORE, lease_until=BEFORE)
    assert removing(campaigns).campaigns == 1
    assert count(campaigns, delivery_table) == 1
    counts = deliveries(ledger, gone)
    assert (counts.delivered, counts.failed) == (1, {"dead_number": 1})
    # What comes now finds nobody.
    receipt(ledger, PHONES[0], "T1", "0")
    look(ledger)
    assert (marks(ledger)[-1], deliveries(ledger, gone)) == ("no_phone", counts)


def test_claims_go_with_their_replies_and_what_could_not_be_read_by_its_own_time(campaigns: Campaigns) -> None:
    ledger = campaigns.ledger
    old, new = (reply(ledger, PHONES[0], content=str(time), received_at=time) for time in (BEFORE, AFTER))
    with ledger.writing() as connection:
        for number in (old, new):
            values = {"consumer": "c", "reply_id": number, "owner": "o", "lease_until": BEFORE, "handled_at": BEFORE}
            connection.execute(insert(reply_claim_table).values(**values))
        for time in (BEFORE, AFTER):
            values = {"interface": "receipts", "reason": "r", "body": "b", "received_at": time}
            connection.execute(insert(quarantine_table).values(**values))
    removing(campaigns)
    with ledger.reading() as connection:
        assert connection.execute(select(reply_claim_table.c.reply_id)).scalars().all() == [new]
        assert connection.execute(select(quarantine_table.c.received_at)).scalars().all() == [AFTER]


def test_many_pushes_are_estimated(campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = campaigns.ledger
    for number in range(30):
        receipt(ledger, PHONES[0], f"T{number}", matching=None if number % 3 else "unowned")
    stock = upkeep.take_stock(ledger)
    assert [str(each) for each in (stock.receipts, stock.not_looked_at, stock.unowned)] == ["30", "20", "10"]
    if ledger.kind != "sqlite":
        analyze = {"postgresql": "ANALYZE sms_receipt", "mysql": "ANALYZE TABLE sms_receipt"}[ledger.kind]
        with ledger.writing() as connection:
            connection.exec_driver_sql(analyze)
    monkeypatch.setattr(upkeep, "_COUNTED", 12)
    stock = upkeep.take_stock(ledger)
    assert stock.receipts == Count(30, is_about=True)
    assert [str(each) for each in (stock.not_looked_at, stock.unowned)] == ["about 12", "10"]


def test_half_plans_that_were_given_up_go_and_one_that_is_being_stored_stays(campaigns: Campaigns) -> None:
    terms = make_order(ACCOUNT, TEXT, policy=Policy()).terms
    plans = Plans(campaigns.ledger, "elsewhere boot ns 77 1")
    given_up = plans.draft(CampaignKey("", campaign_key="given up"), terms)
    given_up.add(PHONES, {})
    with campaigns.ledger.writing() as connection:
        connection.execute(update(campaign_table).values(lease_until=BEFORE))
    stored = plans.draft(CampaignKey("", campaign_key="stored"), terms)
    stored.add(PHONES[:4], {})
    assert removing(campaigns) == Removed(drafts=1)
    assert campaign(campaigns).id == stored.id
    assert count(campaigns, recipient_table) == 4


def test_one_that_was_killed_is_carried_on_with(campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        campaigns.run(Platform(), PHONES[:4], key=CampaignKey("", campaign_key=f"key {number}"))
    put_back(campaigns)
    real, seen = upkeep.remove_recipients, []

    def away_at_the_second(ledger: Ledger, campaign_id: int) -> None:
        seen.append(campaign_id)
        if len(seen) == 2:
            raise LedgerUnreachableError("The ledger is away.")
        real(ledger, campaign_id)

    with monkeypatch.context() as patched:
        patched.setattr(upkeep, "remove_recipients", away_at_the_second)
        with pytest.raises(LedgerUnreachableError):
            purge(campaigns.ledger, DAY, lambda so_far: None)
    assert count(campaigns, recipient_table) == 8
    for number in range(3):
        with pytest.raises(CampaignPurgedError):
            begin(campaigns.ledger, CampaignKey("", campaign_key=f"key {number}"), Try())
    assert removing(campaigns) == Removed(phones=8)
    assert count(campaigns, recipient_table) == 0


def test_progress_is_told_at_a_bounded_pace(campaigns: Campaigns) -> None:
    for number in range(4):
        campaigns.run(Platform(), PHONES[:2], key=CampaignKey("", campaign_key=f"key {number}"))
    put_back(campaigns)
    ticks = iter(range(0, 1000, 3))
    told: list[int] = []
    purge(campaigns.ledger, DAY, lambda so_far: told.append(so_far.phones), clock=lambda: float(next(ticks)))
    assert 1 <= len(told) <= 4


def test_stock_is_taken_and_writing_tried(campaigns: Campaigns) -> None:
    with pytest.raises(CampaignError):
        campaigns.run(Platform(None, LOST))
    stock = upkeep.take_stock(campaigns.ledger)
    assert (stock.campaigns, stock.purged, stock.batches) == (1, 0, {"accepted": 4, "in_doubt": 1})
    assert (stock.receipts.rows, stock.replies.rows, stock.unowned.rows, stock.not_looked_at.rows) == (0, 0, 0, 0)
    assert stock.created_at.tzinfo is UTC
    upkeep.try_writing(campaigns.ledger)
    assert upkeep.take_stock(campaigns.ledger) == stock


def test_a_removed_phone_is_not_left_behind_in_sqlite_s_file(ledger: Ledger, ledger_file: Path) -> None:
    campaigns = Campaigns(ledger)
    campaigns.run(Platform(), ["13800139876"])
    put_back(campaigns)
    removing(campaigns)
    with closing(sqlite3.connect(ledger_file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"13800139876" not in ledger_file.read_bytes()
