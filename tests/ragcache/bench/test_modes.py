import math
import re
from dataclasses import replace

import numpy as np
import pytest

from nonet.ragcache.bench import modes
from nonet.ragcache.bench.modes import SHARES, baseline_findings, quality_findings
from nonet.ragcache.bench.quality import Judged, Reference
from nonet.ragcache.bench.questions import Case, evaluation_of
from nonet.ragcache.bench.trace import trace_findings, trace_hits
from nonet.ragcache.models.toy import toy_model


def towns(num_questions=24, num_chunks=6):
    texts = {f"c{n}": f"town {n} lies by river {n * 7} and trades in {n * 3} sorts of grain" for n in range(num_chunks)}
    draws = np.random.default_rng(3)
    cases = [
        Case(
            f"what does town {n % num_chunks} trade",
            "grain",
            tuple(f"c{c}" for c in draws.permutation(num_chunks)[:3]),
        )
        for n in range(num_questions)
    ]
    return cases, texts


@pytest.fixture(scope="module")
def found():
    cases, texts = towns()
    evaluation = evaluation_of("towns", cases, texts, num_warming=12, num_asked=5)
    findings, shares = quality_findings(toy_model(), evaluation, max_tokens=3, num_calibrating=1)
    return {one.name: one for one in findings}, shares


def test_calibrating_questions_are_not_reported(found):
    findings, shares = found
    assert "4 questions" in findings["kl_reuse_towns"].input
    tried = dict(re.findall(r"(\d+)%: ([\d.]+)", findings["calibrated_share_towns"].note))
    for name, target in (("", 0.8), ("_strict", 0.88)):
        reaching = [int(one) / 100 for one, rouge in tried.items() if float(rouge) >= target]
        assert findings[f"calibrated_share{name}_towns"].value == shares[name] == min(reaching, default=1.0)
        assert shares[name] in {*SHARES, 1.0}


def test_the_smallest_share_that_reaches_the_target_is_taken_on_the_calibrating_questions():
    asked = []

    class Rising:
        """ROUGE-L is the share and a little for each question."""

        def judge(self, reference, mode, share, **_):
            asked.append(reference.token_ids)
            assert mode == "guided" and reference.logits is None
            return Judged(math.nan, math.nan, 0.55 + share + reference.token_ids[0] / 100, 0.0, 0.0, 0.0, 0.0)

    references = [Reference(None, None, (number,), "", np.zeros(1)) for number in (1, 2, 3)]
    tried = modes._tried(Rising(), references)
    assert set(asked) == {(1,), (2,), (3,)}
    assert tried == pytest.approx({0.15: 0.72, 0.2: 0.77, 0.25: 0.82, 0.3: 0.87, 0.4: 0.97})
    assert [modes._smallest(tried, target) for target in (0.7, 0.8, 0.88, 0.99)] == [0.15, 0.25, 0.4, 1.0]
    assert modes._tried(Rising(), []) == {}


def test_calibrating_and_reported_questions_are_others(monkeypatch):
    seen = {}

    def tried(_, references):
        seen["calibrating"] = {one.case.question for one in references}
        return {}

    judged = modes._judged

    def watched(trialled, references, *rest):
        seen["reported"] = {one.case.question for one in references}
        return judged(trialled, references, *rest)

    monkeypatch.setattr(modes, "_tried", tried)
    monkeypatch.setattr(modes, "_judged", watched)
    cases, texts = towns()
    cases = [replace(case, question=f"{case.question} {number}") for number, case in enumerate(cases)]
    evaluation = evaluation_of("towns", cases, texts, num_warming=4, num_asked=3)
    quality_findings(toy_model(), evaluation, max_tokens=2, num_calibrating=1)
    assert len(seen["calibrating"]) == 1 and len(seen["reported"]) == 2
    assert not seen["calibrating"] & seen["reported"]


def test_a_ratio_is_of_what_its_name_says():
    for name, (ours, others, _) in modes._PAIRS.items():
        first, second, share = re.fullmatch(r"kl_(\w+)_vs_(\w+)_(\d+)(?:_rows)?", name).groups()
        names = {"paper": "cachecraft", "default": "guided"}
        assert ours.mode == names[first] and others.mode == names.get(second, second)
        assert ours.share == int(share) / 100 and others.share == (None if second == "reuse" else int(share) / 100)
        assert others.is_charged == name.endswith("_rows") and not ours.is_charged
        assert not ours.is_unmoved and not others.is_unmoved
    assert modes._UNMOVED._replace(is_unmoved=False) == modes._MOVED


def test_more_repair_is_closer_and_few_questions_promise_nothing(found):
    findings, _ = found
    assert 0 <= findings["kl_cachecraft_30_towns"].value < findings["kl_reuse_towns"].value
    assert all(one.promise is None for one in findings.values())


def test_a_charged_setting_may_repair_what_a_probe_costs(found):
    findings, _ = found

    def computed(name):
        return float(findings[name].note.rsplit(", ", 1)[-1].split("%")[0])

    assert computed("kl_cachecraft_15_rows_towns") > computed("kl_cachecraft_15_towns")
    assert abs(computed("kl_cachecraft_30_rows_towns") - computed("kl_guided_30_towns")) <= 2


def test_baselines_stand_beside_our_mode_without_what_it_carries(found):
    cases, texts = towns()
    asked = evaluation_of("towns", cases, texts, num_warming=12, num_asked=4)
    rows = {one.name: one for one in baseline_findings(toy_model(), asked, max_tokens=3)}
    ways = {f"{mode}_{share}" for mode in ("h2o", "blend", "epic", "qsel") for share in (15, 30)}
    ours = {"guided_15_unmoved", "guided_30_unmoved"}
    ratio = "kl_moved_vs_unmoved_30_towns"
    assert set(rows) == {f"kl_{way}_towns" for way in ways | ours | {"random_15", "guided"}} | {ratio, f"{ratio}_high"}
    moved, still = found[0]["kl_guided_30_towns"], rows["kl_guided_30_unmoved_towns"]
    assert moved.input == still.input and moved.value != still.value
    assert rows[ratio].value == pytest.approx(moved.value / still.value)
    # What a server does: each chunk's fix overhead says how many of its rows are computed anew.
    served = rows["kl_guided_towns"]
    assert served.note.endswith("alpha 0.5, as a server") and "ROUGE-L 1.000" not in served.note
    assert 0 < float(re.search(r"(\d+)% of the reused ones anew", served.note)[1]) < 100


def test_hits_of_a_trace_by_a_plain_set():
    cases, texts = towns(40)
    hits = trace_hits(cases, seed=0)
    names = [one.name for one in trace_findings(toy_model(), cases, texts, recompute=0.3, source="towns")]
    assert names == ["trace_chunk_hit", "trace_prefix_hit", "tokens_vs_prefix", "tokens_vs_full"]
    import random

    order = list(cases)
    random.Random(0).shuffle(order)
    met, prefixes, chunk, prefix = set(), set(), 0, 0
    for case in order:
        chunk += sum(one in met for one in case.chunks)
        starts = [case.chunks[: n + 1] for n in range(len(case.chunks))]
        prefix += sum(start in prefixes for start in starts)
        met.update(case.chunks)
        prefixes.update(starts)
    assert hits.chunk == pytest.approx(chunk / 120)
    assert hits.prefix == pytest.approx(prefix / 120)
