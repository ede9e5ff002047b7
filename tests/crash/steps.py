"""The steps of a send at which a process can be cut, found from outside: the production code knows nothing of them.

Watches SQLAlchemy's commits and statements, http.client's bytes, and the few calls in between. Knows the names of
the ledger's files, and nothing of what they do.
"""

from __future__ import annotations

import http.client
import select
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.default import DefaultDialect

from airflow_provider_sms import messages, recipients
from airflow_provider_sms.gateway.client import SmsClient

CHUNK = 7
_LEDGER = "/airflow_provider_sms/ledger/"
_ENGINE = f"{_LEDGER}database.py"


class Steps:
    """Counts the steps of a process, and says of each that it is reached.

    :param reached: called with the step's kind and how often that kind has been reached, from whichever thread; what
        it does there, it does at exactly that step.
    :param tell: called with `leaving` and `left` around the last bytes of each request.
    """

    def __init__(self, reached: Callable[[str, int], None], tell: Callable[[str], None]) -> None:
        self._reached = reached
        self._tell = tell
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def reach(self, kind: str) -> None:
        with self._lock:
            self._counts[kind] += 1
            count = self._counts[kind]
        self._reached(kind, count)

    def watch(self) -> None:
        """Watch this process from now on."""
        self._watch_ledger()
        self._watch_requests()
        self._watch_answers()
        self._watch_recipients()

    def _watch_ledger(self) -> None:
        commit = DefaultDialect.do_commit

        def do_commit(dialect: DefaultDialect, connection: Any) -> None:
            step, reads = _ledger_step()
            if step is None:
                commit(dialect, connection)
            elif reads:
                commit(dialect, connection)
                self.reach(f"after reading: {step}")
            else:
                self.reach(f"before the commit: {step}")
                commit(dialect, connection)
                self.reach(f"after the commit: {step}")

        _put(DefaultDialect, "do_commit", do_commit)

        @event.listens_for(Engine, "after_cursor_execute")
        def executed(connection: Any, *others: object) -> None:
            step, _ = _ledger_step()
            if step is not None and not connection.get_execution_options().get("sms_reading"):
                self.reach(f"within: {step}")

    def _watch_requests(self) -> None:
        send = http.client.HTTPConnection.send

        def watched(connection: http.client.HTTPConnection, data: Any) -> None:
            is_head = data.startswith(b"POST ")
            first = 1 if is_head else max(1, len(data) // 2)
            if is_head:
                self.reach("before the request's first byte")
            send(connection, data[:first])
            self.reach("after the request's first byte" if is_head else "in the request's body")
            if is_head:
                send(connection, data[first:])
                self.reach("after the request's head")
                return
            self._tell("leaving")
            send(connection, data[first:])
            self._tell("left")
            self.reach("after the request")

        _put(http.client.HTTPConnection, "send", watched)

    def _watch_answers(self) -> None:
        getresponse, send = http.client.HTTPConnection.getresponse, SmsClient.send

        def watched(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
            select.select([connection.sock], [], [], 30)
            self.reach("before the answer is read")
            response = getresponse(connection)
            self.reach("after the answer's head")
            return response

        def sent(client: SmsClient, *args: Any, **kwargs: Any) -> Any:
            acceptance = send(client, *args, **kwargs)
            self.reach("after the answer, before the settle")
            return acceptance

        _put(http.client.HTTPConnection, "getresponse", watched)
        _put(SmsClient, "send", sent)

    def _watch_recipients(self) -> None:
        def watched(stream: Callable[..., Iterator[list[Any]]]) -> Callable[..., Iterator[list[Any]]]:
            def in_small_chunks(*args: Any) -> Iterator[list[Any]]:
                for chunk in stream(*args):
                    for start in range(0, len(chunk), CHUNK):
                        self.reach("before a chunk of phones")
                        yield chunk[start : start + CHUNK]

            return in_small_chunks

        for module in (messages, recipients):
            _put(module, "stream", watched(module.stream))


def _put(owner: Any, name: str, value: object) -> None:
    setattr(owner, name, value)


def _ledger_step() -> tuple[str | None, bool]:
    """The ledger's function that is at work, as its callers know it, and whether it only reads."""
    step, reads, frame = None, False, sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file.endswith(_ENGINE):
            reads = reads or code.co_name == "reading"
        elif _LEDGER in file:
            step = code.co_name
        elif step is not None:
            break
        frame = frame.f_back  # type: ignore[assignment]
    return step, reads
