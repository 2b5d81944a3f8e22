"""Engines of the small model, stopped when a test has ended."""

import pytest

from tests.ragcache.scheduling.parts import toy_engine


@pytest.fixture
def make_engine():
    made = []

    def make(*args, **options):
        made.append(toy_engine(*args, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.stop(0)
