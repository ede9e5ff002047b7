"""What can go wrong between us and the platform: one class per remedy.

    SmsError
    ├── InputError                  ours to refuse: nothing was sent, correct the named field
    │   ├── AccountError            the connection's settings
    │   ├── PhonesError             the phones
    │   │   ├── NoPhonesError       nobody is left to send to
    │   │   └── PhonesSourceError   the file, the storage or the database that they come from
    │   ├── MessagesError           the rows that personal texts are made of
    │   │   └── MessagesSourceError the file, the storage or the database that they come from
    │   ├── TextError               the text
    │   ├── SendTimeError           the time to send at
    │   └── GuardError              a guard of the campaign holds it back; nothing was sent
    │       ├── HoursError          it is outside the sending hours
    │       ├── MaxPointsError      the plan costs more than it may
    │       └── MinBalanceError     too few points would be left on the account
    ├── UnsentError                 proven unsent: no byte of the request left; repeat as you like
    ├── RefusedError                the platform answered no: nothing was sent
    │   ├── CredentialsError        账号或密码错误
    │   ├── AccountLockedError      您的账户已被锁定,请联系您的专属客服
    │   ├── AddressBarredError      IP受限
    │   ├── BalanceTooLowError      余额不足
    │   ├── ParametersError         缺少参数, 参数错误
    │   ├── TemplateError           模板不存在或者未通过, 模板id格式不正确
    │   ├── AccountDailyCapError    当日发送量已超出最大发送限制
    │   ├── PhoneRefusedError       about one phone of the request
    │   │   ├── PhoneFormatError    手机号码格式不正确
    │   │   ├── PhoneDailyCapError  该号码今日发送次数已达上限
    │   │   └── PhoneTooOftenError  相同手机号码一分钟之内只可发送一次
    │   ├── UnlistedRefusalError    a message that the interface document does not list
    │   └── HttpRefusedError        an HTTP status that says no: 3xx, 401, 403, 404, 405, 407, 413
    │       └── HttpTooManyError    429
    └── InDoubtError                the request left, no answer that says what became of it
        ├── AnswerLostError         the connection broke, or the deadline passed
        ├── AnswerUnreadableError   an answer came, but not one of the platform's
        └── UnknownReasonError      未知原因,请联系客服

`outcome` says what a failed *send* means for the phones of the request; a balance question changes nothing
and may always be asked again. `passes_by_itself` says whether the same request can succeed later although
nobody changes anything, `can_be_lifted` whether a refused one can after somebody did. No message here carries a
key, a phone or a text.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, TypeVar

Refusal = TypeVar("Refusal", bound="SmsError")


class Outcome(Enum):
    """What became of a request's phones."""

    ACCEPTED = "accepted"
    UNSENT = "unsent"
    REFUSED = "refused"
    IN_DOUBT = "in doubt"


class SmsError(Exception):
    """A request that did not end in acceptance.

    :param what: what happened, in one sentence without key, phone or text.
    """

    outcome: ClassVar[Outcome]
    passes_by_itself: ClassVar[bool] = False
    remedy: ClassVar[str] = ""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} {self.remedy}".strip())
        self.what = what

    def __reduce__(self) -> tuple[type[SmsError], tuple[str, ...]]:
        return type(self), (self.what,)


def every_error(root: type[Refusal]) -> list[type[Refusal]]:
    """List a branch of the tree, itself included."""
    return [root, *(each for child in root.__subclasses__() for each in every_error(child))]


class InputError(SmsError, ValueError):
    """What was handed in can not be sent; the message names the field and the remedy."""

    outcome = Outcome.UNSENT


class AccountError(InputError):
    """The connection's settings are not usable."""


class PhonesError(InputError):
    """The phones are not usable."""


class NoPhonesError(PhonesError):
    """Nobody is left to send to: no phone was handed in, or none that may be texted."""


class PhonesSourceError(PhonesError):
    """Where the phones come from can not be read now; nothing was sent, and another try may fare better."""

    passes_by_itself = True


class MessagesError(InputError):
    """The personal texts are not usable."""


class MessagesSourceError(MessagesError):
    """Where the personal texts come from can not be read now; nothing was sent, and another try may fare better."""

    passes_by_itself = True


class TextError(InputError):
    """The text is not usable."""


class SendTimeError(InputError):
    """The time to send at is not usable."""


class GuardError(InputError):
    """A guard of the campaign holds it back; the message names the argument and the numbers."""


class HoursError(GuardError):
    """It is outside the sending hours, and the campaign shall neither wait nor be scheduled."""


class MaxPointsError(GuardError):
    """The plan costs more points than the campaign may."""


class MinBalanceError(GuardError):
    """Once everything is sent, fewer points would be left on the account than shall be."""

    remedy = "Top up the account; the next try sends what is left."


class UnsentError(SmsError):
    """No byte of the request left this machine: nothing was sent, repeating is safe."""

    outcome = Outcome.UNSENT
    passes_by_itself = True
    remedy = "Nothing was sent. Check the network, the proxy and the connection's host; repeating is safe."


class RefusedError(SmsError):
    """The platform answered no: nothing was sent.

    :param what: what happened, in one sentence.
    :param platform_message: the platform's own words, empty where it gave none.
    """

    outcome = Outcome.REFUSED
    can_be_lifted: ClassVar[bool] = True

    def __init__(self, what: str, platform_message: str = "") -> None:
        super().__init__(what)
        self.platform_message = platform_message

    def __reduce__(self) -> tuple[type[SmsError], tuple[str, ...]]:
        return type(self), (self.what, self.platform_message)


class CredentialsError(RefusedError):
    """App ID and App Key do not belong together."""

    remedy = "Check the connection's login (App ID) and password (App Key) against the platform's home page."


class AccountLockedError(RefusedError):
    """The platform has locked the account."""

    remedy = "Ask the platform's support to unlock the account."


class AddressBarredError(RefusedError):
    """The platform does not serve the address that the request came from."""

    remedy = "Have the outgoing address of this machine (or its proxy) put on the account's allow-list."


class BalanceTooLowError(RefusedError):
    """The account has fewer points than the request costs."""

    remedy = "Top up the account; the next try sends what is left."


class ParametersError(RefusedError):
    """The platform misses a parameter or rejects one."""

    remedy = "Check the text and the send time; if both are fine, report this as a bug of the provider."


class TemplateError(RefusedError):
    """The platform does not accept the text's template."""

    remedy = "Have the signature and the text's template approved in the platform's console."


class AccountDailyCapError(RefusedError):
    """The account has sent all it may send today."""

    passes_by_itself = True
    remedy = "The cap is lifted at midnight, Beijing time; have it raised if this happens often."


class PhoneRefusedError(RefusedError):
    """One phone of the request is the reason; the platform does not say which."""


class PhoneFormatError(PhoneRefusedError):
    """The platform does not take a phone of the request for a number."""

    can_be_lifted = False
    remedy = "Look for numbers that are not mainland mobiles; a smaller batch_size narrows it down."


class PhoneDailyCapError(PhoneRefusedError):
    """A phone of the request has received all it may receive today."""

    passes_by_itself = True
    remedy = "The cap is lifted at midnight, Beijing time."


class PhoneTooOftenError(PhoneRefusedError):
    """A phone of the request was texted less than a minute ago."""

    passes_by_itself = True
    remedy = "Wait a minute between two texts to one phone."


class UnlistedRefusalError(RefusedError):
    """The platform refused with a message that its interface document does not list."""

    can_be_lifted = False
    remedy = "Ask the platform's support what the message means."


class HttpRefusedError(RefusedError):
    """An HTTP status that says that the request was not taken.

    :param what: what happened, in one sentence.
    :param status: the HTTP status.
    """

    remedy = "Check the connection's host and proxy: what answered is hardly the platform's interface."

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status

    def __reduce__(self) -> tuple[type[SmsError], tuple[object, ...]]:  # type: ignore[override]
        return type(self), (self.what, self.status)


class HttpTooManyError(HttpRefusedError):
    """HTTP 429: too many requests for now."""

    passes_by_itself = True
    remedy = "Send more slowly, or ask the platform's support for the limit."


class InDoubtError(SmsError):
    """The request left, and nothing says what became of it: it may have been sent."""

    outcome = Outcome.IN_DOUBT
    passes_by_itself = True


class AnswerLostError(InDoubtError):
    """The connection broke, or the deadline passed, after the request had begun to leave."""

    remedy = "The platform may have taken the request: look into its console before you send again."


class AnswerUnreadableError(InDoubtError):
    """An answer came that is not one of the platform's."""

    remedy = "The platform may have taken the request: look into its console before you send again."


class UnknownReasonError(InDoubtError):
    """The platform itself does not know why: 未知原因,请联系客服."""

    remedy = "The platform may have taken the request: ask its support, or look into its console."
