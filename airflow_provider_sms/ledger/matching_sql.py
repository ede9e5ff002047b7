"""The few statements of one look at new pushes, in each database's own words: a thousand pushes, the same handful.

Knows the tables; decides nothing, see `tally`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import text

from airflow_provider_sms.ledger import lists
from airflow_provider_sms.ledger.tally import Phone, Verdict

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


_AT_ONCE = 900


class NewPush(NamedTuple):
    """A receipt or a reply that nobody has looked at, and a batch that has its taskId; one row for each such batch.

    :param says: what a receipt's status and a reply's content is.
    :param hint: what a receipt's code and the account that a reply came for is.
    :param batch_id: None if there is none, or it is not accepted.
    :param is_account_s: whether it came to the address of the batch's account, as far as addresses tell.
    """

    id: int
    mobile: str
    says: str | None
    hint: str | None
    batch_id: int | None
    campaign_id: int | None
    attempt: int | None
    is_account_s: int | None


def use_indexes(kind: str, connection: Connection) -> None:
    """Have this transaction find things by their index, also in a table whose size the database does not know yet."""
    if kind == "postgresql":
        # Nor are all of many new pushes to be sorted to find the first few.
        connection.execute(
            text("SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)")
        )


def is_anything_new(kind: str, connection: Connection, table: str, after: int) -> bool:
    """Whether there is any receipt, or reply, that nobody has looked at; those behind an id are looked for first.

    :param kind: the ledger's.
    """
    for first in (after, 0) if after else (0,):
        if connection.execute(text(_IS_NEW[kind][table]), {"after": first}).first() is not None:
            return True
    return False


def new_pushes(kind: str, connection: Connection, table: str, after: int, most: int) -> list[Any]:
    """Read the next receipts, or replies, that nobody has looked at, and which batches have their taskId.

    :param kind: the ledger's.
    :param after: behind this id.
    :returns: rows as `NewPush` has them, in order; to make objects of them all takes its time.
    """
    found = connection.execute(text(_NEW[kind][table].format(most=most)), {"after": after})
    rows: list[Any] = json.loads(found.scalar() or "[]") if kind == "sqlite" else list(found.all())
    # They mostly are in that order.
    rows.sort(key=lambda row: row[0])
    return rows


def verdicts(kind: str, connection: Connection, phones: Iterable[Phone]) -> dict[Phone, Verdict]:
    """Read what is known of phones."""
    positions: dict[int, list[int]] = {}
    for campaign_id, position in phones:
        positions.setdefault(campaign_id, []).append(position)
    if not positions:
        return {}
    if kind == "sqlite":
        found = connection.execute(text(_KNOWN_AS_ONE), {"positions": lists.compact(positions)}).scalar()
        rows: list[Any] = json.loads(found or "[]")
    elif kind == "postgresql":
        pairs = [(campaign_id, position) for campaign_id, of_it in positions.items() for position in of_it]
        values = {"campaigns": lists.numbers(each[0] for each in pairs)}
        values["positions"] = lists.numbers(each[1] for each in pairs)
        rows = list(connection.execute(text(_KNOWN_UNNESTED), values).all())
    else:
        rows = []
        for campaign_id, of_it in positions.items():
            # A longer list MariaDB takes for a table, and reads the campaign's whole one beside it.
            for start in range(0, len(of_it), _AT_ONCE):
                some = ",".join(map(str, of_it[start : start + _AT_ONCE]))
                these = f"WHERE campaign_id = {campaign_id} AND position IN ({some})"
                rows += connection.execute(text(f"{_KNOWN} {these}")).all()
    return {(row[0], row[1]): Verdict(*row[2:]) for row in rows}


def write_verdicts(kind: str, connection: Connection, changed: Mapping[Phone, Verdict]) -> None:
    """Write down what is known of phones now."""
    rows = [(*phone, *verdict) for phone, verdict in changed.items()]
    if not rows:
        return
    if kind == "sqlite":
        connection.execute(text(_PUT_JSON), {"rows": lists.compact(rows)})
    elif kind == "postgresql":
        columns = list(zip(*rows, strict=True))
        values = {name: lists.numbers(columns[at]) for name, at in _NUMBERS.items()}
        values |= {name: lists.words(columns[at]) for name, at in _WORDS.items()}
        connection.execute(text(_PUT_UNNESTED), values)
    else:
        connection.exec_driver_sql(_PUT_VALUES, rows)


def count(kind: str, connection: Connection, counts: Mapping[tuple[int, int, str, str], int]) -> None:
    """Add to counts of phones.

    :param counts: by campaign, batch, outcome and cause: how many more, or fewer.
    """
    rows = [(*which, phones) for which, phones in counts.items() if phones]
    if not rows:
        return
    if kind == "sqlite":
        connection.execute(text(_COUNT_JSON), {"rows": lists.compact(rows)})
    elif kind == "postgresql":
        campaigns, batches, outcomes, causes, phones = zip(*rows, strict=True)
        values = {
            "campaigns": lists.numbers(campaigns),
            "batches": lists.numbers(batches),
            "outcomes": lists.words(outcomes),
            "causes": lists.words(causes),
            "phones": lists.numbers(phones),
        }
        connection.execute(text(_COUNT_UNNESTED), values)
    else:
        connection.exec_driver_sql(_COUNT_VALUES, rows)


def purged(kind: str, connection: Connection, campaign_ids: Iterable[int]) -> set[int]:
    """Which of these campaigns have no phones any more: they were removed."""
    them, value = lists.one_of(kind, "ids", campaign_ids)
    query = f"SELECT id FROM sms_campaign WHERE purged_at IS NOT NULL AND id {them}"  # noqa: S608
    return set(connection.execute(text(query), value).scalars())


def mark_receipts(kind: str, connection: Connection, matching: Mapping[str, Sequence[int]]) -> None:
    """Note that receipts were looked at.

    :param matching: ids, by what became of them.
    """
    for mark, ids in matching.items():
        them, value = lists.one_of(kind, "ids", ids)
        connection.execute(text(f"UPDATE sms_receipt SET matching = :mark WHERE id {them}"), {**value, "mark": mark})  # noqa: S608


def mark_replies(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note what became of replies: `id, matching, campaign_id, phone`."""
    if rows:
        connection.execute(
            text(
                "UPDATE sms_reply SET matching = :matching, campaign_id = :campaign_id, phone = :phone WHERE id = :id"
            ),
            list(rows),
        )


def _new(kind: str, table: str, says: str, hint: str, columns: str) -> str:
    # The inner query first: it takes a few of the new ones, in their order, out of an index that holds no others.
    # A number in the text, not a parameter: SQLite would plan for millions. Whether the batch is accepted is no
    # condition: that would look like a better one.
    return f"""
SELECT {columns}
FROM (SELECT id, account, mobile, taskid, {says} AS says, {hint} AS hint FROM {table}{_BY_INDEX[kind, table]}
      WHERE matching IS NULL AND id > :after ORDER BY {_IN_ORDER[kind]} LIMIT {{most}}) push
LEFT JOIN sms_batch batch ON batch.taskid = push.taskid
"""  # noqa: S608 - names of our own


_COLUMNS = """push.id, push.mobile, push.says, push.hint,
       CASE WHEN batch.state = 'accepted' THEN batch.id END, batch.campaign_id, batch.attempt,
       CASE WHEN push.account = batch.account THEN 1 ELSE 0 END"""
_READ = {"sms_receipt": ("status", "code"), "sms_reply": ("content", "account")}
_KINDS = ("sqlite", "postgresql", "mysql")
_BY_INDEX = {(kind, table): "" for kind in _KINDS for table in _READ}
# MySQL would rather walk through all that was ever pushed.
_BY_INDEX["mysql", "sms_receipt"] = " FORCE INDEX (sms_receipt_new)"
_BY_INDEX["mysql", "sms_reply"] = " FORCE INDEX (ix_sms_reply_matching)"
# PostgreSQL sees that an index has this order if it is told the whole of it, MySQL if it is told the rest.
_IN_ORDER = {"sqlite": "matching, id", "postgresql": "matching, id", "mysql": "id"}
_NEW = {
    # SQLite's all in one value: for each row the thread would give Python away and wait to get it back.
    kind: {
        table: _new(kind, table, *fields, f"json_group_array(json_array({_COLUMNS}))" if kind == "sqlite" else _COLUMNS)
        for table, fields in _READ.items()
    }
    for kind in _KINDS
}
_IS_NEW = {
    kind: {
        table: f"SELECT id FROM {table}{_BY_INDEX[kind, table]} "  # noqa: S608
        f"WHERE matching IS NULL AND id > :after ORDER BY {_IN_ORDER[kind]} LIMIT 1"
        for table in _READ
    }
    for kind in _KINDS
}

_VERDICT = "known.campaign_id, known.position, known.batch_id, known.outcome, known.cause, known.receipt_id, "
_VERDICT += "known.contradicted_by"
_KNOWN = f"SELECT {_VERDICT} FROM sms_delivery known"  # noqa: S608
_KNOWN_AS_ONE = f"""
SELECT json_group_array(json_array({_VERDICT}))
FROM json_each(:positions) campaign CROSS JOIN json_each(campaign.value) place
CROSS JOIN sms_delivery known ON known.campaign_id = CAST(campaign.key AS INTEGER) AND known.position = place.value
"""  # noqa: S608
_KNOWN_UNNESTED = f"""
SELECT {_VERDICT}
FROM unnest(CAST(:campaigns AS bigint[]), CAST(:positions AS integer[])) AS phone (campaign_id, position)
JOIN sms_delivery known ON known.campaign_id = phone.campaign_id AND known.position = phone.position
"""  # noqa: S608

_INTO = "INSERT INTO sms_delivery (campaign_id, position, batch_id, outcome, cause, receipt_id, contradicted_by)"
_PUT = """ON CONFLICT (campaign_id, position) DO UPDATE SET batch_id = excluded.batch_id, outcome = excluded.outcome,
cause = excluded.cause, receipt_id = excluded.receipt_id, contradicted_by = excluded.contradicted_by"""
_PUT_JSON = f"""
{_INTO} SELECT {", ".join(f"json_extract(value, '$[{at}]')" for at in range(7))} FROM json_each(:rows) WHERE true {_PUT}
"""  # noqa: S608
_NUMBERS = {"campaigns": 0, "positions": 1, "batches": 2, "receipts": 5, "contradicting": 6}
_WORDS = {"outcomes": 3, "causes": 4}
_PUT_UNNESTED = f"""
{_INTO} SELECT * FROM unnest(CAST(:campaigns AS bigint[]), CAST(:positions AS integer[]), CAST(:batches AS bigint[]),
CAST(:outcomes AS text[]), CAST(:causes AS text[]), CAST(:receipts AS bigint[]), CAST(:contradicting AS bigint[]))
{_PUT}
"""  # noqa: S608
_PUT_VALUES = f"""{_INTO} VALUES (%s, %s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE batch_id = VALUES(batch_id), outcome = VALUES(outcome), cause = VALUES(cause),
receipt_id = VALUES(receipt_id), contradicted_by = VALUES(contradicted_by)"""

_COUNT_INTO = "INSERT INTO sms_delivery_count (campaign_id, batch_id, outcome, cause, phones)"
_ADD = """ON CONFLICT (campaign_id, batch_id, outcome, cause)
DO UPDATE SET phones = sms_delivery_count.phones + excluded.phones"""
_COUNT_JSON = f"""{_COUNT_INTO}
SELECT {", ".join(f"json_extract(value, '$[{at}]')" for at in range(5))} FROM json_each(:rows) WHERE true {_ADD}"""  # noqa: S608
_COUNT_UNNESTED = f"""{_COUNT_INTO}
SELECT * FROM unnest(CAST(:campaigns AS bigint[]), CAST(:batches AS bigint[]), CAST(:outcomes AS text[]),
CAST(:causes AS text[]), CAST(:phones AS integer[])) {_ADD}"""  # noqa: S608
_COUNT_VALUES = f"""{_COUNT_INTO} VALUES (%s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE phones = phones + VALUES(phones)"""
