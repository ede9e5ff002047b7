"""Phones: brought to one form, each once, and what was left out with the reason. Pure functions.

A million phones are no special case: `Sieve` takes them in chunks and remembers only which ones it has seen.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from itertools import islice
from operator import index
from typing import SupportsIndex

from airflow_provider_sms.gateway.errors import NoPhonesError, PhonesError

_MOBILE = re.compile(r"1[3-9][0-9]{9}", re.ASCII)
_PLAIN = re.compile(r"1[3-9][0-9]{9}\Z", re.ASCII)
_PLAIN_LINES = re.compile(r"(?:1[3-9][0-9]{9}\n)*1[3-9][0-9]{9}", re.ASCII)
_PREFIX = re.compile(r"(?:\+?86|0086)(?=1[3-9][0-9]{9}\Z)", re.ASCII)
_FILLERS = re.compile(r"[\s'\"\-\u2010-\u2015\u2212()\u00b7.\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
_SEPARATORS = re.compile(r"[,\uff0c\u3001;\uff1b\r\n]+")
_INSIDE_TEXT = re.compile(r"(?<![0-9])(1[3-9][0-9])[0-9]{4}([0-9]{4})(?![0-9])", re.ASCII)
# NUL is what PostgreSQL can not store, a surrogate what UTF-8 can not say.
_UNSTORABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# More digits than any way to write a mobile has: 0086 before the eleven.
_TOO_LARGE = 10**15

SAMPLES = 5
CHUNK = 10_000
LONGEST_STORED = 64


class Reason(StrEnum):
    """Why a phone is left out."""

    DUPLICATE = "duplicate"
    MALFORMED = "malformed"
    # Known to the ledger alone.
    OPTED_OUT = "opted out"
    FREQUENCY_CAP = "frequency cap"


@dataclass(frozen=True, slots=True)
class Excluded:
    """One phone that is left out.

    :param position: where it stood in what was handed in, from 1.
    :param shown: the phone, masked.
    :param reason: why it is left out.
    """

    position: int
    shown: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Phones:
    """What was handed in, sorted into what can be sent to and what can not.

    :param included: mainland mobiles, eleven digits each, each once, in the order they came.
    :param excluded: all others.
    """

    included: tuple[str, ...] = field(repr=False)
    excluded: tuple[Excluded, ...]

    def counted(self) -> dict[str, int]:
        """Count what is left out by reason."""
        return dict(Counter(each.reason.value for each in self.excluded))

    def explained(self, most: int = SAMPLES) -> str:
        """Say in words what is left out: counts and a few masked samples.

        :param most: how many samples.
        """
        return _explained(self.counted(), self.excluded[:most])


@dataclass(frozen=True, slots=True)
class Sifted:
    """What became of one chunk.

    :param phones: one entry an item, in order: the normalised phone, or a malformed item's text, fit to be stored.
    :param excluded: the reason of each item that is left out, by its index in the chunk, from 0.
    :param positions: where each item stood in what was handed in, from 1.
    """

    phones: list[str] = field(repr=False)
    excluded: dict[int, Reason]
    positions: Sequence[int] = field(repr=False)


class Sieve:
    """Sorts phones chunk by chunk into those to send to, each once, and those to leave out.

    It remembers what it has seen: `seen` holds every phone that can be sent to, `samples` the first few that are
    left out, by their position in all chunks together.
    """

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.samples: list[Excluded] = []
        self._counts: Counter[str] = Counter()
        self._items = 0

    @property
    def included(self) -> int:
        """How many phones can be sent to."""
        return len(self.seen)

    def sift(self, items: Sequence[object]) -> Sifted:
        """Sort one chunk.

        :param items: texts or whole numbers, as people hand them in.
        :returns: the phones, item by item, and which of them to leave out.
        """
        plain = _all_plain(items)
        if plain is not None:
            fresh = set(plain)
            if len(fresh) == len(plain) and self.seen.isdisjoint(fresh):
                self.seen |= fresh
                return Sifted(plain, {}, self._positions(len(plain)))
        return self._sift_each(items)

    def leave_out(self, sifted: Sifted, phones: Set[str], reason: Reason) -> Sifted:
        """Leave out more of a chunk; what is left out so is still part of what was handed in.

        :param sifted: the chunk, as it was sorted.
        :param phones: which phones to leave out.
        :param reason: why.
        """
        if not phones:
            return sifted
        more = {at: reason for at, phone in enumerate(sifted.phones) if phone in phones and at not in sifted.excluded}
        for at in islice(more, SAMPLES - len(self.samples)):
            self.samples.append(Excluded(sifted.positions[at], mask(sifted.phones[at]), reason))
        self._counts[reason.value] += len(more)
        return Sifted(sifted.phones, {**sifted.excluded, **more}, sifted.positions)

    def counted(self) -> dict[str, int]:
        """Count what is left out of all chunks by reason."""
        return dict(self._counts)

    def explained(self) -> str:
        """Say in words what is left out of all chunks: counts and a few masked samples."""
        return _explained(self._counts, self.samples)

    def fingerprint(self) -> str:
        """Tell one set of phones from another, whatever their order.

        :returns: SHA-256, in hexadecimal digits, of the phones that can be sent to, sorted, a line each.
        """
        return sha256("\n".join(sorted(self.seen)).encode()).hexdigest()

    def _sift_each(self, items: Sequence[object]) -> Sifted:
        phones: list[str] = []
        excluded: dict[int, Reason] = {}
        seen = self.seen
        for at, item in enumerate(items):
            phone = normalise(item)
            if phone is None:
                excluded[at] = Reason.MALFORMED
                phones.append(storable(_text(item), LONGEST_STORED))
                continue
            if phone in seen:
                excluded[at] = Reason.DUPLICATE
            else:
                seen.add(phone)
            phones.append(phone)
        positions = self._positions(len(phones))
        for at, reason in islice(excluded.items(), SAMPLES - len(self.samples)):
            self.samples.append(Excluded(positions[at], mask(items[at]), reason))
        self._counts.update(reason.value for reason in excluded.values())
        return Sifted(phones, excluded, positions)

    def _positions(self, items: int) -> range:
        first, self._items = self._items + 1, self._items + items
        return range(first, self._items + 1)


def read(phones: object) -> Phones:
    """Read phones as people hand them in.

    :param phones: comma text (Chinese commas, semicolons or a line each will do), or any iterable of texts or
        whole numbers.
    :returns: normalised phones, each once, and what was left out.
    :raises PhonesError: not a list of phones at all, or none of them can be sent to.

    Interface document: 1.发送接口, `phone`.
    """
    sieve = Sieve()
    included: list[str] = []
    excluded: list[Excluded] = []
    position = 1
    for chunk in chunks(items(phones)):
        sifted = sieve.sift(chunk)
        left_out = sifted.excluded
        if left_out:
            included.extend(phone for at, phone in enumerate(sifted.phones) if at not in left_out)
            excluded.extend(Excluded(position + at, mask(chunk[at]), reason) for at, reason in left_out.items())
        else:
            included.extend(sifted.phones)
        position += len(chunk)
    if not sieve.included:
        raise none_to_send_to(sieve)
    return Phones(tuple(included), tuple(excluded))


def none_to_send_to(sieve: Sieve) -> PhonesError:
    """Say why there is nobody to send to.

    :param sieve: what all phones went through; it included none.
    :returns: a `NoPhonesError` unless what was handed in is no phones.
    """
    counted = sieve.counted()
    left_out = sum(counted.values())
    if not left_out:
        return NoPhonesError("phones: there is none; hand in at least one mobile, such as 13800130001.")
    return PhonesError(
        f"phones: none of {left_out} is a mainland mobile: {sieve.explained()}. "
        "Write eleven digits beginning with 13 to 19, with or without +86."
    )


def items(phones: object) -> Iterator[object]:
    """Take apart what people hand in, without judging it.

    :param phones: comma text, one number, or any iterable.
    :returns: the items, one by one.
    :raises PhonesError: not a list of phones at all.
    """
    if isinstance(phones, str):
        # A list that went through a template arrives as "['13800130001', '13800130002']".
        text = phones.strip().removeprefix("[").removesuffix("]")
        return (item for item in _SEPARATORS.split(text) if item.strip())
    if isinstance(phones, int) and not isinstance(phones, bool):
        return iter((phones,))
    if isinstance(phones, Iterable) and not isinstance(phones, bytes | bytearray | dict):
        return iter(phones)
    raise PhonesError(
        f"phones: expected a list or comma text such as 13800130001,13800130002, got {type(phones).__name__}."
    )


def chunks(items: Iterable[object], size: int = CHUNK) -> Iterator[list[object]]:
    """Cut items into chunks, as they come.

    :param items: any items.
    :param size: items in one chunk, at most.
    :returns: the chunks; none is empty.
    """
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def normalise(item: object) -> str | None:
    """Bring one phone to its eleven digits.

    :param item: text such as `+86 138-0013-0001`, or a whole number.
    :returns: the eleven digits, or None if it is no mainland mobile.
    """
    if isinstance(item, str):
        if plain := _PLAIN.match(item):
            return plain[0]  # a plain `str`, also of a text of a class of its own
        text = item
    else:
        number = _whole_number(item)
        if number is None:
            return None
        text = str(number)
    bare = _FILLERS.sub("", unicodedata.normalize("NFKC", text))
    bare = _PREFIX.sub("", bare)
    return bare if _MOBILE.fullmatch(bare) else None


def mask(item: object) -> str:
    """Show a phone without showing it: `138****0001`; of anything else its kind and length alone.

    :param item: a phone, or what stood in its place.
    """
    phone = normalise(item)
    if phone is not None:
        return f"{phone[:3]}****{phone[-4:]}"
    if isinstance(item, str):
        digits = sum(character.isdigit() for character in item)
        return f"a text of {len(item)} characters, {digits} of them digits" if item.strip() else "an empty text"
    if isinstance(item, int | float) and not isinstance(item, bool):
        return f"a number of {len(_text(item))} characters"
    return f"a {type(item).__name__}"


def mask_inside(text: str) -> str:
    """Mask every mobile that stands inside a text.

    :param text: any text.
    """
    return _INSIDE_TEXT.sub(r"\1****\2", text)


def storable(text: str, most: int) -> str:
    r"""Bring any text to one that every database can store.

    :param text: any text, also with NUL, other control characters and halves of a surrogate pair: these are
        written as `\u0000`.
    :param most: characters, at most, of the result; an escape is not cut in two.
    """
    text = text[:most]
    if _UNSTORABLE.search(text) is None:
        return text
    kept: list[str] = []
    for character in text:
        written = f"\\u{ord(character):04x}" if _UNSTORABLE.match(character) else character
        most -= len(written)
        if most < 0:
            break
        kept.append(written)
    return "".join(kept)


def _all_plain(items: Sequence[object]) -> list[str] | None:
    """The items, if all are eleven digits already; without a look at each, which takes three times as long."""
    if set(map(type, items)) != {str}:
        return None
    plain: list[str] = list(items)  # type: ignore[arg-type]
    lines = "\n".join(plain)
    # As many lines as items, so no item has a line break of its own: each line is one item, whole.
    if len(lines) != 12 * len(plain) - 1 or _PLAIN_LINES.fullmatch(lines) is None:
        return None
    return plain


def _whole_number(item: object) -> int | None:
    """A number that a phone may have become in a spreadsheet, a data frame or a database."""
    number: int | None = None
    if isinstance(item, bool):
        return None
    if isinstance(item, int):
        number = item
    elif isinstance(item, float):
        number = int(item) if item.is_integer() else None
    elif isinstance(item, Decimal):
        if item.is_finite() and -_TOO_LARGE < item < _TOO_LARGE and item == int(item):
            number = int(item)
    elif isinstance(item, SupportsIndex):
        try:
            number = index(item)
        except TypeError:  # what a NumPy array of several numbers says
            return None
    # Of a number of 5,000 digits Python refuses to make a text.
    return number if number is not None and abs(number) < _TOO_LARGE else None


def _text(item: object) -> str:
    if item is None:
        return ""
    try:
        return str(item)
    except Exception:  # noqa: BLE001 - an item may be anything; of a whole number of 5,000 digits str() raises too
        return type(item).__name__


def _explained(counted: Mapping[str, int], samples: Sequence[Excluded]) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in counted.items())
    shown = "; ".join(f"item {each.position}: {each.shown}, {each.reason}" for each in samples)
    more = sum(counted.values()) - len(samples)
    return f"{counts} ({shown}{f'; and {more} more' if more > 0 else ''})"
