"""Add up reports in JUnit's format: one line, `N passed, N failed, N skipped`."""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.matrix import Counts, read_counts

if __name__ == "__main__":
    print(sum((read_counts(Path(name)) for name in sys.argv[1:]), Counts()))
