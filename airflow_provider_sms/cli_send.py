"""What `airflow-sms send` does: Airflow's connection, the ledger and the platform joined."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_sms import metrics, settings, sources
from airflow_provider_sms.cli import Exit, Log, Result, UsageError
from airflow_provider_sms.cli_accounts import default_account, find_account
from airflow_provider_sms.cli_input import reader
from airflow_provider_sms.cli_repeats import SHOWN, SentAlreadyError, campaign_name, choose_key, report_shown
from airflow_provider_sms.dry_run import preview
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.gateway.phones import Sieve, none_to_send_to
from airflow_provider_sms.gateway.prices import read_price
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger import reports
from airflow_provider_sms.ledger.errors import LedgerError, PlanChangedError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.messages import MessageFile
from airflow_provider_sms.opening import open_ledger, open_to_read
from airflow_provider_sms.orders import Order, make_order
from airflow_provider_sms.personal import Messages
from airflow_provider_sms.planning import Planner
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.sending import Sender
from airflow_provider_sms.sources import Source

if TYPE_CHECKING:
    from decimal import Decimal

    from airflow_provider_sms.gateway.account import Account
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.reports import Report

# More days than any guard takes, fewer than Python can not count.
_MANY_DAYS = 1_000_000


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
    name = campaign_name(account, source.content, fingerprint)
    log = Log()
    with closing(open_ledger(log)) as ledger:
        key = choose_key(ledger, name, policy, again=args.again)
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
    return Result(status, report_shown(report) if report else "")


def _guards(args: argparse.Namespace) -> Guards:
    hours, wording = (None if each == "none" else each for each in (args.sending_hours, args.opt_out_wording))
    try:
        return Guards(
            sending_hours=hours,
            outside_hours=args.outside_hours,
            max_per_phone=args.max_per_phone,
            per=timedelta(days=max(-1, min(args.per_days, _MANY_DAYS))),
            max_points=args.max_points,
            min_balance_after=args.min_balance_after,
            opt_out_wording=wording,
        )
    except ValueError as error:
        # The argument's name, as it is written here.
        name, _, problem = str(error).partition(":")
        option = {"per": "per-days"}.get(name, name.replace("_", "-"))
        raise UsageError(f"--{option}:{problem}") from None


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
    if args.send_time is not None and not args.send_time.strip():
        # Of a script whose variable is not set; what is meant for later shall not go out now.
        raise UsageError("--send-time: it is empty; write a time, or leave the option out to send at once.")


def _source(args: argparse.Namespace, account: Account) -> Source:
    if args.messages is None:
        return Source(args.content, reader(args))
    given = {"phone_column": args.column, "encoding": args.encoding}
    file = MessageFile(args.messages, **{name: value for name, value in given.items() if value is not None})
    return sources.of_messages(file, args.template, account.signature)


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


# The send


def _plan(planner: Planner, fingerprint: str) -> Campaign:
    try:
        with _changes_named(planner.key):
            campaign = planner.plan()
    except KeyboardInterrupt:
        raise UsageError("interrupted while planning: nothing was sent.", Exit.UNREACHABLE) from None
    if campaign.fingerprint != fingerprint:
        option = "--phones" if planner.form is None else "--messages"
        raise UsageError(f"{option}: they changed while they were read; nothing was sent. Repeat the command.")
    return campaign


@contextmanager
def _changes_named(key: CampaignKey) -> Iterator[None]:
    """Name the options that a begun campaign can not change."""
    try:
        yield
    except PlanChangedError:
        raise UsageError(
            f"--send-time, --category, --opt-out-wording: campaign {key.name!r} has begun with another one. "
            "Nothing was sent now. Repeat the command as it was to carry on with what is left; a version that had no "
            "--opt-out-wording is 'none'."
        ) from None


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


# The dry run


def _dry_run(args: argparse.Namespace, account: Account, order: Order, source: Source, policy: Policy) -> Result:
    log = Log()
    price = None if args.point_price is None else _price(args.point_price)
    name = campaign_name(account, source.content, _fingerprint(source, order))
    key = _rehearsed_key(log, name, policy, again=args.again)
    with SmsClient(account) as client, _changes_named(key):
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
            return choose_key(ledger, name, policy, again=again)
        except SentAlreadyError as error:
            return error.key


def _price(text: str) -> Decimal:
    try:
        return read_price(text)
    except ValueError as error:
        raise UsageError(f"--point-price: {error}") from None
