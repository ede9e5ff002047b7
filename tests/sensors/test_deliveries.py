"""The delivery sensor: when it is over, what it returns, what it fails on, and how it waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from sqlalchemy import select, update

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import BatchState, batch_table, receipt_table
from airflow_provider_sms.sensors.sms import SmsDeliverySensor
from airflow_provider_sms.triggers.sms import SmsDeliveryTrigger
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.pushed import listen, note_first_push, receipts, receive

NAME = "dag/run/send"
HOUR = timedelta(hours=1)


def sensor(**changes: Any) -> SmsDeliverySensor:
    if "batch_id" not in changes:
        changes = {"campaign": NAME, **changes}
    return SmsDeliverySensor(**{"task_id": "wait", "poke_interval": 0.01, "deferrable": False, **changes})


@pytest.fixture
def sent(ledger: Ledger, campaigns: Campaigns) -> None:
    """A campaign of two batches, T1 and T2, of two phones each, in a ledger that hears the platform."""
    campaigns.run(Platform(), PHONES[:4])
    note_first_push(ledger)


def long_ago(campaigns: Campaigns) -> None:
    """Let the deadline be over."""
    for batch in campaigns.batches():
        campaigns.change_batches(batch_table.c.id == batch.id, settled_at=batch.settled_at - timedelta(days=4))


@pytest.mark.usefixtures("sent")
class TestALook:
    def test_it_waits_for_the_last_receipt(self, ledger: Ledger, context: Any) -> None:
        task = sensor()
        assert not task.poke(context).is_done
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", [PHONES[2]], status="0", code="MK:0001"))
        assert not task.poke(context).is_done
        receive(ledger, *receipts("T2", [PHONES[3]], status="0", code="MK:0001"))
        result: Any = task.poke(context)
        assert result.is_done
        assert result.xcom_value == {
            "campaign": NAME,
            "accepted": 4,
            "delivered": 2,
            "failed": 2,
            "failedByCause": {"dead_number": 2},
            "unknown": 0,
            "missing": 0,
            "contradicted": 0,
        }

    def test_what_was_pushed_is_matched_first(self, ledger: Ledger, context: Any) -> None:
        # No receiver runs here that would have done it.
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", PHONES[2:4]))
        assert sensor().poke(context).is_done
        with ledger.reading() as connection:
            assert set(connection.execute(select(receipt_table.c.matching)).scalars()) == {"matched"}

    @pytest.mark.parametrize(
        ("batch_id", "accepted"),
        [("T1", 2), (["T1", "T2"], 4), ("['T1', 'T2']", 4), (("T2",), 2)],
        ids=["text", "list", "text of a list", "tuple"],
    )
    def test_batches(self, ledger: Ledger, context: Any, batch_id: Any, accepted: int) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", PHONES[2:4]))
        result = sensor(batch_id=batch_id).execute(context)
        assert (result["accepted"], result["delivered"]) == (accepted, accepted)
        assert set(result["batches"]) <= {"T1", "T2"}
        assert "campaign" not in result

    def test_a_task_id_that_airflow_has_made_a_number_of(
        self, ledger: Ledger, campaigns: Campaigns, context: Any
    ) -> None:
        campaigns.change_batches(batch_table.c.taskid == "T1", taskid="241")
        receive(ledger, *receipts("241", PHONES[:2]))
        assert sensor(batch_id=241).execute(context)["delivered"] == 2

    def test_no_phone_is_returned_or_logged(self, ledger: Ledger, context: Any, logged: Callable[[], str]) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", PHONES[2:4]))
        result = sensor().execute(context)
        text = logged()
        assert "4 accepted, 4 delivered" in text
        for phone in PHONES:
            assert phone not in str(result) + text

    def test_a_campaign_that_is_still_being_sent(self, ledger: Ledger, campaigns: Campaigns, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", PHONES[2:4]))
        campaigns.change_batches(batch_table.c.taskid == "T2", state=BatchState.PLANNED, taskid=None, accepted=0)
        assert not sensor().poke(context).is_done
        assert sensor(min_delivered=2).poke(context).is_done

    def test_templates(self, ledger: Ledger, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]))
        task = sensor(campaign=None, batch_id="{{ ids }}", min_delivered="{{ share }}")
        task.render_template_fields({"ids": "T1", "share": 0.9})
        assert task.poke(context).is_done


def test_a_campaign_that_has_no_plan_yet(ledger: Ledger, context: Any) -> None:
    note_first_push(ledger)
    Plans(ledger, "somebody").enter(CampaignKey("", campaign_key="spring"))
    assert not sensor(campaign="spring").poke(context).is_done


@pytest.mark.usefixtures("sent")
class TestEnough:
    def test_success_as_soon_as_it_is_reached(self, ledger: Ledger, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]))
        assert sensor(min_delivered=0.5).execute(context)["missing"] == 2

    def test_failure_as_soon_as_it_can_not_be_reached(self, ledger: Ledger, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2], status="0", code="MX:0012"))
        said = (
            f"{NAME}: Too few: min_delivered wants 3 (0.75), 0 are. 4 accepted, 0 delivered, 2 failed "
            "(blacklisted: 2), 2 unknown."
        )
        with pytest.raises(AirflowFailException) as failure:
            sensor(min_delivered=0.75).execute(context)
        assert str(failure.value) == said

    def test_soft_fail_skips(self, ledger: Ledger, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2], status="0"))
        with pytest.raises(AirflowSkipException):
            sensor(min_delivered=0.75, soft_fail=True).execute(context)

    def test_so_many_final(self, ledger: Ledger, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2], status="0"))
        assert sensor(min_final=0.5).execute(context)["failed"] == 2

    def test_neither_a_share_nor_a_number(self, context: Any) -> None:
        with pytest.raises(AirflowFailException, match="min_delivered: expected a number of phones"):
            sensor(min_delivered="most").execute(context)


@pytest.mark.usefixtures("sent")
class TestTheDeadline:
    def test_after_it_what_is_missing_is_unknown(
        self, ledger: Ledger, campaigns: Campaigns, context: Any, logged: Callable[[], str]
    ) -> None:
        receive(ledger, *receipts("T1", PHONES[:1]), *receipts("T1", [PHONES[1]], status="9"))
        assert not sensor().poke(context).is_done
        long_ago(campaigns)
        result = sensor().execute(context)
        assert (result["delivered"], result["failed"], result["unknown"], result["missing"]) == (1, 0, 3, 2)
        assert "The deadline, 3 days, 0:00:00 after the last text went out, is over." in logged()

    def test_after_it_too_few_are_a_failure(self, ledger: Ledger, campaigns: Campaigns, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]))
        long_ago(campaigns)
        with pytest.raises(AirflowFailException, match="wants 3.*, 2 are.*2 unknown. The deadline"):
            sensor(min_delivered=0.75).execute(context)
        assert sensor(min_delivered=0.5).execute(context)["delivered"] == 2

    def test_it_is_the_user_s(self, campaigns: Campaigns, context: Any) -> None:
        assert not sensor(deadline=HOUR).poke(context).is_done
        assert sensor(deadline=timedelta(0)).poke(context).is_done


class TestWhetherPushesCome:
    @pytest.mark.parametrize("deferrable", [False, True])
    def test_a_ledger_that_no_receiver_has_opened(self, campaigns: Campaigns, context: Any, deferrable: bool) -> None:
        campaigns.run(Platform(), PHONES[:4])
        with pytest.raises(AirflowFailException, match="airflow-sms push-url"):
            sensor(deferrable=deferrable).execute(context)

    def test_the_very_first_campaign_of_a_good_set_up(self, ledger: Ledger, campaigns: Campaigns, context: Any) -> None:
        campaigns.run(Platform(), PHONES[:4])
        listen(ledger)
        assert not sensor().poke(context).is_done
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", PHONES[2:4]))
        assert sensor(first_push_within=timedelta(0)).poke(context).is_done

    def test_a_receiver_that_nothing_comes_to(self, ledger: Ledger, campaigns: Campaigns, context: Any) -> None:
        campaigns.run(Platform(), PHONES[:4])
        listen(ledger)
        with pytest.raises(AirflowFailException, match="no push has ever come.*airflow-sms push-url"):
            sensor(first_push_within=timedelta(0)).poke(context)

    def test_a_deferred_one_looks_again_at_that_moment(
        self, ledger: Ledger, campaigns: Campaigns, context: Any
    ) -> None:
        campaigns.run(Platform(), PHONES[:4])
        listen(ledger)
        until = deferred(sensor(deferrable=True), context).trigger.until
        assert until - time.time() == pytest.approx(600, abs=30)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"campaign": "spring"}, "campaign: the ledger knows no campaign 'spring'"),
        ({"batch_id": "T9"}, "batch_id: the ledger knows no accepted batch 'T9'"),
        ({"batch_id": None, "campaign": None}, "either batch_id or campaign"),
        ({"batch_id": "T1", "campaign": NAME}, "either batch_id or campaign"),
        ({"batch_id": []}, "batch_id: there is none"),
        ({"campaign": " "}, "campaign: it is empty"),
    ],
)
@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.usefixtures("sent")
def test_what_is_not_there_fails_at_the_start(
    context: Any, changes: dict[str, Any], said: str, deferrable: bool
) -> None:
    with pytest.raises(AirflowFailException, match=said):
        sensor(**changes, deferrable=deferrable).execute(context)
    with pytest.raises(AirflowSkipException):
        sensor(**changes, deferrable=deferrable, soft_fail=True).execute(context)


@pytest.mark.usefixtures("sent")
class TestALedgerThatIsAway:
    def test_it_is_put_up_with_so_often_in_a_row(self, ledger_file: Path, context: Any, tmp_path: Path) -> None:
        task, away = sensor(max_errors=1), tmp_path / "away.db"
        hinder, allow = _hindering(ledger_file, away)
        hinder()
        assert not task.poke(context).is_done
        allow()
        assert not task.poke(context).is_done
        hinder()
        assert not task.poke(context).is_done
        with pytest.raises(LedgerUnreachableError):
            task.poke(context)
        allow()

    def test_a_deferred_one_tries_again_in_its_worker(
        self, ledger: Ledger, ledger_file: Path, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", PHONES[2:4]))
        hinder, allow = _hindering(ledger_file, tmp_path / "away.db")
        hinder()
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                allow()

        monkeypatch.setattr("airflow_provider_sms.sensors.ledger.time.sleep", pause)
        result = sensor(poke_interval=60).execute_complete(context, {"status": "look", "began": time.time()})
        assert result["delivered"] == 4
        assert pauses == [5.0, 5.0]

    def test_what_the_trigger_gave_up_on_may_be_retried(self, context: Any) -> None:
        event = {"status": "unreachable", "message": "away", "errors": 11}
        with pytest.raises(LedgerUnreachableError, match="Gave up after 11 failures in a row; the last: away"):
            sensor().execute_complete(context, event)

    def test_what_it_was_refused_may_not(self, context: Any) -> None:
        with pytest.raises(AirflowFailException, match="too old"):
            sensor().execute_complete(context, {"status": "refused", "message": "too old"})


def _hindering(file: Path, away: Path) -> tuple[Callable[[], object], Callable[[], object]]:
    """Put a folder where the ledger is, which no database opens; and take it away again."""

    def hinder() -> None:
        file.rename(away)
        file.mkdir()

    def allow() -> None:
        file.rmdir()
        away.rename(file)

    return hinder, allow


def deferred(task: Any, context: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as raised:
        task.execute(context)
    return raised.value


@pytest.mark.usefixtures("sent")
class TestDeferrable:
    def test_it_defers(self, campaigns: Campaigns, context: Any) -> None:
        task = sensor(deferrable=True, min_delivered=0.9, timeout=3600, poke_interval=60, max_errors=7)
        deferral = deferred(task, context)
        assert isinstance(deferral.trigger, SmsDeliveryTrigger)
        arguments = deferral.trigger.serialize()[1]
        assert arguments.pop("until") - time.time() == pytest.approx(72 * 3600, abs=60)
        assert arguments.pop("began") == pytest.approx(time.time(), abs=60)
        assert arguments == {
            "campaign_id": campaigns.batches()[0].campaign_id,
            "batch_ids": [],
            "min_delivered": "0.9",
            "min_final": None,
            "poke_interval": 60,
            "max_errors": 7,
        }
        assert deferral.timeout is not None
        assert deferral.timeout.total_seconds() == pytest.approx(3600, abs=60)
        assert deferral.method_name == "execute_complete"

    def test_batches_are_handed_on_by_the_ledger_s_ids(self, campaigns: Campaigns, context: Any) -> None:
        trigger = deferred(sensor(deferrable=True, batch_id=["T2", "T1"]), context).trigger
        assert sorted(trigger.batch_ids) == [batch.id for batch in campaigns.batches()]
        assert trigger.campaign_id is None

    def test_even_if_all_is_there_already(self, ledger: Ledger, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", PHONES[2:4]))
        assert deferred(sensor(deferrable=True), context).trigger.until <= time.time()

    def test_a_look_that_ends_it(self, ledger: Ledger, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]), *receipts("T2", PHONES[2:4]))
        result = sensor(deferrable=True).execute_complete(context, {"status": "look", "began": time.time()})
        assert result["delivered"] == 4

    def test_too_few_with_soft_fail_skips(self, ledger: Ledger, context: Any) -> None:
        receive(ledger, *receipts("T1", PHONES[:2], status="0"))
        task = sensor(deferrable=True, min_delivered=0.75, soft_fail=True)
        with pytest.raises(AirflowSkipException):
            task.resume_execution("execute_complete", {"event": {"status": "look", "began": time.time()}}, context)

    def test_one_that_does_not_end_it_waits_on_for_the_rest_of_the_time(self, context: Any) -> None:
        task = sensor(deferrable=True, timeout=3600)
        with pytest.raises(TaskDeferred) as again:
            task.execute_complete(context, {"status": "look", "began": time.time() - 600})
        assert again.value.timeout is not None
        assert again.value.timeout.total_seconds() == pytest.approx(3000, abs=60)
        assert again.value.trigger.began == pytest.approx(time.time() - 600, abs=60)
        with pytest.raises(AirflowSensorTimeout):
            task.execute_complete(context, {"status": "look", "began": time.time() - 3601})

    def test_a_deadline_that_has_moved_is_waited_for(self, ledger: Ledger, campaigns: Campaigns, context: Any) -> None:
        # Woken at the deadline of what was accepted by then; another batch has been accepted since.
        long_ago(campaigns)
        with ledger.writing() as connection:
            accepted = update(batch_table).where(batch_table.c.taskid == "T2")
            connection.execute(accepted.values(settled_at=ledger.clock))
        with pytest.raises(TaskDeferred):
            sensor(deferrable=True).execute_complete(context, {"status": "look", "began": time.time()})


def test_timeout_in_poke_mode(ledger: Ledger, campaigns: Campaigns, context: Any) -> None:
    campaigns.run(Platform(), PHONES[:4])
    note_first_push(ledger)
    with pytest.raises(AirflowSensorTimeout):
        sensor(timeout=0).execute(context)
    with pytest.raises(AirflowSkipException):
        sensor(timeout=0, soft_fail=True).execute(context)
