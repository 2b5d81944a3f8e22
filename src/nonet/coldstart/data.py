"""The data sets of the room in the registry of `nonet.common.datasets`: published traces and what was measured of them.

Names are `huawei2025/cold/R2`, `huawei2025/requests/R2`, `huawei2025/series/R2`, `huawei2025/runtime/R2`,
`huawei2023/<metric>`, `azure2019/...`, `azure2021/...`, `ibm2026/...`, `faasnet/...`, and `measured/...` for small
tables that are found in a folder (`NONET_MIRROR`). Addresses are in `data_addresses.json`; nothing is downloaded on
import.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nonet.common.datasets import DATASETS, DataFile, Dataset, cache_folder, fetch, is_local
from nonet.common.errors import InputError

_ADDRESSES = Path(__file__).with_name("data_addresses.json")
_DRIVE = "https://drive.usercontent.google.com/download?id={id}&export=download&confirm=t"
_TABLES = {
    "Huawei Public cold starts": ("cold", "cold_start"),
    "Huawei Public request tables": ("requests", "per_request"),
    "Huawei Public trigger types and runtime languages (2025)": ("runtime", "runtime_triggerType"),
    "Huawei Public time series (2025)": ("series", "quantiles"),
}
TABLES = tuple(name for name, _ in _TABLES.values())
"""The tables of Huawei 2025, as `fetch --tables` names them."""

_HUAWEI = ("CC BY 4.0", "https://github.com/sir-lab/data-release")
_HUAWEI_2025 = (
    "Artjom Joosen et al. Serverless Cold Starts and Where to Find Them. EuroSys 2025.",
    "Artjom Joosen et al. How Does It Function? Characterizing Long-term Trends in Production Serverless Workloads. "
    "SoCC 2023.",
)
_OTHERS = {
    "azure_functions_2019": (
        "azure2019/all",
        "azurefunctions-dataset2019.tar.xz",
        "CC BY 4.0",
        "Mohammad Shahrad et al. Serverless in the Wild. USENIX ATC 2020.",
        "https://github.com/Azure/AzurePublicDataset",
    ),
    "azure_functions_2021": (
        "azure2021/all",
        "AzureFunctionsInvocationTraceForTwoWeeksJan2021.rar",
        "CC BY 4.0",
        "Yanqi Zhang et al. Faster and Cheaper Serverless Computing on Harvested Resources. SOSP 2021.",
        "https://github.com/Azure/AzurePublicDataset",
    ),
    "azure_functions_blob_2020": (
        "azure2020/blob-accesses",
        "azurefunctions-accesses-2020.csv.bz2",
        "CC BY 4.0",
        "Francisco Romero et al. Faa$T: A Transparent Auto-Scaling Cache for Serverless Applications. SoCC 2021.",
        "https://github.com/Azure/AzurePublicDataset",
    ),
    "ibm_code_engine_2026": (
        "ibm2026/all",
        "week_1.parquet",
        "MIT",
        "Nima Nasiri et al. In-Production Characterization of an Open Source Serverless Platform and New Scaling "
        "Strategies. EuroSys 2026.",
        "https://github.com/ubc-cirrus-lab/ibm-cloud-code-engine-traces",
    ),
    "alibaba_fc_faasnet_2021": (
        "faasnet/all",
        "faasnet.csv",
        "on request, by a form",
        "Ao Wang et al. FaaSNet: Scalable and Fast Provisioning of Custom Serverless Container Runtimes. ATC 2021.",
        "https://github.com/mason-leap-lab/FaaSNet",
    ),
}
_MEASURED = {
    "huawei2025-figures": (
        "huawei2025_paper_digitised",
        (
            "cdfs.csv",
            "quantiles.csv",
            "fig1_regions.csv",
            "fig5_3day_minute_load.csv",
            "fig6_peak_to_trough.csv",
            "fig7_holiday.csv",
            "fig8_r2_hourly_pods.csv",
            "fig8_r2_proportions.csv",
            "fig9_r2_trigger_by_runtime.csv",
            "fig11_hourly_cold_starts.csv",
            "fig12_spearman.csv",
            "fig14_r2_functions.csv",
        ),
    ),
    "azure2019-femux": ("azure2019_femux", ("workload_100_apps_1440min.csv", "sim_default_knative_100_apps.csv")),
    "ibm2026-settings": ("ibm2026", ("app_configs_last.csv",)),
    "lambda-init-durations": ("aws_lambda_perf", ("lambda_init_durations.csv",)),
    "knative-kpa-vectors": ("knative", ("kpa_vectors.json",)),
}


@cache
def addresses() -> dict[str, Any]:
    """The table of addresses: `files` (Google Drive ids of the Huawei releases) and `other`."""
    table: dict[str, Any] = json.loads(_ADDRESSES.read_text())
    return table


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
    _register()
    families = {"huawei2025", "huawei2023", "measured", *(entry[0].split("/")[0] for entry in _OTHERS.values())}
    return [name for name in DATASETS if name.split("/")[0] in families]


def select(family: str, *, regions: Sequence[int] = (), tables: Sequence[str] = ()) -> list[str]:
    """The data sets that `fetch FAMILY --region N --tables ...` means.

    Args:
        family: a name, or the part before its first `/`.
        regions: numbers of regions of Huawei 2025; all by default.
        tables: of `TABLES`; all by default.

    Raises:
        InputError: nothing of that name, an unknown table, or no data set for the region.

    >>> select("huawei2025", regions=[2], tables=["cold", "runtime"])
    ['huawei2025/cold/R2', 'huawei2025/runtime/R2']
    """
    unknown = [table for table in tables if table not in TABLES]
    if unknown:
        raise InputError(f"unknown table {unknown[0]!r}; Huawei 2025 has {', '.join(TABLES)}")
    names = names_of_room()
    chosen = [name for name in names if name == family or name.startswith(f"{family}/")]
    if not chosen:
        families = ", ".join(dict.fromkeys(name.split("/")[0] for name in names))
        raise InputError(f"no data set {family!r}; there are {families}")
    if tables:
        chosen = [name for name in chosen if name.split("/")[1] in tables]
    if regions:
        chosen = [name for name in chosen if any(name.endswith(f"/R{region}") for region in regions)]
    if not chosen:
        raise InputError(f"{family} has nothing for these regions and tables; regions are 1 to 5")
    return chosen


def fetch_dataset(name: str) -> dict[str, Path]:
    """Download what is missing of a data set into the cache; its files by role.

    Raises:
        InputError: no address, no connection, or the server sent something else than the archive.
    """
    _register()
    dataset = DATASETS[name]
    try:
        found = fetch(dataset)
    except InputError as error:
        raise InputError(f"{error} (published at {dataset.homepage})") from error
    for path in found.values():
        if path.suffix == ".zip" and not zipfile.is_zipfile(path) and path.is_relative_to(cache_folder()):
            path.unlink()
            raise InputError(
                f"{name}: the server sent no zip archive for {path.name} (a page that asks for consent, perhaps); "
                f"get it in a browser from {dataset.homepage} and put it into {path.parent}"
            )
    return found


def _huawei_2025() -> dict[str, list[DataFile]]:
    sets: dict[str, list[DataFile]] = {}
    for entry in addresses()["files"]:
        if entry["section"] not in _TABLES:
            continue
        table, folder = _TABLES[entry["section"]]
        region = re.search(r"Region (\d)", entry["label"])
        part = re.search(r"part (\d+)", entry["label"])
        number = region[1] if region else "2"
        if table == "runtime":
            path = f"{folder}/df_funcID_runtime_triggerType.csv"
        elif table == "requests":
            path = f"{folder}/R{number}/R{number}_part_{part[1] if part else '1'}.zip"
        else:
            path = f"{folder}/R{number}.zip"
        role = f"part_{part[1]}" if part else table
        url = _DRIVE.format(id=entry["drive_id"])
        sets.setdefault(f"huawei2025/{table}/R{number}", []).append(DataFile(role, f"coldstart/huawei2025/{path}", url))
    return sets


def _huawei_2023() -> dict[str, list[DataFile]]:
    sets: dict[str, list[DataFile]] = {}
    for entry in addresses()["files"]:
        if entry["dataset"] != "huawei_2023":
            continue
        cloud = "private" if "Private" in entry["section"] else "public"
        metric = entry["label"].lower().replace(" per ", "_").replace(" ", "_")
        file = DataFile(
            metric, f"coldstart/huawei2023/{cloud}_dataset/{metric}.zip", _DRIVE.format(id=entry["drive_id"])
        )
        sets[f"huawei2023/{cloud}-{metric}"] = [file]
    return sets


@cache
def _register() -> None:
    licence, homepage = _HUAWEI
    for sets, citation in ((_huawei_2025(), _HUAWEI_2025[0]), (_huawei_2023(), _HUAWEI_2025[1])):
        for name, files in sets.items():
            DATASETS.add(name, Dataset(name, tuple(files), licence, citation, homepage))
    for entry in addresses()["other"]:
        name, file, licence, citation, homepage = _OTHERS[entry["dataset"]]
        url = entry["url"] if entry["url"].rsplit("/", 1)[-1] == file else ""
        path = f"coldstart/{name.split('/')[0]}/{file}"
        DATASETS.add(name, Dataset(name, (DataFile("trace", path, url),), licence, citation, homepage))
    for short, (folder, names) in _MEASURED.items():
        files = [DataFile(name.split(".")[0], f"coldstart/{folder}/{name}") for name in names]
        DATASETS.add(f"measured/{short}", Dataset(f"measured/{short}", tuple(files), "see its source", "", ""))


_register()
