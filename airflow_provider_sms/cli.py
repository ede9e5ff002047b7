"""`airflow-sms …`, and the same as `airflow sms …` where Airflow lets providers add commands.

One definition makes both. Every `airflow` command imports this module: keep its imports light.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.account import Account
    from airflow_provider_sms.sending import Plan


class Exit(IntEnum):
    """Exit statuses that scripts can rely on."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    IN_DOUBT = 3
    UNREACHABLE = 4


_EXITS = """\
exit status:
  0  done
  1  the platform refused, or only a part was sent: read the message before you send again
  2  something in the command or the connection is wrong; nothing was sent
  3  in doubt: texts may have been sent; do not repeat the command blindly
  4  the platform was not reached; nothing was sent, repeating is safe
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command ends with.

    :param output: for standard output; everything else that is said goes to standard error.
    """

    status: Exit
    output: str


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command, as argparse takes it."""

    flags: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it is called, and what it does."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], Result]
    options: tuple[Option, ...]


def _option(*flags: str, **settings: Any) -> Option:
    return Option(flags, settings)


_CONN_ID = _option("--conn-id", default="sms_default", help="the connection (default: sms_default)")
_OUTPUT = _option("--output", choices=("text", "json"), default="text", help="how to print (default: text)")


class UsageError(Exception):
    """The person at the keyboard can mend it; printed as one line."""


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


def balance(args: argparse.Namespace) -> Result:
    """Tell how many points the account has left."""
    from airflow_provider_sms.gateway.client import SmsClient

    with SmsClient(find_account(args.conn_id)) as client:
        points = client.get_balance()
    return Result(Exit.DONE, json.dumps({"remainPoint": points}) if args.output == "json" else str(points))


def send(args: argparse.Namespace) -> Result:
    """Send one text to a group, or show what would be sent."""
    from airflow_provider_sms.sending import make_plan

    phones = sys.stdin.read() if args.phones == "-" else args.phones
    account = find_account(args.conn_id)
    plan = make_plan(account, phones, args.content, args.send_time, args.batch_size)
    if args.dry_run:
        return Result(Exit.DONE, _PLAN_SHOWN[args.output](plan))
    if plan.phones.excluded:
        print(f"phones: left out {plan.phones.explained()}", file=sys.stderr)
    return _send(account, plan, args.output)


def _send(account: Account, plan: Plan, output: str) -> Result:
    from airflow_provider_sms.gateway.client import SmsClient
    from airflow_provider_sms.gateway.errors import Outcome
    from airflow_provider_sms.sending import Campaign, CampaignError

    campaign = Campaign(plan, "airflow-sms send")
    try:
        with SmsClient(account) as client:
            report = campaign.send(client)
        status = Exit.DONE
    except CampaignError as error:
        print(error, file=sys.stderr)
        report = error.report
        if report.in_doubt:
            status = Exit.IN_DOUBT
        elif error.cause.outcome is Outcome.UNSENT and not campaign.may_have_texted:
            status = Exit.UNREACHABLE
        else:
            status = Exit.REFUSED
    except KeyboardInterrupt:
        report = campaign.report()
        print(f"Interrupted: {report}.", file=sys.stderr)
        status = Exit.IN_DOUBT if campaign.may_have_texted else Exit.UNREACHABLE
    if output == "json":
        return Result(status, json.dumps(report.summary(), ensure_ascii=False))
    ids = ", ".join(report.task_ids) or "none"
    return Result(status, f"{report}; taskId: {ids}; points left: {report.remain_point}")


def _plan_summary(plan: Plan) -> dict[str, Any]:
    from airflow_provider_sms.gateway.phones import mask

    return {
        "content": plan.text.content,
        "sendTime": plan.send_time.isoformat() if plan.send_time else None,
        "phones": len(plan.phones.included),
        "batches": len(plan.batches),
        "units": plan.text.units,
        "segments": plan.text.segments,
        "points": plan.points,
        "first": mask(plan.phones.included[0]),
        "excluded": [
            {"position": each.position, "phone": each.shown, "reason": each.reason.value}
            for each in plan.phones.excluded
        ],
    }


def _plan_as_json(plan: Plan) -> str:
    return json.dumps(_plan_summary(plan), ensure_ascii=False)


def _plan_as_text(plan: Plan) -> str:
    summary = _plan_summary(plan)
    lines = [
        "Dry run: nothing is sent.",
        f"text:     {summary['content']}",
        f"length:   {summary['units']} characters, {summary['segments']} segment(s) a phone",
        f"phones:   {summary['phones']} in {summary['batches']} request(s), first {summary['first']}",
        f"points:   {summary['points']}",
        f"send at:  {summary['sendTime'] or 'at once'}",
        f"excluded: {len(summary['excluded'])}",
    ]
    lines += [f"  item {each['position']}: {each['phone']} ({each['reason']})" for each in summary["excluded"]]
    return "\n".join(lines)


_PLAN_SHOWN = {"text": _plan_as_text, "json": _plan_as_json}


_COMMANDS = (
    Command("balance", "print how many points the account has left", balance, (_CONN_ID, _OUTPUT)),
    Command(
        "send",
        "send one text to a group of phones",
        send,
        (
            _option("--phones", required=True, help="comma text, or - to read standard input"),
            _option("--content", required=True, help="the text; the connection's signature is added if it has none"),
            _option("--send-time", help="Beijing time such as '2030-01-31 14:00:00', at least 31 minutes away"),
            _option("--batch-size", type=int, help="phones in one request (default: the connection's)"),
            _option("--dry-run", action="store_true", help="show what would be sent, and send nothing"),
            _CONN_ID,
            _OUTPUT,
        ),
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `airflow-sms`.

    :param argv: the arguments; None for the process's.
    :returns: the exit status, see `Exit`.
    """
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.run
    return command(args)


def _run(command: Command, args: argparse.Namespace) -> int:
    """Run a command; a person's mistake and the platform's word end in one line, not in a traceback."""
    from airflow_provider_sms.gateway.errors import InputError, Outcome, SmsError

    try:
        # Airflow logs to standard output, which belongs to the result.
        with redirect_stdout(sys.stderr):
            result = command.run(args)
    except (UsageError, InputError) as error:
        status, message = Exit.USAGE, str(error)
    except SmsError as error:
        status, message = (Exit.REFUSED if error.outcome is Outcome.REFUSED else Exit.UNREACHABLE), str(error)
    else:
        print(result.output)
        return result.status
    print(f"error: {message}", file=sys.stderr)
    return status


def airflow_commands() -> list[Any]:
    """Give Airflow (3.2 and newer) the same commands under `airflow sms`.

    :returns: one group of commands; the simulator is a program of its own and stays with `airflow-sms`.
    """
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    return [
        GroupCommand(
            name="sms",
            help="Send SMS and ask the balance",
            subcommands=[
                ActionCommand(
                    name=command.name,
                    help=command.help,
                    func=_exiting(command),
                    args=tuple(Arg(flags=option.flags, **option.settings) for option in command.options),
                )
                for command in _COMMANDS
            ],
        )
    ]


def _exiting(command: Command) -> Callable[[argparse.Namespace], None]:
    """Airflow drops what a command returns: exit with it."""

    def run_and_exit(args: argparse.Namespace) -> None:
        sys.exit(_run(command, args))

    return run_and_exit


def _parser() -> argparse.ArgumentParser:
    from airflow_provider_sms.simulator import command as simulator

    parser = argparse.ArgumentParser(
        prog="airflow-sms",
        description="Send SMS through the 中昱维信 (10658) platform with an Airflow connection.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.help,
            epilog=_EXITS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for option in command.options:
            sub.add_argument(*option.flags, **option.settings)
        sub.set_defaults(run=partial(_run, command))
    sub = commands.add_parser("simulator", help="run the platform on this machine; nothing is really sent")
    simulator.add_arguments(sub)
    sub.set_defaults(run=simulator.run)
    return parser
