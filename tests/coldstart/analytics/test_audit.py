"""The claims audit: contradictions are computed, planted falsehoods are flagged, true claims raise no alarm."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from nonet.coldstart.analytics.audit import audit, counts, findings
from nonet.coldstart.analytics.claims import Claim, paper_claims, read_claims
from nonet.coldstart.analytics.figures import Figures
from nonet.coldstart.analytics.published import Published
from nonet.coldstart.analytics.quantities import QUANTITIES
from nonet.common.errors import InputError
from tests.coldstart.analytics.small_trace import Rows, random_rows, write_trace

# ruff: noqa: E501

TRUE = """
median = { quantity = "median", args = { figure = "10a", group = "R2" }, value = 0.826, relative = 0.01 }
p95 = { quantity = "quantile", args = { figure = "10a", group = "R1", share = 0.95 }, value = 18.55, relative = 0.01 }
share = { quantity = "share_below", args = { figure = "17a", group = "Node.js", x = 1.0 }, value = 0.363, tolerance = 0.005 }
gap = { quantity = "median", args = { figure = "10c", group = "R3" }, value = 5.069, relative = 0.01 }
sum = { quantity = "sum_over_time", args = { figure = "11", group = "cold_starts", facet = "R5" }, value = 805035, relative = 0.001 }
mean = { quantity = "mean_part", args = { part = "total", facet = "R4" }, value = 1.49, tolerance = 0.01 }
spearman = { quantity = "correlation", args = { facet = "R5", a = "total", b = "dependency" }, value = 0.8, tolerance = 0.05 }
bar = { quantity = "bar", args = { figure = "9", facet = "R2", group = "Python3", series = "TIMER-A" }, value = 0.8072, tolerance = 0.001 }
top = { quantity = "top_functions_share", args = { facet = "R2", num = 1000 }, value = 0.9, relation = ">" }
functions = { quantity = "region_value", args = { axis = "functions" }, value = 13253 }
"""


def claims_file(path: Path, text: str) -> Path:
    """One claim a line, `id = { ... }`, as the tables that `read_claims` wants."""
    import tomllib

    lines = []
    for name, table in tomllib.loads(text).items():
        lines.append(f'[[claim]]\nid = "{name}"\ntext = "stated by somebody"\nquantity = "{table["quantity"]}"')
        lines += [f"{key} = {value!r}" for key, value in table.items() if key not in ("quantity", "args")]
        lines.append("[claim.args]\n" + "\n".join(f"{key} = {value!r}" for key, value in table["args"].items()))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_six_contradictions_of_the_paper_are_found(published: Published) -> None:
    results = {r.claim.id: r for r in audit(paper_claims(), published)}
    found = {r.claim.id for r in findings(list(results.values()))}
    assert found == {
        "large-over-small-r3",
        "large-dependency-slower-r2",
        "small-scheduling-shorter-r1",
        "small-scheduling-shorter-r4",
        "first-workday-24",
        "first-workday-23",
        "cpu-median-r3-low",
        "cpu-median-r3-high",
        "utility-below-one",
    }
    assert results["large-over-small-r3"].computed == 2.7
    assert results["utility-below-one"].computed == pytest.approx(0.17, abs=0.005)
    assert (
        results["cpu-median-r3-high"].verdict == "contradicted" and results["cpu-median-r3-low"].verdict == "supported"
    )
    assert results["first-workday-24"].conflicts == ("first-workday-23",)
    assert results["first-workday-24"].evidence["day 22"] == pytest.approx(0.833)


def test_there_are_enough_claims_and_what_cannot_be_checked_says_why(published: Published) -> None:
    results = audit(paper_claims(), published)
    assert len(results) >= 25 and counts(results)["supported"] >= 80
    unchecked = [r for r in results if r.verdict == "cannot be checked here"]
    assert {r.claim.id for r in unchecked} == {"large-dependency-slower-r3", "small-scheduling-shorter-r3"}
    assert all("figure 13 has no value" in r.reason and r.computed is None for r in unchecked)
    assert all(r.computed is not None for r in results if r not in unchecked)


def test_ten_true_claims_raise_no_alarm(published: Published, tmp_path: Path) -> None:
    results = audit(read_claims(claims_file(tmp_path / "c.toml", TRUE)), published)
    assert [r.verdict for r in results] == ["supported"] * 10
    assert findings(results) == []


def test_the_same_claims_with_other_numbers_are_flagged(published: Published, tmp_path: Path) -> None:
    claims = read_claims(claims_file(tmp_path / "c.toml", TRUE))
    wrong = [c.model_copy(update={"value": c.value * 1.1 + (0.0 if c.relation == "=" else 0.1)}) for c in claims]
    results = audit(wrong, published)
    assert [r.verdict for r in results] == ["contradicted"] * 10


@pytest.mark.parametrize(
    ("relation", "value", "verdict"),
    [("<=", 0.9, "supported"), ("<=", 0.8, "contradicted"), (">", 0.8, "supported"), (">", 0.9, "contradicted")],
)
def test_bounds(published: Published, relation: str, value: float, verdict: str) -> None:
    args = {"figure": "10a", "group": "R2"}
    claim = Claim.model_validate(
        {"id": "a", "text": "b", "quantity": "median", "args": args, "value": value, "relation": relation}
    )
    assert audit([claim], published)[0].verdict == verdict


def test_two_claims_that_exclude_each_other_are_found_without_data(tmp_path: Path) -> None:
    path = claims_file(
        tmp_path / "c.toml",
        """
a = { quantity = "median", args = { group = "R9", figure = "10a" }, value = 1.0 }
b = { quantity = "median", args = { figure = "10a", group = "R9" }, value = 2.0 }
c = { quantity = "median", args = { figure = "10a", group = "R8" }, value = 2.0 }
d = { quantity = "median", args = { figure = "10a", group = "R9" }, value = 3.0, relation = "<=" }
""",
    )

    class Nothing:
        regions: tuple[str, ...] = ()
        num_days = 0.0

        def figure(self, name: str) -> None:
            raise InputError(f"no figure {name}")

    results = audit(read_claims(path), Nothing())  # type: ignore[arg-type]
    assert [r.verdict for r in results] == [
        "contradicted",
        "contradicted",
        "cannot be checked here",
        "cannot be checked here",
    ]
    assert results[0].conflicts == ("b",) and "do not decide: no figure 10a" in results[0].reason


def test_the_same_quantities_are_computed_from_a_trace(figures: Figures, rows: Rows) -> None:
    r2 = sorted(r["total_us"] / 1e6 for r in rows.coldstart if r["region"] == "R2")
    num = len(r2)
    claims = [
        Claim(
            id="m",
            text="t",
            quantity="median",
            args={"figure": "10a", "group": "R2"},
            value=r2[num // 2],
            relative=0.03,
        ),
        Claim(
            id="n",
            text="t",
            quantity="sum_over_time",
            args={"figure": "11", "group": "cold_starts", "facet": "R2"},
            value=num,
        ),
        Claim(
            id="x",
            text="t",
            quantity="mean_part",
            args={"part": "total", "facet": "R2"},
            value=sum(r2) / num,
            relative=1e-6,
        ),
        Claim(
            id="f",
            text="t",
            quantity="median",
            args={"figure": "10a", "group": "R2"},
            value=r2[num // 2] * 2,
            relative=0.03,
        ),
        Claim(id="r", text="t", quantity="median", args={"figure": "10a", "group": "R7"}, value=1.0),
    ]
    results = audit(claims, figures)
    assert [r.verdict for r in results] == ["supported"] * 3 + ["contradicted", "cannot be checked here"]
    assert "curves are named 'R7'" in results[4].reason


def test_a_trace_of_fewer_regions_or_days_does_not_decide(figures: Figures) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = {r.claim.id: r for r in audit(paper_claims(), figures)}
    pooled = results["lognormal-mean"]
    assert pooled.verdict == "cannot be checked here" and "the data lack R3, R4, R5" in pooled.reason
    for name in ("r2-cold-starts", "peak-pods", "rare-functions", "weekdays-over-weekends"):
        assert results[name].verdict == "cannot be checked here"
        assert "days; the data have 3.0" in results[name].reason
    assert results["median-total-r2"].verdict == "contradicted"  # a law does not grow with time


def test_claims_of_region_2_are_not_held_against_another(tmp_path: Path) -> None:
    written = write_trace(tmp_path / "t", random_rows(regions=("R4",)), 3)
    with Figures(written) as other:
        results = audit(paper_claims(), other)
    held = {r.claim.id for r in results if r.computed is not None}
    assert held and not [name for name in held if "r4" not in name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claim = 3", "no claim"),
        ("[[claim]\n", "not TOML"),
        ("other = 1", "unknown key 'other'"),
        (
            '[[claim]]\nid = "a"\ntext = "t"\nquantity = "median"\nvalue = 1',
            "median takes figure, group, facet: missing a required",
        ),
        (
            '[[claim]]\nid = "a"\ntext = "t"\nquantity = "medain"\nvalue = 1',
            r"claim 1 \(a\): unknown quantity 'medain'; did you mean 'median'",
        ),
        (
            '[[claim]]\nid = "a"\ntext = "t"\nquantity = "correlation"\nargs = { facet = "R1", a = "b", b = "c", z = 1 }\nvalue = 1',
            "unexpected",
        ),
        (
            '[[claim]]\nid = "a"\ntext = "t"\nquantity = "median"\nargs = { figure = 3, group = "R1" }\nvalue = 1',
            "args.figure: .* valid string, got 3",
        ),
        (
            '[[claim]]\nid = "a"\ntext = "t"\nquantity = "correlation"\nargs = { facet = "R1", a = "b", b = "c" }\nvalue = "x"',
            "claim 1 .a.: value: ",
        ),
        (
            '[[claim]]\nid = "a"\ntext = "t"\nvalue = 1\nquantity = "median"\nargs = { figure = "1", group = "2" }\nsize = 3',
            "size: Extra",
        ),
    ],
)
def test_a_wrong_file_of_claims_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_claims(path)


def test_an_id_is_used_once(tmp_path: Path) -> None:
    one = '[[claim]]\nid = "a"\ntext = "t"\nquantity = "median"\nargs = { figure = "1", group = "2" }\nvalue = 1\n'
    (tmp_path / "c.toml").write_text(one * 2, encoding="utf-8")
    with pytest.raises(InputError, match="the id 'a' is used twice"):
        read_claims(tmp_path / "c.toml")
    with pytest.raises(InputError, match="cannot read the claims"):
        read_claims(tmp_path / "none.toml")


def test_every_quantity_is_used_by_a_claim_or_described(published: Published) -> None:
    assert all(QUANTITIES[name].__doc__ for name in QUANTITIES)
    assert len({c.id for c in paper_claims()}) == len(paper_claims())
