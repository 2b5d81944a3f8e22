"""The registry of formats: what each is, which files it expects, which options it takes. The readers load when used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from nonet.common.registry import Registry

if TYPE_CHECKING:
    from nonet.coldstart.importing.base import Intake

UNIX_EPOCH = "1970-01-01T00:00:00Z"
_JSON = (".json", ".jsonl", ".ndjson", ".log", ".txt")
_TABLE = (".csv", ".parquet", ".pq")


@dataclass(frozen=True, slots=True)
class Importer:
    """One format.

    Attributes:
        name: its name on the command line.
        help: what it is, in a line.
        files: the files it expects.
        module: the file of `nonet.coldstart.importing` whose `run(intake)` reads it.
        epoch: ISO time of moment 0 of its traces, None for relative ones.
        options: names of its options and what they mean.
        endings: in folders and archives only names with these endings are read; all by default.
        rank: lower ones run first when several are ingested together (pods before the requests that need them).
    """

    name: str
    help: str
    files: str
    module: str
    epoch: str | None = UNIX_EPOCH
    options: Mapping[str, str] = field(default_factory=dict)
    endings: tuple[str, ...] = ()
    rank: int = 1

    def load(self) -> Callable[[Intake], None]:
        """The function that reads every file of an intake."""
        run: Callable[[Intake], None] = import_module(f"nonet.coldstart.importing.{self.module}").run
        return run

    def epoch_of(self, options: Mapping[str, str]) -> str | None:
        """Moment 0 with these options (`times=relative`)."""
        return None if "times" in self.options and options.get("times") == "relative" else self.epoch


IMPORTERS: Registry[Importer] = Registry("format")

_FIRST_CALLS = {
    "infer": "`no` leaves unknown what the log does not tell; by default the first request of a new pod is cold"
}

for _importer in (
    Importer(
        "k8s",
        "Kubernetes pods and events",
        "`kubectl get pods,events -A -o json`, in one file or several, a List or one object a line (also of a watch)",
        "kubernetes",
        endings=_JSON,
        rank=0,
    ),
    Importer(
        "knative",
        "Knative request logs of the queue-proxy; together with k8s, cold starts by stage",
        "request log lines as JSON (default template), bare, with a time before them, or wrapped by a log collector",
        "knative",
        options={
            "log_time": "what the time of a line is: `end` of the request or `start` (default: as pods tell, or end)",
            "function": "the function, where lines do not name it",
            "clock_skew": "seconds that the log's clock is ahead of the cluster's (default: 0)",
            **_FIRST_CALLS,
        },
        endings=_JSON,
    ),
    Importer(
        "lambda",
        "AWS Lambda: REPORT, INIT_REPORT and RESTORE_REPORT lines, platform events of the Telemetry API",
        "CloudWatch exports (text with times, JSON of filter-log-events, CSV of Logs Insights) or Telemetry API events",
        "aws_lambda",
        options={"function": "the function, where the log does not name it (default: the name of the file)"},
        endings=(*_JSON, ".csv"),
    ),
    Importer(
        "openwhisk",
        "Apache OpenWhisk activations",
        "activation records as JSON: `wsk activation get`, lists, one a line, or a CouchDB export",
        "openwhisk",
        endings=_JSON,
    ),
    Importer(
        "otel",
        "OpenTelemetry spans with faas.* attributes",
        "OTLP JSON of the file exporter (one request a line) or whole documents",
        "opentelemetry",
        endings=_JSON,
    ),
    Importer(
        "csv",
        "any table of requests, by a map of its columns",
        "CSV with a header line, or Parquet",
        "column_map",
        options={
            "map": "`arrive=ts:ms,function=name,end=done:ms,...` (column:unit; units ns, us, ms, s, min, h, iso)",
            "delimiter": "between the cells of CSV (default: a comma; `tab`)",
            "times": "`relative` when moment 0 is the beginning of the log, not 1970",
            **_FIRST_CALLS,
        },
        endings=_TABLE,
    ),
    Importer(
        "huawei2025",
        "Huawei Public Cloud 2025: cold starts, requests, runtimes and triggers, series (EuroSys 2025)",
        "the folders or zips of the release: cold_start/R*, per_request/R*, runtime_triggerType, quantiles/R*",
        "huawei2025",
        epoch=None,
        options={"log_time": "what the times of requests are: `end` (default) or `start`"},
        endings=(".csv",),
    ),
    Importer(
        "huawei2023",
        "Huawei 2023: requests, delays, CPU, memory and instances per minute or second (SoCC 2023)",
        "the folders or zips of the release: private_dataset/<metric>_<minute|second>/day_*.csv, public_dataset/...",
        "huawei2023",
        epoch=None,
        options={"requests": "`yes` also turns the counts of requests_* into requests, spread evenly in each step"},
        endings=(".csv",),
    ),
    Importer(
        "azure2019",
        "Azure Functions 2019: counts per minute, with durations and memory (ATC 2020)",
        "invocations_per_function_md.anon.dNN.csv, function_durations_percentiles.*, app_memory_percentiles.*",
        "azure2019",
        epoch=None,
        options={"share": "keep this share of the applications, 0 to 1 (default 1), always the same ones"},
        endings=(".csv",),
    ),
    Importer(
        "azure2021",
        "Azure Functions 2021: one row an invocation (SOSP 2021)",
        "AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt (unpack the .rar with unrar)",
        "azure2021",
        epoch=None,
        endings=(".txt", ".csv"),
    ),
    Importer(
        "ibm2026",
        "IBM Cloud Code Engine 2026: requests with pods, settings of applications (EuroSys 2026)",
        "tables of the release as CSV or Parquet (pickles are never read: convert them once with pandas, `to_parquet`)",
        "ibm2026",
        epoch=None,
        options=_FIRST_CALLS,
        endings=_TABLE,
    ),
    Importer(
        "alibaba",
        "Alibaba Function Compute traces of FaaSNet (ATC 2021)",
        "CSV with __time__, functionName, latency, runtime, memoryMB",
        "alibaba",
        endings=_TABLE,
    ),
):
    IMPORTERS.add(_importer.name, _importer)
