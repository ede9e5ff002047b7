"""The platform's two calls: send to a group, ask the balance. Knows the wire, keeps nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from airflow_provider_sms.gateway import times
from airflow_provider_sms.gateway.account import LARGEST_BATCH, Account
from airflow_provider_sms.gateway.answers import Acceptance, read_acceptance, read_balance
from airflow_provider_sms.gateway.errors import AnswerLostError, PhonesError, UnsentError
from airflow_provider_sms.gateway.transport import Exchange, Form, RawAnswer, Transport, TransportError

SEND_PATH = "/smsApi/group"
BALANCE_PATH = "/smsApi/group/getBalance"


class SmsClient:
    """The platform, as one account sees it. May be used by several threads at once.

    :param account: whose account, and how to reach the platform.
    :param clock: gives the time, aware; for the 30-minute rule of `send_time`.
    """

    def __init__(self, account: Account, *, clock: Callable[[], datetime] = times.now) -> None:
        self.account = account
        self._clock = clock
        self._transport = Transport(account.base_url, proxy=account.proxy, ca_file=account.ca_file)

    def send(
        self,
        phones: Sequence[str],
        content: str,
        send_time: datetime | None = None,
        *,
        leaving: Callable[[float], None] | None = None,
    ) -> Acceptance:
        """Send one text to a group of phones, in one request, once.

        :param phones: mainland mobiles, eleven digits each, each once (see `phones.read`).
        :param content: the text with its signature (see `texts.prepare`).
        :param send_time: aware, at least 31 minutes from now, or None for at once.
        :param leaving: called immediately before the first byte of the request leaves, with the seconds that the
            request may still take; what it raises stops it.
        :returns: the platform's acceptance with its taskId.
        :raises InputError: the request can not be sent; nothing was.
        :raises UnsentError: proven unsent; repeating is safe.
        :raises RefusedError: the platform said no; nothing was sent.
        :raises InDoubtError: the request left and may have been accepted; do not repeat it blindly.

        Interface document: 1.发送接口.
        """
        if not 1 <= len(phones) <= LARGEST_BATCH:
            raise PhonesError(
                f"phones: {len(phones):,} in one request; hand in 1 to {LARGEST_BATCH:,}, or use a smaller batch_size."
            )
        wire_time = times.wire_time(send_time, self._clock())
        form = self._form(phone=",".join(phones), content=content, sendTime=wire_time)
        # Some tracebacks print every local variable.
        del phones, content
        return read_acceptance(self._post(SEND_PATH, form, leaving))

    def get_balance(self) -> int:
        """Ask how many points the account has left.

        :raises UnsentError: the question did not get out.
        :raises RefusedError: the platform said no.
        :raises InDoubtError: no readable answer; asking again is harmless.

        Interface document: 3.余额查询接口.
        """
        return read_balance(self._post(BALANCE_PATH, self._form(), None))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _form(self, **fields: str) -> Form:
        # Both calls send a form: the document's balance sample puts the App Key into the address, for every
        # access log on the way to keep.
        return Form({"appId": self.account.app_id, "appKey": self.account.app_key, **fields})

    def _post(self, path: str, form: Form, leaving: Callable[[float], None] | None) -> RawAnswer:
        exchange = Exchange(time.monotonic() + self.account.timeout, leaving)
        try:
            return self._transport.post(self.account.base_url + path, form, exchange)
        except TransportError as error:
            if exchange.has_left:
                raise AnswerLostError(f"The request left, but no answer came: {error.reason}.") from None
            raise UnsentError(f"The platform can not be reached: {error.reason}.") from None
