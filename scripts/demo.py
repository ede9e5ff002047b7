"""`make demo`: the example campaign, run by real Airflow over real HTTP against a simulated platform.

Exit status 0 means: the run succeeded and the platform's own record shows the batch.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_sms.gateway.phones import mask
from scripts.environment import ROOT
from scripts.processes import ChildFailed, Children, Interrupted
from scripts.sandbox import AIRFLOW, Steps, airflow_home, fresh_log, last_lines, start_simulator

DAG_FILE = "example_sms_campaign.py"


class DemoFailed(Exception):
    """It ran, and something is not as it should be."""


@dataclass(frozen=True)
class Outcome:
    """What Airflow says about the run, and what the platform says.

    :param run: state, tasks, summary and balances, as scripts/run_campaign.py writes them.
    :param accepted: the platform's record of accepted batches.
    """

    run: dict[str, Any]
    accepted: list[dict[str, Any]]

    def check(self) -> None:
        """:raises DemoFailed: Airflow and the platform do not both say that the texts went out."""
        if self.run["state"] != "success":
            raise DemoFailed(f"the DAG run ended as {self.run['state']}")
        if not self.accepted:
            raise DemoFailed("the DAG run succeeded, but the platform accepted no batch")
        ids = [batch["taskId"] for batch in self.accepted]
        if ids != self.run["summary"]["taskIds"]:
            raise DemoFailed(f"Airflow has taskId {self.run['summary']['taskIds']}, the platform {ids}")
        cleared = self.run["cleared"]
        if (cleared["state"], cleared["run_id"]) != ("success", self.run["run_id"]):
            raise DemoFailed(f"the same run, cleared, ended as {cleared['state']}")
        if cleared["balance_after"] != self.run["balance_after"]:
            raise DemoFailed("the same run, cleared, sent something again")

    def report(self) -> str:
        lines = ["", "Tasks"]
        lines += [f"  {name:<14}{state}" for name, state in self.run["tasks"].items()]
        for batch in self.accepted:
            phones = ", ".join(mask(phone) for phone in batch["phones"])
            lines += ["", "What the platform accepted (and did not really send)"]
            lines += [f"  taskId        {batch['taskId']}", f"  to            {phones}"]
            lines += [f"  text          {batch['content']}", f"  points        {batch['points']}"]
        before, after = self.run["balance_before"], self.run["balance_after"]
        lines += ["", f"Balance: {before} points before, {after} after"]
        return "\n".join([*lines, "The same run cleared and run again: nobody was texted twice", ""])


def run_demo(children: Children, log: Path, steps: Steps) -> Outcome:
    """Run the campaign once.

    :raises ChildFailed: a program did not do its part; its log tells why.
    """
    with steps.step("Starting the simulated platform"):
        simulator = start_simulator(children, fresh_log("demo-simulator.log"))
    with airflow_home(children, AIRFLOW_CONN_SMS_SIMULATOR=simulator.connection) as env:
        with steps.step("Making Airflow's database"):
            children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], env, log)
        with steps.step("Running the DAG example_sms_campaign, then once more as after a clear"):
            result = Path(env["AIRFLOW_HOME"], "result.json")
            dag_file = Path(env["AIRFLOW__CORE__DAGS_FOLDER"], DAG_FILE)
            command = [sys.executable, str(ROOT / "scripts" / "run_campaign.py"), str(dag_file), str(result)]
            children.run("the DAG run", command, env, log)
        return Outcome(json.loads(result.read_text()), _accepted(simulator.address))


def _accepted(address: str) -> list[dict[str, Any]]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{address}/_simulator/accepted", timeout=10) as answer:
        batches: list[dict[str, Any]] = json.load(answer)
    return batches


def main() -> int:
    steps = Steps()
    log = fresh_log("demo.log")
    try:
        with Children() as children:
            outcome = run_demo(children, log, steps)
        print(outcome.report())
        outcome.check()
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
