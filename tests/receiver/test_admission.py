"""Who may push: the rules alone, without a server."""

from __future__ import annotations

import ipaddress

import pytest

from airflow_provider_sms.receiver import admission
from airflow_provider_sms.receiver.admission import (
    STRANGE_OF_ALL,
    STRANGE_OF_ONE,
    WINDOW,
    Admission,
    Rules,
    Strangers,
    sender_of,
    token_in,
)

TOKENS = (b"FAKE-TOKEN-0123456789abcdef", b"FAKE-OTHER-0123456789abcdef")
QUERY = b"token=" + TOKENS[0]


def networks(*texts: str) -> tuple[admission.Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


class TestTokens:
    @pytest.mark.parametrize("token", TOKENS)
    def test_each_of_them_opens(self, token: bytes) -> None:
        assert Admission(Rules(TOKENS)).admits("203.0.113.1", [], b"token=" + token, None)

    @pytest.mark.parametrize(
        "query",
        [
            b"",
            b"token",
            b"token=",
            b"token=x",
            b"TOKEN=" + TOKENS[0],
            QUERY + b"x",
            QUERY[:-1],
            b"token=%FF",
            b"token=\xff",
            b"x=1",
            b"token=x&" + QUERY,
            b"token=" + TOKENS[0] + b"," + TOKENS[1],
        ],
    )
    def test_nothing_else_does(self, query: bytes) -> None:
        assert not Admission(Rules(TOKENS)).admits("203.0.113.1", [], query, None)

    def test_none_set_is_closed_not_open(self) -> None:
        closed = Admission(Rules(()))
        assert closed.is_closed
        for query in (b"", b"token=", b"token"):
            assert not closed.admits("203.0.113.1", [], query, None)
            assert not closed.admits("203.0.113.1", [], query, "")

    def test_beside_other_parameters(self) -> None:
        assert token_in(b"a=b&token=x%2Dy&c=d") == b"x-y"

    def test_in_the_path_only_where_allowed(self) -> None:
        token = TOKENS[0].decode()
        assert not Admission(Rules(TOKENS)).admits("203.0.113.1", [], b"", token)
        # A wrong one in the path is not made good by a right one in the query.
        assert not Admission(Rules(TOKENS)).admits("203.0.113.1", [], QUERY, token)
        allowing = Admission(Rules(TOKENS, path_tokens=True))
        assert allowing.admits("203.0.113.1", [], b"", token)
        assert allowing.admits("203.0.113.1", [], QUERY, None)
        assert not allowing.admits("203.0.113.1", [], QUERY, "wrong")

    def test_all_of_them_are_compared_whatever_the_first_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[bytes] = []

        def compare(ours: bytes, theirs: bytes) -> bool:
            compared.append(ours)
            return ours == theirs

        monkeypatch.setattr(admission, "compare_digest", compare)
        assert Admission(Rules(TOKENS)).admits("203.0.113.1", [], QUERY, None)
        assert compared == list(TOKENS)

    def test_no_repr_shows_them(self) -> None:
        assert "FAKE" not in repr(Rules(TOKENS))


class TestNetworks:
    rules = Rules(TOKENS, networks("203.0.113.0/24", "2001:db8::/32"), networks("10.0.0.0/8", "127.0.0.1", "::1"))

    @pytest.mark.parametrize(
        ("peer", "forwarded", "is_let_in"),
        [
            ("203.0.113.9", [], True),
            ("::ffff:203.0.113.9", [], True),
            ("2001:db8::1", [], True),
            ("2001:db8::1%eth0", [], True),
            ("198.51.100.1", [], False),
            ("", [], False),
            ("testclient", [], False),
            # A stranger writes what he likes.
            ("198.51.100.1", [b"203.0.113.9"], False),
            ("203.0.113.9", [b"198.51.100.1"], True),
            # Through a proxy of ours.
            ("10.1.2.3", [b"203.0.113.9"], True),
            ("10.1.2.3", [b"203.0.113.9:4711"], True),
            ("10.1.2.3", [b"[2001:db8::7]:443"], True),
            ("::1", [b"2001:db8::7"], True),
            ("10.1.2.3", [b"203.0.113.9", b"10.9.9.9"], True),
            ("10.1.2.3", [b"203.0.113.9, 10.9.9.9 , "], True),
            # What stands left of the first stranger he has written himself.
            ("10.1.2.3", [b"203.0.113.9, 198.51.100.1"], False),
            ("10.1.2.3", [b"203.0.113.9", b"198.51.100.1, 10.0.0.1"], False),
            ("10.1.2.3", [b"203.0.113.9, unknown"], False),
            ("10.1.2.3", [b"203.0.113.9, \xff"], False),
            # The proxy itself is no allowed network.
            ("10.1.2.3", [], False),
            ("10.1.2.3", [b"10.0.0.1"], False),
        ],
    )
    def test_the_first_from_the_right_that_is_no_proxy_of_ours_counts(
        self, peer: str, forwarded: list[bytes], is_let_in: bool
    ) -> None:
        assert Admission(self.rules).admits(peer, forwarded, QUERY, None) is is_let_in

    def test_the_right_network_without_a_token_is_not_enough(self) -> None:
        assert not Admission(self.rules).admits("203.0.113.9", [], b"", None)

    def test_a_header_without_end_costs_no_time(self) -> None:
        forwarded = [b"203.0.113.9" + b", 10.0.0.1" * 10_000]
        assert str(sender_of("10.1.2.3", forwarded, self.rules.proxies)) == "10.0.0.1"


class TestStrangers:
    def test_one_place_is_told_to_slow_down_and_others_are_not(self) -> None:
        strangers = Strangers(lambda: 0.0)
        assert [strangers.is_too_much("a") for _ in range(STRANGE_OF_ONE + 1)] == [False] * STRANGE_OF_ONE + [True]
        assert not strangers.is_too_much("b")

    def test_many_places_together_are_too(self) -> None:
        strangers = Strangers(lambda: 0.0)
        assert not any(strangers.is_too_much(str(number)) for number in range(STRANGE_OF_ALL))
        assert strangers.is_too_much("another one")

    def test_after_a_while_it_is_forgotten(self) -> None:
        now = [0.0]
        strangers = Strangers(lambda: now[0])
        for _ in range(STRANGE_OF_ONE + 1):
            strangers.is_too_much("a")
        now[0] = WINDOW
        assert not strangers.is_too_much("a")

    def test_what_is_remembered_is_bounded(self) -> None:
        strangers = Strangers(lambda: 0.0)
        for number in range(20_000):
            strangers.is_too_much(str(number))
        assert len(strangers._by_place) <= 4096

    def test_a_network_of_ipv6_addresses_is_one_place(self) -> None:
        entry = Admission(Rules(TOKENS), lambda: 0.0)
        said = [entry.is_too_much(f"2001:db8::{number:x}", []) for number in range(STRANGE_OF_ONE + 1)]
        assert said[-1]
        assert not entry.is_too_much("2001:db8:1::1", [])

    def test_behind_a_proxy_the_one_behind_it_is_counted(self) -> None:
        entry = Admission(Rules(TOKENS, proxies=networks("10.0.0.0/8")), lambda: 0.0)
        for _ in range(STRANGE_OF_ONE + 1):
            entry.is_too_much("10.0.0.1", [b"198.51.100.1"])
        assert entry.is_too_much("10.0.0.1", [b"198.51.100.1"])
        assert not entry.is_too_much("10.0.0.1", [b"198.51.100.2"])
