"""What takes long to make and is only read: made by the first process of a test run that asks, for all of them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` has filled, once for all processes of this test run; whoever comes meanwhile waits.

    If it fails, the next one tries again.
    """
    folder = Path(os.environ["SMS_TESTS_SHARED"], name)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(folder)
    return folder
