"""What tasks log, wherever this Airflow's logs go."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was logged until now, in the logging module's way or in structlog's."""
    caplog.set_level("INFO")
    seen: list[str] = []

    def logged() -> str:
        seen.extend(capsys.readouterr())
        return caplog.text + "".join(seen)

    return logged
