"""Whose account is used, and how it is reached: checked once, in one place. Knows no Airflow."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from airflow_provider_sms.gateway.errors import AccountError
from airflow_provider_sms.gateway.texts import signature_name

BASE_URL = "https://cloud.10658.com.cn"
TIMEOUT = 60.0
LONGEST_TIMEOUT = 600.0
BATCH_SIZE = 500
LARGEST_BATCH = 100_000
_PROXY_SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Account:
    """One account of the platform and the way to it.

    :param app_id: 账户标识, the document's `appId`.
    :param app_key: 账户密钥, the document's `appKey`; shown nowhere.
    :param base_url: where the interface lives; https, or http on loopback.
    :param timeout: seconds that one request may take from start to end, 1 to 600.
    :param signature: added as `【signature】` to texts that carry none.
    :param batch_size: phones in one request, 1 to 100,000.
    :param proxy: `http[s]://[user:password@]host[:port]`; shown nowhere.
    :param ca_file: certificates to trust instead of the system's.
    :param exclusive_account: only this ledger sends with the account.
    :raises AccountError: a setting is not usable; the message names it and the remedy.
    """

    app_id: str
    app_key: str = field(repr=False)
    base_url: str = BASE_URL
    timeout: float = TIMEOUT
    signature: str | None = None
    batch_size: int = BATCH_SIZE
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    exclusive_account: bool = False

    def __post_init__(self) -> None:
        if not self.app_id.strip():
            raise AccountError("login: the App ID is missing; copy it from the platform's home page.")
        if not self.app_key.strip():
            raise AccountError("password: the App Key is missing; copy it from the platform's home page.")
        object.__setattr__(self, "base_url", _checked_base_url(self.base_url))
        if not 1 <= self.timeout <= LONGEST_TIMEOUT:
            raise AccountError(f"timeout: {self.timeout:g} is not between 1 and {LONGEST_TIMEOUT:.0f} seconds.")
        check_batch_size(self.batch_size)
        if self.signature is not None:
            object.__setattr__(self, "signature", signature_name(self.signature))
        if self.proxy is not None:
            _check_proxy(self.proxy)

    @property
    def proxy_password(self) -> str | None:
        """The password inside `proxy`, if it has one, so that a log can mask it."""
        return urlsplit(self.proxy).password if self.proxy else None


def check_batch_size(batch_size: int) -> None:
    """See that a batch has a size that the platform is known to take.

    :param batch_size: phones in one request.
    :raises AccountError: it is not between 1 and 100,000 (the console's limit; the document names none).
    """
    if not 1 <= batch_size <= LARGEST_BATCH:
        raise AccountError(f"batch_size: {batch_size} is not between 1 and {LARGEST_BATCH:,} phones.")


def with_port(base_url: str, port: int | None) -> str:
    """Put a port that was given by itself into a base URL.

    :param base_url: with or without scheme and port.
    :param port: None or 0 for none.
    :raises AccountError: the base URL names another port.
    """
    if not port:
        return base_url
    url = base_url if "://" in base_url else f"https://{base_url}"
    try:
        parts = urlsplit(url)
        named = parts.port
    except ValueError:
        return base_url  # not a URL, which the account says
    if named is None:
        return urlunsplit(parts._replace(netloc=f"{parts.netloc}:{port}"))
    if named != port:
        raise AccountError(f"port: {port}, but the base URL in host says {named}; leave one of them empty.")
    return base_url


def is_loopback(host: str) -> bool:
    """Tell whether a host name means this very machine.

    :param host: a name or an address, without port.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_base_url(base_url: str) -> str:
    url = base_url.strip()
    url = (url if "://" in url else f"https://{url}").rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http"):
        raise AccountError(f"host: not a base URL; write it like {BASE_URL}.")
    if parts.username is not None or parts.query or parts.fragment:
        raise AccountError(f"host: a base URL has no user, query or fragment; write it like {BASE_URL}.")
    if parts.scheme == "http" and not is_loopback(host):
        raise AccountError(
            f"host: http:// would send the App Key unencrypted to {host}; use https:// "
            "(http is allowed for this machine only, such as http://127.0.0.1:10658)."
        )
    return url


def _check_proxy(proxy: str) -> None:
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise AccountError("proxy: not a proxy's address; write it like http://user:password@proxy.example:3128.")
