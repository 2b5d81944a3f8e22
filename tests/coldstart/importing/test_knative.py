"""A small cluster that the test itself runs, written as kubectl and the queue-proxy write, and read back."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nonet.coldstart.importing.knative import flattened
from nonet.coldstart.importing.kubernetes import split_total
from nonet.common.errors import InputError

T0 = datetime(2026, 5, 4, 8, 0, 0, tzinfo=UTC).timestamp()


def second(t: float) -> str:
    """As Kubernetes writes times: cut to the second."""
    return datetime.fromtimestamp(int(t), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def precise(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


class Cluster:
    """One Knative service at a time: requests in, pods out; keep-alive 60 s, concurrency 1, a start takes `stages`."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pods: list[dict[str, Any]] = []
        self.calls: list[dict[str, Any]] = []

    def serve(self, service: str, arrivals: list[float], run: float, pull: float, init: float) -> None:
        pods: list[dict[str, Any]] = []
        for arrive in sorted(arrivals):
            ready = [p for p in pods if p["busy_until"] <= arrive <= p["busy_until"] + 60]
            if ready:
                pod = ready[-1]
                start, cold = arrive, False
            else:
                scheduled = arrive + 0.4 + self.random.random()
                pulled = scheduled + 0.3 + pull
                pod = {
                    "service": service,
                    "name": f"{service}-00001-deployment-{len(self.pods):05d}",
                    "created": arrive,
                }
                pod |= {"ip": f"10.0.{len(self.pods) // 250}.{len(self.pods) % 250}", "scheduled": scheduled}
                pod |= {"pull": pull, "pulled": pulled, "started": pulled + 0.2, "ready": pulled + 0.2 + init}
                pods.append(pod)
                self.pods.append(pod)
                start, cold = pod["ready"], True
            pod["busy_until"] = start + run
            self.calls.append({"pod": pod, "arrive": arrive, "start": start, "end": start + run, "cold": cold})

    def pod_objects(self) -> list[dict[str, Any]]:
        return [self._pod(pod) for pod in self.pods]

    def _pod(self, pod: dict[str, Any]) -> dict[str, Any]:
        conditions = [
            ("PodScheduled", "scheduled"),
            ("Initialized", "scheduled"),
            ("PodReadyToStartContainers", "pulled"),
        ]
        conditions += [("ContainersReady", "ready"), ("Ready", "ready")]
        limits = {"cpu": "500m", "memory": "256Mi"}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod["name"],
                "namespace": "default",
                "uid": f"uid-{pod['name']}",
                "creationTimestamp": second(pod["created"]),
                "labels": {
                    "serving.knative.dev/service": pod["service"],
                    "serving.knative.dev/revision": f"{pod['service']}-00001",
                },
            },
            "spec": {
                "nodeName": "node-1",
                "containers": [
                    {
                        "name": "user-container",
                        "image": f"registry/{pod['service']}:1",
                        "resources": {"limits": limits},
                    },
                    {"name": "queue-proxy", "env": [{"name": "CONTAINER_CONCURRENCY", "value": "1"}]},
                ],
            },
            "status": {
                "phase": "Running",
                "podIP": pod["ip"],
                "conditions": [
                    {"type": kind, "status": "True", "lastTransitionTime": second(pod[key])} for kind, key in conditions
                ],
                "containerStatuses": [
                    {
                        "name": "user-container",
                        "restartCount": 0,
                        "state": {"running": {"startedAt": second(pod["started"])}},
                    }
                ],
            },
        }

    def event_objects(self) -> list[dict[str, Any]]:
        events = []
        for pod in self.pods:
            about = {"kind": "Pod", "namespace": "default", "name": pod["name"], "uid": f"uid-{pod['name']}"}
            user = {**about, "fieldPath": "spec.containers{user-container}"}
            image = f"registry/{pod['service']}:1"
            text = (
                f'Successfully pulled image "{image}" in {pod["pull"]:.1f}s ({pod["pull"]:.1f}s including waiting). '
                "Image size: 780000000 bytes."
            )
            for target, reason, message, when in (
                (about, "Scheduled", "Successfully assigned", pod["scheduled"]),
                (user, "Pulling", f'Pulling image "{image}"', pod["scheduled"] + 0.3),
                (user, "Pulled", text, pod["pulled"]),
                (user, "Started", "Started container user-container", pod["started"]),
            ):
                stamps = {"firstTimestamp": second(when), "lastTimestamp": second(when), "count": 1}
                events.append(
                    {"kind": "Event", "involvedObject": target, "reason": reason, "message": message, **stamps}
                )
        return events

    def log_lines(self, *, named: bool = False) -> list[str]:
        lines = []
        for number, call in enumerate(sorted(self.calls, key=lambda c: c["end"])):
            record = {
                "httpRequest": {
                    "requestMethod": "GET",
                    "requestUrl": "/",
                    "status": 200,
                    "userAgent": "curl/8",
                    "serverIp": call["pod"]["ip"],
                    "latency": f"{call['end'] - call['arrive']:.6f}s",
                },
                "traceId": f"trace-{number}",
            }
            if named:
                record["revisionName"] = f"{call['pod']['service']}-00001"
            lines.append(f"{precise(call['end'])} {json.dumps(record)}")
        return lines


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    made = Cluster(3)
    made.serve("timer", [T0 + 90 * i for i in range(30)], run=0.5, pull=0.2, init=1.5)
    made.serve("burst", [T0 + 600 * i + 0.01 * j for i in range(4) for j in range(5)], run=2.0, pull=3.1, init=0.4)
    made.serve("steady", [T0 + 20 * i for i in range(120)], run=0.2, pull=1.0, init=1.0)
    return made


def as_list(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=4)


def test_requests_joined_with_pods_find_every_cold_start(
    take: Callable[..., Any], cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "pods.json").write_text(as_list(cluster.pod_objects()))
    (tmp_path / "events.json").write_text("\n".join(json.dumps(event) for event in cluster.event_objects()))
    (tmp_path / "access.log").write_text("\r\n".join(cluster.log_lines()))
    taken = take([("knative", [tmp_path / "access.log"]), ("k8s", [tmp_path / "pods.json", tmp_path / "events.json"])])
    cold = {call["pod"]["name"] for call in cluster.calls if call["cold"]}
    assert len(cold) == len(cluster.pods)
    rows = taken.rows("request", "arrive_us", "function", "pod", "cold", "start_us", "end_us")
    assert len(rows) == len(cluster.calls)
    wanted = sorted(cluster.calls, key=lambda c: (round(c["arrive"], 3), c["pod"]["service"]))
    found = sorted(rows, key=lambda r: (round(r[0] / 1e6, 3), r[1]))
    for call, row in zip(wanted, found, strict=True):
        assert row[1:4] == (call["pod"]["service"], call["pod"]["name"], call["cold"])
        assert row[0] == pytest.approx(call["arrive"] * 1e6, abs=5)
        assert row[5] == pytest.approx(call["end"] * 1e6, abs=5)
        assert abs(row[4] - call["start"] * 1e6) < 1_000_001
    starts = taken.rows("coldstart", "pod", "at_us", "total_us", "code_us", "request", "detail")
    assert {row[0] for row in starts} == cold
    assert all(row[4] and row[4].startswith("trace-") for row in starts)
    for pod in cluster.pods:
        row = next(row for row in starts if row[0] == pod["name"])
        detail = json.loads(row[5])
        total_us = (pod["ready"] - pod["created"]) * 1e6
        assert detail["low_us"] - 1 <= total_us <= detail["high_us"] + 1
        assert row[3] == min(round(pod["pull"] * 1e6), row[2])
        assert detail["image_bytes"] == 780_000_000
    assert taken.report.num_left_censored == 0
    assert taken.rows("function", "function", "cpu_millicores", "memory_mb", "concurrency")[0] == ("burst", 500, 256, 1)
    assert taken.report.lines()[0].startswith(f"{len(rows):,} requests, {len(cold)} pods, {len(cold)} cold starts")


def test_components_add_up_to_the_total(take: Callable[..., Any], cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text(as_list([*cluster.event_objects(), *cluster.pod_objects()]))
    taken = take("k8s", tmp_path / "all.json")
    columns = ("total_us", "allocation_us", "code_us", "dependency_us", "scheduling_us")
    rows = taken.rows("coldstart", *columns)
    assert len(rows) == len(cluster.pods)
    assert all(row[0] == sum(row[1:]) and min(row) >= 0 for row in rows)
    assert taken.report.num_requests == 0


PART = st.none() | st.integers(-2_000_000, 20_000_000)


@given(total=st.integers(0, 15_000_000), allocation=PART, code=PART, dependency=PART)
def test_parts_never_exceed_the_total(
    total: int, allocation: int | None, code: int | None, dependency: int | None
) -> None:
    parts = split_total(total, allocation_us=allocation, code_us=code, dependency_us=dependency)
    given_parts = {"allocation_us": allocation, "code_us": code, "dependency_us": dependency}
    assert {name for name in given_parts if parts[name] is None} == {n for n, p in given_parts.items() if p is None}
    if any(part is not None for part in given_parts.values()):
        assert sum(part or 0 for part in parts.values()) == total
        assert min(part or 0 for part in parts.values()) >= 0
    if sum(max(0, part or 0) for part in given_parts.values()) <= total:
        assert all(parts[name] == max(0, part) for name, part in given_parts.items() if part is not None)


def test_without_events_the_pull_is_unknown(take: Callable[..., Any], cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "pods.json").write_text(as_list(cluster.pod_objects()))
    rows = take("k8s", tmp_path / "pods.json").rows("coldstart", "code_us", "allocation_us", "total_us")
    assert {row[0] for row in rows} == {None}
    assert all(0 <= row[1] <= row[2] for row in rows)


def test_pods_that_live_over_midnight_lie_in_the_day_they_were_created(
    take: Callable[..., Any], tmp_path: Path
) -> None:
    made = Cluster(1)
    midnight = T0 - T0 % 86_400 + 86_400
    made.serve("s", [midnight - 2, midnight + 30, midnight + 60], run=0.1, pull=1.5, init=3.0)
    (tmp_path / "pods.json").write_text(as_list(made.pod_objects()))
    (tmp_path / "access.log").write_text("\n".join(made.log_lines()))
    taken = take([("k8s", [tmp_path / "pods.json"]), ("knative", [tmp_path / "access.log"])])
    day = int(midnight // 86_400)
    assert taken.rows("pod", "day", "ready_us")[0][0] == day - 1
    assert taken.rows("pod", "ready_us")[0][0] > midnight * 1e6
    assert taken.rows("request", "day", "cold") == [(day - 1, True), (day, False), (day, False)]


def test_a_log_without_pods_leaves_first_calls_unknown(
    take: Callable[..., Any], cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "access.log").write_text("\n".join(cluster.log_lines(named=True)))
    taken = take("knative", tmp_path / "access.log")
    first = {}
    for call in sorted(cluster.calls, key=lambda c: c["arrive"]):
        first.setdefault(call["pod"]["ip"], call)
    early = [c for c in first.values() if c["arrive"] < T0 + 120]
    rows = taken.rows("request", "cold")
    assert sum(row[0] is None for row in rows) == len(early) == taken.report.num_left_censored
    assert sum(row[0] is True for row in rows) == len(first) - len(early)
    assert taken.report.num_cold_starts == len(first) - len(early)
    unknown = take("knative", tmp_path / "access.log", infer="no").rows("request", "cold")
    assert not any(row[0] for row in unknown)


def test_a_log_that_names_no_pods_is_joined_by_function_and_time(
    take: Callable[..., Any], cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "pods.json").write_text(as_list(cluster.pod_objects()))
    calls = sorted(cluster.calls, key=lambda c: c["end"])
    rows = [{"t": c["arrive"], "took": c["end"] - c["arrive"], "svc": c["pod"]["service"]} for c in calls]
    lines = [
        json.dumps({"time": precise(r["t"] + r["took"]), "service": r["svc"], "httpRequest": {"latency": r["took"]}})
        for r in rows
    ]
    (tmp_path / "access.log").write_text("\n".join(lines))
    taken = take([("k8s", [tmp_path / "pods.json"]), ("knative", [tmp_path / "access.log"])])
    found = taken.rows("request", "arrive_us", "cold", "pod")
    cold_us = sorted(c["arrive"] * 1e6 for c in calls if c["cold"])
    assert [row[0] for row in found if row[1]] == pytest.approx(cold_us, abs=5)
    assert {row[2] for row in found if row[1]} == {pod["name"] for pod in cluster.pods}
    assert not any(row[1] is None for row in found)
    assert taken.report.num_cold_starts == len(cluster.pods)


def test_known_pods_tell_that_times_are_of_the_starts(
    take: Callable[..., Any], cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "pods.json").write_text(as_list(cluster.pod_objects()))
    lines = []
    for call, line in zip(sorted(cluster.calls, key=lambda c: c["end"]), cluster.log_lines(), strict=True):
        lines.append(f"{precise(call['arrive'])} {line.partition(' ')[2]}")
    (tmp_path / "access.log").write_text("\n".join(lines))
    sources = [("k8s", [tmp_path / "pods.json"]), ("knative", [tmp_path / "access.log"])]
    taken = take(sources)
    assert taken.trace.notes["log_time"] == "start"
    assert sum(row[0] is True for row in taken.rows("request", "cold")) == len(cluster.pods)
    assert take(sources, log_time="end").trace.notes["log_time"] == "end"
    (tmp_path / "access.log").write_text("\n".join(cluster.log_lines()))
    assert take(sources).trace.notes["log_time"] == "end"


def test_pods_from_before_the_log_are_censored(take: Callable[..., Any], cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "pods.json").write_text(as_list(cluster.pod_objects()))
    late = [c for c in cluster.calls if c["arrive"] > T0 + 700]
    part = Cluster(0)
    part.calls = late
    (tmp_path / "access.log").write_text("\n".join(part.log_lines()))
    taken = take([("k8s", [tmp_path / "pods.json"]), ("knative", [tmp_path / "access.log"])])
    started_in_window = {c["pod"]["name"] for c in late if c["cold"]}
    assert {row[0] for row in taken.rows("coldstart", "pod")} == started_in_window
    assert taken.report.num_left_censored == len(cluster.pods) - len(started_in_window)
    assert sum(row[0] is True for row in taken.rows("request", "cold")) == len(started_in_window)


@pytest.mark.parametrize(
    "line",
    [
        '2026-05-04T08:00:00.5Z {"httpRequest":{"latency":"0.25s","serverIp":"10.1.1.1"},"serviceName":"f"}',
        '2026-05-04T08:00:00.5Z stdout F {"httpRequest":{"latency":"0.25s"},"revisionName":"f-00003","podName":"p"}',
        '[pod/f-00003-deployment-abc/queue-proxy] 2026-05-04T08:00:00.5Z {"httpRequest":{"latency":"0.25s"}}',
        '{"time":"2026-05-04T10:00:00.5+02:00","log":"{\\"httpRequest\\":{\\"latency\\":\\"0.25s\\"}}\\n",'
        '"kubernetes":{"pod_name":"p","labels":{"serving.knative.dev/service":"f"}}}',
        '{"timestamp":"2026-05-04T08:00:00.5Z","httpRequest":{"latency":"0.25s"},'
        '"resource":{"labels":{"service_name":"f","revision_name":"f-00003"}}}',
        '{"ts":1777881600.5,"httpRequest":{"latency":0.25},"labels":{"serving.knative.dev/configuration":"f"}}',
    ],
)
def test_lines_of_many_collectors_say_the_same(take: Callable[..., Any], tmp_path: Path, line: str) -> None:
    (tmp_path / "access.log").write_text(line + "\n")
    taken = take("knative", tmp_path / "access.log")
    end_us = int(T0 * 1e6) + 500_000
    assert taken.rows("request", "function", "arrive_us", "end_us") == [("f", end_us - 250_000, end_us)]


def test_bad_lines_are_quarantined_with_their_reasons(take: Callable[..., Any], tmp_path: Path) -> None:
    good = '{"time":"2026-05-04T08:00:00Z","serviceName":"f","traceId":"a","httpRequest":{"latency":"0s"}}'
    lines = [
        good,
        "",
        "starting queue-proxy",
        good.replace('"a"', '"b"').replace("0s", "-1s"),
        good.replace("2026-05-04T08:00:00Z", "yesterday"),
        good.replace('"latency":"0s"', '"status":200'),
        good.replace('"serviceName":"f",', ""),
        good[:40],
        good,
        good.replace("08:00:00", "07:00:00").replace('"a"', '"c"'),
        good.replace("08:00:00", "09:00:00"),
        good.replace('"latency"', '"userAgent":"kube-probe/1.33","latency"'),
    ]
    (tmp_path / "access.log").write_text("\n".join(lines))
    taken = take("knative", tmp_path / "access.log")
    assert [line for line, _ in taken.quarantine()] == ["3", "4", "5", "6", "7", "8", "9"]
    reasons = [reason for _, reason in taken.quarantine()]
    assert reasons[0] == "no JSON object in the line"
    assert reasons[1] == "negative latency"
    assert reasons[2].startswith("no time")
    assert reasons[3] == "no latency"
    assert reasons[4].startswith("neither service")
    assert reasons[5] == "not JSON"
    assert reasons[6] == "the same request a second time"
    assert taken.report.warnings == {
        "time running backwards by more than 60 s": 1,
        "request id used more than once": 1,
        "probe of the platform, left out": 1,
    }
    assert taken.report.num_requests == 3


def test_pod_names_and_addresses_used_again_are_told_apart(take: Callable[..., Any], tmp_path: Path) -> None:
    made = Cluster(1)
    made.serve("s", [T0, T0 + 1000], run=0.1, pull=0.5, init=0.5)
    for pod in made.pods:
        pod["name"], pod["ip"] = "web-0", "10.0.0.9"
    objects = made.pod_objects()
    for number, item in enumerate(objects):
        item["metadata"]["uid"] = f"uid-{number}"
    objects[0]["metadata"]["deletionTimestamp"] = second(T0 + 100)
    (tmp_path / "pods.json").write_text(as_list(objects))
    (tmp_path / "access.log").write_text("\n".join(made.log_lines()))
    taken = take([("k8s", [tmp_path / "pods.json"]), ("knative", [tmp_path / "access.log"])])
    assert [row[1] for row in taken.rows("request", "arrive_us", "cold")] == [True, True]
    assert taken.report.num_cold_starts == 2
    assert taken.report.warnings["pod name used again by a later pod"] == 1


def test_snapshots_of_a_watch_and_restarts(take: Callable[..., Any], tmp_path: Path) -> None:
    made = Cluster(1)
    made.serve("s", [T0, T0 + 1000], run=0.1, pull=0.5, init=0.5)
    first, other = made.pod_objects()
    later = json.loads(json.dumps(first))
    for condition in later["status"]["conditions"]:
        condition["lastTransitionTime"] = second(T0 + 500)
    later["status"]["containerStatuses"][0] |= {
        "restartCount": 1,
        "state": {"running": {"startedAt": second(T0 + 499)}},
    }
    lines = [json.dumps({"type": "ADDED", "object": first}), json.dumps({"type": "MODIFIED", "object": later})]
    (tmp_path / "watch.json").write_text("\n".join([*lines, json.dumps(other)]))
    taken = take("k8s", tmp_path / "watch.json")
    ready = [int(pod["ready"]) * 10**6 for pod in made.pods]
    assert [row[1] for row in taken.rows("pod", "create_us", "ready_us")] == ready
    # Of the restarted pod alone, the first start is not known.
    (tmp_path / "last.json").write_text(json.dumps(later) + json.dumps(other))
    alone = take("k8s", tmp_path / "last.json")
    assert [row[1] for row in alone.rows("pod", "create_us", "ready_us")] == [None, ready[1]]
    assert alone.report.num_cold_starts == 1


def test_node_scale_up_cached_images_and_other_namespaces(take: Callable[..., Any], tmp_path: Path) -> None:
    made = Cluster(1)
    made.serve("s", [T0], run=0.1, pull=0.5, init=0.5)
    pod = made.pod_objects()[0]
    pod["metadata"]["namespace"] = "team"
    del pod["metadata"]["labels"]["serving.knative.dev/service"]
    pod["metadata"]["labels"]["app"] = "api"
    about = {"kind": "Pod", "namespace": "team", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    events = [
        {"reason": "FailedScheduling", "message": "0/3 nodes are available", "count": 4},
        {"reason": "TriggeredScaleUp", "message": "pod triggered scale-up"},
        {"reason": "Pulled", "note": 'Container image "x:1" already present on machine'},
    ]
    items = [{"kind": "Event", "apiVersion": "events.k8s.io/v1", "regarding": about, **event} for event in events]
    (tmp_path / "all.json").write_text(json.dumps([pod, *items, {"kind": "Node"}]))
    taken = take("k8s", tmp_path / "all.json")
    (function, detail), *_ = taken.rows("coldstart", "function", "detail")
    assert function == "team/api"
    facts = json.loads(detail)
    assert (facts["node_scale_up"], facts["num_failed_scheduling"], facts["image_cached"]) == (True, 4, True)
    assert taken.quarantine() == [("1", "neither a Pod nor an Event")]


def test_formats_of_different_times_do_not_mix(take: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n")
    with pytest.raises(InputError, match="cannot go into one trace"):
        take([("k8s", [tmp_path / "a.csv"]), ("azure2021", [tmp_path / "a.csv"])])


def test_flattened_refuses_what_is_no_object() -> None:
    assert flattened("hello") == "no JSON object in the line"
    assert flattened('{"a": ') == "not JSON"
    assert flattened("{" * 100_000) == "not JSON"


def test_init_containers_and_failed_pulls_are_parts_of_a_start(take: Callable[..., Any], tmp_path: Path) -> None:
    """An init container fetches for 9 s; then a pull fails, backs off, and is done 20 s after its first attempt."""

    def at(second: int) -> str:
        return f"2026-05-01T00:00:{second:02d}Z"

    moments = {"PodScheduled": 0, "Initialized": 10, "Ready": 32, "ContainersReady": 32}
    fetched = {"terminated": {"startedAt": at(1), "finishedAt": at(10)}}
    pod = {
        "kind": "Pod",
        "metadata": {"name": "a", "uid": "u", "creationTimestamp": at(0), "labels": {"app": "f"}},
        "spec": {"containers": [{"name": "app", "image": "r/a"}]},
        "status": {
            "conditions": [{"type": k, "status": "True", "lastTransitionTime": at(t)} for k, t in moments.items()],
            "initContainerStatuses": [{"name": "fetch", "state": fetched}, {"name": "mesh", "state": {"running": {}}}],
            "containerStatuses": [{"name": "app", "restartCount": 0, "state": {"running": {"startedAt": at(31)}}}],
        },
    }
    told = [
        ("Pulling", 'Pulling image "r/a"', 10, 2),
        ("Failed", 'Failed to pull image "r/a": toomanyrequests', 11, 2),
        ("Failed", "Error: ErrImagePull", 11, 2),
        ("BackOff", 'Back-off pulling image "r/a"', 12, 3),
        ("Pulled", 'Successfully pulled image "r/a" in 2.5s (2.5s including waiting)', 30, 1),
    ]
    about = {"kind": "Pod", "namespace": "default", "name": "a", "uid": "u", "fieldPath": "spec.containers{app}"}
    events = [
        {"kind": "Event", "involvedObject": about, "reason": why, "message": text, "firstTimestamp": at(t), "count": n}
        for why, text, t, n in told
    ]
    (tmp_path / "all.json").write_text(json.dumps({"kind": "List", "items": [pod, *events]}))
    taken = take("k8s", tmp_path / "all.json")
    ((code_us, dependency_us, scheduling_us, detail),) = taken.rows(
        "coldstart", "code_us", "dependency_us", "scheduling_us", "detail"
    )
    assert (code_us, dependency_us, scheduling_us) == (20_000_000, 10_000_000, 2_000_000)
    assert json.loads(detail)["num_failed_pulls"] == 2
    assert json.loads(detail)["init_containers_us"] == 9_000_000
