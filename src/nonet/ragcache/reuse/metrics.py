"""The published measures of how well a stored variant fits new neighbours (Cache-Craft, section on reusability).

Chunks before a chunk are told by their keys. The system segment is left out everywhere: it draws a third of all
attention whatever stands in it, and would hide what the chunks do to each other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nonet.ragcache.store.variant import VariantMeta

Rule = Literal["published", "symmetric"]
# Beyond it the logistic function is 1 in floating point.
_MAX_RATIO = 30.0


@dataclass(frozen=True, slots=True)
class Overlap:
    """How a variant fits.

    Args:
        beta: share of its attention onto earlier chunks that went to chunks which stand before it now, too (eq. 6).
        gamma: disorder of the common chunks, 0 for the same order, 1 for the reverse (eq. 7).
        beta_prime: beta * (1 - gamma) (eq. 8), after the rules for empty prefixes and other system segments, and after
            the chosen overlap.
        symmetric: the published beta_prime times the share of the tokens before it now that stood before it then, too;
            new neighbours, of which beta knows nothing, count against it.
        cci: cache context impact of the variant (eq. 11).
        cfo: share of its rows to compute anew (eq. 12).
        known: False where beta is 0/0 (nothing stood before it, or nothing within its window) and a rule of ours stands
            in its place; its tau ranks nothing then.
    """

    beta: float
    gamma: float
    beta_prime: float
    symmetric: float
    cci: float
    cfo: float
    known: bool


def attention_means(
    inter_by_layer: NDArray[np.float64], intra_by_layer: NDArray[np.float64], lengths: Sequence[int], num_tokens: int
) -> tuple[float, float]:
    """a-bar and b-bar of a chunk (eq. 9 and 10).

    Args:
        inter_by_layer: [layers, chunks before it], attention of its rows onto each of them.
        intra_by_layer: [layers], attention of its rows onto itself.
        lengths: tokens of the chunks before it.
        num_tokens: its own.

    Returns:
        Mean over layers of attention onto earlier chunks, each over its number of pairs, and of that within the chunk.
    """
    if num_tokens == 0:
        return 0.0, 0.0
    pairs = num_tokens * np.maximum(np.asarray(lengths, np.float64), 1)
    a = (inter_by_layer / pairs).sum(1).mean() if len(pairs) else 0.0
    return float(a), float(intra_by_layer.mean() / num_tokens**2)


def cache_context_impact(a_mean: float, b_mean: float) -> float:
    """CCI = 1 / (1 + exp(-a/b)) (eq. 11); within [0.5, 1), since neither can be negative.

    >>> cache_context_impact(0.0, 0.3), round(cache_context_impact(0.2, 0.3), 3)
    (0.5, 0.661)
    """
    if b_mean <= 0:
        return 0.5
    return 1 / (1 + math.exp(-min(a_mean / b_mean, _MAX_RATIO)))


def prefix_overlap(old: Sequence[str], weights: Sequence[float], new: Collection[str]) -> float:
    """beta (eq. 6): the share of attention that went to chunks which are there again.

    Args:
        old: chunks before it when it was computed.
        weights: attention onto each of them, summed over layers.
        new: chunks before it now.

    >>> prefix_overlap(["A", "B"], [3.0, 1.0], ["B", "X"])
    0.25
    """
    there = set(new)
    total = sum(weights)
    if total <= 0:
        # Chunks outside every window get no attention at all; their share is then by number.
        return sum(key in there for key in old) / len(old) if old else 0.0
    return sum(weight for key, weight in zip(old, weights, strict=True) if key in there) / total


def order_penalty(old: Sequence[str], new: Collection[str]) -> float:
    """gamma (eq. 7): discordant pairs of the common chunks over all their pairs; 0 for fewer than two.

    >>> order_penalty("ABC", "CBA"), order_penalty("ABC", "ACB"), order_penalty("AB", "XA")
    (1.0, 0.3333333333333333, 0.0)
    """
    places = {key: place for place, key in reversed(list(enumerate(new)))}
    common = [places[key] for key in dict.fromkeys(old) if key in places]
    pairs = len(common) * (len(common) - 1) // 2
    if pairs == 0:
        return 0.0
    discordant = sum(first > second for i, first in enumerate(common) for second in common[i + 1 :])
    return discordant / pairs


def overlap_of(
    variant: VariantMeta,
    system_key: str,
    new: Mapping[str, int],
    *,
    alpha: float,
    rule: Rule = "published",
) -> Overlap:
    """The measures of a variant under new neighbours.

    Rules where the formulas say nothing: computed with nothing before it and standing first again, it fits fully;
    standing behind others now, not at all (its beta is 0/0). Under another system segment it does not fit.

    Args:
        variant: what is stored.
        system_key: of the present system segment.
        new: keys of the chunks before it now, in order, each with its tokens.
        alpha: factor of the fix overhead.
        rule: "symmetric" also counts new neighbours that the variant never saw.

    Returns:
        All measures; cfo within [0, 1].
    """
    old = variant.prefix_keys
    beta = prefix_overlap(old, variant.inter_sums, new) if old else float(not new)
    gamma = order_penalty(old, new)
    fits = beta * (1 - gamma) if variant.system_key == system_key else 0.0
    there, total = set(old), sum(new.values())
    common = sum(size for key, size in new.items() if key in there)
    symmetric = fits * common / total if total else fits
    chosen = symmetric if rule == "symmetric" else fits
    cfo = min(1.0, max(0.0, alpha * variant.cci * (1 - chosen)))
    return Overlap(beta, gamma, chosen, symmetric, variant.cci, cfo, sum(variant.inter_sums) > 0)
