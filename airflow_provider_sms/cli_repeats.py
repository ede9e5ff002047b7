"""Which campaign an `airflow-sms send` is: one that it carries on with, one that is sent already, or a new one.

A send from the command line is a campaign like any other; its key is made of the account, the text and the phones.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from typing import TYPE_CHECKING

from airflow_provider_sms import advice, settings
from airflow_provider_sms.cli import Exit, UsageError
from airflow_provider_sms.gateway import texts, times
from airflow_provider_sms.ledger import reports, views
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.planning import LIFTABLE
from airflow_provider_sms.policy import OnExpired, Policy

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.account import Account
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.ledger.views import Heading, Standing

SHOWN = 50
_DIGITS = 16


def campaign_name(account: Account, content: str | None, fingerprint: str) -> str:
    """Name a send by what it is.

    :param content: the one text of all; None if the fingerprint is of the texts, too.
    :param fingerprint: of the phones.
    """
    # Wording that was added makes no other campaign: earlier versions added none.
    text = None if content is None else texts.prepare(content, account.signature).content
    parts = (account.app_id, text, fingerprint)
    return f"{advice.COMMAND_LINE} {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]}"


def choose_key(ledger: Ledger, name: str, policy: Policy, *, again: bool) -> CampaignKey:
    """Choose the campaign that this command is: the last one of its name that is still its own, or a new one.

    A new one has the next number, not the time: two commands at once are one campaign.

    :raises UsageError: everything of the last one is sent, or `again` while it is not.
    """
    namespace = settings.namespace()
    earlier = sorted(views.repeats(ledger, namespace, name), key=lambda each: _number(each, name))
    if not earlier:
        return CampaignKey(namespace, campaign_key=name)
    last = earlier[-1]
    standing = views.standing(ledger, last.id)
    is_going_on = any(not each.is_over for each in standing.under_way)
    is_recent = last.valid_until is None or last.valid_until > standing.now
    if again and (is_going_on or (is_recent and standing.phones(BatchState.PLANNED))):
        raise UsageError(
            f"--again: {_shown(last)} is not through: {reports.report(ledger, last.id)}. Nothing was sent. Repeat the "
            "command without --again to carry on with what is left."
        )
    if not again and (is_going_on or (is_recent and _is_left(last, standing, policy))):
        print(f"Carrying on with what is left of {_shown(last)}.", file=sys.stderr)
        return CampaignKey(namespace, campaign_key=last.campaign_key)
    if not again and is_recent:
        raise _sent_already(ledger, last)
    for each in earlier:
        _name_doubts(ledger, each)
    return CampaignKey(namespace, campaign_key=f"{name} {_number(last, name) + 1}")


def _number(heading: Heading, name: str) -> int:
    suffix = (heading.campaign_key or "").removeprefix(name).strip()
    return int(suffix) if suffix.isascii() and suffix.isdigit() else 1


def _is_left(last: Heading, standing: Standing, policy: Policy) -> bool:
    open_states = {BatchState.PLANNED, BatchState.SENDING}
    if policy.on_expired is OnExpired.SEND_NOW:
        open_states.add(BatchState.EXPIRED)
    if last.purged_at is not None:
        return False
    return last.planned_at is None or any(
        part.state in open_states or (part.state is BatchState.REFUSED and part.refusal in LIFTABLE)
        for part in standing.parts
    )


class SentAlreadyError(UsageError):
    """Nothing is left of the last campaign of this text and these phones.

    :param key: that campaign's.
    """

    def __init__(self, message: str, status: Exit, key: CampaignKey) -> None:
        super().__init__(message, status)
        self.key = key


def _sent_already(ledger: Ledger, last: Heading) -> UsageError:
    report = reports.report(ledger, last.id)
    late = " What was too late goes out with --on-expired send_now." if report.expired else ""
    return SentAlreadyError(
        f"{_shown(last)} is this text to these phones: {report_shown(report)}. Nothing was sent now.{late} To send it "
        f"to all of them once more, add --again.{_doubts(ledger, last)}",
        Exit.IN_DOUBT if report.in_doubt or report.sending else Exit.USAGE,
        CampaignKey(last.namespace, campaign_key=last.campaign_key),
    )


def _shown(heading: Heading) -> str:
    when = (heading.planned_at or heading.created_at).astimezone(times.BEIJING)
    return f"Campaign {heading.name!r} of {when:%Y-%m-%d %H:%M:%S} Beijing time"


def _name_doubts(ledger: Ledger, earlier: Heading) -> None:
    if doubts := _doubts(ledger, earlier):
        print(f"{_shown(earlier)} is in doubt:{doubts}", file=sys.stderr)


def _doubts(ledger: Ledger, heading: Heading) -> str:
    """How to settle what is in doubt of a campaign; empty if nothing is."""
    rows = views.batches(ledger, heading.id, advice.SHOWN)
    numbers = [each.number for each in rows if each.state is BatchState.IN_DOUBT]
    lines = [line for number in numbers for line in advice.resolve_lines(heading.name, number)]
    if not lines:
        return ""
    return "".join(f"\n  {line}" for line in (f"airflow-sms status {shlex.quote(heading.name)}", *lines))


def report_shown(report: Report) -> str:
    """A report in one line."""
    ids = [*report.task_ids[:SHOWN], *(["…"] if len(report.task_ids) > SHOWN else [])]
    return f"{report}; taskId: {', '.join(ids) or 'none'}; points left: {report.remain_point}"
