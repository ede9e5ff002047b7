"""What a receipt says: its status decides, its code hints at why a text has failed. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

DELIVERED = "delivered"
FAILED = "failed"
UNKNOWN = "unknown"

CAUSES = {
    "dead_number": "dead number",
    "handset": "handset off, full or out of reach",
    "blacklist": "blacklisted",
    "content": "content or signature",
    "quota": "too many texts",
    "hours": "outside the hours",
    "network": "network, gateway or platform",
    "uncertain": "uncertain, may have arrived",
    "other": "another code",
    "": "no code",
}
"""The classes of causes, and each in words."""

_OUTCOMES = {"1": DELIVERED, "0": FAILED}
_CODE = re.compile(r"([A-Z]{2})[\s:_-]*([0-9]{1,4})", re.ASCII)
# The tables of codes disagree, so these are the ones that are known; the document itself gives no table.
_CLASSES: dict[str, tuple[str, ...]] = {
    "dead_number": ("MK:0001", "MK:0012", "MN:0001", "DB:0100", "DB:0101"),
    "handset": ("MK:0024", "MK:0008", "MI:0013", "MC:0055", "EXPIRED", "MI"),
    "blacklist": ("MX:0012", "DB:0141", "DB:0144", "MB:1077", "ID:0069"),
    "content": ("ID:0076", "ID:0318", "KEYWORD", "SIGFAIL"),
    "quota": ("MX:0003", "TE:0003", "DB:0142"),
    "hours": ("DB:0139", "ID:0044"),
    "network": ("MB", "CA", "CB", "DA", "DB", "SA", "SB", "ID", "IB"),
    "uncertain": ("MA", "IA", "MC", "IC", "MM", "UNKNOWN"),
}
_CAUSE_OF = {code: name for name, codes in _CLASSES.items() for code in codes}


def outcome(status: str | None) -> str:
    """Read what became of a text: `delivered` or `failed`, which are final, or `unknown`.

    :param status: the receipt's `status` as it came; its `code` never decides.

    Interface document: 2.回执/回复推送接口, `status`.
    """
    found = _OUTCOMES.get(status or "")
    return found or _OUTCOMES.get(_plain(status or ""), UNKNOWN)


@lru_cache(maxsize=1024)
def cause(code: str | None) -> str:
    """Class the code of a text that has failed; a hint, as tables of codes disagree.

    :param code: the receipt's `code` as it came.
    :returns: one of `CAUSES`; empty if there is no code.

    Interface document: 2.回执/回复推送接口, `code`.
    """
    plain = _plain(code or "").upper()
    if not plain:
        return ""
    if found := _CAUSE_OF.get(plain):
        return found
    if parts := _CODE.fullmatch(plain):
        kind, number = parts[1], parts[2].zfill(4)
        return _CAUSE_OF.get(f"{kind}:{number}") or _CAUSE_OF.get(kind) or "other"
    return "other"


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip()
