"""Logs of each kind for every test of this folder."""

from tests.recsys.logs.brokers import brokers, log, url

__all__ = ["brokers", "log", "url"]
