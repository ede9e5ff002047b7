"""How `airflow-sms campaigns`, `status` and `resolve` show campaigns, batches and advice: texts and data.

Asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_sms import advice
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger.schema import BatchState

if TYPE_CHECKING:
    from airflow_provider_sms.advice import Advice
    from airflow_provider_sms.ledger.evidence import Found
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.ledger.views import Batch, Heading, Overview


def overview_row(overview: Overview) -> tuple[object, ...]:
    """A campaign as a row of the list."""
    heading, standing = overview.heading, overview.standing
    return (
        heading.id,
        beijing(heading.planned_at),
        heading.phones,
        standing.accepted,
        standing.refused,
        standing.phones(BatchState.IN_DOUBT, BatchState.SENDING),
        standing.phones(BatchState.PLANNED, BatchState.EXPIRED),
        overview.excluded,
        advice.needs(heading, standing),
        heading.name + (f" [{heading.namespace}]" if heading.namespace else ""),
    )


def overview_data(overview: Overview) -> dict[str, object]:
    """The same as JSON data."""
    heading, standing = overview.heading, overview.standing
    return {
        **heading_data(heading),
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


def heading_data(heading: Heading) -> dict[str, object]:
    """What a campaign is, as JSON data."""
    return {
        "id": heading.id,
        "campaign": heading.name,
        "namespace": heading.namespace,
        "plannedAt": iso(heading.planned_at),
        "sendTime": iso(heading.send_time),
        "validUntil": iso(heading.valid_until),
        "purgedAt": iso(heading.purged_at),
        "waitsUntil": iso(heading.waits_until),
    }


def told_apart(heading: Heading) -> str:
    """What tells a campaign from others of its name."""
    when = f"planned {beijing(heading.planned_at)} Beijing time" if heading.planned_at else "not planned"
    half = ", a half plan" if heading.is_draft else ""
    where = f"namespace {heading.namespace!r}" if heading.namespace else "without a namespace"
    return f"{heading.id}: {where}, {when}, {heading.phones} phones{half}"


def heading_lines(heading: Heading, report: Report) -> Iterator[str]:
    """What a campaign is and what became of it as a whole."""
    namespace = f", namespace {heading.namespace}" if heading.namespace else ""
    yield f"Campaign {heading.name} (id {heading.id}{namespace}); times are Beijing time."
    if heading.planned_at is not None:
        until = f", to be sent until {beijing(heading.valid_until)}" if heading.valid_until else ""
        yield f"planned:  {beijing(heading.planned_at)}, send at {beijing(heading.send_time) or 'once'}{until}"
    if report.guards:
        yield f"guards:   {', '.join(f'{name} {value}' for name, value in report.guards.items())}"
    if heading.waits_until is not None and report.not_sent:
        yield f"waits:    until {beijing(heading.waits_until)}, when the sending hours begin"
    if heading.scheduled_for is not None:
        yield f"put off:  to {beijing(heading.scheduled_for)} by the platform's send time, for the sending hours"
    if heading.purged_at is not None:
        yield f"purged:   {beijing(heading.purged_at)}; phones and text were removed, it is not sent again"
    yield f"phones:   {report.phones}: {report}"
    if report.excluded:
        yield f"excluded: {', '.join(f'{count} {reason}' for reason, count in report.excluded.items())}"
    left = "unknown" if report.remain_point is None else report.remain_point
    most = "up to " if report.is_personal else ""
    yield f"points:   {report.points} ({most}{report.segments} segment(s) a text); left on the account: {left}"


def batch_lines(batches: Sequence[Batch], total: int) -> Iterator[str]:
    """Batches as a table.

    :param total: how many there are, with those that are not shown.
    """
    if not batches:
        yield "No batches."
        return
    header = ("batch", "state", "phones", "attempt", "taskId", "account", "claimed", "settled", "what happened")
    yield from table(
        header,
        [
            (
                each.number,
                each.state.replace("_", " "),
                each.phones,
                each.attempt,
                each.taskid or "",
                each.account or "",
                beijing(each.claimed_at),
                beijing(each.settled_at),
                _happened(each),
            )
            for each in batches
        ],
    )
    if len(batches) < total:
        yield f"{total - len(batches)} more; --all shows them."


def _happened(batch: Batch) -> str:
    parts = [batch.refusal if batch.state is not BatchState.ACCEPTED else None, message(batch)]
    parts += [f"by {batch.evidence}" if batch.evidence and batch.state is BatchState.ACCEPTED else None]
    parts += [f"half of batch {batch.split_from}" if batch.split_from not in (None, batch.number) else None]
    parts += [f"also named: {', '.join(batch.other_taskids)}" if batch.other_taskids else None]
    return "; ".join(filter(None, parts))


def message(batch: Batch) -> str:
    """What the platform has said, or its count if that is another."""
    if batch.state is BatchState.ACCEPTED and batch.accepted != batch.phones:
        return f"the platform counts {batch.accepted} of {batch.phones}"
    return batch.message or ""


def batch_data(batch: Batch) -> dict[str, object]:
    """A batch as JSON data."""
    return {
        "number": batch.number,
        "state": batch.state.value,
        "phones": batch.phones,
        "accepted": batch.accepted,
        "attempt": batch.attempt,
        "taskId": batch.taskid,
        "account": batch.account,
        "claimedAt": iso(batch.claimed_at),
        "settledAt": iso(batch.settled_at),
        "refusal": batch.refusal,
        "message": message(batch),
        "evidence": batch.evidence,
        "splitFrom": batch.split_from,
        "otherTaskIds": list(batch.other_taskids),
    }


def found_line(found: Found) -> str:
    """Evidence about a batch in doubt."""
    verdict = f"but {found.objection}" if found.objection else "nothing speaks against it"
    return f"  batch {found.number}: taskId {found.taskid}, named by {found.pushes}; {verdict}"


def found_data(found: Found) -> dict[str, object]:
    """The same as JSON data."""
    return {
        "batch": found.number,
        "taskId": found.taskid,
        "pushes": found.pushes,
        "objection": found.objection,
    }


def advice_lines(advices: Sequence[Advice]) -> Iterator[str]:
    """What is to be done, each after an empty line."""
    for each in advices:
        yield from ("", each.problem, each.remedy, *(f"  {command}" for command in each.commands))


def advice_data(each: Advice) -> dict[str, object]:
    """The same as JSON data."""
    return {"problem": each.problem, "remedy": each.remedy, "commands": list(each.commands)}


def settled(batch: Batch) -> str:
    """What a batch is settled as."""
    if batch.state is BatchState.ACCEPTED:
        return f"accepted ({f'taskId {batch.taskid}' if batch.taskid else 'taskId unknown'})"
    return batch.state.replace("_", " ")


def beijing(time: datetime | None) -> str:
    """A time for people; nothing for none."""
    return "" if time is None else f"{time.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"


def iso(time: datetime | None) -> str | None:
    """A time for programs."""
    return None if time is None else time.astimezone(BEIJING).isoformat(timespec="seconds")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
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
