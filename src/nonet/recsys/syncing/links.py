"""Ways from a publisher to a replica: in the process, and over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nonet.common.errors import MissingExtraError
from nonet.recsys.syncing.publisher import LinkDownError
from nonet.recsys.syncing.replica import Replica

if TYPE_CHECKING:
    from fastapi import FastAPI

SYNC_PATH = "/v1/sync"
MAX_FRAME_BYTES = 256 << 20


class InProcessLink:
    """A replica in this process. Bytes travel here, too: it shares no memory with what is trained.

    Args:
        replica: that receives.

    >>> from nonet.recsys import DeltaPublisher, EmbeddingTable, Replica
    >>> publisher = DeltaPublisher({"user": EmbeddingTable(2, name="user")})
    >>> publisher.attach("here", InProcessLink(Replica({"user": 2})))
    >>> publisher.detach("here")
    """

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def send(self, frame: bytes) -> bytes:
        """See `Link`."""
        return self._replica.receive(frame)


class HttpLink:
    """A replica that serves `add_sync_route`.

    Args:
        address: such as http://host:port, or with the path where it is not /v1/sync.
        token: its bearer token.
        timeout_s: for an answer.

    Raises:
        MissingExtraError: httpx2 is not installed.
    """

    def __init__(self, address: str, *, token: str | None = None, timeout_s: float = 5.0) -> None:
        try:
            import httpx2
        except ImportError as error:
            raise MissingExtraError("sync over HTTP needs httpx2: pip install 'nonet[recsys]'") from error
        has_path = bool(urlsplit(address).path.strip("/"))
        self.address = address if has_path else address.rstrip("/") + SYNC_PATH
        self._down: type[Exception] = httpx2.TransportError
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = httpx2.Client(timeout=timeout_s, headers=headers)

    def send(self, frame: bytes) -> bytes:
        """See `Link`."""
        try:
            response = self._client.post(self.address, content=frame)
        except self._down as error:
            raise LinkDownError(f"replica at {self.address} does not answer: {error}") from error
        if response.status_code != 200:
            raise LinkDownError(f"replica at {self.address} answers {response.status_code}: {response.text[:200]}")
        return response.content

    def close(self) -> None:
        """End the connections."""
        self._client.close()


def add_sync_route(app: FastAPI, replica: Replica, path: str = SYNC_PATH) -> None:
    """Let publishers reach a replica by POST; the application must allow bodies as large as its deltas.

    Args:
        app: of `make_app(max_body_bytes=MAX_FRAME_BYTES)`.
        replica: that receives.
        path: of the route.
    """
    from fastapi import Request
    from fastapi.concurrency import run_in_threadpool
    from fastapi.responses import Response

    async def sync(request: Request) -> Any:
        answer = await run_in_threadpool(replica.receive, await request.body())
        return Response(answer, media_type="application/octet-stream")

    app.add_route(path, sync, methods=["POST"])
