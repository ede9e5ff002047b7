"""Who may push: by network, then by token. Strangers all get the same answer, and not too often.

The platform signs nothing, so the token in the address is all that tells it apart. Knows no HTTP server and no SQL.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hmac import compare_digest
from urllib.parse import parse_qsl, unquote_to_bytes

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What one address, and all together, may get wrong in so many seconds before they are told to slow down.
WINDOW = 10.0
STRANGE_OF_ONE = 50
STRANGE_OF_ALL = 2_000
_MOST_REMEMBERED = 4_096
_MOST_HOPS = 50
_HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may push.

    :param tokens: the secrets that an address may carry; none: nobody may push.
    :param networks: from where; empty for anywhere.
    :param proxies: whose X-Forwarded-For is believed.
    :param path_tokens: whether a token may stand in the path.
    """

    tokens: tuple[bytes, ...] = field(repr=False)
    networks: tuple[Network, ...] = ()
    proxies: tuple[Network, ...] = ()
    path_tokens: bool = False


def read_rules() -> Rules:
    """Read the rules out of `[sms]`; it may run commands and ask a secrets backend.

    :raises SettingsError: an option is not usable.
    """
    from airflow_provider_sms import settings

    return Rules(
        tokens=tuple(token.encode() for token in settings.push_tokens()),
        networks=settings.allowed_networks(),
        proxies=settings.trusted_proxies(),
        path_tokens=settings.path_tokens(),
    )


class Admission:
    """Lets pushes in, by the rules.

    :param clock: seconds, for the cap on strangers.
    """

    def __init__(self, rules: Rules, clock: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules
        self._strangers = Strangers(clock)
        self._shortest = min(map(len, rules.tokens), default=0)

    @property
    def is_closed(self) -> bool:
        """Whether nobody at all may push."""
        return not self._rules.tokens

    def admits(self, peer: str, forwarded: Sequence[bytes], query: bytes, path_token: str | None) -> bool:
        """Say whether a push is let in.

        :param peer: the address at the other end of the line.
        :param forwarded: the values of all X-Forwarded-For, in order.
        :param query: what stands behind the `?`.
        :param path_token: the token in the path, if there is one.
        """
        rules = self._rules
        if rules.networks:
            sender = sender_of(peer, forwarded, rules.proxies)
            if sender is None or not any(sender in network for network in rules.networks):
                return False
        if path_token is None:
            token = token_in(query)
        elif rules.path_tokens:
            token = path_token.encode("utf-8", "surrogatepass")
        else:
            return False
        return self._knows(token)

    def is_too_much(self, peer: str, forwarded: Sequence[bytes]) -> bool:
        """Count one who was not let in, and say whether it is one too many.

        :param peer: see `admits`.
        :param forwarded: likewise.
        """
        sender = sender_of(peer, forwarded, self._rules.proxies)
        return self._strangers.is_too_much(_neighbourhood(sender))

    def is_told_in(self, text: str) -> bool:
        """Whether somebody has written a token there."""
        return any(token.decode() in text for token in self._rules.tokens)

    def without_tokens(self, fields: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
        """Take the tokens out of what is to be kept: a sender may write its whole address into a form, too."""
        shortest = self._shortest
        # A push as it should be has nothing that long but its taskId.
        if all(len(value) < shortest and len(name) < shortest for name, value in fields):
            return fields
        tokens = [token.decode() for token in self._rules.tokens]
        # Names are in small letters by now.
        return [(_without(name, [each.lower() for each in tokens]), _without(value, tokens)) for name, value in fields]

    def readable(self, form: bytes) -> bytes:
        """The same of a form that can not be read."""
        plain = unquote_to_bytes(form)
        if not any(token in plain for token in self._rules.tokens):
            return form
        for token in self._rules.tokens:
            plain = plain.replace(token, _HIDDEN.encode())
        return plain

    def _knows(self, token: bytes) -> bool:
        known = False
        # All of them, so that the time taken does not tell which one is close.
        for each in self._rules.tokens:
            known |= compare_digest(each, token)
        return known


class Strangers:
    """Counts strangers by where they come from; remembers a bounded number of places.

    :param clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self._all = 0
        self._by_place: dict[str, int] = {}

    def is_too_much(self, place: str) -> bool:
        """Count one, and say whether it is one too many."""
        now = self._clock()
        if now >= self._until:
            self._until = now + WINDOW
            self._all = 0
            self._by_place.clear()
        self._all += 1
        count = self._by_place.get(place, 0) + 1
        if count > 1 or len(self._by_place) < _MOST_REMEMBERED:
            self._by_place[place] = count
        return count > STRANGE_OF_ONE or self._all > STRANGE_OF_ALL


def _without(text: str, tokens: Sequence[str]) -> str:
    for token in tokens:
        text = text.replace(token, _HIDDEN)
    return text


def token_in(query: bytes) -> bytes:
    """Find the token in a query; empty if there is none.

    :param query: what stands behind the `?`.
    """
    if query.startswith(b"token=") and b"&" not in query and b"%" not in query:
        return query[6:]
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name == "token":
            return value.encode("utf-8", "surrogatepass")
    return b""


def sender_of(peer: str, forwarded: Sequence[bytes], proxies: Sequence[Network]) -> Address | None:
    """Find out who really sends: the first from the right that is no trusted proxy.

    What stands further left anybody may have written.

    :param peer: the address at the other end of the line.
    :param forwarded: the values of all X-Forwarded-For, in order.
    :param proxies: whose X-Forwarded-For is believed.
    :returns: None if it can not be told.
    """
    sender = _address(peer)
    if sender is None or not proxies or not _is_in(sender, proxies):
        return sender
    hops = b",".join(forwarded).decode("latin-1").split(",")[-_MOST_HOPS:] if forwarded else []
    for hop in reversed(hops):
        if not hop.strip():
            continue
        sender = _address(hop.strip())
        if sender is None or not _is_in(sender, proxies):
            return sender
    return sender


@lru_cache(maxsize=1024)
def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


@lru_cache(maxsize=1024)
def _address(text: str) -> Address | None:
    """Read an address, with or without a port, as proxies write it."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _neighbourhood(address: Address | None) -> str:
    """Whom to count together: of IPv6 everybody has a whole network of addresses."""
    if address is None:
        return ""
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
