"""The notifier: whom it texts, what with, and that a callback that fires twice texts once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_sms import cli
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.notifications.sms import SmsNotifier, send_sms_notification
from airflow_provider_sms.send_judging import CampaignError
from tests.support.fixtures import SetConnection, TaskInstance
from tests.support.simulator import Simulator

PHONES = ["13800130001", "13800130002"]
TEXT = "【云通信】{{ ti.task_id }} failed"

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def often(simulator: Simulator) -> None:
    """A phone may be texted more than once a minute."""
    simulator.settings(one_per_minute=False)


def notifier(**changes: Any) -> SmsNotifier:
    return SmsNotifier(**{"phones": "{{ who }}", "content": TEXT, **changes})


def happened(state: str = "failed", **changes: Any) -> dict[str, Any]:
    ti: Any = TaskInstance(changes.pop("map_index", -1), changes.pop("try_number", 1))
    ti.state = state
    # Airflow before 3.0 renders by the DAG, and asks for it.
    return {"ti": ti, "who": ",".join(PHONES), "dag": None, **changes}


def texts(simulator: Simulator) -> list[Any]:
    return simulator.accepted()


def test_it_texts(simulator: Simulator) -> None:
    notifier()(happened())
    (batch,) = texts(simulator)
    assert (batch["phones"], batch["content"]) == (PHONES, "【云通信】send failed")


def test_the_alias() -> None:
    assert send_sms_notification is SmsNotifier


def test_a_callback_that_fires_ten_times_texts_once(simulator: Simulator) -> None:
    one = notifier()
    for _ in range(5):
        one(happened())
        notifier()(happened())
    assert len(texts(simulator)) == 1


def test_so_does_one_whose_rendered_text_differs(simulator: Simulator) -> None:
    for number in range(2):
        notifier(content="【云通信】{{ now }}")(happened(now=f"at {number}"))
    assert len(texts(simulator)) == 1


@pytest.mark.parametrize(
    "other",
    [
        happened(try_number=2),
        happened(map_index=1),
        happened("success"),
        happened(who=PHONES[0]),
        happened(reason="task_failure"),
    ],
    ids=["try", "map index", "event", "recipients", "of the DAG"],
)
def test_something_else_is_another_text(simulator: Simulator, other: dict[str, Any]) -> None:
    notifier()(happened())
    notifier()(other)
    assert len(texts(simulator)) == 2


def test_another_template_is_another_text(simulator: Simulator) -> None:
    notifier()(happened())
    notifier(content="【云通信】again")(happened())
    assert len(texts(simulator)) == 2


def test_an_object_that_tasks_share_is_rendered_for_each(simulator: Simulator) -> None:
    shared = notifier()
    shared(happened())
    other = happened(who=PHONES[1])
    other["ti"].task_id = "load"
    shared(other)
    assert [batch["content"] for batch in texts(simulator)] == ["【云通信】send failed", "【云通信】load failed"]
    assert texts(simulator)[1]["phones"] == [PHONES[1]]


def test_a_dag_s_own_callback_texts_once_whichever_task_comes_with_it(simulator: Simulator) -> None:
    for task_id in ("send", "load"):
        context = happened(reason="task_failure")
        context["ti"].task_id = task_id
        notifier(content="【云通信】failed")(context)
    assert len(texts(simulator)) == 1


def test_a_deadline_that_brings_a_run_alone(simulator: Simulator) -> None:
    for number in (1, 1, 2):
        run = {"dag_id": "dag", "run_id": "run"}
        notifier(phones=PHONES, content="【云通信】late")({"dag": None, "dag_run": run, "deadline": {"id": number}})
    assert len(texts(simulator)) == 2


def test_what_says_nothing_of_itself_is_texted_each_time(simulator: Simulator) -> None:
    for _ in range(2):
        notifier(phones=PHONES, content="【云通信】hello")({"dag": None})
    assert len(texts(simulator)) == 2


def test_a_key_of_one_s_own(simulator: Simulator) -> None:
    for number in (1, 2):
        notifier(campaign_key="once a day {{ day }}")(happened(try_number=number, day="2030-01-31"))
    assert len(texts(simulator)) == 1


@pytest.mark.parametrize("key", ["k" * 400, "disk\nfull", " spaced "])
def test_any_key_of_one_s_own_will_do(simulator: Simulator, key: str) -> None:
    for each in (key, key, f"{key}!"):
        notifier(campaign_key=each)(happened())
    assert len(texts(simulator)) == 2


def test_a_key_that_a_campaign_has_leaves_that_campaign_alone(simulator: Simulator) -> None:
    """Such as that of the very task whose failure it tells of."""
    hook, others = SmsHook(), ["13800130003"]
    simulator.settings(locked=True)
    with pytest.raises(CampaignError):
        hook.send_group(others, "【云通信】sale", campaign_key="sale")
    simulator.settings(locked=False)
    notifier(campaign_key="sale")(happened())
    assert [batch["phones"] for batch in texts(simulator)] == [PHONES]
    hook.send_group(others, "【云通信】sale", campaign_key="sale")
    assert [batch["phones"] for batch in texts(simulator)] == [PHONES, others]


@pytest.mark.parametrize("content", [TEXT, "{{ 1 / 0 }}", None])
def test_a_key_whose_template_fails_gives_way_to_what_else_makes_it_the_same(
    simulator: Simulator, connection: SetConnection, logged: Callable[[], str], content: str | None
) -> None:
    connection(extra={"signature": "云通信"})
    one = notifier(content=content, campaign_key="{{ 13800130001 / 0 }}")
    for number in (1, 1, 2):
        one(happened(try_number=number))
    assert len(texts(simulator)) == 2
    said = logged()
    assert "campaign_key: the template fails: ZeroDivisionError" in said
    assert "13800130001" not in said


def test_a_key_with_half_a_character_is_one_all_the_same(simulator: Simulator, logged: Callable[[], str]) -> None:
    for number in range(2):
        notifier(campaign_key="disk {{ half }}")(happened(half="\ud83d", try_number=number))
    assert len(texts(simulator)) == 1
    assert "De-duplication was off" not in logged()


def test_phones_that_can_be_read_once_are_there_for_each_call(simulator: Simulator) -> None:
    one = notifier(phones=iter(PHONES))
    for number in (1, 2):
        one(happened(try_number=number))
    assert [batch["phones"] for batch in texts(simulator)] == [PHONES, PHONES]


@pytest.mark.parametrize("nothing", ["{{ '' }}", "【云通信】{{ '' }}", "{{ none_there }}"])
def test_a_text_of_which_nothing_is_left_gives_way_to_the_default_one(
    simulator: Simulator, connection: SetConnection, nothing: str
) -> None:
    connection(extra={"signature": "云通信"})
    for _ in range(2):
        notifier(content=nothing)(happened())
    (batch,) = texts(simulator)
    assert batch["content"].startswith("【云通信】失败:dag.send 第1次 ")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"sms_conn_id": "sms_nowhere"},
            "create it in Airflow (Admin, Connections, type SMS), or set AIRFLOW_",
        ),
        ({"phones": ""}, "hand in at least one mobile"),
        ({"phones": []}, "hand in at least one mobile"),
        ({"phones": "{{ none }}"}, "Write eleven digits"),
        ({"content": "no signature"}, "or set `signature` in the connection's extras"),
    ],
)
def test_it_says_in_a_line_what_to_do(
    simulator: Simulator, logged: Callable[[], str], changes: dict[str, Any], said: str
) -> None:
    notifier(**changes)(happened())
    lines = [line for line in logged().splitlines() if "The alarm was not sent" in line]
    assert lines
    assert all(said in line for line in lines)
    assert texts(simulator) == []


def test_ids_of_any_length_and_script_fit(simulator: Simulator, connection: SetConnection) -> None:
    connection(extra={"signature": "云通信"})
    context = happened()
    context["ti"].dag_id, context["ti"].task_id = "数据\u202e🔥\x00\ud800" * 30, "t\n\t【x】" * 40
    context["ti"].run_id, context["ti"].log_url = "r 🔥/%\ud800", "https://airflow.example/" + "x" * 600
    for _ in range(2):
        notifier(content=None)(context)
    (batch,) = texts(simulator)
    content = batch["content"]
    assert content.startswith("【云通信】失败:数据□ 数据□")
    assert ".t 〔x〕t 〔x〕" in content
    assert "http" not in content
    assert len(content) <= 70


def test_nothing_shows_a_phone(logged: Callable[[], str], simulator: Simulator) -> None:
    one = notifier()
    one(happened())
    assert str(one.phones) == "2 phones, first 138****0001"
    notifier(phones="{{ 13800130001 / 0 }}")(happened())
    shown = logged()
    assert "phones: the template fails" in shown
    assert "13800130001" not in shown
    assert len(texts(simulator)) == 1


def test_it_says_that_it_failed_and_fails_nobody(simulator: Simulator, logged: Callable[[], str]) -> None:
    simulator.settings(locked=True)
    notifier()(happened())
    assert "The alarm was not sent" in logged()
    assert texts(simulator) == []


def test_without_a_text_of_one_s_own_it_says_what_has_happened(simulator: Simulator, connection: SetConnection) -> None:
    connection(extra={"signature": "云通信"})
    context = happened(try_number=2)
    context["ti"].log_url = "https://airflow.example/log"
    notifier(content=None, timezone="UTC")(context)
    assert re.fullmatch(
        r"【云通信】失败:dag\.send 第2次 \d\d-\d\d \d\d:\d\d https://airflow\.example/log",
        texts(simulator)[0]["content"],
    )


def test_a_text_whose_template_fails_gives_way_to_that(
    simulator: Simulator, connection: SetConnection, logged: Callable[[], str]
) -> None:
    connection(extra={"signature": "云通信"})
    one = notifier(content="{{ 1 / 0 }}")
    for _ in range(2):
        one(happened())
    (batch,) = texts(simulator)
    assert batch["content"].startswith("【云通信】失败:dag.send 第1次 ")
    assert "content: the template fails: ZeroDivisionError" in logged()


def test_what_a_value_brings_does_not_keep_the_text_from_going_out(
    simulator: Simulator, logged: Callable[[], str]
) -> None:
    notifier(content="【云通信】{{ why }}")(happened(why="【其它】🔥" + "x" * 600))
    content = texts(simulator)[0]["content"]
    assert content.startswith("【云通信】〔其它〕□xxx")
    assert "what the platform would refuse was replaced" in logged()


def test_a_word_of_one_s_own_for_the_event(simulator: Simulator, connection: SetConnection) -> None:
    connection(extra={"signature": "云通信"})
    for state in ("failed", "running"):
        notifier(content=None, event="数据未到")(happened(state))
    (batch,) = texts(simulator)
    assert batch["content"].startswith("【云通信】数据未到:dag.send ")


def test_a_dry_run_sends_nothing_and_says_what(simulator: Simulator, logged: Callable[[], str]) -> None:
    one = notifier(content="【云通信】call {{ 13800130001 }}", dry_run=True)
    one(happened())
    said = logged()
    assert "Dry run, nothing is sent: 2 phones, segments a text: 1, points at most: 2" in said
    assert "call 138****0001" in said
    assert "13800130001" not in said
    assert texts(simulator) == []
    one.dry_run = False
    one(happened())
    assert len(texts(simulator)) == 1


def test_in_an_environment_that_sends_nothing_no_alarm_goes_out(
    simulator: Simulator, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SMS__DRY_RUN", "True")
    notifier()(happened())
    assert "Dry run, nothing is sent: 2 phones" in logged()
    assert texts(simulator) == []


def test_phones_that_are_left_out_are_told_of(simulator: Simulator, logged: Callable[[], str]) -> None:
    notifier()(happened(who=f"{PHONES[0]},12345"))
    assert "phones: left out 1 malformed" in logged()
    assert texts(simulator)[0]["phones"] == [PHONES[0]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"storm_limit": 0}, "storm_limit: 0"),
        ({"storm_limit": True}, "storm_limit: True"),
        ({"storm_window": timedelta()}, "storm_window: expected a timedelta"),
        ({"language": "fr"}, "language: 'fr' is none of 'zh', 'en'"),
        ({"timezone": "Mars/North"}, "timezone: there is no 'Mars/North'"),
        ({"dry_run": "False"}, "dry_run: expected True or False, got str"),
    ],
)
def test_what_can_not_be_shows_when_the_dag_is_read(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        notifier(**changes)


def test_what_interrupts_the_task_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise AirflowTaskTimeout("over")

    monkeypatch.setattr(SmsNotifier, "_notify", interrupted)
    with pytest.raises(AirflowTaskTimeout):
        notifier()(happened())


def test_beyond_the_limit_it_is_held_back_and_counted(simulator: Simulator, logged: Callable[[], str]) -> None:
    for number in range(4):
        notifier(storm_limit=2, storm_window=600)(happened(map_index=number))
    notifier(storm_limit=3)(happened(map_index=4))
    assert [batch["content"] for batch in texts(simulator)] == ["【云通信】send failed"] * 2 + [
        "【云通信】send failed(另有2条)"
    ]
    assert "Held back: 2 of 2 phones have had 2 texts within 0:10:00" in logged()


def test_what_failed_is_held_back_and_counted(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    simulator.settings(locked=True)
    notifier(storm_limit=1, campaign_key="broken")(happened(map_index=1))
    capsys.readouterr()
    # Its campaign needs nobody.
    assert cli.main(["status", "alarm broken"]) == 0
    assert "Held back: 1 batch, 2 phones, of an alarm." in capsys.readouterr().out
    simulator.settings(locked=False)
    notifier(storm_limit=1, language="en")(happened(map_index=2))
    (batch,) = texts(simulator)
    assert batch["content"] == "【云通信】send failed (+1 more)"


# On an event loop


class Pulse:
    """Beats for as long as the loop is free; and counts those beats while a request is under way."""

    def __init__(self) -> None:
        self.is_under_way = False
        self.beats = 0

    async def beat(self) -> None:
        while True:
            self.beats += self.is_under_way
            await asyncio.sleep(0)


@pytest.fixture
def pulse(monkeypatch: pytest.MonkeyPatch) -> Pulse:
    pulse, send = Pulse(), SmsClient.send

    def sent(*args: Any, **kwargs: Any) -> Any:
        pulse.is_under_way = True
        try:
            return send(*args, **kwargs)
        finally:
            pulse.is_under_way = False

    monkeypatch.setattr(SmsClient, "send", sent)
    return pulse


@pytest.mark.parametrize("is_called_as", ["await notifier", "async_notify"])
def test_the_loop_is_free_while_the_platform_is_slow(simulator: Simulator, pulse: Pulse, is_called_as: str) -> None:
    simulator.fault("slow", on="send", seconds=0.5, accept=True)
    one = notifier()
    one.context = happened()  # type: ignore[assignment]

    async def main() -> None:
        beating = asyncio.create_task(pulse.beat())
        if is_called_as == "async_notify":
            one.render_template_fields(one.context)
            await one.async_notify(one.context)
        else:
            await one
        beating.cancel()

    asyncio.run(main())
    assert pulse.beats > 100
    assert len(texts(simulator)) == 1


def test_on_a_loop_it_fails_nobody_either(simulator: Simulator, logged: Callable[[], str]) -> None:
    one = notifier(phones="12345")
    one.context = happened()  # type: ignore[assignment]

    async def main() -> None:
        await one

    asyncio.run(main())
    assert "none of 1 is a mainland mobile" in logged()
