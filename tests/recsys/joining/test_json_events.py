"""Events in JSON as producers write them that know neither ids nor the joiner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nonet.recsys.example import Example, decode
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.joining import Joiner, Joining, Label
from nonet.recsys.logs import Record, open_log

ENCODERS = {"user": FeatureEncoder("user", 1), "item": FeatureEncoder("item", 2)}


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({"values": {"user": "u1"}}, ENCODERS["item"].ids(["i7"]).tolist()),
        ({"values": {"item": "i8"}}, ENCODERS["item"].ids(["i8"]).tolist()),
        ({"ids": {"item": [5]}}, [5]),
        ({}, ENCODERS["item"].ids(["i7"]).tolist()),
    ],
)
def test_what_was_shown_is_learned_though_only_item_id_names_it(
    tmp_path: Path, named: dict[str, Any], expected: list[int]
) -> None:
    """Otherwise the model learns that somebody clicked, never on what, and the item can never be recommended."""
    row = {"request_id": "r1", "item_id": "i7", "ts_ms": 1_000, **named}
    with open_log(f"file:{tmp_path}/log") as log:
        joining = Joining((Label("click", wait_ms=1_000),))
        with Joiner(log, tmp_path / "rows", joining, encoders=ENCODERS, item="item") as joiner:
            log.append("features", 0, [Record(b"", json.dumps(row).encode(), 1_000)])
            joiner.run(until_end=True)
            joiner.finish()
        (record,) = log.read("examples", 0, 0).records
    assert decode(record.payload, Example).ids["item"] == expected
