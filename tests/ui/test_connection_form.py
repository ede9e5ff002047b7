"""The connection form and its *Test* button, in Airflow's real user interface and a real browser.

With SMS_LIVE=1 only; with SMS_UPDATE_PICTURES=1 too, the pictures of the README (docs/img) are made anew.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import airflow
import pytest

from airflow_provider_sms.gateway.errors import CredentialsError
from airflow_provider_sms.get_provider_info import get_provider_info
from tests.support.airflow import new_home
from tests.support.simulator import REPOSITORY, Simulator
from tests.support.wire import Server, answer, serving
from tests.ui.airflow_server import airflow_server

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page, Response

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

APP_ID = "FAKE-APP-ID"
APP_KEY = "FAKE-APP-KEY-7d793037"
WRONG_KEY = "FAKE-WRONG-KEY-a0760182"
PROXY_PASSWORD = "fake-proxy-password-30e1"
SECRETS = (APP_KEY, WRONG_KEY, PROXY_PASSWORD)

DEFINITION: dict[str, Any] = get_provider_info()["connection-types"][0]
BEHAVIOUR: dict[str, Any] = DEFINITION["ui-field-behaviour"]
EXTRAS: dict[str, dict[str, Any]] = DEFINITION["conn-fields"]

WIDTH, HEIGHT = 1280, 900
# For pictures of the list: what is said appears at the bottom, near the row it is about.
LIST_HEIGHT = 460
BOUND = 30_000  # milliseconds
UPDATES_PICTURES = os.environ.get("SMS_UPDATE_PICTURES") == "1"
CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _chromium() -> str:
    """The installed browser; without one the test is skipped, or fails with SMS_REQUIRE_CHROMIUM=1."""
    if tuple(map(int, airflow.__version__.split(".")[:2])) < (3, 3):
        pytest.skip(f"the browser looks at the user interface of Airflow 3.3, and this is {airflow.__version__}")
    missing = None
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        missing = "the Python package playwright is not installed"
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        missing = "Chromium is not installed (Debian: apt-get install chromium fonts-noto-cjk)"
    if missing is None:
        assert browser is not None
        return browser
    if os.environ.get("SMS_REQUIRE_CHROMIUM") == "1":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="module")
def chromium() -> str:
    return _chromium()


@pytest.fixture(scope="module")
def simulator(chromium: str) -> Iterator[Simulator]:
    # The pictures show the port that the README uses; otherwise any that is free.
    port = ["--port", "10658"] if UPDATES_PICTURES else []
    with Simulator("--balance", "5000", *port, app_id=APP_ID, app_key=APP_KEY) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def proxy(simulator: Simulator) -> Iterator[Server]:
    """A way to the simulator for those who know the proxy's password."""
    platform = urlsplit(simulator.base_url)
    credentials = base64.b64encode(f"user:{PROXY_PASSWORD}".encode())

    def handler(server: Server, client: socket.socket) -> None:
        request = server.read(client)
        if b"Proxy-Authorization: Basic " + credentials not in request:
            client.sendall(answer(b"", "407 Proxy Authentication Required"))
            return
        with socket.create_connection((platform.hostname, platform.port), timeout=10) as onward:
            onward.sendall(request.replace(simulator.base_url.encode(), b"", 1).replace(b"keep-alive", b"close", 1))
            while piece := onward.recv(65536):
                client.sendall(piece)

    with serving(handler) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_home(tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def address(chromium: str, home: Path) -> Iterator[str]:
    with airflow_server(home) as address:
        yield address


class Answers:
    """What Airflow's interface answered to the page: request to text."""

    def __init__(self, page: Page, address: str) -> None:
        self._address = address
        self.texts: dict[str, str] = {}
        page.on("response", self._keep)

    def _keep(self, response: Response) -> None:
        from playwright.sync_api import Error

        path = response.url.removeprefix(self._address)
        if not path.startswith(("/api/", "/ui/")):
            return
        try:
            text = response.text()
        except Error as gone:  # The page was left before the answer was read.
            text = f"unread: {gone}"
        self.texts[f"{response.request.method} {path} {response.status} #{len(self.texts)}"] = text


@pytest.fixture(scope="module")
def context(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("browser"),
            executable_path=chromium,
            args=CHROMIUM_FLAGS,
            env={**os.environ, "HOME": str(tmp_path_factory.mktemp("browser-home"))},
            viewport={"width": WIDTH, "height": HEIGHT},
            device_scale_factor=1,
            locale="en-US",
        )
        # One bound for all that is waited for, whether it is to be clicked on or looked at.
        context.set_default_timeout(BOUND)
        expect.set_options(timeout=BOUND)
        yield context
        context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not UPDATES_PICTURES:
        return tmp_path_factory.mktemp("pictures")
    folder = REPOSITORY / "docs" / "img"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Form:
    """The dialog that adds or changes a connection."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.dialog = page.get_by_role("dialog")

    def choose_type(self, name: str) -> None:
        self.dialog.get_by_label("Connection Type").fill(name)
        self.page.get_by_role("option", name=name, exact=True).click()

    def open(self, section: str) -> None:
        """Open a section; the one that was open closes."""
        header = self.dialog.get_by_role("button", name=section, exact=True)
        if header.get_attribute("aria-expanded") != "true":
            header.click()
        self._settle()

    def standard(self, name: str) -> Locator:
        return self.dialog.locator(f"[name={name}]")

    def extra(self, name: str) -> Locator:
        return self.dialog.locator(f"[name=element_{name}]")

    def extra_with_texts(self, name: str) -> Locator:
        return self.dialog.get_by_role("group").filter(has=self.page.locator(f"[name=element_{name}]"))

    def values(self) -> list[str]:
        """What the form's fields hold, hidden or not."""
        fields = self.dialog.locator("input, textarea")
        return fields.evaluate_all("fields => fields.map(field => field.value)")  # type: ignore[no-any-return]

    def save(self) -> None:
        from playwright.sync_api import expect

        self.dialog.get_by_role("button", name="Save").click()
        expect(self.dialog).to_be_hidden()

    def close(self) -> None:
        self.dialog.get_by_role("button", name="Close").click()

    def picture(self, section: str) -> bytes:
        """The dialog from its title to the end of the open section."""
        self.open(section)
        self.page.evaluate("document.activeElement.blur()")
        item = self.dialog.get_by_role("button", name=section, exact=True).locator("xpath=../..")
        top, end = self.dialog.bounding_box(), item.bounding_box()
        assert top is not None
        assert end is not None
        bottom = end["y"] + end["height"]
        return self.page.screenshot(clip={**top, "height": bottom - top["y"] + 12}, animations="disabled")

    def _settle(self) -> None:
        """Wait until the sections have stopped moving."""
        _let_animations_end(self.dialog)


def test_the_form_and_its_test_button(
    page: Page, address: str, home: Path, simulator: Simulator, proxy: Server, pictures: Path
) -> None:
    from playwright.sync_api import expect

    answers = Answers(page, address)
    page.goto(f"{address}/connections")
    page.get_by_role("button", name="Add Connection").click()
    form = Form(page)
    form.standard("connection_id").fill("sms_default")
    form.choose_type(DEFINITION["hook-name"])
    _expect_the_definition(form)

    _fill_in(form, simulator, proxy)
    _take_picture_of_form(form, page, pictures / "connection-form.png")
    assert form.standard("password").input_value() == APP_KEY  # The search below can find it.
    form.save()

    # Green: the platform was asked, through the proxy, so both stored secrets are whole.
    page.set_viewport_size({"width": WIDTH, "height": LIST_HEIGHT})
    page.reload()
    expect(page.get_by_role("row", name="sms_default")).to_be_visible()
    page.get_by_role("button", name="Test Connection").click()
    toast = page.get_by_role("status").filter(has_text="Test Connection Successful")
    expect(toast).to_contain_text("Connected: the account has 5000 points.")
    _take_picture_of_list(page, toast, pictures / "connection-test-green.png")
    assert proxy.requests
    assert simulator.accepted() == []

    # Opened again, nothing of the secrets is there.
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.reload()
    page.get_by_role("button", name="Edit Connection").click()
    expect(form.standard("login")).to_have_value(APP_ID)
    expect(form.standard("password")).to_have_value("***")
    form.open("Extra Fields")
    expect(form.extra("proxy")).to_have_value("***")
    expect(form.extra("signature")).to_have_value("云通信")
    expect(form.extra("batch_size")).to_have_value("1000")
    form.open("Extra Fields JSON")
    expect(form.dialog.locator(".view-lines")).to_contain_text("exclusive_account")
    _expect_no_secret("the page", page.content())
    _expect_no_secret("the form", "\n".join(form.values()))

    # Red: a wrong key is named as such.
    form.open("Standard Fields")
    form.standard("password").fill(WRONG_KEY)
    form.save()
    page.set_viewport_size({"width": WIDTH, "height": LIST_HEIGHT})
    page.reload()
    page.get_by_role("button", name="Test Connection").click()
    toast = page.get_by_role("status").filter(has_text="Test Connection Failed")
    expect(toast).to_contain_text(CredentialsError.remedy)
    _take_picture_of_list(page, toast, pictures / "connection-test-red.png")
    _expect_no_secret("the page", page.content())

    for request in (
        "POST /api/v2/connections 201 ",
        "PATCH /api/v2/connections/sms_default?",
        "POST /api/v2/connections/test 200 ",
        "GET /api/v2/connections?",
    ):
        answered = [text for asked, text in answers.texts.items() if asked.startswith(request)]
        assert any(text.startswith("{") for text in answered), (request, list(answers.texts))
    for asked, text in answers.texts.items():
        _expect_no_secret(asked, text)
    for file in filter(Path.is_file, home.rglob("*")):
        _expect_no_secret(str(file.relative_to(home)), file.read_bytes().decode("utf-8", "replace"))


def _expect_the_definition(form: Form) -> None:
    """All of `get_provider_info` is on the screen: labels, examples, help, defaults."""
    from playwright.sync_api import expect

    for name in ("host", "login", "password", "port", "schema"):
        if name in BEHAVIOUR["hidden-fields"]:
            expect(form.standard(name)).to_have_count(0)
            continue
        expect(form.standard(name)).to_be_visible()
        expect(form.standard(name)).to_have_attribute("placeholder", BEHAVIOUR["placeholders"].get(name, ""))
        if label := BEHAVIOUR["relabeling"].get(name):
            expect(form.dialog.get_by_text(label, exact=True)).to_be_visible()
    expect(form.standard("password")).to_have_js_property("type", "password")

    form.open("Extra Fields")
    for name, field in EXTRAS.items():
        schema = field["schema"]
        shown = form.extra_with_texts(name)
        expect(shown.get_by_text(field["label"], exact=True)).to_be_visible()
        expect(shown.get_by_text(field["description"], exact=True)).to_be_visible()
        if "boolean" in schema["type"]:
            expect(form.extra(name)).to_be_checked(checked=schema["default"])
        else:
            expect(form.extra(name)).to_have_value(str(schema.get("default", "")))
            expect(form.extra(name)).to_have_js_property("type", schema.get("format", "text"))


def _fill_in(form: Form, simulator: Simulator, proxy: Server) -> None:
    platform = urlsplit(simulator.base_url)
    form.open("Standard Fields")
    form.standard("host").fill(f"{platform.scheme}://{platform.hostname}")
    # Airflow 3.3.1 and 3.3.2 refuse to test a connection that has no port (apache/airflow#73298).
    form.standard("port").fill(str(platform.port))
    form.standard("login").fill(APP_ID)
    form.standard("password").fill(APP_KEY)
    form.open("Extra Fields")
    form.extra("signature").fill("云通信")
    form.extra("batch_size").fill("1000")
    form.extra("proxy").fill(f"http://user:{PROXY_PASSWORD}@127.0.0.1:{proxy.port}")


def _take_picture_of_form(form: Form, page: Page, file: Path) -> None:
    """Airflow shows one section at a time: the picture has both, one below the other."""
    from playwright.sync_api import expect

    page.set_viewport_size({"width": WIDTH, "height": 1500})
    sections = [form.picture("Standard Fields"), form.picture("Extra Fields")]
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    sources = [f"data:image/png;base64,{base64.b64encode(each).decode()}" for each in sections]
    images = "".join(f'<img style="display: block" src="{source}">' for source in sources)
    canvas = page.context.new_page()
    canvas.set_content(f'<div id="both" style="display: inline-grid; gap: 16px; background: #ddd">{images}</div>')
    expect(canvas.locator("img")).to_have_count(2)
    _save(canvas.locator("#both").screenshot(), file)
    canvas.close()


def _take_picture_of_list(page: Page, toast: Locator, file: Path) -> None:
    """The list with the pressed button, and what it said."""
    _let_animations_end(toast)
    page.mouse.move(0, 0)
    # Without the main menu and the search.
    clip = {"x": 64, "y": 60, "width": WIDTH - 64, "height": LIST_HEIGHT - 60}
    _save(page.screenshot(clip=clip, animations="disabled"), file)  # type: ignore[arg-type]


def _let_animations_end(element: Locator) -> None:
    # A click cancels animations, which rejects their promises: settled is enough.
    element.evaluate(
        "element => Promise.allSettled(element.getAnimations({subtree: true}).map(each => each.finished))"
        ".then(() => null)"
    )


def _save(picture: bytes, file: Path) -> None:
    assert len(picture) < 200_000
    file.write_bytes(picture)


def _expect_no_secret(where: str, text: str) -> None:
    shown = [secret for secret in SECRETS if secret in text]
    assert not shown, f"{where} shows {shown}"
