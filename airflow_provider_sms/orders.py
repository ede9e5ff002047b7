"""What is to be sent, checked: text, time, numbers, and what its guards make of them. Reads and stores nothing.

Joins gateway and guards into the ledger's terms; knows no Airflow.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from airflow_provider_sms.gateway import texts, times
from airflow_provider_sms.gateway.account import Account, check_batch_size
from airflow_provider_sms.gateway.categories import Category, read_category
from airflow_provider_sms.gateway.errors import SendTimeError
from airflow_provider_sms.gateway.hours import Hours
from airflow_provider_sms.guards import Guards, OptOutWording
from airflow_provider_sms.ledger.campaigns import Terms
from airflow_provider_sms.personal import Form
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.worded import prepare_text

# Of personal texts, some of which may say it themselves.
_WORDED = {OptOutWording.ADD: "added", OptOutWording.REQUIRE: "present"}


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be sent, checked; nothing has been read or stored yet.

    :param text: the text as it goes out; None if each phone has its own.
    :param send_time: aware, or None for at once.
    :param batch_size: phones in one request.
    :param valid_for: how long after the plan, or after `send_time`, texts may still go out.
    :param category: what kind of text it is; phones that have opted out get no marketing.
    :param guards: what keeps it from going out as it is.
    :param opt_out_wording: `added` to the text, or to those that lack it, or `present`; None if that is left alone.
    """

    text: texts.Text | None
    send_time: datetime | None
    batch_size: int
    valid_for: timedelta
    category: Category | None = None
    guards: Guards = field(default_factory=Guards)
    opt_out_wording: str | None = None

    @property
    def terms(self) -> Terms:
        """The same as the ledger keeps it; what personal texts cost is not known before they are read."""
        content, segments = (None, 0) if self.text is None else (self.text.content, self.text.segments)
        category = None if self.category is None else self.category.value
        guards = self.guards.told(self.category)
        if self.opt_out_wording is not None:
            guards["optOutWording"] = self.opt_out_wording
        return Terms(content, segments, self.send_time, self.valid_for, self.batch_size, category, guards)

    def worded(self, form: Form) -> Form:
        """Tell a form of personal texts what to do about one that does not say how to opt out."""
        return replace(form, wording=self.guards.wording(self.category))

    @property
    def hours(self) -> Hours | None:
        """When it may go out; None for any time."""
        return self.guards.hours(self.category)


def make_order(
    account: Account,
    content: str | None,
    send_time: datetime | str | None = None,
    batch_size: int | None = None,
    category: str | None = None,
    *,
    policy: Policy,
    guards: Guards | None = None,
) -> Order:
    """Check the text, the time and the numbers.

    :param account: gives the default signature and batch size.
    :param content: the text; the account's signature is added where it has none. None if each phone has its own.
    :param send_time: aware, or naive or text for Beijing time; None for at once.
    :param batch_size: phones in one request; None for the account's.
    :param category: `marketing` or `notice`; None if it is not said.
    :param policy: says how long texts may still go out.
    :param guards: what keeps it from going out as it is; None for what suits the category.
    :raises InputError: something can not be sent; the message names it and the remedy.
    :raises ValueError: there is no such category.

    Interface document: 1.发送接口, 请求参数.
    """
    kind, guards = read_category(category), guards or Guards()
    wanted = guards.wording(kind)
    if content is None:
        text, worded = None, None if wanted is None else _WORDED[wanted]
    else:
        text, worded = prepare_text(content, account.signature, wanted)
    when = times.read_send_time(send_time)
    hours = guards.hours(kind)
    if when is not None and hours is not None and not hours.contain(when):
        raise SendTimeError(
            f"send_time: {when:%Y-%m-%d %H:%M} Beijing time is outside the sending hours, {hours}; choose a time in "
            "them, or other sending_hours."
        )
    size = account.batch_size if batch_size is None else batch_size
    check_batch_size(size)
    return Order(text, when, size, policy.valid_for, kind, guards, worded)
