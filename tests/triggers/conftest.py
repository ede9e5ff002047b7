"""Counts what triggers ask the ledger, and nothing of what the tests themselves do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from airflow_provider_sms.triggers import reading


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The SELECTs that the triggerer's own engine has sent, but for the look at the version."""
    asked: list[str] = []
    engines: list[Engine] = []
    make = reading._opened

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            asked.append(statement)

    def opened(url: object) -> object:
        ledger = make(url)
        if ledger.engine not in engines:
            engines.append(ledger.engine)
            event.listen(ledger.engine, "before_cursor_execute", note)
        return ledger

    monkeypatch.setattr(reading, "_opened", opened)
    monkeypatch.setattr(reading, "_ledgers", {})
    yield asked
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
        engine.dispose()
