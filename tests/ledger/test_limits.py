"""A ledger with limits keeps nobody waiting for longer, whatever its database does."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import text, update

from airflow_provider_sms.ledger.database import Ledger, Limits
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.schema import ledger_table
from airflow_provider_sms.ledger.watchdog import Watchdog
from tests.support.databases import PostgreSQL

pytestmark = pytest.mark.once

LIMITS = Limits(connect=2, lock=1.0, statement=1.5, silence=3, transaction=2.0)


@pytest.fixture
def limited(any_ledger: Ledger) -> Iterator[Ledger]:
    """The same ledger, as one uses it who can not wait."""
    # With the password, which its own text does not show.
    with closing(Ledger(any_ledger.url, LIMITS)) as limited:
        yield limited


def test_what_somebody_else_holds_is_waited_for_a_while(any_ledger: Ledger, limited: Ledger) -> None:
    change = update(ledger_table).values(receiver_at=any_ledger.clock)
    with any_ledger.writing() as holding:
        holding.execute(change)
        begun = time.monotonic()
        with pytest.raises(LedgerUnreachableError), limited.writing() as waiting:
            waiting.execute(change)
        assert 0.5 < time.monotonic() - begun < 6
    with limited.writing() as waiting:
        waiting.execute(change)


@pytest.mark.parametrize("any_ledger", ["postgresql"], indirect=True)
def test_a_statement_takes_no_longer_than_it_may(limited: Ledger) -> None:
    begun = time.monotonic()
    with pytest.raises(LedgerUnreachableError), limited.reading() as connection:
        connection.execute(text("SELECT pg_sleep(20)"))
    assert time.monotonic() - begun < 6


@pytest.mark.parametrize("any_ledger", ["postgresql", "mariadb"], indirect=True)
def test_a_server_that_freezes_is_cut_off_and_one_that_thaws_is_used_again(
    limited: Ledger, request: pytest.FixtureRequest
) -> None:
    kind = "postgresql" if limited.kind == "postgresql" else "mariadb"
    server: PostgreSQL = request.getfixturevalue(f"{kind}_server")
    with limited.holding():
        with limited.writing() as connection:
            limited.now(connection)
        server.freeze()
        try:
            begun = time.monotonic()
            with pytest.raises(LedgerUnreachableError), limited.writing() as connection:
                limited.now(connection)
            assert time.monotonic() - begun < 10
        finally:
            server.thaw()
        with limited.writing() as connection:
            limited.now(connection)


class TestWatchdog:
    def test_cuts_what_takes_too_long(self) -> None:
        ours, theirs = socket.socketpair()
        watchdog = Watchdog(0.2)
        with closing(ours), closing(theirs), closing(watchdog), watchdog.watching(ours.fileno()):
            ours.settimeout(20)
            assert ours.recv(1) == b""

    def test_leaves_alone_what_has_ended_in_time(self) -> None:
        ours, theirs = socket.socketpair()
        watchdog = Watchdog(0.2)
        with closing(ours), closing(theirs), closing(watchdog):
            with watchdog.watching(ours.fileno()):
                pass
            ours.settimeout(0.6)
            with pytest.raises(TimeoutError):
                ours.recv(1)

    def test_watches_in_a_forked_child_too(self) -> None:
        watchdog = Watchdog(0.2)
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs), closing(watchdog):
            with watchdog.watching(ours.fileno()):
                pass
            child = os.fork()
            if not child:
                status = 1
                try:
                    mine, other = socket.socketpair()
                    mine.settimeout(20)
                    with watchdog.watching(mine.fileno()):
                        status = 0 if mine.recv(1) == b"" else 2
                    other.close()
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
