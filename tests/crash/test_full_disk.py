"""A disk without space, at every step: ends in words and a `resolve` line, not in a second text."""

from __future__ import annotations

import pytest

from tests.crash.conftest import AssertKept, how_many
from tests.crash.crashes import SETTLES
from tests.crash.harness import Harness

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("kinds", [SETTLES, ()], ids=["when the answer is to be written down", "at any step"])
def test_a_full_disk_texts_nobody_twice(
    kinds: tuple[str, ...], harness: Harness, sqlite_url: str, seed: int, assert_kept: AssertKept
) -> None:
    count = how_many("SMS_CRASH_RUNS", 4, "sqlite") // (1 if kinds else 4)
    assert_kept(
        harness.run("crashes", "disk full", sqlite_url, seed, range(min(count, 60)), story="disk_full", kinds=kinds)
    )
