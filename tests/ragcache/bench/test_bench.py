"""Which experiments run, and on which of a user's questions."""

from pathlib import Path

import pytest

from nonet.common.errors import InputError
from nonet.ragcache import bench as room
from nonet.ragcache.bench.questions import Case, evaluation_of

FILE = Path("a file")


@pytest.mark.parametrize(
    ("given", "runs"),
    [
        ({}, []),
        ({"questions": FILE, "chunks": FILE}, ["quality"]),
        ({"arrivals": FILE}, ["trace_load"]),
        ({"arrivals": FILE, "questions": FILE, "chunks": FILE}, ["trace_load"]),
        ({"questions": FILE, "chunks": FILE, "only": ["load"]}, ["load"]),
    ],
)
def test_files_of_ones_own_run_the_experiment_that_they_are_for(monkeypatch, given, runs):
    monkeypatch.setattr(room, "run_experiments", lambda known, scale, only: list(only))
    assert room.bench("quick", **given) == runs


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_a_small_part_has_questions_with_three_chunks_or_with_as_many_as_there_are(most):
    texts = {f"c{n}": f"text {n}" for n in range(4)}
    cases = [Case(f"q{n}?", "", tuple(f"c{(n + k) % 4}" for k in range(min(most, 1 + n % 4)))) for n in range(12)]
    few, met = room._few(cases, texts, 8)
    assert {len(case.chunks) for case in few} == set(range(min(3, most), most + 1))
    assert {chunk for case in few for chunk in case.chunks} <= met.keys()


def test_questions_of_one_chunk_measure_nothing():
    cases = [Case(f"q{n}?", "", (f"c{n % 2}",)) for n in range(8)]
    with pytest.raises(InputError, match="give questions with two chunks or more"):
        evaluation_of("mine", cases, {"c0": "a", "c1": "b"}, num_warming=4, num_asked=2)
