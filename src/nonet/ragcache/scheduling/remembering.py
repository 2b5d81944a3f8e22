"""What finished requests cost, for those who ask for it afterwards."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from nonet.ragcache.scheduling.request import RequestReport


class Remembered:
    """Reports of the latest requests; each is told to its tenant only.

    Args:
        capacity: how many; the oldest is forgotten.
    """

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self._told: OrderedDict[str, tuple[str, RequestReport, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._told)

    def add(self, tenant: str, report: RequestReport, considered: Any) -> None:
        """Remember a request.

        Args:
            tenant: whose it was.
            report: what it cost.
            considered: by chunk, the variants that were looked at.
        """
        self._told[report.request_id] = (tenant, report, considered)
        while len(self._told) > self.capacity:
            self._told.popitem(last=False)

    def find(self, tenant: str, request_id: str) -> tuple[RequestReport, Any] | None:
        """A report and what was considered; None when it is not known, or another tenant's.

        Args:
            tenant: who asks.
            request_id: of the request.
        """
        found = self._told.get(request_id)
        return found[1:] if found is not None and found[0] == tenant else None
