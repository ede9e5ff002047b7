"""Phones as commands are given them: in a file, on standard input, or in the command itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from airflow_provider_sms import recipients
from airflow_provider_sms.cli import UsageError

if TYPE_CHECKING:
    from airflow_provider_sms.planning import Chunks


def reader(args: argparse.Namespace) -> Callable[[], Chunks]:
    """How to read the `--phones` of a send; may be called more than once."""
    text: str = args.phones
    if text.startswith("@"):
        file = _file(text[1:], args)
        return lambda: recipients.stream(file)
    _refuse_for_a_file(args, "write --phones @FILE.")
    if text == "-":
        text = "".join(_standard_input("--phones"))
    return lambda: recipients.stream(text)


def phones_of_file(args: argparse.Namespace) -> Chunks:
    """The phones of an import's FILE, once."""
    if args.file == "-":
        _refuse_for_a_file(args, "give its path.")
        return recipients.stream(line.strip() for line in _standard_input("FILE") if line.strip())
    return recipients.stream(_file(args.file, args))


def _file(path: str, args: argparse.Namespace) -> recipients.PhoneFile:
    encoding = {"encoding": args.encoding} if args.encoding else {}
    return recipients.PhoneFile(path, column=args.column, **encoding)


def _refuse_for_a_file(args: argparse.Namespace, remedy: str) -> None:
    for option in ("column", "encoding"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option}: is for a file; {remedy}")


def _standard_input(option: str) -> Iterator[str]:
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{option}: standard input is no text in {error.encoding}; write it into a file, and give the file with "
            "its --encoding."
        ) from None
