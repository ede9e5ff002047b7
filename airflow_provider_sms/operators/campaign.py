"""What the operators share that send a campaign: the send itself, and errors in words.

Airflow's shape around `planning` and `sending`, which are imported when a task runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    BaseOperator,
)

from airflow_provider_sms.rendering import MaskedFields

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sms.hooks.sms import SmsHook
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.keys import CampaignKey, TaskInstanceKey
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.orders import Order
    from airflow_provider_sms.planning import Planner, Try
    from airflow_provider_sms.policy import Policy
    from airflow_provider_sms.sources import Source

TASK_ID_KEY = "taskId"

T = TypeVar("T")


class CampaignOperator(MaskedFields, BaseOperator):
    """An operator that sends a campaign."""

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
        from airflow_provider_sms.send_judging import CampaignError
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

    def _preview(self, hook: SmsHook, key: CampaignKey, source: Source, order: Order, policy: Policy) -> dict[str, Any]:
        """Log what would be sent, and send nothing; its summary."""
        from airflow_provider_sms.dry_run import preview

        seen = preview(self.log, key, order, source, policy, balance=hook.get_balance)
        for line in seen.lines():
            self.log.info("%s", line)
        return seen.summary()

    def _send_planned(
        self, context: Context, hook: SmsHook, planner: Planner, find: Callable[[Planner], Campaign], waited: float
    ) -> tuple[Campaign, Report]:
        """Plan a campaign, or find its plan, and send what is left of it."""
        from airflow_provider_sms import retention
        from airflow_provider_sms.ledger import reports
        from airflow_provider_sms.sending import Sender

        campaign = find(planner)
        self.log.info(
            "Campaign %s: %d phones, segments a text, at most: %d; points at most: %d.",
            campaign.name,
            campaign.phones,
            campaign.segments,
            campaign.points,
        )
        ledger, policy = planner.ledger, planner.policy
        sender = Sender(
            ledger,
            hook.get_conn(),
            campaign,
            policy,
            self.log,
            defer=self._defer_for,
            waited=waited,
            guards=planner.order.guards,
            default_account=hook.default_account,
            observer=hook.observer,
        )
        self._stop = sender.stop
        if self._is_stopped:
            sender.stop()
        report = sender.send(lambda so_far: _push_task_ids(context, so_far))
        self.log.info("Campaign %s: %s.", report.campaign, report)
        if len(report.task_ids) == reports.MOST_TASK_IDS:
            self.log.warning(
                "XCom %s holds the first %d taskIds. Wait for the whole campaign by its name: campaign=%r.",
                TASK_ID_KEY,
                reports.MOST_TASK_IDS,
                report.campaign,
            )
        retention.keep(ledger, self.log)
        return campaign, report

    def _defer_for(self, seconds: float, waited: float) -> None:
        from airflow_provider_sms.triggers.sms import SmsPauseTrigger

        self.defer(trigger=SmsPauseTrigger(time.time() + seconds, waited), method_name="resume")


def _alone(error: Exception) -> Exception:
    """An error without the way that it came: some tracebacks print every local variable, and those hold phones."""
    return error.with_traceback(None)


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
