"""Recommendations as configuration files: Knative, OpenWhisk, AWS Lambda, and a plan of pre-warms for any scheduler.

* Knative: one YAML document a service, to be merged into it (`kubectl patch ksvc NAME --type merge --patch-file`, or
  kustomize). Annotations `autoscaling.knative.dev/min-scale`, `.../target`, `.../scale-down-delay` (keeps all pods so
  long, as the simulated keep-alive does; `scale-to-zero-pod-retention-period` would keep the last one only);
  `containerConcurrency`. The stable window comes on top, so pods stay up to a minute longer than simulated.
* OpenWhisk: runtimes manifest (`RUNTIMES_MANIFEST`), the part with stem cells by kind and memory; commands of `wsk`
  that set the concurrency of actions.
* Lambda: provisioned concurrency as Terraform and as CloudFormation, always or by the clock (scheduled actions of
  Application Auto Scaling).
* `prewarm-plan.json`: which functions to start how long before they are due.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nonet.coldstart.advising.recommend import Advice
from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError

MAX_SCALE_DOWN_DELAY_S = 3600
"""Knative takes no longer delay."""
_PREFIX = "autoscaling.knative.dev"


@dataclass(frozen=True)
class StemCells:
    """Stem cells of one runtime and memory, as OpenWhisk's manifest has them.

    Attributes:
        kind, memory_mb: which actions they serve, e.g. "nodejs:20" and 256.
        initial_count: how many there are at the start.
        min_count, max_count, ttl_s, threshold, increment: `reactive`: between the counts, `increment` more for every
            `threshold` cold starts a minute, fewer after `ttl_s` seconds.
    """

    kind: str
    memory_mb: int
    initial_count: int
    min_count: int
    max_count: int
    ttl_s: int = 120
    threshold: int = 1
    increment: int = 1


def settings_of(advice: Advice) -> dict[str, dict[str, Any]]:
    """What to set for each function; changes of the same function are put together."""
    settings: dict[str, dict[str, Any]] = {}
    for recommendation in advice.recommendations:
        for setting in recommendation.settings:
            values = {key: value for key, value in setting.items() if key != "function"}
            settings.setdefault(str(setting["function"]), {}).update(values)
    return settings


def knative_patch(advice: Advice) -> str:
    """YAML documents, one for each service whose keep-alive, concurrency or min-scale changes; "" for none."""
    import yaml

    documents = []
    for function, setting in sorted(settings_of(advice).items()):
        annotations: dict[str, str] = {}
        if "min_scale" in setting:
            annotations[f"{_PREFIX}/min-scale"] = str(setting["min_scale"])
        if setting.get("keep_alive_s", 0) > 0:
            delay_s = min(int(setting["keep_alive_s"]), MAX_SCALE_DOWN_DELAY_S)
            annotations[f"{_PREFIX}/scale-down-delay"] = f"{delay_s}s"
        template: dict[str, Any] = {}
        if "concurrency" in setting:
            annotations[f"{_PREFIX}/target"] = str(setting["concurrency"])
            template["spec"] = {"containerConcurrency": int(setting["concurrency"])}
        if annotations:
            template["metadata"] = {"annotations": annotations}
        if template:
            namespace, _, name = function.rpartition("/")
            documents.append(
                {
                    "apiVersion": "serving.knative.dev/v1",
                    "kind": "Service",
                    "metadata": {"name": name, "namespace": namespace or "default"},
                    "spec": {"template": template},
                }
            )
    return yaml.safe_dump_all(documents, sort_keys=False) if documents else ""


def openwhisk_stem_cells(cells: Iterable[StemCells]) -> str:
    """The runtimes manifest with stem cells, as JSON; to be merged into the deployment's own manifest by kind.

    Raises:
        InputError: a kind without a name, a memory below 1 MB, or counts that do not fit together.
    """
    families: dict[str, list[dict[str, Any]]] = {}
    by_kind: dict[str, list[StemCells]] = {}
    for cell in cells:
        if not cell.kind or cell.memory_mb < 1 or not 0 <= cell.min_count <= cell.max_count or cell.initial_count < 0:
            raise InputError(f"stem cells of {cell.kind!r}, {cell.memory_mb} MB: memory and counts do not fit together")
        by_kind.setdefault(cell.kind, []).append(cell)
    for kind, own in sorted(by_kind.items()):
        stem_cells = [
            {
                "initialCount": cell.initial_count,
                "memory": f"{cell.memory_mb} MB",
                "reactive": {
                    "minCount": cell.min_count,
                    "maxCount": cell.max_count,
                    "ttl": f"{cell.ttl_s} seconds",
                    "threshold": cell.threshold,
                    "increment": cell.increment,
                },
            }
            for cell in sorted(own, key=lambda c: c.memory_mb)
        ]
        families.setdefault(kind.partition(":")[0], []).append({"kind": kind, "stemCells": stem_cells})
    return json.dumps({"runtimes": families}, indent=2) + "\n"


def openwhisk_actions(advice: Advice) -> str:
    """A shell script that sets the concurrency of actions; "" for none."""
    commands = []
    for function, setting in sorted(settings_of(advice).items()):
        if "concurrency" in setting:
            name = f"/{function}" if "/" in function else function
            commands.append(f"wsk action update {shlex.quote(name)} --concurrency {int(setting['concurrency'])}\n")
    return "#!/bin/sh\nset -e\n" + "".join(commands) if commands else ""


_TERRAFORM = """\
# Provisioned concurrency; an alias or a published version is needed, $LATEST cannot have any.
variable "qualifier" {
  type        = string
  description = "Alias or version that callers use."
}
{% for function, pods in items %}
resource "aws_lambda_provisioned_concurrency_config" {{ identifier(function) | tojson }} {
  function_name                     = {{ text(function) }}
  qualifier                         = var.qualifier
  provisioned_concurrent_executions = {{ pods }}
}
{% endfor %}{% for function, pods, on, off in scheduled %}
resource "aws_appautoscaling_target" {{ identifier(function) | tojson }} {
  service_namespace  = "lambda"
  scalable_dimension = "lambda:function:ProvisionedConcurrency"
  resource_id        = "function:{{ text(function)[1:-1] }}:${var.qualifier}"
  min_capacity       = 0
  max_capacity       = {{ pods }}

  lifecycle {
    ignore_changes = [min_capacity, max_capacity] # the scheduled actions set them
  }
}
{% for name, schedule, capacity in [("on", on, pods), ("off", off, 0)] %}
resource "aws_appautoscaling_scheduled_action" "{{ identifier(function) }}_{{ name }}" {
  name               = "{{ identifier(function) }}-{{ name }}"
  service_namespace  = aws_appautoscaling_target.{{ identifier(function) }}.service_namespace
  scalable_dimension = aws_appautoscaling_target.{{ identifier(function) }}.scalable_dimension
  resource_id        = aws_appautoscaling_target.{{ identifier(function) }}.resource_id
  schedule           = "{{ schedule }}"
  timezone           = "UTC"

  scalable_target_action {
    min_capacity = {{ capacity }}
    max_capacity = {{ capacity }}
  }
}
{% endfor %}{% endfor %}"""


def _scheduled(advice: Advice) -> list[tuple[str, int, str, str]]:
    return [
        (function, int(setting["scheduled"]), setting["on"], setting["off"])
        for function, setting in sorted(settings_of(advice).items())
        if "scheduled" in setting
    ]


def _provisioned(advice: Advice) -> list[tuple[str, int]]:
    return [
        (function, int(setting["provisioned"]))
        for function, setting in sorted(settings_of(advice).items())
        if "provisioned" in setting
    ]


def lambda_terraform(advice: Advice) -> str:
    """Provisioned concurrency as Terraform; "" for none."""
    from jinja2 import Environment, StrictUndefined

    items, scheduled = _provisioned(advice), _scheduled(advice)
    if not items and not scheduled:
        return ""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    template = environment.from_string(_TERRAFORM)
    return template.render(items=items, scheduled=scheduled, identifier=_identifier, text=_hcl_text)


def _identifier(function: str) -> str:
    """A name that Terraform takes: letters, digits, `_` and `-`, no digit first."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", function)
    return name if re.match(r"[A-Za-z_]", name) else f"_{name}"


def _hcl_text(text: str) -> str:
    """A quoted text of HCL; `${` and `%{` begin templates there."""
    return json.dumps(text).replace("${", "$${").replace("%{", "%%{")


def lambda_cloudformation(advice: Advice) -> str:
    """Provisioned concurrency as a CloudFormation template in YAML, on an alias `live` of a version; "" for none."""
    import yaml

    resources: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    always = [(function, pods, None) for function, pods in _provisioned(advice)]
    by_clock = [(function, pods, (on, off)) for function, pods, on, off in _scheduled(advice)]
    for k, (function, pods, times) in enumerate([*always, *by_clock], 1):
        version, alias = f"Version{k}", f"Alias{k}"
        parameters[version] = {
            "Type": "String",
            "Description": f"Published version of {function} that the alias serves",
        }
        properties = {"FunctionName": function, "FunctionVersion": {"Ref": version}, "Name": "live"}
        resources[alias] = {"Type": "AWS::Lambda::Alias", "Properties": properties}
        if times is None:
            properties["ProvisionedConcurrencyConfig"] = {"ProvisionedConcurrentExecutions": pods}
        else:
            resources[f"Target{k}"] = _scaling_target(alias, function, pods, times)
    if not resources:
        return ""
    template = {"AWSTemplateFormatVersion": "2010-09-09", "Parameters": parameters, "Resources": resources}
    return yaml.safe_dump(template, sort_keys=False)


def _scaling_target(alias: str, function: str, pods: int, times: tuple[str, str]) -> dict[str, Any]:
    actions = [
        {
            "ScheduledActionName": name,
            "Schedule": schedule,
            "Timezone": "UTC",
            "ScalableTargetAction": {"MinCapacity": capacity, "MaxCapacity": capacity},
        }
        for name, schedule, capacity in (("on", times[0], pods), ("off", times[1], 0))
    ]
    return {
        "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
        "DependsOn": alias,
        "Properties": {
            "ServiceNamespace": "lambda",
            "ScalableDimension": "lambda:function:ProvisionedConcurrency",
            "ResourceId": f"function:{function}:live",
            "MinCapacity": 0,
            "MaxCapacity": pods,
            "ScheduledActions": actions,
        },
    }


def prewarm_plan(advice: Advice) -> str:
    """The pre-warms as JSON: `function, period_s, lead_s, hold_s, keep_alive_s`; "" for none."""
    plan = [s for rec in advice.recommendations if rec.kind == "prewarm" for s in rec.settings]
    return json.dumps({"prewarm": plan}, indent=2) + "\n" if plan else ""


def write_configs(advice: Advice, folder: str | Path, stem_cells: Sequence[StemCells] = ()) -> list[Path]:
    """Write what the advice needs on its platform, and the advice itself as `advice.json`; returns the files.

    Args:
        advice: from `recommend`.
        folder: is made when it is not there; files of the same names are replaced.
        stem_cells: from `stem_cells`, for OpenWhisk.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    from nonet.common.jsonable import dumps

    texts = {"prewarm-plan.json": prewarm_plan(advice), "advice.json": dumps(advice, indent=2) + "\n"}
    if advice.platform in ("knative", "any"):
        texts["knative-patch.yaml"] = knative_patch(advice)
    if advice.platform in ("lambda", "any"):
        texts["lambda-provisioned.tf"] = lambda_terraform(advice)
        texts["lambda-provisioned.yaml"] = lambda_cloudformation(advice)
    if advice.platform in ("openwhisk", "any"):
        texts["openwhisk-actions.sh"] = openwhisk_actions(advice)
    if stem_cells:
        texts["openwhisk-stemcells.json"] = openwhisk_stem_cells(stem_cells)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target}: cannot make this folder ({error.strerror or error})") from error
    written = []
    for name, text in sorted(texts.items()):
        if text:
            with atomic_write(target / name) as file:
                file.write(text)
            written.append(target / name)
    return written
