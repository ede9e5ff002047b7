"""A text as it goes out: fit to send, and saying how to opt out where that is wanted.

Joins guards and gateway; knows neither the ledger nor Airflow.
"""

from __future__ import annotations

from airflow_provider_sms.gateway import texts, wording
from airflow_provider_sms.gateway.errors import TextError
from airflow_provider_sms.guards import OptOutWording


def prepare_text(content: str, signature: str | None, wanted: OptOutWording | None) -> tuple[texts.Text, str | None]:
    """Make a text ready to send, and see that it says how to opt out if that is wanted.

    :param signature: see `texts.prepare`.
    :param wanted: what to do if it does not say it; None to leave it alone.
    :returns: the text, and `added`, `present` or None.
    :raises TextError: it can not be sent, or does not say it.
    """
    text = texts.prepare(content, signature)
    if wanted is None:
        return text, None
    if wording.says_how_to_opt_out(text.content):
        return text, "present"
    if wanted is OptOutWording.REQUIRE:
        raise TextError(
            f"content: the text does not say how to opt out, such as {wording.WORDING} (opt_out_wording='require')."
        )
    try:
        return texts.prepare(wording.with_opt_out(text.content)), "added"
    except TextError as error:
        raise TextError(f"{error.what} That is with {wording.WORDING}, which was added (opt_out_wording).") from None
