"""Tell of alarms that were held back: Airflow's shape around `alarm_campaigns`, imported when a task runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.operators.campaign import CampaignOperator
from airflow_provider_sms.policy import read_switch

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_LANGUAGES = ("zh", "en")


class SmsAlarmFlushOperator(CampaignOperator):
    """
    Text each phone once how many alarms of `SmsNotifier` were held back for it, and what the last one said.

    .. code-block:: python

        with DAG("sms_alarm_flush", schedule=timedelta(minutes=10), catchup=False):
            SmsAlarmFlushOperator(task_id="flush")

    Run twice, or twice at once, it tells of each alarm once. Texts whose process has ended without a word are
    sent, too. What can not be sent stays held back, and the task fails.

    Returns what it has done, in counts: `phones` that were texted, `alarms` that they were told of, `failed` phones.

    Interface document: 1.发送接口.

    :param sms_conn_id: the connection, of type `sms`; its signature is the texts'. (templated)
    :param language: of the texts: `zh` or `en`.
    :param dry_run: log how many would be told of how many, and send nothing; the result then says `dryRun`.
    """

    template_fields: Sequence[str] = ("sms_conn_id",)
    ui_color = "#fde8d7"

    def __init__(
        self,
        *,
        sms_conn_id: str = SmsHook.default_conn_name,
        language: str = "zh",
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sms_conn_id = sms_conn_id
        self.language = language
        # Airflow's own operators have a method `dry_run`.
        self.is_dry_run = read_switch("dry_run", dry_run)
        if language not in _LANGUAGES:
            raise ValueError(f"language: {language!r} is none of {', '.join(map(repr, _LANGUAGES))}.")

    def execute(self, context: Context) -> dict[str, int]:
        """Tell of what is held back, and return the counts.

        :raises AirflowFailException: no retry can help; the message says what to do.
        :raises CampaignError: a retry may help.
        :raises LedgerUnreachableError: the same.
        """
        return self._in_words(self._flush)

    def _flush(self) -> dict[str, int]:
        from airflow_provider_sms import retention, settings
        from airflow_provider_sms.alarm_campaigns import flush
        from airflow_provider_sms.ledger.alarms import Alarms
        from airflow_provider_sms.opening import open_ledger

        namespace = settings.namespace()
        with closing(open_ledger(self.log)) as ledger:
            if self.is_dry_run or settings.dry_run():
                return self._counted(Alarms(ledger).held(namespace))
            flushed = flush(ledger, SmsHook(self.sms_conn_id), namespace, self.language, self.log)
            retention.keep(ledger, self.log)
        if flushed.problem is not None:
            raise flushed.problem
        return {"phones": flushed.phones, "alarms": flushed.alarms, "failed": flushed.failed}

    def _counted(self, held: dict[str, int]) -> dict[str, int]:
        phones, alarms = len(held), sum(held.values())
        self.log.info("Dry run, nothing is sent: %d phones would be told of %d alarms in all.", phones, alarms)
        return {"phones": phones, "alarms": alarms, "failed": 0, "dryRun": True}
