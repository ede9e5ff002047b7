"""`make demo`: example DAGs, run by real Airflow over real HTTP against a simulated platform that pushes back.

Exit status 0 means: the runs succeeded, the platform's own record shows the batches, receipts and replies arrived.
"""

from __future__ import annotations

import json
import secrets
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_sms.gateway.phones import mask
from scripts.environment import ROOT
from scripts.processes import ChildFailed, Children, Interrupted
from scripts.sandbox import (
    AIRFLOW,
    Steps,
    airflow_home,
    free_port,
    fresh_log,
    last_lines,
    push_address,
    start_receiver,
    start_simulator,
)

DAG_FILES = ("example_sms_campaign.py", "example_sms_delivery.py", "example_sms_replies.py")


class DemoFailed(Exception):
    """It ran, and something is not as it should be."""


@dataclass(frozen=True)
class Outcome:
    """What Airflow says about the runs, and what the platform says.

    :param runs: of each DAG: state, tasks and what they returned, as scripts/run_examples.py writes them.
    :param accepted: the platform's record of accepted batches.
    :param answered_200: pushes of the platform that were taken.
    """

    runs: list[dict[str, Any]]
    accepted: list[dict[str, Any]]
    answered_200: int

    def check(self) -> None:
        """:raises DemoFailed: Airflow and the platform do not both say that all went well."""
        for run in self.runs:
            if run["state"] != "success":
                raise DemoFailed(f"the run of {run['dag_id']} ended as {run['state']}")
        campaign, delivery, replies = self.runs
        ids = [batch["taskId"] for batch in self.accepted]
        sent = [campaign["returned"]["send"], delivery["returned"]["send"], replies["returned"]["ask"]]
        if ids != [taskid for summary in sent for taskid in summary["taskIds"]]:
            raise DemoFailed(f"the platform accepted other batches ({ids}) than Airflow knows")
        cleared = campaign["cleared"]
        if (cleared["state"], cleared["run_id"]) != ("success", campaign["run_id"]):
            raise DemoFailed(f"the same run, cleared, ended as {cleared['state']}")
        if cleared["balance_after"] != campaign["balance_after"]:
            raise DemoFailed("the same run, cleared, sent something again")
        arrived = delivery["returned"]["delivered"]
        if arrived["delivered"] != len(self.accepted[1]["phones"]):
            raise DemoFailed(f"receipts say that {arrived['delivered']} texts were delivered")
        if not replies["returned"]["count_answers"].get("yes"):
            raise DemoFailed("no reply was counted")

    def report(self) -> str:
        campaign, delivery, replies = self.runs
        lines = [""]
        for run in self.runs:
            lines += [run["dag_id"], *(f"  {name:<16}{state}" for name, state in run["tasks"].items())]
        lines += ["", "What the platform accepted (and did not really send)"]
        for batch in self.accepted:
            phones = ", ".join(mask(phone) for phone in batch["phones"])
            lines += [f"  taskId {batch['taskId']} to {phones}, {batch['points']} points", f"    {batch['content']}"]
        before, after = campaign["balance_before"], campaign["balance_after"]
        lines += ["", f"Balance: {before} points before the campaign, {after} after"]
        lines += ["The same run cleared and run again: nobody was texted twice"]
        arrived = delivery["returned"]["delivered"]
        lines += [f"Receipts: {arrived['delivered']} of {arrived['accepted']} delivered, {arrived['failed']} failed"]
        answers = ", ".join(f"{count} {answer}" for answer, count in replies["returned"]["count_answers"].items())
        return "\n".join([*lines, f"Replies: {answers}", f"Pushes taken: {self.answered_200}", ""])


def run_demo(children: Children, log: Path, steps: Steps) -> Outcome:
    """Run the campaigns once.

    :raises ChildFailed: a program did not do its part; its log tells why.
    """
    port, token = free_port(), secrets.token_urlsafe(32)
    with steps.step("Starting the simulated platform"):
        flags = ["--push-url", push_address(port, token), "--receipt-delay", "1"]
        flags += ["--reply-share", "1", "--reply-text", "1", "--reply-delay", "1", "--push-repeats", "20"]
        simulator = start_simulator(children, fresh_log("demo-simulator.log"), *flags)
    settings = {"AIRFLOW_CONN_SMS_SIMULATOR": simulator.connection, "AIRFLOW__SMS__PUSH_TOKENS": token}
    with airflow_home(children, **settings) as env:
        with steps.step("Making Airflow's database"):
            children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], env, log)
        with steps.step("Starting the receiver of receipts and replies"):
            start_receiver(children, port, env, fresh_log("demo-receiver.log"))
        with steps.step(
            "Running a campaign, the same run as after a clear, and two that wait for receipts and replies"
        ):
            result = Path(env["AIRFLOW_HOME"], "result.json")
            files = [str(Path(env["AIRFLOW__CORE__DAGS_FOLDER"], each)) for each in DAG_FILES]
            command = [sys.executable, str(ROOT / "scripts" / "run_examples.py"), str(result), *files]
            children.run("the DAG runs", command, env, log)
        pushes = _page(simulator.address, "pushes")
        return Outcome(json.loads(result.read_text()), _page(simulator.address, "accepted"), int(pushes["answered200"]))


def _page(address: str, name: str) -> Any:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{address}/_simulator/{name}", timeout=10) as answer:
        return json.load(answer)


def main() -> int:
    steps = Steps()
    log = fresh_log("demo.log")
    try:
        with Children() as children:
            outcome = run_demo(children, log, steps)
        outcome.check()
        print(outcome.report())
    except Interrupted as interrupted:
        print(f"Stopped by {interrupted}.", file=sys.stderr)
        return interrupted.status
    except ChildFailed as failure:
        print(
            f"{last_lines(failure.log)}\nThe demo failed: {failure}. The whole log: {failure.log}",
            file=sys.stderr,
        )
        return 1
    except DemoFailed as failure:
        print(f"The demo failed: {failure}. Airflow's log: {log}", file=sys.stderr)
        return 1
    print(f"The demo succeeded in {steps.seconds:.0f} s. Airflow's log: {log}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
