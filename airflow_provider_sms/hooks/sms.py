"""The connection: from what people type into Airflow's form to a client. Knows Airflow; the wire is gateway's."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from uuid import uuid4

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_sms.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_sms.gateway.account import Account
    from airflow_provider_sms.gateway.client import SmsClient
    from airflow_provider_sms.guards import Guards
    from airflow_provider_sms.ledger.keys import CampaignKey, TaskInstanceKey
    from airflow_provider_sms.messages import MessageFile, MessageQuery
    from airflow_provider_sms.observing import Observer
    from airflow_provider_sms.orders import Order
    from airflow_provider_sms.policy import Policy
    from airflow_provider_sms.recipients import PhoneSource
    from airflow_provider_sms.reply_reader import ClaimedReplies
    from airflow_provider_sms.sources import Source


class SmsHook(BaseHook):
    """
    Send SMS and ask the balance with the account of an Airflow connection.

    .. code-block:: python

        SmsHook("sms_default").get_balance()

    :param sms_conn_id: the connection, of type `sms`.
    """

    conn_name_attr = "sms_conn_id"
    default_conn_name = "sms_default"
    conn_type = "sms"
    hook_name = "SMS"

    def __init__(self, sms_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sms_conn_id = sms_conn_id

    @cached_property
    def account(self) -> Account:
        """The connection, read and checked; looked up when first used.

        :raises AccountError: the connection's settings are not usable; the message names the field.
        :raises AirflowNotFoundException: there is no such connection.
        """
        return read_account(find_connection(self.sms_conn_id))

    @cached_property
    def _client(self) -> SmsClient:
        from airflow_provider_sms.gateway.client import SmsClient

        return SmsClient(self.account)

    def get_conn(self) -> SmsClient:
        """Return the client, one for the life of this hook.

        :raises AccountError: the connection's settings are not usable; the message names the field.
        """
        return self._client

    @cached_property
    def observer(self) -> Observer:
        """Tells Airflow's Stats what becomes of texts that are sent with this connection."""
        from airflow_provider_sms.metrics import AirflowStats

        return AirflowStats(self.sms_conn_id)

    def default_account(self) -> str | None:
        """Tell the App ID of `sms_default`: addresses for pushes without an account id stand for it.

        :returns: None if there is no such connection, or it can not be used.
        """
        from airflow_provider_sms.gateway.errors import AccountError

        if self.sms_conn_id == self.default_conn_name:
            return self.account.app_id
        try:
            return read_account(find_connection(self.default_conn_name)).app_id
        except (AirflowNotFoundException, AccountError):
            return None

    def send_group(
        self,
        phones: str | Iterable[str | int] | PhoneSource | Path | None = None,
        content: str | None = None,
        send_time: datetime | str | None = None,
        *,
        messages: Iterable[Any] | MessageFile | MessageQuery | Path | None = None,
        batch_size: int | None = None,
        campaign_key: str | None = None,
        category: str | None = None,
        policy: Policy | None = None,
        guards: Guards | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Send a group one text, or each phone its own: once for a campaign key.

        Without a key it is not protected against repeats: called twice, it sends twice.

        :param phones: what the operator's `phones` takes; duplicates and malformed ones are left out.
        :param content: the text; the connection's signature is added where it has none. With `messages`, a text with
            places for their fields, such as `{name}`.
        :param send_time: aware, or naive or text for Beijing time, at least 31 minutes from now; None for at once.
        :param messages: instead of `phones`: pairs of phone and text, or rows with fields for `content`; what the
            operator's `messages` takes.
        :param batch_size: phones in one request; None for the connection's.
        :param campaign_key: what makes it the same campaign: called again with it, what is left is sent.
        :param category: `marketing`, which phones that have opted out do not get, or `notice`; None if it is not said.
        :param policy: what to do where nobody else can decide; None for the operator's defaults.
        :param guards: what keeps it from going out as it is; None for the operator's defaults. A hook can not be
            deferred: outside the sending hours it waits in place, unless `outside_hours` says otherwise.
        :param dry_run: log what would be sent, and send nothing; `[sms] dry_run` does so for all.
        :returns: the summary: `campaign, taskIds, accepted, refused, inDoubt, excluded, notSent, segments, points,
            remainPoint`, counted in phones, and `guards`, those that were on.
        :raises InputError: something can not be sent; nothing was. Of personal texts it names fields and rows.
        :raises ValueError: there is no such category; nothing was sent.
        :raises LedgerError: the ledger can not be used; nothing was sent.
        :raises CampaignError: phones were refused, are in doubt or were not sent; its `report` counts them.

        Interface document: 1.发送接口.
        """
        from airflow_provider_sms import retention, settings, sources
        from airflow_provider_sms.ledger.keys import CampaignKey
        from airflow_provider_sms.opening import open_for_campaign
        from airflow_provider_sms.orders import make_order
        from airflow_provider_sms.planning import Planner, Try
        from airflow_provider_sms.policy import Policy
        from airflow_provider_sms.sending import Sender

        policy = policy or Policy()
        key = CampaignKey(settings.namespace(), campaign_key=campaign_key or f"send_group {uuid4()}")

        def made() -> tuple[Source, Order]:
            source = sources.choose(phones, content, messages, self.account.signature)
            return source, make_order(
                self.account, source.content, send_time, batch_size, category, policy=policy, guards=guards
            )

        if dry_run or settings.dry_run():
            return self._preview(key, *made(), policy)
        with closing(open_for_campaign(self.log, key, Try())) as ledger:
            source, order = made()
            planner = Planner(ledger, key, order, source.read, self.log, policy, source.form)
            campaign = planner.plan()
            client, default = self.get_conn(), self.default_account
            sender = Sender(
                ledger,
                client,
                campaign,
                policy,
                self.log,
                guards=guards,
                default_account=default,
                observer=self.observer,
            )
            report = sender.send()
            retention.keep(ledger, self.log)
            return report.summary()

    def _preview(self, key: CampaignKey, source: Source, order: Order, policy: Policy) -> dict[str, Any]:
        from airflow_provider_sms.dry_run import preview

        seen = preview(self.log, key, order, source, policy, balance=self.get_balance)
        for line in seen.lines():
            self.log.info("%s", line)
        return seen.summary()

    def get_balance(self) -> int:
        """Ask how many points the account has left.

        :raises SmsError: the platform refused, or could not be reached.

        Interface document: 3.余额查询接口.
        """
        points = self.get_conn().get_balance()
        self.observer.balance(points)
        return points

    def claim_replies(
        self,
        consumer: str,
        *,
        campaign: str | None = None,
        pattern: str | None = None,
        most: int = 1000,
        since: timedelta = timedelta(days=7),
        lease: timedelta = timedelta(minutes=15),
    ) -> AbstractContextManager[ClaimedReplies]:
        """Take replies to act on; a loop over them in a `with` block.

        .. code-block:: python

            with SmsHook().claim_replies("orders", campaign=campaign) as replies:
                for reply in replies:
                    act_on(reply.id, reply.phone, reply.content)

        They are handled when the block ends well. If it raises, or the process dies, all of them are handed on
        again: to this task's next try at once, to another run when the lease is over. So each is handed on at least
        once, and its `id` tells whether it was acted on before; `replies.handled(reply)` marks one at once. Runs
        that read at the same time get different replies. The account does not matter: each reply says which it is.

        :param consumer: a name for what acts on them: each consumer sees every reply.
        :param campaign: replies to the campaign of this name or key alone; None for all.
        :param pattern: a regular expression that is searched for in the text, see `SmsReplySensor`; the others stay
            unhandled.
        :param most: how many at once, oldest first.
        :param since: how far back; what is older and unhandled is counted in a warning.
        :param lease: how long a reply is held by a process that may have died; renewed as the loop goes on.
        :returns: a context manager; of `IncomingReply`: `id, phone, content, received_at, campaign, taskid, account`.
        :raises LedgerError: the ledger can not be used, or no receiver has ever run on it.

        Interface document: 2.回执/回复推送接口.
        """
        from airflow_provider_sms import reply_reader

        interest = reply_reader.interest(consumer, campaign, pattern, since)
        return reply_reader.claimed(self.log, interest, _task_instance(), most, lease)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the balance once, for the form's *Test* button; never sends.

        :returns: whether it worked, and a sentence for the person who pressed the button.
        """
        from airflow_provider_sms.gateway.errors import SmsError

        try:
            return True, f"Connected: the account has {self.get_balance()} points."
        except (SmsError, AirflowNotFoundException) as error:
            return False, str(error)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Hidden, renamed and example fields of the form, for Airflow before 3.2."""
        behaviour = _form()["ui-field-behaviour"]
        return {
            "hidden_fields": behaviour["hidden-fields"],
            "relabeling": behaviour["relabeling"],
            "placeholders": behaviour["placeholders"],
        }

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The form's extra fields, for Airflow before 3.2."""
        return {name: _widget(field) for name, field in _form()["conn-fields"].items()}


def _task_instance() -> TaskInstanceKey | None:
    """The task instance that this runs in, if it runs in one."""
    from airflow.providers.common.compat.sdk import get_current_context

    from airflow_provider_sms.ledger.keys import TaskInstanceKey

    try:
        ti = get_current_context()["ti"]
    except Exception:  # noqa: BLE001 - its class differs by version
        return None
    return TaskInstanceKey(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)


def find_connection(conn_id: str) -> Connection:
    """Look a connection up the way a task may, with a message that says what to do if it is not there.

    :param conn_id: the connection's id.
    :raises AirflowNotFoundException: there is no such connection.
    """
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise AirflowNotFoundException(missing_connection(conn_id)) from None


def missing_connection(conn_id: str) -> str:
    """Say that a connection is missing, and what to do.

    :param conn_id: the connection's id.
    """
    return (
        f"sms_conn_id: there is no connection {conn_id!r}; create it in Airflow (Admin, Connections, type SMS), "
        f"or set AIRFLOW_CONN_{conn_id.upper()}."
    )


def read_account(connection: Connection) -> Account:
    """Read a connection of type `sms`.

    :param connection: login is the App ID, password the App Key, host the base URL.
    :raises AccountError: a field is not usable; the message names it and the remedy.
    """
    from airflow_provider_sms.gateway.account import BASE_URL, Account, with_port
    from airflow_provider_sms.gateway.errors import AccountError

    extras = _extras(connection)
    unknown = sorted(extras.keys() - _form()["conn-fields"].keys())
    if unknown:
        known = ", ".join(sorted(_form()["conn-fields"]))
        raise AccountError(f"extra: unknown field {', '.join(map(repr, unknown))}; the fields are {known}.")
    if connection.schema:
        raise AccountError("schema: leave it empty; the base URL, https:// included, goes into host.")
    base_url = with_port((connection.host or "").strip() or BASE_URL, connection.port)
    settings: dict[str, Any] = {
        name: _READERS[name](name, value) for name, value in extras.items() if value not in (None, "")
    }
    if proxy := settings.get("proxy"):
        _mask(proxy)
    account = Account(connection.login or "", connection.password or "", base_url, **settings)
    if account.proxy_password:
        _mask(account.proxy_password)
        _mask(unquote(account.proxy_password))
    return account


def _mask(secret: str) -> None:
    from airflow.providers.common.compat.sdk import mask_secret

    mask_secret(secret)


def _extras(connection: Connection) -> dict[str, Any]:
    from airflow_provider_sms.gateway.errors import AccountError

    if not connection.extra:
        return {}
    try:
        extras = json.loads(connection.extra)
    except ValueError:
        extras = None
    if not isinstance(extras, dict):
        raise AccountError('extra: not a JSON object; write it like {"signature": "云通信"}.')
    return extras


def _whole(name: str, value: object) -> int:
    from airflow_provider_sms.gateway.errors import AccountError

    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()):
        raise AccountError(f"{name}: not a whole number.")
    return int(text)


def _line(name: str, value: object) -> str:
    from airflow_provider_sms.gateway.errors import AccountError

    if not isinstance(value, str):
        raise AccountError(f"{name}: expected text, got {type(value).__name__}.")
    return value.strip()


def _switch(name: str, value: object) -> bool:
    from airflow_provider_sms.gateway.errors import AccountError

    match str(value).strip().lower():
        case "true":
            return True
        case "false":
            return False
    raise AccountError(f"{name}: expected true or false.")


_READERS = {
    "signature": _line,
    "batch_size": _whole,
    "timeout": _whole,
    "proxy": _line,
    "exclusive_account": _switch,
}


def _form() -> dict[str, Any]:
    return get_provider_info()["connection-types"][0]


def _widget(field: dict[str, Any]) -> Any:
    """One extra of the form as the WTForms field that Airflow before 3.2 asks for."""
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import BooleanField, IntegerField, PasswordField, StringField
    from wtforms.validators import Optional

    schema = field["schema"]
    common = {"label": field["label"], "description": field["description"], "default": schema.get("default")}
    if "boolean" in schema["type"]:
        return BooleanField(**common)
    if "integer" in schema["type"]:
        return IntegerField(**common, validators=[Optional()], widget=BS3TextFieldWidget())
    if schema.get("format") == "password":
        return PasswordField(**common, validators=[Optional()], widget=BS3PasswordFieldWidget())
    return StringField(**common, validators=[Optional()], widget=BS3TextFieldWidget())
