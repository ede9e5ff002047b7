"""The fault tables, of campaigns and of alarms: what can go wrong with a request, and the page that says what then is.

Knows the simulator's faults and the look of the tables; who runs a row is `tests/test_fault_table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_sms.simulator.settings import Settings
from tests.support import fault_table_zh
from tests.support.simulator import REPOSITORY, Simulator

PAGE = REPOSITORY / "docs" / "en" / "explanation" / "reliability.md"
CHINESE_PAGE = REPOSITORY / "docs" / "zh" / "explanation" / "reliability.md"

FIRST_PHONE = "13800130001"

_SHORT, _LONG = 1, 30
_DEAD = "http://127.0.0.1:9"
_SEND = "/smsApi/group"
_SLOW = 3.0


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with the first of two requests, unless it says otherwise.

    :param what: what it is, in the table's words.
    :param kind: the simulator's name for it; empty if the request does not get there.
    :param fields: what the simulator is told beside the kind.
    :param switches: the simulator's settings meanwhile; until the clear.
    :param stays: whether it is there until a person does something before the clear; else it hits one request.
    :param on: which requests it hits: `send` or `balance`.
    :param guards: what the campaign's operator is told beside its defaults.
    :param connection: where the connection leads instead, made for the simulator at hand.
    :param deadline: seconds that a request may take.
    :param pause: seconds between the two requests, where it takes a moment to arrive.
    """

    what: str
    kind: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    switches: Mapping[str, object] = field(default_factory=dict)
    stays: bool = False
    on: str = "send"
    guards: Mapping[str, Any] = field(default_factory=dict)
    connection: Callable[[Simulator], Mapping[str, Any]] | None = None
    deadline: int = _LONG
    pause: float = 0.0

    def begin(self, simulator: Simulator, connection: Callable[..., None]) -> None:
        """Let it go wrong."""
        changes = dict(self.connection(simulator)) if self.connection is not None else {}
        extra = {"timeout": self.deadline, **changes.pop("extra", {})}
        connection(**changes, extra=extra)
        if self.switches:
            simulator.settings(**self.switches)
        if self.kind:
            simulator.fault(self.kind, on=self.on, times=None if self.stays else 1, **self.fields)

    def end(self, simulator: Simulator, connection: Callable[..., None]) -> None:
        """Put it right, as a person does before clearing the task."""
        simulator.clear_faults()
        if self.switches:
            usual = Settings()
            simulator.settings(**{name: getattr(usual, name) for name in self.switches})
        connection(extra={"timeout": _LONG})


@dataclass(frozen=True)
class Row:
    """What became of one fault, as a table has it: after each of three steps, and in texts."""

    fault: str
    first: str
    second: str
    third: str
    most_texts: int

    @property
    def line(self) -> str:
        return _line(self.fault, self.first, self.second, self.third, str(self.most_texts))


@dataclass(frozen=True)
class Table:
    """One of the tables on the page.

    :param name: what the page's comments around it call it.
    """

    name: str
    head: tuple[str, ...]
    chinese_head: tuple[str, ...]

    @property
    def _begin(self) -> str:
        return f"<!-- {self.name}: written by SMS_UPDATE_DOCS=1 pytest tests/test_fault_table.py -->"

    @property
    def _end(self) -> str:
        return f"<!-- end of the {self.name} -->"

    def text(self, rows: Sequence[Row]) -> str:
        """The whole table in Markdown."""
        return "\n".join([_line(*self.head), _line(*("---" for _ in self.head)), *(row.line for row in rows)])

    def chinese(self, rows: Sequence[Row]) -> str:
        """The same in Chinese."""
        head = [_line(*self.chinese_head), _line(*("---" for _ in self.head))]
        return "\n".join([*head, *(fault_table_zh.translated(row.line) for row in rows)])

    def lines_of_page(self, page: Path = PAGE) -> dict[str, str]:
        """Its lines as the page has them, by fault."""
        text = page.read_text(encoding="utf-8").partition(f"{self._begin}\n")[2]
        lines = text.partition(f"\n{self._end}")[0].splitlines()
        return {line.removeprefix("| ").partition(" | ")[0]: line for line in lines[2:]}

    def write_into_pages(self, rows: Sequence[Row]) -> None:
        """Put it into the pages, in place of the one that is there."""
        for page, text in ((PAGE, self.text(rows)), (CHINESE_PAGE, self.chinese(rows))):
            before, begin, rest = page.read_text(encoding="utf-8").partition(f"{self._begin}\n")
            _, end, after = rest.partition(self._end)
            if not begin or not end:
                raise ValueError(f"{page} has no place for it: it needs the lines {self._begin!r} and {self._end!r}")
            page.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")


CAMPAIGNS = Table(
    "fault table", ("fault", "first try", "retry", "clear", "texts per phone (most)"), fault_table_zh.CAMPAIGNS_HEAD
)
ALARMS = Table(
    "alarm fault table",
    ("fault", "callback", "the same again", "flush", "texts per phone (most)"),
    fault_table_zh.ALARMS_HEAD,
)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _taken_or_not(what: str, kind: str, *, deadline: int = _LONG, **fields: object) -> Iterator[Fault]:
    """The same answer to a request that the platform took, and to one that it did not."""
    for taken in (True, False):
        words = f"{what}; the request was {'taken' if taken else 'not taken'}"
        yield Fault(words, kind, {"accept": taken, **fields}, deadline=deadline)


def _out_of_reach() -> Iterator[Fault]:
    yield Fault("Nobody listens at the platform's address", stays=True, connection=lambda _: {"host": _DEAD})
    yield Fault("The proxy is dead", stays=True, connection=lambda _: {"extra": {"proxy": _DEAD}})
    yield Fault(
        "The proxy refuses to pass on",
        stays=True,
        connection=lambda simulator: {
            "host": _DEAD.replace("http:", "https:"),
            "extra": {"proxy": simulator.base_url},
        },
    )
    yield Fault(
        "The TLS handshake fails",
        stays=True,
        connection=lambda simulator: {"host": simulator.base_url.replace("http:", "https:")},
    )


def _no_answer() -> Iterator[Fault]:
    for cut, how in (("reset", "reset"), ("close", "closed")):
        yield Fault(f"The connection is {how} before the platform takes the request", "cut_before", {"cut": cut})
        yield Fault(f"The connection is {how} after the platform took the request", "cut_after", {"cut": cut})
    yield from _taken_or_not("The answer comes after the deadline", "slow", seconds=_SLOW, deadline=_SHORT)
    yield from _taken_or_not("The answer stops within its headers", "stall_headers", seconds=_SLOW, deadline=_SHORT)
    yield from _taken_or_not(
        "The answer's headers come a byte at a time", "trickle_headers", seconds=0.3, deadline=_SHORT
    )
    yield from _taken_or_not("The answer's body comes a byte at a time", "trickle", seconds=0.3, deadline=_SHORT)


def _not_the_platform_s_answer() -> Iterator[Fault]:
    for status in (408, 418, 500, 502, 503, 504):
        yield from _taken_or_not(f"HTTP {status}", "status", status=status)
    yield from _taken_or_not("HTTP 204, no content", "status", status=204)
    yield from _taken_or_not("An HTML page with status 200", "html")
    yield from _taken_or_not("An empty answer", "empty")
    yield from _taken_or_not("Half an answer", "truncated", missing="text")
    yield from _taken_or_not("Fewer bytes than promised", "truncated", missing="bytes")
    yield from _taken_or_not("Bytes that mean nothing in the answer", "garbage", where="body")
    yield from _taken_or_not("Bytes that are not HTTP", "garbage", where="protocol")
    yield from _taken_or_not("An answer that goes on and on", "big", size=3_000_000)
    yield from _taken_or_not("Success without a taskId", "no_task_id")
    yield from _taken_or_not("未知原因,请联系客服", "unknown_reason")
    yield Fault("未知原因,请联系客服, in GBK; the request was not taken", "charset", {"accept": False})


def _refusals() -> Iterator[Fault]:
    for status in (301, 302, 303, 307, 308):
        yield Fault(f"HTTP {status} to the same address", "status", {"status": status, "location": _SEND})
    for status in (401, 403, 404, 405, 407, 413, 429):
        yield Fault(f"HTTP {status}", "status", {"status": status})
    for message in (
        "账号或密码错误",
        "缺少参数",
        "参数错误",
        "模板不存在或者未通过",
        "模板id格式不正确",
        "您的账户已被锁定,请联系您的专属客服",
        "余额不足",
        "IP受限",
        "当日发送量已超出最大发送限制",
        "相同手机号码一分钟之内只可发送一次",
    ):
        yield Fault(message, "refuse", {"message": message})
    yield Fault("余额不足 for the second request, until it is topped up", switches={"balance": 2})
    yield Fault(
        "当日发送量已超出最大发送限制 for the second request, until it is lifted", switches={"account_daily_cap": 2}
    )
    for message in ("手机号码格式不正确", "该号码今日发送次数已达上限"):
        yield Fault(
            f"{message}, because of one phone", "refuse", {"message": message, "phone": FIRST_PHONE}, stays=True
        )
    yield Fault("A refusal that the interface document does not list", "refuse", {"message": "通道维护中"})


def _accepted_all_the_same() -> Iterator[Fault]:
    yield Fault("The platform counts one phone less than it was sent", "partial", {"fewer": 1})
    yield Fault("An answer in GBK that says so", "charset", {"accept": True})
    yield Fault("An answer in GBK that does not say so", "charset", {"accept": True, "declared": False})
    yield Fault("The platform closes a connection that it promised to keep", "close_after", pause=0.2)
    yield Fault("The answer is slow, and comes before the deadline", "slow", {"seconds": 0.2})


def _guarded() -> Iterator[Fault]:
    yield Fault(
        "HTTP 500 to the question for the balance, which `min_balance_after` asks, until it is answered",
        "status",
        {"status": 500},
        stays=True,
        on="balance",
        guards={"min_balance_after": 1},
    )


FAULTS: tuple[Fault, ...] = (
    *_out_of_reach(),
    *_no_answer(),
    *_not_the_platform_s_answer(),
    *_refusals(),
    *_accepted_all_the_same(),
    *_guarded(),
)
_OF_ALARMS = (
    *("Nobody listens at the platform's address", "The proxy is dead"),
    *(f"The connection is {how}" for how in ("reset before", "reset after", "closed before", "closed after")),
    *(
        "The answer comes after the deadline",
        "HTTP 408",
        "HTTP 500",
        "HTTP 502",
        "HTTP 503",
        "HTTP 504",
        "An HTML page",
    ),
    *("An empty answer", "Success without a taskId", "未知原因", "HTTP 403", "HTTP 429", "账号或密码错误"),
    *("您的账户已被锁定", "余额不足", "IP受限", "当日发送量已超出最大发送限制", "相同手机号码一分钟之内只可发送一次"),
    *(
        "手机号码格式不正确",
        "该号码今日发送次数已达上限",
        "A refusal that",
        "The platform counts",
        "The answer is slow",
    ),
)
ALARM_FAULTS = tuple(
    fault
    for fault in FAULTS
    # An alarm is one request.
    if fault.what.startswith(_OF_ALARMS) and "second request" not in fault.what and not fault.guards
)
