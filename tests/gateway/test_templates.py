"""Texts with places: what is a place, what may be filled in, and that it is filled in once."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_sms.gateway.errors import TextError
from airflow_provider_sms.gateway.templates import Flaw, FlawsError, read_template, word

NAMES = st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_characters="{}"), max_size=20)


class TestPlaces:
    def test_plain_names_are_places_and_may_be_there_twice(self) -> None:
        template = read_template("{name}您好,{本月账单}元,{_x1};{name}")
        assert template.fields == ("name", "本月账单", "_x1")
        assert template.fill({"name": "王芳", "本月账单": 12, "_x1": "b", "other": 1}) == "王芳您好,12元,b;王芳"

    @pytest.mark.parametrize(
        ("content", "at"),
        [
            ("ab{", 3),
            ("}", 1),
            ("{}", 1),
            ("{0}", 1),
            ("{a b}", 1),
            ("{name!r}", 1),
            ("{name:>9}", 1),
            ("{name.__class__}", 1),
            ("{name[0]}", 1),
            ("{ok}{{name}}", 5),
            ("{ok} {a-b}", 6),
        ],
    )
    def test_nothing_else_may_be_in_braces(self, content: str, at: int) -> None:
        with pytest.raises(TextError, match=f"content: the brace at character {at} makes no place for a field"):
            read_template(content)

    def test_what_is_no_text_is_none(self) -> None:
        with pytest.raises(TextError, match="expected text, got NoneType"):
            read_template(None)  # type: ignore[arg-type]

    @given(pieces=st.lists(st.tuples(PLAIN, NAMES)), end=PLAIN, words=st.dictionaries(NAMES, st.text(max_size=20)))
    @example(pieces=[("", "a"), ("", "b")], end="", words={"a": "{b}", "b": "{{ x }}{a}"})
    def test_every_place_is_filled_once_with_its_word_and_the_rest_stays(
        self, pieces: list[tuple[str, str]], end: str, words: dict[str, str]
    ) -> None:
        template = read_template("".join(f"{text}{{{name}}}" for text, name in pieces) + end)
        row = dict.fromkeys(template.fields, "x") | words
        usable = {name: word(value) for name, value in row.items()}
        flaws = {name: usable[name] for name in template.fields if isinstance(usable[name], Flaw)}
        if flaws:
            with pytest.raises(FlawsError) as caught:
                template.fill(row)
            assert caught.value.flaws == flaws
        else:
            assert template.fill(row) == "".join(text + usable[name] for text, name in pieces) + end

    def test_all_flaws_of_a_row_are_told_at_once(self) -> None:
        with pytest.raises(FlawsError) as caught:
            read_template("{a}{b}{c}{d}").fill({"a": "", "b": "【x】", "c": [1]})
        assert caught.value.flaws == {"a": Flaw.EMPTY, "b": Flaw.SIGNATURE, "c": Flaw.KIND, "d": Flaw.MISSING}


class TestWords:
    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (" 王芳 ", "王芳"),
            ("{name} {{ ds }}", "{name} {{ ds }}"),
            ("a\r\n\tb\x00c\u2028d", "a b c d"),
            ("a  b", "a  b"),
            (0, "0"),
            (-12, "-12"),
            (12.5, "12.5"),
            (1e16, "10000000000000000"),
            (Decimal("120.00"), "120.00"),
            (Decimal("1E+2"), "100"),
            (date(2030, 1, 31), "2030-01-31"),
            (datetime(2030, 1, 31, 14, 5), "2030-01-31 14:05:00"),  # noqa: DTZ001
            (time(14, 5), "14:05:00"),
        ],
    )
    def test_are_written_in_one_line(self, value: object, written: str) -> None:
        assert word(value) == written

    @pytest.mark.parametrize(
        "value", [None, "", " \r\n\x00", "\u3000\u200b\ufeff", float("nan"), float("inf"), Decimal("NaN")]
    )
    def test_that_are_none(self, value: object) -> None:
        assert word(value) is Flaw.EMPTY

    @pytest.mark.parametrize("value", [True, b"x", [], {}, object(), Fraction(1, 3), SimpleNamespace()])
    def test_of_another_kind_are_refused(self, value: object) -> None:
        assert word(value) is Flaw.KIND

    @pytest.mark.parametrize(
        "value",
        [10**5000, -(10**5000), Decimal("1E+99999999"), Decimal("1E-99999999")],
        ids=["large", "negative", "exponent", "fraction"],
    )
    def test_with_more_digits_than_a_text_takes_are_refused_before_they_are_written(self, value: object) -> None:
        assert word(value) is Flaw.DIGITS

    @pytest.mark.parametrize("value", ["【银行】", "x【", "】"])
    def test_can_not_sign(self, value: str) -> None:
        assert word(value) is Flaw.SIGNATURE
