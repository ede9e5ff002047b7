"""What `airflow-sms ledger upgrade`, `check` and `purge` do: people look after the ledger."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_sms import settings
from airflow_provider_sms.cli import Exit, Log, Result, UsageError
from airflow_provider_sms.gateway import times
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger import sqlite_file, upkeep, versions
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnsuitableError
from airflow_provider_sms.opening import find_url, open_ledger, refuse_sqlite

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.upkeep import Removed

_MOST_DAYS = 36_500


def upgrade(args: argparse.Namespace) -> Result:
    """Make the ledger's tables, or bring them to this provider's version."""
    url = find_url()
    if url.get_backend_name() == "sqlite" and sqlite_file.make(Path(url.database or "")):
        return Result(Exit.DONE, f"Made {url.database}, version {versions.KNOWN[-1]}.")
    with closing(Ledger(url)) as ledger:
        before, now = versions.upgrade(ledger)
    if before == now:
        return Result(Exit.DONE, f"The ledger has version {now} already.")
    return Result(Exit.DONE, f"The ledger has version {now} now; before: {before or 'no tables'}.")


# How it is


def check(args: argparse.Namespace) -> Result:
    """Say where the ledger is and whether it is fit to send with."""
    url = find_url()
    facts: dict[str, object] = {"kind": url.get_backend_name(), "place": url.render_as_string(hide_password=True)}
    problems: list[str] = []
    warnings: list[str] = []
    path = Path(url.database or "") if facts["kind"] == "sqlite" else None
    if path is not None:
        facts["place"] = str(path)
        try:
            refuse_sqlite()
        except LedgerUnsuitableError as error:
            problems.append(str(error))
        if warning := sqlite_file.warning(path):
            warnings.append(warning)
    if path is not None and not path.exists():
        problems.append(f"There is no {path} yet; the first send makes it, or `airflow-sms ledger upgrade`.")
    else:
        with closing(Ledger(url)) as ledger:
            problems += _look_inside(ledger, facts)
    if path is not None and path.parent.exists():
        facts["freeBytes"] = shutil.disk_usage(path.parent).free
    status = Exit.USAGE if problems else Exit.DONE
    if args.output == "json":
        data = {**_facts_as_data(facts), "problems": problems, "warnings": warnings}
        return Result(status, json.dumps(data, ensure_ascii=False))
    lines = [f"{name}: {value}" for name, value in _facts_shown(facts).items()]
    lines += [f"warning: {each}" for each in warnings]
    lines += [f"problem: {each}" for each in problems] or ["The ledger is fit to send with."]
    return Result(status, "\n".join(lines))


def _look_inside(ledger: Ledger, facts: dict[str, object]) -> list[str]:
    """Collect facts, as far as it goes.

    :returns: what is wrong.
    """
    try:
        facts["version"] = versions.version(ledger)
        facts["needs"] = versions.KNOWN[-1]
        versions.check(ledger)
        stock = upkeep.take_stock(ledger)
        facts["createdAt"] = stock.created_at.astimezone(BEIJING).isoformat(timespec="seconds")
        facts["campaigns"] = stock.campaigns
        facts["purged"] = stock.purged
        facts["batches"] = stock.batches
        facts["receipts"] = stock.receipts
        facts["replies"] = stock.replies
        facts["notLookedAt"] = stock.not_looked_at
        facts["unowned"] = stock.unowned
        facts["writable"] = False
        upkeep.try_writing(ledger)
        facts["writable"] = True
    except LedgerError as error:
        return [str(error)]
    return []


def _facts_as_data(facts: dict[str, object]) -> dict[str, object]:
    data = {name: value.rows if isinstance(value, upkeep.Count) else value for name, value in facts.items()}
    about = [name for name, value in facts.items() if isinstance(value, upkeep.Count) and value.is_about]
    return {**data, "estimated": about}


def _facts_shown(facts: dict[str, object]) -> dict[str, object]:
    shown = dict(facts)
    if "writable" in facts:
        shown["writable"] = "yes" if facts["writable"] else "no"
    if isinstance(batches := facts.get("batches"), dict):
        shown["batches"] = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in batches.items()) or "none"
    if isinstance(free := shown.pop("freeBytes", None), int):
        shown["free on the disk"] = f"{free / 1e9:.1f} GB"
    if "notLookedAt" in facts:
        # They say whether a receiver runs, and whether somebody else sends with the account.
        shown["pushes not looked at"] = shown.pop("notLookedAt")
        shown["pushes of no batch"] = shown.pop("unowned")
    if "version" in facts:
        needed = shown.pop("needs")
        shown["version"] = f"{facts['version'] or 'no tables'} (needed: {needed})"
    if "createdAt" in facts:
        shown["made"] = shown.pop("createdAt")
    return shown


# What is kept no longer


def purge(args: argparse.Namespace) -> Result:
    """Remove phones, texts, receipts and replies of ended campaigns; counts stay."""
    before = _before(args)
    with closing(open_ledger(Log())) as ledger:
        removed = upkeep.count_purgeable(ledger, before) if args.dry_run else upkeep.purge(ledger, before, _tell)
    if args.output == "json":
        return Result(Exit.DONE, json.dumps({"before": before.isoformat(timespec="seconds"), **asdict(removed)}))
    verb = "Would be removed" if args.dry_run else "Removed"
    day = f"{before.astimezone(BEIJING):%Y-%m-%d %H:%M} Beijing time"
    kept = f" Kept, as it is still being sent: {removed.kept} as old." if removed.kept else ""
    return Result(Exit.DONE, f"{verb} of what ended before {day}: {_counted(removed)}.{kept}")


def _before(args: argparse.Namespace) -> datetime:
    if args.before is not None and args.older_than is not None:
        raise UsageError("--before, --older-than: give one of them.")
    now = times.now()
    if args.before is not None:
        return _read_day(args.before, now)
    days = args.older_than
    if days is None:
        days = settings.retention_days()
    elif not 1 <= days <= _MOST_DAYS:
        raise UsageError(f"--older-than: {days} is not between 1 and {_MOST_DAYS} days.")
    if days is None:
        raise UsageError(
            "--before, --older-than: neither is given, and [sms] retention_days is not set; nothing was removed. Give "
            "one of them, such as --older-than 365, or set AIRFLOW__SMS__RETENTION_DAYS."
        )
    return now - timedelta(days=days)


def _read_day(text: str, now: datetime) -> datetime:
    try:
        day = datetime.fromisoformat(text)
        day = (day if day.tzinfo is not None else day.replace(tzinfo=BEIJING)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"--before: {text!r} is no day; write it like 2030-01-31.") from None
    if day > now:
        raise UsageError(f"--before: {text} is not past yet.")
    return day


def _tell(removed: Removed) -> None:
    print(f"So far: {_counted(removed)}.", file=sys.stderr)


def _counted(removed: Removed) -> str:
    return (
        f"{removed.phones} phones and the texts of {removed.campaigns} campaigns, {removed.receipts} receipts, "
        f"{removed.replies} replies, {removed.drafts} half plans, {removed.alarms} alarms"
        f"{f' (held back and told to nobody: {removed.untold}, by phone)' if removed.untold else ''}"
    )
