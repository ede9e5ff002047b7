"""What the operators share that send a campaign: fields shown masked, errors in words, the send itself.

Airflow's shape around `planning` and `sending`, which are imported when a task runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    BaseOperator,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sms.hooks.sms import SmsHook
    from airflow_provider_sms.ledger.keys import TaskInstanceKey
    from airflow_provider_sms.ledger.plans import Campaign
    from airflow_provider_sms.ledger.views import Report
    from airflow_provider_sms.planning import Planner, Try

TASK_ID_KEY = "taskId"

T = TypeVar("T")


class CampaignOperator(BaseOperator):
    """An operator that sends a campaign; `shown` says how to show fields that hold personal data."""

    shown: ClassVar[dict[str, Callable[[Any], str]]] = {}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._stop: Callable[[], None] | None = None
        self._is_stopped = False

    def on_kill(self) -> None:
        """Claim nothing more; what is on its way ends within the grace that Airflow gives."""
        self._is_stopped = True
        if self._stop is not None:
            self._stop()

    def _in_words(self, step: Callable[[], T]) -> T:
        """Take a step that may send; what no retry can help ends the task for good.

        :raises AirflowFailException: the message says what to run.
        """
        from airflow_provider_sms.gateway.errors import InputError
        from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError
        from airflow_provider_sms.sending import CampaignError
        from airflow_provider_sms.settings import SettingsError

        try:
            return step()
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

    def _send_planned(
        self, context: Context, hook: SmsHook, planner: Planner, find: Callable[[Planner], Campaign], waited: float
    ) -> tuple[Campaign, Report]:
        """Plan a campaign, or find its plan, and send what is left of it."""
        from airflow_provider_sms import retention
        from airflow_provider_sms.sending import Sender

        campaign = find(planner)
        self.log.info(
            "Campaign %s: %d phones, segments a text: %d, points at most: %d.",
            campaign.name,
            campaign.phones,
            campaign.segments,
            campaign.phones * campaign.segments,
        )
        ledger, policy = planner.ledger, planner.policy
        sender = Sender(ledger, hook.get_conn(), campaign, policy, self.log, defer=self._defer_for, waited=waited)
        self._stop = sender.stop
        if self._is_stopped:
            sender.stop()
        report = sender.send(lambda so_far: _push_task_ids(context, so_far))
        self.log.info("Campaign %s: %s.", report.campaign, report)
        retention.keep(ledger, self.log)
        return campaign, report

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
        for name, show in self.shown.items():
            if name in template_fields:
                failure = self._render_masked(parent, name, show, context, jinja_env, seen_oids)
                if failure is not None:
                    raise AirflowException(f"{name}: the template fails: {failure}")
        others = [name for name in template_fields if name not in self.shown]
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)

    def _render_masked(
        self, parent: Any, name: str, show: Callable[[Any], str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> str | None:
        """Render one field; what went wrong is returned, so that no traceback leads through the field's value."""
        from airflow_provider_sms import recipients

        value = getattr(parent, name)
        if isinstance(value, Masked):
            return None
        try:
            rendered = recipients.rendered(
                value, lambda each: self.render_template(each, context, jinja_env, seen_oids)
            )
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            return f"{type(error).__name__}: {error}"
        setattr(parent, name, Masked(rendered, show(rendered)))
        return None


class Masked:
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


def unwrapped(field: Any) -> Any:
    return field.value if isinstance(field, Masked) else field


def phones_shown(phones: Any) -> str:
    from airflow_provider_sms import recipients

    return recipients.shown(phones)


def text_shown(content: Any) -> str:
    from airflow_provider_sms.gateway.phones import mask_inside

    return mask_inside(str(content))


def sender(context: Context) -> TaskInstanceKey:
    from airflow_provider_sms.ledger.keys import TaskInstanceKey

    ti = context["ti"]
    map_index = -1 if ti.map_index is None else ti.map_index
    return TaskInstanceKey(ti.dag_id, ti.run_id, ti.task_id, map_index)


def which_try(context: Context) -> Try:
    from airflow_provider_sms.planning import Try

    run = context.get("dag_run")
    # Clearing a run gives it a new start; the earliest of its times is the one that counts.
    began = [getattr(run, name, None) for name in ("run_after", "queued_at", "start_date")]
    return Try(context["ti"].try_number or 1, min((time for time in began if time is not None), default=None))


def _push_task_ids(context: Context, report: Report) -> None:
    ids = list(report.task_ids)
    context["ti"].xcom_push(key=TASK_ID_KEY, value=ids if report.batches > 1 else ids[0])
