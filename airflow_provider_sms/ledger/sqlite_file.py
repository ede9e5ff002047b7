"""The SQLite file: made on first use, and what its place means for what it may promise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sqlalchemy.engine.url import URL

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans

NAME = "sms_ledger.db"
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset({"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre"})
_NETWORK_KINDS = ("nfs", "smb")


def make(path: Path, first: CampaignKey | None = None) -> bool:
    """Make the file with its tables, if it is not there; several processes at once make one.

    :param first: a campaign that begins with this file: there is no moment at which the file is there and does not
        know of it.
    :returns: whether this call made it.
    :raises LedgerUnreachableError: it can not be made there.
    """
    if path.exists():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # For its owner alone: phones and texts are nobody else's business.
        handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".new", dir=path.parent)
        os.close(handle)
        try:
            ledger = Ledger(URL.create("sqlite", database=name))
            versions.upgrade(ledger)
            if first is not None:
                Plans(ledger, own_name()).enter(first)
            ledger.close()
            try:
                os.link(name, path)
            except FileExistsError:
                return False
        finally:
            for ending in ("", "-wal", "-shm"):
                Path(name + ending).unlink(missing_ok=True)
    except OSError as error:
        raise LedgerUnreachableError(f"The ledger ({path}) can not be made: {error.strerror}.") from None
    return True


def warning(path: Path) -> str:
    """Say why a ledger at this place may be lost or torn.

    :returns: empty if nothing is known to speak against it.
    """
    kind = file_system(path)
    if kind == "overlay":
        return (
            f"The ledger ({path}) lies in a container's own layer and is lost with the container: a later try would "
            "text everybody again. Put AIRFLOW_HOME on a volume, or set [sms] sql_alchemy_conn."
        )
    if kind in ("tmpfs", "ramfs"):
        return (
            f"The ledger ({path}) lies in memory and is lost with the machine's next start. Put AIRFLOW_HOME on a "
            "disk, or set [sms] sql_alchemy_conn."
        )
    if kind in _NETWORK or kind.startswith(_NETWORK_KINDS):
        return (
            f"The ledger ({path}) lies on a network file system ({kind}), where SQLite's locks can not be relied on. "
            "Put AIRFLOW_HOME on a local disk, or set [sms] sql_alchemy_conn."
        )
    return ""


def file_system(path: Path, mounts: Path = _MOUNTS) -> str:
    """Tell which kind of file system a path is on.

    :param mounts: a file in the format of /proc/self/mountinfo.
    :returns: such as `ext4`; empty if this system does not say.
    """
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    target = path.absolute()
    for line in lines:
        fields, _, rest = line.partition(" - ")
        mount = Path(fields.split()[4].encode().decode("unicode_escape"))
        # The last mount of a place hides those before it.
        if target.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), rest.split()[0]
    return kind
