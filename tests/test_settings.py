"""Reading `[sms]`: what may be written there, and what is said of what may not."""

from __future__ import annotations

import os
import pickle
import shlex
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import conf, redact

from airflow_provider_sms import settings
from airflow_provider_sms.settings import SettingsError
from tests.support import forking, settings_backend
from tests.test_import_cost import newly_imported, packages

VARIABLE = "AIRFLOW__SMS__SQL_ALCHEMY_CONN"
PASSWORD = "fake-ledger-pw"
URL = f"postgresql://sms:{PASSWORD}@db.example/sms"

SetOption = Callable[[str, str], None]


@pytest.fixture
def set_option(monkeypatch: pytest.MonkeyPatch) -> SetOption:
    """Set an option of `[sms]` by environment variable, as a person would."""
    return lambda option, value: monkeypatch.setenv(f"AIRFLOW__SMS__{option.upper()}", value)


@pytest.fixture
def set_file() -> Iterator[Callable[[str], None]]:
    """Write lines into the section `[sms]` of airflow.cfg."""
    yield lambda lines: conf.read_string(f"[sms]\n{lines}\n")
    conf.remove_section("sms")


def prints(text: str) -> str:
    """A command line that prints a text and a newline."""
    return shlex.join([sys.executable, "-c", f"print({text!r})"])


def test_importing_it_imports_nothing_of_airflow(tmp_path: Path) -> None:
    (new,) = newly_imported("import airflow_provider_sms.settings", after="", home=tmp_path)
    assert packages(new) - sys.stdlib_module_names == {"airflow_provider_sms"}


def test_an_untouched_airflow_has_the_defaults() -> None:
    assert settings.ledger_url() is None
    assert settings.namespace() == ""
    assert settings.allows_sqlite() is False
    assert settings.retention_days() is None
    assert settings.push_tokens() == settings.allowed_networks() == settings.trusted_proxies() == ()
    assert settings.path_tokens() is False
    assert settings.dry_run() is False
    assert settings.point_price() is None


def test_what_stands_around_a_value_is_not_part_of_it(set_option: SetOption) -> None:
    for option, value in {
        "sql_alchemy_conn": URL,
        "namespace": "north 1",
        "allow_sqlite": "True",
        "retention_days": "7",
    }.items():
        set_option(option, f"  {value}\r\n")
    assert settings.ledger_url() == URL
    assert settings.namespace() == "north 1"
    assert settings.allows_sqlite() is True
    assert settings.retention_days() == 7


@pytest.mark.parametrize("option", ["sql_alchemy_conn", "namespace", "allow_sqlite", "retention_days"])
def test_a_blank_value_is_the_default(set_option: SetOption, option: str) -> None:
    set_option(option, " \n")
    test_an_untouched_airflow_has_the_defaults()


class TestLedgerUrl:
    def test_comes_from_a_command_without_its_newline(self, set_option: SetOption) -> None:
        set_option("sql_alchemy_conn_cmd", prints(URL))
        assert settings.ledger_url() == URL

    def test_comes_from_the_secrets_backend(self, set_option: SetOption, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{settings_backend.__name__}.SettingsBackend")
        set_option("sql_alchemy_conn_secret", settings_backend.KEY)
        assert settings.ledger_url() == settings_backend.URL

    @pytest.mark.parametrize(
        "line", [f"sql_alchemy_conn = {URL}", f"sql_alchemy_conn_cmd = {prints(URL)}"], ids=["value", "command"]
    )
    def test_comes_from_airflow_cfg(self, set_file: Callable[[str], None], line: str) -> None:
        set_file(line)
        assert settings.ledger_url() == URL

    @pytest.mark.parametrize(
        ("url", "secrets"),
        [
            ("postgresql+psycopg2://sms:fake-pw-1@db.example/sms", ["fake-pw-1"]),
            ("mysql://sms:fake%40pw%2F2@db.example/sms", ["fake%40pw%2F2", "fake@pw/2"]),
            ("mysql://sms:fake/pw?3#@db.example/sms", ["fake/pw?3#", "fake%2Fpw%3F3%23"]),
            ("postgresql://:fake:pw:4@/sms", ["fake:pw:4", "fake%3Apw%3A4"]),
            ("postgresql://db.example/sms?user=sms&password=fake%40pw-5", ["fake%40pw-5", "fake@pw-5"]),
        ],
    )
    def test_is_hidden_in_logs_and_so_is_its_password_however_it_is_written(
        self, set_option: SetOption, url: str, secrets: list[str]
    ) -> None:
        set_option("sql_alchemy_conn", url)
        settings.ledger_url()
        assert redact(f"at {url} now") == "at *** now"
        for secret in secrets:
            assert redact(f"password {secret} refused") == "password *** refused"

    @pytest.mark.parametrize("url", ["sqlite:////srv/sms.db", "postgresql://sms@db.example/sms", "nonsense"])
    def test_needs_no_password(self, set_option: SetOption, url: str) -> None:
        set_option("sql_alchemy_conn", url)
        assert settings.ledger_url() == url
        assert redact("sms at db.example") == "sms at db.example"

    @pytest.mark.parametrize(
        ("command", "kind"),
        [
            (shlex.join([sys.executable, "-c", f"print({URL!r}); raise SystemExit(1)"]), "AirflowConfigException"),
            ("no-such-command-here", "FileNotFoundError"),
            (f"echo '{URL}", "ValueError"),
        ],
        ids=["exits with 1", "is not there", "has an open quote"],
    )
    def test_a_command_that_fails_is_named_and_nothing_of_its_output_shown(
        self, set_option: SetOption, command: str, kind: str
    ) -> None:
        set_option("sql_alchemy_conn_cmd", command)
        with pytest.raises(SettingsError) as caught:
            settings.ledger_url()
        assert str(caught.value).startswith(f"[sms] sql_alchemy_conn: {VARIABLE}_CMD can not be had ({kind}). Try it")
        assert PASSWORD not in str(caught.value)

    def test_a_secrets_backend_that_fails_is_named_and_nothing_of_its_words_shown(
        self, set_option: SetOption, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(backend: object, key: str) -> str:
            raise ConnectionError(URL)

        monkeypatch.setattr(settings_backend.SettingsBackend, "get_config", fails)
        monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{settings_backend.__name__}.SettingsBackend")
        set_option("sql_alchemy_conn_secret", "any")
        with pytest.raises(SettingsError, match=r"_SECRET can not be had \(ConnectionError\)") as caught:
            settings.ledger_url()
        assert PASSWORD not in str(caught.value)

    @pytest.mark.parametrize(
        ("form", "value"), [("cmd", prints("")), ("secret", "sms/no-such-key")], ids=["command", "secrets backend"]
    )
    def test_a_source_that_gives_nothing_is_not_taken_for_the_default(
        self, set_option: SetOption, form: str, value: str
    ) -> None:
        set_option(f"sql_alchemy_conn_{form}", value)
        with pytest.raises(SettingsError, match=f"{VARIABLE}_{form.upper()} gave nothing"):
            settings.ledger_url()

    def test_a_source_in_airflow_cfg_that_gives_nothing_is_named(self, set_file: Callable[[str], None]) -> None:
        set_file(f"sql_alchemy_conn_cmd = {prints('')}")
        with pytest.raises(SettingsError, match="sql_alchemy_conn_cmd in airflow.cfg gave nothing"):
            settings.ledger_url()

    def test_a_single_percent_sign_in_airflow_cfg_is_explained(self, set_file: Callable[[str], None]) -> None:
        set_file("sql_alchemy_conn = postgresql://sms:fake%2Fledger-pw@db.example/sms")
        with pytest.raises(SettingsError, match="write %% for each %") as caught:
            settings.ledger_url()
        assert "ledger-pw" not in str(caught.value)

    def test_many_threads_may_be_the_first_to_ask(self) -> None:
        # Before 3.2 Airflow refuses a section that two threads add at once.
        program = """if True:
            import sys, threading
            import airflow.providers.common.compat.sdk as sdk
            from airflow_provider_sms import settings
            sdk.conf, sdk.mask_secret  # loaded when first used
            sys.setswitchinterval(1e-5)
            together = threading.Barrier(8)
            def ask():
                together.wait()
                found.append(settings.ledger_url())
            found = []
            threads = [threading.Thread(target=ask) for _ in range(8)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            print("FOUND", len(found), *set(found))"""
        done = forking.run("-c", program, env={**os.environ, f"{VARIABLE}_CMD": prints(URL)})
        assert done.stdout.splitlines()[-1:] == [f"FOUND 8 {URL}"], done.stdout + done.stderr


class TestNamespace:
    def test_may_have_100_characters(self, set_option: SetOption) -> None:
        set_option("namespace", "云" * 100)
        assert settings.namespace() == "云" * 100
        set_option("namespace", "云" * 101)
        with pytest.raises(SettingsError) as caught:
            settings.namespace()
        assert str(caught.value) == (
            "[sms] namespace: 101 characters are too many. Shorten it to at most 100. "
            "Its environment variable is AIRFLOW__SMS__NAMESPACE."
        )

    @pytest.mark.parametrize("character", ["\n", "\t", "\x7f", "\x85", "\u200b", "\u2028", "\udc80"])
    def test_has_no_character_that_nobody_can_see(self, set_option: SetOption, character: str) -> None:
        set_option("namespace", f"north{character}1")
        with pytest.raises(SettingsError, match=rf"invisible character, U\+{ord(character):04X}"):
            settings.namespace()

    def test_from_a_command_is_refused_since_airflow_would_take_no_notice(self, set_option: SetOption) -> None:
        set_option("namespace_cmd", prints("north"))
        with pytest.raises(SettingsError, match="no notice of AIRFLOW__SMS__NAMESPACE_CMD. Set the value itself"):
            settings.namespace()


class TestAllowsSqlite:
    @pytest.mark.parametrize(
        ("value", "allows"),
        [("True", True), ("true", True), ("t", True), ("1", True), ("FALSE", False), ("f", False), ("0", False)],
    )
    def test_reads_what_airflow_reads(self, set_option: SetOption, value: str, allows: bool) -> None:
        set_option("allow_sqlite", value)
        assert settings.allows_sqlite() is allows

    @pytest.mark.parametrize("value", ["yes", "2", "真"])
    def test_refuses_the_rest(self, set_option: SetOption, value: str) -> None:
        set_option("allow_sqlite", value)
        with pytest.raises(SettingsError) as caught:
            settings.allows_sqlite()
        assert str(caught.value) == (
            "[sms] allow_sqlite: neither true nor false. Write True or False. "
            "Its environment variable is AIRFLOW__SMS__ALLOW_SQLITE."
        )


class TestRetentionDays:
    @pytest.mark.parametrize(("value", "days"), [("1", 1), ("007", 7), ("36500", 36500)])
    def test_is_a_whole_number(self, set_option: SetOption, value: str, days: int) -> None:
        set_option("retention_days", value)
        assert settings.retention_days() == days

    @pytest.mark.parametrize("value", ["0", "-1", "+1", "1.5", "36501", "1_0", "seven", "７", "9" * 5000])
    def test_is_nothing_else(self, set_option: SetOption, value: str) -> None:
        set_option("retention_days", value)
        with pytest.raises(SettingsError) as caught:
            settings.retention_days()
        assert caught.value.option == "retention_days"
        assert str(caught.value) == (
            "[sms] retention_days: not a whole number of days. Write 1 to 36500, or leave it empty to keep all. "
            "Its environment variable is AIRFLOW__SMS__RETENTION_DAYS."
        )


class TestExecutors:
    @pytest.mark.parametrize(
        ("value", "names"),
        [
            ("LocalExecutor", ["LocalExecutor"]),
            (" LocalExecutor , CeleryExecutor ", ["LocalExecutor", "CeleryExecutor"]),
            ("airflow.providers.celery.executors.celery_executor.CeleryExecutor", ["CeleryExecutor"]),
            ("mine:company.executors.MineExecutor", ["MineExecutor"]),
            ("small:LocalExecutor,big:LocalExecutor", ["LocalExecutor"]),
            (
                "LocalExecutor;team1=CeleryExecutor,mine:company.MineExecutor;team2=KubernetesExecutor",
                ["LocalExecutor", "CeleryExecutor", "MineExecutor", "KubernetesExecutor"],
            ),
            ("=LocalExecutor;team1=CeleryExecutor;", ["LocalExecutor", "CeleryExecutor"]),
            ("", []),
        ],
    )
    def test_are_named_by_class(self, monkeypatch: pytest.MonkeyPatch, value: str, names: list[str]) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", value)
        assert settings.executors() == names

    def test_are_airflows_own_choice_if_nobody_chose(self) -> None:
        [name] = settings.executors()
        # Airflow 2 runs one task at a time until it is told otherwise.
        assert name in {"SequentialExecutor", "LocalExecutor"}


def test_an_error_survives_the_way_to_another_process() -> None:
    error = SettingsError("namespace", "Too long.", "Shorten it.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_airflow_home_is_where_airflow_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.airflow_home() == Path(os.environ["AIRFLOW_HOME"])
    monkeypatch.setenv("AIRFLOW_HOME", "~/here")
    assert settings.airflow_home() == Path.home() / "here"


class TestPushTokens:
    TOKENS = ("FAKE-PUSH-TOKEN-0123456789abcdef", "fake_other_token_0123456789")

    @pytest.mark.parametrize("separator", [",", " , ", "\n,", "\uff0c"])
    def test_several_are_a_list(self, set_option: SetOption, separator: str) -> None:
        set_option("push_tokens", f" {separator.join(self.TOKENS)}, ")
        assert settings.push_tokens() == self.TOKENS

    def test_come_from_a_command_without_its_newline(self, set_option: SetOption) -> None:
        set_option("push_tokens_cmd", prints(self.TOKENS[0]))
        assert settings.push_tokens() == self.TOKENS[:1]

    def test_a_command_that_gives_nothing_is_an_error(self, set_option: SetOption) -> None:
        set_option("push_tokens_cmd", prints(""))
        with pytest.raises(SettingsError, match="AIRFLOW__SMS__PUSH_TOKENS_CMD gave nothing"):
            settings.push_tokens()

    def test_are_hidden_in_logs_each_by_itself(self, set_option: SetOption) -> None:
        set_option("push_tokens", ",".join(self.TOKENS))
        settings.push_tokens()
        for token in self.TOKENS:
            assert redact(f"POST /sms/push?key={token} 200") == "POST /sms/push?key=*** 200"

    @pytest.mark.parametrize(
        "token",
        ["a" * 21, "a" * 201, "with blank 0123456789abcdef", "with/slash/0123456789abcdef", "密" * 30, "a%20b" * 9],
    )
    def test_one_that_is_too_weak_or_fits_no_address_is_an_error_that_does_not_show_it(
        self, set_option: SetOption, token: str
    ) -> None:
        set_option("push_tokens", f"{self.TOKENS[0]},{token}")
        with pytest.raises(SettingsError, match="`airflow-sms push-url` makes a good one") as caught:
            settings.push_tokens()
        assert token not in str(caught.value)


class TestNetworks:
    @pytest.mark.parametrize("read", [settings.allowed_networks, settings.trusted_proxies])
    def test_addresses_and_networks_are_a_list(self, set_option: SetOption, read: Callable[[], object]) -> None:
        set_option(read.__name__, "203.0.113.7, 10.0.0.0/8,2001:db8::/32, 192.168.1.5/24")
        assert list(map(str, read())) == ["203.0.113.7/32", "10.0.0.0/8", "2001:db8::/32", "192.168.1.0/24"]  # type: ignore[call-overload]

    @pytest.mark.parametrize("value", ["everywhere", "10.0.0.0/33", "10.0.0", "1.2.3.4 5.6.7.8"])
    def test_what_is_none_is_an_error(self, set_option: SetOption, value: str) -> None:
        set_option("allowed_networks", f"10.0.0.0/8,{value}")
        with pytest.raises(SettingsError, match=r"\[sms\] allowed_networks: one of them is no network"):
            settings.allowed_networks()


@pytest.mark.parametrize(("value", "read"), [("True", True), ("1", True), ("false", False), ("", False)])
def test_path_tokens_is_a_switch(set_option: SetOption, value: str, read: bool) -> None:
    set_option("path_tokens", value)
    assert settings.path_tokens() is read


def test_opt_out_words_have_a_default_and_can_be_changed(set_option: SetOption) -> None:
    assert {"R", "T", "TD", "N", "退订"} <= set(settings.opt_out_words())
    set_option("opt_out_words", "STOP\uff0c不要了, X")
    assert settings.opt_out_words() == ("STOP", "不要了", "X")


def test_dry_run_is_a_switch_and_a_point_has_a_price(set_option: SetOption) -> None:
    set_option("dry_run", "True")
    set_option("point_price", " 0.05 ")
    assert settings.dry_run() is True
    assert settings.point_price() == Decimal("0.05")
    set_option("point_price", "cheap")
    with pytest.raises(SettingsError, match=r"\[sms\] point_price: not a price: write it like 0\.05\."):
        settings.point_price()
    set_option("dry_run", "perhaps")
    with pytest.raises(SettingsError, match=r"\[sms\] dry_run: neither true nor false"):
        settings.dry_run()
