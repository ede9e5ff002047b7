"""Phones as people hand them in."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_sms.gateway import phones
from airflow_provider_sms.gateway.errors import PhonesError
from airflow_provider_sms.gateway.phones import Reason


@pytest.mark.parametrize(
    "written",
    [
        "13800130001",
        " 138 0013 0001 ",
        "138-0013-0001",
        "+86 138-0013-0001",
        "+8613800130001",
        "8613800130001",
        "008613800130001",
        "(+86)13800130001",
        "\uff11\uff13\uff18\uff10\uff10\uff11\uff13\uff10\uff10\uff10\uff11",
        "\u200e13800130001\u200b",
        "\ufeff13800130001",
        "'13800130001'",
        13800130001,
        13800130001.0,
        8613800130001,
        Decimal(13800130001),
        Decimal("13800130001.00"),
    ],
)
def test_many_ways_to_write_one_phone(written: object) -> None:
    assert phones.normalise(written) == "13800130001"


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        None,
        "1380013000",
        "138001300011",
        "12800130001",
        "+85213800130001",
        "1380013000a",
        True,
        [],
        1.5,
        float("nan"),
        "+86+8613800130001",
        "868613800130001",
        "١٣800130001",
        b"13800130001",
        pytest.param(10**5000, id="5001 digits"),
        pytest.param(-(10**5000), id="minus 5001 digits"),
        1e300,
        float("inf"),
        Decimal("1E+1000000"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        Decimal("13800130001.5"),
    ],
)
def test_what_is_no_mainland_mobile(written: object) -> None:
    assert phones.normalise(written) is None


def test_a_number_of_a_data_frame() -> None:
    class Int64:
        def __index__(self) -> int:
            return 13800130001

    class Array:
        def __index__(self) -> int:
            raise TypeError("only integer scalar arrays can be converted to a scalar index")

    assert phones.normalise(Int64()) == "13800130001"
    assert phones.normalise(Array()) is None


@pytest.mark.parametrize("prefix", [140, 144, 146, 148, 149, 154, 160, 163, 164, 168, 169, 179, 194, 199])
def test_prefixes_that_libraries_do_not_know_yet(prefix: int) -> None:
    assert phones.normalise(f"{prefix}00130001") == f"{prefix}00130001"


@pytest.mark.parametrize(
    "text",
    [
        "13800130001,13800130002",
        "13800130001\uff0c13800130002\uff0c",
        "13800130001\u300113800130002",
        "13800130001;13800130002",
        "13800130001\r\n13800130002\n",
        "['13800130001', '13800130002']",
        '["13800130001", "13800130002"]',
        "[13800130001, 13800130002]",
    ],
)
def test_comma_text_and_a_list_that_went_through_a_template(text: str) -> None:
    assert phones.read(text) == phones.Phones(("13800130001", "13800130002"), ())


def test_each_phone_once_and_what_is_left_out_with_the_reason() -> None:
    found = phones.read(["13800130002", "13800130001", "+86 13800130002", "rubbish 13800130003", None])
    assert found.included == ("13800130002", "13800130001")
    assert [(each.position, each.reason) for each in found.excluded] == [
        (3, Reason.DUPLICATE),
        (4, Reason.MALFORMED),
        (5, Reason.MALFORMED),
    ]
    assert found.counted() == {"duplicate": 1, "malformed": 2}


def test_what_is_left_out_is_explained_without_being_shown() -> None:
    found = phones.read(["13800130001", "13800130001", "identity 110101199001011234"] + ["x"] * 10)
    said = found.explained()
    assert "1 duplicate, 11 malformed" in said
    assert "item 2: 138****0001" in said
    assert "and 7 more" in said
    assert "13800130001" not in said
    assert "11010119900101" not in said


@pytest.mark.parametrize("nothing", ["", " , ,", [], (), iter(())])
def test_no_phone_at_all(nothing: object) -> None:
    with pytest.raises(PhonesError, match="phones: there is none"):
        phones.read(nothing)


def test_none_that_can_be_sent_to() -> None:
    with pytest.raises(PhonesError, match="phones: none of 2 is a mainland mobile"):
        phones.read(["x", "y"])


@pytest.mark.parametrize("rubbish", [None, 1.5, {"13800130001": 1}, b"13800130001", True, object()])
def test_what_is_no_list(rubbish: object) -> None:
    with pytest.raises(PhonesError, match="phones: expected a list or comma text"):
        phones.read(rubbish)


def test_one_number() -> None:
    assert phones.read(13800130001).included == ("13800130001",)


def test_phones_inside_a_text_are_masked() -> None:
    assert phones.mask_inside("call 13800130001 or 010-12345678, id 110101199001011234") == (
        "call 138****0001 or 010-12345678, id 110101199001011234"
    )


@given(st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.from_regex(r"\A1[3-9]\d{9}\Z"))))
def test_every_item_ends_in_exactly_one_place(items: list[object]) -> None:
    try:
        found = phones.read(items)
    except PhonesError:
        return
    assert len(found.included) + len(found.excluded) == len(items)
    assert len(set(found.included)) == len(found.included)
    assert all(phones.normalise(phone) == phone for phone in found.included)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary()))
def test_a_mask_never_shows_seven_digits_in_a_row(item: object) -> None:
    shown = phones.mask(item)
    assert not re.search(r"\d{7}", shown)


PLAIN = [f"138{n:08d}" for n in range(30)]
ITEMS = st.one_of(
    st.sampled_from(PLAIN),
    st.sampled_from(PLAIN).map(lambda phone: f"+86 {phone}"),
    st.sampled_from(PLAIN).map(int),
    st.sampled_from(["", "rubbish", None, "\n", "\x00", "\ud800", 1.5, True, b"x"]),
    # What could pass for several plain phones, or a part of one, once all are joined by line breaks.
    st.sampled_from([f"{PLAIN[0]}\n{PLAIN[1]}", f"{PLAIN[0]}\n", f"\n{PLAIN[0]}", PLAIN[0][:5], PLAIN[0][5:]]),
    st.text(max_size=12),
)


def one_by_one(items: Sequence[object]) -> tuple[list[str | None], dict[int, Reason]]:
    """What a sieve does, said in the plainest way: the phones, and by index why an item is left out."""
    normalised = [phones.normalise(item) for item in items]
    excluded = {}
    for at, phone in enumerate(normalised):
        if phone is None:
            excluded[at] = Reason.MALFORMED
        elif phone in normalised[:at]:
            excluded[at] = Reason.DUPLICATE
    return normalised, excluded


def sifted(items: Sequence[object], sizes: Sequence[int]) -> tuple[phones.Sieve, list[str], dict[int, Reason]]:
    """Send items through a sieve in chunks of these sizes, over and over."""
    sieve = phones.Sieve()
    found: list[str] = []
    excluded: dict[int, Reason] = {}
    turn = 0
    while len(found) < len(items):
        size = sizes[turn % len(sizes)]
        turn += 1
        chunk = sieve.sift(items[len(found) : len(found) + size])
        excluded.update({len(found) + at: reason for at, reason in chunk.excluded.items()})
        found += chunk.phones
    return sieve, found, excluded


class TestSieve:
    @given(st.lists(ITEMS, max_size=60), st.lists(st.integers(1, 20), min_size=1, max_size=5))
    @example(PLAIN, [7])
    @example([*PLAIN, *PLAIN], [30])
    @example([*PLAIN, PLAIN[0]], [31])
    def test_however_it_is_cut_the_result_is_that_of_a_look_at_each(
        self, items: list[object], sizes: list[int]
    ) -> None:
        expected, why = one_by_one(items)
        sieve, found, excluded = sifted(items, sizes)
        assert excluded == why
        assert [None if why.get(at) is Reason.MALFORMED else phone for at, phone in enumerate(found)] == expected
        assert sieve.seen == {phone for phone in expected if phone is not None}
        assert sieve.included == len(items) - len(why)
        assert sum(sieve.counted().values()) == len(why)
        assert [(each.position, each.reason) for each in sieve.samples] == [
            (at + 1, reason) for at, reason in why.items()
        ][:5]

    @given(st.lists(ITEMS, max_size=40))
    def test_the_short_way_is_the_long_way(self, items: list[object]) -> None:
        short, long = phones.Sieve(), phones.Sieve()
        assert short.sift(items) == long._sift_each(items)
        assert (short.seen, short.counted(), short.samples) == (long.seen, long.counted(), long.samples)

    @given(st.lists(ITEMS, min_size=1, max_size=40))
    def test_reading_a_list_is_one_sieve(self, items: list[object]) -> None:
        sieve, found, excluded = sifted(items, [7])
        if not sieve.included:
            with pytest.raises(PhonesError, match=re.escape(str(phones.none_to_send_to(sieve)))):
                phones.read(items)
            return
        read = phones.read(items)
        assert list(read.included) == [phone for at, phone in enumerate(found) if at not in excluded]
        assert [(each.position - 1, each.reason) for each in read.excluded] == list(excluded.items())
        assert (read.counted(), read.explained()) == (sieve.counted(), sieve.explained())

    @pytest.mark.parametrize(
        "items",
        [
            # Each time as long, joined by line breaks, as so many plain phones; some of them read like them too.
            ["13800130001\n13800130002", "13800130003"],
            ["13800130001\n1380013000", "2"],
            ["13800130001\n", "3800130002"],
            ["1380013", "001\n1380013000"],
            ["", "13800130001\n1380013000"],
            ["13800130001\r", "3800130002"],
            ["1380013000\uff11", "13800130002"],
            ["1380013000\u0661", "13800130002"],
        ],
    )
    def test_a_line_break_inside_an_item_makes_no_phones_of_it(self, items: list[str]) -> None:
        _, why = one_by_one(items)
        assert phones.Sieve().sift(items).excluded == why

    def test_a_text_of_a_class_of_its_own_is_looked_at_for_itself(self) -> None:
        class Odd(str):
            __slots__ = ()

            def __hash__(self) -> int:
                return id(self)

            def __eq__(self, other: object) -> bool:
                return self is other

        sieve = phones.Sieve()
        assert sieve.sift([Odd("13800130001")]).phones == ["13800130001"]
        assert sieve.sift([Odd("13800130001"), Odd("+8613800130001")]).excluded == dict.fromkeys(
            (0, 1), Reason.DUPLICATE
        )

    def test_what_it_remembers_holds_for_the_next_chunk(self) -> None:
        sieve = phones.Sieve()
        sieve.sift(["13800130001", "13800130002"])
        assert sieve.sift(["13800130003", "13800130001"]).excluded == {1: Reason.DUPLICATE}
        assert (sieve.included, sieve.counted()) == (3, {"duplicate": 1})
        assert sieve.explained() == "1 duplicate (item 4: 138****0001, duplicate)"

    def test_a_few_samples_stand_for_many(self) -> None:
        sieve = phones.Sieve()
        for _ in range(3):
            sieve.sift(["x"] * 1000)
        assert [each.position for each in sieve.samples] == [1, 2, 3, 4, 5]
        assert sieve.explained().startswith("3000 malformed (item 1: a text of 1 characters")
        assert sieve.explained().endswith("; and 2995 more)")

    @given(st.permutations(PLAIN), st.integers(1, 30))
    def test_the_fingerprint_is_that_of_the_set(self, order: list[str], size: int) -> None:
        sieve, _, _ = sifted([*order, order[0], "rubbish"], [size])
        assert sieve.fingerprint() == sha256("\n".join(sorted(PLAIN)).encode()).hexdigest()

    def test_another_phone_is_another_fingerprint(self) -> None:
        assert sifted(PLAIN, [10])[0].fingerprint() != sifted(PLAIN[1:], [10])[0].fingerprint()

    def test_no_repr_shows_a_phone(self) -> None:
        sieve = phones.Sieve()
        assert "13800130001" not in repr(sieve.sift(["13800130001", "x"])) + repr(sieve)

    def test_beside_what_is_sent_to_it_keeps_nothing(self) -> None:
        sieve = phones.Sieve()
        sieve.sift(PLAIN)
        malformed: list[object] = ["x" * 100] * 1000
        sieve.sift(malformed)
        tracemalloc.start()
        for _ in range(20):
            sieve.sift(malformed)
            sieve.sift(PLAIN)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 10_000


class TestStoredText:
    @pytest.mark.parametrize(
        ("item", "text"),
        [
            (None, ""),
            ("", ""),
            ("rubbish", "rubbish"),
            ("张三", "张三"),
            ("a\x00b", "a\\u0000b"),
            ("\ud800", "\\ud800"),
            ("\udcff1", "\\udcff1"),
            ("tab\tline\nend", "tab\\u0009line\\u000aend"),
            ("\x7f\x85", "\\u007f\\u0085"),
            ("😀", "😀"),
            ("x" * 65, "x" * 64),
            ("\x00" * 65, "\\u0000" * 10),
            ("x" * 60 + "\x00", "x" * 60),
            (1.5, "1.5"),
            (True, "True"),
            (10**5000, "int"),
        ],
        ids=lambda value: ascii(value)[:20] if isinstance(value, str) else type(value).__name__,
    )
    def test_of_a_malformed_item(self, item: object, text: str) -> None:
        assert phones.Sieve().sift([item]).phones == [text]

    def test_of_an_item_that_has_no_text(self) -> None:
        class Broken:
            def __str__(self) -> str:
                raise RuntimeError("no text")

        assert phones.Sieve().sift([Broken()]).phones == ["Broken"]

    @given(st.text(st.characters(exclude_categories=[])), st.integers(0, 80))
    def test_every_database_can_store_it(self, text: str, most: int) -> None:
        stored = phones.storable(text, most)
        assert len(stored) <= most
        assert b"\x00" not in stored.encode()
        assert not any(ord(character) < 32 for character in stored)
        assert phones.storable(stored, most) == stored


class TestChunks:
    @given(st.lists(st.integers()), st.integers(1, 10))
    def test_all_items_in_their_order(self, items: list[int], size: int) -> None:
        cut = list(phones.chunks(iter(items), size))
        assert [item for chunk in cut for item in chunk] == items
        assert all(len(chunk) == size for chunk in cut[:-1])
        assert all(cut)

    def test_no_more_is_taken_than_is_asked_for(self) -> None:
        items = iter(range(100))
        assert next(phones.chunks(items, 10)) == list(range(10))
        assert next(items) == 10
