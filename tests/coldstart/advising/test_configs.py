"""Configuration files, read back by other parsers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nonet.coldstart.advising.choices import Kind
from nonet.coldstart.advising.configs import (
    StemCells,
    knative_patch,
    lambda_cloudformation,
    lambda_terraform,
    openwhisk_actions,
    openwhisk_stem_cells,
    prewarm_plan,
    write_configs,
)
from nonet.coldstart.advising.keep_alive import KeepAlive
from nonet.coldstart.advising.recommend import Advice, Recommendation
from nonet.common.errors import InputError

PERIOD = {"period_s": 90.0, "lead_s": 2.0, "hold_s": 3.0, "keep_alive_s": 0}


def recommendation(kind: Kind, *settings: dict[str, Any]) -> Recommendation:
    names = tuple(setting["function"] for setting in settings)
    return Recommendation(kind, kind, names, settings, 10, 9, 0.1, 0.05, 0.2, 0.1, 0.01, 1.0, 10.0, -1.0)


def advice(platform: str, *recommendations: Recommendation) -> Advice:
    keep = KeepAlive(60_000_000, "given", 0, 0, 0)
    return Advice(
        "s",
        "default",
        platform,
        keep,
        ("a", "b"),
        ("b", "c"),
        90,
        None,
        recommendations,
        (),
        0.1,
        0.05,
        0.2,
        0.1,
        1.0,
        "p",
        0.0,
        1000,
        500.0,
        None,
    )


def test_knative_patch() -> None:
    given = advice(
        "knative",
        recommendation(
            "keep-alive", {"function": "a", "keep_alive_s": 300}, {"function": "team/b", "keep_alive_s": 300}
        ),
        recommendation("concurrency", {"function": "thumb", "concurrency": 4}),
        recommendation("min-scale", {"function": "a", "min_scale": 2}),
        recommendation("prewarm", {"function": "timer", **PERIOD}),
    )
    services = {
        (doc["metadata"]["namespace"], doc["metadata"]["name"]): doc for doc in yaml.safe_load_all(knative_patch(given))
    }
    assert set(services) == {("default", "a"), ("team", "b"), ("default", "thumb")}
    assert all((doc["apiVersion"], doc["kind"]) == ("serving.knative.dev/v1", "Service") for doc in services.values())
    template = services["default", "a"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "autoscaling.knative.dev/min-scale": "2",
        "autoscaling.knative.dev/scale-down-delay": "300s",  # the retention period would keep the last pod only
    }
    thumb = services["default", "thumb"]["spec"]["template"]
    assert thumb["spec"] == {"containerConcurrency": 4}
    assert thumb["metadata"]["annotations"] == {"autoscaling.knative.dev/target": "4"}


def test_openwhisk_stem_cells() -> None:
    cells = [
        StemCells("nodejs:20", 512, 2, 1, 4),
        StemCells("nodejs:20", 256, 3, 1, 6),
        StemCells("python:3.11", 256, 1, 1, 1),
    ]
    runtimes = json.loads(openwhisk_stem_cells(cells))["runtimes"]
    assert set(runtimes) == {"nodejs", "python"}
    node = runtimes["nodejs"][0]
    assert node["kind"] == "nodejs:20"
    assert node["stemCells"] == [
        {
            "initialCount": 3,
            "memory": "256 MB",
            "reactive": {"minCount": 1, "maxCount": 6, "ttl": "120 seconds", "threshold": 1, "increment": 1},
        },
        {
            "initialCount": 2,
            "memory": "512 MB",
            "reactive": {"minCount": 1, "maxCount": 4, "ttl": "120 seconds", "threshold": 1, "increment": 1},
        },
    ]
    with pytest.raises(InputError, match="python:3"):
        openwhisk_stem_cells([replace(cells[2], max_count=0)])


def test_openwhisk_actions(tmp_path: Path) -> None:
    change = recommendation(
        "concurrency", {"function": "guest/thumb", "concurrency": 8}, {"function": "a b", "concurrency": 2}
    )
    given = advice("openwhisk", change)
    assert openwhisk_actions(given).splitlines()[2:] == [
        "wsk action update 'a b' --concurrency 2",
        "wsk action update /guest/thumb --concurrency 8",
    ]
    assert [path.name for path in write_configs(given, tmp_path)] == ["advice.json", "openwhisk-actions.sh"]
    assert openwhisk_actions(advice("openwhisk", recommendation("prewarm", {"function": "t", **PERIOD}))) == ""


def test_lambda_terraform_and_cloudformation() -> None:
    provisioned = recommendation(
        "provisioned", {"function": "tiny", "provisioned": 1}, {"function": '9 "${odd}', "provisioned": 3}
    )
    given = advice("lambda", provisioned)
    text = lambda_terraform(given)
    blocks = re.findall(r'resource "aws_lambda_provisioned_concurrency_config" "([\w-]+)" \{\n(.*?)\n\}', text, re.S)
    read = {
        name: {key.strip(): value.strip() for key, value in (line.split("=", 1) for line in body.splitlines())}
        for name, body in blocks
    }
    assert read["tiny"] == {
        "function_name": '"tiny"',
        "qualifier": "var.qualifier",
        "provisioned_concurrent_executions": "1",
    }
    odd = read["_9___odd_"] if "_9___odd_" in read else read[next(name for name in read if name != "tiny")]
    assert odd["function_name"] == '"9 \\"$${odd}"'
    assert odd["provisioned_concurrent_executions"] == "3"
    assert text.count("{") - text.count("$${") == text.count("}") - 1
    template = yaml.safe_load(lambda_cloudformation(given))
    aliases = [r["Properties"] for r in template["Resources"].values() if r["Type"] == "AWS::Lambda::Alias"]
    counts = {p["FunctionName"]: p["ProvisionedConcurrencyConfig"]["ProvisionedConcurrentExecutions"] for p in aliases}
    assert counts == {"tiny": 1, '9 "${odd}': 3}
    assert {p["FunctionVersion"]["Ref"] for p in aliases} == set(template["Parameters"])


def test_scheduled_concurrency_of_lambda() -> None:
    on, off = "cron(4,34 * * * ? *)", "cron(10,40 * * * ? *)"
    given = advice("lambda", recommendation("scheduled", {"function": "report", "scheduled": 1, "on": on, "off": off}))
    text = lambda_terraform(given)
    actions = re.findall(r'"aws_appautoscaling_scheduled_action" "(\w+)" \{\n(.*?)\n\}', text, re.S)
    read = {name: dict(re.findall(r"(\w+) += (\S.*)", body)) for name, body in actions}
    assert {name: (a["schedule"], a["min_capacity"], a["max_capacity"]) for name, a in read.items()} == {
        "report_on": (f'"{on}"', "1", "1"),
        "report_off": (f'"{off}"', "0", "0"),
    }
    assert {a["resource_id"] for a in read.values()} == {"aws_appautoscaling_target.report.resource_id"}
    assert 'resource_id        = "function:report:${var.qualifier}"' in text
    assert text.count("{") == text.count("}")
    assert "aws_lambda_provisioned_concurrency_config" not in text
    resources = yaml.safe_load(lambda_cloudformation(given))["Resources"]
    target = resources["Target1"]["Properties"]
    assert target["ResourceId"] == "function:report:live"
    assert "ProvisionedConcurrencyConfig" not in resources["Alias1"]["Properties"]
    assert [(a["Schedule"], a["ScalableTargetAction"]["MaxCapacity"]) for a in target["ScheduledActions"]] == [
        (on, 1),
        (off, 0),
    ]
    assert prewarm_plan(given) == ""


def test_prewarm_plan_and_files(tmp_path: Path) -> None:
    given = advice("lambda", recommendation("prewarm", {"function": "timer", **PERIOD}))
    assert json.loads(prewarm_plan(given)) == {"prewarm": [{"function": "timer", **PERIOD}]}
    names = [path.name for path in write_configs(given, tmp_path / "new" / "advice", [StemCells("go:1", 128, 1, 1, 2)])]
    assert names == ["advice.json", "openwhisk-stemcells.json", "prewarm-plan.json"]
    assert json.loads((tmp_path / "new" / "advice" / "advice.json").read_text())["num_cold"] == 90
    assert knative_patch(given) == lambda_terraform(given) == lambda_cloudformation(given) == ""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make"):
        write_configs(given, tmp_path / "file")
