"""Which replica a request goes to: where most of its chunks are in memory, as long as the load stays even.

All replicas reach every stored variant through the shared store, so a wrong choice costs a slow read, never an answer.
That is why load comes first: only replicas within a bound of the mean are considered, and the chunks decide among them.
Chunks that no replica holds have a home by rendezvous hashing (Thaler and Ravishankar 1998), the same for every router
without any talk between routers; the bound is that of consistent hashing with bounded loads (Mirrokni et al. 2018).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nonet.common.errors import InputError

_HOME_WEIGHT = 0.1
"""What an unknown chunk's token counts at its home, beside a known one's where it is known: being read there saves
nothing yet."""


@dataclass(frozen=True, slots=True)
class ChunkHint:
    """A chunk as a router sees it.

    Args:
        key: of its text and tenant; need not be the key under which its KV is stored.
        num_tokens: about how long it is.
    """

    key: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class RequestHint:
    """What a router knows of a request before anybody has read it.

    Args:
        chunks: in their order.
        other_tokens: about how many tokens are computed in any case: question, history, answer.
    """

    chunks: tuple[ChunkHint, ...] = ()
    other_tokens: int = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a request goes.

    Args:
        replica: the best one.
        ranking: all that may take it, the best first, then those that are loaded beyond the bound, least loaded first.
        known_tokens: of its chunks, in the replica's memory already.
        load_tokens: what the replica's load grows by until the request is done.
    """

    replica: str
    ranking: tuple[str, ...]
    known_tokens: int
    load_tokens: float


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """How chunks and load are weighed.

    Args:
        max_ratio: a replica may have this much of the mean load ...
        slack_tokens: ... and this many tokens more before a request goes elsewhere: about a long prompt, so that the
            next request for its chunks waits for them rather than have them computed twice. With few open requests
            this is what counts, and replicas may be idle meanwhile.
        load_weight: tokens in memory that outweigh one token of load. Reading a token's KV from the shared store costs
            less than computing a token, so it is below 1.
        known_cost: share of a known chunk's tokens that it costs all the same (what is repaired).
        default_capacity_tokens: what a replica holds in memory when it does not say.

    Raises:
        InputError: numbers that would starve replicas or requests.
    """

    max_ratio: float = 1.25
    slack_tokens: float = 2048.0
    load_weight: float = 0.25
    known_cost: float = 0.2
    default_capacity_tokens: int = 200_000

    def __post_init__(self) -> None:
        if self.max_ratio < 1 or self.slack_tokens < 0 or self.load_weight < 0 or not 0 <= self.known_cost <= 1:
            raise InputError("routing needs max_ratio >= 1, slack_tokens and load_weight >= 0, known_cost in [0, 1]")
        if self.default_capacity_tokens < 1:
            raise InputError("routing needs default_capacity_tokens >= 1")


@dataclass(frozen=True, slots=True)
class RoutingStats:
    """What a router has done.

    Args:
        num_replicas: that can be chosen now.
        num_routed: requests so far.
        chunk_tokens: of their chunks, about.
        known_tokens: of these, where the chosen replica had them in memory.
    """

    num_replicas: int
    num_routed: int
    chunk_tokens: int
    known_tokens: int


class Holdings:
    """The chunks that fit into a memory, the latest used staying.

    Args:
        capacity_tokens: of the memory.

    >>> memory = Holdings(500)
    >>> for key in "abac":
    ...     memory.hold(key, 200)
    >>> list(memory)
    ['a', 'c']
    """

    def __init__(self, capacity_tokens: int) -> None:
        self.capacity_tokens = capacity_tokens
        self._held: OrderedDict[str, int] = OrderedDict()
        self._held_tokens = 0

    def __contains__(self, key: str) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def items(self) -> list[tuple[str, int]]:
        """Key and tokens of each chunk, the longest unused first."""
        return list(self._held.items())

    def hold(self, key: str, num_tokens: int) -> None:
        """Count a use of a chunk.

        Args:
            key: of the chunk.
            num_tokens: its length.
        """
        self._held_tokens += num_tokens - self._held.pop(key, 0)
        self._held[key] = num_tokens
        while self._held_tokens > self.capacity_tokens:
            self._held_tokens -= self._held.popitem(last=False)[1]


class _Replica:
    def __init__(self, capacity_tokens: int) -> None:
        self.load_tokens = 0.0
        self.held = Holdings(capacity_tokens)
        self.sent: tuple[dict[str, int], dict[str, int]] = ({}, {})
        """Chunks sent before its last report and after the one before that, and since."""

    def send(self, chunks: Iterable[ChunkHint]) -> None:
        for chunk in chunks:
            self.held.hold(chunk.key, chunk.num_tokens)
            self.sent[1][chunk.key] = chunk.num_tokens

    def report(self, capacity_tokens: int, held: Sequence[tuple[str, int]]) -> None:
        # A report is a little old when it arrives: what was sent about then is taken for held as well.
        self.held = Holdings(capacity_tokens)
        for key, num_tokens in (*held, *self.sent[0].items(), *self.sent[1].items()):
            self.held.hold(key, num_tokens)
        self.sent = (self.sent[1], {})


class Router:
    """Chooses replicas, and remembers what each holds and how much it has to do; not safe to call from two threads.

    Memory: about 150 bytes a chunk that a replica holds.

    Args:
        config: how chunks and load are weighed.

    >>> router = Router()
    >>> router.set_replicas(["a", "b"])
    >>> hint = RequestHint((ChunkHint("x", 300), ChunkHint("y", 200)), 20)
    >>> first = router.choose(hint)
    >>> load_tokens = router.sent(first.replica, hint)
    >>> again = router.choose(RequestHint((ChunkHint("y", 200), ChunkHint("x", 300)), 20))
    >>> again.replica == first.replica, first.known_tokens, again.known_tokens
    (True, 0, 500)
    >>> router.done(first.replica, load_tokens)
    """

    def __init__(self, config: RoutingConfig | None = None) -> None:
        self._config = config or RoutingConfig()
        self._replicas: dict[str, _Replica] = {}
        self._num_routed = 0
        self._known_tokens = 0
        self._chunk_tokens = 0

    @property
    def replicas(self) -> tuple[str, ...]:
        """Those that can be chosen."""
        return tuple(self._replicas)

    @property
    def stats(self) -> RoutingStats:
        """What it has done."""
        return RoutingStats(len(self._replicas), self._num_routed, self._chunk_tokens, self._known_tokens)

    @property
    def loads(self) -> Mapping[str, float]:
        """Tokens that each has to do."""
        return {name: one.load_tokens for name, one in self._replicas.items()}

    def set_replicas(self, names: Iterable[str]) -> None:
        """Say which replicas there are; what is known of those that stay is kept, of those that go forgotten.

        Args:
            names: unique.
        """
        capacity = self._config.default_capacity_tokens
        self._replicas = {name: self._replicas.get(name) or _Replica(capacity) for name in names}

    def forget(self, name: str) -> None:
        """Leave a replica out that has died; one that is not known is no error.

        Args:
            name: which.
        """
        self._replicas.pop(name, None)

    def reported(self, name: str, capacity_tokens: int, held: Sequence[tuple[str, int]]) -> None:
        """Take a replica's own word for what it holds; what was sent to it lately is added to that.

        Args:
            name: which; one that is not known is no error.
            capacity_tokens: what fits into its memory.
            held: key and tokens of each chunk in its memory, the longest unused first.
        """
        replica = self._replicas.get(name)
        if replica is not None:
            replica.report(max(1, capacity_tokens), held)

    def choose(self, hint: RequestHint, among: Collection[str] | None = None) -> Choice:
        """The replica for a request.

        Args:
            hint: the request.
            among: which may be chosen; None for all.

        Raises:
            InputError: there is none.
        """
        allowed = {name: one for name, one in self._replicas.items() if among is None or name in among}
        if not allowed:
            raise InputError("no replica is running; wait until one has started")
        mean = sum(one.load_tokens for one in allowed.values()) / len(allowed)
        bound = self._config.max_ratio * mean + self._config.slack_tokens
        scores = self._scores(hint, allowed)
        least = min(one.load_tokens for one in allowed.values())
        seat = self._seat(hint)

        def rank(name: str) -> tuple[bool, float, float, int]:
            load = allowed[name].load_tokens
            if load > bound:
                return True, load, 0.0, 0
            return False, self._config.load_weight * (load - least) - scores[name], load, _rendezvous(seat, name)

        ranking = tuple(sorted(allowed, key=rank))
        best = ranking[0]
        known = sum(chunk.num_tokens for chunk in hint.chunks if chunk.key in allowed[best].held)
        return Choice(best, ranking, known, self._cost(hint, known))

    def sent(self, name: str, hint: RequestHint) -> float:
        """Count a request that a replica has been given; its chunks will be in the replica's memory.

        Args:
            name: the replica.
            hint: the request.

        Returns:
            What to give to `done` when it has ended, in tokens.
        """
        replica = self._replicas.get(name)
        if replica is None:
            return 0.0
        known = sum(chunk.num_tokens for chunk in hint.chunks if chunk.key in replica.held)
        cost = self._cost(hint, known)
        replica.load_tokens += cost
        self._num_routed += 1
        self._known_tokens += known
        self._chunk_tokens += sum(chunk.num_tokens for chunk in hint.chunks)
        replica.send(hint.chunks)
        return cost

    def done(self, name: str, load_tokens: float) -> None:
        """Count the end of a request.

        Args:
            name: the replica that had it; one that is gone is no error.
            load_tokens: what `sent` gave.
        """
        replica = self._replicas.get(name)
        if replica is not None:
            replica.load_tokens = max(0.0, replica.load_tokens - load_tokens)

    def _scores(self, hint: RequestHint, allowed: Mapping[str, _Replica]) -> dict[str, float]:
        scores = dict.fromkeys(allowed, 0.0)
        for chunk in hint.chunks:
            holders = [name for name, one in allowed.items() if chunk.key in one.held]
            for name in holders:
                scores[name] += chunk.num_tokens
            if not holders:
                home = max(allowed, key=lambda name: _rendezvous(chunk.key, name))
                scores[home] += _HOME_WEIGHT * chunk.num_tokens
        return scores

    def _seat(self, hint: RequestHint) -> str:
        """What breaks ties: the chunks, or, without any, another replica each time."""
        return "/".join(sorted(chunk.key for chunk in hint.chunks)) or str(self._num_routed)

    def _cost(self, hint: RequestHint, known_tokens: int) -> float:
        total = sum(chunk.num_tokens for chunk in hint.chunks)
        return hint.other_tokens + (total - known_tokens) + self._config.known_cost * known_tokens


ROUTERS: dict[str, Router] = {}
"""The routers of this process, by the name of what they route to."""


def _rendezvous(key: str, name: str) -> int:
    digest = hashlib.blake2b(f"{len(key)}/{key}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
