"""Prefill time and power over tokens and batch, fitted to measured cells, and its errors on cells it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nonet.common.errors import InputError
from nonet.power.profiles.tables import PrefillTable

_SMOOTH = 1e-2


@dataclass(frozen=True, slots=True)
class Cell:
    """One measured combination of prompt length and batch.

    Attributes:
        prompt_tokens: of each prompt.
        batch: how many prompts.
        seconds: of the prompt phase.
        watts: peak of each GPU in it; None when it was not measured.
    """

    prompt_tokens: int
    batch: int
    seconds: float
    watts: float | None = None

    @property
    def tokens(self) -> int:
        """Tokens of the whole batch."""
        return self.prompt_tokens * self.batch


def fit_prefill(cells: Sequence[Cell], default_watts: float | None = None) -> PrefillTable:
    """A table over tokens times factors over batch, least squares in the logarithm.

    log y(tokens, batch) = g(tokens) + f(batch), with g free at every measured number of tokens, f free at every
    measured batch and f(1) = 0. A weak pull towards straight lines (over log tokens, over log batch) decides where the
    cells do not. Power is flat below and above the tokens at which it was measured.

    Args:
        cells: at least two, of different tokens.
        default_watts: power when no cell has one.

    Raises:
        InputError: fewer than two distinct token counts, or no power and no default.
    """
    tokens = sorted({cell.tokens for cell in cells})
    if len(tokens) < 2:
        raise InputError("a prefill table needs cells of at least two different token counts; measure more prompts")
    batches = sorted({1, *(cell.batch for cell in cells)})
    seconds, seconds_factor = _additive(cells, [cell.seconds for cell in cells], tokens, batches)
    powered = [cell for cell in cells if cell.watts is not None]
    if powered:
        values = [float(cell.watts or 0.0) for cell in powered]
        lowest, highest = (limit(cell.tokens for cell in powered) for limit in (min, max))
        known_tokens = [t for t in tokens if lowest <= t <= highest]
        known_batches = sorted({1, *(cell.batch for cell in powered)})
        watts, watts_factor = _additive(powered, values, known_tokens, known_batches)
        num_below = sum(t < lowest for t in tokens)
        watts = [watts[0]] * num_below + watts
        watts += [watts[-1]] * (len(tokens) - len(watts))
        watts_factor += [watts_factor[-1]] * (len(batches) - len(known_batches))
    elif default_watts is not None:
        watts, watts_factor = [default_watts] * len(tokens), [1.0] * len(batches)
    else:
        raise InputError("no cell has a power; give measurements with power or a default")
    return PrefillTable(
        tokens=tuple(float(t) for t in tokens),
        seconds=tuple(seconds),
        watts=tuple(watts),
        batches=tuple(float(b) for b in batches),
        seconds_factor=tuple(seconds_factor),
        watts_factor=tuple(watts_factor),
        range_tokens=(float(tokens[0]), float(tokens[-1])),
    )


def _additive(
    cells: Sequence[Cell], values: Sequence[float], tokens: Sequence[int], batches: Sequence[int]
) -> tuple[list[float], list[float]]:
    num_g, num_f = len(tokens), len(batches)
    rows, right = [], []
    for cell, value in zip(cells, values, strict=True):
        row = np.zeros(num_g + num_f)
        row[tokens.index(cell.tokens)] = row[num_g + batches.index(cell.batch)] = 1.0
        rows.append(row)
        right.append(math.log(value))
    anchor = np.zeros(num_g + num_f)
    anchor[num_g] = 1e3  # f(1) = 0
    rows.append(anchor)
    for start, axis in ((0, tokens), (num_g, batches)):
        rows += _straight(start, axis, num_g + num_f)
    if num_f > 1:
        flat = np.zeros(num_g + num_f)
        flat[num_g + num_f - 1], flat[num_g + num_f - 2] = 0.1 * _SMOOTH, -0.1 * _SMOOTH
        rows.append(flat)
    right += [0.0] * (len(rows) - len(right))
    solution = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return np.exp(solution[:num_g]).tolist(), np.exp(solution[num_g:] - solution[num_g]).tolist()


def _straight(start: int, axis: Sequence[int], width: int) -> list[np.ndarray]:
    """Rows that ask for equal slopes over log2(axis) on both sides of every inner point."""
    rows = []
    for i in range(1, len(axis) - 1):
        left, right = math.log2(axis[i] / axis[i - 1]), math.log2(axis[i + 1] / axis[i])
        row = np.zeros(width)
        row[start + i - 1], row[start + i + 1] = _SMOOTH / left, _SMOOTH / right
        row[start + i] = -_SMOOTH / left - _SMOOTH / right
        rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class CellErrors:
    """Relative errors |model / measured - 1| of cells that were left out of the fit one at a time.

    Attributes:
        inside_seconds: of the times of cells between others.
        inside_watts: of their powers.
        edge_seconds: of the times of cells with the fewest or most tokens, where the rest extrapolates.
        edge_watts: of their powers.
    """

    inside_seconds: tuple[float, ...]
    inside_watts: tuple[float, ...]
    edge_seconds: tuple[float, ...]
    edge_watts: tuple[float, ...]


def leave_cells_out(
    cells: Sequence[Cell], predict: Callable[[PrefillTable, Cell], tuple[float, float]], default_watts: float
) -> CellErrors:
    """Refit without each cell in turn and compare; `predict` gives (seconds, watts) of a cell from a table."""
    errors: dict[tuple[bool, str], list[float]] = {}
    for cell in cells:
        rest = [other for other in cells if other is not cell]
        counts = [other.tokens for other in rest]
        if len(set(counts)) < 2:
            continue
        seconds, watts = predict(fit_prefill(rest, default_watts), cell)
        inside = min(counts) <= cell.tokens <= max(counts)
        errors.setdefault((inside, "s"), []).append(abs(seconds / cell.seconds - 1))
        powered = [other.tokens for other in rest if other.watts is not None]
        if cell.watts is not None and powered:
            inside = min(powered) <= cell.tokens <= max(powered)
            errors.setdefault((inside, "w"), []).append(abs(watts / cell.watts - 1))
    picked = [tuple(errors.get(key, ())) for key in ((True, "s"), (True, "w"), (False, "s"), (False, "w"))]
    return CellErrors(*picked)
