"""What `airflow-sms balance` and `airflow-sms send` do: Airflow's connection, the ledger and the platform joined.

A send from the command line is a campaign like any other; its key is made of the account, the text and the phones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_sms import advice, metrics, recipients, settings, sources
from airflow_provider_sms.cli import Exit, Result, UsageError
from airflow_provider_sms.dry_run import preview
from airflow_provider_sms.gateway import texts, times
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.gateway.errors import AccountError
from airflow_provider_sms.gateway.phones import Sieve, none_to_send_to
from airflow_provider_sms.gateway.prices import read_price
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger import reports, views
from airflow_provider_sms.ledger.errors import LedgerError, PlanChangedError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.messages import MessageFile
from airflow_provider_sms.opening import open_ledger, open_to_read
from airflow_provider_sms.orders import Order, make_order
from airflow_provider_sms.personal import Messages
from airflow_provider_sms.planning import LIFTABLE, Chunks, Planner
from airflow_provider_sms.policy import OnExpired, Policy
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.sending import Sender
from airflow_provider_sms.sources import Source

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_provider_sms.gateway.account import Account
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.ledger.views import Heading, Standing

SHOWN = 50
_DIGITS = 16


class Log:
    """Says on standard error what happens meanwhile."""

    def info(self, message: str, /, *args: Any) -> None:
        """Say it."""
        print(message % args if args else message, file=sys.stderr)

    warning = error = info


def find_account(conn_id: str) -> Account:
    """Look a connection up in the environment, the secrets backend and Airflow's database.

    :param conn_id: the connection's id.
    :raises UsageError: there is none.
    :raises AccountError: its settings are not usable.
    """
    from airflow.models import Connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_sms.hooks.sms import missing_connection, read_account

    # BaseHook.get_connection does not look into the database outside a task.
    try:
        connection = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        raise UsageError(missing_connection(conn_id)) from None
    except ValueError as error:
        # What Airflow says here may quote the definition, key included.
        raise UsageError(
            f"--conn-id: Airflow can not read the definition of {conn_id!r} ({type(error).__name__})."
        ) from None
    return read_account(connection)


def default_account() -> str | None:
    """Tell the App ID of `sms_default`: addresses for pushes without an account id stand for it.

    :returns: None if there is no such connection, or it can not be used.
    """
    try:
        return find_account("sms_default").app_id
    except (UsageError, AccountError):
        return None


def balance(args: argparse.Namespace) -> Result:
    """Tell how many points the account has left."""
    with SmsClient(find_account(args.conn_id)) as client:
        points = client.get_balance()
    metrics.AirflowStats(args.conn_id).balance(points)
    return Result(Exit.DONE, json.dumps({"remainPoint": points}) if args.output == "json" else str(points))


def send(args: argparse.Namespace) -> Result:
    """Send to a group, carry on with what an earlier try left, or show what would be sent."""
    _check_options(args)
    account = find_account(args.conn_id)
    policy = Policy(on_expired=args.on_expired)
    guards = _guards(args)
    source = _source(args, account)
    order = make_order(
        account, source.content, args.send_time, args.batch_size, args.category, policy=policy, guards=guards
    )
    if args.dry_run or settings.dry_run():
        return _dry_run(args, account, order, source, policy)
    fingerprint = _fingerprint(source, order)
    name = _name(account, source.content, fingerprint)
    log = Log()
    with closing(open_ledger(log)) as ledger:
        key = _choose_key(ledger, name, policy, again=args.again)
        campaign = _plan(Planner(ledger, key, order, source.read, log, policy, source.form), fingerprint)
        log.info("Campaign %s: %d phones, points at most: %d.", key.name, campaign.phones, campaign.points)
        with SmsClient(account) as client:
            sender = Sender(
                ledger,
                client,
                campaign,
                policy,
                log,
                guards=guards,
                default_account=default_account,
                observer=metrics.AirflowStats(args.conn_id),
            )
            status, report = _send(sender, ledger, campaign)
    if args.output == "json":
        return Result(status, json.dumps(report.summary(), ensure_ascii=False) if report else "")
    return Result(status, _report_shown(report) if report else "")


def _guards(args: argparse.Namespace) -> Guards:
    hours, wording = (None if each == "none" else each for each in (args.sending_hours, args.opt_out_wording))
    try:
        return Guards(
            sending_hours=hours,
            outside_hours=args.outside_hours,
            max_per_phone=args.max_per_phone,
            per=timedelta(days=args.per_days),
            max_points=args.max_points,
            min_balance_after=args.min_balance_after,
            opt_out_wording=wording,
        )
    except (ValueError, OverflowError) as error:
        # The argument's name, as it is written here.
        name, _, problem = str(error).partition(":")
        option = {"per": "per-days"}.get(name, name.replace("_", "-"))
        raise UsageError(f"--{option}:{problem}" if problem else f"--per-days: {error}.") from None


# Phones and texts


def _check_options(args: argparse.Namespace) -> None:
    if (args.phones is None) == (args.messages is None):
        raise UsageError("send: give one of --phones and --messages.")
    if args.messages is None and args.content is None:
        raise UsageError("--content: --phones need a text.")
    if args.messages is None and args.template is not None:
        raise UsageError("--template: goes with --messages; with --phones write --content.")
    if args.messages is not None and args.content is not None:
        raise UsageError("--content: goes with --phones; with --messages write --template.")


def _source(args: argparse.Namespace, account: Account) -> Source:
    if args.messages is None:
        return Source(args.content, _reader(args))
    given = {"phone_column": args.column, "encoding": args.encoding}
    file = MessageFile(args.messages, **{name: value for name, value in given.items() if value is not None})
    return sources.of_messages(file, args.template, account.signature)


def _reader(args: argparse.Namespace) -> Callable[[], Chunks]:
    """Read the phones; may be called more than once."""
    text: str = args.phones
    if text.startswith("@"):
        encoding = {"encoding": args.encoding} if args.encoding else {}
        file = recipients.PhoneFile(text[1:], column=args.column, **encoding)
        return lambda: recipients.stream(file)
    for option in ("column", "encoding"):
        if getattr(args, option) is not None:
            raise UsageError(f"--{option}: is for a file; write --phones @FILE.")
    if text == "-":
        text = sys.stdin.read()
    return lambda: recipients.stream(text)


def _fingerprint(source: Source, order: Order) -> str:
    sieve = Sieve()
    if source.form is not None:
        with closing(Messages(order.worded(source.form))) as messages:
            messages.read(source.read(), sieve)
            return messages.fingerprint()
    for chunk in source.read():
        sieve.sift(chunk)
    if not sieve.included:
        raise none_to_send_to(sieve)
    return sieve.fingerprint()


# Which campaign this is


def _name(account: Account, content: str | None, fingerprint: str) -> str:
    # Wording that was added makes no other campaign: earlier versions added none.
    text = None if content is None else texts.prepare(content, account.signature).content
    parts = (account.app_id, text, fingerprint)
    return f"{advice.COMMAND_LINE} {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]}"


def _choose_key(ledger: Ledger, name: str, policy: Policy, *, again: bool) -> CampaignKey:
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


class _SentAlreadyError(UsageError):
    """Nothing is left of the last campaign of this text and these phones.

    :param key: that campaign's.
    """

    def __init__(self, message: str, status: Exit, key: CampaignKey) -> None:
        super().__init__(message, status)
        self.key = key


def _sent_already(ledger: Ledger, last: Heading) -> UsageError:
    report = reports.report(ledger, last.id)
    late = " What was too late goes out with --on-expired send_now." if report.expired else ""
    return _SentAlreadyError(
        f"{_shown(last)} is this text to these phones: {_report_shown(report)}. Nothing was sent now.{late} To send it "
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


# The send


def _plan(planner: Planner, fingerprint: str) -> Campaign:
    try:
        campaign = planner.plan()
    except PlanChangedError:
        raise UsageError(
            f"--send-time, --category, --opt-out-wording: campaign {planner.key.name!r} has begun with another one. "
            "Nothing was sent now. Repeat the command as it was to carry on with what is left; a version that had no "
            "--opt-out-wording is 'none'."
        ) from None
    except KeyboardInterrupt:
        raise UsageError("interrupted while planning: nothing was sent.", Exit.UNREACHABLE) from None
    if campaign.fingerprint != fingerprint:
        option = "--phones" if planner.form is None else "--messages"
        raise UsageError(f"{option}: they changed while they were read; nothing was sent. Repeat the command.")
    return campaign


def _send(sender: Sender, ledger: Ledger, campaign: Campaign) -> tuple[Exit, Report | None]:
    try:
        try:
            with _stopped_by_sigterm(sender):
                return Exit.DONE, sender.send()
        except CampaignError as error:
            print(error, file=sys.stderr)
            report, passes_by_itself = error.report, error.passes_by_itself
        except KeyboardInterrupt:
            report, passes_by_itself = reports.report(ledger, campaign.id), True
            print(f"Interrupted: {report}.", file=sys.stderr)
    except LedgerError as error:
        raise UsageError(f"{error} Some texts may have been sent.", Exit.IN_DOUBT) from None
    if report is not None and report.not_sent and not report.sending:
        print("To carry on with what is left, repeat the command.", file=sys.stderr)
    return _failed(report, passes_by_itself=passes_by_itself), report


def _failed(report: Report | None, *, passes_by_itself: bool) -> Exit:
    if report is None or report.in_doubt or report.sending:
        return Exit.IN_DOUBT
    all_are_here = report.not_sent == report.phones
    return Exit.UNREACHABLE if all_are_here and passes_by_itself else Exit.REFUSED


@contextmanager
def _stopped_by_sigterm(sender: Sender) -> Iterator[None]:
    """Let what is on its way end, and claim nothing more; Ctrl-C does that by itself."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sender.stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report_shown(report: Report) -> str:
    ids = [*report.task_ids[:SHOWN], *(["…"] if len(report.task_ids) > SHOWN else [])]
    return f"{report}; taskId: {', '.join(ids) or 'none'}; points left: {report.remain_point}"


# The dry run


def _dry_run(args: argparse.Namespace, account: Account, order: Order, source: Source, policy: Policy) -> Result:
    log = Log()
    price = None if args.point_price is None else _price(args.point_price)
    key = _rehearsed_key(log, _name(account, source.content, _fingerprint(source, order)), policy, again=args.again)
    with SmsClient(account) as client:
        is_json = args.output == "json"
        balance, most = client.get_balance, None if is_json else SHOWN
        seen = preview(log, key, order, source, policy, price=price, balance=balance, most=most)
    if not is_json:
        return Result(Exit.DONE, "\n".join(seen.lines()))
    left_out = [{"position": each.position, "phone": each.shown, "reason": each.reason} for each in seen.left_out]
    data = {**seen.summary(), "content": seen.text, "excluded": left_out}
    return Result(Exit.DONE, json.dumps(data, ensure_ascii=False))


def _rehearsed_key(log: Log, name: str, policy: Policy, *, again: bool) -> CampaignKey:
    """The campaign that the command would be, also if nothing of it is left."""
    ledger = open_to_read(log)
    if ledger is None:
        return CampaignKey(settings.namespace(), campaign_key=name)
    with closing(ledger):
        try:
            return _choose_key(ledger, name, policy, again=again)
        except _SentAlreadyError as error:
            return error.key


def _price(text: str) -> Decimal:
    try:
        return read_price(text)
    except ValueError as error:
        raise UsageError(f"--point-price: {error}") from None
