"""A question by SMS and its answer: the one-time code, what a reply means, who has decided. Pure functions.

Knows neither Airflow nor SQL. A sender's number can be forged; the code is what only the people asked can know.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

DIGITS = 6
MOST_WRONG = 5
PLACEHOLDER = "{code}"
_LONGEST_ANSWER = 200
_TEMPLATES = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_PLACEHOLDERS = re.compile(r"\{[\w\s]*\}")
_SIGNATURE_AT_THE_END = re.compile(r"【[^【】]*】\s*\Z")


class Verdict(StrEnum):
    """What an answer says."""

    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Answers:
    """The words that approve, and those that reject.

    :raises ValueError: there is none, one has no letter or has a digit, or one is both.
    """

    approve: tuple[str, ...]
    reject: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, words in (("approve", self.approve), ("reject", self.reject)):
            if isinstance(words, str) or not words:
                raise ValueError(f"{name}: expected a list of words, such as ['Y', '同意'].")
            for word in words:
                letters, digits = _taken_apart(word)
                if not letters or digits:
                    raise ValueError(f"{name}: {word!r} is no word; a word has letters and no digits.")
        if both := self._letters(self.approve) & self._letters(self.reject):
            raise ValueError(f"approve, reject: {', '.join(sorted(both))} is in both.")

    def verdict(self, letters: str) -> Verdict | None:
        """What a word says; None if it is none of these."""
        if letters in self._letters(self.approve):
            return Verdict.APPROVED
        return Verdict.REJECTED if letters in self._letters(self.reject) else None

    @staticmethod
    def _letters(words: tuple[str, ...]) -> set[str]:
        return {_taken_apart(word)[0] for word in words}


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply to the question, from a phone that was asked.

    :param received_at: aware.
    """

    id: int
    phone: str = field(repr=False)
    content: str = field(repr=False)
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """What the replies come to.

    :param verdict: None: nobody has decided yet.
    :param reply: the one that decides.
    :param wrong_codes: how many answers had a wrong code.
    :param barred: how many phones have sent too many of these, and do not count any more.
    :param unread: how many replies are no answer: no word of the two kinds, or no code.
    """

    verdict: Verdict | None
    reply: Reply | None
    wrong_codes: int
    barred: int
    unread: int


def make_code(secret: str, key_hash: str) -> str:
    """Make the one-time code of a question: the same on every try, and to be guessed by nobody without the ledger.

    :param secret: the ledger's.
    :param key_hash: the campaign's.
    :returns: six digits.
    """
    digest = hmac.new(secret.encode(), f"approval {key_hash}".encode(), hashlib.sha256).digest()
    return f"{int.from_bytes(digest[:8], 'big') % 10**DIGITS:0{DIGITS}d}"


def check_question(question: str) -> None:
    """See that a question's template names nothing but the code, before anybody is asked.

    :raises ValueError: it names something else, which people would read as it stands there.
    """
    if not question.strip():
        raise ValueError("question: it is empty.")
    others = sorted(set(_PLACEHOLDERS.findall(_TEMPLATES.sub("", question))) - {PLACEHOLDER})
    if others:
        raise ValueError(f"question: {', '.join(others)} is not known; the code's place is {PLACEHOLDER}.")


def make_question(question: str, code: str, answers: Answers) -> str:
    """Put the code into a question.

    :param question: with `{code}` where it goes; without, how to answer is added, in Chinese.
    """
    if PLACEHOLDER in question:
        return question.replace(PLACEHOLDER, code)
    how = f" 同意请回复 {answers.approve[0]} {code},拒绝请回复 {answers.reject[0]} {code}"
    end = _SIGNATURE_AT_THE_END.search(question)
    if end is None or end.start() == 0:
        return question.rstrip() + how
    return question[: end.start()].rstrip() + how + end[0]


def decide(replies: Iterable[Reply], code: str, answers: Answers) -> Decision:
    """Find the answer that counts: the first one that carries the code, of a phone that has not guessed too often.

    :param replies: in the order that they came in.
    """
    wrong: Counter[str] = Counter()
    unread = 0
    verdict: Verdict | None = None
    decisive: Reply | None = None
    for reply in replies:
        said = None
        if len(reply.content) <= _LONGEST_ANSWER:
            letters, digits = _taken_apart(reply.content)
            said = answers.verdict(letters) if digits else None
        if said is None:
            unread += 1
        elif not hmac.compare_digest(digits.encode(), code.encode()):
            wrong[reply.phone] += 1
        elif wrong[reply.phone] < MOST_WRONG:
            verdict, decisive = said, reply
            break
    barred = sum(count >= MOST_WRONG for count in wrong.values())
    return Decision(verdict, decisive, wrong.total(), barred, unread)


def _taken_apart(text: str) -> tuple[str, str]:
    """The letters and the digits of a text, however they are written and in whatever order."""
    bare = unicodedata.normalize("NFKC", text).casefold()
    digits = "".join(each for each in bare if each in "0123456789")
    return "".join(each for each in bare if each.isalnum() and each not in "0123456789"), digits
