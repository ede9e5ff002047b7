"""A text to those who want to know: Airflow's notifier around an alarm. It never fails what it tells of.

What has happened `alarms` reads, what is said `alarm_texts` writes, `alarm_sending` sends it; all of them are
imported when something has happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.policy import read_switch
from airflow_provider_sms.rendering import Masked, MaskedFields, phones_shown, text_shown, unwrapped

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from zoneinfo import ZoneInfo

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_sms.alarm_sending import Message
    from airflow_provider_sms.alarm_texts import Event
    from airflow_provider_sms.recipients import PhoneSource

_LANGUAGES = ("zh", "en")
_DEFAULTS = {
    "content": "The default text is sent in its place.",
    "campaign_key": "Without it, DAG, run, task, try and event make it the same alarm.",
}


class SmsNotifier(MaskedFields, BaseNotifier):
    """
    Text people from a callback, or from whatever else takes a notifier.

    .. code-block:: python

        @task(on_failure_callback=SmsNotifier(phones="13800130001"))
        def load(): ...

    Airflow is known to call a callback more than once: for one DAG, run, task, map index, try and event, these
    phones get this text once. The text is compared as it was written, templates unrendered. A storm of failures
    turns into a few texts a phone: what is held back is counted into its next text, and `SmsAlarmFlushOperator`
    tells of the rest. Where the ledger can not be used, the text goes out all the same, and the log says that it
    may go out again.

    What goes wrong here is logged, and never raised: the task's own error is what counts.

    Interface document: 1.发送接口.

    :param phones: whom to text; what the group send operator takes. (templated)
    :param content: the text; the connection's signature is added where it has none. What the platform would refuse
        in it, a value's brackets 【】 or emoji, is replaced. None for a short one that says what has happened where
        and when, with the link to the log if three segments hold it. (templated)
    :param event: a word for what has happened, in place of what the callback says; also part of what makes it the
        same alarm.
    :param sms_conn_id: the connection, of type `sms`. (templated)
    :param storm_limit: texts that a phone gets in `storm_window` at most, 1 or more.
    :param storm_window: over how long they are counted.
    :param campaign_key: what makes it the same alarm, in place of all that is said above. (templated)
    :param timezone: where the readers are, for times in the text.
    :param language: of the texts that are made here: `zh` or `en`.
    :param dry_run: log what would be sent, and send nothing.
    """

    template_fields: Sequence[str] = ("phones", "content", "sms_conn_id", "campaign_key")
    shown = {"phones": phones_shown, "content": text_shown, "campaign_key": text_shown}  # noqa: RUF012

    def __init__(
        self,
        *,
        phones: str | Iterable[str | int] | PhoneSource | Path,
        content: str | None = None,
        event: str | None = None,
        sms_conn_id: str = SmsHook.default_conn_name,
        storm_limit: int = 5,
        storm_window: timedelta = timedelta(minutes=10),
        campaign_key: str | None = None,
        timezone: str = "Asia/Shanghai",
        language: str = "zh",
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # An iterator would be used up by the first call.
        self.phones = tuple(phones) if isinstance(phones, Iterator) else phones
        self.content = content
        self.event = event
        self.sms_conn_id = sms_conn_id
        self.storm_limit = storm_limit
        self.storm_window = _window(storm_window)
        self.campaign_key = campaign_key
        self.timezone = timezone
        self.language = language
        self.dry_run = read_switch("dry_run", dry_run)
        if isinstance(storm_limit, bool) or not isinstance(storm_limit, int) or storm_limit < 1:
            raise ValueError(f"storm_limit: {storm_limit!r} is not a whole number of texts, 1 or more.")
        if language not in _LANGUAGES:
            raise ValueError(f"language: {language!r} is none of {', '.join(map(repr, _LANGUAGES))}.")
        self._zone = _zone(timezone)
        # Rendering writes into this object, which a DAG's tasks may share: the next call has to begin anew.
        self._written = {name: getattr(self, name) for name in self.template_fields}

    def __call__(self, *args: Any) -> None:
        """Text them, unless this has been done; whatever goes wrong is logged."""
        try:
            super().__call__(*args)
        except Exception as error:  # noqa: BLE001 - whoever calls has an error of its own to tell
            self._log_failure(error)

    def __await__(self) -> Generator[Any, None, None]:
        # The base class would render the templates on the loop.
        return self._called().__await__()

    async def _called(self) -> None:
        from asgiref.sync import sync_to_async

        await sync_to_async(self.__call__, thread_sensitive=False)(self.context)

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the fields for this call, from what the DAG says; where text or key fails, the default stands in."""
        for name, value in self._written.items():
            setattr(self, name, value)
        if jinja_env is None and not hasattr(context.get("dag"), "get_template_env"):
            # A deadline comes without its DAG, and `dag.test()` with one that does not know how to render.
            jinja_env = self.get_template_env(dag=None)
        while True:
            try:
                super().render_template_fields(context, jinja_env)
            except Exception as error:
                # They are rendered in this order.
                failed = next((name for name in self.shown if not _is_rendered(getattr(self, name))), "")
                if failed not in _DEFAULTS:
                    raise
                setattr(self, failed, None)
                self.log.error("%s. %s", error, _DEFAULTS[failed])
            else:
                return

    def notify(self, context: Context) -> None:
        """Text them, unless this has been done; whatever goes wrong is logged.

        :param context: the callback's.
        """
        try:
            self._notify(context)
        except Exception as error:  # noqa: BLE001 - whoever calls has an error of its own to tell
            self._log_failure(error)

    async def async_notify(self, context: Context) -> None:
        """The same in a thread, so that other triggers go on meanwhile.

        :param context: the callback's.
        """
        from asgiref.sync import sync_to_async

        await sync_to_async(self.notify, thread_sensitive=False)(context)

    def _notify(self, context: Context) -> None:
        from airflow_provider_sms.alarm_sending import AlarmSender
        from airflow_provider_sms.notifications import alarms

        event = alarms.read(context, self.event)
        phones = self._read_phones()
        hook = SmsHook(self.sms_conn_id)
        message = self._message(event, phones, hook.account.signature)
        if self._is_dry_run():
            self._log_dry_run(message)
        else:
            AlarmSender(hook, self.log).send(message)

    def _message(self, event: Event, phones: tuple[str, ...], signature: str | None) -> Message:
        from uuid import uuid4

        from airflow_provider_sms import alarm_texts
        from airflow_provider_sms.alarm_sending import Message

        template = self._written["content"]
        key = alarm_texts.key(event, phones, None if template is None else str(template))
        own_key = str(unwrapped(self.campaign_key) or "")
        if own_key:
            key, name = f"key {own_key}", alarm_texts.named(own_key)
        elif key is not None:
            name = f"alarm {event.place} {key[:16]}"
        else:
            name = f"alarm {uuid4()}"
        return Message(key, name, phones, self.storm_limit, self.storm_window, self._writer(event, signature))

    def _writer(self, event: Event, signature: str | None) -> Any:
        """What writes the text that counts so many others."""
        from airflow_provider_sms import alarm_texts
        from airflow_provider_sms.gateway import cutting, texts

        written = "" if (content := unwrapped(self.content)) is None else str(content)
        sendable = cutting.made_sendable(written)
        if not sendable:
            return lambda others: alarm_texts.text(
                event, signature, self._zone, self.language, alarm_texts.more(others, self.language)
            )
        if "".join(sendable.split()) != "".join(written.split()):
            self.log.warning("content: what the platform would refuse was replaced, or cut: it takes 500 characters.")

        def write(others: int) -> str:
            return cutting.with_note(
                texts.prepare(sendable, signature).content, alarm_texts.more(others, self.language)
            )

        return write

    def _read_phones(self) -> tuple[str, ...]:
        from itertools import chain

        from airflow_provider_sms import recipients
        from airflow_provider_sms.gateway import phones

        read = phones.read(chain.from_iterable(recipients.stream(unwrapped(self.phones))))
        if read.excluded:
            self.log.warning("phones: left out %s", read.explained())
        return read.included

    def _is_dry_run(self) -> bool:
        from airflow_provider_sms import settings

        return self.dry_run or settings.dry_run()

    def _log_dry_run(self, message: Message) -> None:
        from airflow_provider_sms.gateway import texts

        text = texts.prepare(message.write(0), SmsHook(self.sms_conn_id).account.signature)
        self.log.info(
            "Dry run, nothing is sent: %d phones, segments a text: %d, points at most: %d, text: %s",
            len(message.phones),
            text.segments,
            text.segments * len(message.phones),
            text_shown(text.content),
        )

    def _log_failure(self, error: Exception) -> None:
        from airflow_provider_sms.gateway.phones import mask_inside

        self.log.error("The alarm was not sent, or not to all: %s: %s", type(error).__name__, mask_inside(str(error)))


send_sms_notification = SmsNotifier


def _is_rendered(field: object) -> bool:
    return field is None or isinstance(field, Masked)


def _window(window: object) -> timedelta:
    # A deadline's arguments are stored as JSON, which has no timedelta.
    if isinstance(window, int | float) and not isinstance(window, bool):
        window = timedelta(seconds=window)
    if not isinstance(window, timedelta) or window <= timedelta():
        raise ValueError("storm_window: expected a timedelta, or seconds, longer than nothing.")
    return window


def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone: there is no {name!r}; write it like Asia/Shanghai.") from None
