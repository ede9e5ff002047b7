"""What kind of text it is: what the law and the trade ask of a text depends on it. Imports nothing of ours."""

from __future__ import annotations

from enum import StrEnum


class Category(StrEnum):
    """What kind of text it is."""

    # Phones that have opted out get none.
    MARKETING = "marketing"
    NOTICE = "notice"


def read_category(category: str | None) -> Category | None:
    """Read a category as people write it.

    :param category: `marketing` or `notice`; None if it is not said.
    :raises ValueError: it is neither.
    """
    if category is None:
        return None
    try:
        return Category(str(category))
    except ValueError:
        choices = ", ".join(repr(each.value) for each in Category)
        raise ValueError(f"category: {category!r} is none of {choices}.") from None
