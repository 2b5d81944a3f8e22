"""The modules with Drain3's names: where a state is kept, and what programs use of a miner besides its methods."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
from types import SimpleNamespace

import drain3 as peer
import drain3.masking as peer_masking
import drain3.template_miner_config as peer_config
import fakeredis
import pytest
import redis

from nonet.common.errors import InputError, MissingExtraError
from nonet.logs.drain3 import TemplateMiner, TemplateMinerConfig
from nonet.logs.drain3.kafka_persistence import KafkaPersistence
from nonet.logs.drain3.masking import MaskingInstruction
from nonet.logs.drain3.memory_buffer_persistence import MemoryBufferPersistence
from nonet.logs.drain3.redis_persistence import RedisPersistence

NAMES = {
    "template_miner": ["TemplateMiner", "ExtractedParameter"],
    "template_miner_config": ["TemplateMinerConfig"],
    "masking": ["MaskingInstruction", "RegexMaskingInstruction", "LogMasker"],
    "drain": ["LogCluster"],
    "persistence_handler": ["PersistenceHandler"],
    "file_persistence": ["FilePersistence"],
    "memory_buffer_persistence": ["MemoryBufferPersistence"],
    "redis_persistence": ["RedisPersistence"],
    "kafka_persistence": ["KafkaPersistence"],
    "simple_profiler": ["NullProfiler"],
}


@pytest.mark.parametrize("module", NAMES)
def test_modules_have_the_peer_s_names(module: str) -> None:
    ours = importlib.import_module(f"nonet.logs.drain3.{module}")
    for name in NAMES[module]:
        assert getattr(ours, name) is not None
    if module == "kafka_persistence":
        return  # the peer imports kafka at once
    theirs = importlib.import_module(f"drain3.{module}")
    for name in NAMES[module]:
        if name not in ("TemplateMinerConfig", "LogCluster", "PersistenceHandler"):  # not called by programs
            wanted = inspect.signature(getattr(theirs, name)).parameters
            assert list(inspect.signature(getattr(ours, name)).parameters) == list(wanted), name


def learned(handler: object) -> TemplateMiner:
    miner = TemplateMiner(handler, TemplateMinerConfig())
    miner.add_log_message("disk full")
    return miner


def test_the_state_in_memory() -> None:
    handler = MemoryBufferPersistence()
    assert handler.load_state() is None
    learned(handler)
    again = MemoryBufferPersistence()
    again.state = handler.state
    assert TemplateMiner(again, TemplateMinerConfig()).match("disk full").cluster_id == 1


def test_the_state_in_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    server = fakeredis.FakeServer()

    def connect(**options: object) -> fakeredis.FakeRedis:
        assert options.pop("ssl") is False
        assert options == {"host": "localhost", "port": 6379, "db": 1, "password": None}
        return fakeredis.FakeRedis(server=server, db=options["db"])

    monkeypatch.setattr(redis, "Redis", connect)
    handler = RedisPersistence("localhost", 6379, 1, None, False, "drain3")
    assert handler.load_state() is None
    learned(handler)
    again = RedisPersistence(
        redis_host="localhost", redis_port=6379, redis_db=1, redis_pass=None, is_ssl=False, redis_key="drain3"
    )
    assert TemplateMiner(again, TemplateMinerConfig()).match("disk full").cluster_id == 1
    assert fakeredis.FakeRedis(server=server, db=1).keys() == [b"drain3"]


class FakeKafka:
    """One topic with one partition, in memory; what `KafkaPersistence` calls of kafka-python."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.is_slow = False
        self.num_open = 0
        self.TopicPartition = lambda topic, partition: (topic, partition)

    def KafkaProducer(self, **options: object) -> SimpleNamespace:
        assert options == {"bootstrap_servers": "localhost:9092"}

        def send(topic: str, value: bytes) -> None:
            assert topic == "states"
            self.values.append(value)

        return SimpleNamespace(send=send)

    def KafkaConsumer(self, **options: object) -> SimpleNamespace:
        assert options == {"bootstrap_servers": "localhost:9092"}
        self.num_open += 1
        place = SimpleNamespace(partition=None, offset=0)

        def poll(timeout_ms: int) -> dict[object, list[SimpleNamespace]]:
            assert timeout_ms == 2_000
            left = [SimpleNamespace(value=value) for value in self.values[place.offset :]]
            return {} if self.is_slow else {place.partition: left}

        def close() -> None:
            self.num_open -= 1

        return SimpleNamespace(
            assign=lambda partitions: setattr(place, "partition", partitions[0]),
            end_offsets=lambda partitions: {partitions[0]: len(self.values)},
            seek=lambda _, offset: setattr(place, "offset", offset),
            poll=poll,
            close=close,
        )


def test_the_state_in_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = FakeKafka()
    monkeypatch.setitem(sys.modules, "kafka", kafka)

    def handler() -> KafkaPersistence:
        return KafkaPersistence("states", snapshot_poll_timeout_sec=2, bootstrap_servers="localhost:9092")

    assert handler().load_state() is None
    learned(handler()).add_log_message("all is well")
    assert len(kafka.values) == 2
    again = TemplateMiner(handler(), TemplateMinerConfig())
    assert {again.match(line).cluster_id for line in ("disk full", "all is well")} == {1, 2}
    kafka.is_slow = True
    with pytest.raises(InputError, match="topic states"):
        handler().load_state()
    assert kafka.num_open == 0


@pytest.mark.parametrize(
    ("package", "name", "make"),
    [
        ("redis", "redis", lambda: RedisPersistence("localhost", 6379, 0, None, False, "k")),
        ("kafka", "kafka-python", lambda: KafkaPersistence("states")),
    ],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str, name: str, make) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=f"pip install {name}"):
        make()


def test_near_lines_become_one_cluster_with_the_third() -> None:
    miner = TemplateMiner(MemoryBufferPersistence(), TemplateMinerConfig())
    numbers = [miner.add_log_message(f"user {name} in")["cluster_id"] for name in ("ann", "bob", "eve")]
    assert numbers == [1, 2, 1]
    assert [(c.cluster_id, c.size) for c in miner.drain.clusters] == [(1, 3)]
    assert miner.match("user bob in").cluster_id == 1


def test_attributes_of_a_miner() -> None:
    config = TemplateMinerConfig(drain_max_clusters=100, mask_prefix="<:", mask_suffix=":>")
    config.masking_instructions = [MaskingInstruction(r"\d+", "N")]
    their_config = peer_config.TemplateMinerConfig()
    their_config.mask_prefix, their_config.mask_suffix, their_config.drain_max_clusters = "<:", ":>", 100
    their_config.masking_instructions = [peer_masking.MaskingInstruction(r"\d+", "N")]
    ours, theirs = TemplateMiner(config=config), peer.TemplateMiner(config=their_config)
    for message in (
        "took 7 us",
        "full",
        "took 8 us",
        "disk sda is full",
        "took off at last",
        "7",
        "took place in hall 8",
    ):
        assert ours.add_log_message(message) == theirs.add_log_message(message)
    for limit in (0, 1, 5):
        assert tree(ours, limit) == tree(theirs, limit)
    assert len(tree(ours, 1)) < len(tree(ours, 5))
    assert ours.drain.max_clusters == theirs.drain.max_clusters == 100
    assert ours.masker.mask("a 1 b 22") == theirs.masker.mask("a 1 b 22") == "a <:N:> b <:N:>"
    assert (ours.masker.mask_prefix, ours.masker.mask_suffix) == ("<:", ":>")
    assert config.masking_instructions[0].mask("a 1", "<", ">") == "a <N>"
    ours.profiler.start_section("total")
    ours.profiler.end_section()
    ours.profiler.report(0)


def tree(miner: object, max_clusters: int) -> list[str]:
    file = io.StringIO()
    miner.drain.print_tree(file, max_clusters)
    return file.getvalue().splitlines()
