"""What receipts and replies say about batches in doubt, and when that is enough."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import pytest
from sqlalchemy import insert

from airflow_provider_sms.gateway import errors
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.ledger import evidence
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.reports import Report
from airflow_provider_sms.ledger.schema import BatchState, batch_table, receipt_table, reply_table
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import PHONES, Begun, Campaigns, Platform
from tests.support.heard import counts_agree, deliveries, look, marks, receipt, reply

LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
UNSENT = errors.UnsentError("The platform can not be reached: Connection refused.")
EXCLUSIVE = Account("FAKE-APP-ID", "FAKE-APP-KEY", batch_size=2, exclusive_account=True)
LONG_AGO = datetime(2020, 1, 1)  # noqa: DTZ001 - as the ledger keeps it
Push = Callable[..., None]


@pytest.fixture
def campaigns(any_ledger: Ledger) -> Campaigns:
    """Campaigns in a ledger of each kind."""
    return Campaigns(any_ledger)


@pytest.fixture
def push(campaigns: Campaigns) -> Push:
    """Put a receipt, or a reply, into the ledger."""

    def push(mobile: str, taskid: str = "T77", *, table: object = receipt_table, **fields: object) -> None:
        with campaigns.ledger.writing() as connection:
            now = campaigns.ledger.now(connection)
            values = {"account": "FAKE-APP-ID", "received_at": now, "digest": token_hex(8), **fields}
            connection.execute(insert(table).values(mobile=mobile, taskid=taskid, **values))  # type: ignore[arg-type]

    return push


@pytest.fixture(scope="module")
def begun() -> Begun:
    return Begun()


@pytest.fixture
def doubtful(campaigns: Campaigns, begun: Begun) -> int:
    """A campaign whose second batch is in doubt, settled long enough ago."""

    def run() -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(None, LOST), PHONES[:6])

    begun.begin(campaigns.ledger, "doubtful", run)
    campaigns.change_batches(batch_table.c.state == BatchState.ACCEPTED, settled_at=LONG_AGO)
    return int(campaigns.batches()[0].campaign_id)


def objection(campaigns: Campaigns, campaign_id: int) -> str:
    """Why nothing is adopted."""
    assert evidence.adopt(campaigns.ledger, campaign_id) == []
    assert campaigns.batches()[1].state == BatchState.IN_DOUBT
    (found,) = evidence.look(campaigns.ledger, campaign_id)
    return found.objection


def seen(campaigns: Campaigns, campaign_id: int) -> list[evidence.Found]:
    """What is found once the pushes were looked at."""
    look(campaigns.ledger)
    return evidence.look(campaigns.ledger, campaign_id)


@pytest.mark.parametrize("table", [receipt_table, reply_table], ids=["receipt", "reply"])
@pytest.mark.parametrize("mobile", [PHONES[2], "1380013***3"], ids=["whole", "masked"])
def test_a_push_about_one_of_its_phones_settles_the_batch(
    campaigns: Campaigns, doubtful: int, push: Push, table: object, mobile: str
) -> None:
    push(mobile, table=table)
    (found,) = evidence.adopt(campaigns.ledger, doubtful)
    assert (found.number, found.taskid) == (2, "T77")
    row = campaigns.batches()[1]
    assert (row.state, row.taskid, row.accepted, row.evidence) == ("accepted", "T77", 2, "adopted")


def test_silence_proves_nothing(campaigns: Campaigns, doubtful: int) -> None:
    assert evidence.adopt(campaigns.ledger, doubtful) == []
    assert campaigns.batches()[1].state == BatchState.IN_DOUBT


def test_a_task_id_that_somebody_owns_is_no_evidence(campaigns: Campaigns, doubtful: int, push: Push) -> None:
    push(PHONES[2], taskid="T1")
    assert seen(campaigns, doubtful) == []


def test_nor_is_one_that_a_person_has_taken_back(campaigns: Campaigns, doubtful: int, push: Push) -> None:
    campaigns.change_batches(batch_table.c.number == 2, other_taskids="T76 T77")
    push(PHONES[2])
    assert seen(campaigns, doubtful) == []


def test_nor_is_another_account_s(campaigns: Campaigns, doubtful: int, push: Push) -> None:
    push(PHONES[2], account="FAKE-OTHER-ID")
    assert seen(campaigns, doubtful) == []


def test_a_push_before_the_claim_speaks_of_something_else(campaigns: Campaigns, doubtful: int, push: Push) -> None:
    push(PHONES[2], received_at=LONG_AGO)
    assert seen(campaigns, doubtful) == []
    push(PHONES[3])
    assert "came before the batch was sent" in objection(campaigns, doubtful)


@pytest.mark.parametrize(
    "stranger", ["13800130099", PHONES[0], "1380013****"], ids=["unknown", "other batch", "two fit"]
)
def test_a_task_id_that_names_a_phone_outside_the_batch_is_not_the_batch_s(
    campaigns: Campaigns, doubtful: int, push: Push, stranger: str
) -> None:
    push(PHONES[2])
    push(stranger)
    assert "names a phone outside the batch" in objection(campaigns, doubtful)


@pytest.mark.parametrize(
    ("state", "settled_at", "objects"),
    [
        (BatchState.SENDING, None, True),
        (BatchState.IN_DOUBT, LONG_AGO, True),
        (BatchState.ACCEPTED, datetime(2099, 1, 1), True),  # noqa: DTZ001
        (BatchState.ACCEPTED, LONG_AGO, False),
        (BatchState.PLANNED, None, False),
    ],
    ids=["sending", "in doubt too", "settled lately", "settled long ago", "not sent"],
)
def test_another_batch_that_holds_the_phone_may_be_what_it_is_about(
    campaigns: Campaigns, doubtful: int, push: Push, state: BatchState, settled_at: datetime | None, objects: bool
) -> None:
    campaigns.run(Platform(), PHONES[2:3], key=CampaignKey("", campaign_key="other"))
    campaigns.change_batches(batch_table.c.campaign_id != doubtful, state=state, settled_at=settled_at, taskid="T50")
    push(PHONES[2])
    if objects:
        assert "holds one of the phones" in objection(campaigns, doubtful)
    else:
        assert len(evidence.adopt(campaigns.ledger, doubtful)) == 1


@pytest.mark.parametrize(("minutes", "objects"), [(9, True), (11, False)])
def test_lately_is_ten_minutes(campaigns: Campaigns, doubtful: int, push: Push, minutes: int, objects: bool) -> None:
    campaigns.run(Platform(), PHONES[2:3], key=CampaignKey("", campaign_key="other"))
    settled_at = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=minutes)
    others = batch_table.c.campaign_id != doubtful
    campaigns.change_batches(others, state=BatchState.ACCEPTED, settled_at=settled_at, taskid="T50")
    push(PHONES[2])
    assert len(evidence.adopt(campaigns.ledger, doubtful)) == (0 if objects else 1)


def test_two_task_ids_for_one_batch_explain_too_much(campaigns: Campaigns, doubtful: int, push: Push) -> None:
    push(PHONES[2], taskid="T77")
    push(PHONES[3], taskid="T78")
    assert evidence.adopt(campaigns.ledger, doubtful) == []
    found = evidence.look(campaigns.ledger, doubtful)
    assert {each.objection for each in found} == {"more than one explanation fits"}


class TestAnAddressWithoutAnAccountId:
    def test_it_proves_nothing_where_nobody_knows_whose_it_is(
        self, campaigns: Campaigns, doubtful: int, push: Push
    ) -> None:
        push(PHONES[2], account=None)
        shown = objection(campaigns, doubtful)
        assert "came to the address without an account id" in shown
        assert "airflow-sms push-url" in shown

    def test_nor_where_only_one_push_came_to_it(self, campaigns: Campaigns, doubtful: int, push: Push) -> None:
        push(PHONES[2], account=None)
        push(PHONES[3])
        assert "came to the address without an account id" in objection(campaigns, doubtful)

    def test_it_is_sms_default_s_where_that_is_known(self, campaigns: Campaigns, doubtful: int, push: Push) -> None:
        push(PHONES[2], account=None)
        look(campaigns.ledger)
        assert evidence.look(campaigns.ledger, doubtful, "FAKE-OTHER-ID") == []
        assert evidence.adopt(campaigns.ledger, doubtful, "FAKE-OTHER-ID") == []
        assert [each.taskid for each in evidence.adopt(campaigns.ledger, doubtful, "FAKE-APP-ID")] == ["T77"]


def test_what_is_adopted_is_matched_and_counted(campaigns: Campaigns, doubtful: int, push: Push) -> None:
    push(PHONES[2], status="1")
    push(PHONES[3], status="0", code="MK:0001")
    assert deliveries(campaigns.ledger, doubtful).final == 0
    evidence.adopt(campaigns.ledger, doubtful)
    counts = deliveries(campaigns.ledger, doubtful)
    assert (counts.delivered, counts.failed) == (1, {"dead_number": 1})


def test_a_reply_that_nobody_has_looked_at_is_evidence_too(campaigns: Campaigns, doubtful: int) -> None:
    reply(campaigns.ledger, PHONES[2], "T77")
    assert len(evidence.adopt(campaigns.ledger, doubtful)) == 1
    assert marks(campaigns.ledger, reply_table) == [None]


def test_strangers_by_the_thousand_and_several_batches_in_doubt(
    campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_BATCHES_AT_ONCE", 2)
    monkeypatch.setattr(evidence, "_PHONES_AT_ONCE", 1)
    with pytest.raises(CampaignError):
        campaigns.run(Platform(LOST, None, LOST, None, LOST))
    campaigns.change_batches(batch_table.c.state == BatchState.ACCEPTED, settled_at=LONG_AGO)
    campaign_id = campaigns.batches()[0].campaign_id
    for number in range(20):
        receipt(campaigns.ledger, f"139{number:08d}", f"S{number}")
        receipt(campaigns.ledger, "139****0000", f"S{number}")
    for place, taskid in ((0, "X1"), (1, "X1"), (4, "X2"), (8, "X3"), (9, "X3")):
        receipt(campaigns.ledger, PHONES[place], taskid)
    found = evidence.adopt(campaigns.ledger, campaign_id)
    assert [(each.number, each.taskid, each.pushes) for each in found] == [(1, "X1", 2), (3, "X2", 1), (5, "X3", 2)]
    assert deliveries(campaigns.ledger, campaign_id).delivered == 5
    assert counts_agree(campaigns.ledger)


class TestTheHookKnowsTheDefaultAccount:
    def test_its_own_or_another_connection_s_or_none(self, set_connection: Callable[..., None]) -> None:
        from airflow_provider_sms.hooks.sms import SmsHook

        fields = {"host": "https://127.0.0.1:1", "password": "FAKE-APP-KEY"}
        set_connection("sms_second", login="SECOND", **fields)
        assert SmsHook("sms_second").default_account() is None
        set_connection(login="FIRST", **fields)
        assert SmsHook("sms_second").default_account() == "FIRST"
        assert SmsHook().default_account() == "FIRST"
        set_connection(login="", **fields)
        assert SmsHook("sms_second").default_account() is None

    def test_a_send_asks_for_it(self, campaigns: Campaigns, push: Push) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(LOST, account=EXCLUSIVE), PHONES[:2])
        push(PHONES[0], account=None)
        with pytest.raises(CampaignError):
            campaigns.run(Platform(account=EXCLUSIVE), PHONES[:2])
        report = campaigns.run(Platform(account=EXCLUSIVE), PHONES[:2], default_account=lambda: "FAKE-APP-ID")
        assert report.task_ids == ("T77",)


class TestWaiting:
    def test_the_batch_is_adopted_as_soon_as_a_push_has_come(self, campaigns: Campaigns, push: Push) -> None:
        waits: list[float] = []

        def receipt_comes(seconds: float) -> None:
            if not waits:
                push(PHONES[0])
            waits.append(seconds)

        platform = Platform(LOST, account=EXCLUSIVE)
        told: list[Report] = []
        report = campaigns.run(
            platform,
            PHONES[:2],
            on_in_doubt="wait",
            defer=lambda seconds, waited: receipt_comes(seconds),
            on_accepted=told.append,
        )
        assert (report.accepted, report.task_ids) == (2, ("T77",))
        assert told[-1].task_ids == ("T77",)
        assert platform.requests == [tuple(PHONES[:2])]

    def test_a_clear_looks_too_whatever_is_to_be_done_about_doubt(self, campaigns: Campaigns, push: Push) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(LOST, account=EXCLUSIVE), PHONES[:2])
        push(PHONES[0])
        again = Platform(account=EXCLUSIVE)
        assert campaigns.run(again, PHONES[:2], on_in_doubt="resend").accepted == 2
        assert again.requests == []

    def test_a_shared_account_s_pushes_are_left_to_a_person(self, campaigns: Campaigns, push: Push) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(LOST), PHONES[:2])
        push(PHONES[0])
        with pytest.raises(CampaignError) as error:
            campaigns.run(Platform(), PHONES[:2], on_in_doubt="wait", max_wait=timedelta(0))
        assert error.value.report.in_doubt == 2
