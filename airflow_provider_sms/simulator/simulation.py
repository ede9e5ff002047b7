"""The whole platform put together: rules, faults, pushes, the record of requests. Knows no HTTP server."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_sms.simulator import document
from airflow_provider_sms.simulator.document import Answer, refusal
from airflow_provider_sms.simulator.faults import Fault, Faults
from airflow_provider_sms.simulator.platform import Account, Batch, Clock, Decision, Platform, TaskIds
from airflow_provider_sms.simulator.pushes import Pushes
from airflow_provider_sms.simulator.record import Record, Tally
from airflow_provider_sms.simulator.values import BadValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_sms.simulator.settings import Settings

SEND = "send"
BALANCE = "balance"
INTERFACES: Mapping[str, str] = {document.SEND_PATH: SEND, document.BALANCE_PATH: BALANCE}


@dataclass(frozen=True)
class Handled:
    """What is to be answered, what was accepted, how the answer is to be spoiled, and where all that is noted."""

    answer: Answer
    batch: Batch | None
    fault: Fault | None
    tally: Tally


class Simulation:
    """One account's platform, from the first request to the last push."""

    def __init__(self, account: Account, settings: Settings, seed: str | None = None, clock: Clock = time.time) -> None:
        self._start_settings = settings
        self._resetting = threading.Lock()
        self.faults = Faults()
        self.record = Record()
        self.platform = Platform(account, settings, clock, TaskIds(seed, clock))
        self.pushes = Pushes(self.platform.switches, self.platform.now, seed or os.urandom(8).hex())

    @contextmanager
    def handling(self, interface: str, parameters: Mapping[str, str]) -> Iterator[Handled]:
        """Carry out a request, as far as no fault stands against it; it is under way until its answer is noted."""
        # All of a request is before a reset or after it: what was accepted, what will be pushed, what is noted.
        with ExitStack() as until_noted:
            with self._resetting:
                handled = self._handle(interface, parameters)
                until_noted.enter_context(handled.tally.in_flight())
            yield handled

    def _handle(self, interface: str, parameters: Mapping[str, str]) -> Handled:
        fault = self.faults.take(interface, parameters.get("phone", ""))
        if fault is None:
            decision = self._decide(interface, parameters, 0)
        elif fault.accept:
            decision = self._decide(interface, parameters, fault.fewer)
        else:
            decision = Decision(refusal(fault.message))
        answer = decision.answer if fault is None else _spoiled(decision.answer, fault)
        return Handled(answer, decision.batch, fault, self.record.tally)

    def _decide(self, interface: str, parameters: Mapping[str, str], leave_out: int) -> Decision:
        if interface == BALANCE:
            return self.platform.balance(parameters)
        decision = self.platform.send(parameters, leave_out)
        if decision.batch is not None:
            self.pushes.batch_accepted(decision.batch, self.platform.switches())
        return decision

    def change(self, changes: Mapping[str, object]) -> Settings:
        """Change switches; raises BadValue."""
        settings = self.platform.change(changes)
        self.pushes.settings_changed()
        return settings

    def reply(self, mobile: str, content: str, task_id: str | None) -> None:
        """A person answers a text; raises BadValue if it is not known which, or nobody would hear."""
        if self.platform.switches().address_of_replies is None:
            raise BadValue("there is nowhere to push a reply to: set push_url or reply_url first")
        if task_id is None:
            batch = self.platform.last_batch_of(mobile)
            if batch is None:
                raise BadValue("no accepted batch holds this mobile: give the taskid that it replies to")
            task_id = batch.task_id
        self.pushes.reply(mobile, task_id, content)

    def reset(self) -> None:
        """As after the start, except that taskIds go on: they stay unique."""
        with self._resetting:
            self.faults.clear()
            self.platform.reset(self._start_settings)
            self.pushes.reset()
            self.record.reset()


def _spoiled(answer: Answer, fault: Fault) -> Answer:
    if fault.kind == "unknown_reason":
        return refusal(document.UNKNOWN_REASON)
    if fault.kind == "no_task_id":
        # Without `accept` there is no success to strip, so it is made up.
        if answer.task_id is None and not fault.accept:
            return Answer(document.ACCEPTED_STATUS, document.SUCCESS)
        return replace(answer, task_id=None)
    return answer
