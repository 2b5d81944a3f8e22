"""Debian's Prometheus scrapes our own /metrics; our queries read back what was there, with its true age."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import Gauge

from nonet.common.errors import InputError
from nonet.common.service import Service, make_app
from nonet.power.controlling.actuators.protocol import Server
from nonet.power.controlling.metrics import RowMetrics
from nonet.power.controlling.telemetry import TELEMETRY, Telemetry, TelemetryError
from nonet.power.controlling.telemetry.prometheus import DCGM_POWER
from nonet.power.policies.protocol import Priority
from tests.conftest import needs
from tests.power.controlling.conftest import eventually
from tests.power.controlling.real.conftest import free_port

ROW = 'nonet_power_row_power_watts{row="a"}'
SCRAPES = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
  - job_name: row
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Scraped:
    """Our /metrics and the Prometheus that scrapes it."""

    def __init__(self, prometheus: str, folder: Path) -> None:
        self.metrics = RowMetrics("a", 1.41e9)
        labels = ["gpu", "UUID", "modelName", "Hostname"]
        self.gpus = Gauge(DCGM_POWER, "Power draw (in W).", labels, registry=self.metrics.registry)
        for node, power_w in (("node01", 300.0), ("node02", 400.0)):
            for gpu in range(2):
                self.gpus.labels(str(gpu), f"{node}-{gpu}", "fake", node).set(power_w + gpu)
        self.metrics.observe_power(150e3, 200e3)
        self.service = self._serve()
        (folder / "prometheus.yml").write_text(SCRAPES.format(port=self.service.port))
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [prometheus, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=error"]
        log = (folder / "log").open("w")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        telemetry = telemetry_of(self.url, query=ROW)
        assert eventually(lambda: tried(telemetry) is not None, 30.0), (folder / "log").read_text()
        telemetry.close()

    def down(self) -> None:
        self.service.stop()

    def up(self) -> None:
        self.service = self._serve(self.service.port)

    def raw(self, selector: str) -> tuple[np.ndarray, np.ndarray]:
        """The samples as Prometheus stores them: the oracle."""
        query = urllib.parse.urlencode({"query": f"{selector}[1h]"})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=5) as answer:
            values = json.load(answer)["data"]["result"][0]["values"]
        return np.array([float(t) for t, _ in values]), np.array([float(v) for _, v in values])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(20)
        self.service.stop()

    def _serve(self, port: int = 0) -> Service:
        return Service(make_app("row", registry=self.metrics.registry), port=port).start()


def telemetry_of(url: str, servers=(), **config) -> Telemetry:
    kind = TELEMETRY["prometheus"]
    return kind.build(kind.config(url=url, **({"timeout_s": 5.0} | config)), servers)


def tried(telemetry: Telemetry):
    try:
        return telemetry.read()
    except TelemetryError:
        return None


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    prometheus = shutil.which("prometheus")
    needs(prometheus is not None, "prometheus (Debian package) scrapes our metrics")
    found = Scraped(str(prometheus), tmp_path_factory.mktemp("prometheus"))
    yield found
    found.stop()


def test_the_latest_scrape_and_when_it_was(scraped):
    telemetry = telemetry_of(scraped.url, query=ROW)
    assert isinstance(telemetry, Telemetry)
    for power_w in (151e3, 152e3):
        scraped.metrics.observe_power(power_w, 200e3)
        assert eventually(lambda power_w=power_w: telemetry.read().power_w == power_w, 5.0)
        assert abs(time.time() - telemetry.read().measured_unix_s) < 5.0
    times, _ = scraped.raw(ROW)
    assert telemetry.read().measured_unix_s >= times[-1]
    telemetry.close()


def test_a_row_whose_exporter_dies_is_seen_to_age(scraped):
    telemetry = telemetry_of(scraped.url, query=ROW)
    before = telemetry.read()
    scraped.down()
    try:
        time.sleep(0.8)
        after = telemetry.read()
        assert after.measured_unix_s < time.time() - 0.4
        time.sleep(0.25)
        assert telemetry.read() == after and after.measured_unix_s >= before.measured_unix_s
    finally:
        scraped.up()
    assert eventually(lambda: telemetry.read().measured_unix_s > after.measured_unix_s, 5.0)
    telemetry.close()


def test_history_is_what_prometheus_stores_with_its_gaps(scraped):
    telemetry = telemetry_of(scraped.url, query=ROW, timeout_s=5.0)
    began = time.time()
    for power_w in (160e3, 161e3, 162e3):
        scraped.metrics.observe_power(power_w, 200e3)
        time.sleep(0.5)
    scraped.down()
    time.sleep(1.0)
    scraped.up()
    scraped.metrics.observe_power(170e3, 200e3)
    assert eventually(lambda: (now := telemetry.read()) is not None and now.power_w == 170e3, 5.0)
    time.sleep(0.5)
    ended = time.time()
    times, powers = telemetry.history(began, ended, 0.02)
    all_times, all_powers = scraped.raw(ROW)
    inside = (all_times >= began) & (all_times <= ended - 0.4)
    assert set(all_times[inside]) <= set(times) <= set(all_times)
    assert dict(zip(times, powers, strict=True)).items() <= dict(zip(all_times, all_powers, strict=True)).items()
    assert {160e3, 161e3, 162e3, 170e3} <= set(powers)
    assert np.diff(times).max() > 0.8 and np.diff(times).min() > 0.0  # the gap is a gap
    with pytest.raises(InputError, match="stretch"):
        telemetry.history(ended, began, 1.0)
    telemetry.close()


def test_history_longer_than_one_answer_is_asked_for_in_pieces(scraped):
    telemetry = telemetry_of(scraped.url, query=ROW, timeout_s=10.0)
    ended = time.time()
    times, powers = telemetry.history(ended - 50_000.0, ended, 2.0)  # 25,001 points
    assert len(times) == len(powers) >= 1 and (np.diff(times) > 0).all()
    telemetry.close()


def test_gpus_of_dcgm_become_servers(scraped):
    nodes = [Server(0, "node01", Priority.LOW), Server(1, "node02", Priority.HIGH)]
    telemetry = telemetry_of(scraped.url, nodes, dcgm='Hostname=~"node.*"', base_w=450.0, gpu_factor=1.64)
    reading = telemetry.read()
    own = {0: 450 + 1.64 * 601, 1: 450 + 1.64 * 801}
    assert reading.server_power_w == pytest.approx(own) and reading.power_w == pytest.approx(sum(own.values()))
    assert abs(time.time() - reading.measured_unix_s) < 5.0
    telemetry.close()


def test_expressions_units_and_servers(scraped):
    node = Server(5, "node02", Priority.LOW)
    telemetry = telemetry_of(
        scraped.url, [node], query=f"sum({DCGM_POWER}) / 1000", time_query=f"min(timestamp({DCGM_POWER}))",
        unit_w=1000.0, server_query=f"sum by (Hostname) ({DCGM_POWER}) / 1000", server_label="Hostname",
    )  # fmt: skip
    reading = telemetry.read()
    assert reading.power_w == pytest.approx(1402) and reading.server_power_w == {5: pytest.approx(801)}
    telemetry.close()
    with pytest.raises(ValueError, match="time_query"):
        telemetry_of(scraped.url, query=f"sum({DCGM_POWER})")


@pytest.mark.parametrize("power_w", [math.nan, -5.0, 2e6, math.inf])
def test_odd_numbers_are_passed_on_to_the_guards(scraped, power_w):
    telemetry = telemetry_of(scraped.url, query=ROW)
    scraped.metrics.observe_power(power_w, 200e3)
    assert eventually(lambda: str(telemetry.read().power_w) == str(power_w), 5.0)
    scraped.metrics.observe_power(150e3, 200e3)
    assert eventually(lambda: telemetry.read().power_w == 150e3, 5.0)
    telemetry.close()


def test_queries_that_cannot_be_are_errors_of_one_line(scraped):
    for query, time_query, says in (
        (DCGM_POWER, "", "4 series"),
        (ROW, f"timestamp({DCGM_POWER})", "time_query"),
        ("sum(", "vector(1)", "parse error"),
        ("no_such_series", "", None),
    ):
        telemetry = telemetry_of(scraped.url, query=query, time_query=time_query)
        if says is None:
            assert telemetry.read() is None
        else:
            with pytest.raises(TelemetryError, match=says) as caught:
                telemetry.read()
            assert "\n" not in str(caught.value)
        telemetry.close()


def test_a_prometheus_that_hangs_ends_in_time(scraped):
    telemetry = telemetry_of(scraped.url, query=ROW, timeout_s=0.4)
    telemetry.read()
    scraped.process.send_signal(signal.SIGSTOP)
    # The signal stops its threads one after the other; one that still runs would answer.
    tasks = Path(f"/proc/{scraped.process.pid}/task")
    assert eventually(lambda: all(" T " in (one / "stat").read_text() for one in tasks.iterdir()), 5.0)
    began = time.monotonic()
    try:
        with pytest.raises(TelemetryError, match="no answer within"):
            telemetry.read()
        assert time.monotonic() - began < 3.0
    finally:
        scraped.process.send_signal(signal.SIGCONT)
    assert eventually(lambda: tried(telemetry) is not None, 5.0)
    telemetry.close()


class Odd:
    """Something that is not Prometheus."""

    def __init__(self, status: int, body: bytes, drip_s: float = 0.0) -> None:
        self.tokens: list[str | None] = []
        odd = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments) -> None:
                pass

            def do_POST(self) -> None:
                odd.tokens.append(self.headers.get("Authorization"))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.end_headers()
                try:
                    for at in range(0, len(body), 1 if drip_s else len(body)):
                        self.wfile.write(body[at : at + 1] if drip_s else body)
                        self.wfile.flush()
                        time.sleep(drip_s)
                except OSError:
                    pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "drip_s", "says"),
    [
        (200, b"<html>", 0.0, "no JSON"),
        (200, b'{"status": "success", "data": {"result": [{"metric": {}}]}}', 0.0, "no instant vector"),
        (200, b'{"status": "success", "data": null}', 0.0, "no instant vector"),
        (200, b"[1]", 0.0, r"\[1\]"),
        (401, b"", 0.0, "PROMETHEUS_TOKEN"),
        (503, b"busy\nbusy", 0.0, "503"),
        (200, b" " * 100, 0.1, "too slowly"),
    ],
)
def test_what_is_not_prometheus_is_an_error(monkeypatch, status, body, drip_s, says):
    monkeypatch.setenv("PROMETHEUS_TOKEN", "secret")
    odd = Odd(status, body, drip_s)
    telemetry = telemetry_of(odd.url, query=ROW, timeout_s=0.5)
    began = time.monotonic()
    with pytest.raises(TelemetryError, match=says) as caught:
        telemetry.read()
    assert time.monotonic() - began < 3.0 and "\n" not in str(caught.value) and "secret" not in str(caught.value)
    assert odd.tokens == ["Bearer secret"]
    telemetry.close()
    odd.stop()


def test_nobody_there_and_wrong_settings(tmp_path):
    telemetry = telemetry_of(f"http://127.0.0.1:{free_port()}", query=ROW)
    with pytest.raises(TelemetryError, match="is Prometheus there"):
        telemetry.read()
    telemetry.close()
    for wrong in ({"query": ROW, "dcgm": ""}, {}, {"query": ROW, "ca": 1}):
        with pytest.raises(ValueError, match="validation error"):
            telemetry_of("http://127.0.0.1:9090", **wrong)
    with pytest.raises(ValueError, match="must be http"):
        telemetry_of("127.0.0.1:9090", query=ROW)
    with pytest.raises(InputError, match="ca_file"):
        telemetry_of("https://127.0.0.1:9090", query=ROW, ca_file=tmp_path / "no.pem")
