"""What a send would do, shown and not done: planned as ever, into a ledger that is thrown away.

Joins settings, ledger and planning; knows no Airflow but its settings. The real ledger is read, and not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import insert
from sqlalchemy.engine.url import URL

from airflow_provider_sms import settings
from airflow_provider_sms.gateway import prices, texts, times
from airflow_provider_sms.gateway.categories import Category, read_category
from airflow_provider_sms.gateway.errors import SendTimeError, SmsError
from airflow_provider_sms.gateway.hours import Hours
from airflow_provider_sms.gateway.phones import mask, mask_inside
from airflow_provider_sms.guarding import check_balance, outside
from airflow_provider_sms.guards import OutsideHours
from airflow_provider_sms.ledger import reports, views
from airflow_provider_sms.ledger.campaigns import Campaign
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.reports import Report
from airflow_provider_sms.ledger.schema import BatchState, ledger_table, metadata
from airflow_provider_sms.ledger.texts import carried_texts
from airflow_provider_sms.ledger.views import Part
from airflow_provider_sms.opening import open_to_read
from airflow_provider_sms.orders import Order
from airflow_provider_sms.personal import Portion
from airflow_provider_sms.planning import LIFTABLE, Log, Planner
from airflow_provider_sms.policy import OnExpired, OnInDoubt, Policy
from airflow_provider_sms.sources import Source

SHOWN = 50
_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One item that is left out.

    :param shown: masked.
    """

    position: int
    shown: str
    reason: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be sent.

    :param report: of the plan; `not_sent` is what would go out.
    :param batches: requests that would go out.
    :param text: as it would go out, of personal texts the first; phones in it are masked.
    :param texts: how many personal texts there are; None if there is one text for all.
    :param first: the first phone that would be texted, masked; None if there is none.
    :param when: when it would go out, in words.
    :param left_out: the first of those that are left out.
    :param earlier: what became of the campaign until now, if it has begun.
    :param price: of one point; None if nobody has said it.
    :param balance: points on the account; None if nobody had to know it.
    """

    report: Report
    batches: int
    text: str = field(repr=False)
    texts: int | None
    first: str | None
    send_time: datetime | None
    when: str
    left_out: tuple[LeftOut, ...]
    earlier: Report | None
    price: Decimal | None
    balance: int | None

    @property
    def points(self) -> int:
        """What it would cost."""
        return self.report.points_left

    def summary(self) -> dict[str, Any]:
        """The same shape as that of a send, and more beside it; without a phone or a text."""
        return {
            **self.report.summary(),
            "points": self.points,
            "dryRun": True,
            "phones": self.report.not_sent,
            "batches": self.batches,
            "units": texts.length(self.text),
            "texts": self.texts,
            "first": self.first,
            "sendTime": None if self.send_time is None else _iso(self.send_time),
            "goesOut": self.when,
            "pointPrice": None if self.price is None else prices.shown(self.price),
            "cost": None if self.price is None else prices.cost(self.points, self.price),
            "balance": self.balance,
            "earlier": None if self.earlier is None else self.earlier.summary(),
        }

    def lines(self, most: int = SHOWN) -> Iterator[str]:
        """The same for people.

        :param most: how many of those left out are named.
        """
        report = self.report
        yield "Dry run: nothing is sent."
        yield f"campaign: {report.campaign}"
        if self.earlier is not None:
            yield f"so far:   {self.earlier}; below is what would still go out"
        if self.texts is None:
            yield f"text:     {self.text}"
            yield f"length:   {texts.length(self.text)} characters, {report.segments} segment(s) a phone"
        else:
            yield f"text 1:   {self.text}"
            yield f"texts:    {self.texts} different ones, up to {report.segments} segment(s) a phone"
        yield f"phones:   {report.not_sent} in {self.batches} request(s), first {self.first or '-'}"
        yield f"points:   {self.points}{self._cost()}"
        yield f"send at:  {self.when}"
        if report.guards:
            yield f"guards:   {', '.join(f'{name} {value}' for name, value in report.guards.items())}"
        if self.balance is not None:
            yield f"balance:  {self.balance} points, {self.balance - self.points} after it"
        excluded = sum(report.excluded.values())
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.excluded.items())
        yield f"excluded: {excluded}{f' ({reasons})' if reasons else ''}"
        shown = self.left_out[:most]
        yield from (f"  item {each.position}: {each.shown} ({each.reason})" for each in shown)
        if excluded > len(shown):
            yield f"  … and {excluded - len(shown)} more"

    def _cost(self) -> str:
        if self.price is None:
            return ""
        return f", cost {prices.cost(self.points, self.price)} at {prices.shown(self.price)} a point"


def preview(
    log: Log,
    key: CampaignKey,
    order: Order,
    source: Source,
    policy: Policy,
    *,
    price: Decimal | None = None,
    balance: Callable[[], int] | None = None,
    most: int | None = SHOWN,
    now: Callable[[], datetime] = times.now,
) -> Preview:
    """Plan a campaign without sending or storing anything; what would stop the send stops this.

    :param source: what it is made of.
    :param price: of one point; None for `[sms] point_price`.
    :param balance: asks the account's points; only asked if `min_balance_after` needs it.
    :param most: how many of those left out are named; None for all.
    :raises InputError: something can not be sent.
    :raises LedgerError: the ledger can not be used, or the campaign has begun with another text, category or time.
    """
    price = settings.point_price() if price is None else price
    opened = open_to_read(log)
    with nullcontext() if opened is None else closing(opened):
        rehearsal = _Rehearsal(opened, key, order, source, log, policy, now)
        seen = rehearsal.going_on() or rehearsal.planned_anew(most)
    known = _balance(log, order, seen.report, balance)
    return Preview(
        report=seen.report,
        batches=seen.batches,
        text=mask_inside(seen.text),
        texts=seen.texts,
        first=None if seen.first is None else mask(seen.first),
        send_time=seen.send_time,
        when=_when(seen.send_time, order.guards.hours(seen.category), order.guards.outside_hours, now()),
        left_out=seen.left_out,
        earlier=seen.earlier,
        price=price,
        balance=known,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    report: Report
    batches: int
    text: str = field(repr=False)
    texts: int | None
    send_time: datetime | None
    category: Category | None
    first: str | None = field(default=None, repr=False)
    left_out: tuple[LeftOut, ...] = ()
    earlier: Report | None = None


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    books: Ledger | None
    key: CampaignKey
    order: Order
    source: Source = field(repr=False)
    log: Log
    policy: Policy
    now: Callable[[], datetime]

    def going_on(self) -> _Seen | None:
        """What is left of a campaign that has begun; None if it would be planned anew."""
        if self.books is None:
            return None
        stored = Plans(self.books, own_name()).find(self.key)
        if stored is None or stored.planned_at is None:
            return None
        standing = views.standing(self.books, stored.id)
        if all(self._is_open(part) for part in standing.parts):
            return None
        planner = self._planner(self.books)
        planner.check_terms(stored)
        earlier = reports.report(self.books, stored.id)
        send_time, is_late = stored.send_time, stored.valid_until is not None and stored.valid_until < standing.now
        try:
            times.wire_time(send_time, self.now())
        except SendTimeError:
            send_time, is_late = None, True
        is_over = is_late and self.policy.on_expired is not OnExpired.SEND_NOW
        left = [] if is_over else [part for part in standing.parts if self._is_open(part) or self._is_resent(part)]
        category = read_category(stored.category)
        if left:
            planner.check_points_of(stored)
            self._check_hours(send_time, category)
        text, count = _texts(self.books, stored, {part.state for part in left})
        report = replace(_still(earlier, left), guards=planner.guards_of(stored) if left else earlier.guards)
        batches = sum(part.batches for part in left)
        return _Seen(report, batches, text, count, send_time, category, earlier=earlier)

    def planned_anew(self, most: int | None) -> _Seen:
        """The plan that would be stored."""
        outline = _Outline(most)
        with _scratch() as scratch:
            planner = replace(self._planner(scratch), told=outline.add)
            campaign = planner.plan()
            report = reports.report(scratch, campaign.id)
            text, count = _texts(scratch, campaign, {BatchState.PLANNED})
        return _Seen(
            report,
            report.batches,
            text,
            count,
            self.order.send_time,
            self.order.category,
            outline.first,
            tuple(outline.left_out),
        )

    def _planner(self, ledger: Ledger) -> Planner:
        return Planner(
            ledger,
            self.key,
            self.order,
            self.source.read,
            self.log,
            self.policy,
            self.source.form,
            self.now,
            books=self.books,
        )

    def _is_open(self, part: Part) -> bool:
        if part.state is BatchState.EXPIRED:
            return self.policy.on_expired is OnExpired.SEND_NOW
        is_lifted = part.state is BatchState.REFUSED and part.refusal in LIFTABLE
        return part.state is BatchState.PLANNED or is_lifted

    def _is_resent(self, part: Part) -> bool:
        return part.state is BatchState.IN_DOUBT and self.policy.on_in_doubt is OnInDoubt.RESEND

    def _check_hours(self, send_time: datetime | None, category: Category | None) -> None:
        """See that what is left may go out now, or may wait."""
        guards, now = self.order.guards, self.now()
        hours = guards.hours(category) if send_time is None else None
        if hours is not None and guards.outside_hours is OutsideHours.FAIL and not hours.contain(now):
            raise outside(hours, now)


@contextmanager
def _scratch() -> Iterator[Ledger]:
    """A ledger for one plan: a file for its owner alone, gone with the block."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="airflow-sms-dry-run-"))
        ledger = stack.enter_context(closing(Ledger(URL.create("sqlite", database=str(Path(folder) / "plan.db")))))
        with ledger.writing() as connection:
            metadata.create_all(connection)
            connection.execute(insert(ledger_table).values(id=1, created_at=ledger.now(connection)))
        with ledger.holding():
            yield ledger


class _Outline:
    """Who is the first to be sent to, and the first of those who are left out, whatever order they are planned in.

    :param most: how many of those left out; None for all.
    """

    def __init__(self, most: int | None) -> None:
        self.first: str | None = None
        self._most = most
        self._left_out: list[LeftOut] = []

    @property
    def left_out(self) -> list[LeftOut]:
        """In the order in which they were handed in."""
        return sorted(self._left_out, key=lambda each: each.position)[: self._most]

    def add(self, portion: Portion) -> None:
        """Take the next items."""
        sifted = portion.sifted
        if self.first is None:
            included = (phone for at, phone in enumerate(sifted.phones) if at not in sifted.excluded)
            self.first = next(included, None)
        self._left_out += [
            LeftOut(sifted.positions[at], mask(sifted.phones[at]), reason) for at, reason in sifted.excluded.items()
        ]
        if self._most is not None and len(self._left_out) > _KEPT + self._most:
            self._left_out = self.left_out


def _texts(ledger: Ledger, campaign: Campaign, states: Set[BatchState]) -> tuple[str, int | None]:
    """The first text that batches in these states carry, and how many personal ones there are."""
    if not campaign.is_personal:
        return campaign.content, None
    first, count = carried_texts(ledger, campaign.id, states)
    return first or "", count


def _still(earlier: Report, left: Sequence[Part]) -> Report:
    """What a campaign that has begun would still do."""
    return Report(
        campaign=earlier.campaign,
        task_ids=(),
        accepted=0,
        refused=0,
        refused_batches=0,
        in_doubt=0,
        sending=0,
        excluded=earlier.excluded,
        not_sent=sum(part.phones for part in left),
        expired=0,
        segments=earlier.segments,
        points=0,
        remain_point=None,
        batches=0,
        points_left=sum(part.points for part in left),
        guards=earlier.guards,
        is_personal=earlier.is_personal,
    )


def _balance(log: Log, order: Order, report: Report, ask: Callable[[], int] | None) -> int | None:
    least = order.guards.min_balance_after
    if least is None or ask is None or not report.not_sent:
        return None
    try:
        balance = ask()
    except SmsError as error:
        log.warning("The balance can not be asked, so min_balance_after is not checked: %s", error.what)
        return None
    check_balance(balance, report.points_left, least)
    return balance


def _when(send_time: datetime | None, hours: Hours | None, outside_hours: OutsideHours, now: datetime) -> str:
    if send_time is not None:
        return _iso(send_time)
    if hours is None or hours.contain(now):
        return "at once"
    if outside_hours is OutsideHours.SCHEDULE:
        return f"{_iso(hours.next_send_time(now))}, scheduled: now it is outside the hours {hours}"
    return f"{_iso(hours.next_open(now))}, after waiting: now it is outside the hours {hours}"


def _iso(time: datetime) -> str:
    return time.astimezone(times.BEIJING).isoformat(timespec="seconds")
