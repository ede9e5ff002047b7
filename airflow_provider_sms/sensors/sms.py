"""Wait for an account, for receipts or for replies, in a worker or in the triggerer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.sensors.ledger import LedgerSensor, Look

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_sms.waiting import Goal

_REPLIES_NAMED = 100


class SmsBalanceSensor(BaseSensorOperator):
    """
    Wait until the account has enough points; the return value is the balance.

    .. code-block:: python

        SmsBalanceSensor(task_id="enough_points", min_balance=1_000, deferrable=True)

    A wrong key, a locked account or a barred address fails at once. A network fault keeps it waiting, until
    `max_errors` in a row or `timeout`; in mode `reschedule`, where each look is a process of its own, `timeout`
    is the bound.

    :param min_balance: points to wait for. (templated)
    :param sms_conn_id: the connection, of type `sms`. (templated)
    :param max_errors: failures in a row to put up with.
    :param deferrable: wait in the triggerer; all that wait there for one account share one question an interval.
    """

    template_fields: Sequence[str] = ("min_balance", "sms_conn_id")
    ui_color = "#e3f4e8"

    def __init__(
        self,
        *,
        min_balance: int | str | XComArg = 1,
        sms_conn_id: str = SmsHook.default_conn_name,
        max_errors: int = 10,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.min_balance = min_balance
        self.sms_conn_id = sms_conn_id
        self.max_errors = max_errors
        self.deferrable = deferrable
        self._errors = 0

    def execute(self, context: Context) -> Any:
        """Wait as the mode says.

        :returns: the balance in points.
        """
        if not self.deferrable:
            return super().execute(context)
        from airflow_provider_sms.triggers.sms import SmsBalanceTrigger

        self.defer(
            trigger=SmsBalanceTrigger(self.sms_conn_id, self._wanted(), self.poke_interval, self.max_errors),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> int:
        """Take up what the trigger found.

        :param event: the trigger's event.
        :returns: the balance in points.
        """
        from airflow_provider_sms.gateway.errors import UnsentError

        match event:
            case {"status": "enough", "balance": int(balance)}:
                self.log.info("%d points.", balance)
                return balance
            case {"status": "unreachable", "message": str(message)}:
                raise UnsentError(f"Gave up after {event['errors']} failures in a row; the last: {message}")
        raise AirflowFailException(event.get("message", "The trigger ended without a balance."))

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask once.

        Interface document: 3.余额查询接口.
        """
        from airflow_provider_sms.gateway.errors import SmsError

        wanted = self._wanted()
        try:
            balance = SmsHook(self.sms_conn_id).get_balance()
        except AirflowNotFoundException as error:
            raise AirflowFailException(str(error)) from None
        except SmsError as error:
            if not error.passes_by_itself:
                raise AirflowFailException(str(error)) from None
            self._errors += 1
            if self._errors > self.max_errors:
                raise
            self.log.warning("No balance (%d of %d in a row): %s", self._errors, self.max_errors, error)
            return PokeReturnValue(is_done=False)
        self._errors = 0
        self.log.info("%d points, waiting for %d.", balance, wanted)
        return PokeReturnValue(is_done=balance >= wanted, xcom_value=balance)

    def _wanted(self) -> int:
        try:
            return int(str(self.min_balance))
        except ValueError:
            raise AirflowFailException(
                f"min_balance: expected points as a whole number, got {self.min_balance!r}."
            ) from None


class SmsDeliverySensor(LedgerSensor):
    """
    Wait until receipts have come, and return what they say, in counts of phones.

    .. code-block:: python

        SmsDeliverySensor(
            task_id="delivered",
            batch_id=send.output["taskId"],
            min_delivered=0.95,
            deferrable=True,
        )

    Without `min_delivered` and `min_final` it waits until every accepted phone has a final receipt, or `deadline`
    is over, and then succeeds whatever they say. With them it succeeds as soon as there are so many, and fails as
    soon as there can not be any more, or at the deadline.

    The return value is a summary: `campaign` or `batches`, `accepted, delivered, failed, failedByCause, unknown,
    missing, contradicted`. Unknown are accepted phones without a final receipt, missing those without any.

    It fails at its start where no receiver has ever run, and names the command that sets one up. After a dry run it
    succeeds at once: nothing was sent, all counts are 0, and the summary says `dryRun`.

    Interface document: 2.回执/回复推送接口.

    :param batch_id: the platform's taskId (下发批次ID), or a list of them. (templated)
    :param campaign: a campaign's name, key or id, instead; all its batches count, those still to be sent too.
        (templated)
    :param min_delivered: how many phones must have got the text: a number, or a share of those accepted, such as
        0.95. (templated)
    :param min_final: how many must have a final receipt, delivered or failed; likewise. (templated)
    :param deadline: how long after the last acceptance, or after `send_time`, a receipt is waited for.
    :param first_push_within: how long after that the very first push into a new ledger may take.
    :param max_errors: failures in a row to put up with while the ledger is away.
    :param deferrable: wait in the triggerer; all that wait there share one query an interval.
    """

    template_fields: Sequence[str] = (*LedgerSensor.template_fields, "min_delivered", "min_final")

    def __init__(
        self,
        *,
        min_delivered: float | str | XComArg | None = None,
        min_final: float | str | XComArg | None = None,
        deadline: timedelta = timedelta(hours=72),
        first_push_within: timedelta = timedelta(minutes=10),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.min_delivered = min_delivered
        self.min_final = min_final
        self.deadline = deadline
        self.first_push_within = first_push_within

    def _goal(self) -> Goal:
        from airflow_provider_sms.waiting import Goal, Wanted

        return Goal(
            Wanted.read("min_delivered", self.min_delivered),
            Wanted.read("min_final", self.min_final),
        )

    def _look(self) -> Look:
        from airflow_provider_sms import looking
        from airflow_provider_sms.waiting import Verdict, described, summary

        goal = self._goal()
        campaign, taskids = self._wanted()
        look = looking.at_deliveries(
            self.log,
            campaign=campaign,
            taskids=taskids,
            goal=goal,
            deadline=self.deadline,
            first_push=self.first_push_within,
        )
        late = f" The deadline, {self.deadline} after the last text went out, is over." if look.is_late else ""
        self.log.info("%s: %s.%s", look.target.name, described(look.counts), late)
        if look.verdict is Verdict.HOPELESS:
            raise AirflowFailException(f"{look.target.name}: {goal.shortfall(look.counts)}{late}")
        result = self._named(look.target) | summary(look.counts) if look.verdict is Verdict.REACHED else None
        return Look(look.target, result, look.again_in)

    def _after_dry_run(self) -> dict[str, Any]:
        from airflow_provider_sms.waiting import Total, summary

        return {"dryRun": True, **summary(Total())}

    def _trigger(self, look: Look, began: float) -> BaseTrigger:
        from airflow_provider_sms.triggers.sms import SmsDeliveryTrigger

        goal = self._goal()
        return SmsDeliveryTrigger(
            campaign_id=look.target.campaign_id,
            batch_ids=list(look.target.batch_ids),
            min_delivered=goal.delivered.written if goal.delivered else None,
            min_final=goal.final.written if goal.final else None,
            until=time.time() + (look.again_in if look.result is None else 0.0),
            began=began,
            poke_interval=self.poke_interval,
            max_errors=self.max_errors,
        )


class SmsReplySensor(LedgerSensor):
    """
    Wait until a person has answered a campaign, with a text that matches a pattern.

    .. code-block:: python

        SmsReplySensor(task_id="answered", batch_id=send.output["taskId"], pattern=r"^(1|好的)", deferrable=True)

    A reply that came before the sensor counts too. The return value is `campaign` or `batches`, `replies` (how
    many match), `replyIds` (of the first hundred) and `firstPhone`, masked. What they say is personal data and is
    not in it: a task reads it by `SmsHook.claim_replies`. After a dry run it is skipped: nobody can have answered.

    Interface document: 2.回执/回复推送接口.

    :param batch_id: the platform's taskId (下发批次ID), or a list of them. (templated)
    :param campaign: a campaign's name, key or id, instead. (templated)
    :param pattern: a regular expression, searched for in the text as it came and in its usual form, where
        full-width letters are plain ones; None for any reply. (templated)
    :param max_errors: failures in a row to put up with while the ledger is away.
    :param deferrable: wait in the triggerer; all that wait there share one query an interval.
    """

    template_fields: Sequence[str] = (*LedgerSensor.template_fields, "pattern")

    def __init__(self, *, pattern: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pattern = pattern

    def _look(self) -> Look:
        from airflow_provider_sms import looking
        from airflow_provider_sms.gateway.phones import mask

        campaign, taskids = self._wanted()
        look = looking.at_replies(self.log, campaign=campaign, taskids=taskids, pattern=self.pattern)
        self.log.info("%s: replies that match: %d.", look.target.name, len(look.replies))
        if not look.replies:
            return Look(look.target, None)
        found = {
            "replies": len(look.replies),
            "replyIds": [str(reply.id) for reply in look.replies[:_REPLIES_NAMED]],
            "firstPhone": mask(look.replies[0].phone),
        }
        return Look(look.target, self._named(look.target) | found)

    def _after_dry_run(self) -> dict[str, Any]:
        raise AirflowSkipException("Dry run: nothing was sent, so nobody can have answered.")

    def _trigger(self, look: Look, began: float) -> BaseTrigger:
        from airflow_provider_sms.triggers.sms import SmsReplySensorTrigger

        return SmsReplySensorTrigger(
            campaign_id=look.target.campaign_id,
            taskids=list(look.target.taskids),
            pattern=self.pattern,
            began=began,
            poke_interval=self.poke_interval,
            max_errors=self.max_errors,
        )
