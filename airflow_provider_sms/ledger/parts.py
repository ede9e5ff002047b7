"""Long lists in parts: a database takes so many values in one statement. Knows no table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
VALUES_AT_ONCE = 500


def in_parts(items: Sequence[T], size: int = VALUES_AT_ONCE) -> Iterator[Sequence[T]]:
    """Cut a list into pieces.

    :param size: the most items of a piece.
    """
    for start in range(0, len(items), size):
        yield items[start : start + size]
