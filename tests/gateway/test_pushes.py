"""Reading what the platform pushes: whatever can be told from rubbish is read, and nothing of it is lost."""

from __future__ import annotations

import json
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sms.gateway.pushes import (
    LONGEST_MOBILE,
    LONGEST_TASKID,
    MOST_FIELDS,
    PushError,
    Receipt,
    Reply,
    charset_of,
    fields_of,
    read_either,
    read_receipt,
    read_reply,
)

RECEIPT = {
    "mobile": "1508092****",
    "taskid": "123",
    "status": "1",
    "code": "MA:0001",
    "receivetime": "2019-07-23 17:00:00",
}
REPLY = {"mobile": "1508092****", "taskid": "123", "content": "收到", "receivetime": "2019-07-23 17:00:00"}


def form(fields: object, encoding: str = "utf-8") -> bytes:
    return urlencode(fields, encoding=encoding).encode()


class TestTheForm:
    def test_the_documents_samples_are_read(self) -> None:
        assert read_either(fields_of(form(RECEIPT))) == Receipt(**RECEIPT)
        assert read_either(fields_of(form(REPLY))) == Reply(**REPLY)

    @given(st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=20))
    def test_every_form_is_taken_apart_as_it_was_put_together(self, pairs: list[tuple[str, str]]) -> None:
        pairs = [(name, value) for name, value in pairs if name.strip()]
        body = "&".join(
            f"{quote_plus(name, errors='surrogatepass')}={quote_plus(value, errors='surrogatepass')}"
            for name, value in pairs
        ).encode()
        values = [value for _, value in fields_of(body)] if body else []
        expected = [value.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace") for _, value in pairs]
        assert values == expected

    @given(st.binary(max_size=300))
    def test_no_bytes_are_too_strange(self, body: bytes) -> None:
        for reader in (read_either, read_receipt, read_reply):
            try:
                push = reader(fields_of(body))
            except PushError:
                continue
            assert 1 <= len(push.mobile) <= LONGEST_MOBILE
            assert len(push.taskid) <= LONGEST_TASKID

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            (b"code=MA:0001", "MA:0001"),
            (b"code=MA%3A0001", "MA:0001"),
            (b"code=MA%3a0001", "MA:0001"),
            (b"code=MA%253A0001", "MA%3A0001"),
            (b"code=a+b%2Bc", "a b+c"),
            (b"code=100%", "100%"),
            (b"code=%%3A", "%:"),
            (b"code==", "="),
        ],
    )
    def test_escapes_are_resolved_once(self, written: bytes, read: str) -> None:
        assert fields_of(written) == [("code", read)]

    def test_names_in_capitals_are_the_same_names(self) -> None:
        assert read_receipt(fields_of(b"Mobile=1&taskId=2&STATUS=1")).taskid == "2"

    def test_blanks_around_what_a_push_is_found_by_are_none_of_it(self) -> None:
        receipt = read_receipt([("mobile", " 1 "), ("taskid", "2\n"), ("status", "1 "), ("code", "")])
        assert (receipt.mobile, receipt.taskid, receipt.status) == ("1", "2", "1")

    def test_a_reply_is_kept_with_its_blanks_and_line_breaks(self) -> None:
        assert read_reply([("mobile", "1"), ("content", " a\r\nb ")]).content == " a\r\nb "

    def test_too_many_fields_are_no_push(self) -> None:
        assert len(fields_of(b"a=b&" * (MOST_FIELDS - 1) + b"a=b")) == MOST_FIELDS
        with pytest.raises(PushError, match="more than 200 fields"):
            fields_of(b"a=b&" * MOST_FIELDS)


class TestCharsets:
    @pytest.mark.parametrize("charset", ["utf-8", "UTF8", "GBK", "gb2312", "gb18030", "big5"])
    def test_the_one_that_is_named_is_read(self, charset: str) -> None:
        codec = charset_of(f'application/x-www-form-urlencoded; Charset="{charset}"')
        assert read_reply(fields_of(form({"mobile": "1", "content": "收到"}, charset), codec)).content == "收到"

    @pytest.mark.parametrize("content_type", ["", "x", "x;charset=", "x;charset=klingon", "x;charset=idna;q=1", "x;y"])
    def test_another_one_is_taken_for_utf_8(self, content_type: str) -> None:
        assert charset_of(content_type) == "utf-8"

    def test_what_it_does_not_have_is_kept_as_bytes(self) -> None:
        assert fields_of(b"content=%CA%D5%B5%BD") == [("content", r"\xca\u0575\xbd".replace(r"\u0575", "յ"))]
        assert fields_of(b"content=%ed%a0%80") == [("content", r"\xed\xa0\x80")]

    def test_an_emoji_stays_one(self) -> None:
        assert read_reply(fields_of(form({"mobile": "1", "content": "👍"}))).content == "👍"


class TestWhatIsNoPush:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({}, "neither status, code nor content"),
            ({"mobile": "1"}, "neither status, code nor content"),
            ({"taskid": "1", "status": "1"}, "no mobile"),
            ({"mobile": " ", "taskid": "1", "status": "1"}, "no mobile"),
            ({"mobile": "1", "status": "1"}, "no taskid"),
            ({"content": "x"}, "no mobile"),
            ({"mobile": "1" * 65, "content": "x"}, "a mobile of more than 64 characters"),
            ({"mobile": "1", "taskid": "1" * 101, "code": "x"}, "a taskid of more than 100 characters"),
            ({"mobile": "1", "taskid": "\0" * 20, "code": "x"}, "a taskid of more than 100 characters"),
        ],
    )
    def test_it_is_said_in_short_why(self, fields: dict[str, str], reason: str) -> None:
        with pytest.raises(PushError) as caught:
            read_either(list(fields.items()))
        assert caught.value.reason == reason

    def test_an_address_of_its_own_takes_nothing_else(self) -> None:
        with pytest.raises(PushError, match="neither status nor code"):
            read_receipt(list(REPLY.items()))
        with pytest.raises(PushError, match="no content"):
            read_reply(list(RECEIPT.items()))


class TestWhatTellsThemApart:
    def test_a_status_or_a_code_makes_a_receipt_whatever_else_there_is(self) -> None:
        assert isinstance(read_either([*RECEIPT.items(), ("content", "x")]), Receipt)
        assert isinstance(read_either([("mobile", "1"), ("taskid", "2"), ("code", "x")]), Receipt)

    def test_an_empty_reply_is_one(self) -> None:
        assert read_either([("mobile", "1"), ("content", ""), ("status", "")]) == Reply(
            "1", "", "", "", json.dumps({"status": ""})
        )

    def test_an_unknown_status_is_read(self) -> None:
        assert read_either([("mobile", "1"), ("taskid", "2"), ("status", "DELIVERED?")]).status == "DELIVERED?"


class TestExtraFields:
    def test_are_kept(self) -> None:
        receipt = read_receipt([*RECEIPT.items(), ("spId", "7"), ("content", "x")])
        assert json.loads(receipt.extra) == {"spId": "7", "content": "x"}

    def test_of_a_name_that_comes_twice_the_first_counts_and_the_others_are_kept(self) -> None:
        receipt = read_receipt([*RECEIPT.items(), ("status", "0"), ("status", "2"), ("x", "1")])
        assert receipt.status == "1"
        assert json.loads(receipt.extra) == {"status": ["0", "2"], "x": "1"}

    def test_are_bounded(self) -> None:
        receipt = read_receipt([*RECEIPT.items(), *((f"name{number}" * 100, "值" * 5000) for number in range(100))])
        kept = json.loads(receipt.extra)
        assert len(kept) <= 21
        assert kept["…"] == 80
        assert len(receipt.extra) < 8000

    def test_are_json_that_every_database_takes(self) -> None:
        receipt = read_receipt([*RECEIPT.items(), ("x", "\0\ud83d")])
        assert receipt.extra.isprintable()
        assert json.loads(receipt.extra) == {"x": "\0\ud83d"}


def test_no_repr_shows_a_phone_or_a_text() -> None:
    shown = repr(Receipt(**RECEIPT)) + repr(Reply(**REPLY))
    assert "1508092" not in shown
    assert "收到" not in shown
