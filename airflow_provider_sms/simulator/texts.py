"""What the platform thinks of a text: its signature, emoji in it, its length in points.

Counts with its own code and knows nothing of accounts, phones or HTTP.
"""

from __future__ import annotations

import re

_UNITS_OF_A_SINGLE = 70
_UNITS_OF_A_PART = 67

_SIGNATURE_AT_START = re.compile(r"【[^【】]*[^【】\s][^【】]*】[^【】]*")
_SIGNATURE_AT_END = re.compile(r"[^【】]*【[^【】]*[^【】\s][^【】]*】")

# Unicode's Emoji_Presentation, the pictographs of plane 1, and the two marks that turn a plain character into
# an emoji. Han characters outside the BMP (names!) are not in it.
_EMOJI = re.compile(
    "[\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab"
    "\u26bd\u26be\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c"
    "\u274e\u2753-\u2755\u2757\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55\ufe0f\u20e3"
    "\U0001f004\U0001f0cf\U0001f170\U0001f171\U0001f17e\U0001f17f\U0001f18e\U0001f191-\U0001f19a"
    "\U0001f1e6-\U0001f202\U0001f21a\U0001f22f\U0001f232-\U0001f23a\U0001f250\U0001f251\U0001f300-\U0001faff]"
)


def has_one_signature(text: str) -> bool:
    """Whether `text` holds exactly one 【…】, at its start or its end."""
    return bool(_SIGNATURE_AT_START.fullmatch(text) or _SIGNATURE_AT_END.fullmatch(text))


def has_emoji(text: str) -> bool:
    return bool(_EMOJI.search(text))


def points(text: str) -> int:
    """The points that `text` costs per phone: counted in UTF-16 units, signature included."""
    units = len(text) + sum(character > "\uffff" for character in text)
    if units <= _UNITS_OF_A_SINGLE:
        return 1
    return -(-units // _UNITS_OF_A_PART)
