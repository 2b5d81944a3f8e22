"""The forward over chosen rows, against the plainest dense one."""

import numpy as np
import pytest
import torch
from torch import nn

from nonet.common.errors import InputError
from nonet.ragcache.engine.forward import Slice, forward
from nonet.ragcache.engine.observing import Observer
from nonet.ragcache.engine.paging import BlockPool
from nonet.ragcache.engine.sequence import Sequence, shrunk_means
from tests.ragcache.engine.dense import agreed, dense

TOLERANCE = 2e-4


def tokens(size, seed=0):
    return torch.randint(0, 256, (size,), generator=torch.Generator().manual_seed(seed))


def pool_for(decoder, tokens=2048):
    return BlockPool(decoder.config, tokens // 16, 16)


def full(decoder, pool, ids, capacity=None, **options):
    sequence = Sequence(pool, ids, capacity)
    rows = torch.arange(len(ids))
    sequence.reserve(rows)
    (logits,) = forward(decoder, pool, [Slice(sequence, rows, **options)])
    return sequence, logits


def variant(decoder, pool, ids, start, stop):
    """Pages with the KV of rows start..stop of a dense run over ids."""
    with torch.inference_mode():
        _, keys, values, _ = dense(decoder, ids)
    blocks = pool.allocate(stop - start)
    for layer in range(decoder.config.num_layers):
        pool.write(layer, blocks, keys[layer, start:stop], values[layer, start:stop])
    blocks.is_frozen = True
    return blocks


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gemma3"])
@pytest.mark.parametrize("size", [1, 2, 40, 300])
def test_all_rows_are_the_dense_forward(make_tiny, architecture, size):
    decoder = make_tiny(architecture)
    ids = tokens(size)
    with torch.inference_mode():
        expected, *_ = dense(decoder, ids)
    _, logits = full(decoder, pool_for(decoder), ids)
    assert (logits - expected[-1]).abs().max() < TOLERANCE


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_slices_in_order_and_decoding_are_the_dense_forward(make_tiny, architecture):
    decoder = make_tiny(architecture)
    pool = pool_for(decoder)
    ids = tokens(150)
    with torch.inference_mode():
        expected, *_ = dense(decoder, ids)
    sequence = Sequence(pool, ids[:120], capacity=150)
    sequence.reserve(torch.arange(150))
    for rows in torch.arange(120).split(50):
        (logits,) = forward(decoder, pool, [Slice(sequence, rows)])
    assert (logits - expected[119]).abs().max() < TOLERANCE
    for row in range(120, 150):
        assert sequence.append(int(ids[row])) == row
        (logits,) = forward(decoder, pool, [Slice(sequence, torch.tensor([row]))])
        assert (logits - expected[row]).abs().max() < TOLERANCE


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_chunk_under_the_same_prefix_needs_no_row(make_tiny, architecture):
    decoder = make_tiny(architecture)
    pool = pool_for(decoder)
    ids = tokens(90)
    blocks = variant(decoder, pool, ids, 20, 60)
    with torch.inference_mode():
        expected, *_ = dense(decoder, ids)
    sequence = Sequence(pool, ids)
    sequence.use(20, blocks)
    rows = torch.cat([torch.arange(20), torch.arange(60, 90)])
    sequence.reserve(rows)
    (logits,) = forward(decoder, pool, [Slice(sequence, rows)])
    assert (logits - expected[-1]).abs().max() < TOLERANCE


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
def test_a_chunk_from_elsewhere_is_read_at_its_new_place_and_repaired_rows_are_computed(make_tiny, architecture):
    decoder = make_tiny(architecture)
    pool = pool_for(decoder)
    before, chunk, after = tokens(30, 1), tokens(25, 2), tokens(11, 3)
    old = torch.cat([tokens(7, 4), chunk])
    blocks = variant(decoder, pool, old, 7, 32)
    kept = pool.keys[:, blocks.slots].clone()
    ids = torch.cat([before, chunk, after])
    repaired = torch.tensor([31, 40, 54])
    with torch.inference_mode():
        _, keys, values, _ = dense(decoder, old)
        stored = {30 + i: (keys[:, 7 + i], values[:, 7 + i]) for i in range(25) if 30 + i not in repaired.tolist()}
        expected, *_ = dense(decoder, ids, stored=stored)
    sequence = Sequence(pool, ids)
    sequence.use(30, blocks)
    rows = torch.cat([torch.arange(30), repaired, torch.arange(55, 66)])
    sequence.reserve(rows)
    (logits,) = forward(decoder, pool, [Slice(sequence, rows)])
    assert (logits - expected[-1]).abs().max() < TOLERANCE
    assert torch.equal(pool.keys[:, blocks.slots], kept)


class Led:
    """A prompt with two chunks from elsewhere; a few rows of each are computed anew, the others follow them."""

    def __init__(self, decoder, pool):
        self.pool = pool
        before, chunks, after = tokens(30, 1), (tokens(25, 2), tokens(18, 5)), tokens(40, 3)
        self.ids = torch.cat([before, *chunks, after])
        self.starts = {30: chunks[0], 55: chunks[1]}
        self.leaders = {30: [31, 40, 54], 55: [55, 60]}
        self.blocks, self.stored, self.led = {}, {}, []
        for start, chunk in self.starts.items():
            old = torch.cat([tokens(7 + start, 4), chunk])
            self.blocks[start] = variant(decoder, pool, old, 7 + start, 7 + start + len(chunk))
            with torch.inference_mode():
                _, keys, values, _ = dense(decoder, old)
            held = {start + i: (keys[:, 7 + start + i], values[:, 7 + start + i]) for i in range(len(chunk))}
            lead = {row: held.pop(row) for row in self.leaders[start]}
            self.stored |= held
            self.led.append((lead, list(held)))
        self.kept = {start: pool.keys[:, blocks.slots].clone() for start, blocks in self.blocks.items()}

    def sequence(self, size, *, follows=True):
        sequence = Sequence(self.pool, self.ids[:size], capacity=len(self.ids))
        for start, blocks in self.blocks.items():
            sequence.use(start, blocks)
        rows = torch.tensor([row for row in range(len(self.ids)) if row not in self.stored])
        sequence.reserve(rows)
        if follows:
            sequence.follow([(torch.tensor(list(lead)), torch.tensor(rest)) for lead, rest in self.led])
        return sequence, rows[rows < size]

    def expected(self, decoder, **options):
        with torch.inference_mode():
            return dense(decoder, self.ids, stored=self.stored, **options)[0]


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("watched", [False, True])
def test_rows_that_follow_move_as_far_as_their_leaders_agree(make_tiny, architecture, watched):
    decoder = make_tiny(architecture)
    led = Led(decoder, pool_for(decoder))
    expected, unmoved = led.expected(decoder, led=led.led), led.expected(decoder)
    sequence, rows = led.sequence(90)
    observer = Observer(torch.zeros(90, dtype=torch.long), 1, decoder.config.num_layers) if watched else None
    (logits,) = forward(decoder, led.pool, [Slice(sequence, rows, observer=observer)])
    assert (logits - expected[89]).abs().max() < TOLERANCE
    assert (logits - unmoved[89]).abs().max() > 10 * TOLERANCE
    for row in range(90, len(led.ids)):
        sequence.append(int(led.ids[row]))
        (logits,) = forward(decoder, led.pool, [Slice(sequence, torch.tensor([row]))])
        assert (logits - expected[row]).abs().max() < TOLERANCE
    for start, kept in led.kept.items():
        assert torch.equal(led.pool.keys[:, led.blocks[start].slots], kept)


def test_steps_that_end_between_chunks_and_other_sequences_change_nothing(make_tiny):
    decoder = make_tiny("llama")
    led = Led(decoder, pool_for(decoder, 4096))
    size = len(led.ids)
    sequence, rows = led.sequence(size)
    (whole,) = forward(decoder, led.pool, [Slice(sequence, rows)])
    parted, rows = led.sequence(size)
    plain, _ = led.sequence(size, follows=False)
    for piece in (rows[rows < 55], rows[(rows >= 55) & (rows < 80)], rows[rows >= 80]):
        logits, beside = forward(decoder, led.pool, [Slice(parted, piece), Slice(plain, piece)])
    assert (logits - whole).abs().max() < TOLERANCE
    unmoved = led.expected(decoder)
    assert (beside - unmoved[-1]).abs().max() < TOLERANCE


def test_pages_in_bfloat16_are_moved_as_well(make_tiny):
    decoder, rough = make_tiny("llama"), make_tiny("llama", dtype="bfloat16")
    pool = BlockPool(decoder.config, 128, 16, torch.bfloat16)
    led = Led(decoder, pool)
    sequence, rows = led.sequence(len(led.ids))
    (logits,) = forward(rough, pool, [Slice(sequence, rows)])
    expected, unmoved = led.expected(decoder, led=led.led)[-1], led.expected(decoder)[-1]
    assert (logits - expected).abs().max() < 0.2 * (unmoved - expected).abs().max()


def test_what_follows_is_checked_and_leaders_that_stopped_lead_no_more(make_tiny):
    decoder = make_tiny("llama")
    led = Led(decoder, pool_for(decoder))
    sequence, _ = led.sequence(len(led.ids), follows=False)
    for leaders, rest in (([], [32]), ([10], [32]), ([31], [10])):
        with pytest.raises(InputError, match="shared pages"):
            sequence.follow([(torch.tensor(leaders, dtype=torch.long), torch.tensor(rest))])
    leaders = torch.tensor([31, 40])
    sequence.follow([(leaders, torch.tensor([32]))])
    change = int(sequence.added_slots[32])
    own = sequence.own_slots(leaders)
    led.pool.keys[:, own] = led.pool.keys[:, sequence.shared_slots(leaders)] + 1.0
    led.pool.values[:, own] = led.pool.values[:, sequence.shared_slots(leaders)] - 2.0
    sequence.mark(leaders, 1)
    for layer in range(2):
        sequence.lead(layer, leaders)
    assert torch.allclose(led.pool.keys[0, change], torch.tensor(1.0)) and (led.pool.keys[1, change] == 0.0).all()
    assert torch.allclose(led.pool.values[0, change], torch.tensor(-2.0)) and (led.pool.values[1, change] == 0.0).all()
    assert sequence.added_slots[31] == -1


class Dropping:
    """Drops rows after the first layer."""

    def __init__(self, unwanted):
        self.unwanted, self.has_dropped = unwanted, False

    def after_layer(self, layer, rows, keys, stored, observer):
        keep = ~torch.isin(rows, self.unwanted)
        self.has_dropped |= not bool(keep.all())
        return keep


def test_rows_do_not_move_where_all_that_led_them_were_dropped(make_tiny):
    """Below, pages are full of what others left there; above, they are empty; the answer is the same."""
    decoder = make_tiny("llama")
    answers = []
    for left_there in (0.0, 50.0):
        pool = pool_for(decoder)
        led = Led(decoder, pool)
        free = torch.ones(pool.keys.shape[1], dtype=torch.bool)
        for blocks in led.blocks.values():
            free[blocks.slots] = False
        pool.keys[:, free] = pool.values[:, free] = left_there
        sequence, rows = led.sequence(len(led.ids))
        leaders = torch.tensor([row for lead, _ in led.led for row in lead])
        selector = Dropping(leaders)
        (logits,) = forward(decoder, pool, [Slice(sequence, rows, selector=selector)])
        assert selector.has_dropped
        answers.append(logits)
    assert torch.equal(*answers)


@pytest.mark.parametrize("seed", range(5))
def test_a_mean_is_shrunk_as_far_as_its_vectors_disagree(seed):
    draws = np.random.default_rng(seed)
    groups = [draws.normal(mean, 1.0, (size, 6)) for mean, size in ((0.0, 2), (0.5, 9), (3.0, 4), (1.0, 1), (0.2, 3))]
    changes = torch.from_numpy(np.concatenate(groups)).float()
    group_of = torch.tensor([n for n, group in enumerate(groups) for _ in group])
    order = torch.from_numpy(draws.permutation(len(changes)))
    found = shrunk_means(changes[order], group_of[order], len(groups) + 1)
    for one, group in zip(found, groups, strict=False):
        assert torch.allclose(one.double(), agreed(list(torch.from_numpy(group))), atol=1e-5)
    assert (found[-1] == 0).all() and (found[3] == 0).all() and found.isfinite().all()
    assert (shrunk_means(torch.zeros(4, 6), torch.tensor([0, 0, 1, 1]), 2) == 0).all()


def test_a_sequence_moved_as_a_whole_gives_the_same(make_tiny):
    decoder = make_tiny("llama")
    pool = pool_for(decoder)
    ids = tokens(50)
    _, at_start = full(decoder, pool, ids)
    moved = Sequence(pool, ids, positions=torch.arange(50) + 1234)
    moved.reserve(torch.arange(50))
    (far,) = forward(decoder, pool, [Slice(moved, torch.arange(50))])
    assert (at_start - far).abs().max() < 2e-3  # angles are float32, as in the models' own code


def test_a_batch_gives_each_sequence_what_it_gets_alone(make_tiny):
    decoder = make_tiny("llama")
    pool = pool_for(decoder, 4096)
    chunk = tokens(40, 9)
    blocks = variant(decoder, pool, torch.cat([tokens(5, 8), chunk]), 5, 45)
    kept = pool.keys[:, blocks.slots].clone()

    def prepared(number):
        ids = torch.cat([tokens(10 + number, number), chunk, tokens(6, 50 + number)])
        sequence = Sequence(pool, ids)
        sequence.use(10 + number, blocks)
        repaired = 10 + number + torch.randperm(40, generator=torch.Generator().manual_seed(number))[:7].sort().values
        rows = torch.cat([torch.arange(10 + number), repaired, torch.arange(50 + number, 56 + number)])
        sequence.reserve(rows)
        return Slice(sequence, rows)

    alone = [forward(decoder, pool, [prepared(number)])[0] for number in range(8)]
    together = forward(decoder, pool, [prepared(number) for number in range(8)])
    for one, other in zip(alone, together, strict=True):
        assert (one - other).abs().max() < TOLERANCE
        assert int(one.argmax()) == int(other.argmax())
    assert torch.equal(pool.keys[:, blocks.slots], kept)


def test_every_matrix_sees_the_chosen_rows_and_no_others(make_tiny):
    decoder = make_tiny("llama")
    pool = pool_for(decoder)
    ids = tokens(80)
    blocks = variant(decoder, pool, ids, 10, 60)
    sequence = Sequence(pool, ids)
    sequence.use(10, blocks)
    rows = torch.cat([torch.arange(10), torch.tensor([15, 16]), torch.arange(60, 80)])
    sequence.reserve(rows)
    seen = []
    hooks = [
        module.register_forward_hook(lambda _, given, __, name=name: seen.append((name, len(given[0]))))
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear)
    ]
    forward(decoder, pool, [Slice(sequence, rows)])
    for hook in hooks:
        hook.remove()
    last = decoder.config.num_layers - 1
    for name, count in seen:
        after_last = name == "lm_head" or (f"layers.{last}." in name and "qkv" not in name)
        assert count == (1 if after_last else 32), name
    assert len(seen) == 4 * decoder.config.num_layers + 1


class Drops:
    """Lets go of some rows after a layer."""

    def __init__(self, layer, dropped):
        self.layer, self.dropped = layer, dropped

    def after_layer(self, layer, rows, keys, stored, observer):
        return None if layer != self.layer else ~torch.isin(rows, self.dropped)


def test_dropped_rows_keep_their_stored_keys_in_deeper_layers(make_tiny):
    decoder = make_tiny("llama")
    pool = pool_for(decoder)
    old = torch.cat([tokens(7, 4), tokens(20, 2)])
    ids = torch.cat([tokens(15, 1), tokens(20, 2), tokens(9, 3)])
    blocks = variant(decoder, pool, old, 7, 27)
    dropped = torch.tensor([17, 18, 30])
    with torch.inference_mode():
        _, stored_keys, stored_values, _ = dense(decoder, old)
        _, new_keys, new_values, _ = dense(decoder, ids)
        mixed = {}
        for row in dropped.tolist():
            keys, values = stored_keys[:, row - 8].clone(), stored_values[:, row - 8].clone()
            keys[:2], values[:2] = new_keys[:2, row], new_values[:2, row]
            mixed[row] = (keys, values)
        expected, *_ = dense(decoder, ids, stored=mixed)
    sequence = Sequence(pool, ids, capacity=46)
    sequence.use(15, blocks)
    rows = torch.arange(44)
    sequence.reserve(rows)
    (logits,) = forward(decoder, pool, [Slice(sequence, rows, selector=Drops(1, dropped))])
    assert (logits - expected[-1]).abs().max() < TOLERANCE
    for token in (5, 6):
        # The answer's rows come in batches of their own, and read the dropped rows where each layer has them.
        row = torch.tensor([sequence.append(token)])
        sequence.reserve(row)
        (logits,) = forward(decoder, pool, [Slice(sequence, row)])
        ids = torch.cat([ids, torch.tensor([token])])
        with torch.inference_mode():
            expected, *_ = dense(decoder, ids, stored=mixed)
        assert (logits - expected[-1]).abs().max() < TOLERANCE


def test_a_probe_leaves_nothing_behind(make_tiny):
    decoder = make_tiny("llama")
    pool = pool_for(decoder)
    ids = tokens(40)
    blocks = variant(decoder, pool, ids, 0, 30)
    sequence = Sequence(pool, ids)
    sequence.use(0, blocks)
    rows = torch.arange(30, 40)
    sequence.reserve(rows)
    observer = Observer(torch.tensor([0] * 30 + [1] * 10), 2, decoder.config.num_layers, question=1)
    forward(decoder, pool, [Slice(sequence, rows, want_logits=False, observer=observer, keep_kv=False)])
    assert bool((sequence.layer_slots(0)[30:] == -1).all())
    assert observer.asked[:, :30].sum() > 0


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_observer_sums_what_the_dense_attention_shows(make_tiny, architecture):
    decoder = make_tiny(architecture)
    ids = tokens(300)
    segment_of_row = torch.tensor([0] * 20 + [1] * 130 + [2] * 100 + [3] * 50)
    with torch.inference_mode():
        *_, maps = dense(decoder, ids)
    mean = maps.mean(1)
    observer = Observer(segment_of_row, 4, decoder.config.num_layers, question=3)
    full(decoder, pool_for(decoder), ids, observer=observer)
    members = nn.functional.one_hot(segment_of_row, 4).double()
    assert torch.allclose(observer.sums, torch.einsum("lrs,ra,sb->lab", mean, members, members), atol=1e-3)
    assert torch.allclose(observer.onto, torch.einsum("lrs,sb->rb", mean, members), atol=1e-4)
    assert torch.allclose(observer.received, mean.sum((0, 1)), atol=1e-4)
    assert torch.allclose(observer.asked, mean[:, 250:].sum(1), atol=1e-4)
    probe = Observer(segment_of_row, 4, decoder.config.num_layers, question=3, only_asked=True)
    full(decoder, pool_for(decoder), ids, observer=probe)
    assert torch.equal(probe.asked, observer.asked)
    assert not (probe.sums.any() or probe.onto.any() or probe.received.any())


def test_watching_in_slices_is_watching_at_once(make_tiny):
    decoder = make_tiny("llama")
    pool = pool_for(decoder)
    ids = tokens(100)
    segment_of_row = torch.tensor([0] * 40 + [1] * 60)
    once, sliced = (Observer(segment_of_row, 2, decoder.config.num_layers) for _ in range(2))
    full(decoder, pool, ids, observer=once)
    sequence = Sequence(pool, ids)
    sequence.reserve(torch.arange(100))
    for rows in torch.arange(100).split(33):
        forward(decoder, pool, [Slice(sequence, rows, observer=sliced)])
    assert torch.allclose(once.sums, sliced.sums, atol=1e-4)
    assert torch.allclose(once.onto, sliced.onto, atol=1e-5)


def test_bfloat16_stays_near(make_tiny):
    decoder = make_tiny("llama", dtype="bfloat16")
    pool = BlockPool(decoder.config, 16, 16, dtype=torch.bfloat16)
    ids = tokens(60)
    _, logits = full(decoder, pool, ids)
    _, exact = full(make_tiny("llama"), pool_for(decoder), ids)
    assert (logits - exact).abs().max() < 0.1 * exact.abs().max()


def test_a_probe_of_the_first_layers_sees_what_a_whole_one_sees_there_and_leaves_others_alone(make_tiny):
    decoder = make_tiny("llama")
    pool = pool_for(decoder)
    ids = tokens(40)
    blocks = variant(decoder, pool, ids, 0, 30)
    rows, segments = torch.arange(30, 40), torch.tensor([0] * 30 + [1] * 10)

    def asked(**options):
        sequence = Sequence(pool, ids)
        sequence.use(0, blocks)
        sequence.reserve(rows)
        observer = Observer(segments, 2, decoder.config.num_layers, question=1)
        probe = Slice(sequence, rows, want_logits=False, observer=observer, keep_kv=False, **options)
        other = Sequence(pool, tokens(20, 5))
        other.reserve(torch.arange(20))
        _, logits = forward(decoder, pool, [probe, Slice(other, torch.arange(20))])
        forward(decoder, pool, [probe])
        assert bool((sequence.layer_slots(0)[30:] == -1).all())
        return observer.asked, logits

    whole, logits = asked()
    part, same = asked(num_layers=2)
    assert torch.allclose(part[:2], whole[:2], atol=1e-6) and part[2:].sum() == 0
    assert whole[2:].sum() > 0
    assert (logits - same).abs().max() < TOLERANCE


def test_a_slice_without_all_layers_has_no_logits(make_tiny):
    pool = pool_for(make_tiny("llama"))
    for options in ({"num_layers": 2}, {"num_layers": 0, "want_logits": False}):
        with pytest.raises(InputError, match="layers"):
            Slice(Sequence(pool, tokens(4)), torch.arange(4), **options)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
@pytest.mark.parametrize("threads", [1, 3])
def test_scattered_rows_are_the_dense_forward_with_the_other_rows_stored(make_tiny, architecture, threads):
    # Enough rows for several blocks, gaps between them, and prompts beyond the windows of Gemma.
    decoder = make_tiny(architecture)
    pool = pool_for(decoder)
    old, ids = torch.cat([tokens(9, 4), tokens(420, 2)]), torch.cat([tokens(25, 1), tokens(420, 2), tokens(13, 3)])
    blocks = variant(decoder, pool, old, 9, 429)
    repaired = 25 + torch.randperm(420, generator=torch.Generator().manual_seed(7))[:170].sort().values
    with torch.inference_mode():
        _, keys, values, _ = dense(decoder, old)
        left = set(range(25, 445)) - set(repaired.tolist())
        expected, *_ = dense(decoder, ids, stored={row: (keys[:, row - 16], values[:, row - 16]) for row in left})
    sequence = Sequence(pool, ids)
    sequence.use(25, blocks)
    rows = torch.cat([torch.arange(25), repaired, torch.arange(445, 458)])
    sequence.reserve(rows)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (logits,) = forward(decoder, pool, [Slice(sequence, rows)])
    finally:
        torch.set_num_threads(before)
    assert (logits - expected[-1]).abs().max() < TOLERANCE
