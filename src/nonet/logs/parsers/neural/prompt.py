"""Tuning a masked language model on few labelled lines to predict one virtual word for every piece of a parameter.

Le, Zhang: "Log Parsing with Prompt-based Few-shot Learning" (LogPPT), ICSE 2023, sections III-B and III-C. The model
sees a line as it is; at a piece of a constant it must predict that piece, at a piece of a parameter the virtual word
`i-val`, whose vector starts as the mean of the words that the untuned model finds likeliest where parameters stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from nonet.logs.parsers.neural.labels import Span, overlaps, parameter_spans
from nonet.logs.parsers.neural.roberta import RobertaMaskedLM

_NO_TARGET = -100


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the model is tuned: AdamW, rate growing for `warmup_steps` and then falling to 0 in a line."""

    learning_rate: float = 5e-5
    steps: int = 200
    warmup_steps: int = 20
    batch_size: int = 8
    num_label_words: int = 8


@dataclass(frozen=True, slots=True)
class Window:
    """As much of a line as the model takes at once.

    Attributes:
        pieces: numbers of the word pieces.
        spans: where each piece stands in the line.
    """

    pieces: list[int]
    spans: list[Span]


class ParameterModel:
    """A masked language model that marks the parameters of a line.

    Args:
        model: the encoder; it is changed in place.
        tokenizer: of that encoder.
    """

    def __init__(self, model: RobertaMaskedLM, tokenizer: Tokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        special = (tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
        self._start, self._end = ([] if number is None else [number] for number in special)
        self._virtual_word = -1

    def windows(self, line: str) -> list[Window]:
        """The pieces of a line, in as many windows as the model's longest input asks for."""
        encoded = self._tokenizer.encode(line, add_special_tokens=False)
        size = self._model.config.max_tokens - len(self._start) - len(self._end)
        starts = range(0, len(encoded.ids), size)
        return [Window(encoded.ids[start : start + size], encoded.offsets[start : start + size]) for start in starts]

    def tune(self, training: Sequence[tuple[str, str]], tuning: Tuning) -> None:
        """Learn from labelled lines (templates must fit)."""
        examples = []
        for content, template in training:
            parameters = parameter_spans(content, template) or []
            examples += [
                (window, [overlaps(span, parameters) for span in window.spans]) for window in self.windows(content)
            ]
        self._model.eval()
        self._virtual_word = self._model.add_word(self._likely_vector(examples, tuning.num_label_words))
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=tuning.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_factor(step, tuning))
        self._model.train()
        for _, batch in zip(range(tuning.steps), _endless_batches(examples, tuning.batch_size), strict=False):
            inputs = self._padded([window for window, _ in batch])
            targets = self._targets(inputs, [variable for _, variable in batch])
            optimizer.zero_grad()
            scores = self._model(inputs)
            functional.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=_NO_TARGET).backward()
            optimizer.step()
            schedule.step()
        self._model.eval()

    @torch.no_grad()
    def parameters(self, lines: Sequence[str], batch_size: int = 64) -> list[list[Span]]:
        """The stretches of every line whose pieces are predicted to be parameters, ascending."""
        windows = [(line, window) for line, text in enumerate(lines) for window in self.windows(text)]
        order = sorted(range(len(windows)), key=lambda number: len(windows[number][1].pieces))
        spans: list[list[Span]] = [[] for _ in lines]
        for start in range(0, len(order), batch_size):
            batch = [windows[number] for number in order[start : start + batch_size]]
            predicted = self._model(self._padded([window for _, window in batch])).argmax(2)
            is_parameter = (predicted == self._virtual_word)[:, len(self._start) :].tolist()
            for (line, window), flags in zip(batch, is_parameter, strict=True):
                spans[line] += [
                    span for span, flag in zip(window.spans, flags, strict=False) if flag and span[0] < span[1]
                ]
        return [sorted(found) for found in spans]

    def _padded(self, windows: Sequence[Window]) -> Tensor:
        """Windows between start and end token, padded to one length."""
        rows = [[*self._start, *window.pieces, *self._end] for window in windows]
        inputs = torch.full((len(rows), max(map(len, rows))), self._model.config.pad_token_id)
        for row, pieces in enumerate(rows):
            inputs[row, : len(pieces)] = torch.tensor(pieces)
        return inputs

    def _targets(self, inputs: Tensor, variable: Sequence[Sequence[bool]]) -> Tensor:
        """What to predict at every place: the piece itself, or the virtual word; nothing outside of the pieces."""
        targets = torch.full_like(inputs, _NO_TARGET)
        first = len(self._start)
        for row, flags in enumerate(variable):
            places = slice(first, first + len(flags))
            targets[row, places] = inputs[row, places].masked_fill(
                torch.tensor(flags, dtype=torch.bool), self._virtual_word
            )
        return targets

    @torch.no_grad()
    def _likely_vector(self, examples: Sequence[tuple[Window, list[bool]]], num_words: int) -> Tensor:
        """Mean vector of the words that are likeliest, on average, in the places of parameters."""
        likelihood = torch.zeros(len(self._model.word_vectors))
        for window, flags in examples:
            if any(flags):
                scores = self._model(self._padded([window]))[0, len(self._start) : len(self._start) + len(flags)]
                likelihood += scores.softmax(1)[torch.tensor(flags)].sum(0)
        best = likelihood.topk(min(num_words, len(likelihood))).indices
        return self._model.word_vectors[best].mean(0)


def _rate_factor(step: int, tuning: Tuning) -> float:
    """Share of the learning rate: a line up over the warm-up, a line down to 0 at the end."""
    if step < tuning.warmup_steps:
        return step / tuning.warmup_steps
    return max(0.0, (tuning.steps - step) / max(1, tuning.steps - tuning.warmup_steps))


def _endless_batches(
    examples: Sequence[tuple[Window, list[bool]]], size: int
) -> Iterator[list[tuple[Window, list[bool]]]]:
    while True:
        order = torch.randperm(len(examples)).tolist()
        for start in range(0, len(order), size):
            yield [examples[index] for index in order[start : start + size]]
