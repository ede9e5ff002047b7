"""What `airflow-sms campaigns`, `status` and `resolve` do: people see and settle what became of campaigns.

Counts and ids alone; the one command that writes phones is `export`.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_sms import advice, metrics, settings
from airflow_provider_sms.cli import Exit, Log, Result, UsageError
from airflow_provider_sms.cli_accounts import default_account
from airflow_provider_sms.cli_deliveries import delivery_data, delivery_lines, shared_data, shared_line
from airflow_provider_sms.cli_shown import (
    advice_data,
    advice_lines,
    batch_data,
    batch_lines,
    found_data,
    found_line,
    heading_data,
    heading_lines,
    overview_data,
    overview_row,
    settled,
    table,
    told_apart,
)
from airflow_provider_sms.gateway.opt_outs import OptOutWords
from airflow_provider_sms.ledger import deliveries, evidence, matching, reports, verdicts, views
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.opening import open_ledger

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.evidence import Found
    from airflow_provider_sms.ledger.views import Heading

_LARGEST = 2**31 - 1
BATCHES_SHOWN = 50
_MATCHING_SECONDS = 10.0


# The list


def campaigns(args: argparse.Namespace) -> Result:
    """List campaigns, newest first."""
    if not 1 <= args.limit <= _LARGEST:
        raise UsageError(f"--limit: {args.limit} is not between 1 and {_LARGEST}.")
    with closing(open_ledger(Log())) as ledger:
        found = views.newest(ledger, args.limit)
    if args.output == "json":
        return Result(Exit.DONE, json.dumps([overview_data(each) for each in found], ensure_ascii=False))
    if not found:
        return Result(Exit.DONE, "No campaigns yet.")
    header = ("id", "planned (Beijing)", "phones", "accepted", "refused", "in doubt", "not sent", "excluded")
    rows = [overview_row(each) for each in found]
    return Result(Exit.DONE, "\n".join(table((*header, "needs you", "campaign"), rows)))


# One campaign


def status(args: argparse.Namespace) -> Result:
    """Show what became of a campaign, and what to do about it."""
    with closing(open_ledger(Log())) as ledger:
        heading = find(ledger, args.campaign)
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
            **heading_data(heading),
            **report.summary(),
            "phones": heading.phones,
            "sending": report.sending,
            "needs": advice.needs(heading, standing),
            "batches": [batch_data(each) for each in batches],
            "delivery": delivery_data(delivered, replies),
            "sharedTaskIds": [shared_data(each) for each in shared],
            "evidence": [found_data(each) for each in found],
            "advice": [advice_data(each) for each in advices],
        }
        return Result(Exit.DONE, json.dumps(data, ensure_ascii=False))
    lines = [*heading_lines(heading, report), *delivery_lines(delivered, replies)]
    lines += ["", *batch_lines(batches, report.batches), *map(shared_line, shared)]
    if found:
        lines += ["", "Receipts and replies about phones in doubt:", *(found_line(each) for each in found)]
    return Result(Exit.DONE, "\n".join([*lines, *advice_lines(advices)]))


def _evidence(ledger: Ledger, heading: Heading) -> list[Found]:
    match(ledger)
    return evidence.look(ledger, heading.id, default_account())


def match(ledger: Ledger) -> None:
    """Let what was pushed find its batch, as far as that takes no long time."""
    words = OptOutWords(settings.opt_out_words())
    matching.settle(ledger, words.are_in, _MATCHING_SECONDS, metrics.AirflowStats())


def find(ledger: Ledger, wanted: str) -> Heading:
    """Find the campaign that is meant.

    :param wanted: its name or id.
    :raises UsageError: there is none, or there are several.
    """
    # Bytes that are no text in the terminal's encoding come as what no database takes.
    wanted = wanted.encode(errors="backslashreplace").decode()
    found = views.find(ledger, wanted)
    if not found:
        raise UsageError(f"CAMPAIGN: the ledger knows no campaign {wanted!r}; `airflow-sms campaigns` lists them.")
    if len(found) > 1:
        lines = "".join(f"\n  {told_apart(each)}" for each in found)
        raise UsageError(f"CAMPAIGN: {len(found)} campaigns are called {wanted!r}; give the id of the one:{lines}")
    return found[0]


# A verdict


def resolve(args: argparse.Namespace) -> Result:
    """Settle a batch in doubt by what a person has found out."""
    if [args.sent is not False, args.not_sent, args.undo].count(True) != 1:
        raise UsageError("resolve: give one of --sent [TASKID], --not-sent and --undo.")
    if not 1 <= args.batch <= _LARGEST:
        raise UsageError(f"--batch: {args.batch} is no batch's number; `airflow-sms status` lists them.")
    with closing(open_ledger(Log())) as ledger:
        heading = find(ledger, args.campaign)
        caution = ""
        if args.undo:
            verdicts.take_back(ledger, heading.id, args.batch, metrics.AirflowStats())
        elif args.not_sent:
            caution = verdicts.resolve_as_not_sent(ledger, heading.id, args.batch)
        else:
            verdicts.resolve_as_sent(ledger, heading.id, args.batch, args.sent, metrics.AirflowStats())
        if not args.not_sent:
            # Its receipts come in with a taskId, and go with it.
            match(ledger)
        report = reports.report(ledger, heading.id)
        standing = views.standing(ledger, heading.id)
        batch = views.batch(ledger, heading.id, args.batch)
        needy = views.batches(ledger, heading.id, advice.SHOWN)
    in_doubt = [each.number for each in needy if each.state is BatchState.IN_DOUBT]
    advices = advice.advise(args.campaign, heading, standing, in_doubt)
    lines = [
        f"Batch {batch.number} of campaign {heading.name} is {settled(batch)} now. Phones: {report}.",
        *filter(None, [caution]),
        *advice_lines(advices),
    ]
    if not advices and heading.purged_at is None:
        lines += ["", f"Nothing is left to send. To end it well, {advice.carry_on(heading)}."]
    return Result(Exit.DONE, "\n".join(lines))
