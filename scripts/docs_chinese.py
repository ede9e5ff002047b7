"""For the docs site: Chinese as it is set. The sources keep to ASCII punctuation, as all of this repository does.

Full-width punctuation in prose, not in code, addresses and what is for the site's generator; and no blank where a line
of Chinese goes on in the next one.
"""

from __future__ import annotations

import re

# Code, targets of links, comments, docstrings' places with their options, boxes, rulers of tables, addresses.
_KEPT = re.compile(
    r"^ *```.*?^ *```$|`[^`\n]+`|\]\([^)\s]*\)|<!--.*?-->|^:::[^\n]*(?:\n {4}[^\n]*)*|^ *(?:!!!|\?\?\?)[^\n]*$"
    r"|^\|[ :|-]+\|$|https?://[^\s\u3000-\uffef]+",
    re.MULTILINE | re.DOTALL,
)
_PLACE = "\ue000"
_CHINESE = r"\u3000-\u303f\u4e00-\u9fff\uff00-\uffef\u201c\u201d"
_LINE_END = re.compile(rf"(?<=[{_CHINESE}])\n *(?=[{_CHINESE}])")
_MARK = re.compile(rf"(?<=[{_CHINESE}])[,:;?!]|[,:;?!](?=[{_CHINESE}{_PLACE}])|(?<=[{_PLACE})*])[,:;?!](?! )")
_PARENTHESES = re.compile(r"(?<=[^\s|>])\(([^()\n]*)\)")
_WIDE = {ord(mark): ord(mark) + 0xFEE0 for mark in ",:;?!()"}


def set_in_type(markdown: str) -> str:
    """Set a page of Chinese.

    :param markdown: the page.
    """
    kept = _KEPT.findall(markdown)
    text = _KEPT.sub(_PLACE, markdown)
    text = _PARENTHESES.sub(
        lambda found: f"({found[1]})".translate({ord(each): _WIDE[ord(each)] for each in "()"}), text
    )
    text = _MARK.sub(lambda found: found[0].translate(_WIDE), text)
    text = _LINE_END.sub("", text)
    places = iter(kept)
    return re.sub(_PLACE, lambda _: next(places), text)
