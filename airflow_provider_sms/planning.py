"""The plan: cut what is to be sent into batches, store it, or find what an earlier try stored.

Joins gateway and ledger; knows no Airflow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

from airflow_provider_sms.gateway import phones as phone_list
from airflow_provider_sms.gateway import times
from airflow_provider_sms.gateway.categories import Category, read_category
from airflow_provider_sms.gateway.errors import (
    InputError,
    MessagesError,
    NoPhonesError,
    PhonesError,
    RefusedError,
    SendTimeError,
    every_error,
)
from airflow_provider_sms.gateway.phones import Reason
from airflow_provider_sms.guarding import cap_of, check_points, check_points_again, outside
from airflow_provider_sms.guards import OutsideHours
from airflow_provider_sms.ledger import frequency, opt_outs
from airflow_provider_sms.ledger.campaigns import Campaign, Terms
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.drafts import Draft
from airflow_provider_sms.ledger.errors import LedgerLostError, PlanChangedError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.orders import Order
from airflow_provider_sms.personal import Form, Messages, Portion
from airflow_provider_sms.policy import OnChanged, OnExpired, OnInDoubt, Policy

PROGRESS_INTERVAL = 10.0

LIFTABLE = tuple(each.__name__ for each in every_error(RefusedError) if each.can_be_lifted)
"""Refusals that a person may have lifted before the next try: topped up, unlocked, corrected."""

Chunks = Iterable[list[object]]
T = TypeVar("T")


class Lookup(Protocol):
    """Tells which phones of a chunk are to be left out."""

    def among(self, phones: Collection[str], /) -> Set[str]: ...


class Log(Protocol):
    """As much of a logger as is used here: Python's own, or Airflow's."""

    def info(self, message: str, /, *args: Any) -> Any: ...
    def warning(self, message: str, /, *args: Any) -> Any: ...
    def error(self, message: str, /, *args: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Try:
    """Which try of its task this is.

    :param number: 1 for the first.
    :param run_began: when the DAG run began, aware, or None outside one.
    """

    number: int = 1
    run_began: datetime | None = None


def begin(ledger: Ledger, key: CampaignKey, attempt: Try) -> None:
    """Note that a try of a campaign has begun, before anything else can fail.

    :raises LedgerLostError: an earlier try must have noted the same, and has not.
    :raises CampaignPurgedError: the campaign was sent, and its phones were removed.
    """
    plans = Plans(ledger, own_name())
    if plans.find(key) is not None:
        return
    created = plans.created_at()
    if attempt.number > 1 and attempt.run_began is not None and created > attempt.run_began:
        raise LedgerLostError(
            f"The ledger was lost: this is try {attempt.number}, the ledger knows nothing of an earlier one, and it "
            f"was made {created:%Y-%m-%d %H:%M} UTC, after the DAG run began. What the earlier tries sent is not "
            "known, so nothing is sent. Find the old ledger ([sms] sql_alchemy_conn, or AIRFLOW_HOME on a disk that "
            "stays); or look into the platform's console, and start another DAG run to send anew. So, too, if there "
            "was no ledger yet when the earlier tries ran: then they have sent nothing."
        )
    plans.enter(key)


@dataclass(frozen=True, slots=True)
class Planner:
    """Finds or stores the plan of one campaign.

    :param read: reads the phones from the start, in chunks of raw items; with a form, the rows.
    :param form: how each row's text is made; None if the order has the one text of all.
    :param books: the ledger that knows who has opted out and who was texted how often; None for the same one.
    :param told: is told of each portion that is planned, when it is known who is left out.
    :param now: gives the time, aware.
    :param clock: gives seconds, for the pace of the progress lines.
    """

    ledger: Ledger
    key: CampaignKey
    order: Order
    read: Callable[[], Iterable[list[Any]]] = field(repr=False)
    log: Log
    policy: Policy
    form: Form | None = None
    now: Callable[[], datetime] = times.now
    clock: Callable[[], float] = time.monotonic
    books: Ledger | None = None
    told: Callable[[Portion], object] = field(default=lambda _: None, repr=False)

    def plan(self) -> Campaign:
        """Find the plan that an earlier try stored, or make one.

        :returns: the campaign, planned.
        :raises PlanChangedError: the campaign has begun with another text, category or time.
        :raises CampaignPurgedError: it was sent, and its phones were removed.
        :raises InputError: something can not be sent; nothing was.
        :raises LedgerUnreachableError: repeat this.
        """
        plans = Plans(self.ledger, own_name())
        plans.discard_drafts(self.key)
        stored = plans.find(self.key)
        if stored is not None and stored.planned_at is not None and (self._has_begun(stored) or self._is_late(stored)):
            self._carry_on(plans, stored)
            return stored
        try:
            return self._store(plans)
        except NoPhonesError:
            if stored is not None and stored.planned_at is not None:
                self.log.warning(
                    "Campaign %s: an earlier try has planned %d phones and texted none; now none is handed in.",
                    stored.name,
                    stored.phones,
                )
            raise

    def resume(self) -> Campaign:
        """Find the plan that this very try has stored before it was deferred, or an earlier one."""
        plans = Plans(self.ledger, own_name())
        plans.discard_drafts(self.key)
        stored = plans.find(self.key)
        if stored is None or stored.planned_at is None:
            raise LedgerLostError(f"The ledger was lost: campaign {self.key.name!r} was planned, and it is not there.")
        return stored

    def go_on(self) -> Campaign:
        """Find the plan that an earlier try has stored, where this one has nothing to hand in."""
        stored = self.resume()
        self._has_begun(stored)
        if self._is_something_left(stored):
            self.check_points_of(stored)
            self._note_guards(stored)
        return stored

    def _has_begun(self, stored: Campaign) -> bool:
        outbox = Outbox(self.ledger, own_name(), stored)
        too_late = (BatchState.EXPIRED,) if self.policy.on_expired is OnExpired.SEND_NOW else ()
        reopened = outbox.reopen(LIFTABLE, too_late)
        if reopened:
            self.log.info("Batches that are tried again, as nothing of them was sent: %d.", reopened)
        return bool(outbox.states().keys() - {BatchState.PLANNED})

    def _is_late(self, stored: Campaign) -> bool:
        """Whether the time to send at, still the same, has gone stale since the plan: what then, the policy says."""
        if stored.send_time is None or stored.send_time != self.order.send_time:
            return False
        try:
            times.wire_time(stored.send_time, self.now())
        except SendTimeError:
            return not self.order.terms.differences(stored)
        return False

    def _carry_on(self, plans: Plans, stored: Campaign) -> None:
        self.check_terms(stored)
        is_something_left = self._is_something_left(stored)
        if is_something_left:
            self.check_points_of(stored)
        sieve = phone_list.Sieve()
        try:
            with self._handed_in(sieve) as handed_in:
                for _ in handed_in.portions():
                    pass
                if not sieve.included:
                    raise phone_list.none_to_send_to(sieve)
                self._compare(plans, stored, sieve, handed_in)
        except (PhonesError, MessagesError) as error:
            self.log.warning("Campaign %s goes on with its stored phones: %s", stored.name, error)
        # What is sent already was sent under those that are noted.
        if is_something_left:
            self._note_guards(stored)

    def _note_guards(self, stored: Campaign) -> None:
        if (guards := self.guards_of(stored)) != json.loads(stored.guards or "{}"):
            Plans(self.ledger, own_name()).note_guards(stored, guards)

    def _is_something_left(self, stored: Campaign) -> bool:
        states = Outbox(self.ledger, own_name(), stored).states()
        open_ = {BatchState.PLANNED}
        if self.policy.on_in_doubt is OnInDoubt.RESEND:
            # One on its way is in doubt if its process has died.
            open_ |= {BatchState.IN_DOUBT, BatchState.SENDING}
        return bool(states.keys() & open_)

    def guards_of(self, stored: Campaign) -> dict[str, object]:
        """Those that hold a stored plan back now, as JSON data: its category and its texts stay what they are."""
        guards = self.order.guards.told(read_category(stored.category))
        wording = json.loads(stored.guards or "{}").get("optOutWording")
        return guards if wording is None else {**guards, "optOutWording": wording}

    def check_points_of(self, stored: Campaign) -> None:
        """See that a stored plan, of which something is left, costs no more than it now may.

        :raises MaxPointsError: it does.
        """
        check_points_again(stored.points, self.order.guards.max_points)

    def check_terms(self, stored: Campaign) -> None:
        """See that a stored plan is what is to be sent, or may go on although it is not.

        :raises PlanChangedError: neither.
        """
        self._check_changed(stored, self.order.terms.differences(stored))

    def _check_changed(self, stored: Campaign, changed: list[str]) -> None:
        if changed and self.policy.on_changed is OnChanged.FAIL:
            is_worded = self.order.opt_out_wording == "added" and any(each.startswith("content") for each in changed)
            wording = (
                " How to opt out is added to the text now; if that is all, opt_out_wording=None leaves the text as it "
                "was."
            )
            raise PlanChangedError(
                f"Campaign {stored.name!r} has begun with another {' and '.join(changed)}; nothing was sent by this "
                "try. To send what is left as it was planned, set on_changed='resume'; to send the new one to "
                f"everybody, use another campaign_key.{wording if is_worded else ''}"
            )
        if changed:
            self.log.warning("Campaign %s goes on with its stored %s.", stored.name, " and ".join(changed))

    def _compare(self, plans: Plans, stored: Campaign, sieve: phone_list.Sieve, handed_in: HandedIn) -> None:
        """See that what was handed in is what is stored; phones that came or went are reported."""
        if handed_in.fingerprint() == stored.fingerprint:
            return
        if changed := handed_in.changed(self.ledger, stored):
            self._check_changed(stored, [f"content for {changed} of its phones"])
        self._report_changed_phones(plans, stored, sieve)

    def _report_changed_phones(self, plans: Plans, stored: Campaign, sieve: phone_list.Sieve) -> None:
        added, removed = sieve.seen, 0
        for known in plans.phones(stored):
            removed += len(known) - len(added.intersection(known))
            added.difference_update(known)
        if removed:
            self.log.warning(
                "%d of the phones that were planned are no longer handed in; the stored plan goes on with them.",
                removed,
            )
        if added:
            self.log.warning("%d phones were added after the plan had begun: they are left out.", len(added))
            plans.report_added(stored, sorted(added))

    def _store(self, plans: Plans) -> Campaign:
        times.wire_time(self.order.send_time, self.now())
        opens_at = self._opens_at()
        sieve = phone_list.Sieve()
        exclusions = self._exclusions(opens_at)
        with self._handed_in(sieve) as handed_in:
            draft = plans.draft(self.key, replace(handed_in.terms(self.order), opens_at=opens_at))
            campaign: Campaign | None = None
            try:
                for portion in self._storing(handed_in, draft):
                    sifted = portion.sifted
                    for reason, lookup in exclusions:
                        sifted = sieve.leave_out(sifted, lookup.among(sifted.phones), reason)
                    draft.add(sifted.phones, sifted.excluded, portion.texts)
                    self.told(replace(portion, sifted=sifted))
                if not sieve.included:
                    raise phone_list.none_to_send_to(sieve)
                check_points(draft.points, self.order.guards.max_points)
                campaign = plans.complete(draft, handed_in.fingerprint(), sieve.counted())
            except InputError:
                plans.discard(draft)
                raise
            if campaign.id != draft.id:
                # Another try's plan stands: it says the same, or it has begun in the meantime.
                plans.discard(draft)
                self.check_terms(campaign)
                self._compare(plans, campaign, sieve, handed_in)
        plans.discard_drafts(self.key)
        if sieve.counted():
            self.log.warning("phones: left out %s", sieve.explained())
        return campaign

    def _opens_at(self) -> datetime | None:
        """When the sending hours begin, if texts have to wait for them.

        :raises HoursError: they may not.
        """
        now, hours, guards = self.now(), self.order.hours, self.order.guards
        if hours is None or self.order.send_time is not None or hours.contain(now):
            return None
        match guards.outside_hours:
            case OutsideHours.FAIL:
                raise outside(hours, now)
            case OutsideHours.SCHEDULE:
                return hours.next_send_time(now)
        return hours.next_open(now)

    def _exclusions(self, opens_at: datetime | None) -> list[tuple[Reason, Lookup]]:
        """Who is left out beside duplicates and malformed phones, in this order; asked chunk by chunk."""
        books, order = self.books or self.ledger, self.order
        exclusions: list[tuple[Reason, Lookup]] = []
        if order.category is Category.MARKETING:
            exclusions.append((Reason.OPTED_OUT, opt_outs.Lookup(books)))
        if (cap := cap_of(order.guards)) is not None:
            scope = frequency.scope(self.key.namespace, order.category)
            when = order.send_time or opens_at or self.now()
            exclusions.append((Reason.FREQUENCY_CAP, frequency.Lookup(books, scope, cap, when)))
        return exclusions

    @contextmanager
    def _handed_in(self, sieve: phone_list.Sieve) -> Iterator[HandedIn]:
        verb = "Planning" if self.form is None else "Reading"
        chunks: Any = self._progressing(self.read(), verb, lambda: sieve.included)
        if self.form is None:
            yield _OneText(chunks, sieve)
            return
        with closing(Messages(self.order.worded(self.form))) as messages:
            messages.read(chunks, sieve)
            self.log.info("Read: %d phones, different texts: %d.", sieve.included, messages.count)
            yield messages

    def _storing(self, handed_in: HandedIn, draft: Draft) -> Iterator[Portion]:
        portions = handed_in.portions()
        return portions if self.form is None else self._progressing(portions, "Planning", lambda: draft.included)

    def _progressing(self, chunks: Iterable[T], verb: str, count: Callable[[], int]) -> Iterator[T]:
        started = said = self.clock()
        for chunk in chunks:
            yield chunk
            now = self.clock()
            if now - said >= PROGRESS_INTERVAL:
                said = now
                rate = count() / (now - started)
                self.log.info("%s: %d phones so far, %.0f a second.", verb, count(), rate)


class HandedIn(Protocol):
    """What is to be sent to whom, while it is being planned."""

    def terms(self, order: Order) -> Terms:
        """What is to be sent, and how."""
        ...

    def portions(self) -> Iterator[Portion]:
        """Hand out the items, sorted into those to send to and those to leave out; once."""
        ...

    def fingerprint(self) -> str:
        """Tell this from something else to send, whatever its order."""
        ...

    def changed(self, ledger: Ledger, stored: Campaign) -> int:
        """Count the phones that a plan has with another text, of which its terms say nothing."""
        ...


@dataclass(frozen=True, slots=True)
class _OneText:
    """Phones that all get the order's text."""

    chunks: Chunks
    sieve: phone_list.Sieve

    def terms(self, order: Order) -> Terms:
        return order.terms

    def portions(self) -> Iterator[Portion]:
        for chunk in self.chunks:
            yield Portion(self.sieve.sift(chunk))

    def fingerprint(self) -> str:
        return self.sieve.fingerprint()

    def changed(self, ledger: Ledger, stored: Campaign) -> int:
        return 0
