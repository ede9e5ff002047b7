"""What is counted, when, and how often; and that whoever counts never stands in the way."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sms import cli, metrics
from airflow_provider_sms.gateway import errors
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.answers import Acceptance
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.ledger import evidence, matching
from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox, SettledOtherwiseError
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import BatchState, batch_table
from airflow_provider_sms.ledger.settling import Answer
from airflow_provider_sms.ledger.verdicts import resolve_as_not_sent, resolve_as_sent, take_back
from airflow_provider_sms.looking import caught_up
from airflow_provider_sms.metrics import AirflowStats
from airflow_provider_sms.receiver.counting import Counting
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.triggers.sms import _get_balance_once
from tests.support.campaigns import PHONES, SENDER, TEXT, Campaigns, Platform
from tests.support.heard import receipt
from tests.support.observed import Observed
from tests.support.pushed import listen
from tests.support.simulator import wait_until

LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
UNSENT = errors.UnsentError("The platform can not be reached: Connection refused.")
UNLISTED = errors.UnlistedRefusalError("The platform refused: 别的.")
BAD_PHONE = errors.PhoneFormatError("The platform refused: 手机号码格式不正确.")


@pytest.fixture
def observed(campaigns: Campaigns) -> Observed:
    """What becomes of the campaigns."""
    campaigns.observer = Observed()
    return campaigns.observer


class Stats:
    """Airflow's, as far as it is used; keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self.told.append((stat, count, tags))

    def gauge(self, stat: str, value: float, *, tags: dict[str, str]) -> None:
        self.told.append((stat, value, tags))

    def timing(self, stat: str, dt: timedelta, *, tags: dict[str, str]) -> None:
        self.told.append((stat, dt, tags))


class TestNames:
    def test_each_event_has_its_own(self) -> None:
        stats = Stats()
        observer = AirflowStats("sms_bills", lambda: stats)
        of = {"conn_id": "sms_bills"}
        observer.accepted(3)
        observer.refused(2, "TemplateError")
        observer.put_in_doubt(1)
        observer.delivered(4)
        observer.failed(5, "handset")
        observer.failed(6, "")
        observer.balance(241)
        observer.answered(0.25, "accepted")
        observer.stored(7, 0)
        observer.stored(0, 8)
        observer.turned_away(9, 403)
        assert stats.told == [
            ("sms.texts.accepted", 3, of),
            ("sms.texts.refused", 2, {**of, "reason": "TemplateError"}),
            ("sms.texts.in_doubt", 1, of),
            ("sms.texts.delivered", 4, {}),
            ("sms.texts.failed", 5, {"cause": "handset"}),
            ("sms.texts.failed", 6, {"cause": "no_code"}),
            ("sms.balance", 241, of),
            ("sms.balance.sms_bills", 241, {}),
            ("sms.send.duration", timedelta(seconds=0.25), {**of, "outcome": "accepted"}),
            ("sms.pushes.receipts", 7, {}),
            ("sms.pushes.replies", 8, {}),
            ("sms.pushes.refused", 9, {"status": "403"}),
        ]
        listed = {each.name.replace("<conn_id>", "sms_bills"): set(each.tags) for each in metrics.METRICS}
        assert {name: set(tags) for name, _, tags in stats.told} == listed

    def test_a_connection_s_id_is_made_fit(self) -> None:
        stats = Stats()
        AirflowStats("sms:a,b=c d", lambda: stats).balance(1)
        assert [name for name, *_ in stats.told] == ["sms.balance", "sms.balance.sms_a_b_c_d"]
        assert stats.told[0][2] == {"conn_id": "sms_a_b_c_d"}

    @pytest.mark.once
    @pytest.mark.parametrize("language", ["en", "zh"])
    def test_the_docs_list_them(self, language: str) -> None:
        text = (Path(__file__).resolve().parents[1] / "docs" / language / "howto" / "metrics.md").read_text()
        rows = re.findall(r"^\| `(sms\.[^`]+)` \| (\w+) \| ([^|]*) \|", text, re.MULTILINE)
        listed = [(name, kind, tuple(re.findall("`([^`]+)`", tags))) for name, kind, tags in rows]
        assert listed == [(each.name, each.kind.value, each.tags) for each in metrics.METRICS]


class TestWhoTells:
    @pytest.fixture
    def told(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        """What Airflow's Stats is told, whoever looks for it."""
        stats = Stats()
        monkeypatch.setattr(metrics, "stats", lambda: stats)
        return stats.told

    @pytest.mark.usefixtures("connection")
    def test_whoever_asks_for_the_balance(self, told: list[tuple[Any, ...]]) -> None:
        hook = SmsHook()
        assert hook.get_balance() == _get_balance_once(hook.account, "sms_default") == 10_000
        assert cli.main(["balance"]) == cli.Exit.DONE
        assert told == 3 * [
            ("sms.balance", 10_000, {"conn_id": "sms_default"}),
            ("sms.balance.sms_default", 10_000, {}),
        ]

    @pytest.mark.usefixtures("connection")
    @pytest.mark.parametrize("sends", ["the hook", "a command"])
    def test_whoever_sends(self, told: list[tuple[Any, ...]], sends: str) -> None:
        if sends == "the hook":
            SmsHook().send_group(PHONES[:2], TEXT)
        else:
            assert cli.main(["send", "--phones", ",".join(PHONES[:2]), "--content", TEXT]) == cli.Exit.DONE
        assert ("sms.texts.accepted", 2, {"conn_id": "sms_default"}) in told

    def test_whoever_settles_by_hand(self, campaigns: Campaigns, told: list[tuple[Any, ...]]) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(LOST), PHONES[:2])
        receipt(campaigns.ledger, PHONES[0], "T77")
        assert cli.main(["resolve", "dag/run/send", "--batch", "1", "--sent", "T77"]) == cli.Exit.DONE
        assert cli.main(["resolve", "dag/run/send", "--batch", "1", "--undo"]) == cli.Exit.DONE
        assert told == [
            ("sms.texts.accepted", 2, {}),
            ("sms.texts.delivered", 1, {}),
            ("sms.texts.in_doubt", 2, {}),
        ]

    def test_whoever_looks_at_receipts(self, campaigns: Campaigns, told: list[tuple[Any, ...]]) -> None:
        campaigns.run(Platform(), PHONES[:2])
        receipt(campaigns.ledger, PHONES[0])
        listen(campaigns.ledger)
        with caught_up(campaigns.log):
            assert told == [("sms.texts.delivered", 1, {})]


class TestWhichStats:
    """From 3.2 on there are two: tasks set up the one, servers the other, commands neither."""

    class Newest:
        """As in 3.3: what makes the backend is the module's."""

        initialize = staticmethod(metrics._set_up)

    class Until32(type):
        factory: Any = None

    def test_the_one_that_somebody_has_set_up_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        mine, servers = self.Until32("mine", (), {}), self.Until32("servers", (), {"factory": Stats})
        monkeypatch.setattr(metrics, "_all", lambda: iter([("sdk", mine), ("core", servers)]))
        assert metrics._look_for() is servers

    def test_one_that_was_asked_too_early_counts_as_not_set_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class NoStatsLogger:
            pass

        early, set_up = self.Until32("early", (), {"factory": NoStatsLogger}), list[Any]()
        monkeypatch.setattr(metrics, "_all", lambda: iter([("sdk", early)]))
        monkeypatch.setattr(metrics, "_set_up", lambda *found: set_up.append(found))
        assert metrics._look_for() is early
        assert set_up == [("sdk", early)]

    @pytest.mark.parametrize(("factory", "is_set_up"), [(None, False), (Stats, True)])
    def test_the_newest_keeps_it_in_its_module(
        self, monkeypatch: pytest.MonkeyPatch, factory: Any, is_set_up: bool
    ) -> None:
        monkeypatch.setattr(metrics, "_factory", factory, raising=False)
        assert metrics._is_set_up(self.Newest) is is_set_up


class TestNobodyIsHeldUp:
    def test_a_stats_that_fails_is_said_once_and_stops_nothing(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails() -> Any:
            raise OSError("no route")

        monkeypatch.setattr(metrics, "_said", False)
        monkeypatch.setattr(logging.getLogger("airflow_provider_sms"), "propagate", True)
        campaigns.observer = AirflowStats("sms_default", fails)
        assert campaigns.run(Platform()).accepted == 10
        assert caplog.text.count("Metrics are lost: Airflow's Stats fails (OSError).") == 1

    def test_what_the_receiver_counts_waits_for_nobody_and_is_summed_up(self) -> None:
        told, gate = Observed(), threading.Event()

        class Slow(Observed):
            def stored(self, receipts: int, replies: int) -> None:
                gate.wait(30)
                told.stored(receipts, replies)
                self.sums["calls"] += 1

        slow = Slow()
        counting = Counting(slow, seconds=0.0)
        for _ in range(1_000):
            counting.stored(2, 0)
        gate.set()
        wait_until(lambda: told.sums["receipts"] == 2_000, 15)
        assert slow.sums["calls"] < 100
        counting.close()

    def test_the_receiver_s_last_counts_are_told_when_it_ends(self) -> None:
        told = Observed()
        counting = Counting(told, seconds=3600.0)
        counting.stored(2, 3)
        counting.turned_away(1, 403)
        counting.turned_away(1, 503)
        counting.delivered(4)
        counting.failed(5, "handset")
        counting.close()
        assert told.sums == {
            "receipts": 2,
            "replies": 3,
            "turned away 403": 1,
            "turned away 503": 1,
            "delivered": 4,
            "failed handset": 5,
        }


class TestASend:
    def test_the_ledger_comes_before_whoever_counts(self, campaigns: Campaigns) -> None:
        seen: list[list[str]] = []

        class Looks(Observed):
            def accepted(self, phones: int) -> None:
                seen.append([row.state for row in campaigns.batches()])

            def balance(self, points: int) -> None:
                seen.append([row.state for row in campaigns.batches()])

            def answered(self, seconds: float, outcome: str) -> None:
                seen.append([row.state for row in campaigns.batches()])

        campaigns.observer = Looks()
        campaigns.run(Platform(), PHONES[:2])
        assert seen == 3 * [["accepted"]]

    def test_each_answer_counts_by_phones(self, campaigns: Campaigns, observed: Observed) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(None, LOST, UNLISTED, UNSENT, Acceptance("T4", 1, 77)))
        assert observed.sums == {"accepted": 2 + 1 + 2, "in doubt": 2, "refused UnlistedRefusalError": 2}
        # What never left took no time worth telling.
        assert observed.requests == ["accepted", "in_doubt", "refused", "accepted", "accepted"]
        assert observed.balances == [999, 77, 994]

    def test_a_phone_that_is_looked_for_is_refused_once_and_alone(
        self, campaigns: Campaigns, observed: Observed
    ) -> None:
        campaigns.run(Platform(BAD_PHONE, BAD_PHONE), PHONES[:2])
        assert observed.sums == {"refused PhoneFormatError": 1, "accepted": 1}

    @pytest.mark.parametrize(
        ("answer", "sums"),
        [(None, {"accepted": 2}), (LOST, {"in doubt": 2}), (UNLISTED, {"refused UnlistedRefusalError": 2})],
        ids=["accepted", "in doubt", "refused"],
    )
    def test_what_is_settled_by_a_commit_that_was_not_heard_of_is_counted_once(
        self,
        campaigns: Campaigns,
        observed: Observed,
        monkeypatch: pytest.MonkeyPatch,
        answer: object,
        sums: dict[str, int],
    ) -> None:
        writing, to_lose = Ledger.writing, list[object]()

        @contextmanager
        def unheard(ledger: Ledger) -> Iterator[Any]:
            with writing(ledger) as connection:
                yield connection
            if to_lose:
                to_lose.clear()
                raise LedgerUnreachableError("away")

        def answered(platform: Platform) -> object:
            to_lose.append(answer)
            return answer

        monkeypatch.setattr(Ledger, "writing", unheard)
        with suppress(CampaignError):
            campaigns.run(Platform(answered), PHONES[:2])
        assert observed.sums == sums

    def test_a_balance_that_is_asked_for_before_the_first_request_is_told(
        self, campaigns: Campaigns, observed: Observed
    ) -> None:
        platform = Platform()
        platform.balances = [5_000]
        campaigns.run(platform, PHONES[:2], guards=Guards(min_balance_after=100))
        assert observed.balances == [5_000, 999]


class TestLateNews:
    @pytest.fixture
    def doubtful(self, campaigns: Campaigns, observed: Observed) -> int:
        """A campaign whose second batch is in doubt."""
        with pytest.raises(CampaignError):
            campaigns.run(Platform(None, LOST), PHONES[:4])
        assert observed.sums == {"accepted": 2, "in doubt": 2}
        observed.sums.clear()
        return int(campaigns.batches()[0].campaign_id)

    @pytest.fixture
    def claim(self, campaigns: Campaigns, outbox: Outbox, doubtful: int) -> Claim:
        """The second batch once more, and nobody else's lease."""
        resolve_as_not_sent(campaigns.ledger, doubtful, 2)
        claim = outbox.claim("FAKE-APP-ID", 60)
        assert claim is not None
        campaigns.change_batches(batch_table.c.number == 2, lease_until=campaigns.batches()[1].claimed_at)
        return claim

    @pytest.fixture
    def outbox(self, campaigns: Campaigns, doubtful: int, observed: Observed) -> Outbox:
        campaign = Plans(campaigns.ledger, own_name()).find(CampaignKey("", SENDER))
        assert campaign is not None
        return Outbox(campaigns.ledger, own_name(), campaign, observer=observed)

    def test_an_overtaken_batch_is_in_doubt_once_whoever_says_so(
        self, outbox: Outbox, claim: Claim, observed: Observed
    ) -> None:
        outbox.overtake()
        outbox.overtake()
        outbox.doubt(claim, "AnswerLostError", "no answer")
        assert observed.sums == {"in doubt": 2}

    def test_a_late_answer_counts_beside_the_doubt(self, outbox: Outbox, claim: Claim, observed: Observed) -> None:
        outbox.overtake()
        outbox.accept(claim, Answer("T88", 2, 5))
        assert observed.sums == {"in doubt": 2, "accepted": 2}

    def test_what_a_person_has_settled_is_not_counted_again_by_a_late_answer(
        self, campaigns: Campaigns, outbox: Outbox, claim: Claim, doubtful: int, observed: Observed
    ) -> None:
        resolve_as_sent(campaigns.ledger, doubtful, 2, None, observed)
        outbox.accept(claim, Answer("T88", 2, 5))
        assert observed.sums == {"accepted": 2}
        assert campaigns.batches()[1].taskid == "T88"

    def test_an_answer_to_an_attempt_that_was_given_up_is_one_all_the_same(
        self, campaigns: Campaigns, outbox: Outbox, claim: Claim, doubtful: int, observed: Observed
    ) -> None:
        resolve_as_sent(campaigns.ledger, doubtful, 2, "T77", observed)
        with pytest.raises(SettledOtherwiseError):
            outbox.accept(claim, Answer("T88", 2, 5))
        assert observed.sums == {"accepted": 4}

    def test_a_person_s_word_counts_and_so_does_its_end(
        self, campaigns: Campaigns, doubtful: int, observed: Observed
    ) -> None:
        resolve_as_sent(campaigns.ledger, doubtful, 2, "T77", observed)
        take_back(campaigns.ledger, doubtful, 2, observed)
        resolve_as_not_sent(campaigns.ledger, doubtful, 2)
        assert observed.sums == {"accepted": 2, "in doubt": 2}

    def test_evidence_counts_and_so_does_what_it_says(
        self, campaigns: Campaigns, doubtful: int, observed: Observed
    ) -> None:
        campaigns.change_batches(
            batch_table.c.state == BatchState.ACCEPTED, settled_at=campaigns.now.replace(year=2020)
        )
        receipt(campaigns.ledger, PHONES[2], "T77", status="0", code="MK:0001")
        assert len(evidence.adopt(campaigns.ledger, doubtful, observer=observed)) == 1
        assert observed.sums == {"accepted": 2, "failed dead_number": 1}


class TestReceipts:
    def test_each_phone_counts_once_whatever_comes_after(self, campaigns: Campaigns, observed: Observed) -> None:
        campaigns.run(Platform(account=Account("FAKE-APP-ID", "FAKE-APP-KEY")), PHONES[:4])
        observed.sums.clear()
        for phone, status, code in (
            (PHONES[0], "1", ""),
            (PHONES[1], "9", ""),
            (PHONES[2], "0", "MK:0001"),
            (PHONES[3], "0", ""),
        ):
            receipt(campaigns.ledger, phone, "T1", status, code)
        matching.settle(campaigns.ledger, None, observer=observed)
        assert observed.sums == {"delivered": 1, "failed dead_number": 1, "failed": 1}
        for phone, status in ((PHONES[0], "0"), (PHONES[1], "1"), (PHONES[2], "0")):
            receipt(campaigns.ledger, phone, "T1", status, "again")
        matching.settle(campaigns.ledger, None, observer=observed)
        assert observed.sums == {"delivered": 2, "failed dead_number": 1, "failed": 1}
