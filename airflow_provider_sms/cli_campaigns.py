"""What `airflow-sms campaigns`, `status`, `resolve` and `export` do: people see and settle what became of campaigns.

Counts and ids alone; the one command that writes phones is `export`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_sms import advice, metrics, settings
from airflow_provider_sms.cli import Exit, Result, UsageError
from airflow_provider_sms.cli_deliveries import (
    HEARD,
    delivery_data,
    delivery_lines,
    heard_cells,
    shared_data,
    shared_line,
)
from airflow_provider_sms.cli_files import csv_text, harmless, written
from airflow_provider_sms.cli_send import Log, default_account
from airflow_provider_sms.gateway.opt_outs import OptOutWords
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger import deliveries, evidence, handed_in, matching, reports, verdicts, views
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.opening import open_ledger

if TYPE_CHECKING:
    from airflow_provider_sms.advice import Advice
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.evidence import Found
    from airflow_provider_sms.ledger.handed_in import Item
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.ledger.views import Batch, Heading, Overview

BATCHES_SHOWN = 50
_MATCHING_SECONDS = 10.0
_HEADER = (
    *("position", "phone", "state", "reason", "batch", "taskid", "account", "settled_at", "message"),
    *HEARD,
)


# The list


def campaigns(args: argparse.Namespace) -> Result:
    """List campaigns, newest first."""
    if args.limit < 1:
        raise UsageError(f"--limit: {args.limit} is less than 1.")
    with closing(open_ledger(Log())) as ledger:
        found = views.newest(ledger, args.limit)
    if args.output == "json":
        return Result(Exit.DONE, json.dumps([_overview_data(each) for each in found], ensure_ascii=False))
    if not found:
        return Result(Exit.DONE, "No campaigns yet.")
    header = ("id", "planned (Beijing)", "phones", "accepted", "refused", "in doubt", "not sent", "excluded")
    rows = [_overview_row(each) for each in found]
    return Result(Exit.DONE, "\n".join(_table((*header, "needs you", "campaign"), rows)))


def _overview_row(overview: Overview) -> tuple[object, ...]:
    heading, standing = overview.heading, overview.standing
    return (
        heading.id,
        _beijing(heading.planned_at),
        heading.phones,
        standing.accepted,
        standing.refused,
        standing.phones(BatchState.IN_DOUBT, BatchState.SENDING),
        standing.phones(BatchState.PLANNED, BatchState.EXPIRED),
        overview.excluded,
        advice.needs(heading, standing),
        heading.name + (f" [{heading.namespace}]" if heading.namespace else ""),
    )


def _overview_data(overview: Overview) -> dict[str, object]:
    heading, standing = overview.heading, overview.standing
    return {
        **_heading_data(heading),
        "phones": heading.phones,
        "accepted": standing.accepted,
        "refused": standing.refused,
        "inDoubt": standing.phones(BatchState.IN_DOUBT),
        "sending": standing.phones(BatchState.SENDING),
        "notSent": standing.phones(BatchState.PLANNED),
        "expired": standing.phones(BatchState.EXPIRED),
        "excluded": overview.excluded,
        "needs": advice.needs(heading, standing),
    }


def _heading_data(heading: Heading) -> dict[str, object]:
    return {
        "id": heading.id,
        "campaign": heading.name,
        "namespace": heading.namespace,
        "plannedAt": _iso(heading.planned_at),
        "sendTime": _iso(heading.send_time),
        "validUntil": _iso(heading.valid_until),
        "purgedAt": _iso(heading.purged_at),
        "waitsUntil": _iso(heading.waits_until),
    }


# One campaign


def status(args: argparse.Namespace) -> Result:
    """Show what became of a campaign, and what to do about it."""
    with closing(open_ledger(Log())) as ledger:
        heading = _find(ledger, args.campaign)
        report = reports.report(ledger, heading.id)
        standing = views.standing(ledger, heading.id)
        batches = views.batches(ledger, heading.id, None if args.all else BATCHES_SHOWN)
        found = _evidence(ledger, heading) if report.in_doubt else []
        delivered = deliveries.of_campaigns(ledger, [heading.id]).get(heading.id, deliveries.Deliveries())
        replies = views.count_replies(ledger, heading.id)
        shared = views.shared_task_ids(ledger, heading.id)
    in_doubt = [each.number for each in batches if each.state is BatchState.IN_DOUBT]
    advices = advice.advise(args.campaign, heading, standing, in_doubt, found)
    if args.output == "json":
        data = {
            **_heading_data(heading),
            **report.summary(),
            "phones": heading.phones,
            "sending": report.sending,
            "needs": advice.needs(heading, standing),
            "batches": [_batch_data(each) for each in batches],
            "delivery": delivery_data(delivered, replies),
            "sharedTaskIds": [shared_data(each) for each in shared],
            "evidence": [_found_data(each) for each in found],
            "advice": [_advice_data(each) for each in advices],
        }
        return Result(Exit.DONE, json.dumps(data, ensure_ascii=False))
    lines = [*_heading_lines(heading, report), *delivery_lines(delivered, replies)]
    lines += ["", *_batch_lines(batches, report.batches), *map(shared_line, shared)]
    if found:
        lines += ["", "Receipts and replies about phones in doubt:", *(_found_line(each) for each in found)]
    return Result(Exit.DONE, "\n".join([*lines, *_advice_lines(advices)]))


def _evidence(ledger: Ledger, heading: Heading) -> list[Found]:
    _match(ledger)
    return evidence.look(ledger, heading.id, default_account())


def _match(ledger: Ledger) -> None:
    """Let what was pushed find its batch, as far as that takes no long time."""
    words = OptOutWords(settings.opt_out_words())
    matching.settle(ledger, words.are_in, _MATCHING_SECONDS, metrics.AirflowStats())


def _find(ledger: Ledger, wanted: str) -> Heading:
    found = views.find(ledger, wanted)
    if not found:
        raise UsageError(f"CAMPAIGN: the ledger knows no campaign {wanted!r}; `airflow-sms campaigns` lists them.")
    if len(found) > 1:
        lines = "".join(f"\n  {_told_apart(each)}" for each in found)
        raise UsageError(f"CAMPAIGN: {len(found)} campaigns are called {wanted!r}; give the id of the one:{lines}")
    return found[0]


def _told_apart(heading: Heading) -> str:
    when = f"planned {_beijing(heading.planned_at)} Beijing time" if heading.planned_at else "not planned"
    half = ", a half plan" if heading.is_draft else ""
    where = f"namespace {heading.namespace!r}" if heading.namespace else "without a namespace"
    return f"{heading.id}: {where}, {when}, {heading.phones} phones{half}"


def _heading_lines(heading: Heading, report: Report) -> Iterator[str]:
    namespace = f", namespace {heading.namespace}" if heading.namespace else ""
    yield f"Campaign {heading.name} (id {heading.id}{namespace}); times are Beijing time."
    if heading.planned_at is not None:
        until = f", to be sent until {_beijing(heading.valid_until)}" if heading.valid_until else ""
        yield f"planned:  {_beijing(heading.planned_at)}, send at {_beijing(heading.send_time) or 'once'}{until}"
    if report.guards:
        yield f"guards:   {', '.join(f'{name} {value}' for name, value in report.guards.items())}"
    if heading.waits_until is not None and report.not_sent:
        yield f"waits:    until {_beijing(heading.waits_until)}, when the sending hours begin"
    if heading.scheduled_for is not None:
        yield f"put off:  to {_beijing(heading.scheduled_for)} by the platform's send time, for the sending hours"
    if heading.purged_at is not None:
        yield f"purged:   {_beijing(heading.purged_at)}; phones and text were removed, it is not sent again"
    yield f"phones:   {report.phones}: {report}"
    if report.excluded:
        yield f"excluded: {', '.join(f'{count} {reason}' for reason, count in report.excluded.items())}"
    left = "unknown" if report.remain_point is None else report.remain_point
    most = "up to " if report.is_personal else ""
    yield f"points:   {report.points} ({most}{report.segments} segment(s) a text); left on the account: {left}"


def _batch_lines(batches: Sequence[Batch], total: int) -> Iterator[str]:
    if not batches:
        yield "No batches."
        return
    header = ("batch", "state", "phones", "attempt", "taskId", "account", "claimed", "settled", "what happened")
    yield from _table(
        header,
        [
            (
                each.number,
                each.state.replace("_", " "),
                each.phones,
                each.attempt,
                each.taskid or "",
                each.account or "",
                _beijing(each.claimed_at),
                _beijing(each.settled_at),
                _happened(each),
            )
            for each in batches
        ],
    )
    if len(batches) < total:
        yield f"{total - len(batches)} more; --all shows them."


def _happened(batch: Batch) -> str:
    parts = [batch.refusal if batch.state is not BatchState.ACCEPTED else None, _message(batch)]
    parts += [f"by {batch.evidence}" if batch.evidence and batch.state is BatchState.ACCEPTED else None]
    parts += [f"half of batch {batch.split_from}" if batch.split_from not in (None, batch.number) else None]
    parts += [f"also named: {', '.join(batch.other_taskids)}" if batch.other_taskids else None]
    return "; ".join(filter(None, parts))


def _message(batch: Batch) -> str:
    if batch.state is BatchState.ACCEPTED and batch.accepted != batch.phones:
        return f"the platform counts {batch.accepted} of {batch.phones}"
    return batch.message or ""


def _batch_data(batch: Batch) -> dict[str, object]:
    return {
        "number": batch.number,
        "state": batch.state.value,
        "phones": batch.phones,
        "accepted": batch.accepted,
        "attempt": batch.attempt,
        "taskId": batch.taskid,
        "account": batch.account,
        "claimedAt": _iso(batch.claimed_at),
        "settledAt": _iso(batch.settled_at),
        "refusal": batch.refusal,
        "message": _message(batch),
        "evidence": batch.evidence,
        "splitFrom": batch.split_from,
        "otherTaskIds": list(batch.other_taskids),
    }


def _found_line(found: Found) -> str:
    verdict = f"but {found.objection}" if found.objection else "nothing speaks against it"
    return f"  batch {found.number}: taskId {found.taskid}, named by {found.pushes}; {verdict}"


def _found_data(found: Found) -> dict[str, object]:
    return {
        "batch": found.number,
        "taskId": found.taskid,
        "pushes": found.pushes,
        "objection": found.objection,
    }


def _advice_lines(advices: Sequence[Advice]) -> Iterator[str]:
    for each in advices:
        yield from ("", each.problem, each.remedy, *(f"  {command}" for command in each.commands))


def _advice_data(each: Advice) -> dict[str, object]:
    return {"problem": each.problem, "remedy": each.remedy, "commands": list(each.commands)}


# A verdict


def resolve(args: argparse.Namespace) -> Result:
    """Settle a batch in doubt by what a person has found out."""
    if [args.sent is not False, args.not_sent, args.undo].count(True) != 1:
        raise UsageError("resolve: give one of --sent [TASKID], --not-sent and --undo.")
    with closing(open_ledger(Log())) as ledger:
        heading = _find(ledger, args.campaign)
        caution = ""
        if args.undo:
            verdicts.take_back(ledger, heading.id, args.batch, metrics.AirflowStats())
        elif args.not_sent:
            caution = verdicts.resolve_as_not_sent(ledger, heading.id, args.batch)
        else:
            verdicts.resolve_as_sent(ledger, heading.id, args.batch, args.sent, metrics.AirflowStats())
        if not args.not_sent:
            # Its receipts come in with a taskId, and go with it.
            _match(ledger)
        report = reports.report(ledger, heading.id)
        standing = views.standing(ledger, heading.id)
        batch = views.batch(ledger, heading.id, args.batch)
        needy = views.batches(ledger, heading.id, advice.SHOWN)
    in_doubt = [each.number for each in needy if each.state is BatchState.IN_DOUBT]
    advices = advice.advise(args.campaign, heading, standing, in_doubt)
    lines = [
        f"Batch {batch.number} of campaign {heading.name} is {_settled(batch)} now. Phones: {report}.",
        *filter(None, [caution]),
        *_advice_lines(advices),
    ]
    if not advices and heading.purged_at is None:
        lines += ["", f"Nothing is left to send. To end it well, {advice.carry_on(heading)}."]
    return Result(Exit.DONE, "\n".join(lines))


def _settled(batch: Batch) -> str:
    if batch.state is BatchState.ACCEPTED:
        return f"accepted ({f'taskId {batch.taskid}' if batch.taskid else 'taskId unknown'})"
    return batch.state.replace("_", " ")


# Every phone


def export(args: argparse.Namespace) -> Result:
    """Write what became of every phone of a campaign."""
    ledger = open_ledger(Log())
    try:
        heading = _find(ledger, args.campaign)
        if heading.purged_at is not None:
            raise UsageError(
                f"CAMPAIGN: its phones were removed on {_beijing(heading.purged_at)} Beijing time; "
                "`airflow-sms status` still shows the counts."
            )
    except BaseException:
        ledger.close()
        raise
    return written(args.file, _all_phones(ledger, heading.id))


def _all_phones(ledger: Ledger, campaign_id: int) -> Iterator[str]:
    with closing(ledger):
        yield csv_text([_HEADER])
        for chunk in handed_in.items(ledger, campaign_id):
            yield csv_text(map(_row, chunk))


def _row(item: Item) -> tuple[object, ...]:
    return *_sent_cells(item), *heard_cells(item.heard)


def _sent_cells(item: Item) -> tuple[object, ...]:
    batch = item.batch
    if item.reason is not None:
        return (item.position, harmless(item.phone), "excluded", item.reason, "", "", "", "", "")
    if batch is None:
        return (item.position, harmless(item.phone), "not_sent", "", "", "", "", "", "")
    state = "not_sent" if batch.state is BatchState.PLANNED else batch.state.value
    reason = "" if batch.state is BatchState.ACCEPTED else batch.refusal or ""
    settled = "" if batch.settled_at is None else _iso(batch.settled_at)
    said = harmless(_message(batch))
    return (
        item.position, item.phone, state, reason, batch.number, batch.taskid, batch.account, settled, said
    )  # fmt: skip


# Texts and tables


def _beijing(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(BEIJING).isoformat(timespec="seconds")


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Columns, numbers to the right, the last one as long as it is."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    to_the_right = [all(isinstance(row[at], int) for row in rows) for at in range(len(header))]
    for line in [list(header), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line[:-1], widths[:-1], to_the_right[:-1], strict=True)
        ]
        yield "  ".join([*padded, line[-1]]).rstrip()
