"""What calibration measures, on a toy."""

import itertools

import numpy as np
import pytest

from nonet.ragcache.bench.quality import Trialled, damages_of
from nonet.ragcache.bench.questions import Case, evaluation_of
from nonet.ragcache.models.toy import toy_model

TEXTS = {
    name: f"town {name} lies by river {n * 7} and trades in {n * 3} sorts of corn" for n, name in enumerate("abcd")
}
CASES = [Case(f"what of {order}?", "", order) for order in itertools.permutations(TEXTS, 3)]


@pytest.fixture
def trialled():
    evaluation = evaluation_of("towns", CASES, TEXTS, num_warming=8, num_asked=4)
    made = Trialled.prepare(evaluation, toy_model(), max_tokens=3, with_logits=True, store="ram:50MB")
    yield made
    made.close()


def test_a_guard_is_measured_at_the_alpha_that_is_asked_for(trialled):
    exposures, damages = zip(*(damages_of(trialled, "cachecraft", alpha) for alpha in (0.0, 0.5, 2.0)), strict=True)
    for none, some, all_of_it in (np.mean(exposures, 1), np.mean(damages, 1)):
        assert none > some > all_of_it
