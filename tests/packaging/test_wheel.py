"""What is built is what a user needs, and nothing else; it installs, and Airflow finds what is in it."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path) -> str:
    """Run a program away from the checkout, and return what it prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path

    @property
    def members(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}

    def read(self, end_of_name: str) -> str:
        [name] = [name for name in self.members if name.endswith(end_of_name)]
        with zipfile.ZipFile(self.wheel) as archive:
            return archive.read(name).decode()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel is made from the sdist: what the sdist lacks, the wheel lacks too."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="module")
def empty_environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel in it, and nothing else: no Airflow, no requests."""
    folder = tmp_path_factory.mktemp("empty") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "--disable-pip-version-check",
        "install",
        "--quiet",
    )
    run(*pip, "--no-index", "--no-deps", built.wheel)
    return python


@pytest.fixture(scope="module")
def metadata(built: Built) -> Message:
    return email.message_from_string(built.read(".dist-info/METADATA"))


def test_the_wheel_holds_every_module_and_says_that_it_is_typed(built: Built) -> None:
    package = ROOT / "airflow_provider_sms"
    modules = {str(file.relative_to(ROOT)) for file in package.rglob("*.py")}
    assert modules <= built.members
    assert "airflow_provider_sms/py.typed" in built.members


def test_the_examples_lie_where_airflow_looks_for_a_provider_s_examples(built: Built) -> None:
    examples = {f"airflow_provider_sms/example_dags/{file.name}" for file in (ROOT / "example_dags").glob("*.py")}
    assert examples
    assert examples <= built.members


def test_the_wheel_holds_nothing_else(built: Built) -> None:
    strangers = {
        name
        for name in built.members
        if not (name.startswith(("airflow_provider_sms/", "airflow_provider_sms-")) and "__pycache__" not in name)
    }
    assert not strangers
    assert not [name for name in built.members if "/tests/" in name or "test_" in name]


def test_the_licence_comes_along(built: Built) -> None:
    assert built.read("licenses/LICENSE") == (ROOT / "LICENSE").read_text()


def test_the_sdist_holds_what_make_needs(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "Makefile",
        "README.md",
        "LICENSE",
        "pyproject.toml",
        "locks/airflow-3.3.txt",
        "scripts/demo.py",
        "mkdocs.yml",
        "locks/docs.txt",
        "docs/en/index.md",
        "docs/zh/index.md",
    }
    assert needed <= names
    assert not [name for name in names if name.startswith((".venv", ".matrix", ".demo", ".docs", ".git/", ".ci"))]
    assert not [name for name in names if name.endswith((".pyc", ".db", ".log"))]


def test_the_metadata_say_what_it_needs(metadata: Message) -> None:
    assert metadata["Name"] == "airflow-provider-sms"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Framework :: Apache Airflow :: Provider" in metadata.get_all("Classifier", [])
    required = {line.split(">=")[0].split("<")[0].strip() for line in metadata.get_all("Requires-Dist", [])}
    assert required == {
        "alembic",
        "apache-airflow",
        "apache-airflow-providers-common-compat",
        "httptools",
        "pendulum",
        "psycopg2-binary",
        "pymysql",
        "regex",
        "requests",
        "sqlalchemy",
        "uvicorn",
    }


def test_every_requirement_has_a_lower_bound(metadata: Message) -> None:
    assert [line for line in metadata.get_all("Requires-Dist", []) if ">=" not in line] == []


def test_entry_points_resolve_without_airflow(empty_environment: Path) -> None:
    found = run(
        empty_environment,
        "-I",
        "-c",
        "from importlib.metadata import distribution\n"
        "for point in distribution('airflow-provider-sms').entry_points:\n"
        # That one is Airflow's own kind of thing; tests/receiver/test_plugin.py has it loaded by Airflow.
        "    if point.group != 'airflow.plugins':\n"
        "        print(point.group, point.name, callable(point.load()))",
    )
    assert set(found.splitlines()) == {
        "apache_airflow_provider provider_info True",
        "console_scripts airflow-sms True",
    }


def test_provider_info_imports_nothing(empty_environment: Path) -> None:
    """Every Airflow process runs it, at its start."""
    found = run(
        empty_environment,
        "-I",
        "-c",
        "import __future__, sys, typing\n"
        "from importlib.metadata import entry_points\n"
        "[point] = entry_points(group='apache_airflow_provider')\n"
        "before = set(sys.modules)\n"
        "info = point.load()()\n"
        "print(info['package-name'], *sorted(set(sys.modules) - before))",
    )
    assert found.split() == [
        "airflow-provider-sms",
        "airflow_provider_sms",
        "airflow_provider_sms.get_provider_info",
    ]


def test_the_command_explains_itself_without_airflow(empty_environment: Path) -> None:
    assert "simulator" in run(empty_environment.with_name("airflow-sms"), "--help")


def test_the_examples_are_valid_python_where_they_land(empty_environment: Path) -> None:
    run(
        empty_environment,
        "-I",
        "-c",
        "import airflow_provider_sms, compileall, pathlib, sys\n"
        "folder = pathlib.Path(airflow_provider_sms.__file__).with_name('example_dags')\n"
        "sys.exit(not (folder.is_dir() and compileall.compile_dir(folder, quiet=1)))",
    )


def test_airflow_finds_the_examples_of_an_installed_wheel(built: Built, tmp_path: Path) -> None:
    """An editable install hides them; so the wheel is unpacked in front of it."""
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(tmp_path)
    found = run(
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import airflow_provider_sms.example_dags as examples\n"
        "print(*examples.__path__)",
    )
    assert found.strip() == str(tmp_path / "airflow_provider_sms" / "example_dags")
