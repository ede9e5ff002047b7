"""Ask people by SMS before a DAG goes on: Airflow's shape around a campaign with a one-time code and its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, conf

from airflow_provider_sms.gateway.approvals import Answers, Verdict, check_question, decide, make_code, make_question
from airflow_provider_sms.gateway.categories import Category
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.operators.campaign import (
    CampaignOperator,
    sender,
    which_try,
)
from airflow_provider_sms.policy import OnInDoubt, Policy, read_switch
from airflow_provider_sms.rendering import lasting, phones_shown, text_shown, unwrapped

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_sms.gateway.approvals import Decision
    from airflow_provider_sms.ledger.answers import Answered
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.keys import CampaignKey
    from airflow_provider_sms.orders import Order
    from airflow_provider_sms.planning import Planner
    from airflow_provider_sms.recipients import PhoneSource

_ON_REJECTED = ("fail", "skip")
# What a dry run shows in its place.
_NO_CODE = "000000"
# How long a worker waits at most until it looks again, where the ledger is away for a moment.
_IN_PLACE = 5.0


class SmsApprovalOperator(CampaignOperator):
    """
    Ask people by SMS whether the DAG may go on, and wait until one of them has answered.

    .. code-block:: python

        SmsApprovalOperator(
            task_id="may_delete",
            phones=["13800130001", "13800130002"],
            question="【云通信】Delete the old partitions? Reply Y {code} or N {code}.",
            deferrable=True,
        ) >> delete

    The text carries a one-time code of six digits, and an answer counts only if it comes from one of these phones
    and carries the code: a sender's number can be forged. A phone that has sent five wrong codes does not count any
    more. The first answer that counts decides. Every try asks with the same code and texts nobody twice; what was
    answered between two tries is not lost.

    The return value says who approved: `approved, by` (masked), `replyId, campaign`.

    Interface document: 1.发送接口 and 2.回执/回复推送接口.

    :param phones: whom to ask; what the group send operator takes. (templated)
    :param question: the text, with `{code}` where the code goes; without it, how to answer is added in Chinese.
        (templated)
    :param approve: words that approve; case, width, blanks and what stands between word and code do not matter.
    :param reject: words that reject.
    :param on_rejected: `fail` for good, or `skip` this task and what depends on it.
    :param timeout: how long after the question was planned an answer counts; then the task fails for good.
    :param poke_interval: seconds between two looks for an answer.
    :param deferrable: wait in the triggerer; all that wait there share one query an interval.
    :param sms_conn_id: the connection, of type `sms`. (templated)
    :param campaign_key: what makes it the same question; None for this DAG run's task. (templated)
    :param on_in_doubt: what to do if nobody knows whether the question went out, see the group send operator.
    :param max_errors: failures in a row to put up with while the ledger is away.
    :param dry_run: log what would be asked, ask nobody, and skip this task and what depends on it: nobody has
        approved it. `[sms] dry_run` does so for all of them.
    """

    template_fields: Sequence[str] = ("phones", "question", "sms_conn_id", "campaign_key")
    template_fields_renderers = {"question": "text"}  # noqa: RUF012
    shown = {"phones": phones_shown, "question": text_shown}  # noqa: RUF012
    ui_color = "#e3f4e8"

    def __init__(
        self,
        *,
        phones: str | Iterable[str | int] | PhoneSource | Path | XComArg,
        question: str | XComArg,
        approve: Iterable[str] = ("Y", "同意", "yes"),
        reject: Iterable[str] = ("N", "拒绝", "no"),
        on_rejected: str = "fail",
        timeout: timedelta = timedelta(hours=24),
        poke_interval: float = 30,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        sms_conn_id: str = SmsHook.default_conn_name,
        campaign_key: str | None = None,
        on_in_doubt: str = OnInDoubt.FAIL.value,
        max_errors: int = 10,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow's own operators have a method `dry_run`.
        self.is_dry_run = read_switch("dry_run", dry_run)
        self.phones = lasting(phones)
        self.question = question
        self.approve = approve if isinstance(approve, str) else list(approve)
        self.reject = reject if isinstance(reject, str) else list(reject)
        self.on_rejected = on_rejected
        self.timeout = timeout
        self.poke_interval = poke_interval
        self.deferrable = deferrable
        self.sms_conn_id = sms_conn_id
        self.campaign_key = campaign_key
        self.on_in_doubt = on_in_doubt
        self.max_errors = max_errors
        # A wrong choice shall show when the DAG is read, not when it is to ask.
        if isinstance(question, str):
            check_question(question)
        if on_rejected not in _ON_REJECTED:
            raise ValueError(f"on_rejected: {on_rejected!r} is none of {', '.join(map(repr, _ON_REJECTED))}.")
        self._answers()
        self._policy()

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask, and wait for an answer.

        :raises AirflowFailException: it was rejected, nobody has answered in time, or it can not be asked.
        :raises AirflowSkipException: it was rejected, and `on_rejected` is `skip`; or it is a dry run.
        """
        from airflow_provider_sms import settings

        if self._in_words(lambda: self.is_dry_run or settings.dry_run()):
            self._in_words(lambda: self._rehearse(context))
            raise AirflowSkipException("Dry run: nobody was asked, so nobody has approved.")
        return self._ask(context, lambda planner: planner.plan(), waited=0.0)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Carry on with asking after having been deferred.

        :param event: what `SmsPauseTrigger` says.
        """
        return self._ask(context, lambda planner: planner.resume(), waited=event["waited"])

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Look at what has come meanwhile, and wait on if nothing is decided.

        :param event: the trigger's event.
        """
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError

        match event:
            case {"status": "look"}:
                return self._wait(context)
            case {"status": "unreachable", "message": str(message)}:
                raise LedgerUnreachableError(f"Gave up after {event['errors']} failures in a row; the last: {message}")
        raise AirflowFailException(event.get("message", "The trigger ended without a word."))

    # The question

    def _ask(self, context: Context, find: Callable[[Planner], Campaign], *, waited: float) -> dict[str, Any]:
        self._in_words(lambda: self._ask_or_raise(context, find, waited))
        return self._wait(context)

    def _rehearse(self, context: Context) -> None:
        from airflow_provider_sms.sources import of_phones

        hook = SmsHook(self.sms_conn_id)
        order = self._order(hook, _NO_CODE)
        source = of_phones(unwrapped(self.phones), "" if order.text is None else order.text.content)
        self._preview(hook, self._key(context), source, order, self._policy())

    def _order(self, hook: SmsHook, code: str) -> Order:
        from airflow_provider_sms.orders import make_order

        content = make_question(str(unwrapped(self.question)), code, self._answers())
        return make_order(hook.account, content, category=Category.NOTICE.value, policy=self._policy())

    def _ask_or_raise(self, context: Context, find: Callable[[Planner], Campaign], waited: float) -> None:
        from airflow_provider_sms import recipients
        from airflow_provider_sms.ledger import answers, hearing
        from airflow_provider_sms.opening import open_for_campaign
        from airflow_provider_sms.planning import Planner

        key = self._key(context)
        with closing(open_for_campaign(self.log, key, which_try(context))) as ledger:
            hearing.check(ledger)
            hook = SmsHook(self.sms_conn_id)
            policy = self._policy()
            code = make_code(answers.secret(ledger), key.hash)
            order = self._order(hook, code)
            planner = Planner(ledger, key, order, lambda: recipients.stream(unwrapped(self.phones)), self.log, policy)
            self._send_planned(context, hook, planner, find, waited)

    # The answer

    def _wait(self, context: Context) -> dict[str, Any]:
        while True:
            answered, decision = self._look_patiently(context)
            if decision.verdict is not None:
                return self._end(context, decision)
            seconds = (answered.asked_at + self.timeout - answered.now).total_seconds()
            if seconds <= 0:
                raise AirflowFailException(
                    f"Nobody has answered within {self.timeout}: {self._told(decision)}. To ask anew, use another "
                    "campaign_key or DAG run."
                )
            self.log.info("No answer so far: %s; waiting for %.0f s at most.", self._told(decision), seconds)
            if self.deferrable:
                self._defer_until(answered, seconds)
            time.sleep(min(max(self.poke_interval, 1.0), seconds))

    def _look_patiently(self, context: Context) -> tuple[Answered, Decision]:
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError

        for number in range(1, self.max_errors + 1):
            try:
                return self._in_words(lambda: self._look(context))
            except LedgerUnreachableError as error:
                self.log.warning("The ledger says nothing (%d of %d in a row): %s", number, self.max_errors, error)
                time.sleep(min(self.poke_interval, _IN_PLACE))
        return self._in_words(lambda: self._look(context))

    def _look(self, context: Context) -> tuple[Answered, Decision]:
        from airflow_provider_sms import looking
        from airflow_provider_sms.ledger import answers

        with looking.caught_up(self.log) as ledger:
            key = self._key(context)
            answered = answers.read(ledger, self._campaign_id(ledger, key))
            until = answered.asked_at + self.timeout
            in_time = (reply for reply in answered.replies if reply.received_at <= until)
            return answered, decide(in_time, make_code(answers.secret(ledger), key.hash), self._answers())

    @staticmethod
    def _campaign_id(ledger: Ledger, key: CampaignKey) -> int:
        from airflow_provider_sms.ledger.errors import LedgerLostError
        from airflow_provider_sms.ledger.owners import own_name
        from airflow_provider_sms.ledger.plans import Plans

        campaign = Plans(ledger, own_name()).find(key)
        if campaign is None or campaign.planned_at is None:
            raise LedgerLostError(f"The ledger was lost: question {key.name!r} was asked, and it is not there.")
        return campaign.id

    def _defer_until(self, answered: Answered, seconds: float) -> NoReturn:
        from airflow_provider_sms.triggers.approval import SmsAnswerTrigger

        trigger = SmsAnswerTrigger(
            campaign_id=answered.campaign_id,
            seen=answered.count,
            until=time.time() + seconds,
            poke_interval=self.poke_interval,
            max_errors=self.max_errors,
        )
        self.defer(trigger=trigger, method_name="execute_complete")
        raise AssertionError  # deferring raises

    def _end(self, context: Context, decision: Decision) -> dict[str, Any]:
        from airflow_provider_sms.gateway.phones import mask

        assert decision.reply is not None  # noqa: S101 - for the types
        by, reply_id = mask(decision.reply.phone), str(decision.reply.id)
        self.log.info("%s by %s, reply %s; %s.", decision.verdict, by, reply_id, self._told(decision))
        if decision.verdict is Verdict.APPROVED:
            return {"approved": True, "by": by, "replyId": reply_id, "campaign": self._key(context).name}
        message = f"Rejected by {by}, reply {reply_id}."
        if self.on_rejected == "skip":
            raise AirflowSkipException(message)
        raise AirflowFailException(message)

    @staticmethod
    def _told(decision: Decision) -> str:
        told = f"{decision.wrong_codes} answers with a wrong code, {decision.unread} replies that are no answer"
        return told + (f", {decision.barred} phones barred for too many wrong codes" if decision.barred else "")

    # What both need

    def _key(self, context: Context) -> CampaignKey:
        from airflow_provider_sms import settings
        from airflow_provider_sms.ledger.keys import CampaignKey

        return CampaignKey(settings.namespace(), sender(context), self.campaign_key)

    def _answers(self) -> Answers:
        approve, reject = (each if isinstance(each, str) else tuple(each) for each in (self.approve, self.reject))
        return Answers(approve, reject)  # type: ignore[arg-type]

    def _policy(self) -> Policy:
        try:
            return Policy(on_in_doubt=self.on_in_doubt, valid_for=self.timeout)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(str(error).replace("valid_for", "timeout")) from None
