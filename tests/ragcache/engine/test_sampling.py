"""Sampling: the likeliest token, or draws from the likeliest ones."""

import torch

from nonet.ragcache.engine.sampling import Sampler

LOGITS = torch.log(torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]))


def drawn(num=4000, **settings):
    sampler = Sampler(seed=1, **settings)
    return torch.bincount(torch.tensor([sampler.sample(LOGITS) for _ in range(num)]), minlength=5) / num


def test_temperature_zero_takes_the_likeliest():
    assert drawn(10).tolist() == [1.0, 0, 0, 0, 0]


def test_draws_follow_the_probabilities():
    assert (drawn(temperature=1.0) - LOGITS.exp()).abs().max() < 0.03
    squared = LOGITS.exp() ** 2
    assert (drawn(temperature=0.5) - squared / squared.sum()).abs().max() < 0.03


def test_top_p_keeps_the_token_that_passes_the_bound_and_no_other():
    shares = drawn(temperature=1.0, top_p=0.65)
    assert shares[2:].sum() == 0 and abs(shares[0] - 0.5 / 0.7) < 0.03
    assert drawn(50, temperature=1.0, top_p=1e-9)[0] == 1


def test_a_seed_gives_the_same_draws_and_none_does_not():
    def draws(seed):
        sampler = Sampler(1.0, 1.0, seed)
        return [sampler.sample(LOGITS) for _ in range(60)]

    assert draws(3) == draws(3)
    assert draws(None) != draws(None)
