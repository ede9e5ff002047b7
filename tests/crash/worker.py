"""Workers: processes forked from this one, each of which runs one try, and can be killed and stopped from outside.

The process that forks has imported everything, runs one thread, and holds no connection to any database.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_sms import send_patience, sending
from airflow_provider_sms.ledger import database, drafts, plans
from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from tests.crash import sabotage
from tests.crash.steps import Steps
from tests.crash.tries import FAILED, KILLED, RETRY, SUCCEEDED, TEXT, Cut, Ended, FullDisk, Try, own_text

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_LOOK_EVERY = 0.01
LONGEST_TRY = 60.0


class Worker:
    """A process that runs one try.

    :param run_began: when the DAG run began; None for outside one.
    :param log: where its output goes.
    :param gate: it begins when the other end of this pipe is closed; None for at once.
    """

    def __init__(self, attempt: Try, run_began: datetime | None, log: Path, gate: int | None = None) -> None:
        self.attempt = attempt
        self.log = log
        self.stopped = False
        self.ended: Ended | None = None
        self._began = time.monotonic()
        self._told = bytearray()
        self._logged = bytearray()
        self._cut_by: Cut | None = None
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork copies one thread only"
        self._pipe, theirs = os.pipe()
        # By a pipe, which is written to also where the disk is full.
        self._log_pipe, their_log = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _be_the_worker(attempt, run_began, their_log, theirs, gate)
        os.close(theirs)
        os.close(their_log)

    def wait(self, seconds: float = LONGEST_TRY) -> bool:
        """Wait until it has ended or is stopped; tell whether that came in time."""
        until = time.monotonic() + seconds
        while self.ended is None and not self._look():
            left = until - time.monotonic()
            if left <= 0:
                return False
            pipes = [self._pipe, self._log_pipe]
            if select.select(pipes, [], [], min(left, _LOOK_EVERY))[0] and not self._hear():
                time.sleep(0.001)  # its end of the pipe is closed: it is just going
        return True

    def cut(self, cut: Cut) -> None:
        """Wait for a moment, then kill or stop it, if it has not ended by then."""
        self._cut_by = cut
        if not self.wait(max(0.0, cut.after - (time.monotonic() - self._began))):
            os.kill(self.pid, cut.by)

    def go_on(self) -> None:
        """Let it go on after it was stopped."""
        self.stopped = False
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        if self.ended is None:
            os.kill(self.pid, signal.SIGKILL)
            self.stopped = False
            assert self.wait(), "a killed process does not end"

    def _look(self) -> bool:
        if self.stopped:
            return True
        pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        if not pid:
            return False
        if os.WIFSTOPPED(status):
            self.stopped = True
            return True
        while self._hear():
            pass
        with self.log.open("ab") as log:
            log.write(self._logged)
        os.close(self._pipe)
        os.close(self._log_pipe)
        self.ended = self._read()
        return True

    def _hear(self) -> bool:
        heard = False
        for pipe, buffer in ((self._pipe, self._told), (self._log_pipe, self._logged)):
            if select.select([pipe], [], [], 0)[0]:
                told = os.read(pipe, 65536)
                buffer += told
                heard = heard or bool(told)
        return heard

    def _read(self) -> Ended:
        ended = Ended(began=self._began, at=time.monotonic())
        for line in self._told.decode().splitlines():
            word, _, rest = line.partition(" ")
            match word:
                case "step":
                    ended.steps.append(rest)
                case "cut":
                    ended.cut_at = rest
                case "leaving":
                    ended.leaving += 1
                case "left":
                    ended.left += 1
                case "pushed":
                    ended.pushed = json.loads(rest)
                case "outcome":
                    ended.outcome, ended.message, ended.summary, ended.at = json.loads(rest)
        if ended.outcome == KILLED and not ended.cut_at:
            ended.cut_at = "a moment by the clock" if self._cut_by else "nobody knows why"
        return ended


class _TaskInstance:
    """As much of a task instance as the operator touches; tells what is pushed."""

    dag_id = "crash"
    task_id = "send"

    def __init__(self, attempt: Try, steps: Steps, tell: Any) -> None:
        self.run_id = attempt.run_id
        self.map_index = attempt.map_index
        self.try_number = attempt.number
        self._steps = steps
        self._tell = tell

    def xcom_push(self, key: str, value: Any) -> None:
        assert key == "taskId"
        self._steps.reach("before the XCom")
        self._tell("pushed", json.dumps(value if isinstance(value, list) else [value]))
        self._steps.reach("after the XCom")


def _be_the_worker(attempt: Try, run_began: datetime | None, log: int, pipe: int, gate: int | None) -> NoReturn:
    """Run the try, tell how it ended, and end: never returns."""
    try:
        # Nobody shall outlive the harness, stopped as he may be.
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in (1, 2):
            os.dup2(log, number)
        _run(attempt, run_began, pipe, gate)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _run(attempt: Try, run_began: datetime | None, pipe: int, gate: int | None) -> None:
    lock = threading.Lock()

    def tell(word: str, rest: str = "") -> None:
        with lock:
            os.write(pipe, f"{word} {rest}\n".encode())

    def reached(kind: str, count: int) -> None:
        if attempt.lists_steps:
            tell("step", kind)
        if attempt.cut is not None and (attempt.cut.kind, attempt.cut.count) == (kind, count):
            tell("cut", kind)
            os.kill(os.getpid(), attempt.cut.by)
        if attempt.full_disk is not None and (attempt.full_disk.kind, 1) == (kind, count):
            tell("cut", kind)
            _fill_the_disk()

    os.environ.update(attempt.environment)
    steps = Steps(reached, tell)
    steps.watch()
    _hurry(attempt)
    if attempt.full_disk is not None:
        _pause_without_waiting(attempt.full_disk)
    sabotage.apply(attempt.sabotage)
    operator = SmsGroupSendOperator(
        task_id="send",
        **_handed_in(attempt),
        sms_conn_id=attempt.sms_conn_id,
        batch_size=attempt.batch_size,
        max_in_flight=attempt.max_in_flight,
    )
    # As Airflow's own handler does.
    signal.signal(signal.SIGTERM, lambda number, frame: operator.on_kill())
    context: Any = {"ti": _TaskInstance(attempt, steps, tell), "dag_run": SimpleNamespace(run_after=run_began)}
    if gate is not None:
        os.read(gate, 1)
    outcome: tuple[str, str, dict[str, Any] | None]
    try:
        outcome = (SUCCEEDED, "", operator.execute(context))
    except AirflowFailException as error:
        outcome = (FAILED, str(error), None)
    except Exception as error:
        traceback.print_exc()
        outcome = (RETRY, f"{type(error).__name__}: {error}", None)
    steps.reach("after the last step")
    tell("outcome", json.dumps((*outcome, time.monotonic())))


def _handed_in(attempt: Try) -> dict[str, Any]:
    if attempt.has_own_texts:
        return {"messages": [(phone, own_text(phone)) for phone in attempt.phones]}
    return {"phones": list(attempt.phones), "content": TEXT}


def _fill_the_disk() -> None:
    """From now on no file grows, nor is one made anew."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def _pause_without_waiting(disk: FullDisk) -> None:
    """Let the sender's time pass by itself, and the disk have space again when it is time for that."""
    # Python's own choice: a write fails, and does not end the process.
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == disk.pauses:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    defaults = sending.Sender.__init__.__kwdefaults__
    assert {"pause", "clock"} <= defaults.keys()
    defaults.update(pause=pause, clock=lambda: sum(pauses))


def _hurry(attempt: Try) -> None:
    """Look at others' leases more often than a worker in earnest would, and let leases end sooner if told so."""
    changes: list[tuple[Any, str, Any]] = [(send_patience, "LOOK_INTERVAL", 0.05)]
    if attempt.lease is not None:
        changes.append((sending, "LEASE_MARGIN", attempt.lease - attempt.timeout))
        _let_requests_look_shorter(attempt.timeout - attempt.lease / 2)
    if attempt.draft_lease is not None:
        changes += [(each, "DRAFT_LEASE", timedelta(seconds=attempt.draft_lease)) for each in (drafts, plans)]
    if attempt.patience is not None:
        changes.append((database, "BUSY_TIMEOUT", attempt.patience))
    for module, name, value in changes:
        assert hasattr(module, name), f"{module.__name__} has no {name} any more"
        setattr(module, name, value)


def _let_requests_look_shorter(seconds: float) -> None:
    """Let a lease be enough that ends long before the request's deadline, which would stop the request as well."""
    check = Outbox.check

    def shorter(outbox: Outbox, claim: Claim, left: float) -> None:
        check(outbox, claim, left - seconds)

    setattr(Outbox, "check", shorter)  # noqa: B010 - mypy takes no other function for a method
