"""The planner's file: what it means, and what it refuses."""

import re
from importlib import resources

import pytest

from nonet.common.errors import InputError
from nonet.power.controlling.config import load_row_file
from nonet.power.planning import plan
from nonet.power.planning.scenario import LoadSection, PlanSection, ServingSection, base_scenario, load_scenario
from nonet.power.planning.slo import Slo
from nonet.power.policies.protocol import Priority
from tests.power.simulating.parts import poisson_load

FILE = """
[row]
name = "hall-b"
budget_w = 42000
cap_latency_s = 30

[[servers]]
names = "node[01-06]"
priority = "low"

[[servers]]
names = "node[07-10]"
priority = "high"

[policy]
name = "polca"
t1 = 0.7

[telemetry]
source = "file"
path = "power.csv"

[serving]
profile = "a100-llama2-70b-tp8"
max_batch = 16

[load]
file = "week.parquet"

[plan]
seeds = 2
days = 0.01
"""

STEPS = "budget_steps = [{ since = 2026-01-05T01:00:00Z, budget_w = 30000 }]"


@pytest.fixture
def folder(tmp_path):
    poisson_load(400, 0.3, seed=1).to_parquet(tmp_path / "week.parquet")
    (tmp_path / "row.toml").write_text(FILE)
    return tmp_path


def test_the_file_says_row_load_policy_and_plan(folder):
    found = load_scenario(folder / "row.toml")
    assert found.name == "hall-b" and found.row.num_low == 6 and found.row.num_high == 4
    assert [s.name for s in found.row.servers][::9] == ["node01", "node10"]
    assert found.row.budget.at(0) == 42_000 and found.row.cap_latency.most_s == 30
    assert found.row.servers[0].max_batch == 16 and found.policies[0].config.t1 == 0.7
    assert (found.seeds, found.days, found.slo.lp_p50) == (2, 0.01, 0.05)
    assert len(found.make_load(0.0, 1)) == 400
    answer = plan(**found.arguments() | {"max_added": 0.1, "step": 0.1}, workers=1)
    assert answer.row.num_servers == 10 and answer.seeds == (1, 2)


def test_what_is_given_beside_the_file_beats_it(folder):
    poisson_load(50, 0.3, seed=2).to_parquet(folder / "other.parquet")
    found = load_scenario(
        folder / "row.toml", load=folder / "other.parquet", policies=("no-cap", "polca.toml"), slo=["hp:2,6"], seeds=4
    )
    assert [policy.name for policy in found.policies] == ["no-cap", "polca"]
    assert found.slo.hp_p99 == 0.06 and found.seeds == 4 and len(found.make_load(0.0, 1)) == 50


def test_the_daemon_reads_the_same_sections(folder):
    """Without the planner's own sections the file is a row file of the daemon."""
    daemon = folder / "daemon.toml"
    daemon.write_text(FILE.split("[serving]", maxsplit=1)[0])
    row = load_row_file(daemon)
    planned = load_scenario(folder / "row.toml").row
    assert [s.name for s in row.server_list()] == [s.name for s in planned.servers]
    assert [s.priority for s in row.server_list()] == [s.priority for s in planned.servers]
    assert row.row.budget_w == planned.budget.at(0.0)


def test_a_week_and_budget_steps(folder):
    text = FILE.replace('file = "week.parquet"', "week = { requests_per_s = 0.4 }\nstarts = 2026-01-05T00:00:00Z")
    text = text.replace(
        "budget_w = 42000", "budget_w = 42000\nbudget_steps = [{ since = 2026-01-05T01:00:00Z, budget_w = 30000 }]"
    )
    (folder / "row.toml").write_text(text)
    found = load_scenario(folder / "row.toml")
    assert [found.row.budget.at(t) for t in (0, 3599, 3600, 9e9)] == [42_000, 42_000, 30_000, 30_000]
    load = found.make_load(0.5, 1)
    assert load.duration_s <= 864 and {int(p) for p in load.priority} == {int(p) for p in Priority}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_batch = 16", "max_bacth = 16", "serving.max_bacth"),
        ("[plan]", "[planning]", "planning"),
        ("budget_w = 42000", "budget_w = 0", "budget_w"),
        ("budget_w = 42000", "budget_w = 42", "is it in kW"),
        ("budget_w = 42000", "budget_w = 42000000", "is it in mW"),
        ("node[07-10]", "node[06-10]", "node06 is named twice"),
        ("t1 = 0.7", "t1 = 0.95", "not below t2"),
        ("[plan]", "[slo]\nhp_p50 = 50\n[plan]", "slo.hp_p50"),
        ('profile = "a100-llama2-70b-tp8"', 'profile = "a100"', "neither a file nor one of"),
        ('profile = "a100-llama2-70b-tp8"', "", "serving.profile"),
        ('file = "week.parquet"', "", "give a file of requests or a week"),
        ('file = "week.parquet"', 'file = "no.parquet"', "no.parquet"),
        ('file = "week.parquet"', 'file = "week.parquet"\nweek = { requests_per_s = 1 }', "not both"),
        ("cap_latency_s = 30", f"cap_latency_s = 30\n{STEPS}", "load.starts"),
        ("[row]", "[row", "row.toml"),
    ],
)  # fmt: skip
def test_mistakes_are_named(folder, old, new, message):
    assert old in FILE
    (folder / "row.toml").write_text(FILE.replace(old, new, 1))
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        load_scenario(folder / "row.toml")


def test_the_example_shows_every_key_of_the_planner():
    example = resources.files("nonet.power.planning") / "examples" / "plan.toml"
    text = example.read_text("utf-8")
    with resources.as_file(example) as path:
        found = load_scenario(path, days=0.01)
        assert (found.row.num_servers, found.row.num_low, found.slo, found.days) == (40, 20, Slo(), 0.01)
        grown, load = found.grown(0.3, seed=1)
        assert grown.num_servers == 52 and len(load) > 1000
    shown = set(re.findall(r"^#? ?(\w+) = ", text, re.M))
    for section, but in ((ServingSection, {"prefill_share"}), (LoadSection, {"spread_s"}), (PlanSection, set())):
        assert set(section.model_fields) - but <= shown
    assert set(Slo.model_fields) <= shown


def test_an_unknown_log_says_how_columns_are_named(folder):
    (folder / "own.csv").write_text("when,in,out\n0,100,10\n9,100,10\n")
    with pytest.raises(InputError, match=r'columns = \{ time = "a".*found when, in, out'):
        load_scenario(folder / "row.toml", load=folder / "own.csv")
    named = FILE.replace(
        'file = "week.parquet"', 'file = "own.csv"\ncolumns = {time="when", prompt="in", output="out"}'
    )
    (folder / "row.toml").write_text(named)
    assert len(load_scenario(folder / "row.toml").make_load(0.0, 1)) == 2


def test_no_file():
    with pytest.raises(InputError, match="no such file"):
        load_scenario("nowhere.toml")


def test_the_base_row_as_a_scenario():
    found = base_scenario("polca-base", days=0.02, policies=("polca", "no-cap"), slo=["lp:4,40"])
    assert found.row.num_servers == 40 and found.slo.lp_p50 == 0.04 and found.days == 0.02
    assert found.make_load(0.0, 3).duration_s <= 0.02 * 86_400
