"""Every switch of the simulator: name, default, kind of value, help. Flags and pages are made from it.

Frozen: a change makes a new Settings. Knows nothing of what the switches do.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_sms.simulator.values import (
    MONTH_OF_SECONDS,
    SECONDS,
    SHARE,
    Address,
    BadValue,
    Choice,
    Kind,
    Number,
    OrNone,
    Switch,
    Text,
    Whole,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNT = Whole(0, 10**12)


def _setting(default: Any, kind: Kind, meaning: str) -> Any:
    return field(default=default, metadata={"kind": kind, "meaning": meaning})


@dataclass(frozen=True)
class Settings:
    """The switches as they stand. See `meaning` of each for units."""

    balance: int = _setting(10_000, _COUNT, "points that the account has")
    one_per_minute: bool = _setting(True, Switch(), "refuse a phone that was accepted within the last 60 seconds")
    phone_daily_cap: int | None = _setting(None, OrNone(_COUNT), "texts per phone and day (Beijing), none: no cap")
    account_daily_cap: int | None = _setting(
        None, OrNone(_COUNT), "texts of the account per day (Beijing), none: no cap"
    )
    on_phone_refused: str = _setting(
        "refuse_batch",
        Choice(("refuse_batch", "partial")),
        "what one malformed, capped or too soon phone does: refuse all, or accept the others",
    )
    locked: bool = _setting(False, Switch(), "the account is locked")
    ip_barred: bool = _setting(False, Switch(), "the caller's address is barred")
    task_id_style: str = _setting(
        "digits", Choice(("digits", "letters")), "taskIds as in the document, or 32 letters and digits"
    )
    review_delay: float = _setting(0.0, SECONDS, "human review of each batch: delays its receipts")
    latency: float = _setting(0.0, Number(0, 3600, "SECONDS"), "seconds that every answer takes")
    clock_ahead: float = _setting(
        0.0,
        Number(-MONTH_OF_SECONDS, MONTH_OF_SECONDS, "SECONDS"),
        "how far the platform's clock is ahead of this machine's",
    )
    push_url: str | None = _setting(None, OrNone(Address()), "where receipts and replies are pushed, none: nowhere")
    receipt_url: str | None = _setting(None, OrNone(Address()), "where receipts are pushed instead")
    reply_url: str | None = _setting(None, OrNone(Address()), "where replies are pushed instead")
    push_ca: str | None = _setting(None, OrNone(Text("FILE")), "certificates (PEM) to trust for https pushes")
    push_timeout: float = _setting(10.0, Number(0.01, 600, "SECONDS"), "wait for the answer to a push")
    push_workers: int = _setting(4, Whole(1, 64), "pushes under way at once; 1 keeps their order at the receiver")
    push_repeats: int = _setting(
        0, Whole(0, 1000), "repeats of a push that got no 200 (what the real platform does is not known)"
    )
    push_repeat_delay: float = _setting(1.0, SECONDS, "seconds before such a repeat")
    receipt_delay: float = _setting(0.0, SECONDS, "seconds from acceptance to the receipts")
    receipt_order: str = _setting("in_order", Choice(("in_order", "shuffled")), "order of the pushes")
    duplicate_share: float = _setting(0.0, SHARE, "share of receipts that are pushed twice")
    missing_share: float = _setting(0.0, SHARE, "share of phones whose receipt never comes")
    fail_share: float = _setting(0.0, SHARE, "share of phones that the text does not reach")
    success_code: str = _setting("DELIVRD", Text("CODE"), "code of a receipt with status 1")
    failure_code: str = _setting("MK:0001", Text("CODE"), "code of a receipt with status 0")
    masked_mobiles: bool = _setting(False, Switch(), "push mobiles as 1380013****")
    reply_share: float = _setting(0.0, SHARE, "share of reached phones that reply by themselves")
    reply_text: str = _setting("收到", Text(), "what they reply")
    reply_delay: float = _setting(0.0, SECONDS, "seconds from the receipt to such a reply")

    @property
    def address_of_receipts(self) -> str | None:
        return self.receipt_url or self.push_url

    @property
    def address_of_replies(self) -> str | None:
        return self.reply_url or self.push_url

    def changed(self, changes: Mapping[str, object]) -> Settings:
        """A copy with `changes` made; raises BadValue, naming the field, if any of them can not be taken."""
        kinds = setting_kinds()
        for name in changes:
            if name not in kinds:
                raise BadValue(f"there is no setting {name!r}; the settings are {', '.join(kinds)}")
        checked: dict[str, Any] = {name: kinds[name].read(name, value) for name, value in changes.items()}
        return replace(self, **checked)

    def shown(self) -> dict[str, object]:
        """All of it, for a page: what an address carries after its path is hidden, it may be a secret."""
        page: dict[str, object] = asdict(self)
        for name in ("push_url", "receipt_url", "reply_url"):
            page[name] = _without_secrets(page[name])
        return page


def setting_kinds() -> dict[str, Kind]:
    """Name and kind of value of every setting."""
    return {each.name: each.metadata["kind"] for each in fields(Settings)}


def setting_meanings() -> dict[str, str]:
    """Name and help text of every setting."""
    return {each.name: each.metadata["meaning"] for each in fields(Settings)}


def _without_secrets(address: object) -> object:
    if not isinstance(address, str):
        return address
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="***" if parts.query else "", fragment="").geturl()
