"""`python -m tests.crash`: runs of the crash harness by hand, such as one that a test has complained of."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import tests.conftest  # noqa: F401 - a throw-away AIRFLOW_HOME, before anything imports Airflow
from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from tests.crash.harness import Harness, new_sqlite
from tests.support.databases import MariaDB, PostgreSQL

_SERVERS = {"postgresql": PostgreSQL, "mariadb": MariaDB}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("crashes", "races"), default="crashes")
    parser.add_argument("--database", choices=("sqlite", *_SERVERS), default="sqlite")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, action="append", help="this run alone; may be repeated")
    parser.add_argument("--story", default="", help="what every run begins with: killed, stopped, …")
    parser.add_argument("--kind", action="append", default=[], help="of step to begin with; may be repeated")
    parser.add_argument("--sabotage", help="see sabotage.py")
    args = parser.parse_args()
    with ExitStack() as stack:
        if args.database == "sqlite":
            url = new_sqlite(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        else:
            url = stack.enter_context(stack.enter_context(_SERVERS[args.database]()).database())
            ledger = Ledger(read_url(url))
            versions.upgrade(ledger)
            ledger.close()
        harness = stack.enter_context(Harness())
        summary = harness.run(
            args.what,
            args.database,
            url,
            args.seed,
            args.only or range(args.runs),
            story=args.story,
            kinds=args.kind,
            sabotage=args.sabotage,
        )
    print(summary.complaint(), summary, sep="\n")
    return 1 if summary.problems else 0


if __name__ == "__main__":
    sys.exit(main())
