"""A trigger that asks the settings where the ledger is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from tests.dags.settings_probe import tell


class SettingsTrigger(BaseTrigger):
    """Asks as a trigger has to: by asgiref's thread, since Airflow tells its supervisor what to mask."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await sync_to_async(tell)("trigger")
        yield TriggerEvent("told")
