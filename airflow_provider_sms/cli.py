"""`airflow-sms …`, and the same as `airflow sms …` where Airflow lets providers add commands.

What commands there are is in `cli_commands`, and makes both. Every `airflow` command imports these two, so what the
commands do is in other modules `cli_…`, imported when one of them runs.
"""

from __future__ import annotations

import argparse
import codecs
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from typing import Any

from airflow_provider_sms.cli_commands import COMMANDS, Command, Group


class Exit(IntEnum):
    """Exit statuses that scripts can rely on."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    IN_DOUBT = 3
    UNREACHABLE = 4
    INTERRUPTED = 130


_EXITS = """\
exit status:
  0  done
  1  the platform refused, or only a part was sent: read the message before you send again
  2  something in the command, the connection or the ledger is wrong, or it was sent already; nothing was sent
  3  in doubt: texts may have been sent; do not repeat the command blindly
  4  the platform was not reached; nothing was sent, repeating is safe
130  interrupted, by a command that does not send
"""

_ESCAPED = "airflow_sms_escaped"


@dataclass(frozen=True, slots=True)
class Result:
    """What a command ends with.

    :param output: for standard output; everything else that is said goes to standard error.
    :param stream: more of the same, written as it comes.
    """

    status: Exit
    output: str = ""
    stream: Iterable[str] = ()


class Log:
    """Says on standard error what happens meanwhile."""

    def info(self, message: str, /, *args: Any) -> None:
        """Say it."""
        print(message % args if args else message, file=sys.stderr)

    warning = error = info


class UsageError(Exception):
    """The person at the keyboard can mend it; printed without a traceback.

    :param status: what the command ends with.
    """

    def __init__(self, message: str, status: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.status = status


def main(argv: Sequence[str] | None = None) -> int:
    """Run `airflow-sms`.

    :param argv: the arguments; None for the process's.
    :returns: the exit status, see `Exit`.
    """
    _make_all_printable()
    args = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = args.run
    return command(args)


def _run(command: Command, args: argparse.Namespace) -> int:
    """Run a command; a person's mistake and the platform's word end in words, not in a traceback."""
    from airflow_provider_sms.gateway.errors import InputError, Outcome, SmsError
    from airflow_provider_sms.ledger.errors import LedgerError
    from airflow_provider_sms.settings import SettingsError

    try:
        # Airflow logs to standard output, which belongs to the result.
        with redirect_stdout(sys.stderr):
            result = _find(command.run)(args)
        return _write(result)
    except UsageError as error:
        status, message = error.status, str(error)
    except (InputError, LedgerError, SettingsError) as error:
        status, message = Exit.USAGE, str(error)
    except SmsError as error:
        status, message = (Exit.REFUSED if error.outcome is Outcome.REFUSED else Exit.UNREACHABLE), str(error)
    except KeyboardInterrupt:
        status, message = Exit.INTERRUPTED, "interrupted."
    print(f"error: {message}", file=sys.stderr)
    return status


def _find(target: str) -> Callable[[argparse.Namespace], Result]:
    module, _, function = target.partition(":")
    found: Callable[[argparse.Namespace], Result] = getattr(import_module(f"airflow_provider_sms.{module}"), function)
    return found


def _write(result: Result) -> Exit:
    try:
        if result.output:
            print(result.output)
        for text in result.stream:
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever was reading has read enough.
        pass
    except OSError as error:
        print(
            f"error: the result can not be written to standard output: {error.strerror}. What the command did is done.",
            file=sys.stderr,
        )
        return result.status or Exit.REFUSED
    return result.status


def _make_all_printable() -> None:
    """What standard output's encoding lacks is escaped, as in JSON: the command is done by then, and must not fail."""
    if isinstance(sys.stdout, TextIOWrapper):
        codecs.register_error(_ESCAPED, _escape)
        sys.stdout.reconfigure(errors=_ESCAPED)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


def airflow_commands() -> list[Any]:
    """Give Airflow (3.2 and newer) the same commands under `airflow sms`.

    :returns: one group of commands; the simulator is a program of its own and stays with `airflow-sms`.
    """
    from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

    def made(command: Command | Group) -> Any:
        if isinstance(command, Group):
            return GroupCommand(command.name, command.help, [made(each) for each in command.commands])
        return ActionCommand(
            name=command.name,
            help=command.help,
            func=_exiting(command),
            args=tuple(Arg(flags=option.flags, **option.settings) for option in command.options),
        )

    return [GroupCommand("sms", "Send SMS, and see and settle what became of them", [made(each) for each in COMMANDS])]


def _exiting(command: Command) -> Callable[[argparse.Namespace], None]:
    """Airflow drops what a command returns: exit with it."""

    def run_and_exit(args: argparse.Namespace) -> None:
        _make_all_printable()
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
    for command in COMMANDS:
        _add(commands, command)
    sub = commands.add_parser("simulator", help="run the platform on this machine; nothing is really sent")
    simulator.add_arguments(sub)
    sub.set_defaults(run=simulator.run)
    return parser


def _add(commands: Any, command: Command | Group) -> None:
    sub = commands.add_parser(
        command.name,
        help=command.help,
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if isinstance(command, Group):
        inner = sub.add_subparsers(metavar="COMMAND", required=True)
        for each in command.commands:
            _add(inner, each)
        return
    for option in command.options:
        sub.add_argument(*option.flags, **option.settings)
    sub.set_defaults(run=partial(_run, command))
