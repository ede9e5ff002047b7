"""Campaigns for tests: planned and sent through a ledger, to a platform that answers as it is told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, insert, select, update

from airflow_provider_sms import sources
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.answers import Acceptance
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey, TaskInstanceKey
from airflow_provider_sms.ledger.reports import Report
from airflow_provider_sms.ledger.schema import batch_table, ledger_table, metadata, recipient_table
from airflow_provider_sms.observing import NO_OBSERVER, Observer
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Planner, Try, begin
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.sending import Sender
from airflow_provider_sms.sources import Source

TEXT = "【云通信】您好"
PHONES = [f"1380013{number:04d}" for number in range(1, 11)]
ACCOUNT = Account("FAKE-APP-ID", "FAKE-APP-KEY", batch_size=2)
SENDER = TaskInstanceKey("dag", "run", "send")
# What is tested with them does not hang on the time of the day, or on a changed text.
ANY_TIME = Guards(sending_hours=None, opt_out_wording=None)
NOON = datetime(2030, 1, 31, 4, 0, tzinfo=UTC)


class Platform:
    """Answers each request with the next of a list, then accepts; keeps what it was sent.

    `texts` holds the accepted texts of each phone.
    """

    def __init__(self, *answers: object, account: Account = ACCOUNT) -> None:
        self.account = account
        self.balances: list[int | Exception] = []
        self.asked = 0
        self.answers = list(answers)
        self.requests: list[tuple[str, ...]] = []
        self.texts: dict[str, list[str]] = {}
        self.accepted: list[str] = []
        self.send_times: list[datetime | None] = []
        self._lock = threading.Lock()

    def send(
        self,
        phones: Sequence[str],
        content: str,
        send_time: datetime | None = None,
        *,
        leaving: Callable[[float], None],
    ) -> Acceptance:
        with self._lock:
            answer = self.answers.pop(0) if self.answers else None
            if callable(answer):
                answer = answer(self)
            leaving(self.account.timeout)
            self.requests.append(tuple(phones))
            self.send_times.append(send_time)
            if isinstance(answer, BaseException):
                raise answer
            self.accepted += phones
            for phone in phones:
                self.texts.setdefault(phone, []).append(content)
            number = len(self.requests)
            return answer if isinstance(answer, Acceptance) else Acceptance(f"T{number}", None, 1000 - number)

    def get_balance(self) -> int:
        """The next of `balances`; the last one for ever."""
        self.asked += 1
        balance = self.balances.pop(0) if len(self.balances) > 1 else self.balances[0]
        if isinstance(balance, Exception):
            raise balance
        return balance


class Deferred(BaseException):
    """What a task that leaves its process raises."""

    def __init__(self, seconds: float, waited: float) -> None:
        self.seconds = seconds
        self.waited = waited


def defer(seconds: float, waited: float) -> None:
    raise Deferred(seconds, waited)


@dataclass
class Campaigns:
    """Runs tries of campaigns, one after the other, in one ledger."""

    ledger: Ledger
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("campaigns"))
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    pauses: list[float] = field(default_factory=list)
    observer: Observer = NO_OBSERVER
    time_passes: bool = False

    def pause(self, seconds: float) -> None:
        """Time passes as it is waited for, if `time_passes`."""
        self.pauses.append(seconds)
        if self.time_passes:
            self.now += timedelta(seconds=seconds)

    def run(
        self,
        platform: Platform,
        phones: Sequence[object] = PHONES,
        content: str = TEXT,
        *,
        key: CampaignKey | None = None,
        map_index: int = -1,
        attempt: Try = Try(),  # noqa: B008 - frozen
        send_time: datetime | None = None,
        batch_size: int | None = None,
        category: str | None = None,
        guards: Guards = ANY_TIME,
        defer: Callable[[float, float], None] | None = None,
        waited: float = 0.0,
        on_accepted: Callable[[Report], None] | None = None,
        read: Callable[[], Any] | None = None,
        default_account: Callable[[], str | None] = lambda: None,
        before_sending: Callable[[Sender], None] = lambda sender: None,
        messages: object = None,
        template: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        **choices: Any,
    ) -> Report:
        """One try, from its beginning to its end; of personal texts if there are messages."""
        key = key or CampaignKey("", TaskInstanceKey("dag", "run", "send", map_index))
        policy = Policy(**choices)
        begin(self.ledger, key, attempt)
        source = Source(content, read or (lambda: [list(phones)]))
        if messages is not None:
            source = sources.of_messages(messages, template, platform.account.signature)
        order = make_order(
            platform.account, source.content, send_time, batch_size, category, policy=policy, guards=guards
        )
        planner = Planner(self.ledger, key, order, source.read, self.log, policy, source.form, now=lambda: self.now)
        sender = Sender(
            self.ledger,
            platform,  # type: ignore[arg-type]
            planner.plan(),
            policy,
            self.log,
            pause=self.pause,
            defer=defer,
            waited=waited,
            guards=guards,
            default_account=default_account,
            observer=self.observer,
            now=lambda: self.now,
            clock=clock,
        )
        before_sending(sender)
        return sender.send(on_accepted)

    def batches(self) -> list[Any]:
        """All batches, in order."""
        with self.ledger.reading() as connection:
            return list(connection.execute(select(batch_table).order_by(batch_table.c.id)).all())

    def change_batches(self, *where: Any, **values: Any) -> None:
        """Change batches behind the code's back."""
        with self.ledger.writing() as connection:
            connection.execute(update(batch_table).where(*where).values(**values))

    def reasons(self) -> dict[str, str | None]:
        """Why each phone was left out, or None, by phone."""
        table = recipient_table
        with self.ledger.reading() as connection:
            rows = connection.execute(
                select(table.c.phone, table.c.reason).order_by(table.c.campaign_id, table.c.position)
            )
            return {row.phone: row.reason for row in rows}


class Begun:
    """The campaigns that many tests of a module begin with: run once, and put into each next ledger as they were left.

    To run one takes longer than that. Not for more than a module: what it left is soon too old.
    """

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], list[tuple[Table, list[dict[str, Any]]]]] = {}

    def begin(self, ledger: Ledger, name: str, run: Callable[[], object]) -> None:
        """Run the campaign of that name in an empty ledger, or put there what it has left the first time."""
        key = ledger.kind, name
        if key not in self._left:
            run()
            self._left[key] = _rows(ledger)
            return
        with ledger.writing() as connection:
            for table, rows in self._left[key]:
                connection.execute(insert(table), rows)


def _rows(ledger: Ledger) -> list[tuple[Table, list[dict[str, Any]]]]:
    tables = [table for table in metadata.sorted_tables if table is not ledger_table]
    with ledger.reading() as connection:
        found = [(table, connection.execute(select(table)).mappings().all()) for table in tables]
    return [(table, [dict(row) for row in rows]) for table, rows in found if rows]
