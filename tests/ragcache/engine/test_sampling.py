"""Sampling: the likeliest token, or draws from the likeliest ones; transformers' own processors say which those are."""

import pytest
import torch
from transformers.generation import logits_process as theirs

from nonet.ragcache.engine.sampling import Penalties, Sampler

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


@pytest.mark.parametrize("temperature", [1e-310, 1e-3])
def test_a_temperature_next_to_zero_is_the_likeliest_and_no_fault(temperature):
    assert drawn(50, temperature=temperature)[0] == 1


def test_settings_that_together_leave_one_token():
    assert drawn(50, temperature=2.0, top_k=1)[0] == 1
    assert drawn(50, temperature=2.0, min_p=1.0)[0] == 1
    assert drawn(50, temperature=1.0, top_k=900, min_p=0.0).count_nonzero() == 5


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("top_k", [0, 2, 4])
@pytest.mark.parametrize("min_p", [0.0, 0.25, 0.35])
@pytest.mark.parametrize("top_p", [1.0, 0.75])
def test_draws_are_from_what_transformers_leaves_in_the_same_order(temperature, top_k, min_p, top_p):
    scores = theirs.TemperatureLogitsWarper(temperature)(None, LOGITS[None])
    scores = theirs.MinPLogitsWarper(min_p)(None, scores)
    scores = theirs.TopKLogitsWarper(top_k)(None, scores) if top_k else scores
    scores = theirs.TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
    expected = scores[0].softmax(-1)
    shares = drawn(3000, temperature=temperature, top_k=top_k, min_p=min_p, top_p=top_p)
    assert (shares > 0).tolist() == (expected > 0).tolist()
    assert (shares - expected).abs().max() < 0.04


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_the_repetition_penalty_is_transformers_own(penalty):
    generator = torch.Generator().manual_seed(0)
    prompt = [3, 5, 5, 7]
    sampler = Sampler(penalties=Penalties(repetition=penalty), prompt_ids=prompt)
    processor = theirs.RepetitionPenaltyLogitsProcessor(penalty)
    said = list(prompt)
    for _ in range(40):
        logits = torch.randn(12, generator=generator)
        kept = logits.clone()
        chosen = sampler.sample(logits)
        assert torch.equal(logits, kept)
        assert chosen == int(processor(torch.tensor([said]), logits[None].clone()).argmax())
        said.append(chosen)
    assert len(set(said)) > 5


def test_frequency_and_presence_count_the_answer_and_not_the_prompt():
    logits = torch.tensor([1.0, 0.35, 0.0])

    def taken(num, prompt=(), **penalties):
        sampler = Sampler(penalties=Penalties(**penalties), prompt_ids=prompt)
        return [sampler.sample(logits) for _ in range(num)]

    # 1.0, 0.75, 0.5 for token 0, then 0.25 is below 0.35 of token 1, whose next is 0.1; then 0.25, then 0 beats 0.1.
    assert taken(6, frequency=0.25) == [0, 0, 0, 1, 0, 1]
    # Once only: 0.3 then, below 0.35, which becomes -0.35; 0.3 stays ahead of 0.
    assert taken(5, prompt=[0, 0, 1], presence=0.7) == [0, 1, 0, 0, 0]
    assert taken(4, presence=-1.0) == [0, 0, 0, 0]


def test_end_tokens_wait_for_the_fewest_tokens_and_are_free_then():
    logits = torch.tensor([0.1, 5.0, 0.3, 4.0])
    sampler = Sampler(end_ids=[1, 3], min_tokens=3)
    assert [sampler.sample(logits) for _ in range(5)] == [2, 2, 2, 1, 1]
    hot = Sampler(2.0, seed=1, end_ids=[1, 3], min_tokens=200)
    assert {hot.sample(logits) for _ in range(200)} == {0, 2}
