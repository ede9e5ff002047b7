"""The locks are plain pins that install from any mirror, and they cover what the project asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "locks").glob("*.txt"))
PIN = re.compile(r"[a-z0-9][a-z0-9-]*(\[[a-z0-9,-]+\])?==[0-9][0-9a-z.!+]*( ; [^#]+)?")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
class TestLock:
    def test_it_holds_plain_pins_and_nothing_else(self, lock: Path) -> None:
        lines = [line for line in lock.read_text().splitlines() if not line.startswith("#")]
        assert [line for line in lines if not PIN.fullmatch(line)] == []

    def test_it_fits_the_project_s_own_requirements(self, lock: Path) -> None:
        if lock.stem == "docs":
            pytest.skip("the docs are built without Airflow")
        pins = {
            pin.name: str(pin.specifier).removeprefix("==")
            for pin in map(Requirement, lock.read_text().splitlines()[1:])
        }
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for wanted in map(Requirement, project["dependencies"]):
            assert wanted.specifier.contains(pins[wanted.name]), wanted


def test_every_supported_airflow_has_one() -> None:
    assert {lock.stem for lock in LOCKS} >= {f"airflow-{minor}" for minor in ("2.11", "3.0", "3.1", "3.2", "3.3")}
