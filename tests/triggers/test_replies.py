"""The triggers about replies: the one that a sensor waits with, and the one that nudges a DAG."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers import base

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.replies import Claims, Interest
from airflow_provider_sms.triggers.sms import SmsReplySensorTrigger, SmsReplyTrigger
from tests.support.pushed import put_replies
from tests.support.simulator import wait_until

WATCHERS = hasattr(base, "BaseEventTrigger")


def sensor_trigger(**changes: Any) -> SmsReplySensorTrigger:
    arguments: dict[str, Any] = {
        "campaign_id": 1,
        "taskids": [],
        "pattern": None,
        "began": 1000.0,
        "poke_interval": 1,
        "max_errors": 1,
    }
    return SmsReplySensorTrigger(**{**arguments, **changes})


async def event_of(waiting: base.BaseTrigger) -> Any:
    return (await anext(waiting.run())).payload


class TestTheSensorS:
    @pytest.mark.parametrize("changes", [{}, {"campaign_id": None, "taskids": ["T1"]}, {"pattern": "^yes"}])
    def test_it_waits_for_a_reply(self, ledger: Ledger, queries: list[str], changes: dict[str, Any]) -> None:
        put_replies(ledger, ["yes"], campaign_id=2, taskid="T2")
        put_replies(ledger, ["no"], campaign_id=1 if "pattern" in changes else 2, taskid="T3")

        async def scenario() -> Any:
            waiting = asyncio.create_task(event_of(sensor_trigger(**changes)))
            await asyncio.to_thread(wait_until, lambda: len(queries) >= 2)
            assert not waiting.done()
            await asyncio.to_thread(put_replies, ledger, ["yes"], campaign_id=1)
            return await asyncio.wait_for(waiting, 30)

        assert asyncio.run(scenario()) == {"status": "look", "began": 1000.0}

    def test_it_gives_up(self, ledger_file: Path) -> None:
        ledger_file.unlink()
        event = asyncio.run(asyncio.wait_for(event_of(sensor_trigger()), 30))
        assert (event["status"], event["errors"]) == ("unreachable", 2)

    def test_what_is_stored_of_it_makes_the_same_trigger(self) -> None:
        path, arguments = sensor_trigger(pattern="^yes").serialize()
        assert path == "airflow_provider_sms.triggers.sms.SmsReplySensorTrigger"
        assert SmsReplySensorTrigger(**arguments).serialize() == (path, arguments)


class Events:
    """The events of a trigger, as they come."""

    def __init__(self, trigger: SmsReplyTrigger) -> None:
        self._events = trigger.run()
        self._next: asyncio.Task[Any] | None = None

    async def next(self, seconds: float = 30) -> Any:
        if self._next is None:
            self._next = asyncio.create_task(anext(self._events))  # type: ignore[arg-type]
        event = await asyncio.wait_for(asyncio.shield(self._next), seconds)
        self._next = None
        return event.payload

    async def none_comes(self, seconds: float) -> bool:
        try:
            await self.next(seconds)
        except TimeoutError:
            return True
        return False

    async def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)


def nudger(**changes: Any) -> SmsReplyTrigger:
    return SmsReplyTrigger(**{"consumer": "orders", "poke_interval": 1, "repeat_after": 3600, **changes})


class TestTheWatcherS:
    def test_it_nudges_when_there_is_something_and_again_when_there_is_more(self, ledger: Ledger) -> None:
        async def scenario() -> None:
            events = Events(nudger())
            put_replies(ledger, ["1", "2"])
            assert await events.next() == {"consumer": "orders", "unhandled": 2}
            assert await events.none_comes(2.5)
            put_replies(ledger, ["3"])
            assert await events.next() == {"consumer": "orders", "unhandled": 3}
            await events.stop()

        asyncio.run(scenario())

    def test_it_is_quiet_while_somebody_works_on_them_and_nudges_again_when_that_fails(self, ledger: Ledger) -> None:
        put_replies(ledger, ["1", "2"])

        async def scenario() -> None:
            events = Events(nudger())
            assert (await events.next())["unhandled"] == 2
            run = Claims(ledger, Interest("orders"), "task", timedelta(minutes=5))
            run.take(10)
            assert await events.none_comes(2.5)
            run.release()
            assert (await events.next())["unhandled"] == 2
            run.take(10)
            run.handle()
            assert await events.none_comes(2.5)
            await events.stop()

        asyncio.run(scenario())

    def test_a_nudge_that_nobody_heard_is_repeated_at_growing_intervals(self, ledger: Ledger) -> None:
        put_replies(ledger, ["1"])

        async def scenario() -> list[float]:
            loop, at = asyncio.get_running_loop(), []
            events = Events(nudger(repeat_after=1))
            for _ in range(4):
                assert await events.next() == {"consumer": "orders", "unhandled": 1}
                at.append(loop.time())
            await events.stop()
            return at

        at = asyncio.run(scenario())
        gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
        assert gaps[0] < gaps[1] < gaps[2]

    def test_only_what_its_consumer_acts_on(self, ledger: Ledger) -> None:
        async def scenario() -> None:
            events = Events(nudger(pattern="^yes"))
            put_replies(ledger, ["no"])
            assert await events.none_comes(2.5)
            put_replies(ledger, ["yes"])
            assert await events.next() == {"consumer": "orders", "unhandled": 1}
            await events.stop()

        asyncio.run(scenario())

    def test_many_consumers_ask_one_query(self, ledger: Ledger, queries: list[str]) -> None:
        put_replies(ledger, ["1"])

        async def scenario() -> None:
            events = [Events(nudger(consumer=f"consumer-{number}")) for number in range(50)]
            await asyncio.gather(*[each.next() for each in events])
            await asyncio.gather(*[each.stop() for each in events])

        asyncio.run(scenario())
        # The first to come asks for itself, the next question is for all.
        assert len([each for each in queries if "sms_reply" in each]) <= 3

    def test_it_never_gives_up(self, ledger: Ledger, ledger_file: Path, tmp_path: Path) -> None:
        put_replies(ledger, ["1"])
        ledger.close()
        away = tmp_path / "away.db"
        ledger_file.rename(away)

        async def scenario() -> None:
            events = Events(nudger())
            assert await events.none_comes(2.5)
            away.rename(ledger_file)
            assert (await events.next())["unhandled"] == 1
            await events.stop()

        asyncio.run(scenario())

    def test_what_is_stored_of_it_makes_the_same_trigger(self) -> None:
        path, arguments = nudger(since=timedelta(days=1), pattern="yes", campaign="spring").serialize()
        assert path == "airflow_provider_sms.triggers.sms.SmsReplyTrigger"
        assert arguments["since"] == 86_400.0
        assert SmsReplyTrigger(**arguments).serialize() == (path, arguments)

    @pytest.mark.parametrize(("changes", "error"), [({"consumer": " "}, ValueError), ({"pattern": "("}, re.error)])
    def test_a_wrong_argument_shows_in_the_dag_file(self, changes: dict[str, Any], error: type[Exception]) -> None:
        with pytest.raises(error):
            nudger(**changes)

    @pytest.mark.skipif(not WATCHERS, reason="this Airflow has no asset watchers")
    def test_airflow_takes_it_for_a_watcher_and_knows_equal_ones(self) -> None:
        from airflow.sdk import Asset, AssetWatcher

        try:
            from airflow.serialization.encoders import encode_trigger
        except ImportError:  # where it stands has changed with 3.2
            from airflow.serialization.serialized_objects import (  # type: ignore[attr-defined,no-redef]
                _encode_trigger as encode_trigger,
            )

        Asset("sms_replies", watchers=[AssetWatcher(name="replies", trigger=nudger())])
        hashes = {
            base.BaseEventTrigger.hash(stored["classpath"], stored["kwargs"])
            for stored in (encode_trigger(each) for each in (nudger(), nudger(), nudger(since=7 * 86_400)))
        }
        assert len(hashes) == 1


def test_the_module_loads_where_airflow_has_no_watchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(base, "BaseEventTrigger", raising=False)
    spec = importlib.util.find_spec("airflow_provider_sms.triggers.sms")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.SmsReplyTrigger("orders").serialize()[1]["consumer"] == "orders"
