"""What a person can do about a campaign that has not ended well: each kind of trouble, its remedy, its commands.

Joins the gateway's remedies and the ledger's views; prints nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from airflow_provider_sms.gateway.errors import SmsError, every_error
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger.alarm_ends import HELD_BACK, SENT_WITHOUT
from airflow_provider_sms.ledger.evidence import Found
from airflow_provider_sms.ledger.reports import PHONE_REFUSALS
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.ledger.views import Heading, Part, Standing
from airflow_provider_sms.planning import LIFTABLE

COMMAND_LINE = "airflow-sms send"
"""What the keys of campaigns begin with that were sent from the command line."""

SHOWN = 5
_ERRORS: dict[str, type[SmsError]] = {each.__name__: each for each in every_error(SmsError)}


@dataclass(frozen=True, slots=True)
class Advice:
    """One kind of trouble.

    :param problem: what is wrong, in counts.
    :param remedy: what to do.
    :param commands: the lines to run.
    """

    problem: str
    remedy: str
    commands: tuple[str, ...] = ()


def needs(heading: Heading, standing: Standing) -> str:
    """Say in a word or two whether a campaign needs somebody; empty if it does not."""
    if heading.purged_at is not None:
        return ""
    if _has_doubt(standing):
        return "in doubt"
    if any(not each.is_over for each in standing.under_way):
        return ""
    if heading.planned_at is None:
        return "" if heading.lease_until > standing.now else "no plan"
    if standing.phones(BatchState.PLANNED):
        return "" if _waits(heading, standing) else "left over"
    if any(part.state is BatchState.REFUSED and not _is_singled_out(part) for part in standing.parts):
        return "refused"
    return "expired" if _expired(standing) else ""


def advise(
    called: str, heading: Heading, standing: Standing, in_doubt: Sequence[int], found: Sequence[Found] = ()
) -> list[Advice]:
    """Say what to do about each kind of trouble, the most pressing first.

    :param called: what the commands shall call the campaign.
    :param in_doubt: the numbers of batches in doubt, as many as shall be named.
    :param found: what receipts and replies say about them.
    """
    if heading.purged_at is not None:
        return []
    return [
        *_about_doubt(called, heading, standing, in_doubt, found),
        *_about_sending(standing),
        *_about_no_plan(heading, standing),
        *_about_left_over(heading, standing),
        *_about_refused(called, heading, standing),
        *_about_expired(heading, standing),
        *_about_uncounted(standing),
    ]


def resolve_lines(called: str, number: int, taskid: str = "TASKID") -> tuple[str, ...]:
    """The two ways to settle a batch in doubt."""
    ways = f"--sent {shlex.quote(taskid)}", "--not-sent"
    return resolve_line(called, number, ways[0]), resolve_line(called, number, ways[1])


def resolve_line(called: str, number: int, outcome: str) -> str:
    """The command that says what became of a batch.

    :param outcome: as it is written there, such as `--not-sent`.
    """
    return f"airflow-sms resolve {shlex.quote(called)} --batch {number} {outcome}"


def carry_on(heading: Heading) -> str:
    """How the next try of a campaign is begun."""
    if heading.dag_id is not None:
        index = heading.map_index
        instance = f", map index {index}" if index is not None and index >= 0 else ""
        return f"clear task {heading.task_id} of DAG {heading.dag_id}, run {heading.run_id}{instance}"
    if (heading.campaign_key or "").startswith(COMMAND_LINE):
        return f"repeat the `{COMMAND_LINE}` command"
    return f"call send_group again with campaign_key={heading.campaign_key!r}"


def _about_doubt(
    called: str, heading: Heading, standing: Standing, in_doubt: Sequence[int], found: Sequence[Found]
) -> Iterator[Advice]:
    if not _has_doubt(standing):
        return
    ended = [each for each in standing.under_way if each.is_over]
    doubtful = [part for part in standing.parts if part.state is BatchState.IN_DOUBT]
    batches = sum(part.batches for part in doubtful) + len(ended)
    phones = sum(part.phones for part in doubtful) + sum(each.phones for each in ended)
    likely = {each.number: each.taskid for each in found if not each.objection}
    numbers = [*in_doubt, *(each.number for each in ended)]
    yield Advice(
        f"In doubt: {_counted(batches, phones)}. The requests left, and nothing says what became of them.",
        "Look into the platform's console, or ask its support, for texts of that account at that time. Settle each "
        "batch by what you find (--sent alone if the taskId is not to be had), then "
        f"{carry_on(heading)}: it sends what is left, and ends well if nothing is.",
        tuple(
            line for number in numbers[:SHOWN] for line in resolve_lines(called, number, likely.get(number, "TASKID"))
        ),
    )


def _about_sending(standing: Standing) -> Iterator[Advice]:
    alive = [each for each in standing.under_way if not each.is_over]
    if alive:
        latest = max(each.lease_until for each in alive).astimezone(BEIJING)
        count = _counted(len(alive), sum(each.phones for each in alive))
        yield Advice(
            f"Being sent: {count}, by {shown_owner(alive[0].owner)}.",
            f"Wait for the end, {latest:%H:%M:%S} Beijing time at the latest; what has no answer by then is in doubt.",
        )


def _about_no_plan(heading: Heading, standing: Standing) -> Iterator[Advice]:
    if heading.planned_at is not None and not heading.is_draft:
        return
    if heading.lease_until > standing.now:
        yield Advice(
            f"Planning: {shown_owner(heading.owner)} has begun, and has not stored the whole plan.",
            "Wait; nothing of it is sent before that.",
        )
    elif heading.is_draft:
        yield Advice("A half plan that was given up.", "Nothing of it was sent, and the next try removes it.")
    else:
        yield Advice(
            "No plan: a try has begun and ended before there was one.",
            f"Nothing was sent. Correct what its log says, then {carry_on(heading)}.",
        )


def _about_left_over(heading: Heading, standing: Standing) -> Iterator[Advice]:
    if any(not each.is_over for each in standing.under_way):
        return
    if _waits(heading, standing) and heading.waits_until is not None:
        yield Advice(
            f"Outside the sending hours: {standing.phones(BatchState.PLANNED)} phones wait until "
            f"{heading.waits_until.astimezone(BEIJING):%Y-%m-%d %H:%M} Beijing time.",
            f"Wait. If its task has ended meanwhile, {carry_on(heading)} then.",
        )
        return
    # With another trouble beside it the task has failed for good.
    is_alone = not standing.phones(BatchState.IN_DOUBT, BatchState.REFUSED, BatchState.EXPIRED)
    for part in standing.parts:
        if part.state is not BatchState.PLANNED:
            continue
        cause = _ERRORS.get(part.refusal or "")
        why = f", last because of {part.refusal}" if cause is not None else ""
        lifted = f"{cause.remedy} " if cause is not None and cause.remedy else ""
        if heading.valid_until is not None and heading.valid_until <= standing.now:
            yield Advice(
                f"Left over: {_counted(part.batches, part.phones)}{why}, and too late.", _send_late(heading, standing)
            )
        else:
            how = carry_on(heading)
            retries = " (or let Airflow retry it)" if heading.dag_id is not None and is_alone else ""
            yield Advice(
                f"Left over: {_counted(part.batches, part.phones)}, not sent yet{why}.",
                f"{lifted}To send them, {how}{retries}.",
            )


def _about_refused(called: str, heading: Heading, standing: Standing) -> Iterator[Advice]:
    for part in standing.parts:
        if part.state is not BatchState.REFUSED:
            continue
        cause = _ERRORS.get(part.refusal or "")
        remedy = f"{cause.remedy} " if cause is not None and cause.remedy else ""
        problem = f"Refused ({part.refusal}): {_counted(part.batches, part.phones)}."
        if part.refusal in LIFTABLE:
            yield Advice(problem, f"{remedy}After that, {carry_on(heading)}: they are sent.")
        else:
            yield Advice(
                problem,
                f"{remedy}This campaign does not send them again. To see which phones these are:",
                (f"airflow-sms export {shlex.quote(called)}",),
            )


def _about_expired(heading: Heading, standing: Standing) -> Iterator[Advice]:
    if held := [part for part in standing.parts if part.refusal == HELD_BACK and part.phones]:
        count = _counted(sum(each.batches for each in held), sum(each.phones for each in held))
        yield Advice(
            f"Held back: {count}, of an alarm.",
            "This text does not go out any more: their next alarm, or SmsAlarmFlushOperator, tells them of it.",
        )
    if alone := [part for part in standing.parts if part.refusal == SENT_WITHOUT and part.phones]:
        count = _counted(sum(each.batches for each in alone), sum(each.phones for each in alone))
        yield Advice(
            f"Sent without the ledger, which was away: {count}, of an alarm.",
            "The log of its callback has the taskId. Phones that did not get it are told by their next alarm.",
        )
    if expired := _expired(standing):
        count = _counted(sum(part.batches for part in expired), sum(part.phones for part in expired))
        yield Advice(f"Expired: {count}, not sent because it was too late.", _send_late(heading, standing))


def _about_uncounted(standing: Standing) -> Iterator[Advice]:
    accepted = [part for part in standing.parts if part.state is BatchState.ACCEPTED]
    missing = sum(part.phones - part.accepted for part in accepted)
    if missing:
        yield Advice(
            f"Accepted, but not counted by the platform: {missing} phone(s). It does not say which.",
            "They are not sent again; the platform's console shows whom it has texted.",
        )


def _send_late(heading: Heading, standing: Standing) -> str:
    if heading.dag_id is None and (heading.campaign_key or "").startswith(COMMAND_LINE):
        if heading.valid_until is not None and heading.valid_until > standing.now:
            return f"If they shall still go out, {carry_on(heading)} with --on-expired send_now."
        return "They do not go out any more: the same command now is a new campaign, and texts everybody."
    return f'If they shall still go out, set on_expired="send_now", then {carry_on(heading)}.'


def _expired(standing: Standing) -> list[Part]:
    """Batches that were too late; an alarm that went out, or is told of otherwise, is none."""
    return [
        part
        for part in standing.parts
        if part.state is BatchState.EXPIRED and part.phones and part.refusal not in (HELD_BACK, SENT_WITHOUT)
    ]


def _waits(heading: Heading, standing: Standing) -> bool:
    """Nothing is claimed yet, as the sending hours have not begun."""
    is_planned = bool(standing.phones(BatchState.PLANNED))
    return is_planned and heading.waits_until is not None and heading.waits_until > standing.now


def _has_doubt(standing: Standing) -> bool:
    return bool(standing.phones(BatchState.IN_DOUBT)) or any(each.is_over for each in standing.under_way)


def _is_singled_out(part: Part) -> bool:
    """Each phone stands alone: the campaign has ended well without them."""
    return part.refusal in PHONE_REFUSALS and part.phones == part.batches


def _counted(batches: int, phones: int) -> str:
    return f"{batches} batch{'' if batches == 1 else 'es'}, {phones} phone{'' if phones == 1 else 's'}"


def shown_owner(owner: str) -> str:
    """Show a process as people look for it.

    :param owner: see `owners.own_name`.
    """
    host, *_, pid, _start = owner.split(" ") if owner.count(" ") >= 2 else (owner, "?", "?")
    return f"process {pid} on {host}"
