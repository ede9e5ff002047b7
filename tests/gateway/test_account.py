"""The account's settings: each mistake in one sentence that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.errors import AccountError


def account(**settings: Any) -> Account:
    return Account(**{"app_id": "FAKE-APP-ID", "app_key": "FAKE-APP-KEY", **settings})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://cloud.10658.com.cn", "https://cloud.10658.com.cn"),
        ("https://cloud.10658.com.cn/", "https://cloud.10658.com.cn"),
        ("cloud.10658.com.cn", "https://cloud.10658.com.cn"),
        ("https://gateway.example/sms/", "https://gateway.example/sms"),
        ("http://127.0.0.1:10658", "http://127.0.0.1:10658"),
        ("http://localhost:10658", "http://localhost:10658"),
        ("http://[::1]:10658", "http://[::1]:10658"),
    ],
)
def test_base_urls(written: str, read: str) -> None:
    assert account(base_url=written).base_url == read


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"app_id": " "}, "login: the App ID is missing"),
        ({"app_key": ""}, "password: the App Key is missing"),
        ({"base_url": "http://cloud.10658.com.cn"}, "host: .*https://"),
        ({"base_url": "http://127.0.0.1.example.com"}, "host: .*https://"),
        ({"base_url": "ftp://cloud.10658.com.cn"}, "host: not a base URL"),
        ({"base_url": "https://"}, "host: not a base URL"),
        ({"base_url": "https://host:port"}, "host: not a base URL"),
        ({"base_url": "https://user@cloud.10658.com.cn"}, "host: .*no user"),
        ({"base_url": "https://cloud.10658.com.cn?appKey=x"}, "host: .*query"),
        ({"timeout": 0}, "timeout: 0 is not between 1 and 600 seconds"),
        ({"timeout": 601}, "timeout: 601"),
        ({"batch_size": 0}, "batch_size: 0 is not between 1 and 100,000 phones"),
        ({"batch_size": 100_001}, "batch_size: 100001"),
        ({"signature": "云"}, "signature: 1 characters"),
        ({"proxy": "proxy.example:3128"}, "proxy: not a proxy's address"),
        ({"proxy": "socks5://proxy.example:3128"}, "proxy: not a proxy's address"),
        ({"proxy": "http://user:pw-of-proxy@:3128"}, "proxy: not a proxy's address"),
    ],
)
def test_mistakes(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(AccountError, match=said) as error:
        account(**settings)
    assert "pw-of-proxy" not in str(error.value)


def test_the_secrets_are_not_in_the_repr() -> None:
    shown = repr(account(proxy="http://user:pw-of-proxy@proxy.example:3128"))
    assert "FAKE-APP-KEY" not in shown
    assert "pw-of-proxy" not in shown


def test_the_proxy_s_password() -> None:
    assert account(proxy="http://user:pw-of-proxy@proxy.example:3128").proxy_password == "pw-of-proxy"
    assert account().proxy_password is None
