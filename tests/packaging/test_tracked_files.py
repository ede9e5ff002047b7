"""What must not be in any file of the project: a machine's own paths, a registry's address, a phone.

New files that git does not ignore are looked at too.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
# In pieces, since this file is looked at too.
REGISTRIES = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]
REGISTRIES += [".".join(("debian", "org")), ".".join(("proxy", "golang", "org"))]
MACHINE_PATHS = re.compile(r"(?<![\w.:$}~/-])/(?:work|root|tmp/lab|home/\w+|opt/wheels)(?![\w-])")
PHONE = re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)")
# Numbers for tests and examples.
OURS = re.compile(r"1380013\d{4}")
# Samples of the platform's own interface document, for tests that quote it.
OF_THE_DOCUMENT = {"150" + "80929435", "176" + "08432793"}


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    """Every line of every text file, with its place."""
    return list(_lines())


def _lines() -> Iterator[tuple[str, str]]:
    for file in tracked_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            yield f"{file.relative_to(ROOT)}:{number}", line


def test_no_registry_is_named(lines: list[tuple[str, str]]) -> None:
    assert [place for place, line in lines if any(host in line for host in REGISTRIES)] == []


def test_no_machine_s_own_path_is_named(lines: list[tuple[str, str]]) -> None:
    assert [place for place, line in lines if MACHINE_PATHS.search(line)] == []


def test_no_phone_could_be_a_person_s(lines: list[tuple[str, str]]) -> None:
    found = [(place, phone) for place, line in lines for phone in PHONE.findall(line) if not OURS.fullmatch(phone)]
    assert [
        (place, phone) for place, phone in found if not (phone in OF_THE_DOCUMENT and place.startswith("tests/"))
    ] == []


def test_nothing_that_make_made_is_tracked() -> None:
    names = [str(file.relative_to(ROOT)) for file in tracked_files()]
    assert [name for name in names if name.startswith((".venv/", ".matrix/", ".demo/", ".bench/", ".docs/"))] == []
    assert [name for name in names if name.endswith((".pyc", ".db", ".whl"))] == []
