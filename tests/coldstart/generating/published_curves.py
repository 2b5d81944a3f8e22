"""Distances to the digitised curves, written apart from the generator: straight over log10 x, ending at the frame."""

from __future__ import annotations

import csv
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

FOLDER = "coldstart/huawei2025_paper_digitised"


class Published:
    """All curves of `cdfs.csv`, by figure and group: lists of (log10 x, cdf)."""

    def __init__(self, mirror: Path) -> None:
        self.curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
        with (mirror / FOLDER / "cdfs.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                points = self.curves.setdefault((row["figure"], row["group"]), [])
                points.append((math.log10(float(row["x"])), float(row["cdf"])))

    def cdf(self, figure: str, group: str, x: float) -> float:
        """The published probability of at most x; x inside of the frame."""
        points = self.curves[figure, group]
        at = math.log10(x)
        right = min(max(bisect_left(points, (at, -1.0)), 1), len(points) - 1)
        (x0, y0), (x1, y1) = points[right - 1], points[right]
        return y1 if x1 == x0 else y0 + (y1 - y0) * min(max((at - x0) / (x1 - x0), 0.0), 1.0)

    def ks(self, figure: str, group: str, values_s: Sequence[float]) -> float:
        """Largest distance at the curve's vertices and at 300 of the values, inside of the frame."""
        points = self.curves[figure, group]
        ordered = sorted(values_s)
        low, high = 10 ** points[0][0], 10 ** points[-1][0]
        looked = [10**x for x, _ in points] + [v for v in ordered[:: max(len(ordered) // 300, 1)] if low < v < high]
        ours = [bisect_right(ordered, x * (1 + 1e-12)) / len(ordered) for x in looked]
        return max(abs(mine - self._at(figure, group, x)) for mine, x in zip(ours, looked, strict=True))

    def _at(self, figure: str, group: str, x: float) -> float:
        # At a vertical step, the upper end: probabilities are of at most x.
        points = self.curves[figure, group]
        at = math.log10(x)
        same = [y for px, y in points if abs(px - at) < 1e-12]
        return max(same) if same else self.cdf(figure, group, x)
