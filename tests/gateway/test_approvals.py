"""A question by SMS and its answer: what counts, what does not, and that nobody can guess it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_provider_sms.gateway.approvals import (
    MOST_WRONG,
    Answers,
    Decision,
    Reply,
    Verdict,
    check_question,
    decide,
    make_code,
    make_question,
)
from airflow_provider_sms.gateway.opt_outs import OptOutWords

CODE = "123456"
ANSWERS = Answers(("Y", "同意", "yes"), ("N", "拒绝", "no"))
AT = datetime(2030, 1, 31, tzinfo=UTC)
PHONE, OTHER = "13800130001", "13800130002"


def replies(*contents: str | tuple[str, str]) -> list[Reply]:
    pairs = [(PHONE, each) if isinstance(each, str) else each for each in contents]
    return [Reply(number, phone, content, AT) for number, (phone, content) in enumerate(pairs, 1)]


def said(*contents: str | tuple[str, str]) -> Decision:
    return decide(replies(*contents), CODE, ANSWERS)


class TestTheCode:
    def test_it_is_the_same_on_every_try_and_another_for_every_question(self) -> None:
        codes = {make_code("secret", f"key {number}") for number in range(1000)}
        assert make_code("secret", "key 0") == make_code("secret", "key 0")
        assert len(codes) > 990
        assert all(len(code) == 6 and code.isdigit() for code in codes)

    def test_another_ledger_makes_another_one(self) -> None:
        assert make_code("secret", "key") != make_code("another", "key")


class TestTheQuestion:
    def test_the_code_goes_where_the_template_says(self) -> None:
        assert make_question("Go on? Y {code} / N {code}", CODE, ANSWERS) == "Go on? Y 123456 / N 123456"

    def test_without_a_place_it_is_said_how_to_answer(self) -> None:
        assert make_question("【云通信】删除旧分区?", CODE, ANSWERS) == (
            "【云通信】删除旧分区? 同意请回复 Y 123456,拒绝请回复 N 123456"
        )
        words = Answers(("好",), ("不",))
        assert make_question("删除?", CODE, words) == "删除? 同意请回复 好 123456,拒绝请回复 不 123456"

    def test_a_signature_at_the_end_stays_there(self) -> None:
        assert make_question("删除旧分区?【云通信】", CODE, ANSWERS) == (
            "删除旧分区? 同意请回复 Y 123456,拒绝请回复 N 123456【云通信】"
        )

    @pytest.mark.parametrize(
        "question", ["Go on?", "Y {code}", "{{ params.question }}", "{% if a %}{code}{% endif %}", '{"a": 1}']
    )
    def test_a_good_template(self, question: str) -> None:
        check_question(question)

    @pytest.mark.parametrize("question", ["Y {Code}", "Y { code }", "Y {}", "{name}, go on? {code}"])
    def test_a_template_that_names_something_else(self, question: str) -> None:
        with pytest.raises(ValueError, match=r"^question: .* is not known; the code's place is \{code\}\.$"):
            check_question(question)

    def test_an_empty_one(self) -> None:
        with pytest.raises(ValueError, match="^question: it is empty"):
            check_question(" ")


class TestTheWords:
    @pytest.mark.parametrize(
        ("approve", "reject", "message"),
        [
            ((), ("N",), "approve: expected a list"),
            ("Y", ("N",), "approve: expected a list"),
            (("Y",), ("1",), "reject: '1' is no word"),
            (("Y", "。"), ("N",), "approve: '。' is no word"),
            (("Y", "ok"), ("n", "OK"), "approve, reject: ok is in both"),
        ],
    )
    def test_words_that_will_not_do(self, approve: tuple[str, ...], reject: tuple[str, ...], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Answers(approve, reject)


class TestTheAnswer:
    @pytest.mark.parametrize(
        "content",
        [
            "Y 123456",
            "y123456",
            "123456 y",
            "Y\uff11\uff12\uff13\uff14\uff15\uff16",
            "\uff39 123456",
            "同意,123 456。",
            "YES:123456\n",
            "同意123456",
        ],
    )
    def test_it_approves(self, content: str) -> None:
        decision = said(content)
        assert decision.verdict is Verdict.APPROVED
        assert decision.reply is not None
        assert decision.reply.id == 1

    @pytest.mark.parametrize("content", ["N 123456", "n123456", "拒绝 123456", "No, 123456!", "123456N"])
    def test_it_rejects(self, content: str) -> None:
        assert said(content).verdict is Verdict.REJECTED

    @pytest.mark.parametrize("content", ["N 123456", "n123456", "拒绝 123456"])
    def test_a_rejection_is_no_opt_out(self, content: str) -> None:
        assert not OptOutWords(["R", "T", "TD", "N", "退订", "拒收"]).are_in(content)

    @pytest.mark.parametrize(
        "content",
        ["", "Y", "N", "同意", "123456", "maybe 123456", "不同意 123456", "YN 123456", "Y" + " " * 300 + "123456"],
    )
    def test_it_is_no_answer(self, content: str) -> None:
        decision = said(content)
        assert (decision.verdict, decision.wrong_codes, decision.unread) == (None, 0, 1)

    @pytest.mark.parametrize("content", ["Y 123457", "Y 12345", "Y 1234567", "Y 123456 123457", "N 000000"])
    def test_a_wrong_code_decides_nothing(self, content: str) -> None:
        decision = said(content)
        assert (decision.verdict, decision.wrong_codes) == (None, 1)

    def test_the_first_that_counts_decides(self) -> None:
        decision = said("Y", "Y 111111", (OTHER, "N 123456"), "Y 123456")
        assert decision.verdict is Verdict.REJECTED
        assert decision.reply is not None
        assert decision.reply.id == 3

    def test_a_phone_that_guesses_does_not_count_any_more(self) -> None:
        guesses = [f"Y {number:06d}" for number in range(MOST_WRONG)]
        decision = said(*guesses, "Y 123456")
        assert (decision.verdict, decision.wrong_codes, decision.barred) == (None, MOST_WRONG, 1)
        assert said(*guesses[1:], "Y 123456").verdict is Verdict.APPROVED
        # Those of another phone still do.
        assert said(*guesses, "Y 123456", (OTHER, "Y 123456")).verdict is Verdict.APPROVED

    def test_no_phone_and_no_text_shows(self) -> None:
        assert PHONE not in repr(said("Y 123456"))
        assert "123456" not in repr(said("Y 123456"))
