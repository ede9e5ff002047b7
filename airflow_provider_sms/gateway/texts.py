"""Texts: the signature, what may not be in them, and what they cost. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow_provider_sms.gateway.errors import AccountError, TextError

if TYPE_CHECKING:
    import regex

LONGEST_TEXT = 500
SINGLE_SEGMENT = 70
JOINED_SEGMENT = 67
SHORTEST_SIGNATURE = 2
LONGEST_SIGNATURE = 20
_OPEN, _CLOSE = "【", "】"
# Control characters, except a line break and a tab, and halves of a surrogate pair.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAKS = {"\r\n": "\n", "\r": "\n", "\u2028": "\n", "\u2029": "\n"}


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it goes out.

    :param content: the text, signature included.
    :param units: its length in UTF-16 units, which is what the trade counts.
    :param segments: texts that one phone is charged for.
    """

    content: str = field(repr=False)
    units: int
    segments: int


def prepare(content: str, signature: str | None = None) -> Text:
    """Make a text ready to send: exactly one signature, nothing in it that the platform refuses.

    :param content: the text, with or without its signature `【…】`.
    :param signature: the name to sign with where the text carries no signature, without brackets.
    :returns: the text with signature, length and segments.
    :raises TextError: the text can not be sent; the message says why and what to do.

    Interface document: 1.发送接口, `content` (needs a signature; no emoji). The lengths are the trade's.
    """
    if not isinstance(content, str):
        raise TextError(f"content: expected text, got {type(content).__name__}.")
    for found, line_break in _LINE_BREAKS.items():
        content = content.replace(found, line_break)
    content = content.strip()
    _refuse_characters(content)
    signed = _signed(content, signature)
    units = length(signed)
    if units > LONGEST_TEXT:
        raise TextError(
            f"content: {units} characters with the signature; the platform takes {LONGEST_TEXT}. Shorten the text."
        )
    return Text(signed, units, segments(units))


def length(content: str) -> int:
    """Count a text's length as the trade does: in UTF-16 units, every one of them a character.

    :param content: the text, signature and opt-out wording included.
    """
    if max(content, default="") <= "\uffff":
        return len(content)
    return len(content) + sum(1 for character in content if ord(character) > 0xFFFF)


def segments(units: int) -> int:
    """Tell how many texts a phone is charged for.

    :param units: the length in UTF-16 units.
    :returns: 1 up to 70 units, then one for every 67 begun.
    """
    return 1 if units <= SINGLE_SEGMENT else -(-units // JOINED_SEGMENT)


def without_emoji(content: str, instead: str) -> str:
    """Replace the emoji in a text, which the platform does not take.

    :param content: any text.
    :param instead: what stands in the place of each, however many signs it is made of.
    """
    import regex

    emoji = _emoji()
    characters: list[str] = regex.findall(r"\X", content)
    return "".join(instead if emoji.search(each) else each for each in characters)


def signature_name(signature: str) -> str:
    """Read a signature setting, written with or without its brackets.

    :param signature: `云通信` or `【云通信】`.
    :returns: the name without brackets.
    :raises AccountError: the name is not one that the platform accepts.
    """
    name = signature.strip()
    if name.startswith(_OPEN) and name.endswith(_CLOSE):
        name = name[1:-1].strip()
    if _OPEN in name or _CLOSE in name:
        raise AccountError("signature: write the name alone, such as 云通信, or once in brackets: 【云通信】.")
    if not SHORTEST_SIGNATURE <= len(name) <= LONGEST_SIGNATURE:
        raise AccountError(
            f"signature: {len(name)} characters; the platform takes {SHORTEST_SIGNATURE} to {LONGEST_SIGNATURE}."
        )
    return name


def _signed(content: str, signature: str | None) -> str:
    opened, closed = content.count(_OPEN), content.count(_CLOSE)
    if opened == closed == 0:
        if not content:
            raise TextError("content: the text is empty.")
        if signature is None:
            raise TextError(
                "content: no signature; begin the text with 【your signature】, "
                "or set `signature` in the connection's extras."
            )
        return f"{_OPEN}{signature}{_CLOSE}{content}"
    if opened > 1 or closed > 1:
        raise TextError(
            "content: more than one signature; the brackets 【】 may be there once. Use other brackets in the text."
        )
    start, end = content.find(_OPEN), content.find(_CLOSE)
    if start == -1 or end < start:
        raise TextError("content: a bracket of the signature 【…】 is missing.")
    if start != 0 and end != len(content) - 1:
        raise TextError("content: the signature 【…】 must be at the start or at the end of the text.")
    try:
        signature_name(content[start : end + 1])
    except AccountError as error:
        raise TextError(f"content: {error.what}") from None
    if not content[:start].strip() and not content[end + 1 :].strip():
        raise TextError("content: there is nothing but the signature.")
    return content


def _refuse_characters(content: str) -> None:
    if control := _CONTROL.search(content):
        where = f"character {control.start() + 1} (U+{ord(control[0]):04X})"
        raise TextError(f"content: {where} is not text; remove it.")
    found = _emoji().search(content)
    if found:
        raise TextError(
            f"content: the emoji {found[0]} at character {found.start() + 1}; the platform takes none, remove it."
        )


@lru_cache(maxsize=1)
def _emoji() -> regex.Pattern[str]:
    """What a phone shows as an emoji: ©, ™, ☎ and rare Han characters are text, ☎ with U+FE0F is not."""
    import regex

    return regex.compile(
        r"\p{Emoji_Presentation}"
        r"|\p{Extended_Pictographic}\uFE0F"
        r"|[\p{Extended_Pictographic}&&[\U00010000-\U0010FFFF]]"
        r"|\p{Emoji_Modifier}|\p{Regional_Indicator}|[0-9#*]\uFE0F?\u20E3|[\uFE0F\u200D]",
        regex.VERSION1,
    )
