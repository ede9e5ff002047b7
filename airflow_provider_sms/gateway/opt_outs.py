"""Which replies opt a phone out of marketing. Pure functions; knows neither Airflow nor SQL."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Longer than any word; a reply may have any length, and to compare it must not take its time.
_LONGEST_WORD = 100


class OptOutWords:
    """The words by which people opt out.

    Only a reply that is such a word opts out, not one that merely holds it: `R`, `r。` and `【退订】` do, `No, 3 pm`
    and `N 123456` do not.

    :param words: as people write them; case, width, and what stands around them that is no letter or digit do not
        matter.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(map(_bare, words)) - {""}

    def are_in(self, content: str) -> bool:
        """Whether a reply is one of the words.

        :param content: the reply's text.

        Interface document: 2.回执/回复推送接口, `content`.
        """
        return _bare(content) in self._words


def _bare(text: str) -> str:
    bare = _stripped(text)
    if len(bare) > _LONGEST_WORD:
        return ""
    # Once more: what was one letter may have come apart into a letter and a mark.
    return _stripped(unicodedata.normalize("NFKC", bare)).casefold()


def _stripped(text: str) -> str:
    start, end = 0, len(text)
    while start < end and not text[start].isalnum():
        start += 1
    while start < end and not text[end - 1].isalnum():
        end -= 1
    return text[start:end]
