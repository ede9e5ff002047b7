"""What `airflow-sms opt-outs list`, `add`, `remove`, `import` and `export` do: people look after the list.

A list of any length goes through in chunks. Only `export` shows whole phones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_sms.cli import Exit, Log, Result, UsageError
from airflow_provider_sms.cli_files import csv_text, harmless, written
from airflow_provider_sms.cli_input import phones_of_file
from airflow_provider_sms.gateway.phones import Reason, Sieve, mask, mask_inside, none_to_send_to
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger import opt_outs
from airflow_provider_sms.ledger.opt_outs import LONGEST_NOTE, OptOut, Source
from airflow_provider_sms.opening import open_ledger

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.planning import Chunks

_COLUMNS = ("phone", "source", "since", "account", "replyId", "note")


def list_opt_outs(args: argparse.Namespace) -> Result:
    """List the phones that have opted out, masked."""
    return Result(Exit.DONE, stream=_listed(open_ledger(Log()), args.output))


def _listed(ledger: Ledger, output: str) -> Iterator[str]:
    with closing(ledger):
        count = 0
        for chunk in opt_outs.listed(ledger):
            count += len(chunk)
            yield "".join(_json(each) if output == "json" else _line(each) for each in chunk)
    print(f"Opted out: {count}.", file=sys.stderr)


def add(args: argparse.Namespace) -> Result:
    """Put phones on the list."""
    return _added([args.phones], Source.PERSON, args)


def import_opt_outs(args: argparse.Namespace) -> Result:
    """Put the phones of a file on the list."""
    return _added(phones_of_file(args), Source.IMPORT, args)


def _added(chunks: Chunks, source: Source, args: argparse.Namespace) -> Result:
    note = _note(args.note)
    sieve = Sieve()
    added = 0
    with closing(open_ledger(Log())) as ledger:
        for chunk in chunks:
            sifted = sieve.sift(chunk)
            phones = [phone for at, phone in enumerate(sifted.phones) if at not in sifted.excluded]
            with ledger.writing() as connection:
                added += opt_outs.add_all(connection, ledger, phones, source=source, note=note)
    return _counted(sieve, {"added": added, "thereAlready": sieve.included - added}, args.output)


def remove(args: argparse.Namespace) -> Result:
    """Take phones off the list."""
    sieve = Sieve()
    sifted = sieve.sift(args.phones)
    phones = [phone for at, phone in enumerate(sifted.phones) if at not in sifted.excluded]
    with closing(open_ledger(Log())) as ledger, ledger.writing() as connection:
        removed = sum(opt_outs.remove(connection, phone) for phone in phones)
    return _counted(sieve, {"removed": removed, "notThere": sieve.included - removed}, args.output)


def export(args: argparse.Namespace) -> Result:
    """Write the list with its phones whole."""
    return written(args.file, _exported(open_ledger(Log())))


def _exported(ledger: Ledger) -> Iterator[str]:
    with closing(ledger):
        yield csv_text([_COLUMNS])
        for chunk in opt_outs.listed(ledger):
            yield csv_text(map(_row, chunk))


# What goes in


def _note(note: str | None) -> str | None:
    if note is not None and len(note) > LONGEST_NOTE:
        raise UsageError(f"--note: {len(note)} characters; up to {LONGEST_NOTE} can be kept.")
    return note


# What comes out


def _counted(sieve: Sieve, counts: dict[str, int], output: str) -> Result:
    """Say what became of the phones; an error if none of them was one."""
    if not sieve.included:
        raise UsageError(str(none_to_send_to(sieve)))
    left_out = sieve.counted()
    counts |= {reason.value: left_out.get(reason.value, 0) for reason in (Reason.DUPLICATE, Reason.MALFORMED)}
    if output == "json":
        return Result(Exit.DONE, json.dumps(counts))
    names = {"thereAlready": "there already", "notThere": "not there"}
    said = ", ".join(f"{names.get(name, name)}: {count}" for name, count in counts.items())
    return Result(Exit.DONE, said + (f". Left out: {sieve.explained()}." if left_out else "."))


def _line(each: OptOut) -> str:
    since = f"{each.created_at.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"
    return f"{mask(each.phone)}  {each.source:<6}  {since}  {mask_inside(each.note or '')}".rstrip() + "\n"


def _json(each: OptOut) -> str:
    shown = {"phone": mask(each.phone), "source": each.source, "since": _since(each), "account": each.account}
    return (
        json.dumps(shown | {"replyId": each.reply_id, "note": each.note and mask_inside(each.note)}, ensure_ascii=False)
        + "\n"
    )


def _row(each: OptOut) -> Sequence[object]:
    return each.phone, each.source, _since(each), each.account, each.reply_id, harmless(each.note or "")


def _since(each: OptOut) -> str:
    return each.created_at.astimezone(BEIJING).isoformat(timespec="seconds")
