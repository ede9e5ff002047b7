"""The hook: a connection as people write it, and what comes of it over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_sms.gateway.errors import AccountError, CredentialsError, InputError, SmsError, TextError
from airflow_provider_sms.get_provider_info import get_provider_info
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.hooks.sms import SmsHook, read_account
from airflow_provider_sms.ledger import opt_outs
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.send_judging import CampaignError
from tests.support.simulator import Simulator

PHONES = ["13800130001", "13800130002"]
TEXT = "【云通信】您好"


def connection_of(extra: object = None, **fields: Any) -> Connection:
    fields = {"login": "FAKE-APP-ID", "password": "FAKE-APP-KEY", **fields}
    if extra is not None:
        fields["extra"] = extra if isinstance(extra, str) else json.dumps(extra)
    return Connection(conn_id="sms_default", conn_type="sms", **fields)


class TestReadAccount:
    @pytest.mark.parametrize("extra", ["[1]", "{", "text"])
    def test_extras_that_are_no_object(self, extra: str) -> None:
        class Unchecked:
            login, password, host, port, schema = "FAKE-APP-ID", "FAKE-APP-KEY", None, None, None

        Unchecked.extra = extra  # type: ignore[attr-defined]
        with pytest.raises(AccountError, match="extra: not a JSON object"):
            read_account(Unchecked())  # type: ignore[arg-type]

    def test_the_defaults(self) -> None:
        account = read_account(connection_of())
        assert account.base_url == "https://cloud.10658.com.cn"
        assert (account.timeout, account.batch_size, account.signature, account.proxy) == (60, 500, None, None)
        assert account.exclusive_account is False

    def test_every_extra(self) -> None:
        account = read_account(
            connection_of(
                {
                    "timeout": 30,
                    "signature": "【云通信】",
                    "batch_size": "200",
                    "proxy": "http://user:pw@proxy.example:3128",
                    "exclusive_account": "true",
                }
            )
        )
        assert (account.timeout, account.batch_size, account.signature) == (30, 200, "云通信")
        assert account.proxy == "http://user:pw@proxy.example:3128"
        assert account.exclusive_account is True

    def test_empty_fields_of_the_form_mean_the_default(self) -> None:
        empty = dict.fromkeys(["timeout", "signature", "batch_size", "proxy", "exclusive_account"])
        assert read_account(connection_of(empty)) == read_account(connection_of())
        assert read_account(connection_of(dict.fromkeys(empty, ""))) == read_account(connection_of())

    @pytest.mark.parametrize(
        ("host", "port", "base_url"),
        [
            ("gateway.example", 8443, "https://gateway.example:8443"),
            ("https://gateway.example/sms/", 8443, "https://gateway.example:8443/sms"),
            ("http://127.0.0.1:10658", 10658, "http://127.0.0.1:10658"),
            ("http://[::1]", 10658, "http://[::1]:10658"),
            (None, 443, "https://cloud.10658.com.cn:443"),
            ("gateway.example", 0, "https://gateway.example"),
        ],
    )
    def test_host_and_port(self, host: str | None, port: int, base_url: str) -> None:
        assert read_account(connection_of(host=host, port=port)).base_url == base_url

    @pytest.mark.parametrize(
        ("extra", "fields", "said"),
        [
            ({"appKey": "x"}, {}, "extra: unknown field 'appKey'; the fields are batch_size, "),
            ({"timeout": "soon"}, {}, "timeout: not a whole number"),
            ({"timeout": True}, {}, "timeout: not a whole number"),
            ({"timeout": 0}, {}, "timeout: 0 is not between"),
            ({"batch_size": -1}, {}, "batch_size: not a whole number"),
            ({"batch_size": 1.5}, {}, "batch_size: not a whole number"),
            ({"signature": 5}, {}, "signature: expected text"),
            ({"proxy": "nonsense"}, {}, "proxy: not a proxy's address"),
            ({"exclusive_account": "maybe"}, {}, "exclusive_account: expected true or false"),
            (None, {"login": None}, "login: the App ID is missing"),
            (None, {"password": None}, "password: the App Key is missing"),
            (None, {"schema": "https"}, "schema: leave it empty"),
            (None, {"host": "http://127.0.0.1:1", "port": 2}, "port: 2, but the base URL in host says 1"),
            (None, {"host": "http://gateway.example"}, "host: http://"),
        ],
    )
    def test_mistakes_name_the_field(self, extra: object, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(AccountError) as error:
            read_account(connection_of(extra, **fields))
        assert str(error.value).startswith(said)
        assert "FAKE-APP-KEY" not in str(error.value)


def test_a_group_gets_its_text(simulator: Simulator, connection: Callable[..., None]) -> None:
    summary = SmsHook().send_group([*PHONES, PHONES[0], "rubbish"], TEXT)
    (accepted,) = simulator.accepted()
    assert (accepted["phones"], accepted["content"]) == (PHONES, TEXT)
    assert summary["taskIds"] == [accepted["taskId"]]
    assert (summary["accepted"], summary["excluded"]) == (2, 2)
    assert summary["excludedByReason"] == {"duplicate": 1, "malformed": 1}


def test_the_signature_comes_from_the_connection(simulator: Simulator, connection: Callable[..., None]) -> None:
    connection(extra={"signature": "云通信"})
    SmsHook().send_group(PHONES, "您好")
    assert simulator.accepted()[0]["content"] == TEXT


def test_more_phones_than_a_batch_holds_go_out_in_several(
    simulator: Simulator, connection: Callable[..., None]
) -> None:
    summary = SmsHook().send_group(PHONES, TEXT, batch_size=1)
    assert [batch["phones"] for batch in simulator.accepted()] == [[phone] for phone in PHONES]
    assert len(summary["taskIds"]) == 2


def test_a_time_goes_to_the_wire_in_beijing_time(simulator: Simulator, connection: Callable[..., None]) -> None:
    SmsHook().send_group(PHONES, TEXT, "2037-01-31T06:00:00+00:00")
    assert simulator.accepted()[0]["sendTime"] == "2037-01-31 14:00:00"


def test_bad_input_reaches_nobody(simulator: Simulator, connection: Callable[..., None]) -> None:
    with pytest.raises(TextError, match="content: no signature"):
        SmsHook().send_group(PHONES, "您好")
    assert simulator.requests()["requests"] == []


def test_with_a_campaign_key_it_is_sent_once_however_often_it_is_called(
    simulator: Simulator, connection: Callable[..., None]
) -> None:
    first = SmsHook().send_group(PHONES, TEXT, campaign_key="spring")
    assert SmsHook().send_group(PHONES, TEXT, campaign_key="spring") == first
    assert len(simulator.accepted()) == 1


def test_marketing_goes_to_nobody_who_has_opted_out(
    simulator: Simulator, connection: Callable[..., None], ledger: Ledger
) -> None:
    with ledger.writing() as ledger_connection:
        opt_outs.add(ledger_connection, ledger, PHONES[0], source="reply")
    guards = Guards(sending_hours=None)
    summary = SmsHook().send_group(PHONES, TEXT, category="marketing", guards=guards)
    assert summary["excludedByReason"] == {"opted out": 1}
    assert simulator.accepted()[0]["phones"] == PHONES[1:]


def test_without_one_it_is_sent_as_often_as_it_is_called(simulator: Simulator, connection: Callable[..., None]) -> None:
    simulator.settings(one_per_minute=False)
    names = {SmsHook().send_group(PHONES, TEXT)["campaign"] for _ in range(2)}
    assert len(simulator.accepted()) == len(names) == 2


def test_what_a_campaign_left_over_is_sent_by_the_next_call(
    simulator: Simulator, connection: Callable[..., None]
) -> None:
    simulator.settings(balance=1)
    with pytest.raises(CampaignError, match="1 accepted, 1 refused"):
        SmsHook().send_group(PHONES, TEXT, batch_size=1, campaign_key="spring")
    simulator.settings(balance=100)
    assert SmsHook().send_group(PHONES, TEXT, batch_size=1, campaign_key="spring")["accepted"] == 2
    assert sorted(phone for batch in simulator.accepted() for phone in batch["phones"]) == sorted(PHONES)


def test_a_policy_is_the_operator_s_choices(simulator: Simulator, connection: Callable[..., None]) -> None:
    simulator.fault("cut_after")
    summary = SmsHook().send_group(PHONES, TEXT, policy=Policy(on_in_doubt="assume_sent"))
    assert (summary["inDoubt"], summary["accepted"]) == (2, 0)


def test_a_refusal(simulator: Simulator, connection: Callable[..., None]) -> None:
    connection(password="FAKE-WRONG-KEY")
    with pytest.raises(CampaignError, match="账号或密码错误") as error:
        SmsHook().send_group(PHONES, TEXT)
    assert not error.value.passes_by_itself
    assert CredentialsError.remedy in error.value.cause


def test_the_balance(simulator: Simulator, connection: Callable[..., None]) -> None:
    simulator.settings(balance=241)
    assert SmsHook().get_balance() == 241


class TestTheTestButton:
    def test_green(self, simulator: Simulator, connection: Callable[..., None]) -> None:
        simulator.settings(balance=241)
        assert SmsHook().test_connection() == (True, "Connected: the account has 241 points.")
        assert simulator.accepted() == []

    def test_red_for_a_wrong_key(self, connection: Callable[..., None]) -> None:
        connection(password="FAKE-WRONG-KEY")
        worked, said = SmsHook().test_connection()
        assert not worked
        assert said.startswith("The platform refused: 账号或密码错误. Check the connection's login")

    def test_red_for_a_field_that_is_not_usable(self, connection: Callable[..., None]) -> None:
        connection(extra={"batch": 5})
        assert SmsHook().test_connection()[1].startswith("extra: unknown field 'batch'")

    def test_red_for_a_platform_that_is_not_there(self, set_connection: Callable[..., None]) -> None:
        set_connection(host="http://127.0.0.1:9", login="FAKE-APP-ID", password="FAKE-APP-KEY")
        worked, said = SmsHook().test_connection()
        assert not worked
        assert "can not be reached" in said

    def test_red_for_a_connection_that_is_not_there(self) -> None:
        worked, said = SmsHook("sms_nowhere").test_connection()
        assert not worked
        assert said.startswith("sms_conn_id: there is no connection 'sms_nowhere'; create it")


def test_no_repr_or_error_shows_the_key(simulator: Simulator, connection: Callable[..., None]) -> None:
    hook = SmsHook()
    shown = [repr(hook.account), repr(hook.get_conn()), str(vars(hook))]
    simulator.fault("status", status=500)
    with pytest.raises(SmsError) as error:
        hook.get_balance()
    shown += [str(error.value), repr(error.value), repr(error.value.__cause__), repr(error.value.__context__)]
    assert not any(simulator.app_key in text for text in shown)


def test_the_older_form_methods_are_made_from_the_same_definition() -> None:
    form = get_provider_info()["connection-types"][0]
    behaviour = SmsHook.get_ui_field_behaviour()
    assert behaviour["relabeling"] == form["ui-field-behaviour"]["relabeling"]
    assert behaviour["hidden_fields"] == form["ui-field-behaviour"]["hidden-fields"]
    assert behaviour["placeholders"] == form["ui-field-behaviour"]["placeholders"]


def test_the_hook_sends_personal_texts(simulator: Simulator, connection: Callable[..., None]) -> None:
    summary = SmsHook().send_group(messages=[(PHONES[0], TEXT), (PHONES[1], f"{TEXT}!")], campaign_key="two")
    assert {batch["content"]: batch["phones"] for batch in simulator.accepted()} == {
        TEXT: [PHONES[0]],
        f"{TEXT}!": [PHONES[1]],
    }
    assert summary["accepted"] == 2
    with pytest.raises(InputError, match="phones, messages: hand in one of them"):
        SmsHook().send_group(PHONES, TEXT, messages=[])
