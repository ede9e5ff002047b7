"""A secrets backend that knows one ledger's address, and no connections or variables."""

from __future__ import annotations

from airflow.secrets.base_secrets import BaseSecretsBackend

KEY = "sms/ledger"
URL = "postgresql://sms:fake%2Fbackend-pw@db.example/from_the_backend"


class SettingsBackend(BaseSecretsBackend):
    """For `[secrets] backend`."""

    def get_config(self, key: str) -> str | None:
        return URL if key == KEY else None

    def get_conn_value(self, *args: object, **kwargs: object) -> str | None:
        return None

    def get_variable(self, *args: object, **kwargs: object) -> str | None:
        return None
