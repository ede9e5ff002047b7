"""What can go wrong between us and the ledger: one class per remedy.

    LedgerError
    ├── LedgerUnreachableError   away, full, locked: the same step may succeed later
    │   └── LedgerBusyError      it is there, and too many want it at once
    │       └── LedgerDeadlockError  two waited for each other, and this step was undone: repeat it at once
    ├── LedgerVersionError       its tables are older or newer than this code
    ├── LedgerUnsuitableError    SQLite where several machines send
    ├── LedgerLostError          it does not know what it must know
    ├── LedgerDeafError          no push can come into it, as far as anybody knows
    ├── PlanChangedError         the campaign was planned with another text, category or time
    ├── CampaignPurgedError      the campaign's phones and texts were removed
    └── LedgerUsageError         a person asked for what can not be done

No message here carries a password, a phone or a text.
"""

from __future__ import annotations


class LedgerError(Exception):
    """The ledger can not do what is asked."""


class LedgerUnreachableError(LedgerError):
    """The database is away, full or locked; the same step may succeed later."""


class LedgerBusyError(LedgerUnreachableError):
    """The database is there: others hold what is wanted, or all its connections; they will have done soon."""


class LedgerDeadlockError(LedgerBusyError):
    """Two transactions waited for each other, and the database has undone this one, so that the other goes on."""


class LedgerVersionError(LedgerError):
    """The tables do not fit this code."""


class LedgerUnsuitableError(LedgerError):
    """This kind of database can not keep the promises here."""


class LedgerLostError(LedgerError):
    """An earlier try's plan must be here and is not."""


class LedgerDeafError(LedgerError):
    """No push has ever come in, and no receiver has run; set one up."""


class PlanChangedError(LedgerError):
    """The campaign has begun with another text, category or time."""


class CampaignPurgedError(LedgerError):
    """The campaign's phones and texts were removed; it can not be sent again."""


class LedgerUsageError(LedgerError):
    """A person asked for what can not be done; the message says what can."""
