"""The HTTP endpoint of a running daemon, and GPU values under dcgm-exporter's names."""

from __future__ import annotations

import re
import signal

import httpx2
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nonet.power.controlling.gpus import GpuCollector
from tests.power.controlling.conftest import eventually
from tests.power.controlling.test_daemon import CAPPED, nvml_row

DCGM = {
    "DCGM_FI_DEV_POWER_USAGE": 300.0,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 123_000.0,
    "DCGM_FI_DEV_SM_CLOCK": 1410.0,
    "DCGM_FI_DEV_GPU_UTIL": 100.0,
    "DCGM_FI_DEV_GPU_TEMP": 55.0,
    "DCGM_FI_DEV_FB_USED": 40 * 1024.0,
}


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_gpu_values_have_the_names_labels_and_units_of_dcgm_exporter(make_gpus):
    gpus = make_gpus(2)
    registry = CollectorRegistry()
    registry.register(GpuCollector("node01"))
    found = samples(generate_latest(registry).decode())
    labels = (("Hostname", "node01"), ("UUID", "GPU-fake-0000"), ("gpu", "0"), ("modelName", "Fake A100-SXM4-80GB"))
    assert {name: found[name, labels] for name in DCGM} == DCGM
    gpus[0].lost = 1
    found = samples(generate_latest(registry).decode())
    assert {dict(labels)["gpu"] for _, labels in found} == {"1"}


def test_a_running_daemon_is_scraped(make_gpus, make_feeder, write_row, start_daemon, monkeypatch):
    gpus = make_gpus(4)
    monkeypatch.setenv("ROW_TOKEN", "secret")
    row = nvml_row(write_row, more='[metrics]\nport = 0\ntoken_env = "ROW_TOKEN"\ngpus = true\n')
    make_feeder(950.0)
    daemon = start_daemon(row, "--apply", "--allow", "*")
    assert daemon.says("metrics at ")
    address = re.search(r"metrics at (\S+)/metrics", daemon.log.read_text())[1]
    assert eventually(lambda: gpus.clocks() == CAPPED)
    assert httpx2.get(f"{address}/healthz").status_code == 200
    assert httpx2.get(f"{address}/readyz").status_code == 200
    assert httpx2.get(f"{address}/metrics").status_code == 401
    token = {"Authorization": "Bearer secret"}

    def landed() -> bool:
        found = samples(httpx2.get(f"{address}/metrics", headers=token).text)
        labels = (("backend", "nvml"), ("result", "landed"), ("row", "test"))
        return found.get(("nonet_power_commands_total", labels)) == 2.0

    assert eventually(landed)
    found = samples(httpx2.get(f"{address}/metrics", headers=token).text)
    row_label = (("row", "test"),)
    assert found["nonet_power_row_power_watts", row_label] == 950.0
    assert found["nonet_power_row_budget_watts", row_label] == 1000.0
    assert found["nonet_power_dry_run", row_label] == 0.0
    assert found["nonet_power_brakes_total", row_label] == 0.0
    assert {name for name, _ in found if name.startswith("DCGM")} == set(DCGM)
    assert daemon.end(signal.SIGTERM) == 0


def test_a_token_that_is_not_there_is_said(make_feeder, write_row, start_daemon):
    make_feeder(500.0)
    daemon = start_daemon(write_row(more='[metrics]\nport = 0\ntoken_env = "NO_SUCH_TOKEN"\n'))
    assert daemon.process.wait(20) == 2
    assert "the environment has no NO_SUCH_TOKEN" in daemon.log.read_text()
