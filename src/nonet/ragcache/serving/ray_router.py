"""The router inside Ray Serve: its hooks, and nothing else. Loaded where Ray Serve is installed and used, only.

Ray Serve sends this module to its processes as a copy, so nothing that others must see may be a global here.
"""

from __future__ import annotations

import time
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from nonet.ragcache.serving import routing
from nonet.ragcache.serving.routing import RequestHint, Router, RoutingConfig

_FORGOTTEN_S = 900.0
"""Of a request that Serve has never said to be routed or ended, as when its client left while it waited."""


class ChunkRouter(RequestRouter):
    """Asks `Router` for the order in which Serve tries replicas; Serve itself knows which live and have room."""

    def initialize_state(self, **config: Any) -> None:
        """Called by Serve with `request_router_kwargs`.

        Args:
            config: fields of `RoutingConfig`.
        """
        self._router = routing.ROUTERS[self._deployment_id.name] = Router(RoutingConfig(**config))
        self._given: dict[str, tuple[str, float, float]] = {}
        """Of each request that is not done: replica, load, and when it was chosen."""

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """See `RequestRouter`; takes over what the replicas report."""
        super().update_replicas(replicas)
        self._router.set_replicas([one.replica_id.unique_id for one in replicas])
        for one in replicas:
            stats = one.routing_stats
            if stats:
                self._router.reported(one.replica_id.unique_id, stats["capacity_tokens"], stats["held"])

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """See `RequestRouter`."""
        super().on_replica_actor_died(replica_id)
        self._router.forget(replica_id.unique_id)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """See `RequestRouter`; each rank is one replica, so that Serve does not choose among them."""
        by_name = {one.replica_id.unique_id: one for one in candidate_replicas}
        known = [name for name in by_name if name in self._router.replicas]
        if not known:
            return [list(candidate_replicas)]
        hint = _hint_of(pending_request)
        request_id = pending_request.metadata.internal_request_id if pending_request is not None else ""
        self._end(request_id)
        choice = self._router.choose(hint, known)
        if request_id:
            # Counted now, not when it has arrived: the next request is chosen for in the meantime.
            self._give(request_id, choice.replica, hint)
        return [[by_name[name]] for name in choice.ranking]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """See `RequestRouter`; the first choice may have been full."""
        request_id = pending_request.metadata.internal_request_id
        if request_id in self._given and self._given[request_id][0] != replica_id.unique_id:
            self._end(request_id)
            self._give(request_id, replica_id.unique_id, _hint_of(pending_request))

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """See `RequestRouter`."""
        self._end(internal_request_id)

    def _give(self, request_id: str, name: str, hint: RequestHint) -> None:
        now_s = time.monotonic()
        for old in [one for one, (_, _, since_s) in self._given.items() if now_s - since_s > _FORGOTTEN_S]:
            self._end(old)
        self._given[request_id] = (name, self._router.sent(name, hint), now_s)

    def _end(self, request_id: str) -> None:
        given = self._given.pop(request_id, None)
        if given is not None:
            self._router.done(given[0], given[1])


def _hint_of(pending_request: PendingRequest | None) -> RequestHint:
    hint = pending_request.kwargs.get("hint") if pending_request is not None else None
    return hint if isinstance(hint, RequestHint) else RequestHint()
