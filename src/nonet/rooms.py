"""The rooms that exist: one line each, from which the command line, the tour and the docs are made.

Nothing is imported here but names, so listing the rooms costs nothing.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from nonet.common.errors import MissingExtraError


@dataclass(frozen=True, slots=True)
class Room:
    """A room of the house.

    Args:
        name: its name on the command line and as `nonet.<name>`.
        help: one line, shown by `nonet --help`.
        paper: the published system that it rebuilds.
    """

    name: str
    help: str
    paper: str

    def load(self, module: str) -> ModuleType:
        """Import `nonet.<room>.<module>`.

        Raises:
            MissingExtraError: a package that the room needs is not installed; the message says how to install it.
        """
        try:
            return importlib.import_module(f"nonet.{self.name}.{module}")
        except ModuleNotFoundError as error:
            raise self.explain_missing(error) from error

    def explain_missing(self, error: ModuleNotFoundError) -> Exception:
        """The command that installs what the room lacks; the error itself when it is one of our own modules."""
        package = (error.name or "").partition(".")[0]
        if package == "nonet":
            return error
        return MissingExtraError(
            f"room {self.name!r} needs the package {package!r}; install it with: pip install 'nonet[{self.name}]'"
        )


ROOMS: dict[str, Room] = {
    room.name: room
    for room in (
        Room(
            "logs",
            "Parse logs into templates and parameters; evaluate parsers.",
            "Jiang et al., A Large-Scale Evaluation for Log Parsing Techniques: How Far Are We?, ISSTA 2024",
        ),
        Room(
            "coldstart",
            "Serverless cold starts: traces, policies, causes.",
            "Joosen et al., Serverless Cold Starts and Where to Find Them, EuroSys 2025",
        ),
        Room(
            "power",
            "Row power of GPU servers: how many more fit, and a controller.",
            "Patel et al., Characterizing Power Management Opportunities for LLMs in the Cloud (POLCA), ASPLOS 2024",
        ),
        Room(
            "ragcache",
            "An inference server that reuses the KV cache of retrieved chunks.",
            "Agarwal et al., Cache-Craft: Managing Chunk-Caches for Efficient Retrieval-Augmented Generation, "
            "SIGMOD 2025",
        ),
        Room(
            "recsys",
            "Recommendations that learn online: collisionless tables, joiner, sync, serving.",
            "Liu et al., Monolith: Real Time Recommendation System With Collisionless Embedding Table, 2022",
        ),
    )
}
