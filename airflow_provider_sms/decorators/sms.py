"""`@task.sms`: a function says what to send, and `SmsGroupSendOperator` sends it. Imported when a DAG uses it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_sms.operators.campaign import sender, which_try
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.rendering import Masked, lasting, text_shown, unwrapped

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_provider_sms.ledger.campaigns import Campaign

# Which campaign it is, and whose, has to be known without the function: see `_go_on`.
_NOT_RETURNED = ("campaign_key", "sms_conn_id")


class _SmsDecoratedOperator(DecoratedOperator, SmsGroupSendOperator):
    """
    Wraps a function whose return value says what to send.

    :param python_callable: the function.
    :param op_args: its positional arguments. (templated)
    :param op_kwargs: its named arguments. (templated)
    :param phones: see `SmsGroupSendOperator`, as all others; what the function returns takes its place. (templated)
    :param content: likewise. (templated)
    """

    custom_operator_name = "@task.sms"
    # What was sent is known once the function has said it.
    overwrite_rtif_after_execution = True
    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *SmsGroupSendOperator.template_fields)
    template_fields_renderers = SmsGroupSendOperator.template_fields_renderers
    shown = {  # noqa: RUF012
        **SmsGroupSendOperator.shown,
        # An upstream task's output, most often: phones and what belongs to them.
        "op_args": lambda arguments: f"{len(arguments)} without a name",
        "op_kwargs": ", ".join,
    }

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        phones: Any = None,
        content: Any = None,
        **kwargs: Any,
    ) -> None:
        if inspect.iscoroutinefunction(python_callable) or inspect.isasyncgenfunction(python_callable):
            raise TypeError(f"@task.sms: {python_callable.__name__} is async; write a plain function.")
        phones = lasting(phones)
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            # The operator looks whether they are there; the function says them later.
            phones="" if phones is None and "messages" not in kwargs else phones,
            content="" if content is None else content,
            **kwargs,
        )
        self.phones, self.content = phones, content

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function, and send what it says; the return value is the operator's summary.

        :raises AirflowSkipException: it says that there is nothing to send, and nothing is left of an earlier try.
        :raises AirflowFailException: as the operator; or what it has returned can not be sent.
        """
        args, kwargs = unwrapped(self.op_args), unwrapped(self.op_kwargs)
        context_merge(context, kwargs)
        returned = self.python_callable(*args, **determine_kwargs(self.python_callable, args, context))
        if not self._take(returned):
            return self._go_on(context)
        return SmsGroupSendOperator.execute(self, context)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Carry on after having been deferred, without another call of the function.

        :param event: what `SmsPauseTrigger` says.
        """
        self._take_stored(self._in_words(lambda: self._stored(context)))
        return SmsGroupSendOperator.resume(self, context, event)

    def _take(self, returned: Any) -> bool:
        """Take what the function has returned; as it is, since a template in it may come from anywhere.

        :returns: whether there is something to send.
        """
        given = returned if isinstance(returned, Mapping) else {"phones": returned}
        fields = {name: list(value) if isinstance(value, Iterator) else value for name, value in given.items()}
        may_be = [name for name in SmsGroupSendOperator.template_fields if name not in _NOT_RETURNED]
        unknown = sorted(str(name) for name in fields if name not in may_be)
        if unknown:
            raise AirflowFailException(
                f"@task.sms: the function returned {', '.join(map(repr, unknown))}; it may return the phones, or a "
                f"dict of {', '.join(may_be)}. Everything else is an argument of the decorator."
            )
        # A text or a time that is missing is a mistake, and the operator says so.
        handed_in = [value for name, value in fields.items() if name not in ("content", "send_time")]
        if not fields or (handed_in and all(map(_is_nothing, handed_in))):
            return False
        for name, kept in fields.items():
            show = SmsGroupSendOperator.shown.get(name)
            is_there = kept is not None or name == "content"
            setattr(self, name, Masked(kept, show(kept)) if show is not None and is_there else kept)
        return True

    def _go_on(self, context: Context) -> dict[str, Any]:
        """Nothing to send by this try: what an earlier one has planned goes out all the same.

        :raises AirflowSkipException: there is none.
        """
        stored = None
        if which_try(context).number > 1:
            stored = self._in_words(lambda: self._stored(context))
        if stored is None:
            raise AirflowSkipException("Nothing to send: the function returned nothing.")
        self.log.warning("The function returned nothing; campaign %s goes on with its stored phones.", stored.name)
        self._take_stored(stored)
        return self._send(context, lambda planner: planner.go_on(), waited=0.0)

    def _stored(self, context: Context) -> Campaign | None:
        """The plan that an earlier try, or this one before it was deferred, has stored."""
        from airflow_provider_sms import settings
        from airflow_provider_sms.ledger.keys import CampaignKey
        from airflow_provider_sms.ledger.owners import own_name
        from airflow_provider_sms.ledger.plans import Plans
        from airflow_provider_sms.opening import open_ledger

        key = CampaignKey(settings.namespace(), sender(context), self.campaign_key)
        with closing(open_ledger(self.log)) as ledger:
            stored = Plans(ledger, own_name()).find(key)
        return stored if stored is not None and stored.planned_at is not None else None

    def _take_stored(self, stored: Campaign | None) -> None:
        # The operator looks at the text before it finds its plan; of the phones, at none.
        if stored is None:
            return
        self.send_time = None
        self.phones = self.messages = None
        if stored.is_personal:
            self.messages, self.content = (), None
        else:
            self.content = Masked(stored.content, text_shown(stored.content))  # type: ignore[assignment]


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, Collection) and not len(value))


def sms_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Send what a function returns: `@task.sms`.

    .. code-block:: python

        @task.sms(content="【云通信】Your parcel has arrived.")
        def tell(phones):
            return [phone for phone in phones if phone]

    The function returns the phones, or a dict of `phones`, `messages`, `content` and `send_time`; nothing at all
    skips the task. What it returns is sent as it is, no template in it is rendered. A retry calls it again, and the
    ledger sees to it that each phone is texted once; a try that was deferred does not.

    :param python_callable: the function.
    :param kwargs: arguments of `SmsGroupSendOperator`.
    """
    # The summary is one XCom, whatever the function's annotation says of what it returns.
    kwargs.setdefault("multiple_outputs", False)
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_SmsDecoratedOperator, **kwargs
    )
