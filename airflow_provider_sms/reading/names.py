"""How messages and rendered fields name a path, a connection or an error: without phones, passwords and signatures."""

from __future__ import annotations

import re

from airflow_provider_sms.gateway.phones import mask_inside, storable

# User and password end at the last @ before the first slash, or, where no port follows the colon, behind it: people
# paste AWS keys with slashes.
URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@|[^/?#:]*:(?!\d*/)[^?#]*@)?([^?#]*)")
"""A URL's scheme, and what follows user and password, without its query."""
_URL_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s?#'\"]*)[^\s'\"]*")
_LONGEST_NAME = 200


def name_of(path: object) -> str:
    """A path as it may be shown: a URL without user, password and query, which may be a signature."""
    return one_line(without_secrets(str(path)))


def without_secrets(path: str) -> str:
    """A path as it is; a URL without user, password and query."""
    url = URL.match(path)
    return "".join(url.groups()) if url else path


def one_line(text: object) -> str:
    """Any text as messages may show it."""
    return storable(mask_inside(str(text)), _LONGEST_NAME)


def said(error: Exception) -> str:
    """An error's class and the first line of its message, without phones and passwords."""
    line = next(iter(str(error).strip().splitlines()), "")
    rest = one_line(_URL_IN_TEXT.sub(r"\1\2", line)).rstrip(" .")
    return f"{type(error).__name__}: {rest}" if rest else type(error).__name__
