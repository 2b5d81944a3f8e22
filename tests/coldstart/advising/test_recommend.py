"""Predicted savings against a plain replay of the planted cluster; bounds and refusals."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nonet.coldstart.advising.choices import Choice, within
from nonet.coldstart.advising.costs import load_prices
from nonet.coldstart.advising.recommend import Advice, Recommendation, objection, recommend
from nonet.coldstart.advising.recommend_page import points
from nonet.coldstart.advising.recommend_view import print_advice, summary
from nonet.coldstart.cli import app
from nonet.coldstart.importing.base import ingest
from nonet.coldstart.trace.store import Trace
from nonet.common.errors import InputError
from nonet.common.jsonable import dumps
from tests.coldstart.advising.planted import T0, Cluster, Service, at_random
from tests.coldstart.advising.replay import Timer, replay
from tests.coldstart.advising.scenarios import HOUR_S, knative_trace, lambda_trace, planted_cluster


def second_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp() - T0


def true_saving(cluster: Cluster, advice: Advice, recommendation: Recommendation) -> float:
    """Of the pods that the cluster started in the tested time, the share that the change makes needless."""
    start, end = (second_of(text) for text in advice.tested)
    today = [pod for pod in cluster.pods if start <= pod.created < end]
    saved = 0
    for setting in recommendation.settings:
        name = setting["function"]
        calls = [(c["arrive"], c["end"] - c["begin"]) for c in cluster.calls if c["pod"].service == name]
        start_s = float(np.median([pod.ready - pod.created for pod in cluster.pods if pod.service == name]))
        timer = Timer(setting["period_s"], setting["lead_s"], setting["hold_s"]) if "period_s" in setting else None
        cold = replay(
            calls,
            start_s,
            setting.get("keep_alive_s", 60.0),
            concurrency=setting.get("concurrency", cluster.settings[name].concurrency),
            always=setting.get("min_scale", 0) + setting.get("provisioned", 0),
            timer=timer,
        )
        asked = [pod for pod in today if pod.service == name and pod.label != "roll-out"]
        saved += len(asked) - sum(start <= t < end for t in cold)
    return saved / len(today)


def checked(cluster: Cluster, advice: Advice) -> set[str]:
    for recommendation in advice.recommendations:
        truth = true_saving(cluster, advice, recommendation)
        assert recommendation.saving == pytest.approx(truth, abs=0.03), recommendation.title
        assert recommendation.low <= recommendation.saving <= recommendation.high
    return {recommendation.kind for recommendation in advice.recommendations}


def test_savings_are_what_a_replay_finds(knative: tuple[Cluster, Trace]) -> None:
    cluster, trace = knative
    advice = recommend(trace, max_extra_memory=1.0)
    assert checked(cluster, advice) >= {"prewarm", "concurrency", "min-scale"}
    timers = next(rec for rec in advice.recommendations if rec.kind == "prewarm")
    assert set(timers.functions) == {"nightly", "poller"}
    assert timers.extra_memory < 0
    assert timers.saving > 0.3
    thumb = [rec for rec in advice.recommendations if "thumb" in rec.functions]
    assert len(thumb) == 1
    assert advice.num_cold == pytest.approx(advice.num_observed, rel=0.06)


def test_within_little_memory_bursts_get_concurrency(knative: tuple[Cluster, Trace]) -> None:
    cluster, trace = knative
    advice = recommend(trace, max_extra_memory=0.02)
    assert checked(cluster, advice) >= {"prewarm", "concurrency"}
    kinds = {rec.functions: rec.kind for rec in advice.recommendations}
    assert kinds[("thumb",)] == "concurrency"
    assert sum(max(rec.extra_memory, 0) for rec in advice.recommendations) <= 0.02
    assert any("more memory" in rejected.reason for rejected in advice.rejected)


def test_savings_on_lambda(on_lambda: tuple[Cluster, Trace]) -> None:
    cluster, trace = on_lambda
    advice = recommend(trace, max_extra_memory=1.0)
    assert advice.platform == "lambda"
    assert checked(cluster, advice) == {"provisioned"}  # no pod can be released after a run


def test_provisioned_pods_go_up_to_the_peak_and_are_billed_all_the_time(on_lambda: tuple[Cluster, Trace]) -> None:
    """A fan-out of 12 needs 12 pods; AWS bills them from the first second to the last, busy or not."""
    prices = replace(load_prices("lambda-x86"), wait_usd_per_s=0.01)
    advice = recommend(on_lambda[1], max_extra_memory=10.0, prices=prices)
    rec = next(rec for rec in advice.recommendations if rec.functions == ("fan-out",))
    assert (rec.kind, rec.settings[0]["provisioned"]) == ("provisioned", 12)
    assert rec.num_saved >= 0.95 * rec.num_cold
    free = replace(prices, provisioned_usd_per_gb_s=0.0)
    unbilled = next(
        r
        for r in recommend(on_lambda[1], max_extra_memory=10.0, prices=free).recommendations
        if r.functions == rec.functions
    )
    memory_mb = {row["function"]: row["memory_mb"] for row in on_lambda[1].functions("default").to_pylist()}
    gb = 12 * memory_mb["fan-out"] / 1024
    assert rec.usd_per_month - unbilled.usd_per_month == pytest.approx(
        gb * 30 * 86_400 * prices.provisioned_usd_per_gb_s
    )


def test_the_command_line_advises_the_platform_of_the_logs(on_lambda: tuple[Cluster, Trace], tmp_path: Path) -> None:
    """On Lambda neither concurrency nor min-scale can be set, and a Knative patch is of no use."""
    command = ["recommend", str(on_lambda[1].path), "-o", str(tmp_path), "--max-extra-memory", "100%", "--json", "-q"]
    done = CliRunner().invoke(app, command)
    advice = json.loads(done.stdout)["advice"]
    assert advice["platform"] == "lambda"
    assert {rec["kind"] for rec in advice["recommendations"]} == {"provisioned"}
    assert (tmp_path / "lambda-provisioned.tf").is_file()
    page = (tmp_path / "advice.html").read_text()
    assert all(html.escape(rec["title"]) in page for rec in advice["recommendations"])
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert not (tmp_path / "knative-patch.yaml").exists()
    assert not (tmp_path / "prewarm-plan.json").exists()


def in_window(cron: tuple[str, str], t: float) -> bool:
    """Whether a pod is on at a time of the test's clock, by reading two cron expressions of minutes (and hours)."""
    moments = []
    for text in cron:
        minutes, hours = re.fullmatch(r"cron\(([\d,]+) ([\d,*]+) \* \* \? \*\)", text).groups()  # type: ignore[union-attr]
        of_day = range(24) if hours == "*" else map(int, hours.split(","))
        moments.append([60 * hour + int(minute) for hour in of_day for minute in minutes.split(",")])
    minute = (T0 + t) % 86_400 / 60
    since = [min((minute - at) % 1440 for at in switched) for switched in moments]
    return since[0] < since[1]


def test_a_timer_of_the_clock_on_lambda_gets_scheduled_concurrency(tmp_path: Path) -> None:
    """One of every 30 minutes does; one that counts 30 minutes from the end of its run has no times of the clock."""
    ticks = [k * 1800 + 420.0 for k in range(96)]
    drifting = [k * 1817 + 300.0 for k in range(95)]
    services = [Service("hourly", "timer", ticks, 2.0, init=8.0), Service("drifting", "timer", drifting, 2.0, init=8.0)]
    trace = lambda_trace(planted_cluster(4, 48 * HOUR_S, services), tmp_path, {})
    prices = load_prices("lambda-x86")
    advice = recommend(trace, max_extra_memory=10.0, prices=prices)
    rec = next(rec for rec in advice.recommendations if rec.kind == "scheduled")
    assert rec.functions == ("hourly",)
    assert rec.num_saved >= 0.95 * rec.num_cold > 0
    setting = rec.settings[0]
    cron = (setting["on"], setting["off"])
    assert all(in_window(cron, t) for t in ticks)
    minutes = [m for m in range(30) if in_window(cron, 60.0 * m + 30)]
    assert len(minutes) <= 7
    free = recommend(trace, max_extra_memory=10.0, prices=replace(prices, provisioned_usd_per_gb_s=0.0))
    (gb,) = (row["memory_mb"] / 1024 for row in trace.functions("default").to_pylist() if row["function"] == "hourly")
    unbilled = {rec.kind: rec.usd_per_month for rec in (*free.recommendations,) if rec.functions == ("hourly",)}
    share = -(-len(minutes) // 5) * 5 / 30  # AWS bills whole five minutes
    bill = gb * 30 * 86_400 * share * prices.provisioned_usd_per_gb_s
    assert rec.usd_per_month - next(iter(unbilled.values())) == pytest.approx(bill, rel=0.05)


def test_openwhisk_has_no_keep_alive_of_one_action(knative: tuple[Cluster, Trace]) -> None:
    advice = recommend(knative[1], platform="openwhisk", max_extra_memory=1.0)
    assert {rec.kind for rec in advice.recommendations} == {"prewarm", "concurrency"}


def test_the_length_of_cold_starts_is_said_where_the_trace_tells_none(tmp_path: Path) -> None:
    calls = [f"{t},{t + 1},f,{'true' if k else ''}" for k, t in enumerate(range(0, 90_000, 300))]
    (tmp_path / "calls.csv").write_text("at,done,fn,cold\n" + "\n".join(calls) + "\n")
    options = {"map": "arrive=at:s,end=done:s,function=fn,cold=cold", "times": "relative"}
    trace = Trace.open(ingest([("csv", [tmp_path / "calls.csv"])], tmp_path / "t", options=options).path)
    short, long = recommend(trace, max_extra_memory=1.0), recommend(trace, max_extra_memory=1.0, cold_us=8_000_000)
    assert (short.assumed_cold_s, long.assumed_cold_s) == (1.0, 8.0)
    assert "8 s each is assumed (--cold-seconds)" in summary(long)
    leads = [advice.recommendations[0].settings[0]["lead_s"] for advice in (short, long)]
    assert leads[1] - leads[0] == pytest.approx(7)
    with pytest.raises(InputError, match="at least"):
        recommend(trace, cold_us=0)


def test_ordered_by_saving_per_memory(knative: tuple[Cluster, Trace]) -> None:
    advice = recommend(knative[1], max_extra_memory=1.0)
    ratios = [rec.saving_per_memory for rec in advice.recommendations]
    priced = [ratio for ratio in ratios if ratio is not None]
    assert ratios[: len(ratios) - len(priced)] == [None] * (len(ratios) - len(priced))
    assert priced == sorted(priced, reverse=True)
    assert advice.saving == pytest.approx(sum(rec.saving for rec in advice.recommendations))


def test_same_seed_same_advice(on_lambda: tuple[Cluster, Trace]) -> None:
    assert dumps(recommend(on_lambda[1], seed=4)) == dumps(recommend(on_lambda[1], seed=4))


@pytest.fixture(scope="module")
def random_trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    services = [
        Service(f"f{k}", "", at_random(f"r{k}", mean, 6 * HOUR_S), 0.2) for k, mean in enumerate((90, 200, 500, 800))
    ]
    return knative_trace(planted_cluster(9, 6 * HOUR_S, services), tmp_path_factory.mktemp("random"))


def test_no_timer_is_claimed_on_random_calls(random_trace: Trace) -> None:
    advice = recommend(random_trace, max_extra_memory=1.0)
    everything = [rec.title for rec in advice.recommendations] + [rejected.title for rejected in advice.rejected]
    assert not [title for title in everything if "pre-warm" in title]


def test_what_does_not_pay_is_not_recommended(random_trace: Trace) -> None:
    """When a second of waiting is worth next to nothing, memory is never added."""
    prices = load_prices("cluster")
    cheap = type(prices)(**{**vars(prices), "wait_usd_per_s": 1e-9})
    advice = recommend(random_trace, max_extra_memory=10.0, prices=cheap)
    assert all(rec.extra_memory <= 0 for rec in advice.recommendations)
    dear = recommend(random_trace, max_extra_memory=10.0)
    assert dear.saving > 0.3 > advice.saving
    assert recommend(random_trace, max_extra_memory=0.0).extra_memory <= 0


def test_choices_fit_into_the_memory_with_the_next_best() -> None:
    big, small = Choice(0, "keep-alive", 600, 10, 8.0), Choice(0, "concurrency", 4, 9, -1.0)
    other = Choice(1, "min-scale", 1, 5, 2.0)
    assert within([[big, small], [other]], 10.0) == ([other, big], [])
    assert within([[big, small], [other]], 9.0) == ([other, small], [big])
    assert within([[big], [other]], 0.0) == ([], [other, big])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"low": 0.0}, "includes 0"),
        ({"low": -0.01}, "includes 0"),
        ({"saving": 0.001, "low": 0.0005}, "less than 0.2%"),
        ({"usd_per_month": 0.0}, "costs more"),
        ({"extra_memory": 0.11}, "10.0% are left"),
    ],
)
def test_objections(changed: dict[str, float], reason: str) -> None:
    rec = Recommendation("min-scale", "t", ("f",), ({},), 10, 5, 0.1, 0.05, 0.2, 0.1, 0.1, 1.0, 1.0, -1.0)
    found = objection(replace(rec, **changed), 0.1)  # type: ignore[arg-type]
    assert (reason in found) if reason else found == ""


def test_bad_options(random_trace: Trace, on_lambda: tuple[Cluster, Trace], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="max_extra_memory"):
        recommend(random_trace, max_extra_memory=-0.1)
    with pytest.raises(InputError, match="knative"):
        recommend(random_trace, platform="nomad")
    with pytest.raises(InputError, match="region"):
        recommend(random_trace, region="mars")
    with pytest.raises(InputError, match="too short"):
        recommend(random_trace, keep_alive_us=6 * 3_600_000_000)


def test_view_and_json(knative: tuple[Cluster, Trace], capsys: pytest.CaptureFixture[str]) -> None:
    advice = recommend(knative[1])
    print_advice(advice)
    printed = capsys.readouterr().out
    assert all(rec.title in printed for rec in advice.recommendations)
    assert "together: -" in printed
    assert json.loads(dumps(advice))["recommendations"][0]["kind"] == "prewarm"


def test_the_plot_is_of_rates_with_their_intervals(knative: tuple[Cluster, Trace]) -> None:
    cluster, trace = knative
    advice = recommend(trace, max_extra_memory=1.0)
    today, *changes, together = points(advice)
    start, end = (second_of(text) for text in advice.tested)
    calls = sum(start <= call["arrive"] <= end for call in cluster.calls)
    assert advice.num_requests == pytest.approx(calls, abs=2)
    assert today["rate"] == advice.num_cold / advice.num_requests
    assert today["rate"] * (1 - advice.saving) == pytest.approx(together["rate"])
    for rec, change in zip(advice.recommendations, changes, strict=False):
        assert change["low"] <= change["rate"] <= change["high"]
        assert change["low"] == pytest.approx(today["rate"] * (1 - rec.high))
        assert change["memory"] - today["memory"] == pytest.approx(rec.extra_gb_s_per_day)
    assert len(changes) == len(advice.recommendations) + len(advice.rejected)


def test_large_traces_leave_out_busy_functions(knative: tuple[Cluster, Trace], monkeypatch: pytest.MonkeyPatch) -> None:
    """With less room, the savings of functions that stay are the same shares of all cold starts."""
    whole = {rec.title: rec.saving for rec in recommend(knative[1]).recommendations if rec.functions != ("api",)}
    monkeypatch.setattr("nonet.coldstart.advising.recommend.MAX_CALLS", 2_000)
    monkeypatch.setattr("nonet.coldstart.advising.recommend._MIN_COVERAGE", 0.5)
    advice = recommend(knative[1])
    assert 0.5 <= advice.coverage < 0.9
    assert "api" not in {name for rec in advice.recommendations for name in rec.functions}
    timers = next(rec for rec in advice.recommendations if rec.kind == "prewarm")
    assert timers.saving == pytest.approx(whole[timers.title], abs=0.02)
    monkeypatch.setattr("nonet.coldstart.advising.recommend._MIN_COVERAGE", 1.0)
    late = recommend(knative[1])
    assert late.coverage == 1.0
    assert late.fitted[0] > advice.fitted[0]
