"""What an answer means, over the wire layer with every body and status that was thought of."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from urllib.parse import parse_qs

import pytest
import requests_mock

from airflow_provider_sms.gateway import errors
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.answers import Acceptance
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.gateway.errors import Outcome

BASE = "https://cloud.10658.com.cn"
TEXT = "【云通信】您好"
SUCCESS = """{
  "returnStatus": "1 ",
  "message": "成功",
  "remainPoint": "241",
  "taskId": "3313746",
  "successCounts": "1"
}"""
FAILURE = '{"returnStatus": "0", "message": "%s", "remainPoint": null, "taskId": null, "successCounts": null}'

SEND_REFUSALS = {
    "账号或密码错误": errors.CredentialsError,
    "缺少参数": errors.ParametersError,
    "模板不存在或者未通过": errors.TemplateError,
    "模板id格式不正确": errors.TemplateError,
    "您的账户已被锁定,请联系您的专属客服": errors.AccountLockedError,
    "余额不足": errors.BalanceTooLowError,
    "手机号码格式不正确": errors.PhoneFormatError,
    "该号码今日发送次数已达上限": errors.PhoneDailyCapError,
    "相同手机号码一分钟之内只可发送一次": errors.PhoneTooOftenError,
    "当日发送量已超出最大发送限制": errors.AccountDailyCapError,
    "未知原因,请联系客服 ": errors.UnknownReasonError,
    "参数错误": errors.ParametersError,
}
BALANCE_REFUSALS = {
    "账号或密码错误": errors.CredentialsError,
    "缺少参数": errors.ParametersError,
    "您的账户已被锁定,请联系您的专属客服": errors.AccountLockedError,
    "未知原因,请联系客服 ": errors.UnknownReasonError,
    "IP受限": errors.AddressBarredError,
    "参数错误": errors.ParametersError,
}


@pytest.fixture
def platform() -> SmsClient:
    return SmsClient(Account("FAKE-APP-ID", "FAKE-APP-KEY"))


@pytest.fixture
def http() -> Iterator[requests_mock.Mocker]:
    with requests_mock.Mocker() as mocker:
        yield mocker


def send(platform: SmsClient) -> Acceptance:
    return platform.send(["13800130001", "13800130002"], TEXT)


def answer_with(http: requests_mock.Mocker, body: str | bytes, status: int = 200, **headers: str) -> None:
    content = body.encode() if isinstance(body, str) else body
    http.post(f"{BASE}/smsApi/group", content=content, status_code=status, headers=headers)
    http.post(f"{BASE}/smsApi/group/getBalance", content=content, status_code=status, headers=headers)


def test_the_document_s_success_sample(http: requests_mock.Mocker, platform: SmsClient) -> None:
    answer_with(http, SUCCESS)
    assert send(platform) == Acceptance("3313746", 1, 241)
    assert platform.get_balance() == 241


def test_the_request_carries_what_the_document_asks_for(http: requests_mock.Mocker, platform: SmsClient) -> None:
    answer_with(http, SUCCESS)
    send(platform)
    request = http.last_request
    assert request.url == f"{BASE}/smsApi/group"
    assert parse_qs(request.text, keep_blank_values=True) == {
        "appId": ["FAKE-APP-ID"],
        "appKey": ["FAKE-APP-KEY"],
        "phone": ["13800130001,13800130002"],
        "content": [TEXT],
        "sendTime": [""],
    }


@pytest.mark.parametrize(("message", "error"), SEND_REFUSALS.items())
def test_every_refusal_of_a_send(
    http: requests_mock.Mocker, platform: SmsClient, message: str, error: type[errors.SmsError]
) -> None:
    answer_with(http, FAILURE % message)
    with pytest.raises(error) as raised:
        send(platform)
    assert type(raised.value) is error


@pytest.mark.parametrize(("message", "error"), BALANCE_REFUSALS.items())
def test_every_refusal_of_a_balance_question(
    http: requests_mock.Mocker, platform: SmsClient, message: str, error: type[errors.SmsError]
) -> None:
    answer_with(http, FAILURE % message)
    with pytest.raises(error) as raised:
        platform.get_balance()
    assert type(raised.value) is error


@pytest.mark.parametrize(
    "message",
    [
        "您的账户已被锁定,请联系您的专属客服",
        " 您的账户已被锁定 ,请联系您的专属客服。",
        "您的账户已被锁定 请联系您的专属客服!",
    ],
)
def test_punctuation_and_blanks_do_not_hide_a_message(
    http: requests_mock.Mocker, platform: SmsClient, message: str
) -> None:
    answer_with(http, FAILURE % message)
    with pytest.raises(errors.AccountLockedError):
        send(platform)


def test_an_unlisted_message_is_a_refusal_that_keeps_its_words(http: requests_mock.Mocker, platform: SmsClient) -> None:
    answer_with(http, FAILURE % "系统维护中")
    with pytest.raises(errors.UnlistedRefusalError, match="系统维护中") as raised:
        send(platform)
    assert raised.value.platform_message == "系统维护中"
    assert raised.value.outcome is Outcome.REFUSED


def test_a_phone_in_the_platform_s_words_is_masked(http: requests_mock.Mocker, platform: SmsClient) -> None:
    answer_with(http, FAILURE % "号码13800130001在黑名单")
    with pytest.raises(errors.UnlistedRefusalError) as raised:
        send(platform)
    assert "138****0001" in str(raised.value)
    assert "13800130001" not in str(raised.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"returnStatus":"1","taskId":"7","remainPoint":"5","successCounts":"2"}', Acceptance("7", 2, 5)),
        ('{"returnStatus":1,"taskId":7,"remainPoint":5,"successCounts":2}', Acceptance("7", 2, 5)),
        ('{"RETURNSTATUS":" 1 ","TaskID":"aB3","remainpoint":" 5 "}', Acceptance("aB3", None, 5)),
        ('{"returnStatus":"1","taskId":"0007","remainPoint":null}', Acceptance("0007", None, None)),
        ('{"returnStatus":"1","taskId":"7","remainPoint":"many"}', Acceptance("7", None, None)),
        ('{"returnStatus":"1","taskId":123456789012345678901234567890}', Acceptance("1234567890" * 3, None, None)),
        ("\ufeff" + '{"returnStatus":"1","taskId":"7"}', Acceptance("7", None, None)),
    ],
    ids=["trimmed", "numbers", "case", "leading-zeros", "not-a-number", "long-id", "byte-order-mark"],
)
def test_success_in_other_shapes(
    http: requests_mock.Mocker, platform: SmsClient, body: str, expected: Acceptance
) -> None:
    answer_with(http, body)
    assert send(platform) == expected


@pytest.mark.parametrize(
    "body",
    [
        "",
        "   ",
        "<html><body>502</body></html>",
        SUCCESS[:-20],
        "[]",
        '"1"',
        "null",
        "{}",
        '{"returnStatus":null,"taskId":"7"}',
        '{"returnStatus":true,"taskId":"7"}',
        '{"returnStatus":"","taskId":"7"}',
        '{"returnStatus":"1","taskId":""}',
        '{"returnStatus":"1","taskId":null}',
        '{"returnStatus":"1"}',
        b"\xff\xfe\x00",
        "[" * 100_000,
    ],
)
def test_what_can_not_be_read_is_in_doubt(http: requests_mock.Mocker, platform: SmsClient, body: str | bytes) -> None:
    answer_with(http, body)
    with pytest.raises(errors.AnswerUnreadableError) as raised:
        send(platform)
    assert raised.value.outcome is Outcome.IN_DOUBT


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304, 401, 403, 404, 405, 407, 413, 429])
@pytest.mark.parametrize("body", [SUCCESS, ""], ids=["with-success-body", "empty"])
def test_http_statuses_that_refuse(http: requests_mock.Mocker, platform: SmsClient, status: int, body: str) -> None:
    answer_with(http, body, status, Location="https://elsewhere.invalid/")
    with pytest.raises(errors.HttpRefusedError) as raised:
        send(platform)
    assert raised.value.status == status
    assert isinstance(raised.value, errors.HttpTooManyError) is (status == 429)
    assert len(http.request_history) == 1


@pytest.mark.parametrize("status", [400, 402, 408, 409, 418, 451, 500, 502, 503, 504, 599])
def test_http_statuses_that_leave_it_in_doubt(http: requests_mock.Mocker, platform: SmsClient, status: int) -> None:
    answer_with(http, SUCCESS, status)
    with pytest.raises(errors.AnswerUnreadableError, match=str(status)):
        send(platform)


@pytest.mark.parametrize("charset", ["gbk", "gb18030", "utf-8", "utf-16", "big5", "no-such-charset", ""])
def test_other_charsets(http: requests_mock.Mocker, platform: SmsClient, charset: str) -> None:
    message = '{"returnStatus":"0","message":"余額不足"}' if charset == "big5" else FAILURE % "余额不足"
    encoded = message.encode(charset if charset not in ("no-such-charset", "") else "gbk")
    header = f"application/json;charset={charset}" if charset else "application/json"
    answer_with(http, encoded, **{"Content-Type": header})
    with pytest.raises(errors.UnlistedRefusalError if charset == "big5" else errors.BalanceTooLowError):
        send(platform)


def test_a_charset_that_the_header_gets_wrong(http: requests_mock.Mocker, platform: SmsClient) -> None:
    answer_with(http, (FAILURE % "余额不足").encode("gbk"), **{"Content-Type": "application/json;charset=utf-8"})
    with pytest.raises(errors.BalanceTooLowError):
        send(platform)


@pytest.mark.parametrize("value", ["null", '""', '"many"', "true", "[]"])
def test_a_balance_that_is_no_number(http: requests_mock.Mocker, platform: SmsClient, value: str) -> None:
    answer_with(http, f'{{"returnStatus":"1 ","remainPoint":{value}}}')
    with pytest.raises(errors.AnswerUnreadableError, match="without a balance"):
        platform.get_balance()


def test_a_negative_balance_is_a_balance(http: requests_mock.Mocker, platform: SmsClient) -> None:
    answer_with(http, '{"returnStatus":"1 ","remainPoint":"-3"}')
    assert platform.get_balance() == -3


@pytest.mark.parametrize("message", ["\\ud800", "\\u0000", "\\u001b[31m", "未知原因,请联系客服\\ud800"])
def test_what_no_log_can_show_is_written_out(http: requests_mock.Mocker, platform: SmsClient, message: str) -> None:
    answer_with(http, f'{{"returnStatus":"0","message":"x{message}"}}')
    with pytest.raises(errors.SmsError) as refused:
        platform.send(["13800130001"], TEXT)
    assert str(refused.value).encode("utf-8").decode().isprintable()
    answer_with(http, f'{{"returnStatus":"1","taskId":"T{message}"}}')
    taskid = platform.send(["13800130001"], TEXT).task_id
    assert taskid.isprintable()
    assert taskid.startswith("T")


def test_one_request_holds_at_most_a_hundred_thousand_phones(platform: SmsClient) -> None:
    with pytest.raises(errors.PhonesError, match="batch_size"):
        platform.send(["13800130001"] * 100_001, TEXT)
    with pytest.raises(errors.PhonesError, match="phones"):
        platform.send([], TEXT)


def _tree(root: type[errors.SmsError]) -> list[type[errors.SmsError]]:
    return [root] + [each for child in root.__subclasses__() for each in _tree(child)]


def test_the_picture_of_the_tree_is_the_tree() -> None:
    picture = errors.__doc__ or ""
    for error in _tree(errors.SmsError):
        line = next(line for line in picture.splitlines() if f" {error.__name__}" in line)
        depth = (line.index(error.__name__) - 4) // 4
        assert len(error.__mro__) - len(errors.SmsError.__mro__) - (ValueError in error.__mro__) == depth


@pytest.mark.parametrize("error", _tree(errors.SmsError)[1:], ids=lambda error: error.__name__)
def test_every_error_says_what_it_means_for_the_phones_and_survives_pickling(error: type[errors.SmsError]) -> None:
    raised = error("What.", 503) if issubclass(error, errors.HttpRefusedError) else error("What.")
    assert raised.outcome in (Outcome.UNSENT, Outcome.REFUSED, Outcome.IN_DOUBT)
    assert str(pickle.loads(pickle.dumps(raised))) == str(raised)
    assert str(raised).startswith("What.")
