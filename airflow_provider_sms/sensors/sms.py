"""Wait for an account, in a worker or in the triggerer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_sms.hooks.sms import SmsHook

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg


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
