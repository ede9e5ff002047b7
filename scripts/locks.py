"""Make locks/*.txt from locks/*.in and pyproject.toml: pins for every Python and system that we support.

Plain pins: no hashes and no addresses, so that whoever installs them does so from the mirror they trust.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.environment import ROOT

LOCKS = ROOT / "locks"
_OLDEST_PYTHON = "3.11"
_PROJECT = "pyproject.toml"
_OPTIONS = (
    "--universal",
    "--no-annotate",
    "--no-header",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--quiet",
)


def make_lock(uv: str, name: str, *inputs: str, upgrade: bool) -> None:
    """Write locks/`name`.txt from `inputs`, paths in the repository; keep pins unless told to `upgrade`."""
    output = LOCKS / f"{name}.txt"
    command = [
        uv,
        "pip",
        "compile",
        *_OPTIONS,
        "--python-version",
        _OLDEST_PYTHON,
        "--output-file",
        str(output),
    ]
    command += ["--upgrade"] if upgrade else []
    command += [str(ROOT / each) for each in inputs]
    subprocess.run(command, check=True, cwd=ROOT)
    sources = ", ".join(Path(each).name for each in inputs)
    output.write_text(f"# Made by `make locks` from {sources}.\n{output.read_text()}")
    print(f"locks/{output.name}: {sum('==' in line for line in output.read_text().splitlines())} packages")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.locks", description=__doc__.splitlines()[0])
    parser.add_argument("--uv", default="uv", help="the uv program")
    parser.add_argument("--upgrade", action="store_true", help="to the newest releases that the inputs allow")
    args = parser.parse_args()
    if not shutil.which(args.uv):
        print(f"No program {args.uv!r} here: `pip install uv`, or make locks UV=/path/to/uv", file=sys.stderr)
        return 2
    try:
        for each in sorted(LOCKS.glob("airflow-*.in"), key=_version_of):
            make_lock(args.uv, each.stem, _PROJECT, "locks/tests.in", f"locks/{each.name}", upgrade=args.upgrade)
        make_lock(args.uv, "bench", _PROJECT, "locks/bench.in", upgrade=args.upgrade)
        make_lock(args.uv, "docs", "locks/docs.in", upgrade=args.upgrade)
    except subprocess.CalledProcessError:
        return 1
    return 0


def _version_of(file: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in file.stem.removeprefix("airflow-").split("."))


if __name__ == "__main__":
    sys.exit(main())
