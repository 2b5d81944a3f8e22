"""UniParser: a tagger that says of every token whether it is variable, learnt from labelled lines.

Liu, Zhang, Chen, He et al.: "UniParser: A Unified Log Parser for Heterogeneous Log Data", WWW 2022, in the form that
the Loghub-2.0 evaluation ran (see `neural/tagger.py`).
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
from nonet.logs.parsers.neural.labels import (
    checked_training,
    collapse_blanks,
    overlaps,
    parameter_spans,
    with_wildcards,
)

if TYPE_CHECKING:
    from nonet.logs.parsers.neural.tagger import Example, TokenTagger

_DIMENSION = 50
_COMPAT_SEED = 42


@PARSERS.register("UniParser")
class UniParser(Parser):
    """UniParser; needs the extra `logs-neural`, labelled lines and word vectors.

    A line is split at blanks; variable tokens become wildcards as a whole, neighbouring ones one wildcard, so a
    template is never finer than a token.

    Mode "compat": as published, 20 % of the labelled lines train, 20 % decide when to stop (drawn with seed 42), the
    others are not used; Adam with rate 0.1 and weight decay 0.01.
    Mode "fixed": 80 % of the labelled lines train and the rest decides, drawn with `seed`; rate 0.01, no weight decay.

    Training runs in the first `parse`; the same seed, data and number of threads give the same templates.

    Args:
        training: labelled lines (content, template); lines of the log to be parsed among them flatter the result.
        encoder: GloVe text file with vectors of 50 numbers.
        epochs: most passes over the training lines, at least 1.
        mode: see above.
        masks: see `Parser`; the published rows used none.
        seed: of initial weights, order of lines and dropout.

    Raises:
        InputError: labelled lines or word vectors are missing or unusable.
        MissingExtraError: torch is not installed.
    """

    templates_match_lines = True

    def __init__(
        self,
        *,
        training: Sequence[tuple[str, str]] = (),
        encoder: str | Path | None = None,
        epochs: int = 100,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        self.training = checked_training("UniParser", training)
        if encoder is None:
            raise InputError(
                "UniParser: no word vectors; give --set UniParser.encoder=PATH, or in Python encoder=PATH,"
                " of a GloVe text file (50 numbers a word)"
            )
        if epochs < 1:
            raise InputError(f"UniParser: epochs is at least 1, not {epochs}")
        require_neural("UniParser", ("torch",))
        self.encoder = Path(encoder)
        self.epochs = epochs
        self._tagger: TokenTagger | None = None

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Tag every distinct line."""
        if self._tagger is None:
            self._tagger = self._trained()
        masked = Masker(self.masks).distinct(contents)
        lines = [collapse_blanks(text) for text in masked.texts]
        tags = self._tagger.tag([line.split() for line in lines])
        templates = [_template(line, line_tags) for line, line_tags in zip(lines, tags, strict=True)]
        return Parsed.from_groups(masked.index_of_line, templates)

    def _trained(self) -> TokenTagger:
        import torch

        from nonet.logs.parsers.neural.glove import WordVectors
        from nonet.logs.parsers.neural.tagger import TokenTagger, Training, train_tagger

        compat = self.mode == "compat"
        examples, development = self._split([_example(content, template) for content, template in self.training])
        settings = (
            Training(epochs=self.epochs) if compat else Training(epochs=self.epochs, learning_rate=0.01, weight_decay=0)
        )
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(self.seed)
            tagger = TokenTagger(WordVectors.load(self.encoder, _DIMENSION))
            train_tagger(tagger, examples, development, settings)
        return tagger

    def _split(self, examples: list[Example]) -> tuple[list[Example], list[Example]]:
        """Training and development lines, neither empty; a single line serves as both."""
        compat = self.mode == "compat"
        order = np.random.default_rng(_COMPAT_SEED if compat else self.seed).permutation(len(examples)).tolist()
        num_development = max(1, len(order) // 5)
        development, rest = order[:num_development], order[num_development:] or order
        chosen = rest[:num_development] if compat else rest
        return [examples[index] for index in chosen], [examples[index] for index in development]


def _example(content: str, template: str) -> Example:
    """Tokens of a labelled line; a token is variable (1) if a character of a parameter is in it."""
    parameters = parameter_spans(content, template) or []
    tokens = content.split(" ")
    return tokens, [int(overlaps(span, parameters)) for span in _token_spans(tokens)]


def _token_spans(tokens: Sequence[str]) -> list[tuple[int, int]]:
    """Where tokens stand that are one blank apart."""
    ends = np.cumsum([len(token) + 1 for token in tokens]) - 1
    return [(int(end) - len(token), int(end)) for token, end in zip(tokens, ends, strict=True)]


def _template(line: str, tags: Sequence[int]) -> str:
    """The line with its variable tokens as wildcards."""
    spans = _token_spans(line.split()) if line else []
    return with_wildcards(line, [span for span, tag in zip(spans, tags, strict=True) if tag])
