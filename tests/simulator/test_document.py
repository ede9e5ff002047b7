"""The two interfaces as the document describes them, over HTTP."""

from __future__ import annotations

import datetime
import http.client
import json
import urllib.parse
from typing import Any

import pytest

from tests.simulator.client import (
    BALANCE,
    SEND,
    balance,
    balance_fields,
    phone,
    phones,
    post,
    post_on,
    raw,
    refusal,
    send,
    send_fields,
)
from tests.support.simulator import Simulator


def test_an_accepted_send_is_answered_as_in_the_sample(simulator: Simulator) -> None:
    simulator.settings(balance=243)
    told = post(simulator, SEND, send_fields(simulator, phones(2)))
    assert told.status == 200
    assert told.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert list(told.json.items())[:3] == [
        ("returnStatus", "1 "),
        ("message", "成功"),
        ("remainPoint", "241"),
    ]
    assert list(told.json)[3:] == ["taskId", "successCounts"]
    assert told.json["successCounts"] == "2"
    assert told.json["taskId"].isdigit()


def test_the_balance_is_answered_as_in_the_sample(simulator: Simulator) -> None:
    simulator.settings(balance=241)
    expected = {
        "returnStatus": "1 ",
        "message": "成功",
        "remainPoint": "241",
        "taskId": None,
        "successCounts": None,
    }
    assert balance(simulator) == expected
    assert list(balance(simulator)) == list(expected)


def test_chinese_goes_over_the_wire_as_utf_8_and_not_as_escapes(simulator: Simulator) -> None:
    assert "成功".encode() in post(simulator, BALANCE, balance_fields(simulator)).body


@pytest.mark.parametrize("missing", ["appId", "appKey", "phone", "content"])
@pytest.mark.parametrize("how", [None, ""], ids=["absent", "empty"])
def test_a_send_without_a_required_parameter_is_refused(simulator: Simulator, missing: str, how: str | None) -> None:
    changes: dict[str, Any] = {missing: how}
    assert send(simulator, **changes) == refusal("缺少参数")


@pytest.mark.parametrize("missing", ["appId", "appKey"])
def test_a_balance_without_a_required_parameter_is_refused(simulator: Simulator, missing: str) -> None:
    fields = {**balance_fields(simulator), missing: ""}
    assert post(simulator, BALANCE, fields).json == refusal("缺少参数")


@pytest.mark.parametrize("wrong", ["appId", "appKey"])
def test_wrong_credentials_are_refused_by_both(simulator: Simulator, wrong: str) -> None:
    assert send(simulator, **{wrong: "wrong"}) == refusal("账号或密码错误")
    assert post(simulator, BALANCE, {**balance_fields(simulator), wrong: "wrong"}).json == refusal("账号或密码错误")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("没有签名", "模板不存在或者未通过"),
        ("【一】你好【二】", "模板不存在或者未通过"),
        ("中间【云通信】签名", "模板不存在或者未通过"),
        ("【云通信】你好😀", "参数错误"),
        ("😀", "参数错误"),
    ],
)
def test_a_text_must_have_one_signature_and_no_emoji(simulator: Simulator, content: str, message: str) -> None:
    assert send(simulator, content=content) == refusal(message)


def test_a_rare_han_character_is_taken(simulator: Simulator) -> None:
    assert send(simulator, content="【云通信】𠮷先生")["message"] == "成功"
    assert simulator.accepted()[0]["content"] == "【云通信】𠮷先生"


def test_a_malformed_phone_is_refused(simulator: Simulator) -> None:
    assert send(simulator, [phone(1), "12345"]) == refusal("手机号码格式不正确")


def test_a_send_time_is_taken_as_it_came(simulator: Simulator) -> None:
    beijing = datetime.timezone(datetime.timedelta(hours=8))
    later = (datetime.datetime.now(beijing) + datetime.timedelta(minutes=31)).strftime("%Y-%m-%d %H:%M:%S")
    assert send(simulator, sendTime=later)["message"] == "成功"
    assert simulator.accepted()[0]["sendTime"] == later


def test_a_send_time_too_near_or_in_another_form_is_refused(simulator: Simulator) -> None:
    beijing = datetime.timezone(datetime.timedelta(hours=8))
    soon = (datetime.datetime.now(beijing) + datetime.timedelta(minutes=29)).strftime("%Y-%m-%d %H:%M:%S")
    assert send(simulator, sendTime=soon) == refusal("参数错误")
    assert send(simulator, sendTime="2099-01-01T00:00:00") == refusal("参数错误")


def test_an_empty_send_time_means_at_once(simulator: Simulator) -> None:
    assert send(simulator, sendTime="")["message"] == "成功"
    assert simulator.accepted()[0]["sendTime"] is None


# Where parameters come from


def test_parameters_may_all_be_in_the_query_string(simulator: Simulator) -> None:
    query = urllib.parse.urlencode(send_fields(simulator))
    assert post(simulator, f"{SEND}?{query}", {}).json["message"] == "成功"


def test_parameters_may_be_in_both_and_the_body_wins(simulator: Simulator) -> None:
    query = urllib.parse.urlencode({"phone": phone(1), "appId": "wrong", "content": "wrong"})
    assert post(simulator, f"{SEND}?{query}", send_fields(simulator, phone=None)).json["message"] == "成功"
    assert simulator.accepted()[0]["phones"] == [phone(1)]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
def test_a_form_body_is_read_whatever_its_content_type(simulator: Simulator, content_type: str) -> None:
    assert post(simulator, SEND, send_fields(simulator), content_type=content_type).json["message"] == "成功"


def test_a_plus_in_a_form_is_a_blank_and_chinese_commas_do_not_part_phones(simulator: Simulator) -> None:
    send(simulator, content="【云通信】a b+c&d=e%")
    assert simulator.accepted()[0]["content"] == "【云通信】a b+c&d=e%"
    assert send(simulator, phone=f"{phone(2)}\uff0c{phone(3)}") == refusal("手机号码格式不正确")


def test_a_body_in_another_character_set_is_not_understood(simulator: Simulator) -> None:
    body = urllib.parse.urlencode(send_fields(simulator), encoding="gbk").encode()
    connection = simulator.connection()
    connection.request("POST", SEND, body)
    assert json.loads(connection.getresponse().read()) == refusal("模板不存在或者未通过")
    connection.close()


def test_a_json_body_holds_no_parameters(simulator: Simulator) -> None:
    connection = simulator.connection()
    connection.request("POST", SEND, json.dumps(send_fields(simulator)), {"Content-Type": "application/json"})
    assert json.loads(connection.getresponse().read()) == refusal("缺少参数")
    connection.close()


def test_a_chunked_body_is_read(simulator: Simulator) -> None:
    body = urllib.parse.urlencode(send_fields(simulator)).encode()
    connection = simulator.connection()
    connection.request("POST", SEND, iter([body[:20], body[20:]]), encode_chunked=True)
    assert json.loads(connection.getresponse().read())["message"] == "成功"
    connection.request("POST", BALANCE, urllib.parse.urlencode(balance_fields(simulator)))
    assert json.loads(connection.getresponse().read())["message"] == "成功"
    connection.close()


# HTTP


def test_a_connection_is_kept_alive(simulator: Simulator) -> None:
    connection = simulator.connection()
    connection.connect()
    socket = connection.sock
    for _ in range(3):
        assert post_on(connection, BALANCE, balance_fields(simulator)).json["message"] == "成功"
        assert connection.sock is socket
    connection.close()


@pytest.mark.parametrize("path", [SEND, BALANCE])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"])
def test_another_method_is_405(simulator: Simulator, path: str, method: str) -> None:
    connection = simulator.connection()
    connection.request(method, path + "?" + urllib.parse.urlencode(send_fields(simulator)))
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    answer.read()
    connection.close()
    assert simulator.accepted() == []


@pytest.mark.parametrize("path", ["/", "/smsApi", "/smsApi/group/", "/smsApi/group/getbalance", "/_simulator/nothing"])
def test_another_path_is_404(simulator: Simulator, path: str) -> None:
    assert post(simulator, path, send_fields(simulator)).status == 404


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /smsApi/group HTTP/1.1\r\nContent-Length: abc\r\n\r\n", b"400"),
        (b"POST /smsApi/group HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"POST /smsApi/group HTTP/1.1\r\nContent-Length: 100\r\n\r\nappId=a", b"400"),
        (b"POST /smsApi/group HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST /smsApi/group HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"400"),
        (b"BREW /smsApi/group HTTP/1.1\r\n\r\n", b"501"),
        (b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
    ],
    ids=["nonsense", "length", "negative", "short", "huge", "chunks", "method", "long"],
)
def test_a_request_that_can_not_be_read_is_answered_and_nothing_breaks(
    simulator: Simulator, request_bytes: bytes, status: bytes
) -> None:
    answer = raw(simulator, request_bytes)
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert b"Connection: close" in answer
    assert balance(simulator)["message"] == "成功"


def test_http_1_0_gets_its_answer_and_the_end_of_the_connection(simulator: Simulator) -> None:
    query = urllib.parse.urlencode(balance_fields(simulator))
    answer = raw(simulator, f"POST {BALANCE}?{query} HTTP/1.0\r\n\r\n".encode())
    assert "成功".encode() in answer


def test_300_000_phones_in_one_request_are_read(simulator: Simulator) -> None:
    simulator.settings(balance=1_000_000)
    many = [f"138{number:08d}" for number in range(300_000)]
    assert send(simulator, many)["successCounts"] == "300000"


def test_many_connections_at_once_are_served(simulator: Simulator) -> None:
    connections: list[http.client.HTTPConnection] = [simulator.connection() for _ in range(100)]
    body = urllib.parse.urlencode(balance_fields(simulator))
    for connection in connections:
        connection.request("POST", BALANCE, body)
    answers: list[Any] = [json.loads(connection.getresponse().read()) for connection in connections]
    assert all(answer["message"] == "成功" for answer in answers)
    for connection in connections:
        connection.close()
