"""Faults on order: what may go wrong, how it is asked for, and whose turn it is.

Knows the kinds and their fields; how one looks on the wire is in `wire.py`. No I/O.
"""

from __future__ import annotations

import codecs
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_sms.simulator import document
from airflow_provider_sms.simulator.values import SECONDS, BadValue, Choice, Kind, OrNone, Switch, Text, Whole

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 64 * 1024 * 1024


class _HeaderText(Text):
    def read(self, name: str, value: object) -> str:
        text = super().read(name, value)
        if not text.isprintable() or not text.isascii():
            raise BadValue(f"{name} must be printable ASCII")
        return text


class _Charset(Text):
    def read(self, name: str, value: object) -> str:
        text = super().read(name, value)
        try:
            "【】".encode(codecs.lookup(text).name, "replace")
        except (LookupError, UnicodeError):
            raise BadValue(f"{name} must be a character set such as gbk, not {text!r}") from None
        return text


_COMMON: Mapping[str, Kind] = {
    "kind": Text(),
    "on": Choice(("send", "balance", "any")),
    "skip": Whole(0, 10**9),
    "times": OrNone(Whole(1, 10**9)),
    "phone": OrNone(Text()),
}
_SPECIAL: Mapping[str, Kind] = {
    "accept": Switch(),
    "message": Text(),
    "seconds": SECONDS,
    "status": Whole(200, 599),
    "location": OrNone(_HeaderText()),
    "fewer": Whole(1, 10**9),
    "cut": Choice(("reset", "close")),
    "missing": Choice(("text", "bytes")),
    "where": Choice(("body", "protocol")),
    "charset": _Charset(),
    "declared": Switch(),
    "size": Whole(1, MOST_BYTES),
}


@dataclass(frozen=True)
class Fault:
    """One order. `accept`: whether the request is carried out all the same; the rest depends on the kind."""

    kind: str
    on: str = "any"
    skip: int = 0
    times: int | None = 1
    phone: str | None = None
    accept: bool = False
    message: str = document.UNKNOWN_REASON
    seconds: float = 0.0
    status: int = 200
    location: str | None = None
    fewer: int = 0
    cut: str = "reset"
    missing: str = "text"
    where: str = "body"
    charset: str = "gbk"
    declared: bool = True
    size: int = MOST_BYTES

    def as_json(self) -> dict[str, object]:
        names = [*_COMMON, *KINDS[self.kind].fields]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class FaultKind:
    """What a kind does, the fields it takes with their defaults, whether it accepts if that is no field."""

    meaning: str
    fields: Mapping[str, object]
    accepts: bool = False


KINDS: Mapping[str, FaultKind] = {
    "refuse": FaultKind("a refusal with this message", {"message": document.BAD_PARAMETER}),
    "unknown_reason": FaultKind("未知原因, whatever became of it", {"accept": False}),
    "cut_before": FaultKind("the connection is cut, nothing accepted", {"cut": "reset"}),
    "cut_after": FaultKind("accepted, then the connection is cut, no answer", {"cut": "reset"}, accepts=True),
    "close_after": FaultKind("answers, promises keep-alive, and closes the connection", {}, accepts=True),
    "slow": FaultKind("the answer comes late", {"seconds": 5.0, "accept": True}),
    "trickle": FaultKind("the answer's body comes a byte at a time", {"seconds": 1.0, "accept": True}),
    "trickle_headers": FaultKind("the answer comes a byte at a time", {"seconds": 1.0, "accept": True}),
    "stall_headers": FaultKind("the answer stops within its headers", {"seconds": 5.0, "accept": True}),
    "status": FaultKind("an HTTP status and an HTML page", {"status": 500, "location": None, "accept": False}),
    "html": FaultKind("an HTML page with status 200", {"accept": False}),
    "empty": FaultKind("status 200 and no body", {"accept": True}),
    "truncated": FaultKind(
        "half an answer: cut text, or fewer bytes than promised", {"missing": "text", "accept": True}
    ),
    "no_task_id": FaultKind("success without a taskId", {"accept": True}),
    "partial": FaultKind("the last phones are left out: successCounts is smaller", {"fewer": 1}, accepts=True),
    "charset": FaultKind("another character set", {"charset": "gbk", "declared": True, "accept": True}),
    "big": FaultKind("an answer that goes on and on", {"size": MOST_BYTES, "accept": True}),
    "garbage": FaultKind("bytes that mean nothing", {"where": "body", "accept": False}),
}


def read_fault(asked: object) -> Fault:
    """A Fault from its JSON; raises BadValue, in one sentence that names the kind or field."""
    if not isinstance(asked, dict):
        raise BadValue('a fault is a JSON object such as {"kind": "cut_after", "on": "send"}')
    kind = asked.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadValue(f"there is no fault kind {kind!r}; the kinds are {', '.join(KINDS)}")
    what = KINDS[kind]
    known = {**_COMMON, **{name: _SPECIAL[name] for name in what.fields}}
    for name in asked:
        if name not in known:
            raise BadValue(f"the fault {kind} has no field {name!r}; its fields are {', '.join(known)}")
    defaults: dict[str, Any] = {"accept": what.accepts, **what.fields}
    given: dict[str, Any] = {name: known[name].read(name, value) for name, value in asked.items()}
    return Fault(**{**defaults, **given})


class Faults:
    """Orders that wait for their request. The first that fits decides; its `skip` lets requests pass."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[Fault] = []

    def order(self, asked: object) -> list[Fault]:
        """Take one order or a list of them; raises BadValue and takes none if one is wrong."""
        faults = [read_fault(each) for each in (asked if isinstance(asked, list) else [asked])]
        with self._lock:
            self._pending.extend(faults)
            return list(self._pending)

    def take(self, interface: str, phones: str) -> Fault | None:
        """The fault that this request must suffer, if any. `phones` is the request's parameter as it came."""
        with self._lock:
            for index, fault in enumerate(self._pending):
                if fault.on not in ("any", interface):
                    continue
                if fault.phone is not None and fault.phone not in phones.split(","):
                    continue
                if fault.skip:
                    self._pending[index] = replace(fault, skip=fault.skip - 1)
                    return None
                if fault.times == 1:
                    del self._pending[index]
                elif fault.times is not None:
                    self._pending[index] = replace(fault, times=fault.times - 1)
                return fault
            return None

    def pending(self) -> list[Fault]:
        with self._lock:
            return list(self._pending)

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()
