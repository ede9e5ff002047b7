"""Asking by SMS: who is asked, what counts as an answer, what a retry does; against the simulator by HTTP."""

from __future__ import annotations

import asyncio
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, TaskDeferred
from sqlalchemy import select, update

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.schema import campaign_table, opt_out_table, reply_table
from airflow_provider_sms.operators.sms import SmsApprovalOperator
from airflow_provider_sms.triggers.approval import SmsAnswerTrigger
from tests.support import pushed
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator, wait_until

PHONES = ["13800130001", "13800130002"]
QUESTION = "【云通信】删除旧分区?"

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def listening(ledger: Ledger) -> None:
    pushed.listen(ledger)


def operator(**changes: Any) -> SmsApprovalOperator:
    fields = {"task_id": "send", "phones": PHONES, "question": QUESTION, "deferrable": True}
    return SmsApprovalOperator(**{**fields, **changes})


def ask(context: Any, **changes: Any) -> TaskDeferred:
    """Ask, with nobody having answered."""
    with pytest.raises(TaskDeferred) as deferred:
        operator(**changes).execute(context)
    return deferred.value


def question(simulator: Simulator) -> tuple[str, str]:
    """The one question that was asked: its taskId and its code."""
    (batch,) = simulator.accepted()
    found = re.search("Y ([0-9]{6})", batch["content"])
    assert found is not None
    return batch["taskId"], found[1]


def answer(ledger: Ledger, simulator: Simulator, text: str, phone: str = PHONES[0]) -> None:
    taskid, code = question(simulator)
    pushed.receive(ledger, pushed.reply(taskid, phone, text.replace("CODE", code)))


class TestAsking:
    def test_everybody_is_asked_once_with_one_code(self, simulator: Simulator, context: Any, ti: TaskInstance) -> None:
        deferred = ask(context)
        (batch,) = simulator.accepted()
        assert batch["phones"] == PHONES
        assert re.fullmatch("【云通信】删除旧分区\\? 同意请回复 Y ([0-9]{6})[,,]拒绝请回复 N \\1", batch["content"])
        assert deferred.method_name == "execute_complete"
        assert isinstance(deferred.trigger, SmsAnswerTrigger)
        assert ti.pushed == [("taskId", batch["taskId"])]
        shown = str(deferred.trigger.serialize())
        assert PHONES[0] not in shown
        assert question(simulator)[1] not in shown

    def test_another_try_asks_nobody_again(self, simulator: Simulator, context: Any) -> None:
        ask(context)
        ask({"ti": TaskInstance(try_number=2)})
        assert len(simulator.accepted()) == 1

    def test_a_ledger_that_hears_nothing_is_said_before_anybody_is_asked(
        self, simulator: Simulator, context: Any, ledger: Ledger
    ) -> None:
        from airflow_provider_sms.ledger.schema import ledger_table

        with ledger.writing() as connection:
            connection.execute(update(ledger_table).values(receiver_at=None, first_push_at=None))
        with pytest.raises(AirflowFailException, match="push-url"):
            operator().execute(context)
        assert simulator.accepted() == []

    def test_a_text_of_one_s_own(self, simulator: Simulator, context: Any) -> None:
        ask(context, question="【云通信】Go on? Y {code} or N {code}")
        assert re.fullmatch("【云通信】Go on\\? Y ([0-9]{6}) or N \\1", simulator.accepted()[0]["content"])

    def test_somebody_who_wants_no_marketing_is_asked_all_the_same(
        self, simulator: Simulator, context: Any, ledger: Ledger
    ) -> None:
        from airflow_provider_sms.ledger import opt_outs

        with ledger.writing() as connection:
            opt_outs.add(connection, ledger, PHONES[0], source="reply")
        ask(context)
        assert simulator.accepted()[0]["phones"] == PHONES

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"question": "Y {pin}"}, "question: {pin} is not known"),
            ({"on_rejected": "wait"}, "on_rejected: 'wait' is none of"),
            ({"approve": ["Y"], "reject": ["y"]}, "approve, reject: y is in both"),
            ({"approve": "Y"}, "approve: expected a list"),
            ({"timeout": timedelta(0)}, "timeout: must be longer"),
            ({"on_in_doubt": "hope"}, "on_in_doubt: 'hope'"),
        ],
    )
    def test_a_mistake_shows_when_the_dag_is_read(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            operator(**changes)

    def test_phones_and_question_are_rendered_and_shown_masked(self) -> None:
        task = operator(phones="{{ phones }}", question="【云通信】{{ what }} 13800130009? {code}")
        task.render_template_fields({"phones": ",".join(PHONES), "what": "Go on"})
        assert str(task.phones) == "2 phones, first 138****0001"
        assert str(task.question) == "【云通信】Go on 138****0009? {code}"


class TestAnswers:
    @pytest.mark.parametrize("text", ["Y CODE", "同意CODE", "CODE yes"])
    def test_an_approval(self, simulator: Simulator, context: Any, ledger: Ledger, ti: TaskInstance, text: str) -> None:
        ask(context)
        answer(ledger, simulator, text, PHONES[1])
        result = operator().execute_complete(context, {"status": "look"})
        with ledger.reading() as connection:
            reply_id = connection.execute(select(reply_table.c.id)).scalar_one()
        assert result == {"approved": True, "by": "138****0002", "replyId": str(reply_id), "campaign": "dag/run/send"}

    def test_a_rejection_fails_for_good(self, simulator: Simulator, context: Any, ledger: Ledger) -> None:
        ask(context)
        answer(ledger, simulator, "N CODE")
        with pytest.raises(AirflowFailException, match=r"^Rejected by 138\*\*\*\*0001, reply \d+\.$"):
            operator().execute_complete(context, {"status": "look"})
        with ledger.reading() as connection:
            assert connection.execute(select(opt_out_table.c.phone)).all() == []

    def test_a_rejection_skips(self, simulator: Simulator, context: Any, ledger: Ledger) -> None:
        ask(context)
        answer(ledger, simulator, "拒绝 CODE")
        with pytest.raises(AirflowSkipException):
            operator(on_rejected="skip").execute_complete(context, {"status": "look"})

    @pytest.mark.parametrize("text", ["Y", "N", "Y 000000", "CODE", "maybe CODE"])
    def test_what_is_no_answer_is_waited_on(
        self, simulator: Simulator, context: Any, ledger: Ledger, text: str
    ) -> None:
        ask(context)
        answer(ledger, simulator, text.replace("000000", "000001"))
        with pytest.raises(TaskDeferred) as deferred:
            operator().execute_complete(context, {"status": "look"})
        # Nothing wakes it again but a further reply.
        assert deferred.value.trigger.seen == 1

    def test_another_phone_with_the_code_does_not_count(
        self, simulator: Simulator, context: Any, ledger: Ledger
    ) -> None:
        ask(context)
        answer(ledger, simulator, "Y CODE", "13800130009")
        with pytest.raises(TaskDeferred):
            operator().execute_complete(context, {"status": "look"})

    def test_the_answer_to_another_question_does_not_count(
        self, simulator: Simulator, context: Any, ledger: Ledger
    ) -> None:
        ask({"ti": TaskInstance(map_index=1)})
        answer(ledger, simulator, "Y CODE")
        simulator.reset()
        ask(context)
        operator().execute_complete({"ti": TaskInstance(map_index=1)}, {"status": "look"})
        with pytest.raises(TaskDeferred):
            operator().execute_complete(context, {"status": "look"})

    def test_guesses_bar_a_phone(self, simulator: Simulator, context: Any, ledger: Ledger) -> None:
        ask(context)
        _, code = question(simulator)
        for number in range(5):
            answer(ledger, simulator, f"Y {(int(code) + 1 + number) % 10**6:06d}")
        answer(ledger, simulator, "Y CODE")
        with pytest.raises(TaskDeferred):
            operator().execute_complete(context, {"status": "look"})
        answer(ledger, simulator, "Y CODE", PHONES[1])
        assert operator().execute_complete(context, {"status": "look"})["by"] == "138****0002"

    def test_a_masked_push_counts_where_one_phone_fits(
        self, simulator: Simulator, context: Any, ledger: Ledger
    ) -> None:
        ask(context)
        answer(ledger, simulator, "Y CODE", "1380013***2")
        assert operator().execute_complete(context, {"status": "look"})["by"] == "138****0002"

    def test_an_answer_between_two_tries_is_not_lost(self, simulator: Simulator, context: Any, ledger: Ledger) -> None:
        ask(context)
        answer(ledger, simulator, "Y CODE")
        result = operator().execute({"ti": TaskInstance(try_number=2)})
        assert result["approved"] is True
        assert len(simulator.accepted()) == 1

    def test_nobody_answers_in_time(self, simulator: Simulator, context: Any, ledger: Ledger) -> None:
        ask(context)
        table = campaign_table
        with ledger.writing() as connection:
            asked_at = connection.execute(select(table.c.planned_at)).scalar_one()
            connection.execute(update(table).values(planned_at=asked_at - timedelta(hours=2)))
        answer(ledger, simulator, "Y CODE")
        with pytest.raises(AirflowFailException, match="^Nobody has answered within 1:00:00: "):
            operator(timeout=timedelta(hours=1)).execute_complete(context, {"status": "look"})
        # Somebody who allows more time takes the answer that was late.
        assert operator(timeout=timedelta(hours=3)).execute_complete(context, {"status": "look"})["approved"] is True


class TestWaiting:
    def test_in_the_worker(self, simulator: Simulator, context: Any, ledger: Ledger) -> None:
        problems: list[BaseException] = []

        def reply() -> None:
            try:
                wait_until(lambda: bool(simulator.accepted()))
                answer(ledger, simulator, "Y CODE")
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=reply)
        thread.start()
        result = operator(deferrable=False, poke_interval=1, timeout=timedelta(seconds=60)).execute(context)
        thread.join(30)
        assert not problems
        assert result["approved"] is True

    def test_in_the_triggerer(self, simulator: Simulator, context: Any, ledger: Ledger) -> None:
        trigger = ask(context, poke_interval=1).trigger
        answer(ledger, simulator, "Y CODE")
        pushed.match(ledger)
        assert first_event(trigger) == {"status": "look"}

    def test_until_the_time_is_over(self, context: Any) -> None:
        trigger = ask(context).trigger
        trigger.until = 0.0
        assert first_event(trigger) == {"status": "look"}

    def test_a_ledger_that_is_away_for_too_long(self, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        trigger = ask(context, max_errors=0).trigger

        def away(*arguments: object) -> None:
            raise LedgerUnreachableError("away")

        monkeypatch.setattr("airflow_provider_sms.ledger.reply_counts.ReplyCounter.count", away)
        event = first_event(trigger)
        assert event == {"status": "unreachable", "message": "away", "errors": 1}
        with pytest.raises(LedgerUnreachableError, match="Gave up after 1 failures in a row; the last: away"):
            operator().execute_complete(context, event)

    def test_waiting_that_can_not_help(self, context: Any) -> None:
        with pytest.raises(AirflowFailException, match="no such table"):
            operator().execute_complete(context, {"status": "refused", "message": "no such table"})


def first_event(trigger: SmsAnswerTrigger) -> Any:
    async def run() -> Any:
        events: Any = trigger.run()
        return (await asyncio.wait_for(anext(events), 30)).payload

    return asyncio.run(run())
