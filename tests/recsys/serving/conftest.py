"""A small shop: trained model, publisher, replica, server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.logs import SegmentLog
from nonet.recsys.serving import Arm, Catalogue, Features, Recommender
from nonet.recsys.syncing import DeltaPublisher, InProcessLink, Replica
from nonet.recsys.training.presets import preset_table
from nonet.recsys.training.trainer import Trainer

NAMES = ("user", "hour", "item", "genre")


@dataclass
class Shop:
    """All parts of one arm."""

    features: Features
    catalogue: Catalogue
    trainer: Trainer
    publisher: DeltaPublisher
    replica: Replica
    arm: Arm
    log: SegmentLog
    recommender: Recommender
    now_s: list[float]

    def learn(self, user: str, item: str, label: float, ts_ms: int = 50_000, times: int = 1) -> None:
        request = self.features.of_request(user, {"hour": 3})
        batch = self.features.batch(request, [self.catalogue.ids_of(item)], [0.5], ts_ms)
        batch.label[:] = label
        for _ in range(times):
            self.trainer.step(batch)

    def sync(self, ts_ms: int = 50_000) -> None:
        self.publisher.put_dense("a", self.trainer.dense_state(), event_ts_ms=ts_ms)
        self.publisher.publish(event_ts_ms=ts_ms)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    features = Features(
        {name: FeatureEncoder(name, n + 1) for n, name in enumerate(NAMES)}, item_attributes=("genre",), num_dense=1
    )
    catalogue = Catalogue(features)
    for n in range(300):
        catalogue.put(f"i{n}", {"genre": [f"g{n % 7}", f"g{n % 3}"]})
    table = preset_table("deepfm", 8, seed=1, name="ids")
    trainer = Trainer("deepfm", table, features=NAMES, num_dense=1, seed=2)
    rng = np.random.default_rng(0)
    rows = [catalogue.ids_of(f"i{n}") for n in range(200)]  # 100 items stay unseen
    for n in range(5):
        batch = features.batch(features.of_request(f"u{n}", {"hour": n}), rows, [0.1], 1000)
        batch.label[:] = rng.random(200) < 0.3
        trainer.step(batch)
    replica = Replica({"ids": table.dim}, "a")
    publisher = DeltaPublisher({"ids": table})
    publisher.attach("a", InProcessLink(replica))
    log = SegmentLog(tmp_path / "log")
    arm = Arm("a", trainer.model, replica, catalogue)
    now_s = [60.0]
    recommender = Recommender([arm], log=log, clock=lambda: now_s[0])
    yield Shop(features, catalogue, trainer, publisher, replica, arm, log, recommender, now_s)
    log.close()
