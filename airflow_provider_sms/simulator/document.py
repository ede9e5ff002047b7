"""The interface document as data: paths, messages, the shape of an answer, the form of a time.

Knows nothing of rules, accounts or HTTP. Texts are the document's own, character by character.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

SEND_PATH = "/smsApi/group"
BALANCE_PATH = "/smsApi/group/getBalance"

SUCCESS = "成功"
WRONG_CREDENTIALS = "账号或密码错误"
MISSING_PARAMETER = "缺少参数"
BAD_TEMPLATE = "模板不存在或者未通过"
LOCKED = "您的账户已被锁定,请联系您的专属客服"
NO_BALANCE = "余额不足"
BAD_PHONE = "手机号码格式不正确"
PHONE_CAPPED = "该号码今日发送次数已达上限"
TOO_SOON = "相同手机号码一分钟之内只可发送一次"
ACCOUNT_CAPPED = "当日发送量已超出最大发送限制"
UNKNOWN_REASON = "未知原因,请联系客服"
IP_BARRED = "IP受限"
BAD_PARAMETER = "参数错误"

# The document's success samples carry this trailing blank.
ACCEPTED_STATUS = "1 "
REFUSED_STATUS = "0"

BEIJING = datetime.timezone(datetime.timedelta(hours=8), "Asia/Shanghai")
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
# strptime alone would also take "2018-8-1 4:0:0".
_TIME_SHAPE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


@dataclass(frozen=True)
class Answer:
    """What the platform answers: the document's five keys, numbers as strings, null where nothing is."""

    status: str
    message: str
    remain_point: str | None = None
    task_id: str | None = None
    success_counts: str | None = None

    def as_json(self) -> dict[str, str | None]:
        return {
            "returnStatus": self.status,
            "message": self.message,
            "remainPoint": self.remain_point,
            "taskId": self.task_id,
            "successCounts": self.success_counts,
        }


def refusal(message: str) -> Answer:
    """The failure sample of the document, with `message`."""
    return Answer(REFUSED_STATUS, message)


def beijing_time(moment: float) -> str:
    """`moment` (seconds since 1970) as the document writes times: yyyy-MM-dd HH:mm:ss, Beijing."""
    return datetime.datetime.fromtimestamp(moment, BEIJING).strftime(_TIME_FORMAT)


def read_beijing_time(text: str) -> float | None:
    """Seconds since 1970 of a time written as the document says, None for any other text."""
    if not _TIME_SHAPE.fullmatch(text):
        return None
    try:
        return datetime.datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=BEIJING).timestamp()
    except ValueError:
        return None
