"""Files as lines of text, in whatever encoding they are."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Iterator
from io import IncrementalNewlineDecoder
from itertools import chain

from airflow_provider_sms.gateway.errors import PhonesError
from airflow_provider_sms.reading.files import StoredFile, blocks

_LONGEST_LINE = 1 << 20


def lines_of(file: StoredFile) -> Generator[list[str]]:
    """The lines, without their ends, some at a time.

    :raises PhonesError: it can not be read, or is no text in its encoding.
    """
    number = 0
    rest = ""
    for text in _texts(file):
        *lines, rest = (rest + text).split("\n")
        number += len(lines)
        if len(rest) > _LONGEST_LINE:
            raise PhonesError(
                f"phones: {file.name}, line {number + 1}: longer than {_LONGEST_LINE:,} characters; "
                "write one phone a line, or a CSV and its column."
            )
        yield lines
    if rest:
        yield [rest]


def _texts(file: StoredFile) -> Iterator[str]:
    """The decoded file, with `\n` for every line's end."""
    name = file.name
    encoding = file.encoding
    try:
        b" ".decode(encoding, "ignore")  # refuses what encodes other things than text, too
        decoder = IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    except (LookupError, TypeError, ValueError):
        raise PhonesError(f"phones: encoding: there is none that is called {encoding!r}, such as gb18030.") from None
    size = 0
    lines = 1
    for block in chain(blocks(file), [b""]):
        size += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise PhonesError(f"phones: {name}, {_undecodable(error, encoding, size, lines)}") from None
        if "\0" in text:
            line = lines + text[: text.index("\0")].count("\n")
            raise PhonesError(
                f"phones: {name}, line {line}: a NUL character; it is no text in {encoding}: say its encoding, such "
                "as utf-16, or save it as text."
            )
        lines += text.count("\n")
        yield text


def _undecodable(error: UnicodeError, encoding: str, size: int, lines: int) -> str:
    remedy = "say the file's encoding, such as gb18030."
    if not isinstance(error, UnicodeDecodeError):
        return f"line {lines}: no text in {encoding}; {remedy}"
    # What the decoder was looking at is the end of all that it has been given.
    position = size - len(error.object) + error.start
    line = lines + error.object[: error.start].count(b"\n")
    byte = error.object[error.start]
    return f"line {line}: byte 0x{byte:02x} at position {position:,} is no text in {encoding}; {remedy}"
