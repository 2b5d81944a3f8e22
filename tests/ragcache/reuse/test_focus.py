from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nonet.common.errors import InputError
from nonet.ragcache.engine.forward import Slice, forward
from nonet.ragcache.engine.observing import Observer
from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.engine.sequence import Sequence
from nonet.ragcache.reuse.focus import FocusSelector, focused
from nonet.ragcache.reuse.planner import Planner
from tests.ragcache.engine.dense import dense
from tests.ragcache.reuse.parts import Index, make_meta, make_prompt

PROMPT = make_prompt(("A", 10), ("B", 8), ("C", 6))
STORE = Index(make_meta("A", ("X",)), make_meta("C", ("X",), tokens=6))
LAYERS = 9


def plan_of(share=0.5):
    return Planner(STORE).plan(PROMPT, "cachecraft", share)


def walk(selector, shares, plan=None):
    """After each layer: the rows that are left, when the question looks at A, B, C with these shares."""
    plan = plan or plan_of()
    rows = torch.from_numpy(plan.active_rows)
    left = []
    for layer, share in enumerate(shares):
        sums = torch.zeros(LAYERS, 5, 5, dtype=torch.float64)
        sums[layer, 4, 1:4] = torch.tensor(share, dtype=torch.float64)
        keep = selector.after_layer(layer, rows, None, None, SimpleNamespace(sums=sums))
        rows = rows if keep is None else rows[keep]
        left.append(len(rows))
    return left, rows


def test_chunks_above_the_largest_gap():
    draws = np.random.default_rng(0)
    for _ in range(300):
        values = draws.random(int(draws.integers(2, 7))).round(1)
        order = np.sort(values)[::-1]
        gaps = order[:-1] - order[1:]
        expected = set(np.flatnonzero(values >= order[gaps.argmax()])) if gaps.max() > 0 else set(range(len(values)))
        assert focused(values.tolist()) == expected


def test_rows_out_of_focus_stop_after_patience_and_not_before_a_third():
    plan = plan_of()
    on_a = [(5.0, 1.0, 1.0)] * LAYERS
    all_rows, without_c = len(plan.active_rows), len(plan.active_rows) - len(plan.segments[3].rows)
    selector = FocusSelector(plan, LAYERS)
    left, rows = walk(selector, on_a)
    assert left == [all_rows] * 3 + [without_c] * 6
    assert set(plan.segments[2].rows) <= set(rows.tolist())
    assert selector.dropped == [(3, len(plan.segments[3].rows))]
    assert selector.num_saved == 5 * len(plan.segments[3].rows)
    assert walk(FocusSelector(plan, LAYERS, min_layer=0), on_a)[0] == [all_rows] * 2 + [without_c] * 7
    assert walk(FocusSelector(plan, LAYERS, patience=6), on_a)[0] == [all_rows] * 5 + [without_c] * 4


def test_after_the_last_layer_there_is_nothing_to_drop():
    plan = plan_of()
    selector = FocusSelector(plan, LAYERS, patience=LAYERS)
    assert walk(selector, [(5.0, 1.0, 1.0)] * LAYERS)[0][-1] == len(plan.active_rows)
    assert selector.dropped == []


def test_a_focus_that_moves_starts_the_count_again():
    # By sums: A, A, C from the third layer on.
    shares = [(5.0, 0, 0), (5.0, 0, 0), (0, 0, 30.0), (0, 0, 5.0), (0, 0, 5.0), *[(0, 0, 5.0)] * 4]
    plan = plan_of()
    left, rows = walk(FocusSelector(plan, LAYERS), shares)
    assert left[3] == len(plan.active_rows)
    assert left[4] == len(plan.active_rows) - len(plan.segments[1].rows)
    assert not set(plan.segments[1].rows) & set(rows.tolist())


def test_computed_chunks_are_never_dropped():
    plan = plan_of()
    _, rows = walk(FocusSelector(plan, LAYERS), [(0.0, 0.0, 9.0)] * LAYERS)
    assert set(plan.segments[2].rows) <= set(rows.tolist())
    assert set(plan.segments[0].rows) | set(plan.segments[4].rows) <= set(rows.tolist())


def test_without_anything_to_see_nothing_is_dropped():
    plan = plan_of()
    selector = FocusSelector(plan, LAYERS)
    assert selector.after_layer(5, torch.arange(3), None, None, None) is None
    assert walk(FocusSelector(plan, LAYERS), [(0.0, 0.0, 0.0)] * LAYERS)[0][-1] == len(plan.active_rows)
    assert walk(FocusSelector(plan, LAYERS), [(1.0, 1.0, 1.0)] * LAYERS)[0][-1] == len(plan.active_rows)
    with pytest.raises(InputError, match="patience"):
        FocusSelector(plan, LAYERS, patience=0)


def test_in_the_engine_dropped_rows_are_read_from_the_variant_in_deeper_layers(make_tiny):
    decoder = make_tiny("llama", num_layers=6)
    config = decoder.config
    ids = torch.from_numpy(PROMPT.ids * 5 % config.vocab_size)
    plan = plan_of(0.5)
    stored = {}
    pool = BlockPool(config, 32)
    sequence = Sequence(pool, ids)
    generator = torch.Generator().manual_seed(0)
    for number in (1, 3):
        segment = plan.segments[number].segment
        shape = (config.num_layers, segment.num_tokens, config.num_kv_heads, config.head_dim)
        keys, values = torch.randn(2, *shape, generator=generator)
        blocks = pool.allocate(segment.num_tokens)
        for layer in range(config.num_layers):
            pool.write(layer, blocks, keys[layer], values[layer])
        sequence.use(segment.start, blocks)
        fixed = set(range(segment.start, segment.stop)) - set(plan.segments[number].rows.tolist())
        stored |= {row: (keys[:, row - segment.start], values[:, row - segment.start]) for row in fixed}
    rows = torch.from_numpy(plan.active_rows)
    sequence.reserve(rows)
    observer = Observer(torch.from_numpy(PROMPT.segment_of_row()), 5, config.num_layers)
    selector = FocusSelector(plan, config.num_layers, patience=2)
    forward(decoder, pool, [Slice(sequence, rows, observer=observer, selector=selector)])
    # Up to the first drop, the dense computation with the same stored rows shows where the question looks.
    maps = dense(decoder, ids, stored=stored)[3].mean(1)
    bounds = [(one.start, one.stop) for one in PROMPT.chunks]
    by_layer = maps[:, PROMPT.question.start :].sum(1)
    shares = torch.stack([by_layer[:, a:b].sum(1) for a, b in bounds], 1).cumsum(0)
    foci = [frozenset(focused(line.tolist())) for line in shares]
    drops = [n for n in range(2, 5) if foci[n] == foci[n - 1] and not {0, 2} <= foci[n]]
    assert selector.dropped
    layer, num_dropped = selector.dropped[0]
    assert layer == drops[0]
    outside = [number for place, number in ((0, 1), (2, 3)) if place not in foci[layer]]
    assert num_dropped == sum(len(plan.segments[number].rows) for number in outside)
    for number in outside:
        gone = torch.from_numpy(plan.segments[number].rows)
        assert torch.equal(sequence.layer_slots(layer)[gone], sequence.own_slots(gone))
        assert torch.equal(sequence.layer_slots(layer + 1)[gone], sequence.shared_slots(gone))
