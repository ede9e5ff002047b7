"""What `airflow-sms receiver`, `push-url` and `pushes` do: the platform's pushes are taken, addressed and looked at."""

from __future__ import annotations

import argparse
import ipaddress
import json
import secrets
import ssl
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow_provider_sms import settings
from airflow_provider_sms.cli import Exit, Log, Result, UsageError
from airflow_provider_sms.cli_accounts import find_account
from airflow_provider_sms.gateway.phones import mask_inside
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger import inbox
from airflow_provider_sms.ledger.errors import LedgerError
from airflow_provider_sms.opening import open_ledger

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_sms.ledger.inbox import Count, Stock
    from airflow_provider_sms.receiver.server import Listening

_MOST_WORKERS = 64
_TOKEN_BYTES = 32
_PLACEHOLDER = "https://airflow.example.com"


# The server


def receiver(args: argparse.Namespace) -> Result:
    """Take the platform's pushes until SIGTERM or SIGINT."""
    listening = _listening(args)
    tokens = settings.push_tokens()
    # Wrong ones are better known now than by the pushes that are not taken.
    for read in (settings.allowed_networks, settings.trusted_proxies, settings.path_tokens, settings.opt_out_words):
        read()
    from airflow_provider_sms.receiver import server

    try:
        held = server.bind(listening)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"--host, --port: can not listen on {listening.host} port {listening.port}: {reason}."
        ) from None
    with held:
        _say_how_it_is(len(tokens))
        print(f"listening on {_shown(listening, held.getsockname()[1])}", file=sys.stderr, flush=True)
        server.prepare_logging()
        server.serve(listening, held)
    return Result(Exit.DONE)


def _listening(args: argparse.Namespace) -> Listening:
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port: {args.port} is not between 0 and 65535.")
    if not 1 <= args.workers <= _MOST_WORKERS:
        raise UsageError(f"--workers: {args.workers} is not between 1 and {_MOST_WORKERS}.")
    if args.key is not None and args.certificate is None:
        raise UsageError("--key: give --certificate, too.")
    try:
        from airflow_provider_sms.receiver.server import Listening
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("uvicorn", "httptools"):
            raise
        raise UsageError(
            f"{error.name} is not installed; it comes with airflow-provider-sms[receiver]: "
            "pip install 'airflow-provider-sms[receiver]'. Airflow 3's API server takes pushes without it."
        ) from None
    certificate = None if args.certificate is None else Path(args.certificate)
    key = None if args.key is None else Path(args.key)
    if certificate is not None:
        _try_certificate(certificate, key)
    if not args.host:
        raise UsageError("--host: it is empty. Name the address to listen on: 127.0.0.1, or 0.0.0.0 for all.")
    return Listening(args.host, args.port, args.workers, certificate, key)


def _try_certificate(certificate: Path, key: Path | None) -> None:
    for option, file in (("--certificate", certificate), ("--key", key)):
        if file is not None and not file.is_file():
            raise UsageError(f"{option}: there is no file {file}.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        kind = getattr(error, "reason", None) or type(error).__name__
        raise UsageError(
            f"--certificate, --key: not a certificate and its key in PEM, without a passphrase ({kind})."
        ) from None


def _say_how_it_is(tokens: int) -> None:
    """Tell the person who starts it what will be answered."""
    if tokens:
        said = f"tokens set: {tokens}"
    else:
        said = (
            "no push will be taken: [sms] push_tokens is not set; `airflow-sms push-url` makes a token, and says how "
            "to set it"
        )
    print(said, file=sys.stderr)
    if not tokens:
        return
    try:
        with closing(open_ledger(Log())) as ledger:
            print(f"the ledger is fit: {ledger!r}", file=sys.stderr)
    except LedgerError as error:
        print(f"pushes will be answered 503 until this is mended: {error}", file=sys.stderr)


def _shown(listening: Listening, port: int) -> str:
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    return f"{'http' if listening.certificate is None else 'https'}://{host}:{port}"


# The address


def push_url(args: argparse.Namespace) -> Result:
    """Print the address to paste into the platform's console; make a token if there is none."""
    base = _base_url(args.base_url)
    tokens = settings.push_tokens()
    in_path = settings.path_tokens()
    account = "" if args.conn_id == "sms_default" else f"/{quote(find_account(args.conn_id).app_id, safe='')}"
    is_new = args.new_token or not tokens
    token = secrets.token_urlsafe(_TOKEN_BYTES) if is_new else tokens[0]
    if is_new:
        # The new one last is as good: any of them is taken.
        _tell(
            "A new token; nothing takes it until you set it, everywhere that pushes are taken, and restart there:",
            f"    export AIRFLOW__SMS__PUSH_TOKENS='{','.join((token, *tokens[:1]))}'",
        )
        if tokens:
            _tell(
                "The old one goes on working beside it. Once the platform's console has the new address and no push "
                "comes to the old one any more, leave the old token out and restart once more."
            )
    else:
        _tell("The address of the first token in [sms] push_tokens; --new-token makes another one.")
    _tell(
        "Paste it into the platform's console as the address of both receipts and replies. It is a secret: whoever "
        "has it can make receipts and replies up."
    )
    _warn_about(base)
    address = f"{base}/sms/t/{token}/push{account}" if in_path else f"{base}/sms/push{account}?token={token}"
    return Result(Exit.DONE, address)


def _base_url(given: str | None) -> str:
    base = (given or _PLACEHOLDER).rstrip("/")
    try:
        parts = urlsplit(base)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        _ = parts.port
    except ValueError:
        is_one = False
    if not is_one or parts.username is not None:
        raise UsageError("--base-url: not an address; write it like https://airflow.example.com.")
    return base.removesuffix("/sms")


def _warn_about(base: str) -> None:
    parts = urlsplit(base)
    if base == _PLACEHOLDER:
        _tell(
            f"Put your own host in the place of {parts.hostname} (or give --base-url): that of Airflow's API server, "
            "with its path if it has one, or of the receiver. The platform must reach it from the Internet."
        )
    if parts.scheme == "http":
        _tell("warning: the platform pushes over HTTPS only, and on the way anybody could read phones and token.")
    host = parts.hostname or ""
    try:
        is_private = not ipaddress.ip_address(host).is_global
    except ValueError:
        is_private = host == "localhost" or host.endswith(".localhost")
    if is_private:
        _tell(f"warning: the platform can not reach {host} from the Internet.")


def _tell(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


# What has come


def pushes(args: argparse.Namespace) -> Result:
    """Show what has been pushed: counts, what could not be matched, and what could not be read."""
    if not 0 <= args.limit <= inbox.QUARANTINED:
        raise UsageError(f"--limit: {args.limit} is not between 0 and {inbox.QUARANTINED}.")
    with closing(open_ledger(Log())) as ledger:
        stock = inbox.take_stock(ledger, args.limit)
    if args.output == "json":
        return Result(Exit.DONE, json.dumps(_as_data(stock), ensure_ascii=False))
    return Result(Exit.DONE, "\n".join(_as_lines(stock)))


def _as_data(stock: Stock) -> dict[str, object]:
    return {
        "receiverAt": _time(stock.receiver_at),
        "firstPushAt": _time(stock.first_push_at),
        "receipts": stock.receipts.by_matching,
        "receiptsAreAll": stock.receipts.is_all,
        "newestReceiptAt": _time(stock.receipts.newest_at),
        "replies": stock.replies.by_matching,
        "repliesAreAll": stock.replies.is_all,
        "newestReplyAt": _time(stock.replies.newest_at),
        "unreadable": stock.unreadable,
        "newestUnreadable": [
            {
                "id": each.id,
                "receivedAt": _time(each.received_at),
                "interface": each.interface,
                "account": each.account,
                "reason": each.reason,
                "body": mask_inside(each.body),
            }
            for each in stock.newest
        ],
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(BEIJING).isoformat(timespec="seconds")


_MEANINGS = {
    "matched": "matched",
    "unowned": "of no batch that is known",
    "no_phone": "of a batch, but of none of its phones",
    "contradiction": "contradicting an earlier one",
    "new": "not looked at yet",
}


def _as_lines(stock: Stock) -> list[str]:
    data = _as_data(stock)
    lines = [
        f"a receiver was last seen: {data['receiverAt'] or 'never'}",
        f"first push: {data['firstPushAt'] or 'none yet'}",
        f"receipts: {_counted(stock.receipts)}",
        f"replies: {_counted(stock.replies)}",
        f"could not be read: {stock.unreadable}",
    ]
    for each in stock.newest:
        time = f"{each.received_at.astimezone(BEIJING):%Y-%m-%d %H:%M:%S}"
        lines.append(f"  {time} /{each.interface}: {each.reason}: {mask_inside(each.body)[:200]}")
    return lines


def _counted(count: Count) -> str:
    parts = ", ".join(f"{number} {_MEANINGS[name]}" for name, number in count.by_matching.items() if number)
    total = sum(count.by_matching.values())
    if not count.is_all:
        return f"at least {total}, the newest heard at {_time(count.newest_at)} (of the newest {total}: {parts})"
    return f"{total}" + (f" ({parts})" if parts else "")
