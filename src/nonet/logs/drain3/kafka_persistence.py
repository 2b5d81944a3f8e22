"""The state in Kafka."""

from __future__ import annotations

from typing import Any

from nonet.common.errors import InputError, MissingExtraError
from nonet.logs.drain3.persistence_handler import PersistenceHandler


class KafkaPersistence(PersistenceHandler):
    """The state as the last message of a topic with one partition.

    Args:
        topic: its name.
        snapshot_poll_timeout_sec: how long to wait for the message.
        kafka_client_options: of the clients of kafka-python, such as `bootstrap_servers`.

    Raises:
        MissingExtraError: the package kafka-python is not installed.
    """

    def __init__(self, topic: str, snapshot_poll_timeout_sec: float = 60, **kafka_client_options: Any) -> None:
        try:
            import kafka
        except ModuleNotFoundError as error:
            reason = "KafkaPersistence needs kafka-python; install it with: pip install kafka-python"
            raise MissingExtraError(reason) from error
        self._kafka = kafka
        self.topic = topic
        self.snapshot_poll_timeout_sec = snapshot_poll_timeout_sec
        self.kafka_client_options = kafka_client_options
        self.producer = kafka.KafkaProducer(**kafka_client_options)

    def save_state(self, state: bytes) -> None:
        """Send the state."""
        self.producer.send(self.topic, value=state)

    def load_state(self) -> bytes | None:
        """The last message; None when the topic is empty.

        Raises:
            InputError: there is a message, and it did not come in time.
        """
        consumer = self._kafka.KafkaConsumer(**self.kafka_client_options)
        try:
            partition = self._kafka.TopicPartition(self.topic, 0)
            consumer.assign([partition])
            end = consumer.end_offsets([partition])[partition]
            if end == 0:
                return None
            consumer.seek(partition, end - 1)
            records = consumer.poll(timeout_ms=int(1000 * self.snapshot_poll_timeout_sec))
            if not records:
                raise InputError(
                    f"no state came from topic {self.topic} in {self.snapshot_poll_timeout_sec} s; try again"
                )
            state: bytes = records[partition][-1].value
            return state
        finally:
            consumer.close()
