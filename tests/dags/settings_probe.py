"""Asks the settings where the ledger is, and logs what nobody should. As a program: asks as `airflow-sms` would.

Imports nothing of Airflow: what asks first has to find everything by itself.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from airflow_provider_sms import settings

OPTION = "AIRFLOW__SMS__SQL_ALCHEMY_CONN"
# The environment variables that the test hands over in: what to set `OPTION` and its other forms to, and a folder.
FORMS = "SETTINGS_FORMS"
ANSWERS = "SETTINGS_ANSWERS"


def tell(place: str) -> None:
    """Leave in a file what `ledger_url` says of each form; the first form is what the process was started with."""
    forms = json.loads(os.environ[FORMS])
    answers = {form: _ask(OPTION + form, value) for form, value in forms.items()}
    file = Path(os.environ[ANSWERS], f"{place}.json")
    half = file.with_suffix(".half")
    half.write_text(json.dumps(answers))
    half.rename(file)


def _ask(variable: str, value: str) -> str | None:
    for name in [name for name in os.environ if name.startswith(OPTION)]:
        del os.environ[name]
    os.environ[variable] = value
    try:
        url = settings.ledger_url()
    except settings.SettingsError as error:
        return str(error)
    password = (url or "").partition("@")[0].rpartition(":")[2]
    log = logging.getLogger(__name__)
    log.warning("the ledger: %s", url)
    log.warning("its password: %s, that is %s", password, password.replace("%2F", "/"))
    return url


if __name__ == "__main__":
    tell(sys.argv[1])
