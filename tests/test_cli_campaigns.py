"""`airflow-sms campaigns`, `status`, `resolve`, `export`: what people see of campaigns, and how they settle them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from airflow_provider_sms import cli
from airflow_provider_sms.cli import Exit
from airflow_provider_sms.gateway import errors
from airflow_provider_sms.gateway.answers import Acceptance
from airflow_provider_sms.ledger.keys import CampaignKey, TaskInstanceKey
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table, receipt_table
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Planner
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import ACCOUNT, PHONES, TEXT, Campaigns, Platform
from tests.support.forking import Program
from tests.support.heard import look, marks, receipt, reply

NAME = "dag/run/send"
LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
UNSENT = errors.UnsentError("The platform can not be reached: Connection refused.")
NO_MONEY = errors.BalanceTooLowError("The platform refused: 余额不足.", "余额不足")
UNLISTED = errors.UnlistedRefusalError("The platform refused: 不明.", "不明")
NO_NUMBER = errors.PhoneFormatError("The platform refused: 手机号码格式不正确.", "手机号码格式不正确")
ELSEWHERE = "elsewhere boot ns 77 1"

Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command; what it writes to standard output, or as an error to standard error."""

    def said(*arguments: str, status: Exit = Exit.DONE) -> str:
        capsys.readouterr()
        assert cli.main(arguments) == status
        shown = capsys.readouterr()
        return shown.out if status is Exit.DONE else shown.err

    return said


def fail(campaigns: Campaigns, *answers: object, phones: Any = PHONES, **choices: Any) -> CampaignError:
    with pytest.raises(CampaignError) as ended:
        campaigns.run(Platform(*answers), phones, **choices)
    return ended.value


def let_it_be_sent(campaigns: Campaigns, number: int, *, seconds: float) -> None:
    """Make it so that another process is sending a batch."""
    with campaigns.ledger.reading() as connection:
        now = campaigns.ledger.now(connection)
    values = {"state": BatchState.SENDING, "owner": ELSEWHERE, "lease_until": now + timedelta(seconds=seconds)}
    campaigns.change_batches(batch_table.c.number == number, settled_at=None, **values)


def push(campaigns: Campaigns, mobile: str, taskid: str) -> None:
    """Put a receipt into the ledger."""
    with campaigns.ledger.writing() as connection:
        now = campaigns.ledger.now(connection)
        values = {"account": ACCOUNT.app_id, "mobile": mobile, "taskid": taskid, "received_at": now, "digest": "1"}
        connection.execute(insert(receipt_table).values(**values))


def hear_of_each_kind(campaigns: Campaigns) -> None:
    """Receipts of each kind for a campaign of ten, and two replies."""
    ledger = campaigns.ledger
    for place, (status, code) in enumerate(
        [("1", "DELIVRD"), ("0", "MK:0001"), ("0", "MN:0001"), ("0", "=X:9999"), ("0", ""), ("2", "ACCEPTD")]
    ):
        receipt(ledger, PHONES[place], f"T{place // 2 + 1}", status, code)
    receipt(ledger, PHONES[0], "T1", "0", "MK:0001")
    reply(ledger, PHONES[0], "T1")
    reply(ledger, "1380013***2", "T1")
    reply(ledger, PHONES[9], "T1")
    look(ledger)


class TestTheList:
    def test_it_is_empty_at_first(self, campaigns: Campaigns, said: Said) -> None:
        assert said("campaigns") == "No campaigns yet.\n"
        assert json.loads(said("campaigns", "--output", "json")) == []

    def test_newest_first_with_counts_and_who_needs_somebody(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform(), [*PHONES, PHONES[0]], key=CampaignKey("", campaign_key="all well"))
        fail(campaigns, None, LOST, key=CampaignKey("", campaign_key="doubtful"))
        fail(campaigns, None, UNSENT, UNSENT, UNSENT, UNSENT, key=CampaignKey("here", campaign_key="left"))
        header, left, doubtful, well = said("campaigns").splitlines()
        assert header.split("  ")[0] == "id"
        assert "planned (Beijing)" in header
        assert left.split()[3:] == ["10", "2", "0", "0", "8", "0", "left", "over", "left", "[here]"]
        assert doubtful.split()[3:] == ["10", "8", "0", "2", "0", "0", "in", "doubt", "doubtful"]
        assert well.split()[3:] == ["10", "10", "0", "0", "0", "1", "all", "well"]

    def test_as_json(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, NO_MONEY)
        (shown,) = json.loads(said("campaigns", "--output", "json"))
        assert shown["campaign"] == NAME
        assert shown["plannedAt"].endswith("+08:00")
        names = ("phones", "accepted", "refused", "inDoubt", "sending", "notSent", "expired", "excluded", "needs")
        assert [shown[name] for name in names] == [10, 2, 2, 0, 0, 6, 0, 0, "left over"]

    def test_as_many_as_are_asked_for(self, campaigns: Campaigns, said: Said) -> None:
        for number in range(3):
            campaigns.run(Platform(), PHONES[:2], key=CampaignKey("", campaign_key=f"key {number}"))
        assert [line.split()[-1] for line in said("campaigns", "--limit", "2").splitlines()[1:]] == ["2", "1"]
        assert "error: --limit: 0 is not between 1 and " in said("campaigns", "--limit", "0", status=Exit.USAGE)

    @pytest.mark.parametrize(
        ("answers", "needs"),
        [
            ([NO_NUMBER] * 3, ""),
            ([UNLISTED], "refused"),
            ([NO_MONEY], "refused"),
        ],
        ids=["a phone that is none", "not listed", "no money"],
    )
    def test_a_refusal_needs_somebody_unless_a_phone_stands_alone(
        self, campaigns: Campaigns, said: Said, answers: list[object], needs: str
    ) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(*answers), PHONES[:2])
        (shown,) = json.loads(said("campaigns", "--output", "json"))
        assert shown["needs"] == needs

    def test_one_that_is_being_sent_needs_nobody_before_its_lease_is_over(
        self, campaigns: Campaigns, said: Said
    ) -> None:
        campaigns.run(Platform())
        let_it_be_sent(campaigns, 2, seconds=60)
        assert json.loads(said("campaigns", "--output", "json"))[0]["needs"] == ""
        let_it_be_sent(campaigns, 2, seconds=-1)
        assert json.loads(said("campaigns", "--output", "json"))[0]["needs"] == "in doubt"


class TestStatus:
    def test_a_campaign_that_went_well(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform(), [*PHONES[:4], PHONES[0], "x"])
        lines = said("status", NAME).splitlines()
        assert re.fullmatch(rf"Campaign {NAME} \(id \d+\); times are Beijing time\.", lines[0])
        assert lines[1].startswith("planned:  20")
        assert ", send at once, to be sent until 20" in lines[1]
        assert lines[2] == "phones:   4: 4 accepted, 0 refused, 0 in doubt, 0 not sent, 2 excluded"
        assert lines[3] == "excluded: 1 duplicate, 1 malformed"
        assert lines[4] == "points:   4 (1 segment(s) a text); left on the account: 998"
        assert lines[5] == "receipts: 0 delivered, 0 failed, 0 unknown, 4 without a receipt yet"
        assert lines[7].split("  ")[0] == "batch"
        assert [line.split()[:6] for line in lines[8:]] == [
            ["1", "accepted", "2", "1", "T1", "FAKE-APP-ID"],
            ["2", "accepted", "2", "1", "T2", "FAKE-APP-ID"],
        ]

    def test_what_receipts_and_replies_say(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform())
        hear_of_each_kind(campaigns)
        shown = said("status", NAME)
        assert (
            "receipts: 1 delivered, 4 failed (2 dead number; 1 no code; 1 another code), 1 unknown, "
            "4 without a receipt yet, 1 with a later receipt that says otherwise\nreplies:  2\n"
        ) in shown
        data = json.loads(said("status", NAME, "--output", "json"))
        assert data["delivery"] == {
            "delivered": 1,
            "failed": 4,
            "failedByCause": {"": 1, "dead_number": 2, "other": 1},
            "unknown": 1,
            "withoutReceipt": 4,
            "contradicted": 1,
            "replies": 2,
        }
        assert data["sharedTaskIds"] == []

    def test_a_task_id_of_two_batches(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform())
        campaigns.run(Platform(), PHONES[:2], key=CampaignKey("", campaign_key="other"))
        shown = said("status", NAME)
        assert "batch 1: taskId T1 is also that of batch 1 of campaign other. One of them was settled with" in shown
        (shared,) = json.loads(said("status", "other", "--output", "json"))["sharedTaskIds"]
        assert shared == {"batch": 1, "taskId": "T1", "otherCampaign": NAME, "otherBatch": 1}

    def test_a_push_to_the_default_address_is_evidence_for_that_account(
        self, campaigns: Campaigns, said: Said, set_connection: Callable[..., None]
    ) -> None:
        fail(campaigns, LOST)
        receipt(campaigns.ledger, PHONES[0], "T77", account=None)
        campaigns.change_batches(batch_table.c.state == BatchState.ACCEPTED, settled_at=batch_table.c.claimed_at)
        assert "but its pushes came to the address without an account id" in said("status", NAME)
        set_connection(login=ACCOUNT.app_id, password="FAKE-APP-KEY", host="https://127.0.0.1:1")
        assert "taskId T77, named by 1; nothing speaks against it" in said("status", NAME)
        set_connection(login="FAKE-OTHER-ID", password="FAKE-APP-KEY", host="https://127.0.0.1:1")
        assert "T77" not in said("status", NAME)

    def test_by_its_id(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform())
        campaign_id = campaigns.batches()[0].campaign_id
        assert said("status", str(campaign_id)).splitlines() == said("status", NAME).splitlines()

    def test_batches_that_need_somebody_come_first_and_most_are_left_out(
        self, campaigns: Campaigns, said: Said
    ) -> None:
        phones = [f"1380013{number:04d}" for number in range(120)]
        fail(campaigns, *[None] * 55, LOST, phones=phones)
        lines = said("status", NAME).splitlines()
        batches = [line.split() for line in lines[7:57]]
        assert batches[0][:4] == ["56", "in", "doubt", "2"]
        assert batches[1][:2] == ["1", "accepted"]
        assert lines[57] == "10 more; --all shows them."
        assert " 60  accepted" in said("status", NAME, "--all")
        assert len(json.loads(said("status", NAME, "--output", "json"))["batches"]) == 50

    def test_in_doubt_with_what_receipts_say_and_the_lines_to_run(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, LOST, None, LOST)
        push(campaigns, PHONES[0], "T77")
        push(campaigns, PHONES[4], "T88")
        push(campaigns, "13800130099", "T88")
        campaigns.change_batches(batch_table.c.state == BatchState.ACCEPTED, settled_at=batch_table.c.claimed_at)
        shown = said("status", NAME)
        assert "  batch 1: taskId T77, named by 1; nothing speaks against it\n" in shown
        assert "  batch 3: taskId T88, named by 1; but a push of it names a phone outside the batch\n" in shown
        assert "In doubt: 2 batches, 4 phones." in shown
        assert "platform's console" in shown
        assert "clear task send of DAG dag, run run: " in shown
        for line in (
            "airflow-sms resolve dag/run/send --batch 1 --sent T77",
            "airflow-sms resolve dag/run/send --batch 1 --not-sent",
            "airflow-sms resolve dag/run/send --batch 3 --sent TASKID",
        ):
            assert f"\n  {line}\n" in f"{shown}\n"

    def test_the_lines_to_run_can_be_run(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, LOST, key=CampaignKey("", campaign_key="it's spring; $sale"))
        data = json.loads(said("status", "it's spring; $sale", "--output", "json"))
        for line in data["advice"][0]["commands"]:
            cli._parser().parse_args(shlex.split(line)[1:])
        said(*shlex.split(data["advice"][0]["commands"][1])[1:])
        assert campaigns.batches()[0].state == BatchState.PLANNED

    @pytest.mark.parametrize(
        ("answers", "problem", "remedy"),
        [
            ([None, NO_MONEY], "Refused (BalanceTooLowError): 1 batch, 2 phones.", "Top up the account"),
            ([None, NO_MONEY], "Left over: 3 batches, 6 phones, not sent yet.", "To send them, clear task send"),
            ([UNLISTED], "Refused (UnlistedRefusalError): 1 batch, 2 phones.", "airflow-sms export dag/run/send"),
            ([UNSENT] * 4, "Left over: 1 batch, 2 phones, not sent yet, last because of UnsentError.", "retry it"),
            ([Acceptance("T1", 1, 5)], "Accepted, but not counted by the platform: 1 phone(s).", "not sent again"),
        ],
        ids=["refused", "left over", "not listed", "unsent", "partly"],
    )
    def test_each_kind_of_trouble_has_its_remedy(
        self, campaigns: Campaigns, said: Said, answers: list[object], problem: str, remedy: str
    ) -> None:
        try:
            campaigns.run(Platform(*answers))
        except CampaignError:
            pass
        shown = said("status", NAME)
        assert problem in shown
        assert remedy in shown

    def test_expired(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, UNSENT, UNSENT, UNSENT, UNSENT)
        campaigns.now += timedelta(hours=25)
        fail(campaigns)
        shown = said("status", NAME)
        assert "Expired: 4 batches, 8 phones, not sent because it was too late." in shown
        assert 'set on_expired="send_now", then clear task send of DAG dag, run run.' in shown

    def test_being_sent_and_the_end_of_the_one_that_was_sending(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform())
        let_it_be_sent(campaigns, 2, seconds=60)
        assert "Being sent: 1 batch, 2 phones, by process 77 on elsewhere." in said("status", NAME)
        let_it_be_sent(campaigns, 2, seconds=-1)
        shown = said("status", NAME)
        assert "In doubt: 1 batch, 2 phones." in shown
        assert "airflow-sms resolve dag/run/send --batch 2 --not-sent" in shown

    @pytest.mark.parametrize(
        ("key", "how"),
        [
            (
                CampaignKey("", TaskInstanceKey("dag", "run", "send", 3)),
                "clear task send of DAG dag, run run, map index 3",
            ),
            (CampaignKey("", campaign_key="sale"), "call send_group again with campaign_key='sale'"),
            (CampaignKey("", campaign_key="airflow-sms send 00"), "repeat the `airflow-sms send` command"),
        ],
        ids=["mapped task", "hook", "command line"],
    )
    def test_how_to_carry_on(self, campaigns: Campaigns, said: Said, key: CampaignKey, how: str) -> None:
        fail(campaigns, NO_MONEY, key=key)
        assert how in said("status", key.name)

    def test_nothing_is_known_of_it(self, campaigns: Campaigns, said: Said) -> None:
        shown = said("status", "nobody/knows/it", status=Exit.USAGE)
        assert "error: CAMPAIGN: the ledger knows no campaign 'nobody/knows/it'; `airflow-sms campaigns`" in shown

    def test_several_of_one_name_are_told_apart_by_their_ids(self, campaigns: Campaigns, said: Said) -> None:
        for namespace in ("", "staging"):
            campaigns.run(Platform(), key=CampaignKey(namespace, campaign_key="sale"))
        lines = said("status", "sale", status=Exit.USAGE).strip().splitlines()
        assert lines[0] == "error: CAMPAIGN: 2 campaigns are called 'sale'; give the id of the one:"
        first, second = dict.fromkeys(batch.campaign_id for batch in campaigns.batches())
        assert lines[1].startswith(f"  {first}: without a namespace, planned 20")
        assert lines[2].startswith(f"  {second}: namespace 'staging', planned 20")
        assert "namespace staging" in said("status", str(second))
        assert "error" in said("resolve", "sale", "--batch", "1", "--undo", status=Exit.USAGE)

    def test_a_half_plan(self, campaigns: Campaigns, said: Said) -> None:
        key = CampaignKey("", campaign_key="sale")
        order = make_order(ACCOUNT, TEXT, policy=Policy())
        Plans(campaigns.ledger, ELSEWHERE).draft(key, order.terms)
        assert "Planning: process 77 on elsewhere has begun" in said("status", "sale")
        with campaigns.ledger.writing() as connection:
            connection.execute(update(campaign_table).values(lease_until=campaign_table.c.created_at))
        assert "A half plan that was given up." in said("status", "sale")

    def test_a_try_that_ended_before_it_had_a_plan(self, campaigns: Campaigns, said: Said) -> None:
        with pytest.raises(errors.PhonesError):
            campaigns.run(Platform(), ["x"])
        assert json.loads(said("campaigns", "--output", "json"))[0]["needs"] == ""
        with campaigns.ledger.writing() as connection:
            connection.execute(update(campaign_table).values(lease_until=campaign_table.c.created_at))
        assert json.loads(said("campaigns", "--output", "json"))[0]["needs"] == "no plan"
        assert "No plan: a try has begun and ended before there was one." in said("status", NAME)

    def test_no_phone_and_no_text_is_shown(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, LOST, NO_NUMBER, phones=[*PHONES, PHONES[0], "13800130001x"])
        push(campaigns, PHONES[2], "T77")
        shown = "".join(
            said(*arguments)
            for arguments in (
                ("campaigns",),
                ("campaigns", "--output", "json"),
                ("status", NAME),
                ("status", NAME, "--output", "json"),
                ("resolve", NAME, "--batch", "2", "--sent"),
            )
        )
        assert "1380013" not in shown
        assert "您好" not in shown


class TestResolve:
    def test_sent_with_its_task_id_and_what_to_do_next(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, LOST)
        shown = said("resolve", NAME, "--batch", "2", "--sent", "T77")
        assert shown.startswith(
            f"Batch 2 of campaign {NAME} is accepted (taskId T77) now. Phones: 10 accepted, 0 refused, 0 in doubt"
        )
        assert "Nothing is left to send. To end it well, clear task send of DAG dag, run run." in shown
        again = Platform()
        assert campaigns.run(again).task_ids == ("T1", "T3", "T4", "T5", "T77")
        assert again.requests == []

    def test_sent_though_nobody_knows_as_what(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, LOST)
        assert "is accepted (taskId unknown) now" in said("resolve", NAME, "--batch", "2", "--sent")
        assert campaigns.run(Platform()).accepted == 10

    def test_not_sent_and_the_next_try_sends_it(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, LOST)
        shown = said("resolve", NAME, "--batch", "2", "--not-sent")
        assert f"Batch 2 of campaign {NAME} is planned now." in shown
        assert "To send them, clear task send of DAG dag, run run (or let Airflow retry it)." in shown
        again = Platform()
        assert campaigns.run(again).accepted == 10
        assert again.requests == [tuple(PHONES[2:4])]

    def test_not_sent_where_the_process_may_only_stand_still(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, LOST)
        campaigns.change_batches(batch_table.c.number == 2, refusal="OwnerGone", owner="worker-7 boot ns 4321 77")
        shown = said("resolve", NAME, "--batch", "2", "--not-sent")
        assert f"Batch 2 of campaign {NAME} is planned now." in shown
        assert "(process 4321 on worker-7) is not known to have ended: see that it is gone" in shown

    def test_a_task_id_brings_its_receipts_and_undo_takes_them_away(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, LOST)
        receipt(campaigns.ledger, PHONES[2], "T77")
        look(campaigns.ledger)
        said("resolve", NAME, "--batch", "2", "--sent", "T77")
        assert "receipts: 1 delivered" in said("status", NAME)
        said("resolve", NAME, "--batch", "2", "--undo")
        assert "receipts: 0 delivered" in said("status", NAME)
        assert marks(campaigns.ledger) == ["unowned"]

    def test_undo(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, LOST)
        said("resolve", NAME, "--batch", "2", "--sent", "T77")
        shown = said("resolve", NAME, "--batch", "2", "--undo")
        assert "is in doubt now" in shown
        assert "airflow-sms resolve dag/run/send --batch 2 --not-sent" in shown

    def test_what_else_is_in_doubt_is_named(self, campaigns: Campaigns, said: Said) -> None:
        fail(campaigns, None, LOST, LOST)
        shown = said("resolve", NAME, "--batch", "2", "--sent")
        assert "airflow-sms resolve dag/run/send --batch 3 --not-sent" in shown

    @pytest.mark.parametrize("verdict", [(), ("--sent", "--undo"), ("--sent", "T1", "--not-sent")])
    def test_one_verdict_and_no_more(self, campaigns: Campaigns, said: Said, verdict: tuple[str, ...]) -> None:
        shown = said("resolve", NAME, "--batch", "2", *verdict, status=Exit.USAGE)
        assert "error: resolve: give one of --sent [TASKID], --not-sent and --undo." in shown

    def test_what_can_not_be_settled_says_why(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform())
        shown = said("resolve", NAME, "--batch", "2", "--not-sent", status=Exit.USAGE)
        assert "error: Batch 2 is accepted by the platform itself (taskId T2)." in shown


class TestExport:
    @staticmethod
    def rows(text: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(text)))

    def test_every_item_is_in_one_row(self, campaigns: Campaigns, said: Said) -> None:
        items = [*PHONES, PHONES[0], "no phone"]
        fail(campaigns, None, LOST, Acceptance("T3", 1, 5), NO_MONEY, phones=items)
        rows = self.rows(said("export", NAME))
        assert [row["phone"] for row in rows] == items
        assert [row["position"] for row in rows] == [str(number) for number in range(1, 13)]
        assert [row["state"] for row in rows[::2]] == [
            *("accepted", "in_doubt", "accepted", "refused", "not_sent"),
            "excluded",
        ]
        assert [row["reason"] for row in rows[10:]] == ["duplicate", "malformed"]
        first, _, third, _, fifth, _, seventh = rows[:7]
        assert (first["batch"], first["taskid"], first["account"]) == ("1", "T1", "FAKE-APP-ID")
        assert first["settled_at"].endswith("+08:00")
        assert (third["taskid"], third["reason"]) == ("", "AnswerLostError")
        assert fifth["message"] == "the platform counts 1 of 2"
        assert seventh["reason"] == "BalanceTooLowError"
        assert "余额不足" in seventh["message"]

    def test_what_receipts_say_of_each_phone(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform(), [*PHONES, "x"])
        hear_of_each_kind(campaigns)
        names = ("outcome", "code", "cause", "receivetime", "contradicted")
        rows = [tuple(row[name] for name in names) for row in self.rows(said("export", NAME))]
        time = "2030-01-31 12:00:00"
        assert rows == [
            ("delivered", "DELIVRD", "", time, "yes"),
            ("failed", "MK:0001", "dead_number", time, ""),
            ("failed", "MN:0001", "dead_number", time, ""),
            ("failed", "'=X:9999", "other", time, ""),
            ("failed", "", "", time, ""),
            ("unknown", "ACCEPTD", "", time, ""),
            *[("", "", "", "", "")] * 5,
        ]
        with campaigns.ledger.writing() as connection:
            connection.execute(delete(receipt_table))
        assert [row["outcome"] for row in self.rows(said("export", NAME))][:2] == ["delivered", "failed"]

    def test_a_new_file_that_nobody_else_may_read(self, campaigns: Campaigns, said: Said, tmp_path: Path) -> None:
        campaigns.run(Platform())
        path = tmp_path / "out.csv"
        shown = said("export", NAME, "--file", str(path))
        assert shown == f"{path}: written.\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert [row["phone"] for row in self.rows(path.read_text("utf-8"))] == PHONES

    def test_nothing_is_overwritten(self, campaigns: Campaigns, said: Said, tmp_path: Path) -> None:
        campaigns.run(Platform())
        path = tmp_path / "out.csv"
        path.write_text("mine")
        assert "is there already, and is not overwritten" in said(
            "export", NAME, "--file", str(path), status=Exit.USAGE
        )
        assert path.read_text() == "mine"
        assert "can not be made" in said("export", NAME, "--file", "/no/such/folder/x", status=Exit.USAGE)

    def test_half_a_file_does_not_stay(
        self, campaigns: Campaigns, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow_provider_sms.ledger import handed_in
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError

        def broken(*arguments: object) -> Any:
            yield []
            raise LedgerUnreachableError("The ledger is away.")

        campaigns.run(Platform())
        monkeypatch.setattr(handed_in, "items", broken)
        path = tmp_path / "out.csv"
        assert "error: The ledger is away." in said("export", NAME, "--file", str(path), status=Exit.USAGE)
        assert not path.exists()

    @pytest.mark.parametrize("formula", ["=1+1", "+cmd", "-2", "@SUM(A1)", " =1"])
    def test_a_spreadsheet_finds_no_formula_in_it(self, campaigns: Campaigns, said: Said, formula: str) -> None:
        campaigns.run(Platform(), [*PHONES, formula])
        assert self.rows(said("export", NAME))[-1]["phone"] == f"'{formula}"

    def test_what_went_to_another_instance_of_a_mapped_task(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform(), PHONES[:3], map_index=0)
        campaigns.run(Platform(), PHONES[2:5], map_index=1)
        rows = self.rows(said("export", "dag/run/send/1"))
        assert [(row["phone"], row["state"], row["reason"]) for row in rows] == [
            (PHONES[2], "excluded", "in another instance"),
            (PHONES[3], "accepted", ""),
            (PHONES[4], "accepted", ""),
        ]

    def test_a_reader_that_has_read_enough(self, campaigns: Campaigns, tmp_path: Path) -> None:
        campaigns.run(Platform(), [f"138{number:08d}" for number in range(30_000)], batch_size=10_000)
        output, errors = tmp_path / "pipe", tmp_path / "errors"
        os.mkfifo(output)
        with (
            subprocess.Popen(["head", "-1", output], stdout=subprocess.PIPE, text=True) as reader,
            Program("airflow_provider_sms", ("export", NAME), os.environ, output, errors) as export,
        ):
            assert reader.communicate(timeout=60)[0] == (
                "position,phone,state,reason,batch,taskid,account,settled_at,message,"
                "outcome,code,cause,receivetime,contradicted\n"
            )
            assert export.wait(60) == Exit.DONE
        assert "Traceback" not in errors.read_text()
        assert "BrokenPipe" not in errors.read_text()


def test_a_plan_without_a_batch_of_its_own_is_not_sent(campaigns: Campaigns, said: Said) -> None:
    """A plan that is stored, and of which nothing has left."""
    order = make_order(ACCOUNT, TEXT, policy=Policy())
    key = CampaignKey("", campaign_key="sale")
    Planner(campaigns.ledger, key, order, lambda: [list(PHONES)], campaigns.log, Policy()).plan()
    assert {row["state"] for row in TestExport.rows(said("export", "sale"))} == {"not_sent"}
    assert "Left over: 5 batches, 10 phones, not sent yet." in said("status", "sale")
