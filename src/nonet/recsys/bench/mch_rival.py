"""TorchRec's managed collisions (MCH) on a CPU, timed; run by an interpreter that has TorchRec, imported by nobody.

Usage: `python mch_rival.py FOLDER`; the folder is that of `tfra_rival.py`. MCH maps ids to rows of a table whose size
is fixed beforehand; here it has room for all keys and has met them all. Rows go to memory that is used again. Prints
one JSON object: seconds of each step.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Time the remap of known ids alone, and with the rows gathered."""
    import torch
    from torchrec.modules.mc_modules import LFU_EvictionPolicy, MCHManagedCollisionModule
    from torchrec.sparse.jagged_tensor import JaggedTensor

    batch = json.loads((folder / "sizes.json").read_text())["batch"]
    arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("new", "uniform", "zipf", "rows")}
    num_keys, dim = arrays["rows"].shape
    # Its ids are positive; a mask of the sign keeps nearly all keys apart.
    ids = {name: torch.from_numpy(arrays[name] & ((1 << 62) - 1)) for name in ("new", "uniform", "zipf")}
    module = MCHManagedCollisionModule(
        zch_size=num_keys,
        device=torch.device("cpu"),
        eviction_policy=LFU_EvictionPolicy(),
        eviction_interval=1,
        input_hash_size=(1 << 62) - 1,
    )

    def jagged(values: torch.Tensor) -> dict[str, JaggedTensor]:
        return {"ids": JaggedTensor(values=values, lengths=torch.ones(len(values), dtype=torch.int64))}

    began = time.perf_counter()
    module.profile(jagged(ids["new"]))
    told = {"learn_s": time.perf_counter() - began}
    module.eval()
    weights = torch.zeros(num_keys, dim)
    out = torch.zeros(batch, dim)
    for name in ("uniform", "zipf"):
        parts = [jagged(part) for part in ids[name].split(batch)]
        torch.index_select(weights, 0, module.remap(parts[0])["ids"].values(), out=out[: len(parts[0]["ids"].values())])
        began = time.perf_counter()
        for part in parts:
            rows = module.remap(part)["ids"].values()
            torch.index_select(weights, 0, rows, out=out[: len(rows)])
        told[f"lookup_{name}_s"] = time.perf_counter() - began
    known = module.remap(jagged(ids["new"]))["ids"].values()
    told["distinct_share"] = len(known.unique()) / num_keys
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
