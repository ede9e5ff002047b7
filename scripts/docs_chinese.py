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
_MARK = re.compile(
    rf"(?<=[{_CHINESE}])[,:;?!]|[,:;?!](?=[{_CHINESE}{_PLACE}])|(?<=[{_PLACE})*])[,:;?!](?! )"
    r"|(?<=[A-Za-z]),(?=[A-Za-z])|;(?=\S)"
)
# Before one in English there is a blank.
_PARENTHESES = re.compile(rf"(?:(?<=[^\s|>*])|(?<=[{_CHINESE}{_PLACE}])\n *)\(([^()\n]*(?:\n[^()\n]+)*)\)")
_OPEN, _CLOSE = "\uff08", "\uff09"
_WIDE = {ord(mark): ord(mark) + 0xFEE0 for mark in ",:;?!"}
# What mkdocstrings writes around docstrings.
_HEADS = {
    '"doc-section-title">Parameters:<': '"doc-section-title">参数\uff1a<',
    '"doc-section-title">Attributes:<': '"doc-section-title">属性\uff1a<',
    '"doc-section-title">Returns:<': '"doc-section-title">返回\uff1a<',
    '"doc-section-title">Raises:<': '"doc-section-title">异常\uff1a<',
    "<th>Name</th>": "<th>名称</th>",
    "<th>Type</th>": "<th>类型</th>",
    "<th>Description</th>": "<th>说明</th>",
    "<th>Default</th>": "<th>默认值</th>",
    "<em>required</em>": "<em>必填</em>",
}


def set_in_type(markdown: str) -> str:
    """Set a page of Chinese.

    :param markdown: the page.
    """
    kept = _KEPT.findall(markdown)
    text = _KEPT.sub(_PLACE, markdown)
    # Twice: whether a second pair belongs to the line before shows when the first one is set.
    for _ in range(2):
        text = _PARENTHESES.sub(lambda found: f"{_OPEN}{found[1]}{_CLOSE}", text)
    text = _MARK.sub(lambda found: found[0].translate(_WIDE), text)
    text = _LINE_END.sub("", text)
    places = iter(kept)
    return re.sub(_PLACE, lambda _: next(places), text)


def translate_heads(html: str) -> str:
    """Put the heads of what is read from docstrings into Chinese.

    :param html: the page.
    """
    for english, chinese in _HEADS.items():
        html = html.replace(english, chinese)
    return html
