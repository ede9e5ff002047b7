"""When a wait for receipts is over, by the counts alone."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_sms.gateway.errors import InputError
from airflow_provider_sms.waiting import Goal, Total, Verdict, Wanted, described, read_batch_ids, summary


def wanted(value: object) -> Wanted | None:
    return Wanted.read("min_delivered", value)


def judge(**counts: Any) -> str:
    """Without a goal."""
    return Goal().judge(Total(**counts)).value


@pytest.mark.parametrize(
    ("value", "total", "phones"),
    [
        (3, 10, 3),
        ("3", 10, 3),
        (0.9, 10, 9),
        ("0.9", 10, 9),
        (0.3, 10, 3),  # as a binary fraction it is a little more
        (0.95, 10, 10),
        (1.0, 7, 7),
        ("1.0", 7, 7),
        ("95%", 100, 95),
        (0.5, 0, 1),  # nothing is no share of nothing
        (1, 100, 1),
    ],
)
def test_a_number_or_a_share(value: object, total: int, phones: int) -> None:
    found = wanted(value)
    assert found is not None
    assert found.phones(total) == phones
    again = wanted(found.written)
    assert again is not None
    assert again.phones(total) == phones


@pytest.mark.parametrize("value", [None, "", " ", "None"])
def test_none_is_wanted(value: object) -> None:
    assert wanted(value) is None


@pytest.mark.parametrize("value", [0, 0.0, -1, 1.5, "101%", "0%", "many", True, "nan", "inf", "1/0", [3]])
def test_neither_a_number_nor_a_share(value: object) -> None:
    with pytest.raises(InputError, match="min_delivered: expected a number of phones such as 100, or a share"):
        wanted(value)


class TestWithoutAGoal:
    def test_it_waits_for_the_last_receipt(self) -> None:
        assert judge(accepted=3, delivered=1, failed={"handset": 1}) == "waiting"
        assert judge(accepted=3, delivered=1, failed={"handset": 2}) == "reached"

    def test_an_unknown_status_is_not_final(self) -> None:
        assert judge(accepted=2, delivered=1, unknown=1) == "waiting"

    def test_what_may_still_be_accepted_is_waited_for(self) -> None:
        assert judge(accepted=2, delivered=2, open=5) == "waiting"


class TestEnoughDelivered:
    def test_it_is_over_as_soon_as_it_is_reached(self) -> None:
        goal = Goal(wanted(0.5))
        assert goal.judge(Total(accepted=10, delivered=5)) is Verdict.REACHED
        assert goal.judge(Total(accepted=10, delivered=4)) is Verdict.WAITING

    def test_or_can_not_be_reached_any_more(self) -> None:
        goal = Goal(wanted(0.9))
        assert goal.judge(Total(accepted=10, delivered=8, failed={"": 1})) is Verdict.WAITING
        assert goal.judge(Total(accepted=10, delivered=8, failed={"": 2})) is Verdict.HOPELESS

    def test_more_than_were_accepted_can_not_be_delivered(self) -> None:
        assert Goal(wanted(4)).judge(Total(accepted=3)) is Verdict.HOPELESS

    def test_of_nothing_no_share_is_delivered(self) -> None:
        assert Goal(wanted(0.1)).judge(Total()) is Verdict.HOPELESS

    def test_a_share_is_of_what_may_still_be_accepted_too(self) -> None:
        goal = Goal(wanted(0.5))
        assert goal.judge(Total(accepted=2, delivered=2, open=8)) is Verdict.WAITING
        assert goal.judge(Total(accepted=2, delivered=0, failed={"": 2}, open=8)) is Verdict.WAITING
        assert goal.judge(Total(accepted=6, delivered=0, failed={"": 6}, open=4)) is Verdict.HOPELESS

    def test_more_receipts_than_accepted_phones_are_no_trouble(self) -> None:
        # The platform may count fewer phones than it sends receipts for.
        assert Goal(wanted(3)).judge(Total(accepted=2, delivered=3)) is Verdict.REACHED
        assert Goal().judge(Total(accepted=2, delivered=3)) is Verdict.REACHED


class TestEnoughFinal:
    def test_failures_count(self) -> None:
        goal = Goal(None, wanted(0.5))
        assert goal.judge(Total(accepted=4, delivered=1)) is Verdict.WAITING
        assert goal.judge(Total(accepted=4, delivered=1, failed={"quota": 1})) is Verdict.REACHED

    def test_both(self) -> None:
        goal = Goal(wanted(1), wanted(1.0))
        assert goal.judge(Total(accepted=2, delivered=1)) is Verdict.WAITING
        assert goal.judge(Total(accepted=2, delivered=1, failed={"": 1})) is Verdict.REACHED
        assert goal.judge(Total(accepted=2, failed={"": 2})) is Verdict.HOPELESS


def test_counts_are_added_up() -> None:
    parts = [
        Total(accepted=3, delivered=1, failed={"quota": 1}, unknown=1),
        Total(accepted=2, failed={"quota": 1, "": 1}, contradicted=1, open=4),
    ]
    assert Total.of(parts) == Total(
        accepted=5, delivered=1, failed={"quota": 2, "": 1}, unknown=1, contradicted=1, open=4
    )
    assert Total.of([]) == Total()


def test_the_summary_names_every_accepted_phone_once() -> None:
    counts = Total(accepted=10, delivered=4, failed={"quota": 2, "": 1}, unknown=1, contradicted=1)
    assert summary(counts) == {
        "accepted": 10,
        "delivered": 4,
        "failed": 3,
        "failedByCause": {"other": 1, "quota": 2},
        "unknown": 3,
        "missing": 2,
        "contradicted": 1,
    }


def test_no_code_and_another_code_are_one_cause_in_the_summary() -> None:
    assert summary(Total(accepted=3, failed={"": 1, "other": 2}))["failedByCause"] == {"other": 3}


def test_too_few_in_words() -> None:
    counts = Total(accepted=10, delivered=4, failed={"quota": 2, "": 1}, unknown=1, contradicted=1)
    assert Goal(wanted(0.9)).shortfall(counts) == (
        "Too few: min_delivered wants 9 (0.9), 4 are. 10 accepted, 4 delivered, 3 failed (no code: 1, too many "
        "texts: 2), 3 unknown, 1 contradicted."
    )
    assert described(Total()) == "0 accepted, 0 delivered, 0 failed, 0 unknown"


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("T1", ("T1",)),
        (241, ("241",)),
        (["T1", 2, "T1"], ("T1", "2")),
        (("T1",), ("T1",)),
        ("['T1', 'T2']", ("T1", "T2")),
        ("[241, 242]", ("241", "242")),
        (" T1 ", ("T1",)),
    ],
)
def test_batch_ids_as_a_send_hands_them_on(value: object, ids: tuple[str, ...]) -> None:
    assert read_batch_ids(value) == ids


@pytest.mark.parametrize("value", [None, "", [], [None], "None", 1.5, {"a": 1}, True, "[", b"T1"])
def test_no_batch_ids(value: object) -> None:
    with pytest.raises(InputError, match="batch_id: "):
        read_batch_ids(value)
