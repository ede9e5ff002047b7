"""What the platform pushes: a receipt for every text, a reply for every answer. Knows the form, no HTTP and no SQL.

Nothing here judges what a push means; a push that can be told from rubbish is read, whatever else it carries.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from airflow_provider_sms.gateway.phones import storable

UTF_8 = "utf-8"
MOST_FIELDS = 200
# Longer ones than a taskId or a phone can be are no push: cut off, they would stand for another one.
LONGEST_TASKID = 100
LONGEST_MOBILE = 64

_RECEIPT = ("mobile", "taskid", "status", "code", "receivetime")
_REPLY = ("mobile", "taskid", "content", "receivetime")
# GB18030 reads all that the older two have. Latin-1 is what HTTP clients write when nobody has told them.
_CHARSETS = {
    "utf-8": UTF_8,
    "utf8": UTF_8,
    "us-ascii": UTF_8,
    "ascii": UTF_8,
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "cp936": "gb18030",
    "x-gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "windows-1252": "cp1252",
}
_MOST_EXTRAS = 20
_LONGEST_EXTRA = 300
_LONGEST_NAME = 64
_SURROGATES = re.compile("[\ud800-\udfff]")

Fields = Sequence[tuple[str, str]]


class PushError(Exception):
    """It can not be read as what it should be.

    :param reason: short, and without anything that the push carries.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one text to one phone, in the platform's words.

    :param mobile: the phone, with stars if the platform masks it.
    :param extra: JSON of the fields that the document does not name; None if there are none.

    Interface document: 2.回执/回复推送接口, 回执数据定义.
    """

    mobile: str = field(repr=False)
    taskid: str
    status: str
    code: str
    receivetime: str
    extra: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person has answered.

    :param mobile: the phone, with stars if the platform masks it.
    :param taskid: empty if the platform does not say.
    :param extra: JSON of the fields that the document does not name; None if there are none.

    Interface document: 2.回执/回复推送接口, 回复数据定义.
    """

    mobile: str = field(repr=False)
    taskid: str
    content: str = field(repr=False)
    receivetime: str
    extra: str | None = field(default=None, repr=False)


Push = Receipt | Reply


@dataclass(frozen=True, slots=True)
class Heard:
    """One push, and to whom it came.

    :param account: the account id in the address that it was pushed to; None if that has none.
    """

    account: str | None
    push: Push


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One push that could not be read: kept for a look, as long as it is among the newest.

    :param account: see `Heard`.
    :param interface: which address it came to.
    :param reason: why it can not be read, without anything that it carries.
    """

    account: str | None
    interface: str
    reason: str
    body: bytes = field(repr=False)


def charset_of(content_type: str) -> str:
    """Find out in which charset a form is.

    :param content_type: the header's value.
    :returns: the name of a codec; UTF-8 where the header names none that is known.
    """
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return _CHARSETS.get(value.strip(" \t\"'").lower(), UTF_8)
    return UTF_8


def fields_of(form: bytes, charset: str = UTF_8) -> list[tuple[str, str]]:
    r"""Take a form apart: names in small letters, values as they came.

    :param form: application/x-www-form-urlencoded.
    :param charset: see `charset_of`; bytes that it does not have are kept as `\xff`.
    :raises PushError: it has more fields than any push.
    """
    # No time of day and no code goes without a colon: its escape is the one that every push has.
    plain = form.replace(b"+", b" ").replace(b"%3A", b":")
    if plain.count(b"&") >= MOST_FIELDS:
        raise PushError(f"more than {MOST_FIELDS} fields")
    fields = []
    if b"%" not in plain and plain.isascii():
        for pair in plain.decode("ascii").split("&"):
            name, _, value = pair.partition("=")
            if name:
                fields.append((name.lower(), value))
        return fields

    for part in plain.split(b"&"):
        raw_name, _, raw_value = part.partition(b"=")
        if written := _text(raw_name, charset).strip():
            fields.append((written.lower(), _text(raw_value, charset)))
    return fields


def read_receipt(fields: Fields) -> Receipt:
    """Read a receipt.

    :raises PushError: it has no mobile, no taskid, or neither status nor code.
    """
    known, extra = _sorted_out(fields, _RECEIPT)
    mobile, taskid = _needed(known, "mobile"), _needed(known, "taskid")
    status, code = known.get("status", "").strip(), known.get("code", "").strip()
    if not status and not code:
        raise PushError("a receipt with neither status nor code")
    return Receipt(mobile, taskid, status, code, known.get("receivetime", "").strip(), extra)


def read_reply(fields: Fields) -> Reply:
    """Read a reply.

    :raises PushError: it has no mobile or no content.
    """
    known, extra = _sorted_out(fields, _REPLY)
    mobile = _needed(known, "mobile")
    if "content" not in known:
        raise PushError("no content")
    taskid = _key("taskid", known.get("taskid", "").strip())
    return Reply(mobile, taskid, known["content"], known.get("receivetime", "").strip(), extra)


def read_either(fields: Fields) -> Push:
    """Read what came to the address for both: a reply has a content and no status or code.

    :raises PushError: it is neither.
    """
    if any(name in ("status", "code") and value for name, value in fields):
        return read_receipt(fields)
    if any(name == "content" for name, _ in fields):
        return read_reply(fields)
    raise PushError("neither status, code nor content")


Reader = Callable[[Fields], Push]


def _sorted_out(fields: Fields, names: Sequence[str]) -> tuple[dict[str, str], str | None]:
    known: dict[str, str] = {}
    others: list[tuple[str, str]] = []
    for name, value in fields:
        if name in names and name not in known:
            known[name] = value
        else:
            others.append((name, value))
    return known, _as_json(others) if others else None


def _needed(known: Mapping[str, str], name: str) -> str:
    value = known.get(name, "").strip()
    if not value:
        raise PushError(f"no {name}")
    return _key(name, value)


def _key(name: str, value: str) -> str:
    """What a push is found by, whole, and such as every database can store."""
    most = LONGEST_MOBILE if name == "mobile" else LONGEST_TASKID
    if not value.isprintable():
        value = storable(value, 7 * most)
    if len(value) > most:
        raise PushError(f"a {name} of more than {most} characters")
    return value


def _as_json(others: Fields) -> str:
    """A name with several values has a list of them; what is too much is cut off, and counted under `…`."""
    kept: dict[str, object] = {}
    for name, value in others[:_MOST_EXTRAS]:
        name, value = name[:_LONGEST_NAME], value[:_LONGEST_EXTRA]
        if name not in kept:
            kept[name] = value
        elif isinstance(held := kept[name], list):
            held.append(value)
        else:
            kept[name] = [held, value]
    if len(others) > _MOST_EXTRAS:
        kept["…"] = len(others) - _MOST_EXTRAS
    text = json.dumps(kept, ensure_ascii=False)
    return _SURROGATES.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _text(raw: bytes, charset: str) -> str:
    data = unquote_to_bytes(raw) if b"%" in raw else raw
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        return data.decode(charset, "backslashreplace")
