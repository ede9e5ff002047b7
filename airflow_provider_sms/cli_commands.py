"""What commands there are, and their options; one definition makes `airflow-sms …` and `airflow sms …`.

Knows nothing of what they do: every `airflow` command imports this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a command, as both argparse and Airflow take it."""

    flags: tuple[str, ...]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it is called, and what it does.

    :param run: `module:function` in this package, given the arguments and returning a `Result`.
    """

    name: str
    help: str
    run: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Commands under one name."""

    name: str
    help: str
    commands: tuple[Command, ...]


def _option(*flags: str, **settings: Any) -> Option:
    return Option(flags, settings)


_CONN_ID = _option("--conn-id", default="sms_default", help="the connection (default: sms_default)")
_OUTPUT = _option("--output", choices=("text", "json"), default="text", help="how to print (default: text)")
_CAMPAIGN = _option("campaign", metavar="CAMPAIGN", help="its name or id, see `airflow-sms campaigns`")

_OPT_OUT_PHONES = _option("phones", nargs="+", metavar="PHONE", help="a phone such as 13800130001")
_NOTE = _option("--note", help="where the wish comes from, up to 200 characters; kept with each phone")

_GUARDS = (
    _option(
        "--sending-hours",
        default="default",
        help="when it may go out, Beijing time, such as 08:00-21:00, or none (default: 08:00-21:00 for marketing)",
    ),
    _option(
        "--outside-hours",
        choices=("wait", "schedule", "fail"),
        default="wait",
        help="what to do outside them: wait here, schedule by the platform's send time, or fail (default: wait)",
    ),
    _option("--max-per-phone", type=int, help="texts of this category that a phone may get in --per-days"),
    _option("--per-days", type=int, default=7, help="the days that --max-per-phone counts (default: 7)"),
    _option("--max-points", type=int, help="send nothing if all of it costs more points"),
    _option("--min-balance-after", type=int, help="send nothing if fewer points would be left on the account"),
    _option(
        "--opt-out-wording",
        choices=("default", "add", "require", "none"),
        default="default",
        help="add how to opt out to a text that does not say it, or require it (default: add for marketing)",
    ),
)

COMMANDS: tuple[Command | Group, ...] = (
    Command("balance", "print how many points the account has left", "cli_accounts:balance", (_CONN_ID, _OUTPUT)),
    Command(
        "send",
        "send a group one text, or each phone its own, once; repeated within 24 hours it carries on with what is left",
        "cli_send:send",
        (
            _option("--phones", help="comma text, @FILE with one phone a line, or - for standard input"),
            _option("--content", help="their text; the connection's signature is added if it has none"),
            _option(
                "--messages", metavar="FILE", help="instead of --phones: a CSV with a phone and its fields in a row"
            ),
            _option(
                "--template",
                metavar="TEXT",
                help="the text of --messages, with places for columns such as {name} (default: the column `content`)",
            ),
            _option("--column", help="the column that holds the phones (of --messages by default: phone)"),
            _option("--encoding", help="the encoding of the file, such as gb18030 (default: utf-8)"),
            _option("--send-time", help="Beijing time such as '2030-01-31 14:00:00', at least 31 minutes away"),
            _option("--batch-size", type=int, help="phones in one request (default: the connection's)"),
            _option(
                "--category",
                choices=("marketing", "notice"),
                help="what kind of text it is; phones that have opted out get no marketing",
            ),
            *_GUARDS,
            _option("--again", action="store_true", help="send to everybody once more what was sent within 24 hours"),
            _option(
                "--on-expired",
                choices=("fail", "send_now"),
                default="fail",
                help="what to do with what is left if it is too late for it (default: fail)",
            ),
            _option("--dry-run", action="store_true", help="show what would be sent, and send nothing"),
            _option("--point-price", help="what a point costs, for --dry-run (default: the setting point_price)"),
            _CONN_ID,
            _OUTPUT,
        ),
    ),
    Command(
        "campaigns",
        "list campaigns, newest first, and whether they need somebody",
        "cli_campaigns:campaigns",
        (_option("--limit", type=int, default=20, help="how many (default: 20)"), _OUTPUT),
    ),
    Command(
        "status",
        "show what became of a campaign, and what to do about it",
        "cli_campaigns:status",
        (_CAMPAIGN, _option("--all", action="store_true", help="show all batches, not only 50"), _OUTPUT),
    ),
    Command(
        "resolve",
        "settle a batch in doubt by what the platform's console shows",
        "cli_campaigns:resolve",
        (
            _CAMPAIGN,
            _option("--batch", type=int, required=True, metavar="N", help="the batch's number"),
            # Airflow takes no `const`: without a taskId it is None, absent it is False.
            _option("--sent", nargs="?", default=False, metavar="TASKID", help="the platform has taken it"),
            _option("--not-sent", action="store_true", help="the platform has not taken it: the next try sends it"),
            _option("--undo", action="store_true", help="take back that it was sent, said by hand or by a receipt"),
        ),
    ),
    Command(
        "export",
        "write what became of every phone of a campaign, as CSV",
        "cli_export:export",
        (_CAMPAIGN, _option("--file", metavar="PATH", help="a new file, for you alone (default: standard output)")),
    ),
    Command(
        "receiver",
        "take the platform's receipts and replies, where Airflow's own API server does not",
        "cli_receiver:receiver",
        (
            _option("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"),
            _option("--port", type=int, default=8085, help="0 picks a free one (default: 8085)"),
            _option("--workers", type=int, default=1, help="processes (default: 1, which is enough for most)"),
            _option("--certificate", metavar="FILE", help="serve HTTPS with this certificate (PEM, the whole chain)"),
            _option("--key", metavar="FILE", help="its private key (PEM), if it is not in the same file"),
        ),
    ),
    Command(
        "push-url",
        "print the address to paste into the platform's console, with a new token if there is none yet",
        "cli_receiver:push_url",
        (
            _CONN_ID,
            _option("--base-url", metavar="URL", help="how the platform reaches Airflow or the receiver"),
            _option("--new-token", action="store_true", help="make another token, to take the place of the first one"),
        ),
    ),
    Command(
        "pushes",
        "show what has been pushed: counts, what belongs to no batch, what could not be read",
        "cli_receiver:pushes",
        (
            _option("--limit", type=int, default=10, help="of what could not be read, how many (default: 10)"),
            _OUTPUT,
        ),
    ),
    Group(
        "opt-outs",
        "look after the list of phones that want no marketing",
        (
            Command("list", "list the phones that have opted out, masked", "cli_opt_outs:list_opt_outs", (_OUTPUT,)),
            Command(
                "add",
                "put phones on the list: they get no marketing any more",
                "cli_opt_outs:add",
                (_OPT_OUT_PHONES, _NOTE, _OUTPUT),
            ),
            Command(
                "remove",
                "take phones off the list: they have asked for marketing again",
                "cli_opt_outs:remove",
                (_OPT_OUT_PHONES, _OUTPUT),
            ),
            Command(
                "import",
                "put the phones of a file on the list",
                "cli_opt_outs:import_opt_outs",
                (
                    _option(
                        "file", metavar="FILE", help="one phone a line, or a CSV with --column; - for standard input"
                    ),
                    _option("--column", help="the column of FILE that holds the phones, if it is a CSV"),
                    _option("--encoding", help="the encoding of FILE, such as gb18030 (default: utf-8)"),
                    _NOTE,
                    _OUTPUT,
                ),
            ),
            Command(
                "export",
                "write the list with its phones whole, as CSV",
                "cli_opt_outs:export",
                (_option("--file", metavar="PATH", help="a new file, for you alone (default: standard output)"),),
            ),
        ),
    ),
    Group(
        "ledger",
        "look after the ledger: what was planned, sent and heard",
        (
            Command("upgrade", "make the ledger's tables, or bring them up to date", "cli_ledger:upgrade", ()),
            Command(
                "check", "say where the ledger is and whether it is fit to send with", "cli_ledger:check", (_OUTPUT,)
            ),
            Command(
                "purge",
                "remove phones, texts, receipts and replies of ended campaigns; counts stay",
                "cli_ledger:purge",
                (
                    _option(
                        "--before", metavar="DATE", help="what ended before that day, such as 2030-01-31 (Beijing)"
                    ),
                    _option(
                        "--older-than",
                        type=int,
                        metavar="DAYS",
                        help="what ended so many days ago (default: the setting retention_days)",
                    ),
                    _option("--dry-run", action="store_true", help="say what would be removed, and remove nothing"),
                    _OUTPUT,
                ),
            ),
        ),
    ),
)
