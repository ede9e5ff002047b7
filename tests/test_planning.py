"""The plan: stored whole or not at all, found again by every try, changed only while nothing has left."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from airflow_provider_sms.gateway import errors
from airflow_provider_sms.gateway.errors import NoPhonesError, PhonesError
from airflow_provider_sms.ledger import drafts, reports
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.drafts import Draft
from airflow_provider_sms.ledger.errors import (
    CampaignPurgedError,
    LedgerLostError,
    LedgerUnreachableError,
    LedgerUsageError,
    PlanChangedError,
)
from airflow_provider_sms.ledger.keys import CampaignKey, TaskInstanceKey
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import campaign_table, once_table, recipient_table
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Planner, Try
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import ACCOUNT, PHONES, SENDER, TEXT, Campaigns, Platform

UNSENT = errors.UnsentError("The platform can not be reached: Connection refused.")
NO_MONEY = errors.BalanceTooLowError("The platform refused: 余额不足.")
NO_MOBILE = errors.PhoneFormatError("The platform refused: 手机号码格式不正确.")
LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
KEY = CampaignKey("", SENDER)
NEVER = [UNSENT] * 4
DEAD = " ".join([*own_name().split(" ")[:-2], "99999999", "1"])


def fail(campaigns: Campaigns, platform: Platform, *args: object, **changes: object) -> CampaignError:
    with pytest.raises(CampaignError) as caught:
        campaigns.run(platform, *args, **changes)  # type: ignore[arg-type]
    return caught.value


def rows(campaigns: Campaigns, table: object) -> int:
    with campaigns.ledger.reading() as connection:
        return len(connection.execute(select(table)).all())  # type: ignore[call-overload]


class TestKeys:
    def test_the_try_is_not_part_of_the_key(self, campaigns: Campaigns) -> None:
        campaigns.run(Platform())
        again = Platform()
        campaigns.run(again, attempt=Try(2))
        assert again.requests == []

    @pytest.mark.parametrize(
        "other",
        [
            CampaignKey("other", SENDER),
            CampaignKey("", TaskInstanceKey("dag2", "run", "send")),
            CampaignKey("", TaskInstanceKey("dag", "run2", "send")),
            CampaignKey("", TaskInstanceKey("dag", "run", "send2")),
            CampaignKey("", SENDER, "a key of the user's own"),
            CampaignKey("", campaign_key="dag/run/send"),
        ],
        ids=["namespace", "dag", "run", "task", "campaign_key", "a key that looks like a task"],
    )
    def test_everything_else_is(self, campaigns: Campaigns, other: CampaignKey) -> None:
        campaigns.run(Platform(), key=KEY)
        again = Platform()
        campaigns.run(again, key=other)
        assert len(again.accepted) == 10

    def test_a_user_s_key_is_the_same_campaign_wherever_it_is_sent_from(self, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), key=CampaignKey("", SENDER, "spring"))
        again = Platform()
        campaigns.run(again, key=CampaignKey("", TaskInstanceKey("dag2", "run9", "send"), "spring"))
        assert again.requests == []

    @pytest.mark.parametrize("key", ["", "  ", "a\nb", "a\x00b", "k" * 251])
    def test_a_key_that_can_not_be_kept_is_refused(self, key: str) -> None:
        with pytest.raises(LedgerUsageError, match="campaign_key: "):
            CampaignKey("", SENDER, key)


class TestStoring:
    def test_what_is_left_out_is_kept_with_its_reason(self, campaigns: Campaigns) -> None:
        report = campaigns.run(Platform(), [PHONES[0], "x,y\n\x00\ud800", PHONES[1], PHONES[0], "", None])
        assert report.excluded == {"malformed": 3, "duplicate": 1}
        with campaigns.ledger.reading() as connection:
            stored = connection.execute(select(recipient_table).order_by(recipient_table.c.position)).all()
        assert [(row.position, row.reason) for row in stored] == [
            (1, None),
            (2, "malformed"),
            (3, None),
            (4, "duplicate"),
            (5, "malformed"),
            (6, "malformed"),
        ]
        assert (stored[0].phone, stored[3].phone) == (PHONES[0], PHONES[0])

    def test_batches_cross_chunks_and_what_is_left_out(self, campaigns: Campaigns) -> None:
        chunks = [[*PHONES[:3], "x"], ["y", PHONES[0]], [], PHONES[3:8], PHONES[8:]]
        platform = Platform()
        campaigns.run(platform, batch_size=4, read=lambda: iter(chunks))
        assert platform.requests == [tuple(PHONES[:4]), tuple(PHONES[4:8]), tuple(PHONES[8:])]

    @pytest.mark.parametrize("phones", [[], ["x", "y"]])
    def test_nobody_to_send_to_leaves_nothing_behind(self, campaigns: Campaigns, phones: list[str]) -> None:
        with pytest.raises(PhonesError):
            campaigns.run(Platform(), phones)
        assert rows(campaigns, recipient_table) == 0
        assert rows(campaigns, campaign_table) == 1  # that a try has begun

    def test_who_was_planned_and_is_handed_in_no_longer_is_not_lost_without_a_word(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        fail(campaigns, Platform(*NEVER), PHONES[:4])
        platform = Platform()
        with pytest.raises(NoPhonesError):
            campaigns.run(platform, [])
        assert "an earlier try has planned 4 phones and texted none; now none is handed in." in caplog.text
        assert platform.requests == []
        assert {batch.state for batch in campaigns.batches()} == {"planned"}

    def test_a_half_plan_is_seen_by_nobody_and_discarded_by_the_next_try(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Killed(BaseException):
            pass

        def killed(draft: Draft) -> None:
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(Draft, "finish", killed)
            with pytest.raises(Killed):
                campaigns.run(Platform())
        found = Plans(campaigns.ledger, "me").find(KEY)
        assert found is not None
        assert found.planned_at is None
        with campaigns.ledger.writing() as connection:
            connection.execute(update(campaign_table).values(owner=DEAD))
        assert campaigns.run(Platform()).accepted == 10
        assert rows(campaigns, recipient_table) == 10
        assert rows(campaigns, campaign_table) == 1

    @pytest.mark.parametrize("is_deferred", [False, True], ids=["a try", "one that was deferred"])
    def test_what_a_killed_neighbour_left_half_done_is_discarded_by_one_that_carries_on(
        self, campaigns: Campaigns, is_deferred: bool
    ) -> None:
        fail(campaigns, Platform(None, *NEVER))
        order = make_order(ACCOUNT, TEXT, policy=Policy())
        for owner in (DEAD, "elsewhere boot ns 77 1"):
            Plans(campaigns.ledger, owner).draft(KEY, order.terms).add(PHONES[:6], {})
        assert (rows(campaigns, campaign_table), rows(campaigns, recipient_table)) == (3, 22)
        planner = Planner(campaigns.ledger, KEY, order, lambda: [list(PHONES)], campaigns.log, Policy())
        assert (planner.resume() if is_deferred else planner.plan()).phones == 10
        # Of the other nobody knows whether it lives, until its lease has ended.
        assert (rows(campaigns, campaign_table), rows(campaigns, recipient_table)) == (2, 16)

    def test_a_step_whose_commit_was_not_heard_of_may_be_repeated(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Draft.add

        def twice(draft: Draft, *items: Any) -> None:
            before = dict(vars(draft), _open=list(draft._open))
            real(draft, *items)
            vars(draft).update(before)
            real(draft, *items)

        monkeypatch.setattr(Draft, "add", twice)
        platform = Platform()
        assert campaigns.run(platform, [*PHONES, PHONES[0]], batch_size=3).accepted == 10
        assert sorted(platform.accepted) == PHONES

    def test_a_long_plan_says_how_far_it_is_at_a_bounded_pace(
        self, ledger: Ledger, caplog: pytest.LogCaptureFixture
    ) -> None:
        seconds = itertools.count(step=4.0)
        phones: list[list[object]] = [
            [f"138{start + number:08d}" for number in range(100)] for start in range(0, 1000, 100)
        ]
        order = make_order(ACCOUNT, TEXT, policy=Policy())
        log = logging.getLogger("planning")
        planner = Planner(ledger, KEY, order, lambda: phones, log, Policy(), clock=lambda: next(seconds))
        with caplog.at_level(logging.INFO):
            planner.plan()
        lines = [each.getMessage() for each in caplog.records if each.getMessage().startswith("Planning")]
        assert lines == [
            "Planning: 300 phones so far, 25 a second.",
            "Planning: 600 phones so far, 25 a second.",
            "Planning: 900 phones so far, 25 a second.",
        ]

    def test_two_that_plan_at_once_end_with_one_plan(self, campaigns: Campaigns) -> None:
        platform, both = Platform(), threading.Barrier(2, timeout=10)
        errors_: list[Exception] = []

        def read() -> Iterator[list[object]]:
            yield list(PHONES)
            both.wait()

        def run() -> None:
            try:
                campaigns.run(platform, read=read)
            except Exception as error:  # told below
                errors_.append(error)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors_ == []
        assert sorted(platform.accepted) == PHONES
        assert rows(campaigns, campaign_table) == 1

    def test_a_plan_that_began_in_the_meantime_is_not_sent_with_another_s_text(self, campaigns: Campaigns) -> None:
        first, second = Platform(None, *NEVER), Platform()

        def read() -> Iterator[list[object]]:
            fail(campaigns, first)
            yield list(PHONES)

        with pytest.raises(PlanChangedError, match="another content;"):
            campaigns.run(second, content=TEXT + "再见", read=read)
        assert second.requests == []
        assert rows(campaigns, campaign_table) == 1


class TestChanges:
    """Between two tries of one campaign."""

    def test_another_order_is_no_change(self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture) -> None:
        fail(campaigns, Platform(None, *NEVER))
        again = Platform()
        assert campaigns.run(again, PHONES[::-1]).accepted == 10
        assert sorted(again.accepted) == PHONES[2:]
        assert "handed in" not in caplog.text

    def test_another_batch_size_is_no_change(self, campaigns: Campaigns) -> None:
        fail(campaigns, Platform(None, *NEVER))
        again = Platform()
        assert campaigns.run(again, batch_size=5).accepted == 10
        assert sorted(again.accepted) == PHONES[2:]

    def test_while_nothing_has_left_a_changed_plan_replaces_the_old(self, campaigns: Campaigns) -> None:
        fail(campaigns, Platform(*NEVER))
        again = Platform()
        report = campaigns.run(again, [*PHONES[:3], "13800130099"], TEXT + "再见", batch_size=3)
        assert (report.accepted, report.not_sent) == (4, 0)
        assert again.requests == [tuple(PHONES[:3]), ("13800130099",)]
        assert rows(campaigns, recipient_table) == 4

    def test_a_refusal_that_was_lifted_counts_as_nothing_has_left(self, campaigns: Campaigns) -> None:
        fail(campaigns, Platform(NO_MONEY))
        again = Platform()
        assert campaigns.run(again, PHONES[:2], TEXT + "再见").accepted == 2

    def test_the_same_plan_again_is_not_stored_anew(self, campaigns: Campaigns) -> None:
        fail(campaigns, Platform(*NEVER))
        (first, *_) = campaigns.batches()
        campaigns.run(Platform())
        assert campaigns.batches()[0].id == first.id

    def test_added_phones_are_reported_and_not_sent_to(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        fail(campaigns, Platform(None, *NEVER))
        again = Platform()
        report = campaigns.run(again, [*PHONES, "13800130099", "13800130098"])
        assert report.excluded == {"after plan": 2}
        assert sorted(again.accepted) == PHONES[2:]
        assert campaigns.reasons()["13800130099"] == "after plan"
        assert "2 phones were added after the plan had begun" in caplog.text

    def test_they_are_reported_once_however_often_it_is_tried(self, campaigns: Campaigns) -> None:
        fail(campaigns, Platform(None, *NEVER))
        for _ in range(3):
            report = campaigns.run(Platform(), [*PHONES, "13800130099"])
        assert report.excluded == {"after plan": 1}

    def test_removed_phones_are_said_and_the_stored_plan_goes_on(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        fail(campaigns, Platform(None, *NEVER))
        assert campaigns.run(Platform(), PHONES[:7]).accepted == 10
        assert "3 of the phones that were planned are no longer handed in" in caplog.text

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"content": TEXT + "再见"}, "another content;"),
            ({"send_time": datetime(2035, 1, 1, tzinfo=UTC)}, "another send_time;"),
            ({"content": TEXT + "!", "send_time": datetime(2035, 1, 1, tzinfo=UTC)}, "content and send_time;"),
        ],
        ids=["text", "time", "both"],
    )
    def test_another_text_or_time_is_an_error_that_says_what_changed(
        self, campaigns: Campaigns, changes: dict[str, object], said: str
    ) -> None:
        fail(campaigns, Platform(None, *NEVER))
        again = Platform()
        with pytest.raises(PlanChangedError, match=said):
            campaigns.run(again, **changes)  # type: ignore[arg-type]
        assert again.requests == []

    def test_or_the_stored_ones_go_on_if_that_is_wanted(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        fail(campaigns, Platform(None, *NEVER))
        assert campaigns.run(Platform(), content=TEXT + "再见", on_changed="resume").accepted == 10
        assert "goes on with its stored content" in caplog.text

    def test_phones_that_can_no_longer_be_read_do_not_stop_what_has_begun(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        def gone() -> Iterator[list[object]]:
            raise PhonesError("phones: there is no file.")

        fail(campaigns, Platform(None, *NEVER))
        assert campaigns.run(Platform(), read=gone).accepted == 10
        assert "goes on with its stored phones: phones: there is no file." in caplog.text

    def test_but_they_do_where_nothing_has_left(self, campaigns: Campaigns) -> None:
        def gone() -> Iterator[list[object]]:
            raise PhonesError("phones: there is no file.")

        fail(campaigns, Platform(*NEVER))
        with pytest.raises(PhonesError):
            campaigns.run(Platform(), read=gone)


class TestMapped:
    """Instances of one mapped task: campaigns of their own, and a phone gets the same text once."""

    def test_a_phone_that_another_instance_has_is_left_out_and_reported(self, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:5], map_index=0)
        platform = Platform()
        report = campaigns.run(platform, PHONES[3:], map_index=1)
        assert sorted(platform.accepted) == PHONES[5:]
        assert (report.accepted, report.excluded) == (5, {"in another instance": 2})

    def test_an_instance_of_which_nothing_is_left_ends_well(self, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES, map_index=0)
        report = campaigns.run(Platform(), PHONES, map_index=1)
        assert (report.accepted, report.excluded) == (0, {"in another instance": 10})

    def test_another_text_is_another_matter(self, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:2], map_index=0)
        assert campaigns.run(Platform(), PHONES[:2], TEXT + "再见", map_index=1).accepted == 2

    def test_so_is_another_run_of_the_dag(self, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:2], map_index=0)
        other = CampaignKey("", TaskInstanceKey("dag", "run2", "send", 1))
        assert campaigns.run(Platform(), PHONES[:2], key=other).accepted == 2

    def test_indexes_that_shifted_before_a_clear_text_nobody_twice_and_lose_nobody(self, campaigns: Campaigns) -> None:
        sent = Platform()
        campaigns.run(sent, PHONES[:4], map_index=0)
        fail(campaigns, Platform(*NEVER), PHONES[4:8], map_index=1)
        # A new part came first: what was part 0 is now part 1.
        later = Platform()
        parts = [PHONES[8:], PHONES[:4], PHONES[4:8]]
        order = (2, 1, 0)
        reports = {index: campaigns.run(later, parts[index], map_index=index) for index in order}
        assert sorted(sent.accepted + later.accepted) == PHONES[:8]
        assert reports[0].excluded == {"after plan": 2}

    def test_what_was_proven_unsent_is_free_for_another_instance(self, campaigns: Campaigns) -> None:
        fail(campaigns, Platform(*NEVER), PHONES[:4], map_index=0)
        assert rows(campaigns, once_table) == 0
        assert campaigns.run(Platform(), PHONES[:4], map_index=1).accepted == 4
        assert campaigns.run(Platform(), PHONES[:4], map_index=0).excluded == {"in another instance": 4}

    def test_what_is_in_doubt_is_not(self, campaigns: Campaigns) -> None:
        fail(campaigns, Platform(LOST), PHONES[:2], map_index=0)
        platform = Platform()
        campaigns.run(platform, PHONES[:4], map_index=1)
        assert platform.accepted == PHONES[2:4]

    @pytest.mark.parametrize("refused", [[NO_MONEY], [NO_MOBILE] * 3], ids=["as a whole", "phone by phone"])
    def test_nor_is_what_was_in_doubt_before_it_was_refused(
        self, campaigns: Campaigns, refused: list[errors.RefusedError]
    ) -> None:
        fail(campaigns, Platform(LOST), PHONES[:2], map_index=0)
        campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001 - as the ledger keeps it
        fail(campaigns, Platform(*refused), PHONES[:2], map_index=0, on_in_doubt="resend")
        assert {batch.state for batch in campaigns.batches()} == {"refused"}
        assert campaigns.run(Platform(), PHONES[:2], map_index=1).excluded == {"in another instance": 2}

    def test_instances_at_once_text_nobody_twice(self, campaigns: Campaigns) -> None:
        platform = Platform()
        phones = [f"138{number:08d}" for number in range(40)]
        threads = [
            threading.Thread(
                target=campaigns.run, args=(platform, phones[:: 1 - 2 * (index % 2)]), kwargs={"map_index": index}
            )
            for index in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(platform.accepted) == phones


class TestTheLedgerWasLost:
    BEGAN = datetime(2020, 1, 1, tzinfo=UTC)

    def test_a_second_try_that_finds_nothing_in_a_younger_ledger_fails(self, campaigns: Campaigns) -> None:
        with pytest.raises(LedgerLostError, match="The ledger was lost: this is try 2"):
            campaigns.run(Platform(), attempt=Try(2, self.BEGAN))

    def test_not_if_the_ledger_is_older_than_the_run(self, campaigns: Campaigns) -> None:
        began = datetime.now(UTC) + timedelta(minutes=1)
        assert campaigns.run(Platform(), attempt=Try(2, began)).accepted == 10

    def test_not_if_the_first_try_came_here_and_failed_before_it_planned(self, campaigns: Campaigns) -> None:
        with pytest.raises(PhonesError):
            campaigns.run(Platform(), ["x"], attempt=Try(1, self.BEGAN))
        assert campaigns.run(Platform(), attempt=Try(2, self.BEGAN)).accepted == 10

    def test_nor_for_a_first_try(self, campaigns: Campaigns) -> None:
        assert campaigns.run(Platform(), attempt=Try(1, self.BEGAN)).accepted == 10


def test_a_purged_campaign_is_refused_and_never_planned_anew(campaigns: Campaigns) -> None:
    campaigns.run(Platform())
    with campaigns.ledger.writing() as connection:
        connection.execute(update(campaign_table).values(purged_at=datetime(2030, 1, 31)))  # noqa: DTZ001
    again = Platform()
    with pytest.raises(CampaignPurgedError, match="removed on 2030-01-31; it is not sent again"):
        campaigns.run(again)
    assert again.requests == []


def test_a_ledger_that_is_away_while_planning_fails_as_retryable(
    campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise LedgerUnreachableError("away")

    monkeypatch.setattr(drafts, "store_recipients", away)
    with pytest.raises(LedgerUnreachableError):
        campaigns.run(Platform())


def test_reports_count_every_phone_once(campaigns: Campaigns) -> None:
    fail(campaigns, Platform(None, LOST, NO_MONEY), [*PHONES, PHONES[0], "x"])
    found = Plans(campaigns.ledger, "me").find(KEY)
    assert found is not None
    report = reports.report(campaigns.ledger, found.id)
    assert (report.accepted, report.in_doubt, report.refused, report.not_sent) == (2, 2, 2, 4)
    assert report.phones + sum(report.excluded.values()) == 12
    assert report.summary()["notSent"] == 4
    assert ACCOUNT.app_key not in str(report)
