"""The data sets of the room in the registry of `nonet.common.datasets`: public request traces and measured tables.

Names are `azure2023/code`, `azure2024/conv`, `azure2025/multimodal`, `burstgpt/1`, `mooncake/toolagent`,
`splitwise/perf-model` and so on; `names_of_room` has them all. `nonet.power.load.readers.read_requests` reads every
trace. No public trace has priorities: the reader draws them by service. Nothing is downloaded on import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nonet.common.datasets import DATASETS, DataFile, Dataset, cache_folder, fetch, is_local
from nonet.common.errors import InputError

_AZURE = "https://github.com/Azure/AzurePublicDataset"
_AZURE_RAW = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data"
_BURSTGPT = "https://github.com/HPMLL/BurstGPT"
_MOONCAKE = "https://github.com/kvcache-ai/Mooncake"
_MOONCAKE_RAW = "https://raw.githubusercontent.com/kvcache-ai/Mooncake/main/FAST25-release/traces"
_SPLITWISE = "https://github.com/Mutinifni/splitwise-sim"
_SPLITWISE_RAW = "https://raw.githubusercontent.com/Mutinifni/splitwise-sim/8f99e7dc9b407f4ce2488d03dd44c0b8b946dab0"
_MLENERGY = "https://github.com/ml-energy/leaderboard"

_CC_BY = "CC BY 4.0"
_SPLITWISE_PAPER = (
    "Pratyush Patel et al. Splitwise: Efficient Generative LLM Inference Using Phase Splitting. ISCA 2024."
)
_DYNAMOLLM = "Jovan Stojkovic et al. DynamoLLM: Designing LLM Inference Clusters for Performance and Energy. HPCA 2025."
_MODSERVE = "Haoran Qiu et al. ModServe: Modality- and Stage-Aware Resource Disaggregation. SoCC 2025."
_BURSTGPT_PAPER = "Yuxin Wang et al. BurstGPT: A Real-world Workload Dataset to Optimize LLM Serving Systems. 2024."
_MOONCAKE_PAPER = "Ruoyu Qin et al. Mooncake: Trading More Storage for Less Computation. FAST 2025."
_MLENERGY_PAPER = "Jae-Won Chung et al. The ML.ENERGY Benchmark. NeurIPS Datasets and Benchmarks 2025."

_PAGE_STARTS = (b"<", b"version https://git-lfs")


def list_datasets() -> list[dict[str, Any]]:
    """Every data set of the room: name, files, whether it is at hand, its terms, what to cite, where it is."""
    return [
        {
            "name": name,
            "num_files": len(DATASETS[name].files),
            "local": is_local(DATASETS[name]),
            "licence": DATASETS[name].licence,
            "citation": DATASETS[name].citation,
            "homepage": DATASETS[name].homepage,
        }
        for name in names_of_room()
    ]


def names_of_room() -> list[str]:
    """The names of the data sets of this room."""
    return [dataset.name for dataset in _SETS]


def select(family: str) -> list[str]:
    """The data sets that `fetch FAMILY` means: a name, or all that have it before their `/`.

    Raises:
        InputError: nothing of that name.

    >>> select("azure2024")
    ['azure2024/code', 'azure2024/conv']
    """
    chosen = [name for name in names_of_room() if family in (name, name.split("/")[0])]
    if not chosen:
        raise InputError(f"no data set {family!r}; there are {', '.join(names_of_room())}")
    return chosen


def fetch_dataset(name: str) -> dict[str, Path]:
    """Download what is missing of a data set into the cache; its files by role.

    Raises:
        InputError: no such set, no address, no connection, or the server sent a page instead of the file.
    """
    dataset = DATASETS[name]
    try:
        found = fetch(dataset)
    except InputError as error:
        raise InputError(f"{error} (published at {dataset.homepage})") from error
    for path in found.values():
        if path.is_relative_to(cache_folder()) and _starts(path).startswith(_PAGE_STARTS):
            path.unlink()
            raise InputError(
                f"{name}: the server sent a page instead of {path.name}; get it in a browser from {dataset.homepage} "
                f"and put it into {path.parent}"
            )
    return found


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64).lstrip()


def _azure() -> list[Dataset]:
    sets = []
    for kind, sha256 in (
        ("code", "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6"),
        ("conv", "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8"),
    ):
        url = f"{_AZURE_RAW}/AzureLLMInferenceTrace_{kind}.csv"
        file = DataFile("requests", f"power/AzureLLMInferenceTrace_2023_{kind}.csv", url, sha256=sha256)
        sets.append(Dataset(f"azure2023/{kind}", (file,), _CC_BY, _SPLITWISE_PAPER, _AZURE))
    for kind in ("code", "conv"):
        # First published as azurepublicdatasettraces.blob.core.windows.net/azurellminfererencetrace/<the same name>;
        # the publisher has since moved its list of links to the release.
        name = f"AzureLLMInferenceTrace_{kind}_1week.csv"
        file = DataFile("requests", f"power/{name}", f"{_AZURE}/releases/download/dataset-llm-2024/{name}")
        sets.append(Dataset(f"azure2024/{kind}", (file,), _CC_BY, _DYNAMOLLM, _AZURE))
    rate = DataFile("rate", "power/azure2024_week_rate_digitized.csv")
    sets.append(Dataset("azure2024-figures/week-rate", (rate,), f"{_CC_BY} (digitised)", _DYNAMOLLM, _AZURE))
    name = "AzureLMMInferenceTrace_multimodal.csv.gz"
    file = DataFile("requests", f"power/{name}", f"{_AZURE_RAW}/{name}")
    sets.append(Dataset("azure2025/multimodal", (file,), _CC_BY, _MODSERVE, _AZURE))
    return sets


def _burstgpt() -> list[Dataset]:
    sets = []
    for number, release, sha256 in (
        (1, "v1.1", ""),
        (2, "v1.1", ""),
        (3, "v2.0", "2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f"),
    ):
        name = f"BurstGPT_{number}.csv"
        url = f"{_BURSTGPT}/releases/download/{release}/{name}"
        file = DataFile("requests", f"power/{name}", url, sha256=sha256)
        sets.append(Dataset(f"burstgpt/{number}", (file,), _CC_BY, _BURSTGPT_PAPER, _BURSTGPT))
    return sets


def _mooncake() -> list[Dataset]:
    sets = []
    for kind in ("conversation", "toolagent", "synthetic"):
        file = DataFile("requests", f"power/mooncake_{kind}.jsonl", f"{_MOONCAKE_RAW}/{kind}_trace.jsonl")
        sets.append(Dataset(f"mooncake/{kind}", (file,), "Apache-2.0", _MOONCAKE_PAPER, _MOONCAKE))
    reduced = DataFile("requests", "power/mooncake_conversation_lengths.csv")
    sets.append(Dataset("mooncake-lengths/conversation", (reduced,), "Apache-2.0", _MOONCAKE_PAPER, _MOONCAKE))
    return sets


def _measured() -> list[Dataset]:
    table = DataFile(
        "table",
        "power/splitwise_perf_model.csv",
        f"{_SPLITWISE_RAW}/data/perf_model.csv",
        sha256="dbbe505d1d64fc4bd1ec03c50edf944643586de4f68a81e94cbd55dd5bdfbf41",
    )
    configurations = DataFile("table", "power/mlenergy_v3_llm_configs.csv")
    return [
        Dataset("splitwise/perf-model", (table,), "MIT", _SPLITWISE_PAPER, _SPLITWISE),
        Dataset("mlenergy/llm-configs", (configurations,), "see its source", _MLENERGY_PAPER, _MLENERGY),
    ]


_SETS = (*_azure(), *_burstgpt(), *_mooncake(), *_measured())
for _dataset in _SETS:
    DATASETS.add(_dataset.name, _dataset)
