"""Send SMS from a DAG: Airflow's shape around `sending`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, BaseOperator

from airflow_provider_sms.hooks.sms import SmsHook

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_sms.sending import Campaign

TASK_ID_KEY = "taskId"


class SmsGroupSendOperator(BaseOperator):
    """
    Send one text to a group of phones.

    .. code-block:: python

        send = SmsGroupSendOperator(
            task_id="send",
            phones=["13800130001", "13800130002"],
            content="【云通信】Your report is ready.",
        )
        send.output["taskId"]  # the platform's batch id, or a list of them

    XCom `taskId` holds the platform's batch id (a list of ids if more than one request was planned) as soon as
    the platform has accepted; the return value is a summary in counts of phones: `campaign, taskIds, accepted,
    refused, inDoubt, excluded, notSent, segments, points, remainPoint`.

    The task fails in the ordinary way, so that Airflow may retry it, only while it is certain that no phone has
    been texted; afterwards it fails for good.

    :param phones: comma text, a list, or an upstream task's output; at most 100,000 mainland mobiles. Duplicates
        and malformed ones are left out and reported. (templated)
    :param content: the text; the connection's signature is added where it has none. (templated)
    :param send_time: when the platform shall send: aware, or naive or text for Beijing time, at least 31 minutes
        away; None for at once. (templated)
    :param sms_conn_id: the connection, of type `sms`. (templated)
    :param batch_size: phones in one request; None for the connection's.
    """

    template_fields: Sequence[str] = ("phones", "content", "send_time", "sms_conn_id")
    template_fields_renderers = {"content": "text"}  # noqa: RUF012
    ui_color = "#e3f4e8"

    def __init__(
        self,
        *,
        phones: str | Iterable[str | int] | XComArg,
        content: str | XComArg,
        send_time: datetime | str | XComArg | None = None,
        sms_conn_id: str = SmsHook.default_conn_name,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.phones = phones
        self.content = content
        self.send_time = send_time
        self.sms_conn_id = sms_conn_id
        self.batch_size = batch_size

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the batches, one after the other, and return the summary.

        :raises AirflowFailException: the input can not be sent, the platform will not take it however often it is
            tried, or phones may have been texted already.
        :raises CampaignError: nobody was texted, and a retry may fare better.
        """
        from airflow_provider_sms.gateway.errors import InputError
        from airflow_provider_sms.sending import Campaign, CampaignError, make_plan

        hook = SmsHook(self.sms_conn_id)
        try:
            plan = make_plan(
                hook.account,
                _unwrapped(self.phones),
                _unwrapped(self.content),
                _unwrapped(self.send_time),
                self.batch_size,
            )
        except InputError as error:
            raise AirflowFailException(str(error)) from None
        if plan.phones.excluded:
            self.log.warning("phones: left out %s", plan.phones.explained())
        campaign = Campaign(plan, _campaign_name(context), log=self.log)
        self.log.info(
            "Sending: %d phones, batches: %d, segments a text: %d, points at most: %d.",
            len(plan.phones.included),
            len(campaign.batches),
            plan.text.segments,
            plan.points,
        )

        def push_task_ids(task_ids: list[str]) -> None:
            value = task_ids if len(campaign.batches) > 1 else task_ids[0]
            context["ti"].xcom_push(key=TASK_ID_KEY, value=value)

        try:
            report = campaign.send(hook.get_conn(), push_task_ids)
        except CampaignError as error:
            if campaign.may_have_texted or not error.cause.passes_by_itself:
                raise AirflowFailException(str(error)) from None
            raise
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            # Also Airflow's own task time-out, which is no Exception: a retry after it would text people twice.
            if campaign.may_have_texted:
                # Without the cause: its traceback goes through the request, whose variables some logs print.
                raise AirflowFailException(_interrupted(campaign, error)) from None
            raise
        self.log.info("Campaign %s: %s.", report.campaign, report)
        return report.summary()

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
        value = getattr(parent, name)
        if isinstance(value, _Masked):
            return None
        try:
            rendered = self.render_template(value, context, jinja_env, seen_oids)
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


def _unwrapped(field: Any) -> Any:
    return field.value if isinstance(field, _Masked) else field


def _phones_shown(phones: Any) -> str:
    from airflow_provider_sms.gateway.errors import PhonesError
    from airflow_provider_sms.gateway.phones import mask, read

    try:
        included = read(phones).included
    except PhonesError as error:
        return str(error)
    noun = "phone" if len(included) == 1 else "phones"
    return f"{len(included)} {noun}, first {mask(included[0])}"


def _content_shown(content: Any) -> str:
    from airflow_provider_sms.gateway.phones import mask_inside

    return mask_inside(str(content))


_SHOWN: dict[str, Callable[[Any], str]] = {"phones": _phones_shown, "content": _content_shown}


def _campaign_name(context: Context) -> str:
    ti = context["ti"]
    name = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}"
    return name if ti.map_index is None or ti.map_index < 0 else f"{name}/{ti.map_index}"


def _interrupted(campaign: Campaign, error: BaseException) -> str:
    return (
        f"{type(error).__name__} while sending, after phones may have been texted: {campaign.report()}. "
        f"taskIds so far: {', '.join(campaign.task_ids) or 'none'}. This task does not repeat itself; look into the "
        "platform's console before you send again."
    )
