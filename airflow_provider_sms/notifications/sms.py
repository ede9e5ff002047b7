"""A text to those who want to know: Airflow's notifier around a campaign. A callback that fires twice texts once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.rendering import MaskedFields, phones_shown, text_shown, unwrapped

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sms.recipients import PhoneFile, PhoneQuery

# What a refusal that passes, one text a minute for a phone, may keep a callback waiting.
_MAX_WAIT = timedelta(seconds=90)
_LONGEST_PLACE = 150


class SmsNotifier(MaskedFields, BaseNotifier):
    """
    Text people from a callback, or from whatever else takes a notifier.

    .. code-block:: python

        @task(on_failure_callback=SmsNotifier(phones="13800130001", content="【云通信】{{ ti.task_id }} has failed."))
        def load(): ...

    Airflow is known to call a callback more than once: for one DAG, run, task, map index, try and event, these
    phones get this text once. The text is compared as it was written, templates unrendered.

    Interface document: 1.发送接口.

    :param phones: whom to text; what the group send operator takes. (templated)
    :param content: the text; the connection's signature is added where it has none. (templated)
    :param sms_conn_id: the connection, of type `sms`. (templated)
    :param campaign_key: what makes it the same text, in place of all that is said above. (templated)
    """

    template_fields: Sequence[str] = ("phones", "content", "sms_conn_id", "campaign_key")
    shown = {"phones": phones_shown, "content": text_shown}  # noqa: RUF012

    def __init__(
        self,
        *,
        phones: str | Iterable[str | int] | PhoneFile | PhoneQuery | Path,
        content: str,
        sms_conn_id: str = SmsHook.default_conn_name,
        campaign_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.phones = phones
        self.content = content
        self.sms_conn_id = sms_conn_id
        self.campaign_key = campaign_key
        # Rendering writes into this object, which a DAG's tasks may share: the next call has to begin anew.
        self._written = {name: getattr(self, name) for name in self.template_fields}

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the fields for this call, from what the DAG says."""
        for name, value in self._written.items():
            setattr(self, name, value)
        super().render_template_fields(context, jinja_env)

    def notify(self, context: Context) -> None:
        """Text them, unless this has been done.

        :param context: the callback's.
        :raises SmsError: something can not be sent.
        :raises LedgerError: the ledger can not be used; nothing was sent.
        :raises CampaignError: phones were refused, are in doubt or were not sent.
        """
        from airflow_provider_sms.policy import OnChanged, Policy

        phones = self._read_phones()
        key = self.campaign_key or _key(context, phones, str(self._written["content"]))
        summary = SmsHook(self.sms_conn_id).send_group(
            phones,
            unwrapped(self.content),
            campaign_key=key,
            category="notice",
            policy=Policy(on_changed=OnChanged.RESUME, max_wait=_MAX_WAIT),
        )
        self.log.info("Notified: %s phones, taskId %s.", summary["accepted"], ", ".join(map(str, summary["taskIds"])))

    def _read_phones(self) -> list[str]:
        from itertools import chain

        from airflow_provider_sms import recipients
        from airflow_provider_sms.gateway import phones

        return list(phones.read(chain.from_iterable(recipients.stream(unwrapped(self.phones)))).included)


send_sms_notification = SmsNotifier


def _key(context: Any, phones: list[str], template: str) -> str | None:
    """What makes it the same notification; None, and no protection, where the context does not say what it is about."""
    place = _place(context)
    if place is None:
        return None
    parts = (place, sorted(phones), template)
    digest = hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]
    name = "".join(each for each in "/".join(str(part) for part in place) if each.isprintable())
    return f"notify {name[:_LONGEST_PLACE]} {digest}"


def _place(context: Any) -> tuple[Any, ...] | None:
    """DAG, run, task, map index, try and event; a DAG's own callback comes with any of its tasks, and a reason."""
    ti, run = context.get("ti") or context.get("task_instance"), context.get("dag_run")
    reason = context.get("reason")
    if ti is not None and reason is None:
        state = getattr(ti, "state", None)
        event = str(getattr(state, "value", state))
        return ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number, event
    dag_id, run_id = (_of(run, name) if run is not None else getattr(ti, name, None) for name in ("dag_id", "run_id"))
    if dag_id is None or run_id is None:
        return None
    deadline = context.get("deadline")
    return dag_id, run_id, str(reason), str(_of(deadline, "id")) if deadline is not None else ""


def _of(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)
