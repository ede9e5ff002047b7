"""What pushes mean: which phone of which batch each is about, on every database."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from airflow_provider_sms.ledger import matching, phonebook
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.matching import Matcher, settle
from airflow_provider_sms.ledger.ownership import alone, bring_in
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    campaign_table,
    delivery_table,
    opt_out_table,
    recipient_table,
    reply_table,
)
from tests.support.campaigns import PHONES, Begun, Campaigns, Platform
from tests.support.heard import counts_agree, deliveries, look, marks, receipt, reply, verdicts

LONG_AGO = datetime(2020, 1, 1)  # noqa: DTZ001 - as the ledger keeps it


@pytest.fixture
def campaigns(any_ledger: Ledger) -> Campaigns:
    """Campaigns in a ledger of each kind."""
    return Campaigns(any_ledger)


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    return any_ledger


@pytest.fixture(scope="module")
def begun() -> Begun:
    return Begun()


@pytest.fixture
def sent(campaigns: Campaigns, begun: Begun) -> int:
    """A campaign of three accepted batches, T1 to T3, of two phones each; its id."""
    begun.begin(campaigns.ledger, "sent", lambda: campaigns.run(Platform(), PHONES[:6]))
    return int(campaigns.batches()[0].campaign_id)


def states(ledger: Ledger) -> dict[str, Any]:
    with ledger.reading() as connection:
        return {row.mobile: row for row in connection.execute(select(reply_table))}


def test_status_decides_and_the_code_gives_the_cause(ledger: Ledger, sent: int) -> None:
    receipt(ledger, PHONES[0], "T1", "1", "MK:0001")
    receipt(ledger, PHONES[1], "T1", "0", "MK:0001")
    receipt(ledger, PHONES[2], "T2", "0", "MX:0012")
    receipt(ledger, PHONES[3], "T2", "7", "DELIVRD")
    assert look(ledger) == 4
    assert marks(ledger) == ["matched"] * 4
    assert verdicts(ledger) == {
        PHONES[0]: ("delivered", ""),
        PHONES[1]: ("failed", "dead_number"),
        PHONES[2]: ("failed", "blacklist"),
        PHONES[3]: ("unknown", ""),
    }
    counts = deliveries(ledger, sent)
    assert (counts.phones, counts.accepted, counts.delivered, counts.unknown) == (6, 6, 1, 1)
    assert counts.failed == {"dead_number": 1, "blacklist": 1}
    assert (counts.failed_total, counts.final, counts.missing, counts.contradicted) == (2, 3, 2, 0)
    assert counts_agree(ledger)
    assert look(ledger) == 0


@pytest.mark.parametrize(
    ("mobile", "mark"),
    [
        (PHONES[1], "matched"),
        ("+86 " + PHONES[1], "matched"),
        ("１３８００１３０００２", "matched"),
        ("1380013***2", "matched"),
        ("138*013***2", "matched"),
        ("***********", "no_phone"),
        ("1380013****", "no_phone"),
        ("138***3***9", "no_phone"),
        ("138*113***2", "no_phone"),
        ("1380013**2", "no_phone"),
        ("13800130003", "no_phone"),
        ("13800139999", "no_phone"),
        ("00000000000", "no_phone"),
        ("", "no_phone"),
        ("²²²²²²²²²²²", "no_phone"),
        ("*", "no_phone"),
        ("x", "no_phone"),
    ],
)
def test_a_phone_of_the_batch_or_stars_that_only_one_fits(ledger: Ledger, sent: int, mobile: str, mark: str) -> None:
    receipt(ledger, mobile)
    assert look(ledger) == 1
    assert marks(ledger) == [mark]
    assert verdicts(ledger) == ({PHONES[1]: ("delivered", "")} if mark == "matched" else {})
    assert deliveries(ledger, sent).delivered == (mark == "matched")


def test_masked_and_whole_are_one_phone(ledger: Ledger, sent: int) -> None:
    receipt(ledger, "1380013***1")
    receipt(ledger, PHONES[0], code="again")
    look(ledger)
    assert marks(ledger) == ["matched", "matched"]
    assert deliveries(ledger, sent).delivered == 1


@pytest.mark.parametrize("at_once", [True, False], ids=["in one look", "one by one"])
@pytest.mark.parametrize(
    ("statuses", "expected", "last"),
    [
        (["1", "1"], (1, 0, 0, 0), "matched"),
        (["9", "1"], (1, 0, 0, 0), "matched"),
        (["9", "0"], (0, 1, 0, 0), "matched"),
        (["9", "9"], (0, 0, 1, 0), "matched"),
        (["1", "9"], (1, 0, 0, 0), "matched"),
        (["0", "9"], (0, 1, 0, 0), "matched"),
        (["1", "0"], (1, 0, 0, 1), "contradiction"),
        (["0", "1"], (0, 1, 0, 1), "contradiction"),
        (["1", "0", "1", "0"], (1, 0, 0, 1), "contradiction"),
        (["9", "0", "1", "9", "0", "1"], (0, 1, 0, 1), "contradiction"),
    ],
)
def test_what_is_final_stays_and_what_contradicts_it_counts_once(
    ledger: Ledger, sent: int, statuses: list[str], expected: tuple[int, ...], last: str, at_once: bool
) -> None:
    for number, status in enumerate(statuses):
        receipt(ledger, PHONES[0], status=status, code=f"MK:000{number}")
        if not at_once:
            assert look(ledger) == 1
    look(ledger)
    assert marks(ledger)[-1] == last
    counts = deliveries(ledger, sent)
    assert (counts.delivered, counts.failed_total, counts.unknown, counts.contradicted) == expected
    assert counts.final <= 1
    assert counts_agree(ledger)
    with ledger.reading() as connection:
        rows = connection.execute(select(delivery_table)).all()
    assert [row.contradicted_by is not None for row in rows] == [bool(expected[3])]


def test_a_receipt_before_its_task_id_is_known_waits_for_it(campaigns: Campaigns, ledger: Ledger, sent: int) -> None:
    campaigns.change_batches(batch_table.c.number == 2, state=BatchState.SENDING, taskid=None)
    matcher = Matcher(ledger, lambda content: False)
    receipt(ledger, PHONES[2], "T2")
    reply(ledger, PHONES[2], "T2")
    assert matcher.look() == 2
    assert marks(ledger) == marks(ledger, reply_table) == ["unowned"]
    assert matcher.revisit() == 0
    campaigns.change_batches(batch_table.c.number == 2, state=BatchState.ACCEPTED, taskid="T2", settled_at=ledger.clock)
    assert matcher.revisit() == 2
    assert matcher.look() == 2
    assert marks(ledger) == marks(ledger, reply_table) == ["matched"]
    assert deliveries(ledger, sent).delivered == 1
    assert (matcher.revisit(), matcher.look()) == (0, 0)


def test_a_process_that_begins_revisits_batches_settled_whenever(
    campaigns: Campaigns, ledger: Ledger, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "_SWEPT_AT_ONCE", 1)
    campaigns.change_batches(state=BatchState.SENDING)
    for number in (0, 2, 4):
        receipt(ledger, PHONES[number], f"T{number // 2 + 1}")
    look(ledger)
    campaigns.change_batches(state=BatchState.ACCEPTED, settled_at=LONG_AGO)
    old = Matcher(ledger, None)
    old._swept = None
    old._seen = campaigns.now.replace(tzinfo=None)
    assert old.revisit() == 0
    new, revisited = Matcher(ledger, None), 0
    while new._swept is not None:
        revisited += new.revisit()
    assert revisited == 3
    look(ledger)
    assert deliveries(ledger, sent).delivered == 3


def test_a_batch_settled_while_a_look_was_under_way_is_found_by_the_next_visit(
    campaigns: Campaigns, ledger: Ledger, sent: int
) -> None:
    """The look did not see the taskId, and the visit did not see what the look marked."""
    matcher = Matcher(ledger, None)
    campaigns.change_batches(batch_table.c.number == 1, settled_at=ledger.clock)
    assert matcher.revisit() == 0
    receipt(ledger, PHONES[0], "T1", matching="unowned")
    assert matcher.revisit() == 1
    assert matcher.look() == 1


def test_a_visit_while_somebody_else_matches_is_made_up_for(ledger: Ledger, sent: int) -> None:
    if ledger.kind == "sqlite":
        pytest.skip("one writer at a time by itself")
    receipt(ledger, PHONES[0], matching="unowned")
    matcher = Matcher(ledger, None)
    with alone(ledger) as connection:
        assert connection is not None
        assert matcher.revisit() == 0
    assert matcher.revisit() == 1


def test_a_strangers_pushes_are_kept_and_looked_at_once(ledger: Ledger, sent: int) -> None:
    matcher = Matcher(ledger, lambda content: True)
    receipt(ledger, "13800139000", "STRANGER")
    reply(ledger, "13800139000", "STRANGER", "T")
    assert matcher.look() == 2
    assert (matcher.revisit(), matcher.look()) == (0, 0)
    assert marks(ledger) == marks(ledger, reply_table) == ["unowned"]


def test_a_task_id_is_case_sensitive_and_may_be_anything(campaigns: Campaigns, ledger: Ledger, sent: int) -> None:
    campaigns.change_batches(batch_table.c.number == 1, taskid="'x\"\\ :y %s 批")
    receipt(ledger, PHONES[0], "'x\"\\ :y %s 批", code="'\"\\ :z %s \U0001f600")
    receipt(ledger, PHONES[2], "t2")
    look(ledger)
    assert marks(ledger) == ["matched", "unowned"]


def test_a_phone_that_was_left_out_is_none_of_the_batch_s(campaigns: Campaigns, ledger: Ledger, sent: int) -> None:
    with ledger.writing() as connection:
        connection.execute(
            update(recipient_table).where(recipient_table.c.phone == PHONES[0]).values(reason="in another instance")
        )
    receipt(ledger, PHONES[0])
    receipt(ledger, PHONES[1])
    look(ledger)
    assert marks(ledger) == ["no_phone", "matched"]


def test_two_batches_with_one_task_id_count_a_phone_once(campaigns: Campaigns, ledger: Ledger, sent: int) -> None:
    campaigns.run(Platform(), PHONES[1:3], key=CampaignKey("", campaign_key="other"))
    for number, phone in enumerate((PHONES[0], PHONES[1], PHONES[2], PHONES[3])):
        receipt(ledger, phone, "T1", code=str(number))
        reply(ledger, phone, "T1")
    assert look(ledger) == 8
    assert marks(ledger) == marks(ledger, reply_table) == ["matched", "matched", "matched", "no_phone"]
    assert deliveries(ledger, sent).delivered == 2
    other = campaigns.batches()[-1].campaign_id
    assert deliveries(ledger, other).delivered == 1
    assert [states(ledger)[phone].campaign_id for phone in PHONES[:4]] == [sent, sent, other, None]
    assert counts_agree(ledger)


def test_of_two_such_batches_the_one_of_the_address_s_account(campaigns: Campaigns, ledger: Ledger, sent: int) -> None:
    campaigns.run(Platform(), PHONES[:2], key=CampaignKey("", campaign_key="other"))
    other = campaigns.batches()[-1].campaign_id
    campaigns.change_batches(batch_table.c.campaign_id == other, account="ANOTHER")
    receipt(ledger, PHONES[0], "T1", account="ANOTHER")
    receipt(ledger, PHONES[1], "T1")
    look(ledger)
    assert (deliveries(ledger, sent).delivered, deliveries(ledger, other).delivered) == (1, 1)


def test_receipts_of_phones_that_the_platform_did_not_count(campaigns: Campaigns, ledger: Ledger, sent: int) -> None:
    campaigns.change_batches(batch_table.c.number == 1, accepted=1)
    campaigns.change_batches(batch_table.c.number > 1, state=BatchState.REFUSED, accepted=0)
    receipt(ledger, PHONES[0])
    receipt(ledger, PHONES[1])
    look(ledger)
    counts = deliveries(ledger, sent)
    assert (counts.accepted, counts.delivered, counts.missing) == (1, 2, 0)


def test_phones_that_were_removed_match_nothing_and_counts_stay(ledger: Ledger, sent: int) -> None:
    matcher = Matcher(ledger, None)
    receipt(ledger, PHONES[0])
    matcher.look()
    with ledger.writing() as connection:
        connection.execute(update(campaign_table).values(purged_at=ledger.clock))
        connection.execute(delete(recipient_table))
    receipt(ledger, PHONES[1])
    matcher.look()
    assert marks(ledger) == ["matched", "no_phone"]
    assert deliveries(ledger, sent).delivered == 1


def test_a_batch_that_was_cut_in_two_and_sent_again_is_read_again(
    campaigns: Campaigns, ledger: Ledger, sent: int
) -> None:
    matcher = Matcher(ledger, None)
    receipt(ledger, PHONES[1], "T1")
    matcher.look()
    campaigns.change_batches(
        batch_table.c.number == 1, attempt=batch_table.c.attempt + 1, last_position=1, phones=1, accepted=1
    )
    receipt(ledger, PHONES[0], "T1")
    receipt(ledger, PHONES[1], "T1", "0")
    matcher.look()
    assert marks(ledger) == ["matched", "matched", "no_phone"]


class TestManyBatches:
    @pytest.fixture
    def many(self, campaigns: Campaigns, begun: Begun) -> list[str]:
        """A campaign of forty batches; its phones."""
        phones = [f"138{number:08d}" for number in range(80)]
        begun.begin(campaigns.ledger, "many", lambda: campaigns.run(Platform(), phones))
        return phones

    @staticmethod
    def push(campaigns: Campaigns, phones: list[str]) -> None:
        for batch in campaigns.batches():
            for place in (batch.first_position - 1, batch.last_position - 1):
                receipt(campaigns.ledger, phones[place], batch.taskid)

    def test_more_than_are_read_in_place(self, campaigns: Campaigns, many: list[str]) -> None:
        self.push(campaigns, many)
        assert Matcher(campaigns.ledger, None).look() == 80
        assert len(verdicts(campaigns.ledger)) == 80
        assert counts_agree(campaigns.ledger)

    @pytest.mark.parametrize("kept", [1, 7, 30])
    def test_more_than_are_kept(
        self, campaigns: Campaigns, many: list[str], monkeypatch: pytest.MonkeyPatch, kept: int
    ) -> None:
        monkeypatch.setattr(matching, "_READ_IN_PLACE", 2)
        monkeypatch.setattr(phonebook, "_AT_ONCE", 5)
        matcher = Matcher(campaigns.ledger, None)
        matcher._phonebook = phonebook.Phonebook(kept)
        self.push(campaigns, many)
        for _ in range(200):
            if not matcher.is_anything_new():
                break
            matcher.look(10)
            assert matcher._phonebook._phones <= max(kept, 2)
        assert len(verdicts(campaigns.ledger)) == 80
        assert counts_agree(campaigns.ledger)

    def test_one_that_committed_late_is_found_behind_the_others(self, campaigns: Campaigns, many: list[str]) -> None:
        ledger, matcher = campaigns.ledger, Matcher(campaigns.ledger, None)
        late = receipt(ledger, many[0], "T1", matching="no_phone")
        for place in range(1, 8):
            receipt(ledger, many[place], f"T{place // 2 + 1}")
        assert matcher.look(5) == 5
        with ledger.writing() as connection:
            connection.exec_driver_sql(f"UPDATE sms_receipt SET matching = NULL WHERE id = {late}")
        assert matcher.look(5) + matcher.look(5) + matcher.look(5) == 3
        assert marks(ledger) == ["matched"] * 8


class TestReplies:
    def test_a_reply_finds_its_campaign_and_its_phone(self, ledger: Ledger, sent: int) -> None:
        for mobile in (PHONES[0], "1380013***2", PHONES[5]):
            reply(ledger, mobile)
        assert look(ledger) == 3
        found = states(ledger)
        assert (found[PHONES[0]].campaign_id, found[PHONES[0]].phone) == (sent, PHONES[0])
        assert (found["1380013***2"].campaign_id, found["1380013***2"].phone) == (sent, PHONES[1])
        assert (found[PHONES[5]].matching, found[PHONES[5]].campaign_id) == ("no_phone", None)

    def test_a_masked_one_that_opts_out_is_put_on_the_list(self, ledger: Ledger, sent: int) -> None:
        masked = reply(ledger, "1380013***1", content="T")
        reply(ledger, "1380013***2", content="Thanks")
        reply(ledger, PHONES[2], "T2", content="T")  # the inbox has done that
        reply(ledger, "1380013****", content="T")
        look(ledger, lambda content: content == "T")
        with ledger.reading() as connection:
            (row,) = connection.execute(select(opt_out_table)).all()
        assert (row.phone, row.source, row.account, row.reply_id) == (PHONES[0], "reply", "FAKE-APP-ID", masked)

    def test_who_does_not_know_the_words_leaves_replies_alone(self, ledger: Ledger, sent: int) -> None:
        reply(ledger, "1380013***1", content="T")
        receipt(ledger, PHONES[0])
        matcher = Matcher(ledger, None)
        assert matcher.look() == 1
        assert not matcher.is_anything_new()
        assert marks(ledger, reply_table) == [None]


class TestSettling:
    def test_all_that_is_new_and_all_that_has_an_owner_now(
        self, campaigns: Campaigns, ledger: Ledger, sent: int
    ) -> None:
        receipt(ledger, PHONES[0], matching="unowned")
        receipt(ledger, PHONES[1])
        settle(ledger, None)
        assert deliveries(ledger, sent).delivered == 2

    def test_it_gives_up_when_the_time_is_over(self, ledger: Ledger, sent: int) -> None:
        receipt(ledger, PHONES[1])
        settle(ledger, None, seconds=0)
        assert deliveries(ledger, sent).delivered == 0

    def test_somebody_else_who_matches_is_waited_for(self, ledger: Ledger, sent: int) -> None:
        if ledger.kind == "sqlite":
            pytest.skip("one writer at a time by itself")
        receipt(ledger, PHONES[1])
        with alone(ledger) as connection:
            assert connection is not None
            assert Matcher(ledger, None).look() == 0
            bring_in(connection, "T9")
            settle(ledger, None, seconds=0.1)
            assert deliveries(ledger, sent).delivered == 0
        settle(ledger, None)
        assert deliveries(ledger, sent).delivered == 1


def test_a_commit_that_was_not_heard_of_may_be_repeated(
    ledger: Ledger, sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_sms.ledger import matching_sql
    from airflow_provider_sms.ledger.errors import LedgerUnreachableError

    def away(*arguments: Any) -> None:
        raise LedgerUnreachableError("The ledger is away.")

    receipt(ledger, PHONES[0])
    receipt(ledger, PHONES[1], status="0")
    matcher = Matcher(ledger, None)
    for step in ("write_verdicts", "count", "mark_receipts"):
        with monkeypatch.context() as patched:
            patched.setattr(matching_sql, step, away)
            with pytest.raises(LedgerUnreachableError):
                matcher.look()
        assert verdicts(ledger) == {}
    assert matcher.look() == 2
    assert Matcher(ledger, None).look() == 0
    assert counts_agree(ledger)
    assert deliveries(ledger, sent).final == 2
