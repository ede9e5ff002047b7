"""Make a virtual environment from a lock, with pip alone: `python3 -m scripts.environment --help`.

Runs in any Python 3.11+ without a package, and makes nothing anew that is still right.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_STAMP = "ready"
_PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")


class EnvironmentFailed(Exception):
    """It could not be made; the text says what to do."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, made or still to be made.

    :param folder: where it lies.
    :param lock: the file of pins that it is made from.
    """

    folder: Path
    lock: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def log(self) -> Path:
        return self.folder / "install.log"

    def make(self) -> bool:
        """Install what the lock says.

        :returns: False if it was there already, unchanged.
        :raises EnvironmentFailed: nothing usable is left behind.
        """
        if self._is_ready():
            return False
        count = sum(1 for line in self.lock.read_text().splitlines() if "==" in line)
        print(
            f"Installing {count} packages of {_shown(self.lock)} into {_shown(self.folder)} "
            "(half a minute, or some minutes the first time) ...",
            flush=True,
        )
        started = time.monotonic()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._run([sys.executable, "-m", "venv", str(self.folder)], _NO_VENV)
        # The lock is complete: with nothing left to resolve, pip only downloads and unpacks.
        self._run([str(self.python), *_PIP, "install", "--no-deps", "-r", str(self.lock)], _NO_PACKAGES)
        self._stamp().write_text(self._fingerprint())
        print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)
        return True

    def install_checkout(self) -> None:
        """Install this checkout as it stands and goes on: its files are used in place."""
        project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
        stamp = self._stamp("checkout")
        if stamp.exists() and stamp.read_text() == project:
            return
        command = [str(self.python), *_PIP, "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)]
        self._run(command, _NO_CHECKOUT)
        stamp.write_text(project)

    def install_wheel(self, wheel: Path) -> None:
        """Install a built wheel of this project, in place of an older one of the same version."""
        command = [
            str(self.python),
            *_PIP,
            "install",
            "--no-deps",
            "--no-index",
            "--force-reinstall",
            str(wheel),
        ]
        self._run(command, _NO_CHECKOUT)

    def _stamp(self, name: str = _STAMP) -> Path:
        return self.folder / f".{name}"

    def _is_ready(self) -> bool:
        stamp = self._stamp()
        if not (self.python.exists() and stamp.exists() and stamp.read_text() == self._fingerprint()):
            return False
        # The Python that it was made with may have been removed or replaced since.
        return subprocess.run([str(self.python), "-c", "import pip"], capture_output=True, check=False).returncode == 0

    def _fingerprint(self) -> str:
        lock = hashlib.sha256(self.lock.read_bytes()).hexdigest()
        return f"{sys.version}\n{lock}\n{self.folder.resolve()}\n"

    def _run(self, command: list[str], remedy: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode
        if status:
            last = "\n".join("  | " + line for line in self.log.read_text(errors="replace").splitlines()[-8:])
            raise EnvironmentFailed(f"{last}\n{remedy}\nThe whole log: {_shown(self.log)}")


_NO_VENV = (
    "Could not make a virtual environment. Debian and Ubuntu keep that in a package of its own: "
    "apt-get install python3-venv. Or name another Python: make PYTHON=/path/to/python3"
)
_NO_PACKAGES = (
    "Could not install the packages. Is this machine online, and does `pip download requests` work here? "
    "Behind a slow or closed network, set your mirror with `pip config set global.index-url …`; then repeat "
    "the command."
)
_NO_CHECKOUT = "Could not install airflow-provider-sms itself into the environment."


def _shown(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m scripts.environment", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the environment's folder, such as .venv")
    parser.add_argument("lock", type=Path, help="a file of pins, such as locks/airflow-3.3.txt")
    args = parser.parse_args()
    environment = Environment(args.folder, args.lock)
    try:
        environment.make()
        environment.install_checkout()
    except EnvironmentFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; the next run starts this environment anew.", file=sys.stderr)
        return 130
    (args.folder / "ready").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
