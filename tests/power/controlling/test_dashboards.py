"""The dashboard and the rules: promtool checks and runs them, and both speak only of metrics that the daemon has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nonet.power.controlling.metrics import RowMetrics
from tests.conftest import needs

FOLDER = Path(str(resources.files("nonet.power.controlling") / "dashboards"))
RULES = FOLDER / "nonet_power_rules.yml"
DASHBOARD = FOLDER / "nonet_power_dashboard.json"


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    needs(found is not None, "promtool (Debian package prometheus) checks the rules")
    return str(found)


@pytest.fixture
def metric_names() -> set[str]:
    metrics = RowMetrics("a", 1.41e9)
    metrics.observe_power(1.0, 2.0)
    metrics.observe_state(mode=1, brake=False, age_s=0.0, in_flight=False, given_up=0, dry=True, lag_s=0.0)
    metrics.observe_training(False)
    metrics.observe_caps([0, 1], [0.9, 1.0], [False, False], 0.2, 2.0)
    metrics.observe_write("dry", "cap", "landed", 0.1)
    metrics.count_order("brake", True)
    metrics.count(metrics.rejected, "negative")
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {sample.name for family in families for sample in family.samples}


def expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_promtool_accepts_the_rules(promtool):
    done = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "17 rules found" in done.stdout


def test_the_rules_do_what_they_say(promtool, tmp_path):
    text = Path(__file__).with_name("rules_test.yml").read_text().replace("RULES", json.dumps(str(RULES)))
    (tmp_path / "test.yml").write_text(text)
    command = [promtool, "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_parses_every_expression_of_the_dashboard(promtool, tmp_path):
    filled = [e.replace("$__rate_interval", "1m").replace("$__range", "6h") for e in expressions()]
    rules = [{"record": f"panel:{i}", "expr": e} for i, e in enumerate(filled)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    command = [promtool, "check", "rules", "--lint=none", str(tmp_path / "panels.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [RULES, DASHBOARD])
def test_only_metrics_that_the_daemon_has(path, metric_names):
    named = set(re.findall(r"(?<![:\w])nonet_power_\w+", path.read_text()))
    groups = {"nonet_power_recording", "nonet_power_alerts"}
    assert named - groups <= metric_names
    assert len(named) > 8


def test_the_dashboard_takes_any_data_source():
    board = json.loads(DASHBOARD.read_text())
    assert [v["name"] for v in board["templating"]["list"]] == ["datasource", "row"]
    sources = re.findall(r'"uid": "([^"]+)"', DASHBOARD.read_text())
    assert set(sources) == {"${datasource}", "nonet-power"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def test_names_and_units_follow_prometheus(metric_names):
    assert all(name.startswith("nonet_power_") for name in metric_names)
    assert not [name for name in metric_names if re.search(r"_(kw|mw|mhz|ms|percent)(_|$)", name)]
