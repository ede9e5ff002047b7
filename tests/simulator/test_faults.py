"""Every kind of fault, as a client meets it on the wire."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.parse
from typing import Any

import pytest
import requests

from airflow_provider_sms.simulator.faults import KINDS
from tests.simulator.client import (
    BALANCE,
    FORM,
    SEND,
    Told,
    balance,
    balance_fields,
    phone,
    phones,
    post,
    post_on,
    refusal,
    send,
    send_fields,
)
from tests.support.simulator import Simulator, wait_until

_LONG = 600.0


def posted(simulator: Simulator, timeout: float = 30) -> Told:
    return post(simulator, SEND, send_fields(simulator), timeout)


def accepted_count(simulator: Simulator) -> int:
    return len(simulator.accepted())


def test_every_kind_and_field_is_listed_as_pending(simulator: Simulator) -> None:
    for kind in KINDS:
        simulator.fault(kind, times=2, skip=1, on="send")
    listed = simulator.faults()
    assert [fault["kind"] for fault in listed] == list(KINDS)
    for fault in listed:
        assert set(fault) == {"kind", "on", "skip", "times", "phone", *KINDS[fault["kind"]].fields}
    simulator.clear_faults()
    assert simulator.faults() == []


def test_a_list_of_faults_is_taken_in_one_request(simulator: Simulator) -> None:
    status, shown = simulator.ask_page("POST", "faults", b'[{"kind": "html"}, {"kind": "empty", "times": null}]')
    assert status == 200
    assert [fault["kind"] for fault in shown] == ["html", "empty"]


def test_a_wrong_fault_is_a_400_with_a_sentence(simulator: Simulator) -> None:
    status, shown = simulator.ask_page("POST", "faults", b'{"kind": "explode"}')
    assert status == 400
    assert shown["error"].startswith("there is no fault kind 'explode'; the kinds are ")
    status, shown = simulator.ask_page("POST", "faults", b'{"kind": "slow", "sceonds": 1}')
    assert (status, "no field 'sceonds'" in shown["error"]) == (400, True)


def test_refuse_answers_any_message(simulator: Simulator) -> None:
    simulator.fault("refuse", message="余额不足", times=2)
    assert send(simulator) == balance(simulator) == refusal("余额不足")
    assert send(simulator)["message"] == "成功"


@pytest.mark.parametrize("accept", [False, True])
def test_unknown_reason_may_or_may_not_have_accepted(simulator: Simulator, accept: bool) -> None:
    simulator.fault("unknown_reason", accept=accept)
    assert send(simulator) == refusal("未知原因,请联系客服")
    assert accepted_count(simulator) == accept


@pytest.mark.parametrize(
    ("cut", "problem"), [("reset", ConnectionResetError), ("close", http.client.RemoteDisconnected)]
)
@pytest.mark.parametrize(("kind", "accepted"), [("cut_before", 0), ("cut_after", 1)])
def test_a_cut_connection_gives_no_answer(
    simulator: Simulator, kind: str, accepted: int, cut: str, problem: type[Exception]
) -> None:
    simulator.fault(kind, cut=cut)
    with pytest.raises(ConnectionError) as raised:
        posted(simulator)
    assert raised.type is problem
    assert accepted_count(simulator) == accepted
    assert all(batch["answered"] is False for batch in simulator.accepted())


def test_a_cut_is_a_reset_unless_said_otherwise(simulator: Simulator) -> None:
    simulator.fault("cut_after")
    with pytest.raises(ConnectionResetError):
        posted(simulator)


def has_been_closed(connection: http.client.HTTPConnection) -> bool:
    connection.sock.setblocking(False)
    try:
        return connection.sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    finally:
        connection.sock.setblocking(True)


def test_close_after_breaks_its_promise_to_keep_the_connection(simulator: Simulator) -> None:
    simulator.fault("close_after")
    connection = simulator.connection()
    told = post_on(connection, BALANCE, balance_fields(simulator))
    assert told.json["message"] == "成功"
    assert told.headers["Connection"] == "keep-alive"
    wait_until(lambda: has_been_closed(connection))
    with pytest.raises(ConnectionError):
        post_on(connection, BALANCE, balance_fields(simulator))
    connection.close()


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize("kind", ["slow", "stall_headers"])
def test_a_slow_answer_comes_late(simulator: Simulator, kind: str, accept: bool) -> None:
    simulator.fault(kind, seconds=0.3, accept=accept)
    before = time.monotonic()
    assert send(simulator)["message"] == ("成功" if accept else "未知原因,请联系客服")
    assert time.monotonic() - before >= 0.3
    assert [batch["answered"] for batch in simulator.accepted()] == ([True] if accept else [])


@pytest.mark.parametrize("kind", ["slow", "stall_headers", "trickle", "trickle_headers"])
def test_who_gives_up_waiting_was_accepted_and_not_answered(simulator: Simulator, kind: str) -> None:
    simulator.fault(kind, seconds=0.5)
    with pytest.raises(TimeoutError):
        posted(simulator, timeout=0.2)
    assert accepted_count(simulator) == 1
    wait_until(lambda: simulator.requests()["counters"]["send"] == 1)
    assert simulator.accepted()[0]["answered"] is False


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize("kind", ["trickle", "trickle_headers"])
def test_a_trickled_answer_never_pauses_long_but_takes_long(simulator: Simulator, kind: str, accept: bool) -> None:
    simulator.fault(kind, seconds=0.002, accept=accept)
    before = time.monotonic()
    told = post(simulator, SEND, send_fields(simulator), timeout=0.5)
    assert told.json["message"] == ("成功" if accept else "未知原因,请联系客服")
    assert time.monotonic() - before >= 0.002 * len(told.body)
    assert accepted_count(simulator) == accept


def open_socket(simulator: Simulator) -> socket.socket:
    parts = urllib.parse.urlsplit(simulator.base_url)
    opened = socket.create_connection((parts.hostname, parts.port), 5)
    body = urllib.parse.urlencode(balance_fields(simulator)).encode()
    head = f"POST {BALANCE} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    opened.sendall(head.encode() + body)
    return opened


def test_stalled_headers_stop_in_the_middle_of_a_line(simulator: Simulator) -> None:
    simulator.fault("stall_headers", seconds=_LONG)
    with open_socket(simulator) as opened:
        seen = opened.recv(65536)
    assert seen.startswith(b"HTTP/1.1 200 OK\r\n")
    assert seen.endswith(b"\r\nContent-Ty")


def test_trickled_headers_begin_with_a_single_byte_and_a_trickled_body_with_all_headers(
    simulator: Simulator,
) -> None:
    simulator.fault("trickle_headers", seconds=0.2)
    with open_socket(simulator) as opened:
        assert opened.recv(65536) == b"H"
    simulator.fault("trickle", seconds=_LONG)
    with open_socket(simulator) as opened:
        assert opened.recv(65536).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("status", [200, 201, 204, 301, 302, 304, 401, 403, 404, 408, 413, 429, 500, 502, 503, 599])
def test_any_status_can_be_answered(simulator: Simulator, status: int, accept: bool) -> None:
    simulator.fault("status", status=status, accept=accept)
    connection = simulator.connection()
    told = post_on(connection, SEND, send_fields(simulator))
    assert told.status == status
    assert (told.body == b"") == (status in (204, 304))
    assert "Location" not in told.headers
    assert accepted_count(simulator) == accept
    assert post_on(connection, BALANCE, balance_fields(simulator)).status == 200
    connection.close()


def test_a_redirect_carries_its_location(simulator: Simulator) -> None:
    simulator.fault("status", status=307, location=simulator.base_url + "/elsewhere")
    assert posted(simulator).headers["Location"] == simulator.base_url + "/elsewhere"


def test_a_status_accepts_only_when_told(simulator: Simulator) -> None:
    simulator.fault("status")
    assert posted(simulator).status == 500
    assert accepted_count(simulator) == 0


@pytest.mark.parametrize("accept", [False, True])
def test_html_comes_with_status_200(simulator: Simulator, accept: bool) -> None:
    simulator.fault("html", accept=accept)
    told = posted(simulator)
    assert (told.status, told.headers["Content-Type"]) == (200, "text/html;charset=UTF-8")
    assert told.body.startswith(b"<!DOCTYPE html>")
    assert accepted_count(simulator) == accept


@pytest.mark.parametrize("accept", [False, True])
def test_an_empty_answer(simulator: Simulator, accept: bool) -> None:
    simulator.fault("empty", accept=accept)
    told = posted(simulator)
    assert (told.status, told.body) == (200, b"")
    assert accepted_count(simulator) == accept
    assert all(batch["answered"] is False for batch in simulator.accepted())


@pytest.mark.parametrize("accept", [False, True])
def test_truncated_text_is_a_whole_http_answer_with_half_a_json(simulator: Simulator, accept: bool) -> None:
    simulator.fault("truncated", accept=accept)
    told = posted(simulator)
    assert told.body.startswith(b'{"returnStatus": ')
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|decode"):
        _ = told.json
    assert accepted_count(simulator) == accept


def test_truncated_bytes_end_before_the_promised_length(simulator: Simulator) -> None:
    simulator.fault("truncated", missing="bytes")
    with pytest.raises(http.client.IncompleteRead):
        posted(simulator)
    assert accepted_count(simulator) == 1


@pytest.mark.parametrize("accept", [False, True])
def test_success_without_a_task_id(simulator: Simulator, accept: bool) -> None:
    simulator.fault("no_task_id", accept=accept)
    told = send(simulator)
    assert (told["returnStatus"], told["message"], told["taskId"]) == ("1 ", "成功", None)
    assert accepted_count(simulator) == accept
    assert all(batch["answered"] is False for batch in simulator.accepted())


def test_partial_leaves_the_last_phones_out_and_charges_only_the_others(simulator: Simulator) -> None:
    simulator.settings(balance=100)
    simulator.fault("partial", fewer=2)
    told = send(simulator, phones(5))
    assert (told["successCounts"], told["remainPoint"]) == ("3", "97")
    assert simulator.accepted()[0]["phones"] == phones(3)
    assert send(simulator, [phone(4)])["message"] == "成功"


def test_partial_may_leave_out_all(simulator: Simulator) -> None:
    simulator.fault("partial", fewer=9)
    assert send(simulator, phones(2))["successCounts"] == "0"
    batch = simulator.accepted()[0]
    assert (batch["phones"], batch["points"]) == ([], 0)
    assert simulator.requests()["counters"]["phonesAccepted"] == 0


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize(
    ("declared", "content_type"), [(True, "application/json;charset=gbk"), (False, "application/json")]
)
def test_another_character_set(simulator: Simulator, declared: bool, content_type: str, accept: bool) -> None:
    simulator.fault("charset", declared=declared, accept=accept)
    told = posted(simulator)
    assert told.headers["Content-Type"] == content_type
    message = json.loads(told.body.decode("gbk"))["message"]
    assert message == ("成功" if accept else "未知原因,请联系客服")
    assert accepted_count(simulator) == accept


def test_any_character_set_can_be_asked_for(simulator: Simulator) -> None:
    simulator.fault("charset", charset="utf-16")
    assert json.loads(posted(simulator).body.decode("utf-16"))["message"] == "成功"


def test_a_big_answer_is_valid_json_and_many_blanks(simulator: Simulator) -> None:
    simulator.fault("big", size=3_000_000)
    told = posted(simulator)
    assert len(told.body) == 3_000_000
    assert told.json["message"] == "成功"
    assert "Content-Length" not in told.headers
    assert simulator.accepted()[0]["answered"] is True


def test_who_stops_reading_a_big_answer_does_not_break_anything(simulator: Simulator) -> None:
    simulator.fault("big", accept=False)
    with open_socket(simulator) as opened:
        opened.recv(1000)
    assert balance(simulator)["message"] == "成功"


@pytest.mark.parametrize("accept", [False, True])
def test_garbage_in_the_body(simulator: Simulator, accept: bool) -> None:
    simulator.fault("garbage", accept=accept)
    told = posted(simulator)
    assert told.status == 200
    with pytest.raises(UnicodeDecodeError):
        told.body.decode("utf-8")
    assert accepted_count(simulator) == accept


def test_garbage_instead_of_http(simulator: Simulator) -> None:
    simulator.fault("garbage", where="protocol")
    with pytest.raises(http.client.HTTPException):
        posted(simulator)


def test_a_phone_can_be_made_poisonous(simulator: Simulator) -> None:
    simulator.fault("refuse", message="该号码今日发送次数已达上限", phone=phone(2), times=None)
    assert send(simulator, [phone(1), phone(2)])["message"] == "该号码今日发送次数已达上限"
    assert send(simulator, [phone(1)])["message"] == "成功"
    assert send(simulator, [phone(2)])["message"] == "该号码今日发送次数已达上限"


def test_what_would_be_refused_anyway_is_not_accepted_by_a_fault(simulator: Simulator) -> None:
    simulator.settings(locked=True)
    simulator.fault("slow", seconds=0.0)
    assert send(simulator)["message"] == "您的账户已被锁定,请联系您的专属客服"
    assert accepted_count(simulator) == 0


def test_faults_work_for_the_balance_too(simulator: Simulator) -> None:
    for kind in ("cut_after", "cut_before"):
        simulator.fault(kind, on="balance")
        with pytest.raises(ConnectionError):
            balance(simulator)
    simulator.fault("no_task_id", on="balance")
    assert balance(simulator)["message"] == "成功"
    simulator.fault("partial", on="balance")
    assert balance(simulator)["message"] == "成功"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_after_any_fault_the_next_request_is_in_order(simulator: Simulator, kind: str) -> None:
    quick: dict[str, dict[str, Any]] = {
        name: {"seconds": 0.0} for name, what in KINDS.items() if "seconds" in what.fields
    }
    simulator.fault(kind, **quick.get(kind, {"size": 100_000} if kind == "big" else {}))
    session = requests.Session()
    session.trust_env = False
    try:
        session.post(simulator.base_url + SEND, data=send_fields(simulator), timeout=10)
    except requests.RequestException:
        assert kind in ("cut_before", "cut_after")
    session.close()
    assert simulator.requests()["requests"][0]["fault"] == kind
    assert send(simulator, [phone(9)])["message"] == "成功"
