"""What the platform answered, decided in one table: accepted, refused or in doubt. Pure functions."""

from __future__ import annotations

import codecs
import json
import unicodedata
from dataclasses import dataclass

from airflow_provider_sms.gateway.errors import (
    AccountDailyCapError,
    AccountLockedError,
    AddressBarredError,
    AnswerUnreadableError,
    BalanceTooLowError,
    CredentialsError,
    HttpRefusedError,
    HttpTooManyError,
    ParametersError,
    PhoneDailyCapError,
    PhoneFormatError,
    PhoneTooOftenError,
    RefusedError,
    SmsError,
    TemplateError,
    UnknownReasonError,
    UnlistedRefusalError,
)
from airflow_provider_sms.gateway.phones import mask_inside, storable
from airflow_provider_sms.gateway.transport import LONGEST_ANSWER, RawAnswer

ACCEPTED = "1"
_UNKNOWN_REASON = "未知原因,请联系客服"
_REFUSALS: dict[str, type[RefusedError]] = {
    "账号或密码错误": CredentialsError,
    "缺少参数": ParametersError,
    "参数错误": ParametersError,
    "模板不存在或者未通过": TemplateError,
    "模板id格式不正确": TemplateError,
    "您的账户已被锁定,请联系您的专属客服": AccountLockedError,
    "余额不足": BalanceTooLowError,
    "手机号码格式不正确": PhoneFormatError,
    "该号码今日发送次数已达上限": PhoneDailyCapError,
    "相同手机号码一分钟之内只可发送一次": PhoneTooOftenError,
    "当日发送量已超出最大发送限制": AccountDailyCapError,
    "IP受限": AddressBarredError,
}
_HTTP_REFUSALS = frozenset({401, 403, 404, 405, 407, 413})
_LONGEST_SHOWN = 100
# As long as the ledger keeps one.
_LONGEST_TASK_ID = 100


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A request that the platform accepted.

    :param task_id: 下发批次ID, an opaque text: kept as it came.
    :param success_count: texts that the platform took, or None if it did not say.
    :param remain_point: points left on the account, or None if it did not say.
    """

    task_id: str
    success_count: int | None
    remain_point: int | None


def read_acceptance(raw: RawAnswer) -> Acceptance:
    """Read the answer to a send.

    :param raw: the HTTP answer.
    :raises RefusedError: the platform said no.
    :raises InDoubtError: the answer does not say what became of the request.

    Interface document: 1.发送接口, 正常响应示例, 异常响应示例, 状态码定义.
    """
    answer = _accepted_fields(raw)
    task_id = storable(_text(answer.get("taskid")), _LONGEST_TASK_ID)
    if not task_id:
        raise AnswerUnreadableError("The platform reports success but gives no taskId.")
    return Acceptance(task_id, _whole_number(answer.get("successcounts")), _whole_number(answer.get("remainpoint")))


def read_balance(raw: RawAnswer) -> int:
    """Read the answer to a balance question.

    :param raw: the HTTP answer.
    :returns: points left on the account.
    :raises RefusedError: the platform said no.
    :raises InDoubtError: the answer can not be read; asking again is harmless.

    Interface document: 3.余额查询接口.
    """
    balance = _whole_number(_accepted_fields(raw).get("remainpoint"))
    if balance is None:
        raise AnswerUnreadableError("The platform answered without a balance.")
    return balance


def _accepted_fields(raw: RawAnswer) -> dict[str, object]:
    _check_http_status(raw.status)
    fields = _fields(raw)
    status = _text(fields.get("returnstatus"))
    if not status:
        raise AnswerUnreadableError("The answer has no returnStatus.")
    if status != ACCEPTED:
        raise _refusal(_text(fields.get("message")))
    return fields


def _check_http_status(status: int) -> None:
    if 200 <= status <= 299:
        return
    if status == 429:
        raise HttpTooManyError(f"HTTP status {status}.", status)
    if 300 <= status <= 399:
        raise HttpRefusedError(f"HTTP status {status}, a redirect, which is never followed.", status)
    if status == 413:
        raise HttpRefusedError(
            f"HTTP status {status}: the request is too large, a smaller batch_size may help.", status
        )
    if status in _HTTP_REFUSALS:
        raise HttpRefusedError(f"HTTP status {status}.", status)
    raise AnswerUnreadableError(f"HTTP status {status}.")


def _refusal(message: str) -> SmsError:
    # The platform's own words may carry a phone, may be any length, and go into logs that a terminal shows.
    shown = storable(mask_inside(" ".join(message.split())), _LONGEST_SHOWN)
    key = _bare(message)
    if key == _bare(_UNKNOWN_REASON):
        return UnknownReasonError(f"The platform answered: {shown}.")
    listed = _BY_BARE_MESSAGE.get(key)
    if listed is not None:
        return listed(f"The platform refused: {shown}.", shown)
    return UnlistedRefusalError(f"The platform refused: {shown or 'without a message'}.", shown)


def _bare(message: str) -> str:
    """Letters and digits alone: the document itself has blanks and two kinds of commas in its messages."""
    folded = unicodedata.normalize("NFKC", message).casefold()
    return "".join(character for character in folded if character.isalnum())


_BY_BARE_MESSAGE = {_bare(message): refusal for message, refusal in _REFUSALS.items()}


def _fields(raw: RawAnswer) -> dict[str, object]:
    if not raw.body.strip():
        raise AnswerUnreadableError("The answer is empty.")
    if len(raw.body) > LONGEST_ANSWER:
        raise AnswerUnreadableError("The answer is far too long to be the platform's.")
    for charset in _charsets(raw):
        try:
            # Numbers stay text, so that a taskId keeps every digit it came with.
            found = json.loads(raw.body.decode(charset), parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return {name.casefold(): value for name, value in found.items()}
        break
    raise AnswerUnreadableError("The answer is not the JSON that the platform sends.")


def _charsets(raw: RawAnswer) -> list[str]:
    charsets = ["utf-8-sig", "gb18030"]
    if raw.body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        charsets.insert(0, "utf-16")
    if raw.charset:
        try:
            charsets.insert(0, codecs.lookup(raw.charset).name)
        except LookupError:
            pass
    return charsets


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _whole_number(value: object) -> int | None:
    text = _text(value).removesuffix(".0")
    return int(text) if text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() else None
