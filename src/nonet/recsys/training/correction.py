"""Log-odds correction of negative sampling, once: in training or in serving, never in both.

Keeping a negative with probability r multiplies the odds by 1/r, so logit_true = logit_sampled + ln r. Corrected in
training, the loss is taken of f(x) - ln r, and f itself is unbiased. Corrected in serving, f is trained on the sampled
rows as they are and p becomes p / (p + (1 - p) / r). One object with one stage does both and travels with the model,
so that there is no way to correct twice: in the other stage it changes nothing.

The r of a row is the rate at which negatives *with its features* are kept. A positive has it, too, as the joiner
writes it: r = 1 for positives and r < 1 for negatives would be no shift of the log-odds at all. Where another log
records 1 for positives, take the stage "weights": each negative counts 1 / r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nonet.common.errors import InputError
from nonet.recsys.example import ExampleBatch, Floats

Stage = Literal["none", "training", "weights", "serving"]
STAGES: tuple[Stage, ...] = ("none", "training", "weights", "serving")
_ENOUGH = 64


@dataclass(frozen=True, slots=True)
class LogOdds:
    """Where negative sampling is corrected.

    Args:
        stage: "training" (shift of the logits in the loss), "weights" (1 / r as a weight of the loss), "serving"
            (shift of the answer), or "none".
        rate: the r of every row; None takes `sample_rate` of the batch.

    Raises:
        InputError: an unknown stage, or a rate outside of (0, 1].

    >>> once = LogOdds("serving", rate=0.1)
    >>> once.shift(np.ones(1, np.float32)).tolist(), round(float(once.served(np.float32([0.5]), np.ones(1))[0]), 4)
    ([0.0], 0.0909)
    """

    stage: Stage = "none"
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise InputError(f"unknown stage {self.stage!r} of the log-odds correction; known: {', '.join(STAGES)}")
        if self.rate is not None and not 0 < self.rate <= 1:
            raise InputError(f"a sampling rate lies in (0, 1], got {self.rate}")

    def shift(self, sample_rate: Floats) -> Floats:
        """What is added to the logits in the loss: -ln r in the stage "training", else 0."""
        if self.stage != "training":
            return np.zeros(len(sample_rate), np.float32)
        return -np.log(self._rates(sample_rate))

    def loss_weight(self, batch: ExampleBatch) -> Floats:
        """The weights of the loss: those of negatives divided by their rate in the stage "weights"."""
        if self.stage != "weights":
            return batch.weight
        return np.where(batch.label > 0.5, batch.weight, batch.weight / batch.sample_rate)

    def served(self, probability: Floats, sample_rate: Floats) -> Floats:
        """The probability to answer with: p / (p + (1 - p) / r) in the stage "serving", else p."""
        if self.stage != "serving":
            return probability
        odds = (1 - probability) / self._rates(sample_rate)
        return np.asarray(probability / (probability + odds), np.float32)

    def _rates(self, sample_rate: Floats) -> Floats:
        if self.rate is None:
            return np.asarray(sample_rate, np.float32)
        return np.full(len(sample_rate), self.rate, np.float32)


UNCORRECTED = LogOdds()
"""No negative is sampled, or nobody minds."""


class RateGuard:
    """Notices a log that records r = 1 for positives, on which a shift would be wrong.

    When every negative so far was sampled, the features of the positives were sampled, too; if all of those say 1,
    their rates are not those of their features.
    """

    def __init__(self, correction: LogOdds) -> None:
        self._watches = correction.stage in ("training", "serving") and correction.rate is None
        self._negatives = self._positives = 0

    def check(self, label: Floats, sample_rate: Floats) -> None:
        """Look at the rows of a batch.

        Raises:
            InputError: at least 64 negatives, all sampled, and at least 64 positives, none of them sampled.
        """
        if not self._watches:
            return
        positive, whole = label > 0.5, sample_rate >= 1
        if (whole & ~positive).any() or (~whole & positive).any():
            self._watches = False
            return
        self._positives += int(positive.sum())
        self._negatives += int((~positive).sum())
        if min(self._positives, self._negatives) >= _ENOUGH:
            raise InputError(
                "every negative is sampled (sample_rate < 1) and every positive has sample_rate 1, so the rates cannot "
                'shift the log-odds; use the stage "weights", give one rate, or record the rate of the features'
            )
