"""What a receipt says: its status decides, its code hints."""

from __future__ import annotations

import pytest

from airflow_provider_sms.gateway.receipts import CAUSES, cause, outcome


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("1", "delivered"),
        ("0", "failed"),
        ("1 ", "delivered"),
        (" 0", "failed"),
        ("１", "delivered"),
        ("2", "unknown"),
        ("10", "unknown"),
        ("-1", "unknown"),
        ("DELIVRD", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_status_decides(status: str | None, expected: str) -> None:
    assert outcome(status) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("MK:0001", "dead_number"),
        ("mk:0001", "dead_number"),
        ("MK：0001", "dead_number"),
        ("MK0001", "dead_number"),
        ("MK:1", "dead_number"),
        ("DB:0100", "dead_number"),
        ("MC:0055", "handset"),
        ("MC:0001", "uncertain"),
        ("MI:0099", "handset"),
        ("EXPIRED", "handset"),
        ("MX:0012", "blacklist"),
        ("ID:0076", "content"),
        ("SIGFAIL", "content"),
        ("MX:0003", "quota"),
        ("DB:0139", "hours"),
        ("DB:9999", "network"),
        ("SA:0001", "network"),
        ("MA:0001", "uncertain"),
        ("UNKNOWN", "uncertain"),
        ("UNDELIV", "other"),
        ("MK:9999", "other"),
        ("ZZ:0001", "other"),
        ("MK:12345", "other"),
        ("\U0001f600", "other"),
        (" ", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_code_is_classed(code: str | None, expected: str) -> None:
    assert cause(code) == expected
    assert expected in CAUSES
