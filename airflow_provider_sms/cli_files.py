"""CSV as the commands write it: streamed, for one reader, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from airflow_provider_sms.cli import Exit, Result, UsageError

_FORMULAS = ("=", "+", "-", "@")


def written(file: str | None, texts: Iterable[str]) -> Result:
    """Write texts to standard output, or into a new file.

    :param file: the file's path; None for standard output.
    :raises UsageError: the file is there already, or can not be written.
    """
    if file is None:
        return Result(Exit.DONE, stream=texts)
    if not file.strip():
        raise UsageError("--file: it is empty; give a path, or leave the option out for standard output.")
    path = Path(file)
    _write_new(path, texts)
    return Result(Exit.DONE, f"{path}: written.")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Write rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def harmless(cell: str) -> str:
    """A spreadsheet takes such a cell for a formula, which may come from whoever wrote it."""
    return f"'{cell}" if cell.lstrip().startswith(_FORMULAS) else cell


def _write_new(path: Path, texts: Iterable[str]) -> None:
    try:
        # Nobody else may read it, and nothing that is there is overwritten.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"--file: {path} is there already, and is not overwritten; give another path.") from None
    except OSError as error:
        raise UsageError(
            f"--file: {path} can not be made: {error.strerror}; give a path in a folder that is there and yours."
        ) from None
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123 - a handle, not a path
            file.writelines(texts)
    except BaseException as error:
        # Half a list would pass for the whole one.
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(f"--file: {path} can not be written: {error.strerror}.") from None
        raise
