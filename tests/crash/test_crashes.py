"""Whatever kills a send, and wherever: nobody is texted twice, and nobody is lost.

A sample; SMS_CRASH_RUNS=250 for that many runs on SQLite and on PostgreSQL each (`make crash`). One run again:
`python -m tests.crash --seed SEED --only NUMBER`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.crash.conftest import AssertKept, how_many
from tests.crash.harness import Harness

pytestmark = [pytest.mark.crash, pytest.mark.timeout(3600)]

FIRST_BYTE = "before the request's first byte"
SETTLE = "after the answer, before the settle"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_phone_gets_its_text_once_whoever_is_killed(
    kind: str, harness: Harness, ledger_of_kind: Callable[[str], str], seed: int, assert_kept: AssertKept
) -> None:
    count = how_many("SMS_CRASH_RUNS", 10, kind)
    assert_kept(harness.run("crashes", kind, ledger_of_kind(kind), seed, range(count)))


PLANNING = [
    "after the commit: draft",
    "before a chunk of phones",
    "after the commit: add",
    "before the commit: complete",
]


def test_who_stood_still_while_planning_does_not_spoil_the_plan_of_another(
    harness: Harness, sqlite_url: str, seed: int, assert_kept: AssertKept
) -> None:
    numbers = range(len(PLANNING))
    assert_kept(harness.run("crashes", "planning", sqlite_url, seed, numbers, story="stopped", kinds=PLANNING))


@pytest.mark.once
class TestTheHarnessItself:
    @pytest.mark.parametrize(
        ("sabotage", "story", "kind", "told"),
        [
            ("claims are not stored before the request", "killed", SETTLE, "texted more than once"),
            ("leases are ignored", "stopped", FIRST_BYTE, "texted more than once"),
            ("batches of the dead are sent again", "killed", SETTLE, "texted more than once"),
            ("every try is a campaign of its own", "killed", SETTLE, "texted more than once"),
            ("acceptances are not stored", "killed", SETTLE, "neither so nor that they are in doubt"),
            ("taskIds are mixed up", "killed", SETTLE, "not by the platform under that taskId"),
        ],
    )
    def test_sees_it_when(
        self, sabotage: str, story: str, kind: str, told: str, harness: Harness, sqlite_url: str
    ) -> None:
        summary = harness.run(
            "crashes", sabotage, sqlite_url, 1, range(10), sabotage=sabotage, story=story, kinds=[kind]
        )
        assert any(told in problem for result in summary.problems for problem in result["problems"]), str(summary)

    def test_knows_the_steps_of_a_send(self, harness: Harness, sqlite_url: str) -> None:
        """A step that is called otherwise one day would silently never be cut."""
        (result,) = harness.run("steps", "steps", sqlite_url, 1, range(1)).results
        steps = [FIRST_BYTE, SETTLE, *PLANNING, "after the commit: claim", "after reading: check", "after the request"]
        steps += ["in the request's body", "before the answer is read", "before the commit: accept", "before the XCom"]
        assert set(steps) - set(result["cuts"]) == set()
