"""The process of a trial: joins what there is on a log, and reports after each batch, until it is killed."""

from __future__ import annotations

import gc
import json
import sys
import time

import msgspec

from nonet.recsys.joining.joiner import Joiner
from nonet.recsys.joining.trial_events import trial_joining
from nonet.recsys.logs import open_log


def _live(url: str, rows: str, num_events: int, cache_rows: int) -> None:
    """The process: join what there is, and report after each batch."""
    gc.set_threshold(
        50_000
    )  # batches are many objects that live shortly; looking through them costs a tenth of the time
    with open_log(url) as log, Joiner(log, rows, trial_joining(num_events, cache_rows)) as joiner:
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        start = joiner.counts.features + joiner.counts.actions
        max_cached_rows = 0

        def report(is_over: bool) -> None:
            read = joiner.counts.features + joiner.counts.actions
            about = {
                "read": read,
                "read_here": read - start,
                "elapsed_s": time.perf_counter() - start_s,
                "cpu_s": time.process_time() - start_cpu_s,
                "max_cached_rows": max_cached_rows,
                "spill_bytes": joiner.spill_bytes,
                "counts": msgspec.to_builtins(joiner.counts),
                "is_over": is_over,
            }
            print(json.dumps(about), flush=True)

        while joiner.step():
            max_cached_rows = max(max_cached_rows, joiner.num_cached)
            report(False)
        joiner.finish()
        report(True)


if __name__ == "__main__":
    _live(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
