"""Personal texts: each phone its own, checked whole before anything is planned, with the promises of every campaign."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_provider_sms import messages as message_sources
from airflow_provider_sms import personal
from airflow_provider_sms.gateway import errors
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.gateway.errors import MessagesError, MessagesSourceError, PhonesError, TextError
from airflow_provider_sms.gateway.phones import Sieve
from airflow_provider_sms.ledger import opt_outs, reports, upkeep
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import PlanChangedError
from airflow_provider_sms.ledger.keys import CampaignKey, text_hash
from airflow_provider_sms.ledger.schema import batch_table, campaign_table, recipient_table, text_table
from airflow_provider_sms.messages import MessageFile, MessageQuery
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.personal import Messages, Row, read_form
from airflow_provider_sms.planning import Planner, Try, begin
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.sending import Sender
from airflow_provider_sms.sources import choose, of_messages
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.fixtures import Database, sqlite
from tests.support.simulator import Simulator

LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
NO_MONEY = errors.BalanceTooLowError("The platform refused: 余额不足.")
BAD_PHONE = errors.PhoneFormatError("The platform refused: 手机号码格式不正确.")
TEMPLATE = "【云通信】{name}您好,本月账单{amount}元。"
LONG = "【云通信】" + "长" * 70


def bills(count: int = 10, names: int = 10) -> list[dict[str, Any]]:
    return [{"phone": PHONES[at], "name": f"客户{at % names}", "amount": 100} for at in range(count)]


def text_of(row: dict[str, Any]) -> str:
    return f"【云通信】{row['name']}您好,本月账单{row['amount']}元。"


def texts(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {row["phone"]: [text_of(row)] for row in rows}


def rows_of(ledger: Ledger, table: Any) -> list[Any]:
    with ledger.reading() as connection:
        return list(connection.execute(select(table)).all())


def refusal(campaigns: Campaigns, messages: object, template: str | None = TEMPLATE) -> str:
    """What is said of messages that can not be sent; nothing is planned of them."""
    platform = Platform()
    with pytest.raises(MessagesError) as caught:
        campaigns.run(platform, messages=messages, template=template)
    assert platform.requests == []
    assert rows_of(campaigns.ledger, recipient_table) == rows_of(campaigns.ledger, text_table) == []
    return str(caught.value)


class TestOnEveryDatabase:
    @pytest.fixture
    def campaigns(self, any_ledger: Ledger) -> Campaigns:
        return Campaigns(any_ledger)

    def test_each_phone_gets_its_own_text_and_equal_ones_share_a_request(self, campaigns: Campaigns) -> None:
        rows = [*bills(names=3), {"phone": "x", "name": "", "amount": None}, bills()[0]]
        platform = Platform()
        report = campaigns.run(platform, messages=rows, template=TEMPLATE, batch_size=3)
        assert platform.texts == texts(bills(names=3))
        at = [PHONES[number - 1] for number in (1, 4, 7, 10, 2, 5, 8, 3, 6, 9)]
        assert platform.requests == [tuple(at[:3]), tuple(at[3:4]), tuple(at[4:7]), tuple(at[7:])]
        assert report.excluded == {"malformed": 1, "duplicate": 1}
        assert (report.accepted, report.segments, report.points, report.is_personal) == (10, 1, 10, True)
        hashes = {row.content_hash for row in rows_of(campaigns.ledger, text_table)}
        assert hashes == {text_hash(text_of(row)) for row in bills(names=3)}
        assert [row.content for row in rows_of(campaigns.ledger, campaign_table)] == [None]

    def test_a_try_that_is_interrupted_is_carried_on_with(self, campaigns: Campaigns) -> None:
        first = Platform(None, None, NO_MONEY)
        with pytest.raises(CampaignError):
            campaigns.run(first, messages=bills(), template=TEMPLATE)
        again = Platform()
        report = campaigns.run(again, messages=bills(), template=TEMPLATE, attempt=Try(2))
        assert report.accepted == 10
        assert {**first.texts, **again.texts} == texts(bills())
        assert first.texts.keys().isdisjoint(again.texts)

    def test_several_at_once_send_each_text_once(self, campaigns: Campaigns) -> None:
        rows = [{"phone": f"138{number:08d}", "name": f"客户{number}", "amount": 1} for number in range(40)]
        platform = Platform()
        campaigns.run(platform, messages=rows, template=TEMPLATE, max_in_flight=8)
        assert platform.texts == texts(rows)

    def test_instances_of_a_mapped_task_text_a_phone_the_same_once(self, campaigns: Campaigns) -> None:
        platform = Platform()
        for index, rows in enumerate([bills(3), [*bills(2), {**bills(3)[2], "amount": 7}]]):
            campaigns.run(platform, messages=rows, template=TEMPLATE, map_index=index)
        assert platform.texts == {
            **texts(bills(2)),
            PHONES[2]: [text_of(bills(3)[2]), "【云通信】客户2您好,本月账单7元。"],
        }
        assert list(campaigns.reasons().values()).count("in another instance") == 2

    def test_what_is_stored_is_what_came_and_a_long_text_costs_more(self, campaigns: Campaigns) -> None:
        odd = "【云通信】𠮷'\"\\ %s\n{x} {{ y }}\x7e"
        platform = Platform()
        report = campaigns.run(platform, messages=[(PHONES[0], odd), (PHONES[1], LONG), (PHONES[2], LONG)])
        assert platform.texts == {PHONES[0]: [odd], PHONES[1]: [LONG], PHONES[2]: [LONG]}
        assert (report.segments, report.points) == (2, 5)

    def test_a_changed_text_is_found_and_phones_that_come_and_go_are_reported(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(None, NO_MONEY), messages=bills(5, names=1), template=TEMPLATE)
        moved = [*bills(4, names=1), {**bills()[9], "name": "客户0"}]
        assert campaigns.run(Platform(), messages=moved, template=TEMPLATE).excluded == {"after plan": 1}
        assert "1 of the phones that were planned are no longer handed in" in caplog.text
        changed = [*bills(3, names=1), {**bills()[3], "amount": 1}, {**bills()[4], "amount": 2}]
        with pytest.raises(PlanChangedError, match="another content for 2 of its phones"):
            campaigns.run(Platform(), messages=changed, template=TEMPLATE)
        assert campaigns.run(Platform(), messages=changed, template=TEMPLATE, on_changed="resume").accepted == 5

    def test_a_plan_of_which_nothing_has_left_is_replaced_without_a_trace(self, campaigns: Campaigns) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(*[errors.UnsentError("Away.")] * 4), messages=bills(), template=TEMPLATE)
        changed = [{**row, "amount": 7} for row in bills(2)]
        platform = Platform()
        campaigns.run(platform, messages=changed, template=TEMPLATE)
        assert platform.texts == texts(changed)
        assert len(rows_of(campaigns.ledger, text_table)) == len(rows_of(campaigns.ledger, batch_table)) == 2

    def test_a_purge_takes_the_texts_and_leaves_the_counts(self, campaigns: Campaigns) -> None:
        before = campaigns.run(Platform(), messages=[(PHONES[0], "【云通信】甲"), (PHONES[1], LONG)])
        later = datetime.now(UTC) + timedelta(days=1)
        assert upkeep.purge(campaigns.ledger, later, lambda removed: None).phones == 2
        assert rows_of(campaigns.ledger, text_table) == []
        (campaign,) = rows_of(campaigns.ledger, campaign_table)
        assert reports.report(campaigns.ledger, campaign.id) == before

    def test_over_the_wire_each_phone_once_whatever_dies(self, any_ledger: Ledger, simulator: Simulator) -> None:
        account = Account(simulator.app_id, simulator.app_key, simulator.base_url, batch_size=2)
        key, policy = CampaignKey("", campaign_key="bills"), Policy(max_in_flight=3)
        source = of_messages(bills(names=7), TEMPLATE, None)
        simulator.fault("cut_after", on="send")
        log = logging.getLogger(__name__)
        with SmsClient(account) as client:
            for attempt in (1, 2):
                begin(any_ledger, key, Try(attempt))
                order = make_order(account, source.content, policy=policy)
                planner = Planner(any_ledger, key, order, source.read, log, policy, source.form)
                with pytest.raises(CampaignError) as caught:
                    Sender(any_ledger, client, planner.plan(), policy, log).send()
                assert caught.value.report.in_doubt >= 1
        heard = {phone: batch["content"] for batch in simulator.accepted() for phone in batch["phones"]}
        assert heard == {row["phone"]: text_of(row) for row in bills(names=7)}
        assert sum(len(batch["phones"]) for batch in simulator.accepted()) == 10


class TestSending:
    def test_a_request_that_is_halved_keeps_its_text(self, campaigns: Campaigns) -> None:
        platform = Platform(None, BAD_PHONE, BAD_PHONE)
        report = campaigns.run(platform, messages=bills(4, names=2), template=TEMPLATE)
        assert (report.accepted, report.refused, report.points) == (3, 1, 3)
        assert platform.texts.items() <= texts(bills(4, names=2)).items()

    def test_an_answer_that_is_lost_is_in_doubt_and_not_repeated(self, campaigns: Campaigns) -> None:
        platform = Platform(None, LOST)
        for _ in range(2):
            with pytest.raises(CampaignError) as caught:
                campaigns.run(platform, messages=bills(4), template=TEMPLATE)
            assert (caught.value.report.in_doubt, caught.value.report.accepted) == (1, 3)
        assert sorted(platform.requests) == [(phone,) for phone in PHONES[:4]]

    def test_who_has_opted_out_gets_none(self, campaigns: Campaigns) -> None:
        with campaigns.ledger.writing() as connection:
            opt_outs.add_all(connection, campaigns.ledger, PHONES[:2], source="command")
        platform = Platform()
        report = campaigns.run(platform, messages=bills(4), template=TEMPLATE, category="marketing")
        assert platform.texts.keys() == set(PHONES[2:4])
        assert report.excluded == {"opted out": 2}

    def test_one_text_for_all_and_personal_ones_are_not_the_same_plan(self, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:2], "【云通信】甲")
        with pytest.raises(PlanChangedError, match="another content;"):
            campaigns.run(Platform(), messages=[(PHONES[0], "【云通信】甲")])

    def test_rows_that_can_not_be_read_any_more_do_not_stop_what_is_planned(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(None, NO_MONEY), messages=bills(3), template=TEMPLATE)
        assert campaigns.run(Platform(), messages=[{"phone": PHONES[0]}], template=TEMPLATE).accepted == 3
        assert "goes on with its stored phones: messages: 'name' is missing" in caplog.text


class TestWhatIsSaidBeforeAnythingIsSent:
    def test_missing_and_empty_fields_by_name_count_and_row(self, campaigns: Campaigns) -> None:
        rows = [
            *bills(2),
            {"phone": PHONES[2], "name": "王芳"},
            {"phone": PHONES[3], "name": " ", "amount": None},
            {"phone": PHONES[4], "name": None, "amount": 1},
            *({"phone": PHONES[5], "name": ["王"]} for _ in range(7)),
        ]
        said = refusal(campaigns, rows)
        assert said == (
            "messages: 'amount' is missing in 8 rows (3, 6, 7, 8, 9, …); 'name' is empty in 2 rows (4, 5); 'amount' is "
            "empty in 1 row (4); 'name' is no text, number or date in 7 rows (6, 7, 8, 9, 10, …). Nothing was sent. "
            "Correct the rows (the first is 1, a header is not counted), or leave them out where they come from."
        )

    def test_a_signature_or_an_emoji_in_a_field_without_what_is_in_it(self, campaigns: Campaigns) -> None:
        rows = bills(5)
        rows[1]["name"] = "【银行】王芳"
        rows[2]["name"] = "王芳😀"
        rows[3]["name"] = "长" * 500
        said = refusal(campaigns, rows)
        assert "'name' holds a bracket 【 or 】, which is for the signature alone in 1 row (2)" in said
        assert "the text can not be sent (the emoji 😀 at character 8; the platform takes none, remove it)" in said
        assert "in 2 rows (3, 4)" in said
        assert "王芳" not in said

    def test_values_are_put_in_once_and_never_rendered(self, campaigns: Campaigns) -> None:
        row = {"phone": PHONES[0], "name": "{amount}{{ ds }}{% raw %}%s\r\n", "amount": "{name}"}
        platform = Platform()
        campaigns.run(platform, messages=[row], template=TEMPLATE)
        assert platform.texts == {PHONES[0]: ["【云通信】{amount}{{ ds }}{% raw %}%s您好,本月账单{name}元。"]}

    def test_a_phone_with_two_texts(self, campaigns: Campaigns) -> None:
        rows = [*bills(3), {**bills()[0], "amount": 7}, {**bills()[0], "amount": 8}, bills()[1]]
        said = refusal(campaigns, rows)
        assert said.startswith(
            "messages: 1 phone has more than one text: a phone that was there before is there with another text in 2 "
            "rows (4, 5). A phone gets one text of a campaign; nothing was sent."
        )

    @pytest.mark.parametrize(
        ("messages", "template", "said"),
        [
            ([(PHONES[0], "")], None, "'content' is empty in 1 row (1)"),
            ([{"phone": PHONES[0]}], None, "'content' is missing in 1 row (1)"),
            ([(PHONES[0], 12)], None, "'content' is no text, number or date in 1 row (1)"),
            ([(PHONES[0], "您好")], None, "the text can not be sent (no signature; begin the text with"),
            ([(PHONES[0], "【云通信】您好【银行】")], None, "the text can not be sent (more than one signature"),
            ([(PHONES[0], "【云通信】您好")], TEMPLATE, "'name' is missing in 1 row (1); 'amount' is missing"),
            ([{"mobile": PHONES[0]}], None, "messages: row 1 has no field 'phone'; give each row its phone."),
            ([PHONES[4]], None, "messages: row 1 is a str; expected pairs of phone and text, or rows such as"),
            ([(PHONES[4], "a", "b")], None, "messages: row 1 is a tuple of 3; expected pairs"),
            (PHONES[4], None, "messages: expected pairs of phone and text, or rows such as"),
            ({PHONES[4]: "a"}, None, "MessageFile or a MessageQuery; got dict."),
            (None, None, "got NoneType."),
        ],
    )
    def test_what_are_no_messages(
        self, campaigns: Campaigns, messages: object, template: str | None, said: str
    ) -> None:
        if messages is None:
            with pytest.raises(MessagesError) as caught:
                of_messages(None, None, None).read()
            assert said in str(caught.value)
        else:
            text = refusal(campaigns, messages, template)
            assert said in text
            assert PHONES[4] not in text

    def test_nobody_to_send_to(self, campaigns: Campaigns) -> None:
        with pytest.raises(PhonesError, match="phones: there is none"):
            campaigns.run(Platform(), messages=[], template=TEMPLATE)
        with pytest.raises(PhonesError, match=r"none of 1 is a mainland mobile: 1 malformed \(item 1: an empty text"):
            campaigns.run(Platform(), messages=[{"phone": ""}], template=TEMPLATE)

    @pytest.mark.parametrize(
        ("template", "said"),
        [
            ("您好{name}", "content: no signature"),
            ("【云通信】{name}😀", "content: the emoji"),
            ("【云{name}】您好", "content: a place for a field stands inside 【 】; write the signature out"),
            ("【云通信】{name}" + "长" * 500, "content: 506 characters with the signature"),
        ],
    )
    def test_a_template_that_no_row_can_save(self, template: str, said: str) -> None:
        with pytest.raises(TextError) as caught:
            read_form(template, None)
        assert str(caught.value).startswith(said)

    def test_one_of_phones_and_messages(self) -> None:
        for phones, rows in ((None, None), ([], [])):
            with pytest.raises(errors.InputError, match="phones, messages: hand in one of them"):
                choose(phones, "x", rows, None)


class TestSources:
    def read(self, source: object, *fields: str) -> list[tuple[object, dict[str, object]]]:
        chunks = message_sources.stream(source, fields)
        return [(row.phone, {name: row.fields[name] for name in fields}) for chunk in chunks for row in chunk]

    @pytest.fixture
    def csv(self, tmp_path: Path) -> Path:
        return tmp_path / "bills.csv"

    def test_a_csv(self, csv: Path) -> None:
        csv.write_bytes('手机;名;amount\r\n13800130001;"王;芳";12\r\n\r\n13800130002;李\r\n'.encode("gb18030"))
        file = MessageFile(csv, phone_column="手机", encoding="gb18030")
        assert str(file) == f"file {csv}, column 手机"
        assert self.read(file, "名") == [("13800130001", {"名": "王;芳"}), ("13800130002", {"名": "李"})]
        with pytest.raises(
            MessagesError, match=r"messages: .*bills.csv has no column 'nam'; its header row names: 手机"
        ):
            self.read(file, "nam")

    def test_a_row_of_a_csv_whose_cells_have_moved_is_refused(self, csv: Path) -> None:
        csv.write_text("phone,name,amount\n13800130001,王,芳,12\n")
        with pytest.raises(MessagesError, match=r"messages: .*bills.csv, line 2: more cells than the header row"):
            self.read(MessageFile(str(csv)), "name")

    def test_a_path_is_a_csv_and_a_file_that_is_not_there_may_come(self, csv: Path) -> None:
        with pytest.raises(MessagesSourceError, match=r"messages: there is no file .*bills.csv; look for it") as caught:
            self.read(csv, "name")
        assert caught.value.passes_by_itself
        csv.write_text("phone,content\n13800130001,【云通信】甲\n")
        assert self.read(csv, "content") == [("13800130001", {"content": "【云通信】甲"})]

    def test_a_query(self, database: Database, tmp_path: Path) -> None:
        database(sqlite(tmp_path / "x.db"))
        query = MessageQuery(
            "SELECT 13800130001 AS mobile, '王芳' AS name, 1.5 AS amount", "warehouse", phone_column="mobile"
        )
        assert self.read(query, "name", "amount") == [(13800130001, {"name": "王芳", "amount": 1.5})]
        with pytest.raises(
            MessagesError, match=r"returns no column 'sum'; it returns: mobile, name, amount. Name each"
        ):
            self.read(query, "sum")
        twice = MessageQuery("SELECT 1 AS phone, 2 AS name, 3 AS name", "warehouse")
        with pytest.raises(MessagesError, match="the query on warehouse returns more than one column 'name'"):
            self.read(twice, "name")
        with pytest.raises(MessagesError, match="messages: the query on warehouse fails: "):
            self.read(MessageQuery("SELECT nothing", "warehouse"), "name")
        assert f"{query} {query!r}" == "query on warehouse <query on warehouse>"

    @pytest.mark.parametrize(
        ("messages", "shown"),
        [
            ([(PHONES[0], "x"), (PHONES[1], "y")], "2 messages, first 138****0001"),
            ([{"phone": PHONES[1], "name": "王芳"}], "1 message, first 138****0002"),
            ([{"name": "王芳"}], "messages: row 1 has no field 'phone'; give each row its phone."),
            ([], "0 messages"),
            (MessageFile("s3://a:b@bucket/{{ ds }}.csv", "手机"), "file s3://bucket/{{ ds }}.csv, column 手机"),
            (Path("bills.csv"), "file bills.csv, column phone"),
            (iter([]), "messages of a list_iterator"),
            ("王芳", "messages of a str"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_are_shown_in_a_few_words(self, messages: object, shown: str) -> None:
        assert message_sources.shown(messages) == shown


class TestMemory:
    def test_what_has_been_read_is_not_in_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def chunks() -> Iterator[list[Row]]:
            for start in range(0, 5_000, 250):
                yield [Row(f"138{n:08d}", {"x": f"{n} " + "长" * 400}) for n in range(start, start + 250)]

        monkeypatch.setattr(personal, "CHUNK", 250)
        messages, sieve = Messages(read_form("【云通信】{x}", None)), Sieve()
        tracemalloc.start()
        messages.read(chunks(), sieve)
        assert sum(len(portion.sifted.phones) for portion in messages.portions()) == 5_000
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        messages.close()
        # All texts take more than four megabytes; the phones are known by heart.
        assert most < 2_000_000
