"""What the simulator remembers and shows: everything a test needs, and no key."""

from __future__ import annotations

import contextlib
import datetime
import json
import urllib.parse

from tests.simulator.client import (
    BALANCE,
    SEND,
    TEXT,
    balance,
    balance_fields,
    phone,
    phones,
    post,
    post_on,
    raw,
    send,
    send_fields,
    unanswered,
)
from tests.support.simulator import Simulator, wait_until


def test_accepted_batches_are_shown_in_full(simulator: Simulator) -> None:
    task_id = send(simulator, phones(2))["taskId"]
    batch = simulator.accepted()[0]
    at = datetime.datetime.fromisoformat(batch.pop("at"))
    assert at.utcoffset() == datetime.timedelta(hours=8)
    assert abs(at - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
    assert batch == {
        "taskId": task_id,
        "phones": phones(2),
        "content": TEXT,
        "sendTime": None,
        "points": 2,
        "appId": simulator.app_id,
        "answered": True,
    }


def test_refused_sends_are_not_among_them(simulator: Simulator) -> None:
    send(simulator, content="没有签名")
    assert simulator.accepted() == []


def test_requests_are_counted_and_shown_masked(simulator: Simulator) -> None:
    send(simulator, phones(2))
    send(simulator, ["rubbish-or-a-key", phone(9)])
    balance(simulator)
    post(simulator, "/elsewhere/13800130001", {})
    page = simulator.requests()
    assert page["counters"] == {
        "send": 2,
        "balance": 1,
        "other": 1,
        "faults": 0,
        "batchesAccepted": 1,
        "phonesAccepted": 2,
        "connections": page["counters"]["connections"],
        "inFlight": 0,
        "mostInFlight": 1,
    }
    assert page["outcomes"] == {"accepted": 1, "手机号码格式不正确": 1, "成功": 1, "HTTP 404": 1}
    first, second, third, fourth = page["requests"]
    assert (first["method"], first["path"], first["outcome"]) == ("POST", SEND, "accepted")
    assert (first["phones"], first["firstPhone"]) == (2, "138****0001")
    assert second["firstPhone"] == "malformed"
    assert third["interface"] == "balance"
    assert fourth["path"] == "/elsewhere/****"


def test_the_simulators_own_pages_are_not_counted(simulator: Simulator) -> None:
    simulator.accepted()
    simulator.settings()
    assert simulator.requests()["requests"] == []


def test_faults_show_among_the_requests(simulator: Simulator) -> None:
    simulator.fault("empty")
    post(simulator, SEND, send_fields(simulator))
    page = simulator.requests()
    assert page["counters"]["faults"] == 1
    assert (page["requests"][0]["fault"], page["requests"][0]["answered"]) == ("empty", False)


def test_the_list_of_requests_is_bounded_and_the_counters_are_not(simulator: Simulator) -> None:
    connection = simulator.connection()
    for _ in range(5010):
        post_on(connection, BALANCE, balance_fields(simulator))
    connection.close()
    page = simulator.requests()
    assert len(page["requests"]) == 5000
    assert page["counters"]["balance"] == 5010


def test_how_many_requests_were_under_way_at_once_is_counted(simulator: Simulator) -> None:
    simulator.settings(latency=600)
    with contextlib.ExitStack() as waiting:
        for _ in range(3):
            waiting.enter_context(unanswered(simulator, BALANCE, balance_fields(simulator)))
        wait_until(lambda: simulator.requests()["counters"]["inFlight"] == 3)
    wait_until(lambda: simulator.requests()["counters"]["inFlight"] == 0)
    assert simulator.requests()["counters"]["mostInFlight"] == 3


def test_no_app_key_and_no_full_phone_is_on_a_page_or_in_the_log(simulator: Simulator) -> None:
    key = "K3Y-of-somebody"
    query = urllib.parse.urlencode({**send_fields(simulator, appKey=key, phone="13800139901"), "sendTime": "x"})
    post(simulator, f"{SEND}?{query}", {})
    post(simulator, SEND, send_fields(simulator, ["13800139901", "13800139902"], appKey=key))
    post(simulator, f"/nowhere?{query}", {})
    post(simulator, SEND, send_fields(simulator, ["13800139901"]))
    post(simulator, SEND, send_fields(simulator, [key]))
    raw(simulator, f"GET {SEND}?{query} HTTP/1.1\r\n\r\n".encode())
    raw(simulator, f"BREW {SEND}?{query} HTTP/1.1\r\n\r\n".encode())
    raw(simulator, f"POST {SEND}?{query} HTTP/9.9 oops\r\n\r\n".encode())
    raw(simulator, f"POST {SEND}?{query} HTTP/1.1\r\nContent-Length: x\r\n\r\n".encode())
    shown = json.dumps([simulator.requests(), simulator.settings(), simulator.pushes(), simulator.faults()])
    for secret in (key, simulator.app_key):
        assert secret not in shown
        assert secret not in simulator.log()
    assert "1389999" not in shown
    assert "1389999" not in simulator.log()
    assert "138****0001" in simulator.log()


def test_there_is_one_log_line_per_request(simulator: Simulator) -> None:
    before = len(simulator.log().splitlines())
    task_id = send(simulator, phones(2))["taskId"]
    balance(simulator)
    lines = simulator.log().splitlines()[before:]
    assert len(lines) == 2
    assert lines[0].endswith(f"POST {SEND} 200 accepted phones=2 first=138****0001 taskId={task_id}")
    assert lines[1].endswith(f"POST {BALANCE} 200 成功")
