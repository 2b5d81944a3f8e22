"""Logs of a gateway that names no pods, and the pods of the cluster behind it, by a small simulation in plain Python.

A pod serves one request at a time and stays for a minute. A request that finds no idle pod asks for one; the autoscaler
makes it at once, or at its next tick. A request waits for its own pod, or takes the first that is free.
"""

from __future__ import annotations

import heapq
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

T0 = datetime(2026, 5, 4, 8, 0, 0, tzinfo=UTC).timestamp()
KEEP_ALIVE_S = 60.0


@dataclass
class Gateway:
    """What happened: pods as (service, name, created, ready), calls as (service, arrive, begin, end, name of the pod
    whose first request it was and for which it waited, else "")."""

    seed: int
    pods: list[tuple[str, str, float, float]] = field(default_factory=list)
    calls: list[tuple[str, float, float, float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def pod(self, service: str, created: float, start: float) -> tuple[str, str, float, float]:
        made = (service, f"{service}-{len(self.pods):05d}", created, created + start * self.random.uniform(0.9, 1.2))
        self.pods.append(made)
        return made

    def bound(self, service: str, arrivals: list[float], runs: list[float], start: float) -> None:
        """Each request waits for the pod that was made for it."""
        free: list[float] = []
        for arrive, run in zip(arrivals, runs, strict=True):
            idle = [t for t in free if t <= arrive <= t + KEEP_ALIVE_S]
            name, begin = "", arrive
            if idle:
                free.remove(max(idle))
            else:
                _, name, _, begin = self.pod(service, arrive + self.random.uniform(0.01, 0.2), start)
            free = [t for t in free if t + KEEP_ALIVE_S >= arrive] + [begin + run]
            self.calls.append((service, arrive, begin, begin + run, name))

    def shared(self, service: str, arrivals: list[float], runs: list[float], start: float, tick: float = 2.0) -> None:
        """Requests wait in one queue for the first pod that is free; pods are made at ticks, as many as lack."""
        events = [(arrive, 1, k, "") for k, arrive in enumerate(arrivals)]
        events += [(k * tick, 2, 0, "") for k in range(int(arrivals[-1] / tick) + 30)]
        heapq.heapify(events)
        queue: list[int] = []
        idle: dict[str, float] = {}
        fresh: dict[str, float] = {}
        starting = 0
        while events:
            now, kind, k, name = heapq.heappop(events)
            if kind == 0:
                starting -= name in fresh and name not in idle
                idle[name] = now
            elif kind == 1:
                queue.append(k)
            else:
                for _ in range(max(0, len(queue) - starting)):
                    _, made, _, ready = self.pod(service, now + 0.05, start)
                    fresh[made] = ready
                    heapq.heappush(events, (ready, 0, 0, made))
                    starting += 1
            idle = {n: t for n, t in idle.items() if t + KEEP_ALIVE_S >= now}
            while queue and idle:
                k, name = queue.pop(0), max(idle, key=lambda n: idle[n])
                del idle[name]
                waited = fresh.pop(name, None) == now
                self.calls.append((service, arrivals[k], now, now + runs[k], name if waited else ""))
                heapq.heappush(events, (now + runs[k], 0, 0, name))

    def write(self, folder: Path) -> list[tuple[str, list[Path]]]:
        """The log and the pods, as sources to ingest."""
        lines = [
            json.dumps({"time": precise(end), "service": service, "httpRequest": {"latency": f"{end - arrive:.6f}s"}})
            for service, arrive, _, end, _ in sorted(self.calls, key=lambda call: call[3])
        ]
        (folder / "access.log").write_text("\n".join(lines))
        items = [
            {
                "kind": "Pod",
                "metadata": {"name": name, "uid": name, "creationTimestamp": second(at), "labels": {"app": service}},
                "spec": {"containers": [{"name": "app"}]},
                "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": second(ready)}]},
            }
            for service, name, at, ready in self.pods
        ]
        (folder / "pods.json").write_text(json.dumps({"kind": "List", "items": items}))
        return [("k8s", [folder / "pods.json"]), ("knative", [folder / "access.log"])]


def second(t: float) -> str:
    """As Kubernetes writes times: cut to the second."""
    return datetime.fromtimestamp(int(T0 + t), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def precise(t: float) -> str:
    return datetime.fromtimestamp(T0 + t, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def waves(seed: int, mean_s: float, horizon_s: float) -> list[float]:
    """Random arrivals whose rate swings between nothing and twice the mean within twenty minutes."""
    source, t, times = random.Random(seed), 10.0, []
    while t < horizon_s:
        t += source.expovariate(2 / mean_s)
        if source.random() < abs((t % 1200) / 600 - 1):
            times.append(t)
    return times
