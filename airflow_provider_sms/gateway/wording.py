"""How a marketing text says that one can opt out of it. Pure functions."""

from __future__ import annotations

import re
import unicodedata

WORDING = "拒收请回复R"
_OPEN, _CLOSE = "【", "】"
_STOP, _ANSWER, _LETTER = "(?:拒收|退订|取消订阅|谢绝|不收)", "(?:回复|回|复)", "(?:qx|td|[rtn]|0+|退订)(?![a-z0-9])"
# 拒收请回复R, 退订回T; and the other way round: 回TD退订.
_KNOWN = re.compile(f"{_STOP}[请可]?{_ANSWER}{_LETTER}|{_ANSWER}{_LETTER}{_STOP}")


def says_how_to_opt_out(content: str) -> bool:
    """Whether a text says how to opt out, in one of the usual ways; case, width, blanks and signs do not matter.

    :param content: such as `…拒收请回复R`, `…回T退订`, `…退订回TD`.
    """
    usual = unicodedata.normalize("NFKC", content).casefold()
    return _KNOWN.search("".join(each for each in usual if each.isalnum())) is not None


def with_opt_out(content: str) -> str:
    """Add how to opt out: at the end, or before a signature that stands there.

    :param content: the text, signed.
    """
    body, signature = content, ""
    if content.endswith(_CLOSE) and not content.startswith(_OPEN):
        start = content.rindex(_OPEN)
        body, signature = content[:start].rstrip(), content[start:]
    return f"{body}{WORDING}{signature}"
