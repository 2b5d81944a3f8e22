"""Load beside prefix mode: the findings of runs made by hand, and one small run of the engine."""

import random
import statistics

import pytest

from nonet.common.errors import InputError
from nonet.ragcache.bench import trace_load
from nonet.ragcache.bench.arrivals import Arrival, poisson_times
from nonet.ragcache.bench.load import LoadRun, LoadSize, confined, findings_of, load_findings
from nonet.ragcache.bench.questions import Case, read_cases
from nonet.ragcache.bench.replay import Record, load_report
from nonet.ragcache.bench.trace_load import at_rate, trace_load_findings
from nonet.ragcache.bench.under_load import ModeUnderLoad
from nonet.ragcache.models.toy import toy_model

TEXTS = {f"c{n}": f"passage {n} says {n * n} and " * 2 for n in range(6)}
CASES = [Case(f"question {n}?", "", (f"c{n % 6}", f"c{(n + 1 + n // 6) % 6}")) for n in range(12)]


def run_of(mode, factor, latencies_ms, duration_s=10.0):
    records = [Record(10, 0.0, 0.0, [latency / 1e3], latency / 1e3) for latency in latencies_ms]
    records[-1].end_s = duration_s
    return LoadRun(mode, factor, load_report(records))


def test_latency_at_the_base_rate_and_throughput_at_no_higher_p95():
    runs = [
        run_of("prefix", 1.0, [1000, 3000]),
        run_of("guided", 1.0, [500, 1500]),
        run_of("guided", 1.5, [700, 2000], duration_s=7.0),
        run_of("guided", 2.0, [700, 9000], duration_s=5.0),
    ]
    throughput, latency = findings_of(runs, "guided", "made by hand", 0.2)
    assert latency.value == pytest.approx(2.0) and throughput.value == pytest.approx(10 / 7)
    assert (throughput.promise, latency.promise) == (None, 2.0) and latency.kept
    assert "latency 2.00x lower, throughput at no higher p95 1.43x" in throughput.note
    assert throughput.rivals[0].value == pytest.approx(0.2) and throughput.rivals[0].unit == "requests/s"
    assert latency.rivals[0].value == pytest.approx(2000) and latency.rivals[0].unit == "ms"


def test_the_promise_stands_on_the_better_one():
    runs = [run_of("prefix", 1.0, [100, 100]), run_of("guided", 1.0, [90, 90]), run_of("guided", 2.0, [95, 95], 5.0)]
    throughput, latency = findings_of(runs, "guided", "made by hand", 1.0)
    assert (throughput.promise, throughput.kept, latency.promise) == (1.5, True, None)


def test_a_mode_that_is_slower_keeps_no_promise():
    runs = [run_of("prefix", 1.0, [100, 100]), run_of("guided", 1.0, [200, 200])]
    throughput, latency = findings_of(runs, "guided", "made by hand", 1.0)
    assert throughput.value == 0.0 and latency.value == 0.5
    assert [one.kept for one in (throughput, latency) if one.promise is not None] == [False]


def test_rounds_are_reported_by_their_medians():
    runs = [run_of("prefix", 1.0, [ms, ms]) for ms in (100, 900, 300)] + [
        run_of("guided", 1.0, [ms, ms]) for ms in (100, 150, 800)
    ]
    assert findings_of(runs, "guided", "made by hand", 1.0)[1].value == pytest.approx(2.0)


def test_a_rate_that_one_round_alone_reached_does_not_count():
    runs = [run_of("prefix", 1.0, [100, 100]), run_of("prefix", 1.0, [100, 100])]
    runs += [run_of("guided", 1.0, [90, 90]), run_of("guided", 1.0, [120, 120]), run_of("guided", 2.0, [80, 80], 5.0)]
    assert findings_of(runs, "guided", "made by hand", 1.0)[0].value < 1.5


@pytest.fixture
def watched(monkeypatch):
    """What was run under load: mode, times, and what came of it."""
    seen = []
    run = ModeUnderLoad.run

    def watch(self, times):
        report = run(self, times)
        seen.append((self._mode, times, report))
        return report

    monkeypatch.setattr(ModeUnderLoad, "run", watch)
    return seen


def test_the_engine_under_load(watched):
    size = LoadSize(
        num_warming=6, num_requests=4, max_tokens=2, factors=(1.5,), rounds=2, max_model_len=512, store="ram:20MB"
    )
    found, runs = load_findings(toy_model(), CASES, TEXTS, size)
    assert [one.name for one in found] == ["throughput_vs_prefix", "latency_vs_prefix"]
    assert sum(one.promise is not None for one in found) == 1
    assert [run.mode for run in runs if run.factor == 1.0] == ["prefix", "guided"] * 2
    assert all(run.report.completed == 4 and run.report.total_output_tokens == 8 for run in runs)
    assert "4 requests after 6, 2 rounds, 2 tokens each" in found[0].input
    (_, at_once, capacity), (_, times, _), *_ = watched
    assert at_once == [0.0] * 4 and times == pytest.approx(poisson_times(4, 0.8 * capacity.request_throughput))


@pytest.mark.parametrize(("mode", "kept"), [("prefix", {8}), ("guided", {1, 2, 3, 4, 5})])
def test_a_prefix_cache_may_keep_a_chunk_behind_every_prefix(mode, kept):
    def workload(engine):
        return [engine.prompt("", [f"number {n} comes first", TEXTS["c0"]], "why?") for n in range(8)], []

    bench = ModeUnderLoad(toy_model(), mode, workload, store="ram:50MB", max_model_len=256)
    try:
        key = workload(bench._warmer)[0][0].chunks[1].key
        stored = len(bench._store.variants(key))
        assert stored in kept and len(bench._copy().variants(key)) == stored
        assert {one.observed for one in bench._store.variants(key)} == {mode == "guided"}
    finally:
        bench.close()


def test_a_confined_trace_comes_back_as_often_as_the_whole_one_later(mirror):
    folder = mirror / "ragcache"
    cases, _ = read_cases(folder / "xquad_bm25_trace.jsonl", folder / "xquad_chunks.jsonl")
    few = confined(cases, 60)
    assert len(few) >= 24 and len({chunk for case in few for chunk in case.chunks}) <= 60
    shares = []
    for trace, num_warming in ((few, 16), (cases, 16), (cases, 120)):
        order = random.Random(0).sample(trace, len(trace))
        met = {chunk for case in order[:num_warming] for chunk in case.chunks}
        slots = [chunk in met for case in order[num_warming : num_warming + 8] for chunk in case.chunks]
        shares.append(sum(slots) / len(slots))
    assert shares[0] > 0.8 > shares[1] and shares[0] == pytest.approx(shares[2], abs=0.15)


def test_a_published_trace_is_replayed(tmp_path, watched):
    file = tmp_path / "azure.csv"
    rows = [f"2023-11-16 18:15:{second:02d}.5,{100 + 3 * second},{2 + second % 3}" for second in range(0, 30, 3)]
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows))
    (finding,) = trace_load_findings(
        toy_model(), file, TEXTS, num_warming=4, num_requests=6, rounds=2, max_input_tokens=161, store="ram:50MB"
    )
    (first, at_once, capacity), *rounds = watched
    assert first == "prefix" and at_once == [0.0] * 6
    assert [mode for mode, *_ in rounds] == ["prefix", "guided", "guided", "prefix"]
    gap_s = 1 / (0.8 * capacity.request_throughput)
    assert all(times == pytest.approx([number * gap_s for number in range(6)]) for _, times, _ in rounds)
    prefix, ours = (
        statistics.median(report.mean_e2el_ms for mode, _, report in rounds if mode == one)
        for one in ("prefix", "guided")
    )
    assert finding.name == "trace_latency_vs_prefix" and finding.value == pytest.approx(prefix / ours)
    assert finding.rivals[0].value == pytest.approx(prefix) and finding.rivals[0].unit == "ms"
    size = capacity.total_input_tokens / 6
    assert f"prompts of {size:.0f} tokens on average (the trace, cut at 161: 153)" in finding.input
    assert "6 requests after 4, 2 rounds" in finding.input
    with pytest.raises(InputError, match="holds 10 requests with an answer, and 11 are needed"):
        trace_load_findings(toy_model(), file, TEXTS, num_warming=4, num_requests=7)


def test_latency_beside_prefix_mode_is_of_medians_and_told_by_round():
    reports = {
        mode: [run_of(mode, 1.0, [ms, ms]).report for ms in latencies]
        for mode, latencies in {"prefix": (100, 900, 300), "guided": (100, 150, 600)}.items()
    }
    finding = trace_load.latency_finding(reports["prefix"], reports["guided"], "guided", "made by hand")
    assert finding.value == pytest.approx(2.0) and finding.better == "higher"
    assert "by round 1.00x, 6.00x, 0.50x; guided: mean 150 ms" in finding.note
    assert "prefix mode: mean 300 ms" in finding.note


def test_chunks_that_cannot_fill_the_prompts_of_a_trace_are_said_to(capsys):
    asked = [Arrival(0.0, 100, 1), Arrival(0.0, 300, 1)]
    for made, is_said in ((80, True), (145, False)):
        report = load_report([Record(made, 0.0, 0.0, [1.0], 1.0)])
        told = trace_load._lengths(asked, report, 200)
        assert told == f"prompts of {made} tokens on average (the trace, cut at 200: 150)"
        assert ("more or shorter chunks" in capsys.readouterr().err) == is_said


def test_gaps_are_stretched_and_bursts_stay_bursts():
    assert at_rate([7.0, 7.0, 9.0, 13.0], 2.0) == pytest.approx([0.0, 0.0, 0.5, 1.5])
    by_chance = at_rate([3.0] * 2000, 4.0)
    assert by_chance[0] == 0.0 and by_chance[-1] == pytest.approx(500, rel=0.1) and len(set(by_chance)) == 2000


def test_sizes_are_checked():
    with pytest.raises(InputError, match="12 requests are too few for 100"):
        load_findings(toy_model(), CASES, TEXTS)
    with pytest.raises(InputError, match="rise above 1"):
        LoadSize(factors=(2.0, 1.5))
    with pytest.raises(InputError, match="at least 1"):
        LoadSize(rounds=0)
