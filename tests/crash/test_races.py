"""Two workers that begin the same campaign at the same moment: nobody is texted twice, and nobody is lost.

A sample; SMS_RACES=200 for that many on each database (`make crash`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.conftest import AssertKept, how_many
from tests.crash.harness import Harness

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_two_at_once_text_everybody_once(
    kind: str, harness: Harness, ledger_of_kind: Callable[[str], str], seed: int, assert_kept: AssertKept
) -> None:
    count = how_many("SMS_RACES", 10, kind)
    assert_kept(harness.run("races", f"races on {kind}", ledger_of_kind(kind), seed, range(count)))
