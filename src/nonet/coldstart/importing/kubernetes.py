"""Kubernetes pods and events (`kubectl get pods,events -o json`), in any mixture of files, Lists and lines.

A start runs from `creationTimestamp` to the transition of the condition Ready. Its components, from the conditions and
the texts of the events: allocation (until a node is found), code (image pulls, failed ones and back-off included),
dependency (init containers, and from container start to ready: runtime, initialisation, probes), scheduling (what is
left: sandbox, network, queues). They add up to the total.
Time stamps have one second, so each start carries bounds (`low_us`, `high_us` in `detail`). Conditions keep the last
transition only: of several snapshots of a pod the earliest counts, and a pod that restarted is not trusted.
"""

from __future__ import annotations

import json
from typing import Any

from nonet.coldstart.importing.base import Intake
from nonet.coldstart.importing.kubernetes_objects import (
    PodFacts,
    event_target,
    read_event,
    read_pod,
    revision_facts,
    unwrapped,
)
from nonet.coldstart.importing.pod_join import KnownPods

RESOLUTION_US = 1_000_000


def run(intake: Intake) -> None:
    """Read all files, then give pods and functions; cold starts follow when the requests, if any, are known."""
    pods: dict[str, PodFacts] = {}
    events: dict[str, dict[str, Any]] = {}
    settings: dict[str, dict[str, int]] = {}
    for file in intake.each():
        reject = intake.refuse(file)
        for line, value in intake.values(file, ("items",)):
            item = unwrapped(value)
            kind = item.get("kind")
            if kind == "Pod":
                pod = read_pod(item)
                if isinstance(pod, str):
                    reject(line, pod, json.dumps(item)[:300])
                else:
                    pods[pod.uid] = pods[pod.uid].merged(pod) if pod.uid in pods else pod
            elif kind == "Event":
                target = event_target(item)
                if target:
                    read_event(item, events.setdefault(target, {}))
            elif kind in ("Revision", "Service") and "serving.knative.dev" in str(item.get("apiVersion")):
                name, facts = revision_facts(item)
                settings.setdefault(name, {}).update(facts)
            else:
                reject(line, "neither a Pod nor an Event", json.dumps(item)[:300])
    for pod in pods.values():
        pod.apply_events(events.get(pod.uid) or events.get(f"{pod.namespace}/{pod.name}") or {})
    _give_pods(intake, list(pods.values()), settings)
    known = KnownPods(pods.values())
    intake.shared["pods"] = known
    intake.shared.setdefault("finish", []).append(lambda: _give_starts(intake, known))


def _give_pods(intake: Intake, pods: list[PodFacts], settings: dict[str, dict[str, int]]) -> None:
    functions: dict[str, PodFacts] = {}
    names: set[str] = set()
    for pod in sorted(pods, key=lambda p: (p.created_us, p.uid)):
        intake.warn("pod name used again by a later pod", int(pod.full_name in names))
        names.add(pod.full_name)
        functions[pod.function] = pod
        intake.add(
            "pod",
            pod=pod.full_name,
            function=pod.function,
            create_us=pod.created_us,
            ready_us=pod.ready_us if pod.is_trusted else None,
            end_us=pod.end_us,
            cpu_millicores=pod.cpu_millicores,
            memory_mb=pod.memory_mb,
            node=pod.node,
        )
    for name, pod in sorted(functions.items()):
        extra = settings.get(name, {})
        intake.add(
            "function",
            function=name,
            user=pod.namespace,
            trigger="http" if pod.revision else None,
            cpu_millicores=pod.cpu_millicores,
            memory_mb=pod.memory_mb,
            concurrency=extra.get("concurrency", pod.concurrency),
            min_scale=extra.get("min_scale", pod.min_scale),
        )


def _give_starts(intake: Intake, known: KnownPods) -> None:
    """The cold starts; of pods that were there before the first request, none."""
    for pod in known.pods:
        if pod.ready_us is None:
            intake.warn("pod that never became ready, as far as the dump shows")
            continue
        if not pod.is_trusted:
            intake.warn("pod that restarted, so that its first start is unknown")
            continue
        start = known.trigger_of(pod)
        if start is None and known.is_before_window(pod, RESOLUTION_US):
            intake.censor()
            continue
        intake.add("coldstart", **_start_row(pod), request=start or None)
    intake.flush()


def _start_row(pod: PodFacts) -> dict[str, Any]:
    ready_us = pod.ready_us or pod.created_us
    total_us = ready_us - pod.created_us
    parts = split_total(
        total_us,
        allocation_us=None if pod.scheduled_us is None else pod.scheduled_us - pod.created_us,
        code_us=pod.pull_us,
        dependency_us=_dependency_us(pod, ready_us),
    )
    detail = {
        "low_us": max(0, total_us - RESOLUTION_US),
        "high_us": total_us + RESOLUTION_US,
        "pull_us": pod.pull_us,
        "image": pod.image,
        "image_bytes": pod.image_bytes,
        "image_cached": pod.image_cached,
        "node_scale_up": pod.node_scale_up or None,
        "num_failed_scheduling": pod.num_failed_scheduling or None,
        "num_unhealthy": pod.num_unhealthy or None,
        "init_us": None if pod.started_us is None else max(0, ready_us - pod.started_us),
        "init_containers_us": pod.init_containers_us,
        "num_failed_pulls": pod.num_failed_pulls or None,
        "sandbox_us": _between(pod.scheduled_us, pod.sandbox_us),
        "revision": pod.revision,
        "node": pod.node,
        "kind": "on-demand",
    }
    return {
        "at_us": pod.created_us,
        "function": pod.function,
        "pod": pod.full_name,
        "total_us": total_us,
        **parts,
        "detail": json.dumps({key: value for key, value in detail.items() if value is not None}),
    }


def _dependency_us(pod: PodFacts, ready_us: int) -> int | None:
    known = (None if pod.started_us is None else ready_us - pod.started_us, pod.init_containers_us)
    return None if known == (None, None) else sum(max(0, part or 0) for part in known)


def _between(start_us: int | None, end_us: int | None) -> int | None:
    return None if start_us is None or end_us is None else max(0, end_us - start_us)


def split_total(
    total_us: int, *, allocation_us: int | None, code_us: int | None, dependency_us: int | None
) -> dict[str, int | None]:
    """Components that add up to the total, out of parts that are known to a second only (the pull: exactly).

    What is left over is scheduling; where the parts exceed the total, dependency and then allocation give way. A part
    that is not known is null (its time is then within scheduling), and all are when no part is known.

    >>> split_total(5_000_000, allocation_us=1_000_000, code_us=2_100_000, dependency_us=3_000_000)["dependency_us"]
    1900000
    """
    if allocation_us is None and code_us is None and dependency_us is None:
        return dict.fromkeys(("allocation_us", "code_us", "dependency_us", "scheduling_us"))
    code = min(max(0, code_us or 0), total_us)
    dependency = min(max(0, dependency_us or 0), total_us - code)
    allocation = max(0, allocation_us or 0)
    excess = max(0, allocation + code + dependency - total_us)
    cut = min(excess, dependency)
    dependency, allocation = dependency - cut, allocation - (excess - cut)
    return {
        "allocation_us": None if allocation_us is None else allocation,
        "code_us": None if code_us is None else code,
        "dependency_us": None if dependency_us is None else dependency,
        "scheduling_us": total_us - allocation - code - dependency,
    }
