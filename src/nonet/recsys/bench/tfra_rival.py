"""TFRA's dynamic embedding on a CPU, timed; run by an interpreter that has TensorFlow, not imported by anybody.

Usage: `python tfra_rival.py FOLDER`, where the folder holds `new.npy`, `uniform.npy`, `zipf.npy` (int64 keys),
`rows.npy` (float32 [keys, dim]) and `sizes.json`. Prints one JSON object: seconds of each step, best settings of TFRA
that we know of: the final number of keys is told beforehand (`init_size`) as `presized`, and not told as `growing`, nor
as `cold`, the first table of the process. TensorFlow's own number of threads, one a core, is its fastest; `tf.function`
around a call of this size changes nothing.
`lookup_faults` are the page faults of the lookups: none, as TensorFlow uses the memory of an output again.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main(folder: Path) -> None:
    """Time inserting and looking up."""
    import tensorflow as tf
    import tensorflow_recommenders_addons as tfra

    batch = json.loads((folder / "sizes.json").read_text())["batch"]
    arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("new", "uniform", "zipf", "rows")}
    pieces = {name: [tf.constant(part) for part in _parts(array, batch)] for name, array in arrays.items()}
    num_keys, dim = arrays["rows"].shape

    def table(name: str, init_size: int) -> Any:
        options = {"init_size": init_size} if init_size else {}
        return tfra.dynamic_embedding.get_variable(
            name, key_dtype=tf.int64, value_dtype=tf.float32, dim=dim, initializer=0.0, devices=["/CPU:0"], **options
        )

    def filled(name: str, init_size: int = 0) -> tuple[Any, float]:
        variable = table(name, init_size)
        began = time.perf_counter()
        for keys, rows in zip(pieces["new"], pieces["rows"], strict=True):
            variable.upsert(keys, rows)
        return variable, time.perf_counter() - began

    table("started", 0).upsert(pieces["new"][0][:5000], pieces["rows"][0][:5000])
    told = {"lookup_faults": 0.0, "upsert_cold_s": filled("cold")[1], "upsert_growing_s": filled("growing")[1]}
    variable, told["upsert_presized_s"] = filled("presized", num_keys)
    for name in ("uniform", "zipf"):
        variable.lookup(pieces[name][0])
        faults = _faults()
        began = time.perf_counter()
        for keys in pieces[name]:
            variable.lookup(keys)
        told[f"lookup_{name}_s"] = time.perf_counter() - began
        told["lookup_faults"] += _faults() - faults
    found = variable.lookup(pieces["new"][0]).numpy()
    if not np.array_equal(found, arrays["rows"][: len(found)]):
        raise SystemExit("TFRA gave other rows than were put in")
    print(json.dumps(told))


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _parts(array: np.ndarray, size: int) -> list[np.ndarray]:
    return [array[first : first + size] for first in range(0, len(array), size)]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
