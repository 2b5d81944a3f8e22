"""Labels: which actions make a row positive, how long it waits for them, and what a late one does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.joining.sampling import ConstantRate, Sampling
from nonet.recsys.logs.log import checked_name

Number = TypeVar("Number", float, NDArray[np.float32], NDArray[np.float64])

LATE = ("drop", "correction", "fake_negative")


@dataclass(frozen=True)
class Label:
    """One label; each has its own topic of examples.

    An action counts if its event time is at most `wait_ms` after the row was shown; one that claims to be earlier than
    the row counts, too (clocks differ). A late one is up to `late_ms` later than that, or it came when the row's
    example was out.

    Args:
        name: of the label.
        wait_ms: the row's example goes out when event time has passed so much, with what has come until then.
        actions: kinds that make it positive; by default the label's name.
        late: what a late positive does. "drop": it is counted. "correction": a positive goes out with `is_correction`
            after the negative. "fake_negative": every row goes out as a negative at once and each positive, up to
            `wait_ms + late_ms`, as a correction; `fake_negative_weights` makes up for it in the loss.
        late_ms: how much longer than `wait_ms` a row is remembered.
        correction_weight: weight of a correction.
        sampling: which negatives are kept.
        topic: where examples go.

    Raises:
        InputError: times below 0, an unknown policy, or a weight that is not above 0.

    >>> Label("click", wait_ms=600_000).actions
    ('click',)
    """

    name: str = "click"
    wait_ms: int = 600_000
    actions: tuple[str, ...] = ()
    late: str = "drop"
    late_ms: int = 0
    correction_weight: float = 1.0
    sampling: Sampling = field(default_factory=ConstantRate)
    topic: str = "examples"

    def __post_init__(self) -> None:
        if not self.actions:
            object.__setattr__(self, "actions", (self.name,))
        if self.wait_ms < 0 or self.late_ms < 0:
            raise InputError(f"label {self.name}: wait_ms {self.wait_ms} and late_ms {self.late_ms} are not negative")
        if self.late not in LATE:
            raise InputError(
                f"label {self.name}: unknown policy {self.late!r} for late positives (known: {', '.join(LATE)})"
            )
        if not 0 < self.correction_weight < float("inf"):
            raise InputError(f"label {self.name}: correction_weight {self.correction_weight} is not above 0")
        checked_name(self.topic)

    @property
    def horizon_ms(self) -> int:
        """How long after it was shown a row is remembered."""
        return self.wait_ms + self.late_ms


def fake_negative_weights(label: Number, predicted: Number) -> Number:
    """Weights of the loss under the policy "fake_negative" (importance sampling; Ktena et al., RecSys 2019).

    Every row is seen as a negative and positives once more, so a row is seen positive with b = p / (1 + p), negative
    with 1 / (1 + p). The weights p / b = 1 + p and (1 - p)(1 + p) give the loss under the true p back.

    Args:
        label: 0 or 1, [n].
        predicted: p, the model's probability, [n]; no gradient flows through it.

    Returns:
        [n].

    >>> float(fake_negative_weights(1.0, 0.2)), float(fake_negative_weights(0.0, 0.2))
    (1.2, 0.96)
    """
    return label * (1 + predicted) + (1 - label) * (1 - predicted) * (1 + predicted)
