"""The pages under /_simulator: settings, faults, replies, and what was accepted, asked and pushed.

Turns JSON into calls of the simulation and back. Knows no sockets.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from airflow_provider_sms.simulator.document import BEIJING
from airflow_provider_sms.simulator.simulation import Simulation
from airflow_provider_sms.simulator.values import BadValue, Kind, OrNone, Text

if TYPE_CHECKING:
    from airflow_provider_sms.simulator.platform import Batch

PREFIX = "/_simulator/"

_Page = Callable[[Simulation, bytes], object]


def pages_of(path: str) -> Mapping[str, _Page] | None:
    """The methods of a page, None if there is no such page."""
    return _PAGES.get(path)


def open_page(simulation: Simulation, page: _Page, body: bytes) -> tuple[int, object]:
    """Status and JSON of a page; a mistake in the request is a 400 with a sentence."""
    try:
        return 200, page(simulation, body)
    except BadValue as mistake:
        return 400, {"error": str(mistake)}


def _json_of(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadValue("the body must be JSON in UTF-8") from None


def _object_of(body: bytes) -> dict[str, object]:
    asked = _json_of(body)
    if not isinstance(asked, dict):
        raise BadValue("the body must be a JSON object")
    return asked


def _show_settings(simulation: Simulation, body: bytes) -> object:
    return simulation.platform.settings().shown()


def _change_settings(simulation: Simulation, body: bytes) -> object:
    return simulation.change(_object_of(body)).shown()


def _show_faults(simulation: Simulation, body: bytes) -> object:
    return [fault.as_json() for fault in simulation.faults.pending()]


def _order_faults(simulation: Simulation, body: bytes) -> object:
    return [fault.as_json() for fault in simulation.faults.order(_json_of(body))]


def _clear_faults(simulation: Simulation, body: bytes) -> object:
    simulation.faults.clear()
    return []


def _show_accepted(simulation: Simulation, body: bytes) -> object:
    return [_batch(simulation, batch) for batch in simulation.platform.accepted()]


def _batch(simulation: Simulation, batch: Batch) -> dict[str, object]:
    return {
        "taskId": batch.task_id,
        "phones": batch.phones,
        "content": batch.content,
        "sendTime": batch.send_time,
        "points": batch.points,
        "appId": batch.app_id,
        "at": datetime.datetime.fromtimestamp(batch.at, BEIJING).isoformat(timespec="milliseconds"),
        "answered": simulation.platform.was_answered(batch.task_id),
    }


def _show_requests(simulation: Simulation, body: bytes) -> object:
    return simulation.record.tally.as_json()


def _show_pushes(simulation: Simulation, body: bytes) -> object:
    return simulation.pushes.as_json()


def _reply(simulation: Simulation, body: bytes) -> object:
    asked = _object_of(body)
    kinds: dict[str, Kind] = {"mobile": Text(), "content": Text(), "taskid": OrNone(Text())}
    for name in asked:
        if name not in kinds:
            raise BadValue(f"a reply has no field {name!r}; its fields are {', '.join(kinds)}")
    mobile, content = (kinds[name].read(name, asked.get(name)) for name in ("mobile", "content"))
    simulation.reply(mobile, content, kinds["taskid"].read("taskid", asked.get("taskid")))
    return {"ok": True}


def _reset(simulation: Simulation, body: bytes) -> object:
    simulation.reset()
    return {"ok": True}


_PAGES: Mapping[str, Mapping[str, _Page]] = {
    PREFIX + "settings": {"GET": _show_settings, "POST": _change_settings},
    PREFIX + "faults": {"GET": _show_faults, "POST": _order_faults, "DELETE": _clear_faults},
    PREFIX + "accepted": {"GET": _show_accepted},
    PREFIX + "requests": {"GET": _show_requests},
    PREFIX + "pushes": {"GET": _show_pushes},
    PREFIX + "replies": {"POST": _reply},
    PREFIX + "reset": {"POST": _reset},
}
