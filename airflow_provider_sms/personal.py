"""Personal texts: rows become phones with a text each, all checked before anything is planned, equal ones together.

Joins gateway and ledger; knows no Airflow, and not where rows come from. What has been read waits on disk, so that a
million texts take no memory.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_sms.gateway import templates, texts
from airflow_provider_sms.gateway.errors import MessagesError, TextError
from airflow_provider_sms.gateway.phones import CHUNK, Reason, Sieve, Sifted, none_to_send_to
from airflow_provider_sms.ledger.keys import text_hash
from airflow_provider_sms.ledger.texts import OwnText, planned_texts
from airflow_provider_sms.worded import prepare_text

if TYPE_CHECKING:
    from airflow_provider_sms.guards import OptOutWording
    from airflow_provider_sms.ledger.campaigns import Campaign, Terms
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.orders import Order

CONTENT = "content"
"""The field that holds a row's whole text, where no template makes one of it."""

ROWS_NAMED = 5
_CACHE = 64 << 10  # KiB


@dataclass(frozen=True, slots=True)
class Row:
    """One item that was handed in.

    :param phone: as it came.
    :param fields: what the text is made of.
    """

    phone: object = field(repr=False)
    fields: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """How a row's text is made.

    :param template: None: the row's field `content` is the text.
    :param signature: the account's, for texts without one.
    :param wording: what to do about a text that does not say how to opt out; None to leave it alone.
    """

    template: templates.Template | None
    signature: str | None
    wording: OptOutWording | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that each row must have."""
        return (CONTENT,) if self.template is None else self.template.fields

    def write(self, row: Row) -> texts.Text:
        """Make a row's text, as it goes out.

        :raises FlawsError: the row's fields make none.
        :raises TextError: the text can not be sent.
        """
        text, _ = prepare_text(self._written(row.fields), self.signature, self.wording)
        return text

    def _written(self, fields: Mapping[str, object]) -> str:
        if self.template is not None:
            return self.template.fill(fields)
        content = fields.get(CONTENT)
        if not isinstance(content, str) or not content.strip():
            missing = templates.Flaw.EMPTY if CONTENT in fields else templates.Flaw.MISSING
            is_kind = content is not None and not isinstance(content, str)
            raise templates.FlawsError({CONTENT: templates.Flaw.KIND if is_kind else missing})
        return content


def read_form(content: str | None, signature: str | None) -> Form:
    """Read how texts are to be made, and see that the template itself can be sent.

    :param content: a text with places such as `{name}`; None where each row brings its whole text.
    :param signature: the account's, without brackets.
    :raises TextError: the template can not be sent, whatever is filled in.
    """
    if content is None:
        return Form(None, signature)
    template = templates.read_template(content)
    before = ""
    for text, _ in zip(template.texts, template.places, strict=False):
        before += text
        if before.count("【") > before.count("】"):
            raise TextError(
                "content: a place for a field stands inside 【 】; write the signature out, it is no field."
            )
    # Of what is filled in only the length is not known.
    texts.prepare(template.fill(dict.fromkeys(template.fields, "0")), signature)
    return Form(template, signature)


class Problems:
    """What is wrong with rows: counted, with the numbers of the first few; never what is in them."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = defaultdict(int)
        self._rows: dict[str, list[int]] = defaultdict(list)

    def note(self, number: int, problem: TextError | templates.FlawsError) -> None:
        """Note a row that makes no text.

        :param number: the row's, from 1.
        """
        if isinstance(problem, templates.FlawsError):
            for name, flaw in problem.flaws.items():
                self._note(number, f"{name!r} {flaw}")
        else:
            # Positions and lengths differ from text to text: the first one stands for all.
            known = next((each for each in self._counts if each.startswith("the text")), None)
            self._note(
                number, known or f"the text can not be sent ({problem.what.removeprefix('content: ').rstrip('.')})"
            )

    def check(self) -> None:
        """See that there is none.

        :raises MessagesError: there is; it names fields and rows.
        """
        if not self._counts:
            return
        said = "; ".join(f"{what} in {self._where(what)}" for what in self._counts)
        raise MessagesError(
            f"messages: {said}. Nothing was sent. Correct the rows (the first is 1, a header is not counted), or leave "
            "them out where they come from."
        )

    def _note(self, number: int, what: str) -> None:
        self._counts[what] += 1
        if len(self._rows[what]) < ROWS_NAMED:
            self._rows[what].append(number)

    def _where(self, what: str) -> str:
        return rows_named(self._counts[what], self._rows[what])


def rows_named(count: int, numbers: Sequence[int]) -> str:
    """Say which rows, of many the first few."""
    more = ", …" if count > len(numbers) else ""
    return f"{count} row{'s' if count > 1 else ''} ({', '.join(map(str, numbers))}{more})"


@dataclass(frozen=True, slots=True)
class Portion:
    """Some of the items that were handed in.

    :param texts: which text each item gets, those with the same text together; None: all the campaign's.
    """

    sifted: Sifted
    texts: Sequence[OwnText | None] | None = None


class Messages:
    """Rows that have been read, sorted by their text, in a file that has no name and ends with this process.

    :param form: how a row's text is made.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        # An empty name is a file in SQLITE_TMPDIR or the system's folder for such, which nobody else can open.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(f"""
            PRAGMA cache_size = -{_CACHE};
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            PRAGMA temp_store = FILE;
            CREATE TABLE text (
                number INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, content TEXT NOT NULL, segments INT NOT NULL
            );
            CREATE TABLE item (position INTEGER PRIMARY KEY, phone TEXT NOT NULL, reason TEXT, text INT);
        """)
        self._rows = 0

    def close(self) -> None:
        """Remove what was read."""
        self._database.close()

    def terms(self, order: Order) -> Terms:
        """What is to be sent, and how; a phone is charged for so many segments at most."""
        return replace(order.terms, segments=self._number("SELECT max(segments) FROM text"))

    @property
    def count(self) -> int:
        """How many different texts there are."""
        return self._number("SELECT count(*) FROM text")

    def read(self, chunks: Iterable[Sequence[Row]], sieve: Sieve) -> None:
        """Read all rows, and see that each phone gets one text that can be sent.

        :raises MessagesError: fields are missing, empty or not usable, or a phone has two texts; it names fields and
            rows.
        :raises PhonesError: nobody is left to send to.
        """
        problems = Problems()
        for chunk in chunks:
            self._add(chunk, sieve.sift([row.phone for row in chunk]), problems)
        problems.check()
        if not sieve.included:
            raise none_to_send_to(sieve)
        if sieve.counted().get(Reason.DUPLICATE.value):
            self._check_one_text_each()

    def portions(self) -> Iterator[Portion]:
        """Hand out what was read, those with the same text together."""
        with closing(self._database.cursor()) as cursor:
            cursor.execute("SELECT position, phone, reason, text FROM item ORDER BY text, position")
            while rows := cursor.fetchmany(CHUNK):
                own = self._texts(rows[0][3], rows[-1][3])
                excluded = {at: Reason(reason) for at, (_, _, reason, _) in enumerate(rows) if reason is not None}
                sifted = Sifted([row[1] for row in rows], excluded, [row[0] for row in rows])
                yield Portion(sifted, [own.get(row[3]) for row in rows])

    def fingerprint(self) -> str:
        """Tell these phones with these texts from others, whatever their order."""
        digest = hashlib.sha256()
        query = """
            SELECT phone, lower(hex(digest)) FROM item JOIN text ON text.number = item.text
            WHERE reason IS NULL ORDER BY phone
        """
        for row in self._database.execute(query):
            digest.update("{} {}\n".format(*row).encode())
        return digest.hexdigest()

    def changed(self, ledger: Ledger, stored: Campaign) -> int:
        """Count the phones that a plan has with another text."""
        self._database.execute("CREATE INDEX IF NOT EXISTS item_phone ON item (phone) WHERE reason IS NULL")
        self._database.execute("CREATE TEMP TABLE planned (phone TEXT NOT NULL, digest BLOB NOT NULL)")
        count = 0
        for chunk in planned_texts(ledger, stored.id):
            rows = [(phone, bytes.fromhex(digest)) for phone, digest in chunk]
            self._database.executemany("INSERT INTO planned VALUES (?, ?)", rows)
            count += self._number("""
                SELECT count(*) FROM planned CROSS JOIN item ON item.phone = planned.phone AND item.reason IS NULL
                JOIN text ON text.number = item.text WHERE text.digest != planned.digest
            """)
            self._database.execute("DELETE FROM planned")
        self._database.execute("DROP TABLE planned")
        return count

    def _add(self, chunk: Sequence[Row], sifted: Sifted, problems: Problems) -> None:
        written: dict[bytes, texts.Text] = {}
        items: list[tuple[int, str, Reason | None, bytes | None]] = []
        for at, row in enumerate(chunk):
            reason, digest = sifted.excluded.get(at), None
            if reason is not Reason.MALFORMED:
                try:
                    text = self._form.write(row)
                except (templates.FlawsError, TextError) as problem:
                    problems.note(sifted.positions[at], problem)
                    continue
                digest = bytes.fromhex(text_hash(text.content))
                written.setdefault(digest, text)
            items.append((sifted.positions[at], sifted.phones[at], reason, digest))
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT OR IGNORE INTO text (digest, content, segments) VALUES (?, ?, ?)",
            [(digest, text.content, text.segments) for digest, text in written.items()],
        )
        self._database.executemany("INSERT INTO item SELECT ?, ?, ?, (SELECT number FROM text WHERE digest = ?)", items)
        self._database.execute("COMMIT")

    def _check_one_text_each(self) -> None:
        self._database.execute("CREATE INDEX item_phone ON item (phone) WHERE reason IS NULL")
        other = f"""
            FROM item AS later CROSS JOIN item AS first ON first.phone = later.phone AND first.reason IS NULL
            WHERE later.reason = '{Reason.DUPLICATE.value}' AND later.text != first.text
        """
        count = self._number(f"SELECT count(*) {other}")
        if not count:
            return
        phones = self._number(f"SELECT count(DISTINCT later.phone) {other}")
        query = f"SELECT later.position {other} ORDER BY later.position LIMIT {ROWS_NAMED}"
        numbers = [row[0] for row in self._database.execute(query)]
        raise MessagesError(
            f"messages: {phones} phone{'s have' if phones > 1 else ' has'} more than one text: a phone that was there "
            f"before is there with another text in {rows_named(count, numbers)}. A phone gets one text of a campaign; "
            "nothing was sent. Hand in one row a phone, or send the other texts with a campaign_key of their own."
        )

    def _texts(self, first: int | None, last: int | None) -> dict[int | None, OwnText]:
        query = "SELECT number, content, segments FROM text WHERE number BETWEEN ? AND ?"
        return {row[0]: OwnText(*row) for row in self._database.execute(query, (first or 0, last or 0))}

    def _number(self, query: str) -> int:
        found: Any = self._database.execute(query).fetchone()[0]
        return int(found or 0)
