"""Row power from Prometheus: the latest reading by an instant query, a recorded stretch by range queries.

An instant query is stamped with the time of the question, also when the scrape behind it is minutes old. Therefore
the age is always asked for along with the power: `timestamp(...)` of a plain selector, the oldest time stamp of a sum
over GPUs, or the `time_query` of any other expression. Power, time and the servers' own powers come back from one
evaluation, so they belong together.

`dcgm` sums the GPU powers of dcgm-exporter and makes servers of them (base and factor); a PDU's own series is better.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from pydantic import Field, model_validator

from nonet.common.errors import InputError
from nonet.power.controlling.actuators.protocol import Server
from nonet.power.controlling.telemetry.protocol import (
    TELEMETRY,
    Reading,
    TelemetryConfig,
    TelemetryError,
    TelemetryKind,
)

DCGM_POWER = "DCGM_FI_DEV_POWER_USAGE"
"""Watts of one GPU, by dcgm-exporter; its labels are gpu, UUID, modelName, Hostname."""
DCGM_HOST_LABEL = "Hostname"
MAX_ANSWER_BYTES = 64 << 20
MAX_POINTS = 11_000
"""Points of one series that Prometheus answers at once."""
_PART = "nonet_part"
_SELECTOR = re.compile(r"\s*[a-zA-Z_:][a-zA-Z0-9_:]*\s*(\{[^{}]*\})?\s*")


class PrometheusConfig(TelemetryConfig):
    """Section `[telemetry]` with `source = "prometheus"`."""

    url: str = Field(description="Where Prometheus answers, http(s)://host:9090, with any path before /api.")
    query: str = Field("", description="Gives the power of the row: one series.")
    time_query: str = Field("", description="Gives the time stamp of that power; known when query is a plain selector.")
    unit_w: float = Field(1.0, gt=0, description="Watts of one unit of the query (1000 for kW).")
    server_query: str = Field("", description="Gives the power of each server, in the same unit.")
    server_label: str = Field("instance", description="Label of server_query that names the server.")
    dcgm: str | None = Field(
        None, description='Instead of queries: label matchers of dcgm-exporter, such as Hostname=~"node.*"; "" for all.'
    )
    base_w: float = Field(0.0, ge=0, description="With dcgm: what a server draws beside its GPUs, watts.")
    gpu_factor: float = Field(1.0, ge=1, description="With dcgm: server watts per GPU watt.")
    token_env: str = Field("PROMETHEUS_TOKEN", description="Variable of the environment with a bearer token.")
    ca_file: Path | None = Field(None, description="Certificates (PEM) to trust; the usual ones when left out.")

    @model_validator(mode="after")
    def _asks_something(self) -> PrometheusConfig:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url {self.url!r} must be http(s)://host:port")
        if (self.dcgm is None) == (not self.query):
            raise ValueError("give either query or dcgm")
        if self.dcgm is None and not self.time_query and not _SELECTOR.fullmatch(self.query):
            raise ValueError(
                "query is more than a plain selector: give time_query, too, such as min(timestamp(row_power_watts)), "
                "or the age of its samples cannot be seen"
            )
        return self

    def parts(self) -> dict[str, str]:
        """PromQL by what it gives: power, time, server."""
        if self.dcgm is not None:
            gpus = f"{DCGM_POWER}{{{self.dcgm}}}"
            hosts = f"{self.base_w!r} + {self.gpu_factor!r} * sum by ({DCGM_HOST_LABEL}) ({gpus})"
            return {"power": f"sum({hosts})", "time": f"min(timestamp({gpus}))", "server": hosts}
        found = {"power": self.query, "time": self.time_query or f"timestamp({self.query})"}
        return found | ({"server": self.server_query} if self.server_query else {})


class PrometheusTelemetry:
    """Asks Prometheus.

    Raises:
        InputError: the file of certificates cannot be read.
    """

    name = "prometheus"

    def __init__(self, config: PrometheusConfig, servers: Sequence[Server]) -> None:
        self._config = config
        self._indices = {server.name: server.index for server in servers}
        self._label = DCGM_HOST_LABEL if config.dcgm is not None else config.server_label
        self._unit_w = 1.0 if config.dcgm is not None else config.unit_w
        self._latest: Reading | None = None
        token = os.environ.get(config.token_env, "")
        self._client = httpx2.Client(
            base_url=config.url.rstrip("/"),
            timeout=config.timeout_s,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=_trusted(config.ca_file),
        )

    def read(self) -> Reading | None:
        """The latest scrape; None before the first. See `Telemetry.read`."""
        query = _joined(self._config.parts())
        powers: dict[str, list[tuple[Mapping[str, str], float]]] = {"power": [], "time": [], "server": []}
        for labels, value in self._vector(self._ask("query", {"query": query})):
            powers.setdefault(labels.get(_PART, ""), []).append((labels, value))
        if not powers["power"]:
            return self._latest  # the series has ended; its last reading goes on ageing
        if len(powers["power"]) > 1:
            raise TelemetryError(f"prometheus: the query gives {len(powers['power'])} series, not one; write sum(...)")
        measured_s = [value for _, value in powers["time"]]
        if len(measured_s) != 1 or not math.isfinite(measured_s[0]):
            raise TelemetryError(f"prometheus: time_query gives {len(measured_s)} series, not one; write min(...)")
        own = {
            self._indices[labels[self._label]]: value * self._unit_w
            for labels, value in powers["server"]
            if labels.get(self._label) in self._indices
        }
        self._latest = Reading(powers["power"][0][1] * self._unit_w, measured_s[0], own or None)
        return self._latest

    def history(self, start_s: float, end_s: float, step_s: float) -> tuple[np.ndarray, np.ndarray]:
        """What Prometheus recorded in a stretch of time, without the repetitions with which it fills gaps.

        Args:
            start_s: first moment, seconds since 1970.
            end_s: last moment.
            step_s: time between questions; the scrape interval loses nothing.

        Returns:
            time_s and power_w, float64 of the same length, by time; the times are those of the scrapes.

        Raises:
            InputError: an empty stretch, or more than ten million points.
            TelemetryError: Prometheus cannot be read, or the query gives several series.
        """
        if not (step_s > 0 and start_s < end_s and (end_s - start_s) / step_s <= 1e7):
            raise InputError(f"prometheus: no stretch of time from {start_s:g} to {end_s:g} by {step_s:g} s")
        times: list[float] = []
        powers: list[float] = []
        parts = {name: query for name, query in self._config.parts().items() if name != "server"}
        for first_s, last_s in _chunks(start_s, end_s, step_s):
            question = {"query": _joined(parts), "start": repr(first_s), "end": repr(last_s), "step": repr(step_s)}
            series = self._matrix(self._ask("query_range", question))
            stamps = series.get("time", {})
            for moment, power in sorted(series.get("power", {}).items()):
                stamp = stamps.get(moment, math.nan)
                if math.isfinite(stamp) and stamp >= start_s and (not times or stamp > times[-1]):
                    times.append(stamp)
                    powers.append(power * self._unit_w)
        return np.array(times, dtype=np.float64), np.array(powers, dtype=np.float64)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    # -- HTTP

    def _ask(self, what: str, question: dict[str, str]) -> Any:
        where = f"{self._config.url}: {what}"
        end_s = time.monotonic() + self._config.timeout_s
        body = bytearray()
        question = question | {"timeout": f"{math.ceil(self._config.timeout_s * 1000)}ms"}
        try:
            with self._client.stream("POST", f"/api/v1/{what}", data=question) as answer:
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise TelemetryError(f"{where}: the answer is longer than {MAX_ANSWER_BYTES} bytes")
                    if time.monotonic() > end_s:
                        raise TelemetryError(f"{where}: the answer comes too slowly; see timeout_s")
        except httpx2.TimeoutException as error:
            raise TelemetryError(f"{where}: no answer within {self._config.timeout_s:g} s") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise TelemetryError(f"{where}: {error or type(error).__name__}; is Prometheus there?") from error
        if answer.status_code in (401, 403):
            raise TelemetryError(f"{where}: {answer.status_code}; give a token in {self._config.token_env}")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise TelemetryError(f"{where}: {answer.status_code}, and no JSON; is that Prometheus?") from error
        if not isinstance(found, dict) or found.get("status") != "success":
            problem = found.get("error") if isinstance(found, dict) else found
            raise TelemetryError(f"{where}: {' '.join(str(problem).split())[:300]}")
        return found.get("data")

    def _vector(self, data: Any) -> Iterator[tuple[Mapping[str, str], float]]:
        try:
            for entry in data["result"]:
                yield entry["metric"], float(entry["value"][1])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise TelemetryError(f"{self._config.url}: the answer is no instant vector") from error

    def _matrix(self, data: Any) -> dict[str, dict[float, float]]:
        found: dict[str, dict[float, float]] = {}
        try:
            for entry in data["result"]:
                part = entry["metric"].get(_PART, "")
                if part in found:
                    raise TelemetryError("prometheus: the query gives several series, not one; write sum(...)")
                found[part] = {float(moment): float(value) for moment, value in entry["values"]}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TelemetryError(f"{self._config.url}: the answer is no matrix") from error
        return found


def _joined(parts: Mapping[str, str]) -> str:
    """One query that gives all parts, each with a label that says which it is.

    >>> _joined({"power": "pdu_watts"})
    'label_replace(pdu_watts, "nonet_part", "power", "", "")'
    """
    return " or ".join(f'label_replace({query}, "{_PART}", "{part}", "", "")' for part, query in parts.items())


def _chunks(start_s: float, end_s: float, step_s: float) -> Iterator[tuple[float, float]]:
    count = int((end_s - start_s) / step_s + 1e-9) + 1
    for first in range(0, count, MAX_POINTS - 1):
        last = min(first + MAX_POINTS - 2, count - 1)
        yield start_s + first * step_s, start_s + last * step_s


def _trusted(ca_file: Path | None) -> Any:
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file) if ca_file else True
    except OSError as error:
        raise InputError(f"telemetry.ca_file {ca_file}: {error}") from error


TELEMETRY.add("prometheus", TelemetryKind(PrometheusConfig, PrometheusTelemetry, "a query to Prometheus"))
