"""The miner in the form of the reference parsers, for evaluations and comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nonet.logs.mining.miner import Line, Miner, join_lines
from nonet.logs.parsers.base import Parsed


def parse_contents(contents: Sequence[Line], **options: Any) -> Parsed:
    """Templates of `contents` in the form of the reference parsers; `options` go to `Miner`."""
    miner = Miner(**options)
    lines = miner.spans(*join_lines(contents))
    entries = miner.learn(lines)
    labeller = miner.labeller()
    if miner.num_evicted_lines:  # some were forgotten, and perhaps learned again later
        entries = labeller.shapes.label(lines).entries
    programs = labeller.programs(entries)
    used, labels = np.unique(labeller.settled.text_of_program[programs], return_inverse=True)
    return Parsed(labels.astype(np.int32), [labeller.settled.texts[i] for i in used])
