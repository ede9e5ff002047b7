"""What the sensors that wait for the ledger share: poke, reschedule and deferrable, and what ends them in words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    XComNotFound,
    conf,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_sms.ledger.targets import Target

# How long a worker waits at most until it looks again, where a trigger could not do it.
_IN_PLACE = 5.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a look has found.

    :param result: the return value; None: it is not over.
    :param again_in: seconds until something is decided by time alone.
    """

    target: Target
    result: dict[str, Any] | None
    again_in: float = 0.0


class LedgerSensor(BaseSensorOperator):
    """Wait for what is pushed about a campaign or about batches; a subclass says what for."""

    template_fields: Sequence[str] = ("batch_id", "campaign")
    ui_color = "#e3f4e8"

    def __init__(
        self,
        *,
        batch_id: str | int | Sequence[str | int] | XComArg | None = None,
        campaign: str | XComArg | None = None,
        max_errors: int = 10,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_id = batch_id
        self.campaign = campaign
        self.max_errors = max_errors
        self.deferrable = deferrable
        self._errors = 0
        self._was_dry_run = False

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render as ever; the taskId of a send that was a dry run is not there, and is no error."""
        others = [name for name in template_fields if name != "batch_id"]
        if len(others) < len(list(template_fields)):
            handed_in = parent.batch_id
            try:
                super()._do_render_template_fields(parent, ["batch_id"], context, jinja_env, seen_oids)
            except XComNotFound:
                if not self._is_from_dry_run(handed_in, context):
                    raise
                parent.batch_id, parent._was_dry_run = None, True
            else:
                # A mapped send's instances leave a list, even if none of them has left anything.
                if not parent.batch_id and self._is_from_dry_run(handed_in, context):
                    parent.batch_id, parent._was_dry_run = None, True
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> Any:
        """Wait as the mode says.

        :returns: the summary.
        :raises AirflowFailException: it can not be waited for, or too few have come; the message says which.
        :raises AirflowSkipException: nothing was sent, as that was a dry run, and nobody can have answered.
        """
        if self._is_after_dry_run():
            self.log.info("Dry run: nothing was sent, so there is nothing to wait for.")
            return self._after_dry_run()
        if not self.deferrable:
            return super().execute(context)
        try:
            look = self._look_patiently()
        except AirflowFailException as error:
            if self.soft_fail:
                raise AirflowSkipException(str(error)) from None
            raise
        self._defer(look, time.time())

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Look at what the trigger has woken this task for, and wait on if it is not over.

        :param event: the trigger's event.
        :returns: the summary.
        """
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError

        match event:
            case {"status": "look", "began": began}:
                look = self._look_patiently()
                if look.result is not None:
                    return look.result
                self._defer(look, began)
            case {"status": "unreachable", "message": str(message)}:
                raise LedgerUnreachableError(f"Gave up after {event['errors']} failures in a row; the last: {message}")
        raise AirflowFailException(event.get("message", "The trigger ended without a word."))

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError

        try:
            look = self._look_or_fail()
        except LedgerUnreachableError as error:
            self._errors += 1
            if self._errors > self.max_errors:
                raise
            self.log.warning("The ledger says nothing (%d of %d in a row): %s", self._errors, self.max_errors, error)
            return PokeReturnValue(is_done=False)
        self._errors = 0
        return PokeReturnValue(is_done=look.result is not None, xcom_value=look.result)

    def _look_patiently(self) -> Look:
        """Look, and again where the ledger is away for a moment: nothing that a trigger has found is lost by that."""
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError

        for number in range(1, self.max_errors + 1):
            try:
                return self._look_or_fail()
            except LedgerUnreachableError as error:
                self.log.warning("The ledger says nothing (%d of %d in a row): %s", number, self.max_errors, error)
                time.sleep(min(self.poke_interval, _IN_PLACE))
        return self._look_or_fail()

    def _defer(self, look: Look, began: float) -> NoReturn:
        # The timeout is for all of the waiting, however often a worker has looked in between.
        left = self.timeout - (time.time() - began)
        if left <= 0:
            raise AirflowSensorTimeout(f"Sensor has timed out after {self.timeout} seconds.")
        self.defer(trigger=self._trigger(look, began), method_name="execute_complete", timeout=timedelta(seconds=left))
        raise AssertionError  # deferring raises

    def _look_or_fail(self) -> Look:
        """Look, and fail for good where neither time nor a retry can help.

        :raises LedgerUnreachableError: they can.
        """
        from airflow_provider_sms.gateway.errors import InputError
        from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError
        from airflow_provider_sms.settings import SettingsError

        try:
            return self._look()
        except LedgerUnreachableError:
            raise
        except (InputError, LedgerError, SettingsError) as error:
            raise AirflowFailException(str(error)) from None

    def _wanted(self) -> tuple[str | None, tuple[str, ...]]:
        """The campaign, or the taskIds."""
        from airflow_provider_sms.gateway.errors import InputError
        from airflow_provider_sms.waiting import read_batch_ids

        campaign = None if self.campaign is None else str(self.campaign).strip()
        if (campaign is None) == (self.batch_id is None):
            raise InputError("Say what to wait for: either batch_id or campaign.")
        if campaign == "":
            raise InputError("campaign: it is empty.")
        return (campaign, ()) if campaign is not None else (None, read_batch_ids(self.batch_id))

    @staticmethod
    def _named(target: Target) -> dict[str, Any]:
        return {"campaign": target.name} if target.campaign_id is not None else {"batches": list(target.taskids)}

    def _is_after_dry_run(self) -> bool:
        """Whether nothing was sent of what this waits for: it was a dry run, or all are and the ledger knows nothing.

        :raises AirflowFailException: `[sms] dry_run` can not be read.
        """
        from airflow_provider_sms import settings
        from airflow_provider_sms.gateway.errors import InputError
        from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError

        if self._was_dry_run:
            return True
        try:
            if not settings.dry_run():
                return False
        except settings.SettingsError as error:
            raise AirflowFailException(str(error)) from None
        try:
            self._look()
        except (LedgerUnreachableError, AirflowFailException):
            return False
        except (InputError, LedgerError):
            return True
        return False

    def _is_from_dry_run(self, batch_id: Any, context: Context) -> bool:
        """Whether an upstream task that should have left taskIds says of itself that it was a dry run."""
        upstream = getattr(batch_id, "operator", None)
        if upstream is None:
            return False
        try:
            found = self.render_template(upstream.output, context)
        except XComNotFound:
            return False
        summaries = [found] if isinstance(found, dict) else list(found or ())
        return bool(summaries) and all(isinstance(each, dict) and each.get("dryRun") is True for each in summaries)

    def _after_dry_run(self) -> dict[str, Any]:
        raise NotImplementedError

    def _look(self) -> Look:
        raise NotImplementedError

    def _trigger(self, look: Look, began: float) -> BaseTrigger:
        raise NotImplementedError
