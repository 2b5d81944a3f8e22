"""The state in Redis."""

from __future__ import annotations

from nonet.common.errors import MissingExtraError
from nonet.logs.drain3.persistence_handler import PersistenceHandler


class RedisPersistence(PersistenceHandler):
    """The state under one key.

    Raises:
        MissingExtraError: the package redis is not installed.
    """

    def __init__(
        self, redis_host: str, redis_port: int, redis_db: int, redis_pass: str | None, is_ssl: bool, redis_key: str
    ) -> None:
        try:
            import redis
        except ModuleNotFoundError as error:
            raise MissingExtraError("RedisPersistence needs redis; install it with: pip install redis") from error
        self.redis_key = redis_key
        self.r = redis.Redis(host=redis_host, port=redis_port, db=redis_db, password=redis_pass, ssl=is_ssl)

    def save_state(self, state: bytes) -> None:
        """Set the key."""
        self.r.set(self.redis_key, state)

    def load_state(self) -> bytes | None:
        """The value of the key; None when there is none."""
        state = self.r.get(self.redis_key)
        return state.encode() if isinstance(state, str) else state
