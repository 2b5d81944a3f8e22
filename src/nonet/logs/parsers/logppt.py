"""LogPPT: a masked language model tuned on 32 labelled lines marks the parameters of a line.

Le, Zhang: "Log Parsing with Prompt-based Few-shot Learning", ICSE 2023 (see `neural/prompt.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker
from nonet.logs.parsers.neural.extra import require_neural
from nonet.logs.parsers.neural.labels import checked_training, collapse_blanks, with_wildcards
from nonet.logs.parsers.neural.sampling import adaptive_random_sample

if TYPE_CHECKING:
    from nonet.logs.parsers.neural.prompt import ParameterModel


@PARSERS.register("LogPPT")
class LogPPT(Parser):
    """LogPPT; needs the extra `logs-neural`, labelled lines and an encoder of the RoBERTa family.

    Of the labelled lines, `shots` are chosen by adaptive random sampling. Pieces of words that are predicted to be
    parameters become wildcards, neighbouring ones (also one blank apart) one wildcard.

    Mode "compat": a word of which a piece is a parameter is a wildcard as a whole.
    Mode "fixed": wildcards are as fine as the pieces, so `uid=<*>` is possible.

    Tuning runs in the first `parse`; the same seed, data and number of threads give the same templates. The published
    rows used the weights of roberta-base, which do not ship with this package.

    Args:
        training: labelled lines (content, template).
        encoder: folder with `config.json`, `model.safetensors` and `tokenizer.json` (or `vocab.json` and `merges.txt`).
        shots: how many labelled lines to learn from, at least 1.
        steps: of tuning, at least 1; the first tenth warms up.
        learning_rate: largest rate, above 0.
        mode: see above.
        masks: see `Parser`; the published rows used none.
        seed: of sampling, order of lines and dropout.

    Raises:
        InputError: labelled lines or encoder are missing or unusable.
        MissingExtraError: torch, safetensors or tokenizers is not installed.
    """

    def __init__(
        self,
        *,
        training: Sequence[tuple[str, str]] = (),
        encoder: str | Path | None = None,
        shots: int = 32,
        steps: int = 200,
        learning_rate: float = 5e-5,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        self.training = checked_training("LogPPT", training)
        if encoder is None:
            raise InputError(
                "LogPPT: no encoder; give --set LogPPT.encoder=PATH, or in Python encoder=PATH,"
                " the folder of a RoBERTa model (config.json, model.safetensors)"
            )
        if shots < 1 or steps < 1:
            raise InputError(f"LogPPT: shots and steps are at least 1, not {shots} and {steps}")
        if not learning_rate > 0:
            raise InputError(f"LogPPT: learning_rate is above 0, not {learning_rate}")
        require_neural("LogPPT")
        self.encoder = Path(encoder)
        self.shots = shots
        self.steps = steps
        self.learning_rate = learning_rate
        self._model: ParameterModel | None = None

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Mark the parameters of every distinct line."""
        if self._model is None:
            self._model = self._tuned()
        masked = Masker(self.masks).distinct(contents)
        lines = [_encodable(collapse_blanks(text)) for text in masked.texts]
        parameters = self._model.parameters(lines)
        if self.mode == "compat":
            parameters = [_whole_words(line, spans) for line, spans in zip(lines, parameters, strict=True)]
        templates = [with_wildcards(line, spans) for line, spans in zip(lines, parameters, strict=True)]
        return Parsed.from_groups(masked.index_of_line, templates)

    def _tuned(self) -> ParameterModel:
        import torch

        from nonet.logs.parsers.neural.prompt import ParameterModel, Tuning
        from nonet.logs.parsers.neural.roberta import load_encoder, load_tokenizer

        rng = np.random.default_rng(self.seed)
        chosen = adaptive_random_sample([content for content, _ in self.training], self.shots, rng=rng)
        model = ParameterModel(load_encoder(self.encoder), load_tokenizer(self.encoder))
        tuning = Tuning(learning_rate=self.learning_rate, steps=self.steps, warmup_steps=self.steps // 10)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(self.seed)
            model.tune([self.training[index] for index in chosen], tuning)
        return model


def _encodable(text: str) -> str:
    """The text with bytes that are no UTF-8 (lone surrogates) as replacement characters, as the tokenizer needs it."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _whole_words(line: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans grown to the blanks around them, each word once."""
    grown: dict[tuple[int, int], None] = {}
    for start, end in spans:
        until = line.find(" ", end)
        grown[line.rfind(" ", 0, start + 1) + 1, until if until >= 0 else len(line)] = None
    return list(grown)
