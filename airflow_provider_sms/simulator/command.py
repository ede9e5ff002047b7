"""The command: `airflow-sms simulator`, and `python -m airflow_provider_sms.simulator`.

Turns flags into a simulation, says where it listens, and ends it on SIGINT or SIGTERM.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_sms.simulator.platform import Account
from airflow_provider_sms.simulator.server import Server
from airflow_provider_sms.simulator.settings import Settings, setting_kinds, setting_meanings
from airflow_provider_sms.simulator.simulation import Simulation
from airflow_provider_sms.simulator.values import BadValue, Whole

if TYPE_CHECKING:
    import argparse
    from types import FrameType

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = "10658"
DEFAULT_APP_ID = "SIMULATOR-APP-ID"
DEFAULT_APP_KEY = "simulator-app-key"

_PORT = Whole(0, 65535)
_BANNER = """\
******************************************************************
*  SMS SIMULATOR: NOTHING IS REALLY SENT. No phone gets a text.  *
******************************************************************"""


@dataclass(frozen=True)
class _Plan:
    host: str
    port: int
    account: Account
    settings: Settings
    seed: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the simulator's flags. Their values are checked by `run`, which says what is wrong in one line."""
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", default=DEFAULT_PORT, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--app-id", default=DEFAULT_APP_ID, help="the account's App ID (default: %(default)s)")
    parser.add_argument("--app-key", default=DEFAULT_APP_KEY, help="its App Key (default: %(default)s)")
    parser.add_argument("--seed", help="draw the same lots and taskIds in every run", metavar="TEXT")
    group = parser.add_argument_group("switches", "each can be changed later by POST /_simulator/settings")
    defaults = Settings()
    meanings = setting_meanings()
    for name, kind in setting_kinds().items():
        shown = _as_flag(getattr(defaults, name))
        text = f"{meanings[name]} (default: {shown})".replace("%", "%%")
        group.add_argument(_flag(name), metavar=kind.metavar, default=None, help=text)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; 0 then, 2 for a flag or an address that can not be used."""
    try:
        plan = _plan(args)
        server = _server(plan)
    except BadValue as mistake:
        print(f"simulator: {mistake}", file=sys.stderr)
        return 2
    stop = threading.Event()
    restore = _stop_on_signals(stop)
    try:
        threading.Thread(target=server.serve_forever, args=(0.05,), name="simulator", daemon=True).start()
        _announce(plan, server)
        stop.wait()
    finally:
        server.stop()
        restore()
    return 0


class _Restore:
    """Puts the signal handlers back that were there before."""

    def __init__(self, previous: dict[signal.Signals, object]) -> None:
        self._previous = previous

    def __call__(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _stop_on_signals(stop: threading.Event) -> _Restore:
    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        return _Restore({})
    return _Restore({number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)})


def _plan(args: argparse.Namespace) -> _Plan:
    changes: dict[str, object] = {}
    settings = Settings()
    for name, kind in setting_kinds().items():
        text = getattr(args, name)
        if text is not None:
            changes[name] = kind.read(_flag(name), kind.from_text(text))
    if not args.app_id or not args.app_key:
        raise BadValue("--app-id and --app-key must not be empty")
    if not args.host:
        raise BadValue("--host must not be empty: 127.0.0.1, or 0.0.0.0 for all addresses")
    return _Plan(
        host=args.host,
        port=_PORT.read("--port", _PORT.from_text(args.port)),
        account=Account(args.app_id, args.app_key),
        settings=settings.changed(changes),
        seed=args.seed,
    )


def _server(plan: _Plan) -> Server:
    simulation = Simulation(plan.account, plan.settings, plan.seed)
    try:
        return Server(plan.host, plan.port, simulation)
    except (OSError, UnicodeError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise BadValue(f"can not listen on {plan.host} port {plan.port}: {reason}") from None


def _announce(plan: _Plan, server: Server) -> None:
    address = _base_url(server)
    connection = {
        "conn_type": "sms",
        "host": address,
        # Airflow 3.3.1 and 3.3.2 refuse to test a connection without a port.
        "port": server.server_address[1],
        "login": plan.account.app_id,
        "password": plan.account.app_key,
        # Texts that the provider writes itself, alarms, need one.
        "extra": {"signature": "云通信"},
    }
    lines = [
        _BANNER,
        f"App ID:  {plan.account.app_id}",
        f"App Key: {plan.account.app_key}",
        f"export AIRFLOW_CONN_SMS_SIMULATOR={shlex.quote(json.dumps(connection))}",
        f"listening on {address}",
    ]
    if not _is_loopback(str(server.server_address[0])):
        warning = "warning: not bound to loopback, so other machines can reach this simulator"
        print(warning, file=sys.stderr, flush=True)
    print("\n".join(lines), flush=True)


def _base_url(server: Server) -> str:
    host = str(server.server_address[0])
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_unspecified:
        host = "127.0.0.1" if server.address_family == socket.AF_INET else "::1"
    return f"http://[{host}]:{server.port}" if ":" in host else f"http://{host}:{server.port}"


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _as_flag(value: object) -> object:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else value
