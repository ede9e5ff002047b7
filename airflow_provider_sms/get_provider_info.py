"""What Airflow reads about this provider at start. Imports nothing: every Airflow process runs it.

The connection form is defined here once; the hook makes the older form methods from it.
"""

from __future__ import annotations

from typing import Any


def get_provider_info() -> dict[str, Any]:
    """Describe the provider to Airflow.

    :returns: what the provider info schema of Airflow asks for; keys that an older Airflow does not know are
        ignored by it.
    """
    integration = {"integration-name": "SMS"}
    return {
        "package-name": "airflow-provider-sms",
        "name": "SMS",
        "description": "Send SMS through the 中昱维信 (10658) platform, and act on what becomes of them.",
        "integrations": [
            {
                "integration-name": "SMS",
                "external-doc-url": "https://www.10658.com.cn/",
                "tags": ["service"],
            }
        ],
        "hooks": [{**integration, "python-modules": ["airflow_provider_sms.hooks.sms"]}],
        "operators": [{**integration, "python-modules": ["airflow_provider_sms.operators.sms"]}],
        "sensors": [{**integration, "python-modules": ["airflow_provider_sms.sensors.sms"]}],
        "triggers": [{**integration, "python-modules": ["airflow_provider_sms.triggers.sms"]}],
        "notifications": ["airflow_provider_sms.notifications.sms.SmsNotifier"],
        "task-decorators": [{"class-name": "airflow_provider_sms.decorators.sms.sms_task", "name": "sms"}],
        "cli": ["airflow_provider_sms.cli.airflow_commands"],
        "config": {
            "sms": {
                "description": "Settings of the SMS provider.",
                "options": {
                    "sql_alchemy_conn": {
                        "description": "Where the ledger is: what was planned, sent and heard. Empty: a SQLite file "
                        "in AIRFLOW_HOME, which is good for one machine only. PostgreSQL or MySQL for everything "
                        "else; make its tables with `airflow-sms ledger upgrade`.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "postgresql+psycopg2://airflow_sms:password@db.example/airflow_sms",
                        "default": "",
                        # Airflow takes `_CMD` and `_SECRET` for sensitive options only.
                        "sensitive": True,
                    },
                    "namespace": {
                        "description": "Tells installations apart that share one ledger: part of every campaign's key.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "allow_sqlite": {
                        "description": "Use SQLite although the executor is not local or the process runs in "
                        "Kubernetes. Only if all of Airflow's processes really share one disk.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "retention_days": {
                        "description": "After so many days phones and texts of ended campaigns are removed, by the "
                        "next campaign or by `airflow-sms ledger purge`; counts stay. Empty: never.",
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "365",
                        "default": "",
                    },
                    "push_tokens": {
                        "description": "Secrets that the platform's pushes carry in their address, comma-separated; "
                        "two during a rotation. `airflow-sms push-url` makes one. Empty: no push is taken.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "FAKE-TOKEN-that-push-url-has-made",
                        "default": "",
                        "sensitive": True,
                    },
                    "allowed_networks": {
                        "description": "From where pushes are taken, comma-separated networks. Empty: from anywhere, "
                        "with a valid token.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "203.0.113.0/24,2001:db8::/32",
                        "default": "",
                    },
                    "trusted_proxies": {
                        "description": "Networks of reverse proxies whose X-Forwarded-For is believed, "
                        "comma-separated.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "10.0.0.5/32",
                        "default": "",
                    },
                    "path_tokens": {
                        "description": "Also take a push's token from its path, for a platform that cuts off what "
                        "follows a question mark. A path is in every access log: better leave it off.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "opt_out_words": {
                        "description": "Replies that opt a phone out of marketing, comma-separated; case, width and "
                        "punctuation around them do not matter.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "R,T,TD,N,退订",
                        "default": "R,T,TD,N,退订,拒收,取消订阅",
                    },
                    "dry_run": {
                        "description": "Send nothing in this whole environment: operators, notifier, hook and commands "
                        "plan, say what they would send, and end well.",
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "point_price": {
                        "description": "What one point costs, for dry runs to say what a campaign would cost. Empty: "
                        "they say points alone.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "0.05",
                        "default": "",
                    },
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "sms",
                "hook-name": "SMS",
                "hook-class-name": "airflow_provider_sms.hooks.sms.SmsHook",
                "ui-field-behaviour": {
                    # Airflow 3.3.1 and 3.3.2 refuse to test a connection without a port: it has to be there.
                    "hidden-fields": ["schema", "extra"],
                    "relabeling": {
                        "login": "App ID (账户标识)",
                        "password": "App Key (账户密钥)",
                        "host": "Base URL",
                    },
                    "placeholders": {
                        "login": "on the platform's home page",
                        "password": "on the platform's home page",
                        "host": "https://cloud.10658.com.cn",
                        "port": "443",
                    },
                },
                "conn-fields": {
                    "signature": {
                        "label": "Signature (短信签名)",
                        "description": "Put as 【…】 before a text that carries no signature. Write the name alone, "
                        "2 to 20 characters, as approved by the platform.",
                        "schema": {"type": ["string", "null"], "maxLength": 22},
                    },
                    "batch_size": {
                        "label": "Batch size",
                        "description": "Phones in one request, 1 to 100000. More phones go out in several requests.",
                        "schema": {"type": ["integer", "null"], "default": 500, "minimum": 1, "maximum": 100000},
                    },
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "Seconds that one request may take from start to end, 1 to 600.",
                        "schema": {"type": ["integer", "null"], "default": 60, "minimum": 1, "maximum": 600},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "http://user:password@proxy.example:3128. Empty: what the environment says.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "exclusive_account": {
                        "label": "Exclusive account",
                        "description": "Switch on if nothing but this Airflow sends with this App ID.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            }
        ],
    }
