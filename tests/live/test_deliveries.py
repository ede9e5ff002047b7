"""A whole Airflow 3, its own triggerer included: 200 sensors that wait for receipts share one query an interval.

Takes minutes, so only with SMS_LIVE=1.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.many_waiters import INTERVAL, WAITERS, measure

pytestmark = pytest.mark.timeout(1500)
# How many questions to watch once all wait.
WATCHED = 4


def test_200_waiters_share_one_query(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost = measure(tmp_path, WATCHED)
    assert cost.queries >= WATCHED - 1
    assert cost.queries <= cost.seconds / INTERVAL + 1
    assert cost.calls == 0
    assert {(each["accepted"], each["delivered"]) for each in cost.results} == {(1, 1)}
    with capsys.disabled():
        print(
            f"\n{WAITERS} waiters: {cost.queries} queries in {cost.seconds:.1f} s "
            f"({cost.seconds / INTERVAL:.2f} intervals of {INTERVAL} s), {cost.calls} calls of the platform, "
            f"{cost.cpu:.2f} s of CPU ({cost.idle_cpu:.2f} s with nobody waiting); all deferred after "
            f"{cost.deferred:.0f} s, all successful {cost.finished:.0f} s after the last receipt"
        )
