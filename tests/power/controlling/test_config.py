"""Row files: what is refused, and how it is said."""

from __future__ import annotations

from importlib import resources

import pytest

from nonet.common.errors import InputError
from nonet.common.settings import load_settings
from nonet.power.controlling.actuators import ACTUATORS
from nonet.power.controlling.config import allowed, expand, load_row_file
from nonet.power.controlling.telemetry import TELEMETRY
from nonet.power.planning.scenario import load_scenario
from nonet.power.profiles import PROFILES

GOOD = """
[row]
budget_w = 203000.0
[[servers]]
names = "node[01-03]"
priority = "low"
[[servers]]
names = "node04"
priority = "high"
[telemetry]
source = "file"
path = "power.csv"
"""


def load(tmp_path, text):
    path = tmp_path / "row.toml"
    path.write_text(text)
    return load_row_file(path)


def test_a_small_file_is_enough_and_its_defaults_are_the_safe_ones(tmp_path):
    row = load(tmp_path, GOOD)
    assert [server.name for server in row.server_list()] == ["node01", "node02", "node03", "node04"]
    assert (row.control.allow, row.control.on_exit, row.control.on_crash, row.control.at_start) == (
        [],
        "keep",
        "keep",
        "adopt",
    )
    assert (row.row.backend, row.metrics.host, row.metrics.port) == ("dry", "127.0.0.1", None)
    assert row.control.journal.parent == tmp_path
    assert row.telemetry_config().path == tmp_path / "power.csv"
    ledger = row.ledger_config(one_lever=True)
    assert (ledger.cap_timeout_s, ledger.brake_timeout_s, ledger.stale_after_s) == (44.0, 7.0, 6.0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("budget_w = 203000.0", "budget_w = 0", "row.budget_w: input should be greater than 0"),
        ("budget_w = 203000.0", "budget_w = nan", "row.budget_w"),
        ("budget_w = 203000.0", "budget_kw = 203", "row.budget_kw: unknown key"),
        ('names = "node04"', 'names = "node02"', "server node02 is named twice"),
        ('names = "node04"', 'names = "node[4-2]"', "the range must go up"),
        ('priority = "high"', 'priority = "medium"', "servers.1.priority"),
        ('source = "file"', 'source = "fiel"', "did you mean 'file'"),
        ('source = "file"', "", "needs source"),
        ('path = "power.csv"', 'path = "p"\ncolumn = "x"', "telemetry: column: unknown key"),
        ("[row]", "[plans]\nseeds = 3\n[row]", "plans: unknown key"),
        (
            'names = "node04"',
            'names = "node[04-05]"\nbackend = "zeusd"\naddress = "http://node04:4938"',
            "servers node04 and node05 have one address, http://node04:4938",
        ),
        ("[row]", '[row]\nbackend = "nvmll"', "did you mean 'nvml'"),
        ("[row]", "[actuators.nvml]\nleverr = 1\n[row]", "actuators.nvml: leverr: unknown key"),
        ("[row]", "[ledger]\ncap_attempts = 0\n[row]", "ledger: cap_attempts"),
        ("[row]", "[row", "row.toml"),
        ('names = "node04"', 'names = "node04"\noptions = {gpus = [0]}', "servers node04: options: gpus: unknown key"),
    ],
)
def test_mistakes_are_named(tmp_path, old, new, said):
    with pytest.raises(InputError) as error:
        load(tmp_path, GOOD.replace(old, new))
    assert said in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_row_file(tmp_path / "row.toml")


def test_budget_steps_hold_from_their_moment_on(tmp_path):
    steps = (
        "budget_steps = [{since = 2026-01-02T00:00:00Z, budget_w = 100}, {since = 2026-01-01T00:00:00Z, budget_w = 50}]"
    )
    row = load(tmp_path, GOOD.replace("budget_w = 203000.0", f"budget_w = 203000.0\n{steps}"))
    day = 86400.0
    first = 1767225600.0
    assert [row.budget_w_at(t) for t in (first - 1, first, first + day - 1, first + day)] == [
        203000.0,
        50.0,
        50.0,
        100.0,
    ]


def test_the_allow_list(tmp_path):
    servers = load(tmp_path, GOOD).server_list()
    assert allowed(servers, ["node[01-02]"]) == {0, 1}
    assert allowed(servers, ["node0?"]) == {0, 1, 2, 3}
    with pytest.raises(InputError):
        allowed(servers, ["node0[34]"])  # a set of characters in a shell, half a range here: not guessed at
    assert allowed(servers, ["*"]) == {0, 1, 2, 3}
    with pytest.raises(InputError, match="'node9' names no server"):
        allowed(servers, ["node01", "node9"])


def test_one_machine_may_be_several_servers_by_their_options(tmp_path):
    group = '[[servers]]\nnames = "node1{0}"\npriority = "low"\nbackend = "zeusd"\naddress = "/run/z"\n'
    text = GOOD + group.format(0) + "options = {gpus = [0]}\n" + group.format(1) + "options = {gpus = [1]}\n"
    assert len(load(tmp_path, text).server_list()) == 6
    with pytest.raises(InputError, match="have one address"):
        load(tmp_path, text.replace("[1]", "[0]"))


def test_one_file_serves_the_planner_and_the_daemon(tmp_path):
    text = GOOD + '[serving]\nprofile = "a100-bloom-176b-tp8"\n[load.week]\nrequests_per_s = 1.0\n[plan]\nseeds = 2\n'
    row = load(tmp_path, text.replace("budget_w = 203000.0", "budget_w = 20000.0"))
    assert len(row.server_list()) == load_scenario(tmp_path / "row.toml").row.num_servers == 4


def test_ranges():
    assert expand("n[9-11]-bmc") == ["n9-bmc", "n10-bmc", "n11-bmc"]
    for wrong in ("", "n[1-2", "n[2-1]", "n[1-9999999]", "n[a-b]"):
        with pytest.raises(InputError):
            expand(wrong)


def test_the_example_is_a_row_file():
    row = load_row_file(resources.files("nonet.power.controlling") / "examples" / "row.toml")
    servers = row.server_list()
    assert (len(servers), servers[51].address) == (52, "http://node52:4938")
    assert len(allowed(servers, row.control.allow)) == 52
    assert row.make_policy().name == "polca"
    assert row.make_scale().server_limit_w(1.0) == pytest.approx(450 + 1.64 * 8 * 400)


def test_a_policy_file_beside_the_row_file_or_a_preset(tmp_path):
    (tmp_path / "own.toml").write_text('policy = "polca"\nt2 = 0.85\n')
    row = load(tmp_path, GOOD + '[policy]\nfile = "own.toml"\n')
    assert row.make_policy().config.t2 == 0.85
    assert load(tmp_path, GOOD + '[policy]\nfile = "polca.toml"\n').make_policy().config.t2 == 0.89
    with pytest.raises(InputError, match="t1"):
        load(tmp_path, GOOD + '[policy]\nname = "polca"\nt1 = 0.95\n')


def test_a_profile_gives_the_scale(tmp_path):
    profile = PROFILES["a100-bloom-176b-tp8"]
    scale = load(tmp_path, GOOD + '[scale]\nprofile = "a100-bloom-176b-tp8"\n').make_scale()
    assert scale.max_clock_mhz == profile.max_clock_mhz
    assert scale.limit_w(0.8) == profile.power_limit_w(0.8)
    assert scale.gpus_per_server == profile.server.num_gpus


def test_the_command_line_lets_the_variables_with_passwords_pass():
    sections = [kinds[name].config for kinds in (ACTUATORS, TELEMETRY) for name in kinds]
    variables = [
        str(field.default)
        for section in sections
        for name, field in section.model_fields.items()
        if name.endswith("_env") and field.default
    ]
    assert len(variables) >= 6
    load_settings(environment=dict.fromkeys(variables, "secret"))
