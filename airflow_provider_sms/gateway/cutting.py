"""Texts that must fit and must be taken: cut between characters, what the platform refuses replaced. Pure functions.

A character is what a reader takes for one: a letter with its accents, a rare Han character with its two UTF-16 units.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_provider_sms.gateway import texts
from airflow_provider_sms.gateway.errors import AccountError

CUT = "…"
REPLACED = "□"
_OTHER_BRACKETS = str.maketrans("【】", "〔〕")
# A signature that the connection adds has to find room.
_LONGEST_UNSIGNED = texts.LONGEST_TEXT - texts.LONGEST_SIGNATURE - 2
_LINK_AT_END = re.compile(r"\s(https?://\S+)\Z")


def cut(text: str, most: int) -> str:
    """Shorten a text to so many UTF-16 units, never in the middle of a character.

    :param text: any text.
    :param most: units, at most; what is shortened ends in `…`, which is one of them.
    """
    if texts.length(text) <= most:
        return text
    room = most - len(CUT)
    if room < 0:
        return ""
    kept: list[str] = []
    for character in _characters(text):
        room -= texts.length(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + CUT


def made_safe(value: object) -> str:
    """Bring a value to what may stand inside a text: no second signature, no emoji, nothing invisible, one line.

    :param value: anything; its `str` counts.
    """
    line = " ".join("".join(map(_visible, str(value).translate(_OTHER_BRACKETS))).split())
    shown = texts.without_emoji(line, REPLACED)
    # Not before: what joins emoji to one is invisible, too.
    return "".join(each for each in shown if unicodedata.category(each) != "Cf")


def made_sendable(content: str) -> str:
    """Replace what the platform would refuse a text for: an alarm shall go out, whatever a value in it has brought.

    :param content: a text; a signature `【…】` that it begins or ends with stays.
    :returns: a text that fits, with the connection's signature, too; empty if nothing but a signature is left of it.
    """
    parts = _parted(content)
    lead = texts.without_emoji("".join(map(_visible_or_break, parts.lead.translate(_OTHER_BRACKETS))), REPLACED)
    link = made_safe(parts.link)
    return _joined(_Parts(parts.opening, lead.strip(), link, parts.closing), "", _LONGEST_UNSIGNED)


def with_note(content: str, note: str, most: int = texts.LONGEST_TEXT) -> str:
    """Add a note to a text: at its end, but before a link and a signature that it ends with, which stay whole.

    :param content: a text as it goes out.
    :param note: such as `(+37 more)`.
    :param most: UTF-16 units, at most; the text before the note is cut to it.
    """
    return _joined(_parted(content), note, most)


def quoted(content: str) -> tuple[str, str]:
    """Take a text apart, to quote it in another.

    :param content: a text as it goes out.
    :returns: its signature, in brackets, empty if it has none; and the text without it, and without a link at its end.
    """
    parts = _parted(content)
    return parts.opening or parts.closing, parts.lead or parts.link


@dataclass(frozen=True, slots=True)
class _Parts:
    """A text taken apart: signature, what may be cut, a link at the end, signature; one of the two is empty."""

    opening: str
    lead: str = field(repr=False)
    link: str = field(repr=False)
    closing: str


def _parted(content: str) -> _Parts:
    rest, opening, closing = content.strip(), "", ""
    end = rest.find("】")
    if rest.startswith("【") and _is_signature(rest[: end + 1]):
        opening, rest = rest[: end + 1], rest[end + 1 :]
    else:
        start = rest.rfind("【")
        if start > 0 and rest.endswith("】") and _is_signature(rest[start:]):
            rest, closing = rest[:start], rest[start:]
    link = _LINK_AT_END.search(rest.rstrip())
    if link is None:
        return _Parts(opening, rest.strip(), "", closing)
    return _Parts(opening, rest[: link.start()].strip(), link[1], closing)


def _joined(parts: _Parts, note: str, most: int) -> str:
    link = f" {parts.link}" if parts.link else ""
    room = most - sum(map(texts.length, (parts.opening, note, link, parts.closing)))
    if room < len(CUT) and link:
        return _joined(_Parts(parts.opening, f"{parts.lead}{link}", "", parts.closing), note, most)
    lead = cut(parts.lead, room)
    return f"{parts.opening}{lead}{note}{link}{parts.closing}" if lead or note or link else ""


def _is_signature(text: str) -> bool:
    try:
        texts.signature_name(text)
    except AccountError:
        return False
    if not text.startswith("【") or not text.endswith("】"):
        return False
    # The platform would refuse it: a value that looks like a signature is none.
    return texts.without_emoji("".join(map(_visible, text)), REPLACED) == text


def _characters(text: str) -> Iterator[str]:
    import regex

    yield from regex.findall(r"\X", text)


def _visible(character: str) -> str:
    return " " if unicodedata.category(character) in ("Cc", "Cs") else character


def _visible_or_break(character: str) -> str:
    return character if character in "\n\t" else _visible(character)
