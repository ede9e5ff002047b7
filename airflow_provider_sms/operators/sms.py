"""Send SMS from a DAG: Airflow's shape around `sending`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    BaseOperator,
)

from airflow_provider_sms.gateway.categories import read_category
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.policy import (
    MAX_WAIT,
    VALID_FOR,
    OnChanged,
    OnExpired,
    OnInDoubt,
    OnPhoneRefused,
    Policy,
)

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_sms.ledger.keys import TaskInstanceKey
    from airflow_provider_sms.ledger.plans import Campaign
    from airflow_provider_sms.ledger.views import Report
    from airflow_provider_sms.planning import Planner, Try
    from airflow_provider_sms.recipients import PhoneFile, PhoneQuery

TASK_ID_KEY = "taskId"


class SmsGroupSendOperator(BaseOperator):
    """
    Send one text to a group of phones, each once, whatever is retried, killed or cleared.

    .. code-block:: python

        send = SmsGroupSendOperator(
            task_id="send",
            phones=["13800130001", "13800130002"],
            content="【云通信】Your report is ready.",
        )
        send.output["taskId"]  # the platform's batch id, or a list of them

    XCom `taskId` holds the platform's batch id (a list of ids if there is more than one request) soon after the
    platform has accepted; the return value is a summary in counts of phones: `campaign, taskIds, accepted,
    refused, inDoubt, excluded, notSent, segments, points, remainPoint`.

    What was planned and sent is in the ledger: a retry or a clear carries on with what is left. To send again on
    purpose, use another `campaign_key` or DAG run.

    :param phones: comma text, a list, an upstream task's output, a `PhoneFile`, a `PhoneQuery` or a path. Duplicates
        and malformed ones are left out and reported. (templated)
    :param content: the text; the connection's signature is added where it has none. (templated)
    :param send_time: when the platform shall send: aware, or naive or text for Beijing time, at least 31 minutes
        away; None for at once. (templated)
    :param sms_conn_id: the connection, of type `sms`. (templated)
    :param batch_size: phones in one request; None for the connection's.
    :param campaign_key: what makes it the same campaign; None for this DAG run's task. (templated)
    :param category: `marketing`, which phones that have opted out do not get, however late they did; or `notice`;
        None if it is not said.
    :param on_in_doubt: what to do about requests that left and were not answered: `fail` for good once the others
        are sent, `wait` for receipts, `assume_sent`, or `resend`, which may text a phone twice.
    :param on_changed: what to do if the text or the time has changed since the campaign began: `fail`, or `resume`
        with the stored ones.
    :param on_phone_refused: what to do if the platform refuses a request because of one phone: `split` it until that
        phone stands alone and is reported, or `fail`.
    :param on_expired: what to do with texts that are too late: `fail`, or `send_now`.
    :param valid_for: how long after the plan, or after `send_time`, texts may still go out.
    :param max_in_flight: requests under way at once, 1 to 32.
    :param max_wait: how long one try waits in all for a refusal to pass, or for receipts; beyond a minute it is
        deferred.
    """

    template_fields: Sequence[str] = ("phones", "content", "send_time", "sms_conn_id", "campaign_key")
    template_fields_renderers = {"content": "text"}  # noqa: RUF012
    ui_color = "#e3f4e8"

    def __init__(
        self,
        *,
        phones: str | Iterable[str | int] | PhoneFile | PhoneQuery | Path | XComArg,
        content: str | XComArg,
        send_time: datetime | str | XComArg | None = None,
        sms_conn_id: str = SmsHook.default_conn_name,
        batch_size: int | None = None,
        campaign_key: str | None = None,
        category: str | None = None,
        on_in_doubt: str = OnInDoubt.FAIL.value,
        on_changed: str = OnChanged.FAIL.value,
        on_phone_refused: str = OnPhoneRefused.SPLIT.value,
        on_expired: str = OnExpired.FAIL.value,
        valid_for: timedelta = VALID_FOR,
        max_in_flight: int = 1,
        max_wait: timedelta = MAX_WAIT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.phones = phones
        self.content = content
        self.send_time = send_time
        self.sms_conn_id = sms_conn_id
        self.batch_size = batch_size
        self.campaign_key = campaign_key
        self.category = category
        self.on_in_doubt = on_in_doubt
        self.on_changed = on_changed
        self.on_phone_refused = on_phone_refused
        self.on_expired = on_expired
        self.valid_for = valid_for
        self.max_in_flight = max_in_flight
        self.max_wait = max_wait
        # A wrong choice shall show when the DAG is read, not when it is to send.
        self._policy()
        read_category(category)
        self._stop: Callable[[], None] | None = None
        self._is_stopped = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Send what is left of the campaign, and return the summary.

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

    def on_kill(self) -> None:
        """Claim nothing more; what is on its way ends within the grace that Airflow gives."""
        self._is_stopped = True
        if self._stop is not None:
            self._stop()

    def _policy(self) -> Policy:
        return Policy(**{each.name: getattr(self, each.name) for each in fields(Policy)})

    def _send(self, context: Context, find: Callable[[Planner], Campaign], *, waited: float) -> dict[str, Any]:
        from airflow_provider_sms.gateway.errors import InputError
        from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError
        from airflow_provider_sms.sending import CampaignError
        from airflow_provider_sms.settings import SettingsError

        try:
            return self._send_or_raise(context, find, waited)
        except LedgerUnreachableError as error:
            raise _alone(error) from None
        except AirflowTaskTimeout:
            # It is no Exception, and ends `dag.test()` of Airflow 2.11 with the task.
            raise AirflowException(
                f"execution_timeout ({self.execution_timeout}) is over: nothing more is sent by this try; the next one "
                "carries on with what is left."
            ) from None
        except InputError as error:
            if error.passes_by_itself:
                raise _alone(error) from None
            raise AirflowFailException(str(error)) from None
        except (LedgerError, SettingsError) as error:
            raise AirflowFailException(str(error)) from None
        except CampaignError as error:
            if error.passes_by_itself:
                raise _alone(error) from None
            raise AirflowFailException(str(error)) from None

    def _send_or_raise(self, context: Context, find: Callable[[Planner], Campaign], waited: float) -> dict[str, Any]:
        from airflow_provider_sms import recipients, retention, settings
        from airflow_provider_sms.ledger.keys import CampaignKey
        from airflow_provider_sms.opening import open_for_campaign
        from airflow_provider_sms.planning import Planner, make_order
        from airflow_provider_sms.sending import Sender

        key = CampaignKey(settings.namespace(), _sender(context), self.campaign_key)
        with closing(open_for_campaign(self.log, key, _try(context))) as ledger:
            hook = SmsHook(self.sms_conn_id)
            policy = self._policy()
            order = make_order(
                hook.account,
                _unwrapped(self.content),
                _unwrapped(self.send_time),
                self.batch_size,
                self.category,
                policy=policy,
            )
            planner = Planner(ledger, key, order, lambda: recipients.stream(_unwrapped(self.phones)), self.log, policy)
            campaign = find(planner)
            self.log.info(
                "Campaign %s: %d phones, segments a text: %d, points at most: %d.",
                campaign.name,
                campaign.phones,
                campaign.segments,
                campaign.phones * campaign.segments,
            )
            sender = Sender(ledger, hook.get_conn(), campaign, policy, self.log, defer=self._defer_for, waited=waited)
            self._stop = sender.stop
            if self._is_stopped:
                sender.stop()
            report = sender.send(lambda so_far: _push_task_ids(context, so_far))
            self.log.info("Campaign %s: %s.", report.campaign, report)
            retention.keep(ledger, self.log)
            return report.summary()

    def _defer_for(self, seconds: float, waited: float) -> None:
        from airflow_provider_sms.triggers.sms import SmsPauseTrigger

        self.defer(trigger=SmsPauseTrigger(time.time() + seconds, waited), method_name="resume")

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render as ever, but show phones in counts, and mask them in texts, wherever Airflow shows fields.

        Both ways into rendering, mapped and not, come through here. A failing template is reported without the
        value, which Airflow itself would log.
        """
        for name, show in _SHOWN.items():
            if name in template_fields:
                failure = self._render_masked(parent, name, show, context, jinja_env, seen_oids)
                if failure is not None:
                    raise AirflowException(f"{name}: the template fails: {failure}")
        others = [name for name in template_fields if name not in _SHOWN]
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)

    def _render_masked(
        self, parent: Any, name: str, show: Callable[[Any], str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> str | None:
        """Render one field; what went wrong is returned, so that no traceback leads through the field's value."""
        from airflow_provider_sms import recipients

        value = getattr(parent, name)
        if isinstance(value, _Masked):
            return None
        try:
            rendered = recipients.rendered(
                value, lambda each: self.render_template(each, context, jinja_env, seen_oids)
            )
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            return f"{type(error).__name__}: {error}"
        setattr(parent, name, _Masked(rendered, show(rendered)))
        return None


class _Masked:
    """A rendered value that shows itself without personal data; Airflow stores what `str` gives."""

    def __init__(self, value: Any, shown: str) -> None:
        self.value = value
        self._shown = shown

    def __str__(self) -> str:
        return self._shown

    __repr__ = __str__


def _alone(error: Exception) -> Exception:
    """An error without the way that it came: some tracebacks print every local variable, and those hold phones."""
    return error.with_traceback(None)


def _unwrapped(field: Any) -> Any:
    return field.value if isinstance(field, _Masked) else field


def _phones_shown(phones: Any) -> str:
    from airflow_provider_sms import recipients

    return recipients.shown(phones)


def _content_shown(content: Any) -> str:
    from airflow_provider_sms.gateway.phones import mask_inside

    return mask_inside(str(content))


_SHOWN: dict[str, Callable[[Any], str]] = {"phones": _phones_shown, "content": _content_shown}


def _sender(context: Context) -> TaskInstanceKey:
    from airflow_provider_sms.ledger.keys import TaskInstanceKey

    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return TaskInstanceKey(ti.dag_id, ti.run_id, ti.task_id, map_index)


def _try(context: Context) -> Try:
    from airflow_provider_sms.planning import Try

    run = context.get("dag_run")
    # Clearing a run gives it a new start; the earliest of its times is the one that counts.
    began = [getattr(run, name, None) for name in ("run_after", "queued_at", "start_date")]
    return Try(context["ti"].try_number or 1, min((time for time in began if time is not None), default=None))


def _push_task_ids(context: Context, report: Report) -> None:
    ids = list(report.task_ids)
    context["ti"].xcom_push(key=TASK_ID_KEY, value=ids if report.batches > 1 else ids[0])
