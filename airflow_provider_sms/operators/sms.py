"""Send SMS from a DAG: Airflow's shape around `sending`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_sms.gateway.categories import read_category
from airflow_provider_sms.guards import DEFAULT, PER, Guards, OutsideHours
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.operators.alarm import SmsAlarmFlushOperator
from airflow_provider_sms.operators.approval import SmsApprovalOperator
from airflow_provider_sms.operators.campaign import (
    TASK_ID_KEY,
    CampaignOperator,
    sender,
    which_try,
)
from airflow_provider_sms.policy import (
    MAX_WAIT,
    ONE_OF_THEM,
    VALID_FOR,
    OnChanged,
    OnExpired,
    OnInDoubt,
    OnNoPhones,
    OnPhoneRefused,
    Policy,
    read_choice,
    read_switch,
)
from airflow_provider_sms.rendering import (
    lasting,
    messages_rendered,
    messages_shown,
    phones_shown,
    text_shown,
    unwrapped,
)

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.messages import MessageFile, MessageQuery
    from airflow_provider_sms.orders import Order
    from airflow_provider_sms.planning import Planner
    from airflow_provider_sms.recipients import PhoneSource
    from airflow_provider_sms.sources import Source

__all__ = ["TASK_ID_KEY", "SmsAlarmFlushOperator", "SmsApprovalOperator", "SmsGroupSendOperator"]


class SmsGroupSendOperator(CampaignOperator):
    """
    Send a group one text, or each phone its own: once, whatever is retried, killed or cleared.

    .. code-block:: python

        send = SmsGroupSendOperator(
            task_id="send",
            phones=["13800130001", "13800130002"],
            content="【云通信】Your report is ready.",
        )
        send.output["taskId"]  # the platform's batch id, or a list of them

        bills = SmsGroupSendOperator(
            task_id="bills",
            messages=[{"phone": "13800130001", "name": "王芳", "amount": 120}],
            content="【云通信】{name}您好,本月账单{amount}元。",
        )

    XCom `taskId` holds the platform's batch id (a list of ids if there is more than one request) soon after the
    platform has accepted; the return value is a summary in counts of phones: `campaign, taskIds, accepted,
    refused, inDoubt, excluded, notSent, segments, points, remainPoint`, and `guards`, those that were on.

    What was planned and sent is in the ledger: a retry or a clear carries on with what is left. To send again on
    purpose, use another `campaign_key` or DAG run.

    :param phones: who gets the one text `content`: comma text, a list, an upstream task's output, a `PhoneFile`, a
        `PhoneQuery`, `UnreachedPhones` or a path. Duplicates and malformed ones are left out and reported. (templated)
    :param content: the text; the connection's signature is added where it has none. With `messages`, a text with
        places for their fields, such as `{name}`. (templated)
    :param messages: instead of `phones`: who gets which text. Pairs of phone and text; or rows with fields for
        `content`: a list of dicts, an upstream task's output, a `MessageFile` or a `MessageQuery`. A list's texts are
        templates, its fields are not. (templated)
    :param send_time: when the platform shall send: aware, or naive or text for Beijing time, at least 31 minutes
        away; None for at once. (templated)
    :param sms_conn_id: the connection, of type `sms`. (templated)
    :param batch_size: phones in one request; None for the connection's.
    :param campaign_key: what makes it the same campaign; None for this DAG run's task. (templated)
    :param category: `marketing`, which phones that have opted out do not get, however late they did; or `notice`;
        None if it is not said.
    :param sending_hours: when texts may go out, Beijing time, such as `("08:00", "21:00")`; None for any time. By
        default 08:00 to 21:00 for marketing, any time for others.
    :param outside_hours: what to do outside them: `wait` deferred until they begin, `schedule` by the platform's send
        time, or `fail` before anything is sent. Looked at before every request.
    :param max_per_phone: texts of this category, from all campaigns, that a phone may get in any period `per`; who
        has had as many is left out.
    :param per: that period.
    :param max_points: fail before anything is sent if the plan costs more points.
    :param min_balance_after: fail before anything is sent if fewer points would be left on the account.
    :param opt_out_wording: `add` how to opt out (拒收请回复R) to a text that does not say it, or `require` it; None to
        leave the text alone. By default `add` for marketing, None for others.
    :param dry_run: plan, log what would be sent, and send nothing; `taskId` is not pushed, and the summary says
        `dryRun`. `[sms] dry_run` does so for all of them.
    :param on_in_doubt: what to do about requests that left and were not answered: `fail` for good once the others
        are sent, `wait` for receipts, `assume_sent`, or `resend`, which may text a phone twice.
    :param on_changed: what to do if the text or the time has changed since the campaign began: `fail`, or `resume`
        with the stored ones.
    :param on_phone_refused: what to do if the platform refuses a request because of one phone: `split` it until that
        phone stands alone and is reported, or `fail`.
    :param on_expired: what to do with texts that are too late: `fail`, or `send_now`.
    :param on_no_phones: what to do if there is nobody to send to, as no phone was handed in, or all were left out by
        guards and opt-outs: `fail`, or `skip` this task and what depends on it.
    :param valid_for: how long after the plan, or after `send_time`, texts may still go out.
    :param max_in_flight: requests under way at once, 1 to 32.
    :param max_wait: how long one try waits in all for a refusal to pass, or for receipts; beyond a minute it is
        deferred.
    """

    template_fields: Sequence[str] = ("phones", "content", "messages", "send_time", "sms_conn_id", "campaign_key")
    template_fields_renderers = {"content": "text"}  # noqa: RUF012
    shown = {"phones": phones_shown, "content": text_shown, "messages": messages_shown}  # noqa: RUF012
    rendered = {"messages": messages_rendered}  # noqa: RUF012
    ui_color = "#e3f4e8"

    def __init__(
        self,
        *,
        phones: str | Iterable[str | int] | PhoneSource | Path | XComArg | None = None,
        content: str | XComArg | None = None,
        messages: Iterable[Any] | MessageFile | MessageQuery | Path | XComArg | None = None,
        send_time: datetime | str | XComArg | None = None,
        sms_conn_id: str = SmsHook.default_conn_name,
        batch_size: int | None = None,
        campaign_key: str | None = None,
        category: str | None = None,
        on_in_doubt: str = OnInDoubt.FAIL.value,
        on_changed: str = OnChanged.FAIL.value,
        on_phone_refused: str = OnPhoneRefused.SPLIT.value,
        on_expired: str = OnExpired.FAIL.value,
        on_no_phones: str = OnNoPhones.FAIL.value,
        valid_for: timedelta = VALID_FOR,
        max_in_flight: int = 1,
        max_wait: timedelta = MAX_WAIT,
        sending_hours: tuple[str, str] | str | None = DEFAULT,
        outside_hours: str = OutsideHours.WAIT.value,
        max_per_phone: int | None = None,
        per: timedelta = PER,
        max_points: int | None = None,
        min_balance_after: int | None = None,
        opt_out_wording: str | None = DEFAULT,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.phones = lasting(phones)
        self.content = content
        self.messages = lasting(messages)
        self.send_time = send_time
        self.sms_conn_id = sms_conn_id
        self.batch_size = batch_size
        self.campaign_key = campaign_key
        self.category = category
        self.on_in_doubt = on_in_doubt
        self.on_changed = on_changed
        self.on_phone_refused = on_phone_refused
        self.on_expired = on_expired
        self.on_no_phones = on_no_phones
        self.valid_for = valid_for
        self.max_in_flight = max_in_flight
        self.max_wait = max_wait
        self.sending_hours = sending_hours
        self.outside_hours = outside_hours
        self.max_per_phone = max_per_phone
        self.per = per
        self.max_points = max_points
        self.min_balance_after = min_balance_after
        self.opt_out_wording = opt_out_wording
        # Airflow's own operators have a method `dry_run`.
        self.is_dry_run = read_switch("dry_run", dry_run)
        # A wrong choice shall show when the DAG is read, not when it is to send.
        self._policy()
        self._guards()
        read_choice("on_no_phones", OnNoPhones, on_no_phones)
        read_category(category)
        if (phones is None) == (messages is None):
            raise ValueError(ONE_OF_THEM)
        if messages is None and content is None:
            raise ValueError("content: phones need a text.")

    def execute(self, context: Context) -> dict[str, Any]:
        """Send what is left of the campaign, and return the summary.

        :raises AirflowSkipException: there is nobody to send to, and `on_no_phones` is `skip`.
        :raises AirflowFailException: no retry can help: the input, the account or the ledger needs somebody, or
            phones are in doubt; the message says what to run.
        :raises CampaignError: a retry may help; it carries on with what is left.
        :raises LedgerUnreachableError: the same.
        """
        return self._send(context, lambda planner: planner.plan(), waited=0.0)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Carry on after having been deferred.

        :param event: what `SmsPauseTrigger` says.
        """
        return self._send(context, lambda planner: planner.resume(), waited=event["waited"])

    def _policy(self) -> Policy:
        return Policy(**{each.name: getattr(self, each.name) for each in fields(Policy)})

    def _guards(self) -> Guards:
        return Guards(**{each.name: getattr(self, each.name) for each in fields(Guards)})

    def _source(self, signature: str | None) -> Source:
        from airflow_provider_sms import sources
        from airflow_provider_sms.gateway.errors import InputError

        if self.phones is not None and self.messages is not None:
            raise InputError(ONE_OF_THEM)
        if self.messages is None:
            return sources.of_phones(unwrapped(self.phones), unwrapped(self.content))
        return sources.of_messages(unwrapped(self.messages), unwrapped(self.content), signature)

    def _send(self, context: Context, find: Callable[[Planner], Campaign], *, waited: float) -> dict[str, Any]:
        return self._in_words(lambda: self._unless_nobody(lambda: self._send_or_raise(context, find, waited)))

    def _unless_nobody(self, step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Take a step that may find that there is nobody to send to.

        :raises AirflowSkipException: it has, and `on_no_phones` is `skip`.
        """
        from airflow_provider_sms.gateway.errors import NoPhonesError

        try:
            return step()
        except NoPhonesError as error:
            if self.on_no_phones == OnNoPhones.SKIP:
                raise AirflowSkipException(str(error)) from None
            raise NoPhonesError(f"{error.what} Where that is as it should be, set on_no_phones='skip'.") from None

    def _send_or_raise(self, context: Context, find: Callable[[Planner], Campaign], waited: float) -> dict[str, Any]:
        from airflow_provider_sms import settings
        from airflow_provider_sms.gateway.errors import NoPhonesError
        from airflow_provider_sms.ledger.campaigns import IN_ANOTHER_INSTANCE
        from airflow_provider_sms.ledger.keys import CampaignKey
        from airflow_provider_sms.opening import open_for_campaign
        from airflow_provider_sms.orders import make_order
        from airflow_provider_sms.planning import Planner

        key = CampaignKey(settings.namespace(), sender(context), self.campaign_key)
        hook, policy = SmsHook(self.sms_conn_id), self._policy()

        def made() -> tuple[Source, Order]:
            # Before anything here holds a text: some tracebacks print every local variable.
            account = hook.account
            source = self._source(account.signature)
            order = make_order(
                account,
                source.content,
                unwrapped(self.send_time),
                self.batch_size,
                self.category,
                policy=policy,
                guards=self._guards(),
            )
            return source, order

        if self.is_dry_run or settings.dry_run():
            return self._preview(hook, key, *made(), policy)
        with closing(open_for_campaign(self.log, key, which_try(context))) as ledger:
            source, order = made()
            planner = Planner(ledger, key, order, source.read, self.log, policy, source.form)
            _, report = self._send_planned(context, hook, planner, find, waited)
            # Whom another instance of a mapped task has taken gets the text from that one.
            if not report.phones and IN_ANOTHER_INSTANCE not in report.excluded:
                left_out = ", ".join(f"{count} {reason}" for reason, count in report.excluded.items())
                raise NoPhonesError(f"phones: nobody is left to send to: {left_out}.")
            return report.summary()
