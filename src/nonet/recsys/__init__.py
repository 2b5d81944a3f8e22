"""Recommendations that learn within seconds of what users do.

Embedding tables that hash ids into a fixed number of rows make unrelated users and items share a vector, and models
trained once a day do not know what happened since. Monolith (Liu et al., *Monolith: Real Time Recommendation System
With Collisionless Embedding Table*, 2022) gives every id a row of its own, trains on joined events as they come, and
brings the rows that changed to the servers every minute. This room is the whole loop, on CPUs.

Wings, data flowing from the top to the bottom:

example.py     what travels: feature events, actions, examples, batches
config.py      features and job files;  table_config.py, eviction_config.py  tables, with TorchRec's names
features/      ids of slot and signature, exact dictionaries, an audit of collisions
table/         the embedding table: cuckoo index, rows, optimizers, admission, expiry, snapshots
logs/          logs of events: embedded, Kafka, NATS, Redis
joining/       the online joiner
reading/       logs of others: MovieLens, Criteo, Avazu, OBD, Taobao, tables of your own;  data.py  published sets
training/      models, trainer, metrics, the correction of negative sampling
freshness/     what fresher syncs would buy, on your own log
syncing/       from training to serving: epochs, acknowledgement, repair
serving/       retrieval, ranking, A/B arms, HTTP
sharding/      shards in threads, processes, Ray actors; failure
running/       all of it as one job
bench/         the headline experiments
cli*.py        the command line
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nonet.recsys.config import FeaturesFile, JobFile, load_job
    from nonet.recsys.example import ActionEvent, Example, ExampleBatch, FeatureEvent
    from nonet.recsys.features.encoder import FeatureEncoder
    from nonet.recsys.joining.joiner import Joiner
    from nonet.recsys.joining.labels import Label
    from nonet.recsys.joining.settings import Joining
    from nonet.recsys.logs.opening import open_log
    from nonet.recsys.running.loop import Loop
    from nonet.recsys.serving.app import serve
    from nonet.recsys.serving.arms import Arm
    from nonet.recsys.serving.encoding import Catalogue, Features
    from nonet.recsys.serving.recommender import Recommender
    from nonet.recsys.syncing.links import InProcessLink
    from nonet.recsys.syncing.publisher import DeltaPublisher
    from nonet.recsys.syncing.replica import Replica
    from nonet.recsys.table.embedding_table import EmbeddingTable
    from nonet.recsys.table_config import TableConfig
    from nonet.recsys.training.correction import LogOdds
    from nonet.recsys.training.presets import preset_table
    from nonet.recsys.training.trainer import Trainer

__all__ = [
    "ActionEvent",
    "Arm",
    "Catalogue",
    "DeltaPublisher",
    "EmbeddingTable",
    "Example",
    "ExampleBatch",
    "FeatureEncoder",
    "FeatureEvent",
    "Features",
    "FeaturesFile",
    "InProcessLink",
    "JobFile",
    "Joiner",
    "Joining",
    "Label",
    "LogOdds",
    "Loop",
    "Recommender",
    "Replica",
    "TableConfig",
    "Trainer",
    "load_job",
    "open_log",
    "preset_table",
    "serve",
]

_HOMES = {
    "ActionEvent": "example",
    "Arm": "serving.arms",
    "Catalogue": "serving.encoding",
    "DeltaPublisher": "syncing.publisher",
    "EmbeddingTable": "table.embedding_table",
    "Example": "example",
    "ExampleBatch": "example",
    "FeatureEncoder": "features.encoder",
    "FeatureEvent": "example",
    "Features": "serving.encoding",
    "FeaturesFile": "config",
    "InProcessLink": "syncing.links",
    "JobFile": "config",
    "Joiner": "joining.joiner",
    "Joining": "joining.settings",
    "Label": "joining.labels",
    "LogOdds": "training.correction",
    "Loop": "running.loop",
    "Recommender": "serving.recommender",
    "Replica": "syncing.replica",
    "TableConfig": "table_config",
    "Trainer": "training.trainer",
    "load_job": "config",
    "open_log": "logs.opening",
    "preset_table": "training.presets",
    "serve": "serving.app",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line must start without PyTorch."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nonet.recsys.{_HOMES[name]}"), name)
