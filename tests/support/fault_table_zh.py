"""The fault tables in Chinese, made of the English ones: row by row, by a list of its words."""

from __future__ import annotations

CAMPAIGNS_HEAD = ("故障", "第一次尝试", "重试", "clear 之后", "单个号码最多收到的条数")
ALARMS_HEAD = ("故障", "回调", "同一回调再次调用", "flush 之后", "单个号码最多收到的条数")

TAKEN = {"; the request was taken": ";请求已被受理", "; the request was not taken": ";请求未被受理"}

ENDINGS = {
    "fails, is retried": "失败,可重试",
    "fails for good": "最终失败",
    "succeeds": "成功",
    "–": "–",
}

STATES = {
    "accepted": "已受理",
    "refused": "被拒绝",
    "in doubt": "结果不明",
    "not sent": "未发送",
    "held back": "留下",
}

FAULTS = {
    "Nobody listens at the platform's address": "平台地址无人监听",
    "The proxy is dead": "代理不可用",
    "The proxy refuses to pass on": "代理拒绝转发",
    "The TLS handshake fails": "TLS 握手失败",
    "The connection is reset before the platform takes the request": "平台受理之前连接被重置",
    "The connection is reset after the platform took the request": "平台受理之后连接被重置",
    "The connection is closed before the platform takes the request": "平台受理之前连接被关闭",
    "The connection is closed after the platform took the request": "平台受理之后连接被关闭",
    "The answer comes after the deadline": "应答超过时限才到",
    "The answer stops within its headers": "应答在响应头中途停住",
    "The answer's headers come a byte at a time": "响应头逐字节到达",
    "The answer's body comes a byte at a time": "响应体逐字节到达",
    "HTTP 204, no content": "HTTP 204,无内容",
    "An HTML page with status 200": "状态码 200 的 HTML 页面",
    "An empty answer": "空应答",
    "Half an answer": "应答只有一半",
    "Fewer bytes than promised": "字节数少于 Content-Length",
    "Bytes that mean nothing in the answer": "应答内容是乱码",
    "Bytes that are not HTTP": "应答不是 HTTP",
    "An answer that goes on and on": "应答没完没了",
    "Success without a taskId": "成功但没有 taskId",
    "未知原因,请联系客服, in GBK": "未知原因,请联系客服(GBK 编码)",
    "余额不足 for the second request, until it is topped up": "第二个请求余额不足,直到充值",
    "当日发送量已超出最大发送限制 for the second request, until it is lifted": "第二个请求达到当日发送上限,直到解除",
    "手机号码格式不正确, because of one phone": "手机号码格式不正确,由一个号码引起",
    "该号码今日发送次数已达上限, because of one phone": "该号码今日发送次数已达上限,由一个号码引起",
    "A refusal that the interface document does not list": "接口文档没有列出的拒绝",
    "The platform counts one phone less than it was sent": "平台计数比发送的号码少一个",
    "An answer in GBK that says so": "GBK 编码的应答,并声明了编码",
    "An answer in GBK that does not say so": "GBK 编码的应答,没有声明编码",
    "The platform closes a connection that it promised to keep": "平台关闭了承诺保持的连接",
    "HTTP 500 to the question for the balance, which `min_balance_after` asks, until it is answered": (
        "`min_balance_after` 查询余额时 HTTP 500,直到有应答"
    ),
    "The answer is slow, and comes before the deadline": "应答慢,但在时限之内",
}


def translated(line: str) -> str:
    """A row of the table.

    :raises KeyError: it has words that are not listed here.
    """
    fault, *tries, texts = line.removeprefix("| ").removesuffix(" |").split(" | ")
    return f"| {' | '.join([_fault(fault), *map(_try, tries), texts])} |"


def _fault(words: str) -> str:
    for english, chinese in TAKEN.items():
        if words.endswith(english):
            return _fault(words.removesuffix(english)) + chinese
    if words.endswith(" to the same address"):
        return f"{words.removesuffix(' to the same address')} 到同一地址"
    # A status, or the platform's own words.
    is_itself = words.removeprefix("HTTP ").isdigit() or (not words.isascii() and words not in FAULTS)
    return words if is_itself else FAULTS[words]


def _try(words: str) -> str:
    ending, _, counts = words.rpartition(": ")
    if counts in ENDINGS:
        return ENDINGS[counts]
    parts = [each.partition(" ") for each in counts.split(", ")]
    said = "、".join(f"{count} {STATES[state]}" for count, _, state in parts)
    return f"{ENDINGS[ending]}:{said}" if ending else said
