"""`fit`, `simulate`, `plan` and `sweep` as typed: what is printed, what is refused."""

import json

import pytest
from typer.testing import CliRunner

from nonet.common.errors import InputError
from nonet.power.cli import app
from nonet.power.load.fit import FitSpace
from nonet.power.profiles import PROFILES


def typed(*arguments):
    """Standard output of a command that ends well, or exit code 1."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_fit_takes_its_defaults_and_any_shipped_profile(tmp_path):
    for more in ([], ["--profile", "a100-bloom-176b-tp8"]):
        out = tmp_path / "base.json"
        typed("fit", "--servers", 4, "--days", 0.01, *more, "-o", out, "-q")
        written = json.loads(out.read_text())
        profile = PROFILES[written["profile"]]
        assert written["instances_per_server"] * profile.tensor_parallel == profile.server.num_gpus


def test_the_fit_of_another_row_has_traffic_for_its_instances():
    half = FitSpace.of_row("a100-llama2-70b-tp4", 20)
    assert half.requests_per_s == tuple(rate / 2 for rate in FitSpace().requests_per_s)
    assert FitSpace.of_row("h100-llama3.1-8b-tp1").requests_per_s[0] > 10 * FitSpace().requests_per_s[0]
    with pytest.raises(InputError, match="nope"):
        FitSpace.of_row("nope")
