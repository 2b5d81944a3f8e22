"""What the JSON of Kubernetes objects says about starts: pods, events, and settings of Knative revisions."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from nonet.coldstart.importing.moments import duration_us, time_us

_FUNCTION_LABELS = (
    "serving.knative.dev/service",
    "serving.knative.dev/configuration",
    "faas_function",
    "functionName",
    "fission.io/function-name",
    "app.kubernetes.io/name",
    "app",
    "k8s-app",
)
_SIDECARS = {"queue-proxy", "istio-proxy", "linkerd-proxy"}
_PULL = re.compile(r"pulled image .*? in ([0-9.a-zµ]+)(?: \(([0-9.a-zµ]+) including waiting\))?")
_SIZE = re.compile(r"Image size: (\d+) bytes")
_IMAGE = re.compile(r'[Ii]mage "([^"]+)"')
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?|k|m)?")
_MEMORY_BYTES = {"": 1, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_MEMORY_BYTES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(slots=True)
class PodFacts:
    """One pod (one uid). Moments in microseconds since 1970, null when unknown."""

    uid: str
    namespace: str
    name: str
    function: str
    created_us: int
    scheduled_us: int | None = None
    sandbox_us: int | None = None
    init_containers_us: int | None = None
    started_us: int | None = None
    ready_us: int | None = None
    end_us: int | None = None
    restarted_us: int | None = None
    num_restarts: int = 0
    ip: str | None = None
    node: str | None = None
    revision: str | None = None
    cpu_millicores: int | None = None
    memory_mb: int | None = None
    concurrency: int | None = None
    min_scale: int | None = None
    image: str | None = None
    image_bytes: int | None = None
    image_cached: bool | None = None
    pull_us: int | None = None
    node_scale_up: bool = False
    num_failed_scheduling: int = 0
    num_unhealthy: int = 0
    num_failed_pulls: int = 0

    @property
    def full_name(self) -> str:
        """The name that is told apart from others of the cluster."""
        return qualified(self.namespace, self.name)

    @property
    def is_trusted(self) -> bool:
        """Whether `ready_us` is of the first start, as far as can be known."""
        if self.ready_us is None or self.ready_us < self.created_us:
            return False
        return self.num_restarts == 0 or (self.restarted_us is not None and self.ready_us < self.restarted_us)

    def merged(self, later: PodFacts) -> PodFacts:
        """This and another snapshot of the same pod: earliest moments of the start, latest of the end."""
        for item in fields(self):
            mine, theirs = getattr(self, item.name), getattr(later, item.name)
            if mine is None or (item.name in ("num_restarts", "end_us", "restarted_us") and theirs is not None):
                setattr(self, item.name, theirs if mine is None else max(mine, theirs))
            elif theirs is not None and item.name in ("scheduled_us", "sandbox_us", "started_us", "ready_us"):
                setattr(self, item.name, min(mine, theirs))
        return self

    def apply_events(self, seen: dict[str, Any]) -> None:
        """Add what the events of this pod say (see `read_event`)."""
        pulls = _pulls(seen)
        self.num_failed_pulls = sum(seen.get("failed_pulls", {}).values())
        if pulls:
            self.pull_us = sum(pulls.values())
        elif seen.get("cached"):
            self.pull_us, self.image_cached = 0, True
        if pulls:
            self.image_cached = False
            self.image = seen["images"].get(max(pulls, key=lambda name: pulls[name]), self.image)
        self.image_bytes = max(seen.get("sizes", {}).values(), default=None)
        self.node_scale_up = bool(seen.get("node_scale_up"))
        self.num_failed_scheduling = seen.get("num_failed_scheduling", 0)
        self.num_unhealthy = seen.get("num_unhealthy", 0)
        self.scheduled_us = self.scheduled_us if self.scheduled_us is not None else seen.get("scheduled_us")
        starts: dict[str, int] = {k: v for k, v in seen.get("starts", {}).items() if k not in _SIDECARS}
        if starts:
            first_us = max(starts.values())
            self.started_us = first_us if self.started_us is None else min(self.started_us, first_us)
        self.end_us = self.end_us if self.end_us is not None else seen.get("killed_us")


def _pulls(seen: dict[str, Any]) -> dict[str, int]:
    """How long each container's image took: what its pull tells, or, where pulls failed before or it tells nothing,
    from the first attempt to the end (in seconds, as events have them)."""
    pulls: dict[str, int] = dict(seen.get("pulls", {}))
    for container, since_us in seen.get("pull_starts", {}).items():
        until_us = seen.get("pull_ends", {}).get(container)
        untold = container not in pulls and container not in seen.get("at_hand", ())
        if until_us is not None and (untold or container in seen.get("failed_pulls", {})):
            pulls[container] = max(until_us - since_us, pulls.get(container, 0))
    return pulls


def qualified(namespace: str, name: str) -> str:
    """`name` in the namespace default (or none), else `namespace/name`."""
    return name if namespace in ("", "default") else f"{namespace}/{name}"


def unwrapped(value: dict[str, Any]) -> dict[str, Any]:
    """The object inside an event of a watch (`--output-watch-events`); any other object itself."""
    inner = value.get("object")
    return inner if isinstance(inner, dict) and "kind" not in value else value


def read_pod(item: dict[str, Any]) -> PodFacts | str:
    """A Pod object; or why it cannot be used."""
    meta, spec, status = (_dict(item.get(name)) for name in ("metadata", "spec", "status"))
    created_us = time_us(meta.get("creationTimestamp"))
    name = meta.get("name")
    if created_us is None:
        return "a pod without creationTimestamp"
    if not isinstance(name, str) or not name:
        return "a pod without a name"
    namespace = str(meta.get("namespace") or "default")
    labels, annotations = _dict(meta.get("labels")), _dict(meta.get("annotations"))
    pod = PodFacts(
        uid=str(meta.get("uid") or f"{namespace}/{name}/{created_us}"),
        namespace=namespace,
        name=name,
        function=qualified(namespace, _function_name(meta, labels, name)),
        created_us=created_us,
        ip=status.get("podIP"),
        node=spec.get("nodeName"),
        revision=labels.get("serving.knative.dev/revision") or labels.get("pod-template-hash"),
        min_scale=_int(annotations.get("autoscaling.knative.dev/min-scale")),
    )
    _read_status(pod, meta, status)
    _read_spec(pod, spec)
    return pod


def _function_name(meta: dict[str, Any], labels: dict[str, Any], name: str) -> str:
    for label in _FUNCTION_LABELS:
        if labels.get(label):
            return str(labels[label])
    owners = [owner for owner in meta.get("ownerReferences") or () if isinstance(owner, dict) and owner.get("name")]
    if not owners:
        return name
    owner = str(owners[0]["name"])
    return owner.removesuffix(f"-{labels.get('pod-template-hash')}")


def _read_status(pod: PodFacts, meta: dict[str, Any], status: dict[str, Any]) -> None:
    moments = {
        str(condition.get("type")): time_us(condition.get("lastTransitionTime"))
        for condition in status.get("conditions") or ()
        if isinstance(condition, dict) and condition.get("status") == "True"
    }
    pod.scheduled_us = moments.get("PodScheduled")
    pod.sandbox_us = moments.get("PodReadyToStartContainers")
    pod.ready_us = moments.get("Ready")
    if pod.ready_us is None:
        pod.ready_us = moments.get("ContainersReady")
    pod.init_containers_us = _init_containers_us(status)
    starts, ends = [], []
    for container in status.get("containerStatuses") or ():
        if not isinstance(container, dict):
            continue
        state = _dict(container.get("state"))
        ends.append(time_us(_dict(state.get("terminated")).get("finishedAt")))
        if container.get("name") in _SIDECARS:
            continue
        started_us = time_us(_dict(state.get("running")).get("startedAt"))
        started_us = started_us or time_us(_dict(state.get("terminated")).get("startedAt"))
        starts.append(started_us)
        restarts = _int(container.get("restartCount")) or 0
        pod.num_restarts = max(pod.num_restarts, restarts)
        if restarts and started_us is not None:
            pod.restarted_us = max(started_us, pod.restarted_us or started_us)
    known = [moment for moment in starts if moment is not None]
    pod.started_us = max(known) if known and not pod.num_restarts else None
    finished = [moment for moment in ends if moment is not None]
    all_over = bool(ends) and len(finished) == len(ends)
    pod.end_us = max(finished) if all_over else time_us(meta.get("deletionTimestamp"))


def _init_containers_us(status: dict[str, Any]) -> int | None:
    """How long the init containers ran, one after another; None without any (sidecars among them never end)."""
    spans = []
    for container in status.get("initContainerStatuses") or ():
        ended = _dict(_dict(_dict(container).get("state")).get("terminated"))
        start_us, end_us = time_us(ended.get("startedAt")), time_us(ended.get("finishedAt"))
        if start_us is not None and end_us is not None:
            spans.append(max(0, end_us - start_us))
    return sum(spans) if spans else None


def _read_spec(pod: PodFacts, spec: dict[str, Any]) -> None:
    cpu, memory = 0, 0.0
    for container in spec.get("containers") or ():
        if not isinstance(container, dict):
            continue
        if container.get("name") in _SIDECARS:
            for variable in container.get("env") or ():
                if isinstance(variable, dict) and variable.get("name") == "CONTAINER_CONCURRENCY":
                    pod.concurrency = _int(variable.get("value")) or None
            continue
        pod.image = pod.image or container.get("image")
        resources = _dict(container.get("resources"))
        amounts = {**_dict(resources.get("requests")), **_dict(resources.get("limits"))}
        cpu += _millicores(amounts.get("cpu"))
        memory += _memory_mb(amounts.get("memory"))
    pod.cpu_millicores, pod.memory_mb = cpu or None, round(memory) or None


def event_target(item: dict[str, Any]) -> str:
    """The uid of the pod that an event is about (its `namespace/name` without one), "" when it is about no pod."""
    about = _dict(item.get("involvedObject") or item.get("regarding"))
    if about.get("kind") != "Pod":
        return ""
    return str(about.get("uid") or f"{about.get('namespace') or 'default'}/{about.get('name')}")


def read_event(item: dict[str, Any], seen: dict[str, Any]) -> None:
    """Add one event to what is known of its pod: image pulls and container starts by container, counts, moments."""
    about = _dict(item.get("involvedObject") or item.get("regarding"))
    container = str(about.get("fieldPath") or "").partition("{")[2].rstrip("}") or "?"
    reason, text = item.get("reason"), str(item.get("message") or item.get("note") or "")
    moment_us = _event_us(item)
    if reason == "Pulled":
        _read_pull(text, container, seen)
        if moment_us is not None:
            seen.setdefault("pull_ends", {}).setdefault(container, moment_us)
    elif reason == "Pulling" and moment_us is not None:
        begins = seen.setdefault("pull_starts", {})
        begins[container] = min(moment_us, begins.get(container, moment_us))
    elif reason == "Failed" and text.startswith("Failed to pull image"):
        failed = seen.setdefault("failed_pulls", {})
        failed[container] = failed.get(container, 0) + max(1, _int(item.get("count")) or 1)
    elif reason == "Started" and moment_us is not None:
        starts = seen.setdefault("starts", {})
        starts[container] = min(moment_us, starts.get(container, moment_us))
    elif reason == "Scheduled" and moment_us is not None:
        seen["scheduled_us"] = min(moment_us, seen.get("scheduled_us", moment_us))
    elif reason == "Killing" and moment_us is not None:
        seen["killed_us"] = max(moment_us, seen.get("killed_us", moment_us))
    elif reason in ("TriggeredScaleUp", "Nominated"):
        seen["node_scale_up"] = True
    elif reason in ("FailedScheduling", "Unhealthy"):
        key = "num_failed_scheduling" if reason == "FailedScheduling" else "num_unhealthy"
        seen[key] = seen.get(key, 0) + max(1, _int(item.get("count")) or 1)


def _read_pull(text: str, container: str, seen: dict[str, Any]) -> None:
    image = _IMAGE.search(text)
    seen.setdefault("images", {}).setdefault(container, image[1] if image else None)
    size = _SIZE.search(text)
    if size:
        seen.setdefault("sizes", {})[container] = int(size[1])
    pull = _PULL.search(text)
    took_us = duration_us(pull[2] or pull[1]) if pull else None
    if took_us is not None:
        # Of a container that was restarted, the first pull is the one of the start.
        seen.setdefault("pulls", {}).setdefault(container, took_us)
    elif "already present" in text:
        seen["cached"] = True
        seen.setdefault("at_hand", set()).add(container)


def _event_us(item: dict[str, Any]) -> int | None:
    for name in ("eventTime", "firstTimestamp", "deprecatedFirstTimestamp", "lastTimestamp"):
        moment_us = time_us(item.get(name))
        if moment_us is not None:
            return moment_us
    return None


def revision_facts(item: dict[str, Any]) -> tuple[str, dict[str, int]]:
    """Function and settings (`concurrency`, `min_scale`) of a Knative Service or Revision."""
    meta, spec = _dict(item.get("metadata")), _dict(item.get("spec"))
    template = _dict(spec.get("template"))
    inner = _dict(template.get("spec")) or spec
    annotations = {**_dict(meta.get("annotations")), **_dict(_dict(template.get("metadata")).get("annotations"))}
    name = _dict(meta.get("labels")).get("serving.knative.dev/service") or meta.get("name")
    values = {
        "concurrency": _int(inner.get("containerConcurrency")) or None,
        "min_scale": _int(annotations.get("autoscaling.knative.dev/min-scale")),
    }
    known = {key: value for key, value in values.items() if value is not None}
    return qualified(str(meta.get("namespace") or "default"), str(name)), known


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _int(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def _millicores(value: Any) -> int:
    text = str(value or "0")
    try:
        return round(float(text[:-1])) if text.endswith("m") else round(float(text) * 1000)
    except ValueError:
        return 0


def _memory_mb(value: Any) -> float:
    match = _MEMORY.fullmatch(str(value or "0"))
    return float(match[1]) * _MEMORY_BYTES[match[2] or ""] / 2**20 if match else 0.0
