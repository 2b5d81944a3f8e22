"""The trainer of the experiments: DeepFM over one table, Adagrad with learning rate 0.05 everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nonet.common.errors import InputError
from nonet.recsys.example import ExampleBatch
from nonet.recsys.training.correction import UNCORRECTED, LogOdds
from nonet.recsys.training.trainer import Trainer

TrainerFactory = Callable[[int], Trainer]
"""Makes a fresh trainer from a seed."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How an experiment trains.

    Args:
        model: of the registry.
        dim: of a feature's vector.
        hidden: widths of the hidden layers.
        learning_rate: of tables and dense weights.
        batch_rows: of a step.

    Raises:
        InputError: a size below 1.
    """

    model: str = "deepfm"
    dim: int = 8
    hidden: tuple[int, ...] = (32, 16)
    learning_rate: float = 0.05
    batch_rows: int = 256

    def __post_init__(self) -> None:
        if self.batch_rows < 1 or self.learning_rate <= 0:
            raise InputError(
                f"an experiment needs batch_rows >= 1 and learning_rate > 0: {self.batch_rows}, {self.learning_rate}"
            )

    def trainer(
        self, features: Sequence[str], num_dense: int = 0, seed: int = 0, correction: LogOdds = UNCORRECTED
    ) -> Trainer:
        """A fresh trainer; the same seed learns the same.

        Args:
            features: of the examples.
            num_dense: numbers of an example.
            seed: of table and model.
            correction: of negative sampling.
        """
        import torch

        from nonet.recsys.training.presets import preset_table

        table = preset_table(self.model, self.dim, learning_rate=self.learning_rate, seed=seed)
        return Trainer(
            self.model,
            table,
            features=features,
            num_dense=num_dense,
            hidden=self.hidden,
            optimizer=lambda weights: torch.optim.Adagrad(weights, lr=self.learning_rate, fused=True),
            correction=correction,
            seed=seed,
        )

    def learn(self, trainer: Trainer, data: ExampleBatch) -> None:
        """One pass over rows, in their order."""
        for start in range(0, len(data), self.batch_rows):
            trainer.step(data.take(slice(start, start + self.batch_rows)))


USUAL = Setup()
"""DeepFM with vectors of 8 in batches of 256."""
