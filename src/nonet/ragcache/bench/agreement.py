"""How far an answer is from the model's own full recomputation, and from the gold answer.

A small model is often wrong, so gold scores alone hide damage; agreement with its own full run does not.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def kl_divergence(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean over steps of KL(reference || other).

    Args:
        reference: logits [steps, vocabulary] of the full run.
        other: logits of the run that is judged, along the same tokens.

    Returns:
        Nats.

    >>> kl_divergence(np.zeros((1, 2), np.float32), np.log(np.array([[0.25, 0.75]], np.float32))).__round__(4)
    0.1438
    """
    first, second = _log_softmax(reference), _log_softmax(other)
    return float((np.exp(first) * (first - second)).sum(1).mean())


def top_agreement(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Share of steps on which both runs find the same token likeliest."""
    return float((reference.argmax(1) == other.argmax(1)).mean())


def rouge_l(reference: str, answer: str) -> float:
    """ROUGE-L F1 of an answer against a reference text; two empty texts agree."""
    from rouge_score.rouge_scorer import RougeScorer

    if not reference.strip() and not answer.strip():
        return 1.0
    return float(RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure)


def token_f1(gold: str, answer: str) -> float:
    """SQuAD's F1 of words: lower case, without articles and punctuation.

    >>> token_f1("the Denver Broncos", "It was Denver.")
    0.4
    """
    first, second = _words(gold), _words(answer)
    common = sum(min(first.count(word), second.count(word)) for word in set(first))
    return 2 * common / (len(first) + len(second)) if common else float(first == second)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ratio of two means over the same questions.

    Args:
        value: mean of the first over mean of the second.
        low, high: its 95 % interval.
    """

    value: float
    low: float
    high: float


def paired_ratio(first: Sequence[float], second: Sequence[float], *, draws: int = 4000, seed: int = 0) -> Ratio:
    """Ratio of means with a paired bootstrap interval: questions are drawn, both values of each go along.

    Args:
        first: one value a question.
        second: of the same questions.
        draws: of the bootstrap.
        seed: of the draws.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    chosen = np.random.default_rng(seed).integers(0, len(a), (draws, len(a)))
    ratios = a[chosen].mean(1) / b[chosen].mean(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Ratio(float(a.mean() / b.mean()), float(low), float(high))


def _log_softmax(logits: NDArray[np.float32]) -> Floats:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _words(text: str) -> list[str]:
    plain = "".join(" " if char in string.punctuation else char for char in text.lower())
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()
