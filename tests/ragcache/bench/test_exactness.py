"""The ends of the scale of repair, on questions whose chunks have been behind many others."""

from nonet.ragcache.bench.exactness import endpoint_findings
from nonet.ragcache.bench.questions import Case, Evaluation
from nonet.ragcache.models.toy import toy_model


def test_a_chunk_behind_many_others_comes_back_behind_each_of_them():
    texts = {"common": "the brake lowers all clocks", **{f"c{n}": f"a passage about number {n}" for n in range(8)}}
    warming = tuple(Case(f"{n}?", "", (f"c{n}", "common")) for n in range(8))
    asked = tuple(Case("why?", "", ("common", f"c{n}", f"c{n + 1}")) for n in range(3))
    found = {one.name: one for one in endpoint_findings(toy_model(), Evaluation("towns", texts, warming, asked))}
    assert set(found) == {"full_recompute_kl", "same_prefix_kl", "rows_computed_ratio"}
    assert all(one.kept for one in found.values())
    assert found["same_prefix_kl"].note == "3 prompts"
