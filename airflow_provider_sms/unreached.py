"""The phones that an earlier campaign has not reached, as the phones of the next one. Joins settings and ledger.

Light for a DAG file: the ledger is imported and opened when the phones are read.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_sms.gateway.errors import PhonesError, PhonesSourceError
from airflow_provider_sms.gateway.phones import mask_inside, storable
from airflow_provider_sms.gateway.receipts import CAUSES
from airflow_provider_sms.recipients import PhoneSource

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import XComArg

    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.targets import Target
    from airflow_provider_sms.ledger.unreached import Missed

log = logging.getLogger(__name__)

OUTCOMES = ("failed", "unknown", "refused", "expired")
NOT_AGAIN = ("dead_number", "blacklist", "uncertain")
"""Causes of failures after which another text makes no sense, is not wanted, or would be a second one."""

_LONGEST_NAME = 200


@dataclass(repr=False)
class UnreachedPhones(PhoneSource):
    """
    Phones that the text of an earlier campaign has not reached, by its receipts: for a follow-up.

    .. code-block:: python

        SmsGroupSendOperator(
            task_id="follow_up",
            phones=UnreachedPhones("sale {{ run_id }}"),
            content="【云通信】Last day of the sale.",
            category="marketing",
        )

    Whoever has got the text is never among them, nor whoever may have: phones in doubt, with receipts that contradict
    each other, or with a failure that the code calls uncertain. Nor are dead numbers and those that have blacklisted
    the sender. A follow-up's plan is stored at its first try, as any other's: what receipts say later does not
    change it once it has begun.

    Receipts come until 48 to 72 hours after a text: let an `SmsDeliverySensor` wait for them first.

    Interface document: 2.回执/回复推送接口.

    :param campaign: the earlier campaign's name, key or id. (templated)
    :param outcomes: which phones: `failed` by a final receipt; `unknown`, taken by the platform and without a final
        receipt at the deadline, so some of them will have got it; `refused` by the platform; `expired` before they
        were sent to.
    :param except_causes: classes of failures that are left out: of `dead_number, handset, blacklist, content, quota,
        hours, network, uncertain, other`, and an empty text for a receipt without a code.
    :param deadline: how long after the last text went out a receipt is waited for; until then nobody is `unknown`.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("campaign",)

    campaign: str | XComArg
    outcomes: Collection[str] = ("failed",)
    except_causes: Collection[str] = NOT_AGAIN
    deadline: timedelta = timedelta(hours=72)

    def __post_init__(self) -> None:
        # A wrong choice shall show when the DAG is read, not when it is to send.
        _check("outcomes", self.outcomes, OUTCOMES)
        _check("except_causes", self.except_causes, CAUSES)
        if not self.outcomes:
            raise ValueError(f"outcomes: there is none; choose of {', '.join(OUTCOMES)}.")

    def __str__(self) -> str:
        campaign = storable(mask_inside(str(self.campaign)), _LONGEST_NAME)
        return f"phones that campaign {campaign} has not reached ({', '.join(self.outcomes)})"

    def __repr__(self) -> str:
        return f"<{self}>"

    def chunks(self) -> Iterator[list[object]]:
        """Read them as they are now, a chunk at a time; nobody, where all runs are dry and the campaign was not sent.

        :raises PhonesSourceError: the campaign is still under way, or receipts may still come; another try may do.
        :raises PhonesError: there is no such campaign, or its phones were removed.
        :raises LedgerError: the ledger can not be used, or no receiver has ever run on it.
        """
        from airflow_provider_sms import settings
        from airflow_provider_sms.ledger.errors import CampaignPurgedError, LedgerDeafError, LedgerUsageError

        if not isinstance(self.campaign, str) or not self.campaign.strip():
            raise PhonesError("phones: campaign: name the one whose unreached phones are meant.")
        try:
            yield from self._read(self.campaign.strip())
        except (LedgerUsageError, LedgerDeafError, CampaignPurgedError) as error:
            if settings.dry_run():
                log.info("Dry run: %s. So nobody is unreached.", error)
            elif isinstance(error, LedgerDeafError):
                raise
            else:
                raise PhonesError(f"phones: {error}") from None

    def count(self) -> int:
        """Count them as they are now, such as in a task that decides whether a follow-up is worth it.

        :raises PhonesError: as when they are read.
        :raises LedgerError: likewise.
        """
        return sum(len(chunk) for chunk in self.chunks())

    def _read(self, campaign: str) -> Iterator[list[object]]:
        from airflow_provider_sms import settings
        from airflow_provider_sms.ledger import targets, unreached
        from airflow_provider_sms.looking import caught_up

        with caught_up(log) as ledger:
            target = targets.campaign(ledger, campaign, settings.namespace())
            self._check_over(ledger, target)
            yield from map(list, unreached.read(ledger, _id(target), self._missed()))

    def _missed(self) -> Missed:
        from airflow_provider_sms.ledger.unreached import Miss, Missed

        return Missed({Miss(each) for each in self.outcomes}, CAUSES.keys() - set(self.except_causes))

    def _check_over(self, ledger: Ledger, target: Target) -> None:
        """See that nobody is taken for missed who is only not reached yet."""
        from airflow_provider_sms.ledger import deliveries

        counts = deliveries.of_campaigns(ledger, [_id(target)]).get(_id(target))
        if not target.is_planned or counts is None or counts.open:
            raise PhonesSourceError(
                f"phones: campaign {target.name!r} is still being sent; let it end, then repeat this."
            )
        due = target.deadline(self.deadline)
        open_ones = counts.accepted - counts.final
        if "unknown" in self.outcomes and open_ones > 0 and target.now < due:
            raise PhonesSourceError(
                f"phones: campaign {target.name!r} waits for receipts of {open_ones} phones, until "
                f"{due:%Y-%m-%d %H:%M} UTC; wait for them by an SmsDeliverySensor with this deadline, or leave "
                "'unknown' out of the outcomes."
            )


def _id(target: Target) -> int:
    assert target.campaign_id is not None  # noqa: S101 - it is a campaign's
    return target.campaign_id


def _check(name: str, chosen: Collection[str], known: Collection[str]) -> None:
    if isinstance(chosen, str):
        raise ValueError(f"{name}: expected a list of texts, got a text; write [{chosen!r}].")
    if unknown := [each for each in chosen if each not in known]:
        choices = ", ".join(repr(each) for each in known)
        raise ValueError(f"{name}: there is no {', '.join(map(repr, unknown))}; choose of {choices}.")
