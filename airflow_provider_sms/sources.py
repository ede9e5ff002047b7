"""Which of the two ways a send was handed in, phones with one text or rows with a text each, and how to read it.

Joins `recipients` and `messages` with the gateway; knows no ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_sms import messages, recipients
from airflow_provider_sms.gateway.errors import InputError, TextError
from airflow_provider_sms.personal import Form, read_form
from airflow_provider_sms.policy import ONE_OF_THEM


@dataclass(frozen=True, slots=True)
class Source:
    """What a send is made of.

    :param content: the one text of all; None if each phone has its own.
    :param read: reads the phones, or the rows, from the start.
    :param form: how each row's text is made; None if there is one text.
    """

    content: str | None = field(repr=False)
    read: Callable[[], Any] = field(repr=False)
    form: Form | None = None


def of_phones(phones: object, content: object) -> Source:
    """Phones that all get the same text.

    :param phones: what `recipients.stream` takes.
    :raises TextError: there is no text.
    """
    if not isinstance(content, str):
        raise TextError(f"content: expected text, got {type(content).__name__}.")
    return Source(content, lambda: recipients.stream(phones))


def of_messages(rows: object, content: str | None, signature: str | None) -> Source:
    """Rows with a text each.

    :param rows: what `messages.stream` takes.
    :param content: a text with places such as `{name}`; None if each row brings its own.
    :param signature: the account's, without brackets.
    :raises TextError: the text can not be sent, whatever is filled in.
    """
    form = read_form(content, signature)
    return Source(None, lambda: messages.stream(rows, form.fields), form)


def choose(phones: object, content: str | None, rows: object, signature: str | None) -> Source:
    """The one of the two that was handed in.

    :raises InputError: both were, or none was; or the text can not be sent.
    """
    if (phones is None) == (rows is None):
        raise InputError(ONE_OF_THEM)
    return of_phones(phones, content) if rows is None else of_messages(rows, content, signature)
