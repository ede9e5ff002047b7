"""Files of this machine and of object storages as bytes, decompressed.

May know Airflow's ObjectStoragePath, imported when a URL is opened.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeGuard

from airflow_provider_sms.gateway.errors import PhonesError, PhonesSourceError
from airflow_provider_sms.reading.names import URL, name_of, said, without_secrets

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath, XComArg

_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is to be read.

    :param path: a local path, a URL that Airflow's ObjectStoragePath takes, or such a path itself.
    :param conn_id: the connection for a URL.
    :param encoding: how its text is encoded.
    """

    path: str | PurePath | ObjectStoragePath | XComArg
    conn_id: str | None
    encoding: str

    @property
    def name(self) -> str:
        """The path as it may be shown."""
        return name_of(self.path)


def is_path(phones: object) -> TypeGuard[PurePath]:
    """Whether it is a path, of this machine or of an object storage."""
    return isinstance(phones, PurePath) or opens_itself(phones)


def opens_itself(path: object) -> bool:
    """Whether it is a path of an object storage, Airflow's or any of that family; without an import of Airflow."""
    return hasattr(path, "protocol") and hasattr(path, "open")


def blocks(file: StoredFile) -> Iterator[bytes]:
    """The file's bytes, decompressed, some at a time.

    :raises PhonesError: it can not be read.
    """
    try:
        path = _openable(file)
        with path.open("rb") as stored, _decompressed(file, stored) as plain:
            while block := plain.read(_BLOCK):
                yield block
    except PhonesError:
        raise
    except Exception as error:  # noqa: BLE001 - each object storage raises its own
        raise _unreadable(file.name, error) from None


def _openable(file: StoredFile) -> Any:
    path = file.path
    if opens_itself(path):
        return path
    if not isinstance(path, str):
        raise PhonesError(f"phones: path: expected a path or URL, got {type(path).__name__}.")
    if not path.strip():
        raise PhonesError("phones: path: it is empty; name the file that holds the phones.")
    if url := URL.match(path):
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        if not file.conn_id:
            return ObjectStoragePath(path)
        # What stands before an @ is a connection's id to Airflow, and may beat the one asked for here.
        return ObjectStoragePath(url[1] + path[url.start(2) :], conn_id=file.conn_id)
    if file.conn_id:
        raise PhonesError(f"phones: conn_id is for a URL such as s3://bucket/phones.csv, and {name_of(path)} is none.")
    return Path(path)


def _decompressed(file: StoredFile, stored: Any) -> contextlib.AbstractContextManager[Any]:
    if not without_secrets(str(file.path)).lower().endswith(".gz"):
        return contextlib.nullcontext(stored)
    from gzip import GzipFile

    return GzipFile(fileobj=stored, mode="rb")


def _unreadable(name: str, error: Exception) -> PhonesError:
    """What is to be done about a file that can not be read."""
    from gzip import BadGzipFile

    match error:
        case FileNotFoundError() | NotADirectoryError():
            return PhonesSourceError(f"phones: there is no file {name}; look for it where the task runs.")
        case IsADirectoryError():
            return PhonesError(f"phones: {name} is a folder; name the file in it.")
        case PermissionError():
            return PhonesError(f"phones: no permission to read {name}; give it to the user that the task runs as.")
        case BadGzipFile() | EOFError() | zlib.error():
            return PhonesError(f"phones: {name} is no whole gzip file; compress it again, or drop the .gz.")
        case ImportError() | LookupError() | TypeError() | ValueError():
            return PhonesError(
                f"phones: {name} can not be read: {said(error)}. Check the path and conn_id, and that the provider "
                "for such paths is installed."
            )
    return PhonesSourceError(f"phones: {name} can not be read: {said(error)}. Check the path and conn_id.")
