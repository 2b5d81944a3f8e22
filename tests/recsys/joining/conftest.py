"""Logs of each kind, on real brokers."""

from tests.recsys.logs.brokers import brokers, url

__all__ = ["brokers", "url"]
