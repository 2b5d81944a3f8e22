"""Tables of a log as batches to train on, and as the events that a live system would have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from nonet.common.errors import InputError
from nonet.recsys.example import ActionEvent, Bags, ExampleBatch, FeatureEvent
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.reading.blocks import BadLines
from nonet.recsys.reading.formats import Format
from nonet.recsys.reading.frames import open_format, read_frames


def to_batch(frame: pl.DataFrame, form: Format, encoders: Mapping[str, FeatureEncoder] | None = None) -> ExampleBatch:
    """A table of `read_frames` as a batch.

    Args:
        frame: the table.
        form: its format.
        encoders: of the features that are wanted; by default all, with the slots 1, 2, ... in their order.
    """
    size = frame.height
    if encoders is None:
        encoders = {name: FeatureEncoder(name, slot) for slot, name in enumerate(form.features, 1)}
    dense = np.zeros((size, form.num_dense), np.float32)
    for column, name in enumerate(form.dense):
        dense[:, column] = frame[name].to_numpy()
    return ExampleBatch(
        {name: Bags.single(encoder.ids(frame[name].to_arrow())) for name, encoder in encoders.items()},
        dense,
        frame["label"].to_numpy().copy(),
        np.ones(size, np.float32),
        np.ones(size, np.float32),
        frame["ts_ms"].to_numpy().copy(),
    )


def read_batches(
    path: str | Path,
    kind: Format | str | None = None,
    *,
    label: str | None = None,
    rows: int = 1024,
    max_rows: int | None = None,
    bad: BadLines | None = None,
) -> Iterator[ExampleBatch]:
    """The rows of a file in its order, in batches; memory is bounded by the block of `read_frames`.

    Args:
        path: of the file.
        kind: format or its name; found by looking at the file when None.
        label: another rule for positives, in SQL, such as "rating >= 4".
        rows: of a batch; the last may be smaller.
        max_rows: stop after as many.
        bad: what to do with bad lines.

    Raises:
        InputError: as `read_frames`.
    """
    if rows < 1:
        raise InputError(f"a batch has at least one row, got {rows}")
    form = open_format(Path(path), kind).with_label(label)
    held: pl.DataFrame | None = None
    for frame in read_frames(path, form, bad=bad, max_rows=max_rows):
        table = frame if held is None else pl.concat([held, frame])
        whole = table.height - table.height % rows
        if whole:
            batch = to_batch(table.head(whole), form)
            for start in range(0, whole, rows):
                yield batch.take(slice(start, start + rows))
        held = table.slice(whole)
    if held is not None and held.height:
        yield to_batch(held, form)


def read_sorted(
    path: str | Path,
    kind: Format | str | None = None,
    *,
    label: str | None = None,
    max_rows: int | None = None,
    bad: BadLines | None = None,
) -> ExampleBatch:
    """All rows of a file in the order of their time, rows of one time in the order of the file.

    Holds them all: about 20 bytes a row, 16 for each feature, 4 for each number (25 million ratings: 1.3 GB).

    Args:
        path: of the file.
        kind: format or its name; found by looking at the file when None.
        label: another rule for positives, in SQL.
        max_rows: of the file, from its start.
        bad: what to do with bad lines.

    Raises:
        InputError: as `read_frames`, or there is no row.
    """
    form = open_format(Path(path), kind).with_label(label)
    parts = [to_batch(frame, form) for frame in read_frames(path, form, bad=bad, max_rows=max_rows)]
    if not parts:
        raise InputError(f"{path}: no rows")
    whole = concatenate(parts)
    return whole.take(np.argsort(whole.ts_ms, kind="stable"))


def concatenate(parts: list[ExampleBatch]) -> ExampleBatch:
    """Batches of the same features, one after the other.

    Raises:
        InputError: none, or features differ.
    """
    if not parts or any(list(part.ids) != list(parts[0].ids) for part in parts):
        raise InputError("batches to put together need the same features, and at least one batch")
    ids = {}
    for name in parts[0].ids:
        bags = [part.ids[name] for part in parts]
        sizes = np.concatenate([np.diff(bag.offsets) for bag in bags])
        offsets = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        ids[name] = Bags(np.concatenate([bag.values for bag in bags]), offsets)
    columns = ("dense", "label", "weight", "sample_rate", "ts_ms")
    return ExampleBatch(ids, *(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def read_events(
    path: str | Path,
    kind: Format | str | None = None,
    *,
    label: str | None = None,
    action: str = "click",
    delay_mean_s: float = 0.0,
    max_rows: int | None = None,
    bad: BadLines | None = None,
    seed: int = 0,
) -> Iterator[FeatureEvent | ActionEvent]:
    """The rows of a file as a live system would have logged them: what was shown, and what was done with it.

    Row n becomes a feature event of the request `<file name>:<n>`, and an action event after it where it is positive.

    Args:
        path: of the file.
        kind: format or its name; found by looking at the file when None.
        label: another rule for positives, in SQL.
        action: kind of the action events.
        delay_mean_s: mean of the exponential delay of an action, in event time; 0 for none.
        max_rows: stop after as many.
        bad: what to do with bad lines.
        seed: of the delays.

    Raises:
        InputError: as `read_frames`, or a negative delay.
    """
    if delay_mean_s < 0:
        raise InputError(f"actions come after what they are about, not {delay_mean_s} s")
    form = open_format(Path(path), kind).with_label(label)
    source, draw, row = Path(path).name, np.random.default_rng(seed), 0
    for frame in read_frames(path, form, bad=bad, max_rows=max_rows):
        batch = to_batch(frame, form)
        ids = {name: bags.values.tolist() for name, bags in batch.ids.items()}
        delays = (draw.exponential(delay_mean_s, len(batch)) * 1000).astype(np.int64).tolist()
        times, labels, dense = batch.ts_ms.tolist(), batch.label.tolist(), batch.dense.tolist()
        items = frame[form.item].to_list()
        for n in range(len(batch)):
            request, item = f"{source}:{row}".encode(), items[n].encode()
            shown = {name: [values[n]] for name, values in ids.items()}
            yield FeatureEvent(request_id=request, item_id=item, ts_ms=times[n], ids=shown, dense=dense[n])
            if labels[n]:
                yield ActionEvent(request_id=request, item_id=item, ts_ms=times[n] + delays[n], action=action)
            row += 1
