"""`python -m airflow_provider_sms.simulator`: the simulator without the rest of the command line."""

from __future__ import annotations

import argparse
import sys

from airflow_provider_sms.simulator.command import add_arguments, run


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_sms.simulator",
        description="The 中昱维信 (10658) SMS platform on this machine. Nothing is really sent.",
    )
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
