"""The texts of alarms as campaigns: one alarm's, and those that tell of what was held back.

Joins hook, ledger and sending; knows no callback.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_sms import alarm_texts
from airflow_provider_sms.gateway import cutting
from airflow_provider_sms.gateway.errors import InputError, Outcome, SmsError
from airflow_provider_sms.ledger.alarm_ends import AlarmEnds
from airflow_provider_sms.ledger.alarms import Alarms, Share
from airflow_provider_sms.ledger.errors import LedgerError
from airflow_provider_sms.ledger.keys import LONGEST_KEY, CampaignKey
from airflow_provider_sms.ledger.schema import AlarmKind
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Planner, Try, begin
from airflow_provider_sms.policy import OnChanged, Policy
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.sending import Sender

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.answers import Acceptance
    from airflow_provider_sms.gateway.client import SmsClient
    from airflow_provider_sms.hooks.sms import SmsHook
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.planning import Log

SETTLE_LIMIT = 20.0
# What a refusal that passes, one text a minute for a phone, may keep a callback waiting.
MAX_WAIT = timedelta(seconds=90)
_POLICY = Policy(on_changed=OnChanged.RESUME, max_wait=MAX_WAIT)
# A younger text may still be on its way, in a process that waits.
_UNFINISHED_AFTER = timedelta(minutes=5)
_LONGEST_ENDING = 40


class WatchedClient:
    """A client that remembers whether anything may have left."""

    def __init__(self, client: SmsClient) -> None:
        self._client = client
        self.account = client.account
        self.has_left = False

    def send(self, *args: Any, **kwargs: Any) -> Acceptance:
        """See `SmsClient.send`."""
        try:
            acceptance = self._client.send(*args, **kwargs)
        except SmsError as error:
            self.has_left = self.has_left or error.outcome is Outcome.IN_DOUBT
            raise
        self.has_left = True
        return acceptance


def send_share(
    ledger: Ledger, hook: SmsHook, client: WatchedClient, namespace: str, share: Share, content: str, log: Log
) -> None:
    """Send one text of an alarm as a campaign, and write down what became of it.

    :param content: the text, with or without a signature.
    :raises LedgerError: the ledger can not be used; `client.has_left` tells whether the text may have gone out.
    :raises SmsError: it can not be sent, and is held back again.
    :raises CampaignError: likewise, or it is in doubt.
    """
    key = campaign_key(namespace, share)
    try:
        order = make_order(hook.account, content, category="notice", policy=_POLICY)
        begin(ledger, key, Try())
        planner = Planner(ledger, key, order, lambda: [list(share.phones)], log, _POLICY)
        default, limit = hook.default_account, SETTLE_LIMIT
        sender: Any = Sender(
            ledger,
            client,  # type: ignore[arg-type]
            planner.plan(),
            _POLICY,
            log,
            default_account=default,
            observer=hook.observer,
            settle_limit=limit,
        )
        sender.send()
    except CampaignError as error:
        _settle(ledger, share, key, log)
        raise error.with_traceback(None) from None
    except InputError:
        AlarmEnds(ledger).give_back(share)
        raise
    _settle(ledger, share, key, log)


def campaign_key(namespace: str, share: Share) -> CampaignKey:
    """What a text of an alarm is among the campaigns."""
    number = f" {share.alarm_id}" if share.kind is AlarmKind.FLUSH else ""
    others = f" (+{share.others})" if share.others else ""
    return CampaignKey(namespace, campaign_key=f"{share.name[: LONGEST_KEY - _LONGEST_ENDING]}{number}{others}")


def _settle(ledger: Ledger, share: Share, key: CampaignKey, log: Log) -> None:
    try:
        AlarmEnds(ledger).settle(share, key)
    except LedgerError as error:
        log.warning("%s What became of this alarm is in its campaign; the next flush looks there.", error)


@dataclass(slots=True)
class Flushed:
    """What was told of what had been held back.

    :param phones: that were texted.
    :param alarms: that they were told of; one that three phones were told of counts three times.
    :param failed: phones that could not be texted: for them it stays held back.
    :param problem: the first thing that went wrong.
    """

    phones: int = 0
    alarms: int = 0
    failed: int = 0
    problem: Exception | None = None


def flush(ledger: Ledger, hook: SmsHook, namespace: str, language: str, log: Log) -> Flushed:
    """Send what a process has left behind, and tell each phone in one text of all that is held back for it.

    :param language: of the texts, `zh` or `en`.
    :raises LedgerError: the ledger can not be used.
    """
    # Looked up before anything is taken: what is taken and not sent waits to be found again.
    signature, client = hook.account.signature, hook.get_conn()
    done, alarms = Flushed(), Alarms(ledger)
    for share in (*alarms.unfinished(namespace, _UNFINISHED_AFTER), *alarms.flush(namespace, "alarms held back")):
        if share.kind is AlarmKind.FLUSH:
            content = alarm_texts.held_back(share.others, share.content, signature, language)
        else:
            # Where the ledger went away, its process may have sent it without: nobody can tell.
            note = alarm_texts.more(share.others, language) + alarm_texts.maybe_again(language)
            content = cutting.with_note(share.content, note)
        try:
            send_share(ledger, hook, WatchedClient(client), namespace, share, content, log)
        except (SmsError, CampaignError) as error:
            log.error("Alarms that were held back could not be sent to %d phones: %s", len(share.phones), error)
            done.failed += len(share.phones)
            done.problem = done.problem or error
        else:
            done.phones += len(share.phones)
            done.alarms += len(share.phones) * (share.others + (share.kind is AlarmKind.ALARM))
    return done
