"""A StatsD server for tests: takes the datagrams of whole Airflow processes, and adds up."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import Counter
from types import TracebackType

from tests.support.simulator import wait_until

_LINE = re.compile(r"(?P<stat>[^:]+):(?P<value>[-+0-9.e]+)\|(?P<kind>c|g|ms)")


class StatsD:
    """`with StatsD() as statsd:` listens at `port` of the loopback; `environment` leads Airflow there."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port: int = self._socket.getsockname()[1]
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, float] = {}
        self.timings: dict[str, list[float]] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="statsd", daemon=True)

    @property
    def environment(self) -> dict[str, str]:
        """Airflow's settings: with tags, in the form that InfluxDB's StatsD takes."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.port),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def __enter__(self) -> StatsD:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(10)
        self._socket.close()

    def wait_for(self, counts: dict[str, int]) -> None:
        """Wait until exactly this was counted."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.counts == counts)
        assert self.counts == counts

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                datagram = self._socket.recv(65_536).decode()
            except TimeoutError:
                continue
            for line in filter(None, datagram.splitlines()):
                self._take(line)

    def _take(self, line: str) -> None:
        read = _LINE.match(line)
        if read is None or not read["stat"].startswith("airflow.sms."):
            return
        stat, value = read["stat"].removeprefix("airflow."), float(read["value"])
        match read["kind"]:
            case "c":
                self.counts[stat] += int(value)
            case "g":
                self.gauges[stat] = value
            case _:
                self.timings.setdefault(stat, []).append(value)
