"""Interface 2 of the document: receipts and replies, as the customer's address meets them."""

from __future__ import annotations

import re
import ssl
import time
from collections import Counter
from pathlib import Path

import pytest
import trustme

from tests.simulator.client import SEND, phone, phones, post, send, send_fields
from tests.simulator.receiver import HANGS, Receiver
from tests.support.simulator import Simulator, wait_until


def test_every_phone_gets_one_receipt_in_the_documents_form(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url + "/sms/push?token=t0k3n")
    task_id = send(simulator, phones(3))["taskId"]
    heard = receiver.take(3)
    assert sorted(push.mobile for push in heard) == phones(3)
    first = heard[0]
    assert first.path == "/sms/push?token=t0k3n"
    assert first.headers["Content-Type"] == "application/x-www-form-urlencoded;charset=utf-8"
    assert list(first.fields) == ["mobile", "taskid", "status", "code", "receivetime"]
    assert (first.fields["taskid"], first.fields["status"], first.fields["code"]) == (task_id, "1", "DELIVRD")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", first.fields["receivetime"])
    simulator.wait_for_pushes()
    assert receiver.heard_nothing_more()


def test_no_signature_and_no_key_goes_with_a_push(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url)
    send(simulator)
    push = receiver.take(1)[0]
    assert simulator.app_key not in f"{push.headers}{push.body!r}"
    assert "Authorization" not in push.headers


def test_without_an_address_nothing_is_pushed_and_nothing_waits(simulator: Simulator) -> None:
    send(simulator, phones(3))
    page = simulator.wait_for_pushes()
    assert (page["done"], page["withoutAddress"], page["pushes"]) == (0, 3, [])


def test_receipts_and_replies_may_have_addresses_of_their_own(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(
        push_url=receiver.url + "/common",
        receipt_url=receiver.url + "/receipts",
        reply_url=receiver.url + "/replies",
    )
    send(simulator)
    assert receiver.take(1)[0].path == "/receipts"
    simulator.reply(phone(1), "好")
    assert receiver.take(1)[0].path == "/replies"
    simulator.settings(receipt_url=None, reply_url=None)
    simulator.reply(phone(1), "好")
    assert receiver.take(1)[0].path == "/common"


def test_a_person_replies(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(reply_url=receiver.url)
    task_id = send(simulator)["taskId"]
    simulator.reply(phone(1), "收到&=+ 𠮷😀")
    push = receiver.take(1)[0]
    assert list(push.fields) == ["mobile", "taskid", "content", "receivetime"]
    assert (push.mobile, push.fields["taskid"], push.fields["content"]) == (phone(1), task_id, "收到&=+ 𠮷😀")


def test_a_reply_belongs_to_the_newest_text_unless_said_otherwise(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(reply_url=receiver.url, one_per_minute=False)
    first, second = (send(simulator)["taskId"] for _ in range(2))
    simulator.reply(phone(1), "R")
    simulator.reply(phone(1), "R", taskid=first)
    assert {push.fields["taskid"] for push in receiver.take(2)} == {first, second}


def test_a_reply_to_nothing_or_to_nowhere_is_a_mistake(simulator: Simulator, receiver: Receiver) -> None:
    body = b'{"mobile": "13800130001", "content": "R"}'
    status, shown = simulator.ask_page("POST", "replies", body)
    assert (status, shown["error"]) == (
        400,
        "there is nowhere to push a reply to: set push_url or reply_url first",
    )
    simulator.settings(push_url=receiver.url)
    status, shown = simulator.ask_page("POST", "replies", body)
    assert (status, "give the taskid" in shown["error"]) == (400, True)
    status, shown = simulator.ask_page("POST", "replies", b'{"mobile": "13800130001", "text": "R"}')
    assert (status, "no field 'text'" in shown["error"]) == (400, True)
    status, shown = simulator.ask_page("POST", "replies", b'{"content": "R"}')
    assert (status, shown["error"]) == (400, "mobile must be a text, not None")


def test_reached_phones_reply_by_themselves(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, reply_share=1.0, reply_text="TD", fail_share=0.5)
    send(simulator, phones(40))
    simulator.wait_for_pushes()
    pushes = [receiver.heard.get_nowait().fields for _ in range(receiver.heard.qsize())]
    reached = {push["mobile"] for push in pushes if push.get("status") == "1"}
    replied = {push["mobile"] for push in pushes if push.get("content") == "TD"}
    assert reached == replied
    assert 0 < len(replied) < 40


def test_masked_mobiles(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, masked_mobiles=True)
    send(simulator)
    simulator.reply(phone(1), "好")
    assert {push.mobile for push in receiver.take(2)} == {"1380013****"}


def test_failed_receipts_and_their_code(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, fail_share=1.0, failure_code="MI:0013")
    send(simulator)
    fields = receiver.take(1)[0].fields
    assert (fields["status"], fields["code"]) == ("0", "MI:0013")


def test_the_documents_own_pair_of_status_and_code_can_be_pushed(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, success_code="MA:0001")
    send(simulator)
    fields = receiver.take(1)[0].fields
    assert (fields["status"], fields["code"]) == ("1", "MA:0001")


def test_duplicates_come_twice_and_missing_ones_never(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, duplicate_share=1.0)
    send(simulator, phones(5))
    assert set(Counter(push.mobile for push in receiver.take(10)).values()) == {2}
    simulator.settings(duplicate_share=0.0, missing_share=1.0)
    send(simulator, [phone(6)])
    simulator.wait_for_pushes()
    assert receiver.heard_nothing_more()


def test_one_worker_keeps_the_order_and_shuffled_does_not(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, push_workers=1)
    send(simulator, phones(50))
    assert [push.mobile for push in receiver.take(50)] == phones(50)
    simulator.settings(receipt_order="shuffled", one_per_minute=False)
    send(simulator, phones(50))
    mobiles = [push.mobile for push in receiver.take(50)]
    assert mobiles != phones(50)
    assert sorted(mobiles) == phones(50)


def test_workers_come_and_go_with_the_setting(simulator: Simulator, receiver: Receiver) -> None:
    receiver.answer_when.clear()
    simulator.settings(push_url=receiver.url, push_workers=3)
    send(simulator, phones(10))
    receiver.take(3)
    simulator.settings(push_workers=6)
    receiver.take(3)
    simulator.settings(push_workers=1)
    receiver.answer_when.set()
    assert simulator.wait_for_pushes()["answered200"] == 10


def test_a_push_that_hangs_keeps_no_send_waiting(simulator: Simulator, receiver: Receiver) -> None:
    receiver.answer_when.clear()
    simulator.settings(push_url=receiver.url, push_workers=1, push_timeout=600)
    send(simulator)
    receiver.take(1)
    before = time.monotonic()
    assert send(simulator, phones(500)[1:])["message"] == "成功"
    assert time.monotonic() - before < HANGS / 2


def test_delays_wait_on_the_platforms_clock(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, review_delay=3600, receipt_delay=600)
    send(simulator)
    assert simulator.pushes()["pending"] == 1
    simulator.settings(clock_ahead=4199)
    assert simulator.pushes()["pending"] == 1
    simulator.settings(clock_ahead=4201)
    receiver.take(1)


def test_a_short_delay_passes_by_itself(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, receipt_delay=0.2, reply_share=1.0, reply_delay=0.2)
    before = time.monotonic()
    send(simulator)
    receiver.take(1)
    assert time.monotonic() - before >= 0.2
    receiver.take(1)
    assert time.monotonic() - before >= 0.4


def test_a_receipt_may_be_earlier_than_the_answer(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url)
    simulator.fault("slow", seconds=600)
    with pytest.raises(TimeoutError):
        post(simulator, SEND, send_fields(simulator), timeout=0.2)
    assert receiver.take(1)[0].mobile == phone(1)


def test_a_push_without_a_200_is_not_repeated_by_default(simulator: Simulator, receiver: Receiver) -> None:
    receiver.answers.append(503)
    simulator.settings(push_url=receiver.url)
    send(simulator)
    page = simulator.wait_for_pushes()
    assert [push["answer"] for push in page["pushes"]] == [503]
    receiver.take(1)
    assert receiver.heard_nothing_more()


def test_a_push_can_be_repeated_until_it_gets_its_200(simulator: Simulator, receiver: Receiver) -> None:
    receiver.answers.extend([503, 302, 500])
    simulator.settings(push_url=receiver.url, push_repeats=5, push_repeat_delay=0.01)
    send(simulator)
    bodies = {push.body for push in receiver.take(4)}
    assert len(bodies) == 1
    page = simulator.wait_for_pushes()
    assert [(push["attempt"], push["answer"]) for push in page["pushes"]] == [
        (1, 503),
        (2, 302),
        (3, 500),
        (4, 200),
    ]


def test_repeats_have_an_end(simulator: Simulator, receiver: Receiver) -> None:
    receiver.answers.extend([500] * 10)
    simulator.settings(push_url=receiver.url, push_repeats=2, push_repeat_delay=0.0)
    send(simulator)
    wait_until(lambda: simulator.pushes()["done"] == 3)
    assert simulator.wait_for_pushes()["done"] == 3


def test_no_redirect_is_followed(simulator: Simulator, receiver: Receiver) -> None:
    receiver.answers.append(307)
    simulator.settings(push_url=receiver.url + "/here")
    send(simulator)
    simulator.wait_for_pushes()
    assert [push.path for push in receiver.take(1)] == ["/here"]
    assert receiver.heard_nothing_more()


def test_an_address_that_does_not_answer_is_given_up_and_its_secret_is_not_kept(
    simulator: Simulator, receiver: Receiver
) -> None:
    receiver.answer_when.clear()
    simulator.settings(push_url=receiver.url + "/?token=hush", push_timeout=0.1)
    send(simulator)
    page = simulator.wait_for_pushes()
    assert [(push["answer"], push["error"]) for push in page["pushes"]] == [(None, "ReadTimeout")]
    assert "hush" not in f"{page}{simulator.log()}"


def test_an_address_where_nobody_listens(simulator: Simulator) -> None:
    with Receiver() as gone:
        url = gone.url
    simulator.settings(push_url=url)
    send(simulator)
    assert simulator.wait_for_pushes()["pushes"][0]["error"] == "ConnectionError"


def test_a_missing_certificate_file_is_an_error_of_the_push_only(simulator: Simulator) -> None:
    simulator.settings(push_url="https://127.0.0.1:9/", push_ca="there-is-no-such-file.pem")
    send(simulator)
    assert simulator.wait_for_pushes()["pushes"][0]["error"] == "OSError"


def test_pushes_go_over_https_to_whom_the_certificates_vouch_for(simulator: Simulator, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Receiver(context) as receiver:
        simulator.settings(push_url=receiver.url, push_ca=str(tmp_path / "ca.pem"))
        send(simulator)
        assert receiver.take(1)[0].mobile == phone(1)
        simulator.settings(push_ca=None)
        send(simulator, [phone(2)])
        wait_until(lambda: len(simulator.pushes()["pushes"]) == 2)
        assert simulator.pushes()["pushes"][1]["error"] == "SSLError"


def test_connections_are_used_again(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, push_workers=2)
    send(simulator, phones(100))
    receiver.take(100)
    assert receiver.connections <= 4


def test_the_record_says_what_was_pushed_and_what_was_answered(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url)
    task_id = send(simulator)["taskId"]
    receiver.take(1)
    page = simulator.wait_for_pushes()
    assert (page["done"], page["answered200"], page["pending"]) == (1, 1, 0)
    push = page["pushes"][0]
    assert set(push) == {
        "kind",
        "mobile",
        "taskid",
        "status",
        "code",
        "receivetime",
        "attempt",
        "answer",
        "error",
        "at",
    }
    assert (push["kind"], push["mobile"], push["taskid"], push["answer"]) == (
        "receipt",
        phone(1),
        task_id,
        200,
    )


def test_a_reset_drops_what_was_due(simulator: Simulator, receiver: Receiver) -> None:
    simulator.settings(push_url=receiver.url, receipt_delay=3600)
    send(simulator, phones(5))
    simulator.reset()
    assert simulator.pushes()["pending"] == 0


def test_the_same_seed_pushes_the_same(receiver: Receiver) -> None:
    def run() -> list[bytes]:
        flags = ("--seed", "7", "--push-url", receiver.url, "--push-workers", "1", "--fail-share", "0.5")
        shuffle = ("--receipt-order", "shuffled", "--duplicate-share", "0.3", "--reply-share", "0.3")
        with Simulator(*flags, *shuffle) as simulator:
            send(simulator, phones(30))
            simulator.wait_for_pushes()
        heard = [receiver.heard.get_nowait() for _ in range(receiver.heard.qsize())]
        return [re.sub(rb"&receivetime=.*", b"", push.body) for push in heard]

    assert run() == run()


def test_proxies_and_other_habits_of_the_environment_are_ignored(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Simulator("--push-url", receiver.url) as simulator:
        send(simulator)
        receiver.take(1)
