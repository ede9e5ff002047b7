"""Takes pushes off the event loop and stores them on a thread of its own, as many in one commit as have gathered.

A ledger that hangs keeps this thread waiting and nobody else: what waits is bounded, and so is how long. Knows
asyncio and the inbox; knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Protocol

from airflow_provider_sms.ledger.errors import LedgerDeadlockError, LedgerError, LedgerUnreachableError
from airflow_provider_sms.settings import SettingsError

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.pushes import Heard, Unreadable
    from airflow_provider_sms.receiver.admission import Admission

    Item = Heard | Unreadable

MOST_WAITING = 10_000
MOST_IN_ONE_COMMIT = 1_000
PATIENCE = 5.0
# How soon what has failed is tried again.
_PAUSE = 1.0
_SETTINGS_PAUSE = 15.0
# Without a push for so long it is quiet: time for what the desk has left. Then, how often to look whether there is any.
_QUIET = 0.03
_IDLE = 1.0
_LOOK_AT_LEDGER = 10.0
_SAY_AGAIN = 300.0
# Tried once more at once, if it took no longer than this to fail: a connection that died unnoticed.
_QUICK = 1.0
# How often a commit is repeated that the database has undone so that another one goes on.
_DEADLOCKS = 10

log = logging.getLogger("airflow_provider_sms.receiver")


class Desk(Protocol):
    """What the thread works with: the ledger that is open, and what is done with it beside storing."""

    def store(self, items: Sequence[Item]) -> None: ...
    def check(self) -> None: ...
    def work(self, *, is_quiet: bool) -> bool: ...
    def close(self) -> None: ...


class State(Enum):
    """How a receiver is."""

    STARTING = "starting"
    MISCONFIGURED = "misconfigured"
    CLOSED = "closed"
    AWAY = "away"
    READY = "ready"


class Busy(Exception):
    """It can not be stored now; it may come again."""


class Intake:
    """One event loop's way to the ledger. All of it but the thread's own part belongs to that loop.

    :param read_admission: reads the settings; may block.
    :param open_desk: opens the ledger; may block, may be tried again.
    """

    def __init__(self, read_admission: Callable[[], Admission], open_desk: Callable[[], Desk]) -> None:
        self._read_admission = read_admission
        self._open_desk = open_desk
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self.admission: Admission | None = None
        self._state = State.STARTING
        self._seen_at = self._away_since = time.monotonic()
        self._may_come_back = True
        self._settled = asyncio.Event()
        self._waiting: deque[tuple[Item, asyncio.Future[None]]] = deque()
        self._open_futures: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_waking = False
        self._wake = threading.Event()
        self._is_stopping = False
        self._said: dict[str, float] = {}
        self._desk: Desk | None = None
        self._done = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="sms-receiver", daemon=True)
        self._thread.start()

    @property
    def state(self) -> State:
        """How it is, as far as the thread has said lately."""
        # The thread's last word is old: it hangs.
        if self._state is State.READY and time.monotonic() - self._seen_at > 2 * PATIENCE:
            return State.AWAY
        return self._state

    @property
    def is_well(self) -> bool:
        """Whether pushes are stored, as far as the thread has said lately."""
        return self.state is State.READY

    def serves(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it belongs to this loop of this process."""
        return self._loop is loop and self._pid == os.getpid() and not self._is_stopping

    async def settled(self) -> State:
        """Wait until the settings are read, but not for long.

        :returns: how it is then.
        """
        if not self._settled.is_set():
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._settled.wait()
            except TimeoutError:
                pass
        return self.state

    def put(self, item: Item) -> asyncio.Future[None]:
        """Hand one push over.

        :returns: done when it is stored; fails with `Busy` if that was not to be had in time.
        :raises Busy: too many wait already.
        """
        if self._state is not State.READY or self._is_stopping or len(self._waiting) >= MOST_WAITING:
            self._refuse_if_hopeless()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((item, future))
        self._open_futures.append((self._loop.time() + PATIENCE, future))
        if not self._is_waking:
            # Not before all that this round of the loop brings has gathered.
            self._is_waking = True
            self._loop.call_soon(self._wake_up)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(1.0, self._sweep)
        return future

    def _refuse_if_hopeless(self) -> None:
        """A short absence is waited out; in a long one nobody is kept waiting."""
        is_short = self._may_come_back and time.monotonic() - self._away_since <= PATIENCE
        is_hopeful = self._state in (State.STARTING, State.READY) or (self._state is State.AWAY and is_short)
        if self._is_stopping or not is_hopeful or len(self._waiting) >= MOST_WAITING:
            raise Busy

    async def stop(self, seconds: float = 2 * PATIENCE) -> None:
        """Store what waits, and end the thread; not without a bound."""
        self._is_stopping = True
        self._wake.set()
        await asyncio.wait([self._done], timeout=seconds)

    # On the loop

    def _wake_up(self) -> None:
        self._is_waking = False
        self._wake.set()

    def _sweep(self) -> None:
        """Answer those that have waited too long."""
        now = self._loop.time()
        futures = self._open_futures
        while futures and (futures[0][1].done() or futures[0][0] <= now):
            _, future = futures.popleft()
            if not future.done():
                future.set_exception(Busy())
                future.exception()
        self._sweeper = self._loop.call_later(1.0, self._sweep) if futures else None

    def _answer(self, batch: Sequence[tuple[Item, asyncio.Future[None]]], problem: Exception | None) -> None:
        for _, future in batch:
            if future.done():
                continue
            if problem is None:
                future.set_result(None)
            else:
                future.set_exception(problem)
                # Whoever asked may have left.
                future.exception()
        futures = self._open_futures
        while futures and futures[0][1].done():
            futures.popleft()

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    # On the thread

    def _run(self) -> None:
        try:
            if self._start():
                self._serve()
        except Exception as error:  # noqa: BLE001 - a thread that dies must say so; a traceback might show a push
            log.error(
                "The receiver's thread has failed (%s); pushes are answered 503 until a restart.", type(error).__name__
            )
            self._set(State.AWAY)
        finally:
            self._fail_the_rest()
            if self._desk is not None:
                self._desk.close()
            self._tell(lambda: None if self._done.done() else self._done.set_result(None))

    def _start(self) -> bool:
        """Read the settings, until it can be done.

        :returns: whether there is anything to serve.
        """
        while not self._is_stopping:
            try:
                admission = self._read_admission()
                break
            except SettingsError as error:
                self._say(logging.ERROR, "No push is taken, they are answered 503: %s", error)
            except Exception as error:  # noqa: BLE001 - whatever Airflow raises; its text may hold secrets
                self._say(
                    logging.ERROR,
                    "No push is taken, they are answered 503: Airflow's settings can not be read (%s).",
                    type(error).__name__,
                )
            self._set(State.MISCONFIGURED)
            self._wait(_SETTINGS_PAUSE)
        else:
            return False
        self.admission = admission
        self._tell(self._settled.set)
        if admission.is_closed:
            log.warning(
                "No push is taken, they are answered 403: [sms] push_tokens is not set. `airflow-sms push-url` makes "
                "a token, and says how to set it."
            )
            self._set(State.CLOSED)
            return False
        self._set(State.AWAY if not self._open() else State.READY)
        return True

    def _open(self) -> bool:
        """Open the ledger, or see that it fits again; say in words why not."""
        try:
            if self._desk is None:
                self._desk = self._open_desk()
            self._desk.check()
        except (LedgerError, SettingsError) as error:
            self._may_come_back = isinstance(error, LedgerUnreachableError)
            self._say(logging.ERROR, "Pushes can not be stored, they are answered 503: %s", error)
            return False
        except Exception as error:  # noqa: BLE001 - its text may hold secrets
            self._say(
                logging.ERROR,
                "Pushes can not be stored, they are answered 503: the ledger can not be opened (%s).",
                type(error).__name__,
            )
            return False
        self._may_come_back = True
        if self._said:
            log.info("Pushes are stored again.")
            self._said.clear()
        return True

    def _serve(self) -> None:
        looked_at = time.monotonic()
        has_left = True
        while True:
            if self._state is not State.READY:
                if not self._open():
                    if self._is_stopping:
                        return
                    self._give_up_old()
                    self._wait(_PAUSE)
                    continue
                self._set(State.READY)
            batch = self._take()
            if batch:
                self._flush(batch)
                looked_at = time.monotonic()
            elif self._is_stopping:
                return
            elif self._wake.wait(_QUIET if has_left else _IDLE):
                self._wake.clear()
                continue
            elif time.monotonic() - looked_at >= _LOOK_AT_LEDGER:
                looked_at = time.monotonic()
                if not self._open():
                    self._set(State.AWAY)
                    continue
            if self._state is State.READY and self._desk is not None:
                self._seen_at = time.monotonic()
                has_left = self._desk.work(is_quiet=not batch)

    def _take(self) -> list[tuple[Item, asyncio.Future[None]]]:
        batch: list[tuple[Item, asyncio.Future[None]]] = []
        waiting = self._waiting
        # One by one: the loop goes on appending at the other end.
        while waiting and len(batch) < MOST_IN_ONE_COMMIT:
            batch.append(waiting.popleft())
        return batch

    def _flush(self, batch: Sequence[tuple[Item, asyncio.Future[None]]]) -> None:
        assert self._desk is not None  # noqa: S101 - for the types: it is open
        problem = self._store(self._desk, [item for item, _ in batch])
        if problem is None:
            self._seen_at = time.monotonic()
            self._tell(self._answer, batch, None)
        elif isinstance(problem, LedgerUnreachableError) or len(batch) == 1:
            self._say(logging.ERROR, "Pushes can not be stored, they are answered 503: %s", problem)
            self._tell(self._answer, batch, Busy())
            self._set(State.AWAY)
        else:
            # One of them can not be stored: it must not take the others with it.
            half = len(batch) // 2
            self._flush(batch[:half])
            self._flush(batch[half:])

    def _store(self, desk: Desk, items: Sequence[Item]) -> Exception | None:
        begun = time.monotonic()
        problem: Exception
        for repeats in count():
            try:
                desk.store(items)
            except LedgerDeadlockError as error:
                problem, most, patience = error, _DEADLOCKS, PATIENCE
            except LedgerUnreachableError as error:
                problem, most, patience = error, 1, _QUICK
            except LedgerError as error:
                return error
            except Exception as error:  # noqa: BLE001 - its text may hold what was pushed
                return LedgerError(f"storing fails ({type(error).__name__}).")
            else:
                return None
            if repeats >= most or time.monotonic() - begun > patience:
                break
        return problem

    def _give_up_old(self) -> None:
        """Drop those that were answered 503 long ago."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()

    def _fail_the_rest(self) -> None:
        rest = list(self._waiting)
        self._waiting.clear()
        if rest:
            self._tell(self._answer, rest, Busy())

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_stopping and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)
            if self._is_stopping:
                return
            if time.monotonic() < until:
                # Woken by a push: it waits like the others.
                self._wake.clear()

    def _set(self, state: State) -> None:
        if state is State.AWAY and self._state is not State.AWAY:
            self._away_since = time.monotonic()
        self._state = state
        self._seen_at = time.monotonic()
        self._tell(self._settled.set)

    def _say(self, level: int, text: str, *arguments: object) -> None:
        """Say it, but not every second."""
        said = text % arguments
        now = time.monotonic()
        if now - self._said.get(said, -_SAY_AGAIN) >= _SAY_AGAIN:
            if len(self._said) > 100:
                self._said.clear()
            self._said[said] = now
            log.log(level, text, *arguments)
