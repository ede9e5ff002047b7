"""Templated fields that hold personal data, rendered as ever and shown masked: of operators and notifiers alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import AirflowException

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class MaskedFields:
    """Beside Airflow's own base class, before it; `shown` says how to show which fields."""

    shown: ClassVar[dict[str, Callable[[Any], str]]] = {}
    rendered: ClassVar[dict[str, Callable[[Any, Callable[[Any], Any]], Any]]] = {}
    """How to render fields in which not everything is a template; others are rendered as phones are."""

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
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)  # type: ignore[misc]

    def _render_masked(
        self, parent: Any, name: str, show: Callable[[Any], str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> str | None:
        """Render one field; what went wrong is returned, so that no traceback leads through the field's value."""
        from airflow_provider_sms import recipients

        value = getattr(parent, name)
        if value is None or isinstance(value, Masked):
            return None
        if id(value) in seen_oids:
            # Another task's output, mapped over: what is in it is no template.
            setattr(parent, name, Masked(value, show(value)))
            return None
        try:
            rendered = self.rendered.get(name, recipients.rendered)(
                value,
                lambda each: self.render_template(each, context, jinja_env, seen_oids),  # type: ignore[attr-defined]
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


def unwrapped(field: Any) -> Any:
    return field.value if isinstance(field, Masked) else field


def lasting(field: Any) -> Any:
    """A field as it may stay in a DAG: what an iterator yields, whose address would make each parse another DAG."""
    return list(field) if isinstance(field, Iterator) else field


def phones_shown(phones: Any) -> str:
    from airflow_provider_sms import recipients

    return recipients.shown(phones)


def messages_rendered(value: Any, render: Callable[[Any], Any]) -> Any:
    from airflow_provider_sms import messages

    return messages.rendered(value, render)


def messages_shown(value: Any) -> str:
    from airflow_provider_sms import messages

    return messages.shown(value)


def text_shown(content: Any) -> str:
    from airflow_provider_sms.gateway.phones import mask_inside

    return mask_inside(str(content))
