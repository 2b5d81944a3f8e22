"""Planted causes are found, and nothing is claimed where nothing was planted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from nonet.coldstart.advising.causes import TITLES
from nonet.coldstart.advising.check import check
from nonet.coldstart.advising.choices import KINDS
from nonet.coldstart.advising.explain import explain, main_causes
from nonet.coldstart.advising.explain_view import print_explanation
from nonet.coldstart.advising.recommend import recommend
from nonet.coldstart.advising.remedies import DEFAULT, REMEDIES
from nonet.coldstart.importing.base import ingest
from nonet.coldstart.trace.store import Trace
from nonet.common.errors import InputError
from nonet.common.jsonable import dumps
from tests.coldstart.advising.planted import Cluster, Service, at_random
from tests.coldstart.advising.scenarios import HOUR_S, knative_services, knative_trace, planted_cluster


def hits(found: list[tuple[str, str]], required: float = 0.9) -> None:
    """Of (planted, found): the share of equal ones, of all and of each planted cause, reaches `required`."""
    assert sum(a == b for a, b in found) >= required * len(found)
    planted = Counter(a for a, _ in found)
    right = Counter(a for a, b in found if a == b)
    assert {cause: right[cause] / num for cause, num in planted.items() if right[cause] < required * num} == {}


def test_planted_causes_in_knative_and_kubernetes_logs(knative: tuple[Cluster, Trace]) -> None:
    cluster, trace = knative
    planted = {pod.name: pod.label for pod in cluster.pods}
    rows = main_causes(trace, "default").select("pod", "cause").rows()
    assert len(rows) == len(planted)
    assert set(planted.values()) == {
        "timer", "burst", "image-pull", "cpu-starved-init", "node-scale-up", "roll-out", "scale-from-zero",
    }  # fmt: skip
    hits([(planted[pod], cause) for pod, cause in rows])


def test_planted_causes_in_lambda_logs(on_lambda: tuple[Cluster, Trace]) -> None:
    cluster, trace = on_lambda
    planted = {int(pod.name.rsplit("-", 1)[1]): pod.label for pod in cluster.pods}
    rows = main_causes(trace, "default").select("pod", "cause").rows()
    assert len(rows) == len(planted)
    hits([(planted[int(pod.rsplit("]", 1)[1], 16)], cause) for pod, cause in rows])


def test_kubernetes_alone(tmp_path: Path) -> None:
    """Without a request log: what the pods and events themselves tell."""
    services = [s for s in knative_services(4, 6 * HOUR_S) if s.name not in ("shared", "rare")]
    cluster = planted_cluster(4, 6 * HOUR_S, services)
    trace = Trace.open(ingest([("k8s", cluster.write_kubernetes(tmp_path))], tmp_path / "t").path)
    planted = {pod.name: pod.label for pod in cluster.pods if pod.service != "api"}
    rows = main_causes(trace, "default", keep_alive_us=60_000_000).select("pod", "cause").rows()
    hits([(planted[pod], cause) for pod, cause in rows if pod in planted])


def test_knative_request_log_alone(tmp_path: Path) -> None:
    """Starts that only requests tell of: no durations, but timers and bursts all the same."""
    services = [s for s in knative_services(5, 6 * HOUR_S) if s.label in ("timer", "burst") and s.name != "api"]
    cluster = planted_cluster(5, 6 * HOUR_S, services)
    trace = Trace.open(ingest([("knative", [cluster.write_knative(tmp_path)])], tmp_path / "t").path)
    explanation = explain(trace)
    assert explanation.num_left_censored > 0
    assert explanation.num_cold + explanation.num_left_censored == len(cluster.pods)
    planted = {pod.name: pod.label for pod in cluster.pods}
    rows = main_causes(trace, "default").select("pod", "cause").rows()
    hits([(planted[pod], cause) for pod, cause in rows])
    assert all(cause.p50_s is None and cause.example.total_s is None for cause in explanation.causes)


def test_a_log_that_sees_requests_only_when_the_pod_is_ready(tmp_path: Path) -> None:
    """The queue-proxy's latency leaves the wait for its own pod out, which users feel all the same."""
    services = [s for s in knative_services(6, 6 * HOUR_S) if s.label != "burst"]
    cluster = planted_cluster(6, 6 * HOUR_S, services)
    sources = [
        ("k8s", cluster.write_kubernetes(tmp_path)),
        ("knative", [cluster.write_knative(tmp_path, since="begin")]),
    ]
    trace = Trace.open(ingest(sources, tmp_path / "t").path)
    explanation = explain(trace)
    assert explanation.num_cold == len(cluster.pods)
    waited = sum(call["begin"] - call["arrive"] for call in cluster.calls if call["cold"])
    told = sum(cause.wait_s_per_day for cause in explanation.causes) * explanation.days
    assert told == pytest.approx(waited, rel=0.1)
    times = sorted(call["end"] - call["arrive"] for call in cluster.calls)
    bound_s = 0.9 * times[int(0.99 * len(times))]
    assert check(trace, max_p99_s=bound_s)[0].value == pytest.approx(bound_s / 0.9, rel=0.05)
    planted = {pod.name: pod.label for pod in cluster.pods}
    rows = main_causes(trace, "default").select("pod", "cause").rows()
    hits([(planted[pod], cause) for pod, cause in rows])


def test_a_log_without_pods_of_a_busy_function(tmp_path: Path) -> None:
    """Requests are joined with pods by time alone; simulated and planted cold starts agree, and none lost its pod."""
    cluster = planted_cluster(7, 6 * HOUR_S)
    sources = [
        ("k8s", cluster.write_kubernetes(tmp_path)),
        ("knative", [cluster.write_knative(tmp_path, names_pods=False)]),
    ]
    trace = Trace.open(ingest(sources, tmp_path / "t").path)
    planted = {pod.name: pod.label for pod in cluster.pods}
    rows = main_causes(trace, "default").select("pod", "cause").rows()
    hits([(planted[pod], cause) for pod, cause in rows])
    assert "lost-pod" not in {cause for _, cause in rows}
    advice = recommend(trace)
    assert advice.num_cold == pytest.approx(advice.num_observed, rel=0.1)


def test_explanation_adds_up(knative: tuple[Cluster, Trace]) -> None:
    cluster, trace = knative
    explanation = explain(trace)
    assert explanation.num_cold == len(cluster.pods)
    assert explanation.num_requests == len(cluster.calls)
    causes = [cause for cause in explanation.causes if cause.name != "piggybacked"]
    assert sum(cause.num for cause in causes) == explanation.num_cold
    assert sum(cause.share for cause in causes) == pytest.approx(1)
    assert [cause.num for cause in causes] == sorted((cause.num for cause in causes), reverse=True)
    waited = sum(call["begin"] - call["arrive"] for call in cluster.calls)
    told = sum(cause.wait_s_per_day for cause in explanation.causes) * explanation.days
    assert told == pytest.approx(waited, rel=0.25)  # Kubernetes cuts moments to the second
    keep = explanation.keep_alives["default"]
    assert (keep.keep_alive_us, keep.source) == (60_000_000, "pod ends")
    piggybacked = explanation.causes[-1]
    joined = sum(not call["cold"] and call["begin"] - call["arrive"] > 1 for call in cluster.calls)
    assert piggybacked.name == "piggybacked"
    assert piggybacked.num >= 0.5 * joined > 0


def test_evidence_speaks_of_what_was_planted(knative: tuple[Cluster, Trace]) -> None:
    causes = {cause.name: cause for cause in explain(knative[1]).causes}
    timer = causes["timer"].evidence
    assert (timer["num_timers"], timer["period_min_s"], timer["period_max_s"]) == (
        2,
        pytest.approx(75, abs=0.2),
        pytest.approx(90, abs=0.2),
    )
    assert causes["image-pull"].evidence["pull_p50_s"] == pytest.approx(9, rel=0.15)
    assert causes["image-pull"].evidence["image_mb"] == 780
    assert causes["cpu-starved-init"].evidence["cpu_millicores"] == 100
    assert causes["roll-out"].functions[0][0] == "api"
    assert causes["roll-out"].evidence["num_rollouts"] == 4
    assert causes["node-scale-up"].example.total_s == pytest.approx(46, rel=0.25)
    assert causes["node-scale-up"].example.time.startswith("2026-05-04T")


@pytest.mark.parametrize("seed", range(5))
def test_random_calls_are_no_timers(seed: int, tmp_path: Path) -> None:
    services = [
        Service(f"f{k}", "scale-from-zero", at_random(f"{seed}-{k}", mean, 6 * HOUR_S), 0.2)
        for k, mean in enumerate((90, 120, 200, 300, 500, 30))
    ]
    trace = knative_trace(planted_cluster(seed, 6 * HOUR_S, services), tmp_path)
    assert {cause.name for cause in explain(trace).causes} <= {"scale-from-zero", "burst", "piggybacked"}


def test_lambda_keep_alive_from_gaps(on_lambda: tuple[Cluster, Trace]) -> None:
    keep = explain(on_lambda[1]).keep_alives["default"]
    assert keep.source == "gaps"
    assert keep.low_us <= 1.02 * keep.keep_alive_us
    assert keep.keep_alive_us == 60_000_000


def test_view_and_json(knative: tuple[Cluster, Trace], capsys: pytest.CaptureFixture[str]) -> None:
    explanation = explain(knative[1])
    print_explanation(explanation)
    printed = capsys.readouterr().out
    for cause in explanation.causes:
        assert TITLES.get(cause.name, "only waited") in printed
        assert f"to do: {cause.remedy}\n" in printed
    back = json.loads(dumps(explanation))
    assert back["num_cold"] == explanation.num_cold
    assert [cause["remedy"] for cause in back["causes"]] == [cause.remedy for cause in explanation.causes]


def test_remedies_are_of_the_platform(knative: tuple[Cluster, Trace], on_lambda: tuple[Cluster, Trace]) -> None:
    assert set(REMEDIES) == {*TITLES, "piggybacked"}
    assert all(DEFAULT in words and set(words) <= {DEFAULT, *KINDS} for words in REMEDIES.values())
    on_knative = {cause.name: cause.remedy for cause in explain(knative[1]).causes}
    assert "containerConcurrency" in on_knative["burst"]
    lambdas = {cause.name: cause.remedy for cause in explain(on_lambda[1]).causes}
    assert "provisioned concurrency" in lambdas["burst"]
    assert not any(word in " ".join(lambdas.values()) for word in ("min-scale", "containerConcurrency", "node"))


def test_given_keep_alive_changes_what_a_timer_is(knative: tuple[Cluster, Trace]) -> None:
    causes = {cause.name: cause for cause in explain(knative[1], keep_alive_us=80_000_000).causes}
    assert {name for name, _ in causes["timer"].functions} == {"nightly"}
    with pytest.raises(InputError, match="keep-alive"):
        explain(knative[1], keep_alive_us=-1)


def test_a_platform_s_own_time_is_no_wait_for_a_start(tmp_path: Path) -> None:
    rows = [f"{100 * k},{100 * k + 1},f,{wait},false" for k, wait in enumerate([0.004] * 8 + [0.7])]
    rows.append("5000,5002,f,1.0,true")
    (tmp_path / "calls.csv").write_text("at,done,fn,wait,cold\n" + "\n".join(rows) + "\n")
    options = {"map": "arrive=at:s,end=done:s,function=fn,wait=wait:s,cold=cold", "times": "relative"}
    trace = Trace.open(ingest([("csv", [tmp_path / "calls.csv"])], tmp_path / "t", options=options).path)
    causes = {cause.name: cause.num for cause in explain(trace).causes}
    assert causes == {"scale-from-zero": 1, "piggybacked": 1}


def test_a_trace_that_tells_nothing_of_cold_starts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "calls.csv").write_text("at,fn\n1,f\n2,f\n")
    options = {"map": "arrive=at:s,function=fn", "times": "relative"}
    trace = Trace.open(ingest([("csv", [tmp_path / "calls.csv"])], tmp_path / "t", options=options).path)
    with pytest.raises(InputError, match="which requests were cold"):
        explain(trace)
