"""`python -m airflow_provider_sms`, the same as `airflow-sms`."""

from __future__ import annotations

import sys

from airflow_provider_sms.cli import main

if __name__ == "__main__":
    sys.exit(main())
