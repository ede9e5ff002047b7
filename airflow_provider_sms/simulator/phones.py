"""What the platform takes for a phone, and how one is shown where people look on."""

from __future__ import annotations

import re

_MOBILE = re.compile(r"1[3-9][0-9]{9}")
_LONG_DIGITS = re.compile(r"[0-9]{7,}")

is_mobile = _MOBILE.fullmatch


def masked(phone: str) -> str:
    """`138****0001`; a malformed phone shows nothing of itself, since it may be anything, even a key."""
    return f"{phone[:3]}****{phone[-4:]}" if is_mobile(phone) else "malformed"


def masked_as_pushed(phone: str) -> str:
    """`1380013****`, as the mobiles in the document's push samples."""
    return phone[:7] + "****"


def without_phones(text: str) -> str:
    """`text` with every long run of digits masked."""
    return _LONG_DIGITS.sub("****", text)
