"""A small serverless cluster with planted causes of cold starts, and the logs that it would have written.

Written from the formats of kubectl, of the queue-proxy and of CloudWatch; it shares no code with nonet.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

T0 = datetime(2026, 5, 4, 8, 0, 0, tzinfo=UTC).timestamp()
KEEP_ALIVE_S = 60.0


@dataclass
class Pod:
    name: str
    service: str
    revision: int
    label: str
    created: float
    scheduled: float
    pull: float
    started: float
    ready: float
    busy: list[float] = field(default_factory=list)
    last_end: float = 0.0
    end: float | None = None
    nodes_failed: bool = False
    cached: bool = True


@dataclass
class Service:
    """How a function is called and how long its pods take to start; times in seconds."""

    name: str
    label: str
    arrivals: list[float]
    run: float
    cpu: str = "500m"
    pull: float = 0.0
    init: float = 0.8
    allocation: float = 0.2
    new_node: bool = False
    concurrency: int = 1
    deploys: list[float] = field(default_factory=list)
    replaces_ahead: bool = True


class Cluster:
    """Keep-alive 60 s from the end of the last request; the pod used last serves first; else a new pod is started,
    unless one that starts has room. At a deploy, every live pod is replaced by one of the next revision, ahead of any
    request, or when requests ask for them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pods: list[Pod] = []
        self.calls: list[dict[str, Any]] = []
        self.settings: dict[str, Service] = {}

    def start(self, service: Service, at: float, label: str, revision: int) -> Pod:
        r = self.random
        scheduled = at + service.allocation * r.uniform(0.8, 1.2)
        pull = service.pull * r.uniform(0.8, 1.2)
        started = scheduled + 0.2 + pull + 0.1
        ready = started + service.init * r.uniform(0.9, 1.1)
        name = f"{service.name}-{revision:05d}-deployment-{len(self.pods):06d}"
        pod = Pod(name, service.name, revision, label, at, scheduled, pull, started, ready)
        pod.nodes_failed, pod.cached = service.new_node, service.pull == 0
        self.pods.append(pod)
        return pod

    def serve(self, service: Service) -> None:
        self.settings[service.name] = service
        revision, deploys, live, to_replace = 1, sorted(service.deploys), [], 0
        for arrive in sorted(service.arrivals):
            while deploys and deploys[0] <= arrive:
                at, revision = deploys.pop(0), revision + 1
                old = [p for p in live if p.last_end + KEEP_ALIVE_S >= at]
                to_replace = 0 if service.replaces_ahead else len(old)
                ahead = range(len(old) - to_replace)
                live = [self.start(service, at + 0.3 * k, "roll-out", revision) for k in ahead]
                for pod in live:
                    pod.last_end = pod.ready
                for pod in old:
                    pod.end = max(pod.last_end, at + 3)
            known = len(self.pods)
            live = self.call(service, arrive, live, revision)
            if to_replace and len(self.pods) > known:
                self.pods[-1].label, to_replace = "roll-out", to_replace - 1

    def call(self, service: Service, arrive: float, live: list[Pod], revision: int) -> list[Pod]:
        for pod in live:
            pod.busy = [end for end in pod.busy if end > arrive]
        kept = [p for p in live if p.busy or arrive - p.last_end <= KEEP_ALIVE_S]
        free = [p for p in kept if len(p.busy) < service.concurrency]
        ready = [p for p in free if p.ready <= arrive]
        starting = [p for p in free if p.ready > arrive]
        if ready:
            pod, cold = max(ready, key=lambda p: p.last_end), False
        elif starting:
            pod, cold = starting[0], False
        else:
            pod, cold = self.start(service, arrive, service.label, revision), True
            kept.append(pod)
        begin = max(arrive, pod.ready)
        end = begin + service.run * self.random.uniform(0.9, 1.1)
        pod.busy.append(end)
        pod.last_end = max(pod.last_end, end)
        self.calls.append({"pod": pod, "arrive": arrive, "end": end, "cold": cold, "begin": begin})
        return kept

    def finish(self, horizon: float) -> None:
        for pod in self.pods:
            if pod.end is None and pod.last_end + KEEP_ALIVE_S < horizon:
                pod.end = pod.last_end + KEEP_ALIVE_S

    # What kubectl and the queue-proxy write.

    def write_kubernetes(self, folder: Path) -> list[Path]:
        pods = {"kind": "List", "items": [self._pod(pod) for pod in self.pods]}
        events = {"kind": "List", "items": [event for pod in self.pods for event in self._events(pod)]}
        (folder / "pods.json").write_text(json.dumps(pods))
        (folder / "events.json").write_text(json.dumps(events))
        return [folder / "pods.json", folder / "events.json"]

    def write_knative(self, folder: Path, *, since: str = "arrive", names_pods: bool = True) -> Path:
        """The request log; `since="begin"`: as the queue-proxy sees it, without the wait for the pod."""
        lines = []
        for k, call in enumerate(sorted(self.calls, key=lambda c: c["end"])):
            pod = call["pod"]
            record = {
                "httpRequest": {
                    "requestMethod": "GET",
                    "requestUrl": f"http://{pod.service}.default.example.com/",
                    "status": 200,
                    "latency": f"{call['end'] - call[since]:.9f}s",
                    "protocol": "HTTP/1.1",
                },
                "traceId": f"trace-{k}",
                "revisionName": f"{pod.service}-{pod.revision:05d}",
                **({"podName": pod.name} if names_pods else {}),
            }
            lines.append(f"{precise(call['end'])} {json.dumps(record)}")
        path = folder / "access.log"
        path.write_text("\n".join(lines) + "\n")
        return path

    def _pod(self, pod: Pod) -> dict[str, Any]:
        service = self.settings[pod.service]
        moments = {
            "PodScheduled": pod.scheduled,
            "PodReadyToStartContainers": pod.scheduled + 0.2,
            "ContainersReady": pod.ready,
            "Ready": pod.ready,
        }
        conditions = [{"type": kind, "status": "True", "lastTransitionTime": second(t)} for kind, t in moments.items()]
        meta = {
            "name": pod.name,
            "namespace": "default",
            "uid": f"uid-{pod.name}",
            "creationTimestamp": second(pod.created),
            "labels": {
                "serving.knative.dev/service": pod.service,
                "serving.knative.dev/revision": f"{pod.service}-{pod.revision:05d}",
            },
        }
        if pod.end is not None:
            meta["deletionTimestamp"] = second(pod.end)
        user = {
            "name": "user-container",
            "image": f"registry/{pod.service}@sha256:{pod.revision}",
            "resources": {"limits": {"cpu": service.cpu, "memory": "256Mi"}},
        }
        proxy = {"name": "queue-proxy", "env": [{"name": "CONTAINER_CONCURRENCY", "value": str(service.concurrency)}]}
        status = [
            {"name": "user-container", "restartCount": 0, "state": {"running": {"startedAt": second(pod.started)}}}
        ]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {"nodeName": "node-1", "containers": [user, proxy]},
            "status": {"phase": "Running", "conditions": conditions, "containerStatuses": status},
        }

    def _events(self, pod: Pod) -> list[dict[str, Any]]:
        about = {"kind": "Pod", "namespace": "default", "name": pod.name, "uid": f"uid-{pod.name}"}
        user = {**about, "fieldPath": "spec.containers{user-container}"}
        image = f"registry/{pod.service}@sha256:{pod.revision}"
        took = f"{pod.pull:.3f}s"
        pulled = (
            f'Container image "{image}" already present on machine'
            if pod.cached
            else f'Successfully pulled image "{image}" in {took} ({took} including waiting). '
            "Image size: 817889280 bytes."
        )
        told: list[tuple[str, str, float, dict[str, Any]]] = []
        if pod.nodes_failed:
            told.append(("FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu.", pod.created + 1, about))
            told.append(("TriggeredScaleUp", "pod triggered scale-up: [{pool 3->4 (max: 9)}]", pod.created + 2, about))
        told.append(("Scheduled", f"Successfully assigned default/{pod.name} to node-1", pod.scheduled, about))
        told.append(("Pulled", pulled, pod.started - 0.1, user))
        told.append(("Started", "Started container user-container", pod.started, user))
        return [
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{pod.name}.{k}", "namespace": "default"},
                "involvedObject": target,
                "reason": reason,
                "message": text,
                "firstTimestamp": second(t),
                "lastTimestamp": second(t),
                "count": 1,
            }
            for k, (reason, text, t, target) in enumerate(told)
        ]


def write_lambda(cluster: Cluster, folder: Path, memory_mb: dict[str, int]) -> Path:
    """CloudWatch events of every environment; the start of a pod is what Lambda calls Init Duration."""
    events = []
    for k, call in enumerate(cluster.calls):
        pod, request = call["pod"], f"{k:08x}-0000-4000-8000-000000000000"
        size = memory_mb.get(pod.service, 1024)
        number = pod.name.rsplit("-", 1)[1]
        stream = f"2026/05/04/{pod.service}[{pod.revision}]{int(number):032x}"
        init = f"\tInit Duration: {(pod.ready - pod.created) * 1000:.2f} ms" if call["cold"] else ""
        duration = (call["end"] - call["begin"]) * 1000
        lines = [
            (call["begin"], f"START RequestId: {request} Version: {pod.revision}\n"),
            (call["end"], f"END RequestId: {request}\n"),
            (
                call["end"],
                f"REPORT RequestId: {request}\tDuration: {duration:.2f} ms\tBilled Duration: {int(duration) + 1} ms\t"
                f"Memory Size: {size} MB\tMax Memory Used: 90 MB{init}\t\n",
            ),
        ]
        for t, text in lines:
            events.append({"timestamp": round((T0 + t) * 1000), "message": text, "logStreamName": stream})
    events.sort(key=lambda event: event["timestamp"])
    path = folder / "lambda.json"
    path.write_text(json.dumps({"events": events}))
    return path


def second(t: float) -> str:
    return datetime.fromtimestamp(int(T0 + t), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def precise(t: float) -> str:
    return datetime.fromtimestamp(T0 + t, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def at_random(seed: Any, mean_s: float, horizon_s: float, first_s: float = 150.0) -> list[float]:
    source, t, times = random.Random(str(seed)), first_s, []
    while t < horizon_s:
        times.append(t)
        t += source.expovariate(1 / mean_s)
    return times


def ticking(seed: Any, period_s: float, horizon_s: float, first_s: float, jitter_s: float = 0.2) -> list[float]:
    source = random.Random(str(seed))
    num = int((horizon_s - first_s) // period_s)
    return [first_s + k * period_s + source.uniform(0, jitter_s) for k in range(num)]


def bursts(seed: Any, mean_s: float, horizon_s: float, size: int, first_s: float = 200.0) -> list[float]:
    source = random.Random(str(seed))
    return [t + source.uniform(0, 0.4) for t in at_random(seed, mean_s, horizon_s, first_s) for _ in range(size)]
