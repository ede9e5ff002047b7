"""A ledger that is only just being made when processes are killed."""

from __future__ import annotations

import pytest

from tests.crash.conftest import AssertKept, how_many
from tests.crash.harness import Harness

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600)]

MAKING = ["within: make", "before the commit: make", "after the commit: make", "before the commit: enter"]


JUST_MADE = ["after reading: check", "after reading: find"]


def test_who_is_killed_as_soon_as_it_is_made_has_lost_nothing(
    harness: Harness, sqlite_url: str, seed: int, assert_kept: AssertKept
) -> None:
    assert_kept(harness.run("crashes", "just made", sqlite_url, seed, range(4), story="just_made", kinds=JUST_MADE))


def test_two_make_it_at_once_and_one_is_killed(
    harness: Harness, sqlite_url: str, seed: int, assert_kept: AssertKept
) -> None:
    count = min(how_many("SMS_CRASH_RUNS", 4, "sqlite"), 20)
    assert_kept(harness.run("crashes", "first use", sqlite_url, seed, range(count), story="first_use", kinds=MAKING))
