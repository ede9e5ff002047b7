"""Prints, as one line of JSON, the connection form that this Airflow made of the installed provider.

A program of its own: to make older forms, Airflow puts mocks of WTForms into the process, and leaves them there.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest.mock import MagicMock

import airflow


def main() -> None:
    form = _form_of_airflow_2() if airflow.__version__.startswith("2.") else _form_of_airflow_3()
    print(json.dumps(form))


def _form_of_airflow_3() -> dict[str, Any]:
    """What `GET /ui/connections/hook_meta` answers."""
    if airflow.__version__.startswith("3.0."):
        _stand_in_for_wtforms()
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    forms = [meta.model_dump(mode="json") for meta in HookMetaService.hook_meta_data()]
    [form] = [each for each in forms if each["connection_type"] == "sms"]
    standard = form["standard_fields"] or {}
    standard["schema"] = standard.pop("url_schema", None)
    return {
        "hook_name": form["hook_name"],
        "standard": {name: behaviour for name, behaviour in standard.items() if behaviour},
        "extras": {
            name: {
                "label": field["schema"]["title"],
                "help": field["description"],
                "default": field["value"],
                "hidden": field["schema"].get("format") == "password",
                "type": field["schema"]["type"],
            }
            for name, field in (form["extra_fields"] or {}).items()
        },
    }


def _stand_in_for_wtforms() -> None:
    """Airflow 3.0 shows a form only beside the FAB provider; from 3.1 on, Airflow does this itself."""
    try:
        import flask_appbuilder  # noqa: F401
    except ImportError:
        for name in ("wtforms", "wtforms.fields", "wtforms.fields.simple", "wtforms.validators"):
            sys.modules[name] = MagicMock()
        for name in ("flask_babel", "flask_appbuilder", "flask_appbuilder.fieldwidgets"):
            sys.modules[name] = MagicMock()


def _form_of_airflow_2() -> dict[str, Any]:
    """The WTForms fields, rendered as the web server's form does."""
    from airflow.providers_manager import ProvidersManager
    from wtforms import Form

    manager = ProvidersManager()
    hook = manager.hooks["sms"]
    behaviour = manager.field_behaviours["sms"]
    widgets = {
        info.field_name: info.field
        for name, info in manager.connection_form_widgets.items()
        if name.startswith("extra__sms__")
    }
    form = type("SmsForm", (Form,), widgets)()
    types = {"StringField": "string", "PasswordField": "string", "IntegerField": "integer", "BooleanField": "boolean"}
    extras = {}
    for name in widgets:
        field = form[name]
        html = str(field())
        assert f'name="{name}"' in html
        extras[name] = {
            "label": field.label.text,
            "help": str(field.description),
            "default": field.default,
            "hidden": 'type="password"' in html,
            "type": [types[type(field).__name__], "null"],
        }
    standard = {
        name: {
            "hidden": name in behaviour["hidden_fields"],
            "title": behaviour["relabeling"].get(name),
            "placeholder": behaviour["placeholders"].get(name),
        }
        for name in ("description", "host", "port", "login", "password", "schema")
    }
    return {
        "hook_name": hook.hook_name,
        "standard": {name: each for name, each in standard.items() if any(each.values())},
        "extras": extras,
    }


if __name__ == "__main__":
    main()
