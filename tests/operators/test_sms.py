"""The operator: what a task does, told, failed with and left behind, against the simulator."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from airflow_provider_sms.decorators.sms import sms_task
from airflow_provider_sms.gateway import client as gateway_client
from airflow_provider_sms.gateway.errors import MessagesSourceError, PhonesSourceError
from airflow_provider_sms.gateway.hours import Hours
from airflow_provider_sms.ledger import opt_outs, reports
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.messages import MessageFile, MessageQuery
from airflow_provider_sms.operators.sms import SmsApprovalOperator, SmsGroupSendOperator
from airflow_provider_sms.recipients import PhoneFile
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.sending import Sender
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator, wait_until

PHONES = ["13800130001", "13800130002", "13800130003", "13800130004"]
TEXT = "【云通信】您好"

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sms.sending.time.sleep", lambda seconds: None)


def operator(**changes: Any) -> SmsGroupSendOperator:
    return SmsGroupSendOperator(**{"task_id": "send", "phones": PHONES, "content": TEXT, **changes})


class TestSending:
    def test_one_batch(self, simulator: Simulator, context: Any, ti: TaskInstance) -> None:
        summary = operator().execute(context)
        (batch,) = simulator.accepted()
        assert ti.pushed == [("taskId", batch["taskId"])]
        assert summary == {
            "campaign": "dag/run/send",
            "taskIds": [batch["taskId"]],
            "accepted": 4,
            "refused": 0,
            "inDoubt": 0,
            "excluded": 0,
            "excludedByReason": {},
            "notSent": 0,
            "expired": 0,
            "segments": 1,
            "points": 4,
            "remainPoint": simulator.settings()["balance"],
            "guards": {},
            "scheduledFor": None,
            "dryRun": False,
        }
        assert json.loads(json.dumps(summary)) == summary

    def test_several_batches_push_a_list(self, simulator: Simulator, context: Any, ti: TaskInstance) -> None:
        operator(batch_size=2).execute(context)
        ids = [batch["taskId"] for batch in simulator.accepted()]
        assert ti.pushed[-1] == ("taskId", ids)

    def test_the_list_grows_while_batches_are_on_their_way(
        self, simulator: Simulator, context: Any, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = gateway_client.SmsClient.send
        sent: list[bool] = []

        def second_waits_for_the_first_push(self: Any, *args: Any, **kwargs: Any) -> Any:
            if sent:
                wait_until(lambda: bool(ti.pushed))
            sent.append(True)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(gateway_client.SmsClient, "send", second_waits_for_the_first_push)
        operator(batch_size=2).execute(context)
        ids = [batch["taskId"] for batch in simulator.accepted()]
        assert ti.pushed == [("taskId", ids[:1]), ("taskId", ids)]

    def test_the_batch_size_of_the_connection(
        self, simulator: Simulator, connection: Callable[..., None], context: Any
    ) -> None:
        connection(extra={"batch_size": 3})
        operator().execute(context)
        assert [len(batch["phones"]) for batch in simulator.accepted()] == [3, 1]

    @pytest.mark.parametrize("phones", [",".join(PHONES), tuple(PHONES), iter(PHONES), str(PHONES)])
    def test_phones_in_other_shapes(self, simulator: Simulator, context: Any, phones: object) -> None:
        operator(phones=phones).execute(context)
        assert simulator.accepted()[0]["phones"] == PHONES

    def test_rubbish_among_the_phones_is_left_out_and_said(
        self,
        simulator: Simulator,
        context: Any,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with caplog.at_level(logging.WARNING):
            summary = operator(phones=[*PHONES, PHONES[0], "rubbish"]).execute(context)
        logged = caplog.text + capsys.readouterr().out
        assert summary["excludedByReason"] == {"duplicate": 1, "malformed": 1}
        assert simulator.accepted()[0]["phones"] == PHONES
        assert "phones: left out 1 duplicate, 1 malformed (item 5: 138****0001, duplicate; item 6: " in logged

    def test_marketing_goes_to_nobody_who_has_opted_out(
        self, simulator: Simulator, context: Any, ledger: Ledger
    ) -> None:
        with ledger.writing() as connection:
            opt_outs.add(connection, ledger, PHONES[1], source="reply")
        summary = operator(category="marketing", sending_hours=None).execute(context)
        assert simulator.accepted()[0]["phones"] == [PHONES[0], *PHONES[2:]]
        assert (summary["accepted"], summary["excludedByReason"]) == (3, {"opted out": 1})

    def test_a_category_that_there_is_not_shows_when_the_dag_is_read(self) -> None:
        with pytest.raises(ValueError, match="category: 'adverts' is none of 'marketing', 'notice'"):
            operator(category="adverts")

    def test_a_mapped_instance_has_a_name_of_its_own(self, context: Any) -> None:
        assert operator().execute({"ti": TaskInstance(3)})["campaign"] == "dag/run/send/3"


class TestNobodyToSendTo:
    @pytest.fixture(autouse=True)
    def _at_any_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Hours, "contain", lambda self, when: True)

    def nothing_handed_in(self) -> list[dict[str, Any]]:
        return [{"phones": []}, {"phones": None, "messages": [], "content": None}]

    @pytest.fixture
    def all_have_opted_out(self, ledger: Ledger) -> None:
        with ledger.writing() as connection:
            for phone in PHONES:
                opt_outs.add(connection, ledger, phone, source="reply")

    def test_fails_and_says_how_it_would_not(self, simulator: Simulator, context: Any) -> None:
        for changes in self.nothing_handed_in():
            with pytest.raises(AirflowFailException, match=r"phones: there is none.*set on_no_phones='skip'\.$"):
                operator(**changes).execute(context)

    def test_skips_if_that_is_as_it_should_be_and_a_later_try_may_have_somebody(
        self, simulator: Simulator, context: Any, ti: TaskInstance
    ) -> None:
        for changes in self.nothing_handed_in():
            with pytest.raises(AirflowSkipException, match="phones: there is none; hand in at least one mobile"):
                operator(**changes, on_no_phones="skip").execute(context)
        assert (simulator.accepted(), ti.pushed) == ([], [])
        assert operator(on_no_phones="skip").execute(context)["accepted"] == 4

    @pytest.mark.usefixtures("all_have_opted_out")
    def test_all_who_were_handed_in_have_opted_out(self, simulator: Simulator, context: Any, ledger: Ledger) -> None:
        said = r"phones: nobody is left to send to: 4 opted out\."
        with pytest.raises(AirflowFailException, match=said):
            operator(category="marketing").execute(context)
        with pytest.raises(AirflowSkipException, match=said):
            operator(category="marketing", on_no_phones="skip").execute(context)
        assert simulator.accepted() == []
        # Nothing has left: a later try may have others, or the same ones if they want texts again.
        with ledger.writing() as connection:
            for phone in PHONES[:3]:
                opt_outs.remove(connection, phone)
        assert operator(category="marketing").execute(context)["accepted"] == 3

    @pytest.mark.usefixtures("all_have_opted_out")
    def test_all_of_them_after_the_plan(
        self, simulator: Simulator, context: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opt_outs.Lookup, "among", lambda self, phones: frozenset())
        for _ in range(2):
            with pytest.raises(AirflowSkipException, match=r"nobody is left to send to: 4 opted out\."):
                operator(category="marketing", on_no_phones="skip").execute(context)
        assert simulator.accepted() == []

    def test_all_of_them_in_another_instance_of_a_mapped_task(self) -> None:
        operator().execute({"ti": TaskInstance(0)})
        summary = operator().execute({"ti": TaskInstance(1)})
        assert (summary["accepted"], summary["excludedByReason"]) == (0, {"in another instance": 4})

    def test_what_is_no_phone_fails_all_the_same(self, context: Any) -> None:
        with pytest.raises(AirflowFailException, match="phones: none of 2 is a mainland mobile"):
            operator(phones=["rubbish", ""], on_no_phones="skip").execute(context)

    def test_a_dry_run_says_the_same(self, context: Any) -> None:
        with pytest.raises(AirflowSkipException, match="phones: there is none"):
            operator(phones=[], on_no_phones="skip", dry_run=True).execute(context)

    def test_a_choice_that_there_is_not_shows_when_the_dag_is_read(self) -> None:
        with pytest.raises(ValueError, match="on_no_phones: 'ignore' is none of 'fail', 'skip'"):
            operator(on_no_phones="ignore")


class TestBadInput:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"phones": []}, "phones: there is none"),
            ({"phones": "rubbish"}, "phones: none of 1 is a mainland mobile"),
            ({"phones": {"a": 1}}, "phones: expected a list or comma text"),
            ({"content": "您好"}, "content: no signature"),
            ({"content": "【云通信】【别家】您好"}, "content: more than one signature"),
            ({"content": "【云通信】您好😀"}, "content: the emoji"),
            ({"send_time": "2020-01-31 14:00:00"}, "send_time: 2020-01-31 14:00:00 Beijing time is past"),
            ({"batch_size": 0}, "batch_size: 0 is not between"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_one_sentence_that_names_the_field_and_no_retry(
        self, simulator: Simulator, context: Any, changes: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(AirflowFailException) as error:
            operator(**changes).execute(context)
        assert str(error.value).startswith(said)
        assert simulator.requests()["requests"] == []

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"extra": {"unknown": 1}}, "extra: unknown field 'unknown'"),
            ({"host": "http://gateway.example"}, "host: http:// would send the App Key unencrypted"),
            ({"password": ""}, "password: the App Key is missing"),
        ],
    )
    def test_a_connection_that_is_not_usable(
        self, connection: Callable[..., None], context: Any, fields: dict[str, Any], said: str
    ) -> None:
        connection(**fields)
        with pytest.raises(AirflowFailException) as error:
            operator().execute(context)
        assert str(error.value).startswith(said)

    def test_a_missing_connection(self, context: Any) -> None:
        with pytest.raises(AirflowException, match="sms_conn_id: there is no connection 'sms_nowhere'"):
            operator(sms_conn_id="sms_nowhere").execute(context)


class TestFailing:
    """Ordinary, so that Airflow retries, only while it is certain that nobody was texted."""

    def test_the_platform_is_not_there(self, connection: Callable[..., None], context: Any, ti: TaskInstance) -> None:
        connection(host="http://127.0.0.1:9")
        with pytest.raises(CampaignError, match="4 not sent"):
            operator().execute(context)
        assert ti.pushed == []

    def test_one_a_minute_may_pass_by_itself(self, simulator: Simulator, context: Any) -> None:
        operator().execute(context)
        with pytest.raises(CampaignError, match="一分钟"):
            operator(campaign_key="again", max_wait=timedelta(0)).execute(context)
        assert len(simulator.accepted()) == 1

    def test_a_wrong_key_does_not(self, connection: Callable[..., None], context: Any) -> None:
        connection(password="FAKE-WRONG-KEY")
        with pytest.raises(AirflowFailException, match="账号或密码错误"):
            operator().execute(context)

    @pytest.mark.parametrize(
        ("fault", "fields"),
        [
            ("cut_after", {}),
            ("cut_before", {}),
            ("status", {"status": 500, "accept": True}),
            ("status", {"status": 408}),
            ("html", {"accept": True}),
            ("truncated", {}),
            ("empty", {}),
            ("no_task_id", {}),
            ("unknown_reason", {"accept": True}),
        ],
    )
    def test_in_doubt_fails_for_good_and_nothing_is_repeated(
        self, simulator: Simulator, context: Any, ti: TaskInstance, fault: str, fields: dict[str, Any]
    ) -> None:
        simulator.fault(fault, **fields)
        with pytest.raises(AirflowFailException, match="4 in doubt"):
            operator().execute(context)
        assert len(simulator.requests()["requests"]) == 1
        assert ti.pushed == []

    @pytest.mark.parametrize("status", [302, 401, 403, 404, 405, 407, 413])
    def test_an_http_refusal_texts_nobody_and_is_not_retried(
        self, simulator: Simulator, context: Any, status: int
    ) -> None:
        simulator.fault("status", status=status, location="http://127.0.0.1:9/")
        with pytest.raises(AirflowFailException, match="4 refused"):
            operator().execute(context)

    def test_a_refusal_after_an_accepted_batch_fails_for_good_and_keeps_the_task_id(
        self, simulator: Simulator, context: Any, ti: TaskInstance
    ) -> None:
        simulator.settings(balance=2)
        with pytest.raises(AirflowFailException, match="2 accepted, 2 refused") as error:
            operator(batch_size=2).execute(context)
        (batch,) = simulator.accepted()
        assert ti.pushed == [("taskId", [batch["taskId"]])]
        assert batch["taskId"] in str(error.value)
        assert "Top up" in str(error.value)

    def test_a_platform_that_goes_away_after_an_accepted_batch(
        self, simulator: Simulator, context: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = gateway_client.SmsClient.send

        def send_once(self: Any, phones: Any, *args: Any, **kwargs: Any) -> Any:
            if "13800130003" in phones:
                object.__setattr__(self.account, "base_url", "http://127.0.0.1:9")
            return real(self, phones, *args, **kwargs)

        monkeypatch.setattr(gateway_client.SmsClient, "send", send_once)
        with pytest.raises(CampaignError, match="2 accepted, 0 refused, 0 in doubt, 2 not sent"):
            operator(batch_size=2).execute(context)

    def test_partial_acceptance_is_no_failure(self, simulator: Simulator, context: Any) -> None:
        simulator.fault("partial", fewer=1)
        summary = operator().execute(context)
        assert (summary["accepted"], summary["refused"]) == (3, 1)
        assert len(simulator.requests()["requests"]) == 1

    def test_an_xcom_that_can_not_be_pushed_is_pushed_by_the_retry(
        self, simulator: Simulator, context: Any, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(key: str, value: object) -> None:
            raise ConnectionError("the API server is away")

        with monkeypatch.context() as patched:
            patched.setattr(ti, "xcom_push", away)
            with pytest.raises(ConnectionError):
                operator().execute(context)
        operator().execute(context)
        (batch,) = simulator.accepted()
        assert ti.pushed == [("taskId", batch["taskId"])]

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
    def test_a_process_that_is_told_to_end_ends(
        self, context: Any, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
    ) -> None:
        def stopped(*args: object) -> None:
            raise stop

        monkeypatch.setattr(Sender, "send", stopped)
        with pytest.raises(stop):
            operator().execute(context)


class TestTheLedger:
    """What the operator adds to the send: Airflow's tries, deferral, signals, and which failures are for good."""

    def test_a_retry_texts_nobody_again_and_tells_the_same(
        self, simulator: Simulator, context: Any, ti: TaskInstance
    ) -> None:
        first = operator().execute(context)
        again = TaskInstance(try_number=2)
        assert operator().execute({"ti": again}) == first
        assert again.pushed == ti.pushed
        assert len(simulator.requests()["requests"]) == 1

    def test_a_campaign_key_is_the_same_campaign_in_another_task(self, simulator: Simulator, context: Any) -> None:
        operator(campaign_key="spring").execute(context)
        elsewhere = TaskInstance()
        elsewhere.task_id = "another"
        assert operator(campaign_key="spring").execute({"ti": elsewhere})["campaign"] == "spring"
        assert len(simulator.accepted()) == 1

    def test_a_campaign_key_is_a_template(self) -> None:
        task = operator(campaign_key="spring {{ ds }}")
        task.render_template_fields({"ds": "2030-01-31", "ti": TaskInstance()})
        assert task.campaign_key == "spring 2030-01-31"

    def test_a_campaign_key_of_which_a_template_has_made_a_number_is_named(
        self, simulator: Simulator, context: Any
    ) -> None:
        with pytest.raises(AirflowFailException, match="^campaign_key: expected text, got int"):
            operator(campaign_key=20300131).execute(context)
        assert simulator.accepted() == []

    def test_a_namespace_tells_installations_apart(
        self, simulator: Simulator, context: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operator().execute(context)
        monkeypatch.setenv("AIRFLOW__SMS__NAMESPACE", "staging")
        simulator.settings(one_per_minute=False)
        operator().execute(context)
        assert len(simulator.accepted()) == 2

    def test_a_long_wait_is_deferred_and_carried_on(self, simulator: Simulator, context: Any) -> None:
        simulator.fault("refuse", message="当日发送量已超出最大发送限制")
        with pytest.raises(TaskDeferred) as deferred:
            operator(max_wait=timedelta(days=2), valid_for=timedelta(days=3)).execute(context)
        assert deferred.value.method_name == "resume"
        trigger = deferred.value.trigger
        assert trigger.until - time.time() == pytest.approx(trigger.waited, abs=60)
        task = operator(phones=iter(()), max_wait=timedelta(days=2))
        assert task.resume(context, event={"waited": trigger.waited})["accepted"] == 4

    def test_a_signal_stops_after_the_request_under_way(self, simulator: Simulator, context: Any) -> None:
        task = operator(batch_size=1)
        real = gateway_client.SmsClient.send

        def killed_while_sending(self: Any, *args: Any, **kwargs: Any) -> Any:
            task.on_kill()
            return real(self, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(gateway_client.SmsClient, "send", killed_while_sending)
            with pytest.raises(CampaignError, match="Told to stop"):
                task.execute(context)
        assert len(simulator.accepted()) == 1
        assert operator(batch_size=1).execute(context)["accepted"] == 4
        assert len(simulator.accepted()) == 4

    def test_airflow_s_own_time_out_is_an_ordinary_failure_and_the_retry_carries_on(
        self, simulator: Simulator, context: Any, ti: TaskInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def timed_out(key: str, value: object) -> None:
            raise AirflowTaskTimeout

        with monkeypatch.context() as patched:
            patched.setattr(ti, "xcom_push", timed_out)
            with pytest.raises(AirflowException, match="execution_timeout .* is over"):
                operator().execute(context)
        assert operator().execute(context)["accepted"] == 4
        assert len(simulator.accepted()) == 1

    def test_a_signal_before_the_first_claim_sends_nothing(self, simulator: Simulator, context: Any) -> None:
        task = operator()
        task.on_kill()
        with pytest.raises(CampaignError, match="Told to stop"):
            task.execute(context)
        assert simulator.requests()["requests"] == []

    def test_a_ledger_that_can_not_keep_the_promises_is_refused_for_good(
        self, simulator: Simulator, context: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
        with pytest.raises(AirflowFailException, match="runs in Kubernetes"):
            operator().execute(context)
        assert simulator.requests()["requests"] == []

    def test_a_ledger_that_is_away_is_a_failure_that_airflow_retries(
        self, simulator: Simulator, context: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", "postgresql+psycopg2://sms:fake-password@127.0.0.1:9/x")
        with pytest.raises(LedgerUnreachableError) as error:
            operator().execute(context)
        assert "fake-password" not in str(error.value)
        assert simulator.requests()["requests"] == []

    def test_a_ledger_that_was_lost_is_noticed_by_the_retry(
        self, simulator: Simulator, context: Any, ledger_file: Path
    ) -> None:
        run = SimpleNamespace(start_date=datetime.now(UTC), queued_at=None, run_after=None)
        ledger_file.unlink()
        with pytest.raises(AirflowFailException, match="The ledger was lost: this is try 2"):
            operator().execute({"ti": TaskInstance(try_number=2), "dag_run": run})
        assert simulator.requests()["requests"] == []

    def test_a_first_try_that_found_no_connection_is_no_lost_ledger(
        self, simulator: Simulator, ledger_file: Path
    ) -> None:
        run = SimpleNamespace(start_date=datetime.now(UTC), queued_at=None, run_after=None)
        ledger_file.unlink()
        with pytest.raises(AirflowException, match="there is no connection"):
            operator(sms_conn_id="sms_nowhere").execute({"ti": TaskInstance(), "dag_run": run})
        assert operator().execute({"ti": TaskInstance(try_number=2), "dag_run": run})["accepted"] == 4

    def test_a_failure_says_what_to_run(self, simulator: Simulator, context: Any) -> None:
        simulator.fault("cut_after")
        with pytest.raises(AirflowFailException) as error:
            operator().execute(context)
        assert "\n  airflow-sms status dag/run/send" in str(error.value)
        assert "\n  airflow-sms resolve dag/run/send --batch 1 --sent|--not-sent" in str(error.value)

    @pytest.mark.parametrize(
        ("choice", "said"),
        [
            ({"on_in_doubt": "retry"}, "on_in_doubt: 'retry' is none of 'fail', 'wait', 'assume_sent', 'resend'"),
            ({"on_changed": "x"}, "on_changed: 'x' is none of 'fail', 'resume'"),
            ({"on_phone_refused": None}, "on_phone_refused: None is none of 'split', 'fail'"),
            ({"on_expired": "later"}, "on_expired: 'later' is none of 'fail', 'send_now'"),
            ({"valid_for": 5}, "valid_for: expected a timedelta"),
            ({"valid_for": timedelta(0)}, "valid_for: must be longer than nothing"),
            ({"max_wait": timedelta(-1)}, "max_wait: must not be negative"),
            ({"max_in_flight": 0}, "max_in_flight: 0 is not between 1 and 32"),
            ({"max_in_flight": "8"}, "max_in_flight: expected a whole number"),
            ({"max_in_flight": True}, "max_in_flight: expected a whole number"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_a_wrong_choice_shows_when_the_dag_is_read(self, choice: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            operator(**choice)

    def test_a_source_that_is_away_is_retried_and_one_that_is_wrong_is_not(self, context: Any, tmp_path: Path) -> None:
        with pytest.raises(PhonesSourceError):
            operator(phones=PhoneFile(tmp_path / "not there yet.csv")).execute(context)
        with pytest.raises(AirflowFailException, match="is a folder"):
            operator(phones=PhoneFile(tmp_path)).execute(context)

    def test_a_file_of_phones(self, simulator: Simulator, context: Any, tmp_path: Path) -> None:
        (tmp_path / "phones.csv").write_text("name,mobile\n" + "".join(f"x,{phone}\n" for phone in PHONES))
        summary = operator(phones=PhoneFile(tmp_path / "phones.csv", column="mobile")).execute(context)
        assert summary["accepted"] == 4
        assert simulator.accepted()[0]["phones"] == PHONES


class TestRendering:
    def render(self, **changes: Any) -> SmsGroupSendOperator:
        task = operator(**changes)
        task.render_template_fields({"ti": TaskInstance(), "who": "13800130009", "phones": PHONES})
        return task

    def test_phones_are_shown_in_counts_and_sent_in_full(self, simulator: Simulator, context: Any) -> None:
        task = self.render(phones=[*PHONES, "{{ who }}"])
        assert str(task.phones) == repr(task.phones) == "5 phones, first 138****0001"
        task.execute(context)
        assert simulator.accepted()[0]["phones"] == [*PHONES, "13800130009"]

    def test_one_phone(self) -> None:
        assert str(self.render(phones=PHONES[:1]).phones) == "1 phone, first 138****0001"

    def test_phones_that_are_none_say_so(self) -> None:
        assert str(self.render(phones="").phones).startswith("phones: there is none")

    def test_a_phone_inside_the_text_is_masked_where_it_is_shown(self, simulator: Simulator, context: Any) -> None:
        task = self.render(content=TEXT + "{{ who }}")
        assert str(task.content) == TEXT + "138****0009"
        task.execute(context)
        assert simulator.accepted()[0]["content"] == TEXT + "13800130009"

    def test_what_a_template_yields_is_not_rendered_again(self, simulator: Simulator, context: Any) -> None:
        task = operator(content=TEXT + "{{ name }}")
        task.render_template_fields({"name": "{{ 1 + 1 }}"})
        task.execute(context)
        assert simulator.accepted()[0]["content"] == TEXT + "{{ 1 + 1 }}"

    def test_the_connection_and_the_time_are_templates_too(self) -> None:
        task = operator(sms_conn_id="{{ who }}", send_time="{{ who }}")
        task.render_template_fields({"who": "x"})
        assert (task.sms_conn_id, task.send_time) == ("x", "x")

    def test_a_template_that_fails_does_not_show_the_phones(self, caplog: pytest.LogCaptureFixture) -> None:
        task = operator(phones=[*PHONES, "{{ 1 / 0 }}"])
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(AirflowException, match="phones: the template fails") as error,
        ):
            task.render_template_fields({})
        assert "13800130001" not in caplog.text + str(error.value)
        assert error.value.__cause__ is None


class TestPersonalTexts:
    def operator(self, messages: object, **changes: Any) -> SmsGroupSendOperator:
        return operator(**{"phones": None, "messages": messages, "content": "【云通信】{name}您好", **changes})

    def test_each_phone_gets_its_own_and_the_task_ids_are_a_list(
        self, simulator: Simulator, context: Any, ti: TaskInstance
    ) -> None:
        rows = [{"phone": phone, "name": name} for phone, name in zip(PHONES, "甲乙甲丙", strict=True)]
        summary = self.operator(rows).execute(context)
        sent = {tuple(batch["phones"]): batch["content"] for batch in simulator.accepted()}
        assert sent == {
            (PHONES[0], PHONES[2]): "【云通信】甲您好",
            (PHONES[1],): "【云通信】乙您好",
            (PHONES[3],): "【云通信】丙您好",
        }
        assert ti.pushed[-1] == ("taskId", summary["taskIds"])
        assert (summary["accepted"], summary["segments"], summary["points"]) == (4, 1, 4)

    def test_a_problem_names_field_and_row_for_good_and_nothing_else(self, simulator: Simulator, context: Any) -> None:
        with pytest.raises(AirflowFailException, match=r"messages: 'name' is missing in 1 row \(2\)\.") as error:
            self.operator([{"phone": PHONES[0], "name": "王芳"}, {"phone": PHONES[1]}]).execute(context)
        assert "王芳" not in str(error.value)
        assert simulator.accepted() == []

    def test_a_file_that_is_not_there_yet_is_worth_another_try(self, context: Any, tmp_path: Path) -> None:
        with pytest.raises(MessagesSourceError):
            self.operator(MessageFile(tmp_path / "late.csv")).execute(context)

    def test_the_signature_of_the_connection(
        self, simulator: Simulator, connection: Callable[..., None], context: Any
    ) -> None:
        connection(extra={"signature": "云通信"})
        self.operator([(PHONES[0], "您好"), (PHONES[1], "您好【另一家】")], content=None).execute(context)
        assert sorted(batch["content"] for batch in simulator.accepted()) == ["【云通信】您好", "您好【另一家】"]

    @pytest.mark.parametrize(
        "given", [{"phones": PHONES, "messages": []}, {}, {"phones": PHONES}], ids=["both", "none", "no text"]
    )
    def test_a_wrong_choice_shows_when_the_dag_is_read(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"phones, messages: hand in one of them|content: phones need a text"):
            SmsGroupSendOperator(task_id="send", **given)

    def test_more_task_ids_than_an_xcom_is_for(
        self, context: Any, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
    ) -> None:
        monkeypatch.setattr(reports, "MOST_TASK_IDS", 2)
        rows = [(phone, f"【云通信】{phone[-1]}") for phone in PHONES]
        summary = self.operator(rows, content=None).execute(context)
        assert (len(summary["taskIds"]), summary["accepted"]) == (2, 4)
        assert "holds the first 2 taskIds. Wait for the whole campaign by its name: campaign='dag/run/send'" in logged()

    def test_texts_of_a_list_are_templates_and_fields_are_data(self) -> None:
        literal: list[Any] = [
            ("{{ who }}", "{{ who }}"),
            {"phone": PHONES[0], "content": "{{ who }}", "x": "{{ who }}"},
        ]
        task = self.operator(literal, content="{{ who }}{x}")
        task.render_template_fields({"who": "13800130009"})
        assert task.messages.value == [  # type: ignore[union-attr]
            ("{{ who }}", "13800130009"),
            {"phone": PHONES[0], "content": "13800130009", "x": "{{ who }}"},
        ]
        assert str(task.messages) == "2 messages, first a text of 9 characters, 0 of them digits"
        assert str(task.content) == "138****0009{x}"

    def test_of_a_file_and_a_query(self) -> None:
        file = MessageFile("{{ who }}.csv", "{{ who }}", "{{ who }}")
        query = MessageQuery("SELECT {{ who }}", "{{ who }}", {"a": "{{ who }}"}, "{{ who }}")
        for messages, rendered in (
            (file, MessageFile("x.csv", "x", "x")),
            (query, MessageQuery("SELECT x", "x", {"a": "x"}, "x")),
        ):
            task = self.operator(messages)
            task.render_template_fields({"who": "x"})
            assert task.messages.value == rendered  # type: ignore[union-attr]
        assert file == MessageFile("{{ who }}.csv", "{{ who }}", "{{ who }}")


def test_an_iterator_is_the_same_in_every_parse_and_every_try(simulator: Simulator, context: Any) -> None:
    task = operator(phones=(phone for phone in PHONES))
    assert task.phones == PHONES
    assert task.execute(context)["accepted"] == 4
    assert task.execute(context)["accepted"] == 4
    rows = [(PHONES[0], TEXT)]
    assert operator(phones=None, content=None, messages=iter(rows)).messages == rows
    assert SmsApprovalOperator(task_id="ask", phones=iter(PHONES), question="【云通信】删除?").phones == PHONES
    with DAG(dag_id="dag", schedule=None):
        made: Any = sms_task(phones=iter(PHONES), task_id="tell")(lambda: {"content": TEXT})
        assert made().operator.phones == PHONES


def test_nothing_is_looked_up_while_a_dag_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(*args: object) -> None:
        raise AssertionError("a connection was looked up")

    monkeypatch.setattr("airflow_provider_sms.hooks.sms.find_connection", looked_up)
    operator(sms_conn_id="sms_nowhere", phones="{{ params.phones }}", content="")
