"""The one reader of Airflow's `[sms]` section, and of what else of Airflow's settings the ledger must know.

Knows Airflow's `conf`, nothing of SQL: a ledger's address is text here. Importing it imports nothing of Airflow.
"""

from __future__ import annotations

import configparser
import ipaddress
import os
import re
import threading
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from airflow_provider_sms.gateway import prices

_SECTION = "sms"
_LONGEST_NAMESPACE = 100
# A hundred years; more than that is a slip, and no date would be left to count back to.
_MOST_DAYS = 36_500
_SHORTEST_TOKEN = 22
_LONGEST_TOKEN = 200
_TOKEN = re.compile("[A-Za-z0-9_-]+")
_TRUE = {"true", "t", "1"}
_FALSE = {"false", "f", "0", ""}
# As SQLAlchemy finds it: a password may hold anything but an `@`, which has to be percent-encoded.
_PASSWORD = re.compile(r"\A[^:]+://[^:/]*:([^@]*)@")
_PASSWORD_PARAMETERS = {"password", "passwd", "sslpassword"}
_TRY_IT = "Try it on this machine, as the user that Airflow runs as; a secrets backend is that of [secrets] backend."
_initialising = threading.Lock()

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsError(Exception):
    """An option is not usable; the message names it, the remedy and the environment variable that sets it."""

    def __init__(self, option: str, problem: str, remedy: str) -> None:
        # All three, so that it can be pickled.
        super().__init__(option, problem, remedy)
        self.option = option
        self._text = f"[{_SECTION}] {option}: {problem} {remedy} Its environment variable is {_variable(option)}."

    def __str__(self) -> str:
        return self._text


def ledger_url() -> str | None:
    """Where the ledger is; from here on the logs of tasks and triggers hide it, and the password inside it.

    It may run a command or ask a secrets backend, and Airflow tells a supervisor what to hide: a trigger calls this
    by asgiref's `sync_to_async`, not on the event loop and not by `asyncio.to_thread`.

    :returns: `[sms] sql_alchemy_conn`, a secret; None for the SQLite file in AIRFLOW_HOME.
    :raises SettingsError: the command or the secrets backend that should tell it did not.
    """
    url = _text("sql_alchemy_conn")
    if not url:
        return None
    for secret in (url, *_passwords(url)):
        _mask(secret)
    return url


def namespace() -> str:
    """What tells this installation apart from others that share its ledger.

    :returns: `[sms] namespace`; empty if there is none.
    :raises SettingsError: too long, or with a character that nobody can see.
    """
    value = _text("namespace")
    if len(value) > _LONGEST_NAMESPACE:
        raise SettingsError(
            "namespace", f"{len(value)} characters are too many.", f"Shorten it to at most {_LONGEST_NAMESPACE}."
        )
    # Two names that look alike would be two sets of campaigns: the same text could go out twice.
    unseen = next((each for each in value if not each.isprintable()), None)
    if unseen is not None:
        raise SettingsError(
            "namespace",
            f"it holds a control or invisible character, U+{ord(unseen):04X}.",
            "Use letters, digits and signs.",
        )
    return value


def allows_sqlite() -> bool:
    """Whether somebody has vouched that all processes share the disk that the SQLite ledger is on.

    :returns: `[sms] allow_sqlite`, False by default.
    :raises SettingsError: neither true nor false.
    """
    return _switch("allow_sqlite")


def retention_days() -> int | None:
    """How long phones and texts of ended campaigns are kept.

    :returns: `[sms] retention_days`; None to keep them for ever.
    :raises SettingsError: not a whole number of days.
    """
    value = _text("retention_days")
    if not value:
        return None
    # Counted before it is made a number: Python refuses to read thousands of digits.
    if value.isascii() and value.isdigit() and len(value) <= len(str(_MOST_DAYS)) and 1 <= int(value) <= _MOST_DAYS:
        return int(value)
    raise SettingsError(
        "retention_days", "not a whole number of days.", f"Write 1 to {_MOST_DAYS}, or leave it empty to keep all."
    )


def push_tokens() -> tuple[str, ...]:
    """The secrets that a push may carry; from here on logs hide them.

    :returns: `[sms] push_tokens`; empty if none is set, and then no push is taken.
    :raises SettingsError: one is shorter than 128 random bits can be, or can not stand in an address.
    """
    tokens = _listed("push_tokens")
    for token in tokens:
        _mask(token)
        # 22 letters of base64: 128 bits.
        if len(token) < _SHORTEST_TOKEN or len(token) > _LONGEST_TOKEN or not _TOKEN.fullmatch(token):
            raise SettingsError(
                "push_tokens",
                f"a token is not {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} letters, digits, `-` and `_`.",
                "`airflow-sms push-url` makes a good one.",
            )
    return tokens


def allowed_networks() -> tuple[Network, ...]:
    """From where pushes are taken.

    :returns: `[sms] allowed_networks`; empty for anywhere.
    :raises SettingsError: one is no network.
    """
    return _networks("allowed_networks")


def trusted_proxies() -> tuple[Network, ...]:
    """Whose X-Forwarded-For is believed.

    :returns: `[sms] trusted_proxies`; empty for nobody's.
    :raises SettingsError: one is no network.
    """
    return _networks("trusted_proxies")


def path_tokens() -> bool:
    """Whether a push's token may stand in its path.

    :returns: `[sms] path_tokens`, False by default.
    :raises SettingsError: neither true nor false.
    """
    return _switch("path_tokens")


def opt_out_words() -> tuple[str, ...]:
    """What a person replies to opt out of marketing.

    :returns: `[sms] opt_out_words`, as they stand there.
    """
    return _listed("opt_out_words")


def dry_run() -> bool:
    """Whether nothing is to be sent in this whole environment.

    :returns: `[sms] dry_run`, False by default.
    :raises SettingsError: neither true nor false.
    """
    return _switch("dry_run")


def point_price() -> Decimal | None:
    """What one point costs, for dry runs.

    :returns: `[sms] point_price`; None if it is not said.
    :raises SettingsError: it is no price.
    """
    value = _text("point_price")
    try:
        return prices.read_price(value) if value else None
    except ValueError as error:
        raise SettingsError("point_price", str(error), "Leave it empty if costs shall not be shown.") from None


def executors() -> list[str]:
    """Name the executors that tasks run on, those of single teams included.

    :returns: the class names in `[core] executor`, without modules, aliases and teams: `["LocalExecutor"]`.
    """
    from airflow.providers.common.compat.sdk import conf

    # `Executor,alias:module.Executor;team=Executor`; an executor's name holds none of these signs.
    parts = re.split("[,;]", conf.get("core", "executor", fallback="") or "")
    names = (re.split("[=:.]", part)[-1].strip() for part in parts)
    return list(dict.fromkeys(filter(None, names)))


def airflow_home() -> Path:
    """Where Airflow keeps its files."""
    from airflow.configuration import get_airflow_home

    return Path(get_airflow_home())


def _switch(option: str) -> bool:
    value = _text(option).lower()
    if value not in _TRUE | _FALSE:
        raise SettingsError(option, "neither true nor false.", "Write True or False.")
    return value in _TRUE


def _listed(option: str) -> tuple[str, ...]:
    # A comma as a Chinese keyboard writes it is one, too.
    return tuple(filter(None, (each.strip() for each in re.split("[,\uff0c]", _text(option)))))


def _networks(option: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(each, strict=False) for each in _listed(option))
    except ValueError:
        raise SettingsError(
            option, "one of them is no network.", "Write them like 203.0.113.0/24,2001:db8::/32."
        ) from None


def _text(option: str) -> str:
    """Read an option, without what stands around it: the output of a `_CMD` ends in a newline."""
    from airflow.providers.common.compat.sdk import AirflowConfigException, conf

    _know_our_section()
    # Whatever is raised may quote the value, so nothing of it is passed on but its kind.
    try:
        value = conf.get(_SECTION, option, fallback="")
    except configparser.Error:
        raise SettingsError(
            option, "airflow.cfg can not be read here.", "In that file, write %% for each % of the value."
        ) from None
    except (AirflowConfigException, OSError, ValueError) as error:
        # Where Airflow wraps something, the kind of what it wrapped tells more.
        kind = type(error.__context__ or error).__name__
        source = _told_by(option) or "its value"
        raise SettingsError(option, f"{source} can not be had ({kind}).", _TRY_IT) from None
    text = str(value or "").strip()
    if not text and (source := _told_by(option)):
        # Empty would mean the default, and a default ledger knows nothing of what was sent.
        if (_SECTION, option) not in conf.sensitive_config_values:
            raise SettingsError(option, f"Airflow takes no notice of {source}.", "Set the value itself.")
        raise SettingsError(option, f"{source} gave nothing.", _TRY_IT)
    return text


def _told_by(option: str) -> str:
    """The command or secrets backend that an option is left to; empty if there is none."""
    from airflow.providers.common.compat.sdk import conf

    for form in ("_CMD", "_SECRET"):
        if _variable(option) + form in os.environ:
            return _variable(option) + form
        if conf.has_option(_SECTION, option + form.lower()):
            return f"{option}{form.lower()} in airflow.cfg"
    return ""


def _know_our_section() -> None:
    """Make Airflow read what the providers say about their options.

    Before 3.2 it has not done so in a task, and then takes no notice of a `_CMD` or `_SECRET`.
    """
    from airflow.providers_manager import ProvidersManager

    # Threads that come here first and together would each add the section, which Airflow refuses.
    with _initialising:
        ProvidersManager().initialize_providers_configuration()


def _variable(option: str) -> str:
    return f"AIRFLOW__{_SECTION.upper()}__{option.upper()}"


def _passwords(url: str) -> set[str]:
    """Every way in which a driver or a log may write the passwords in a URL."""
    found = [match[1]] if (match := _PASSWORD.match(url)) else []
    # Decoded already, unlike the other.
    query = [value for name, value in parse_qsl(url.partition("?")[2]) if name.lower() in _PASSWORD_PARAMETERS]
    plain = {unquote(password) for password in found} | set(query)
    return {*found, *plain, *(quote(password, safe="") for password in plain)} - {""}


def _mask(secret: str) -> None:
    from airflow.providers.common.compat.sdk import mask_secret

    mask_secret(secret)
