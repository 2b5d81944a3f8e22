"""GPU values of this machine under the names that dcgm-exporter uses, so that its dashboards work on ours.

Units as dcgm-exporter has them: watts, millijoules, MHz, percent, degrees Celsius, MiB. Power is the instant value
(NVML field 186), not the average that older drivers give under the same name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, UnknownMetricFamily
from prometheus_client.registry import Collector

from nonet.power.controlling.actuators.nvml import load_nvml

_LABELS = ("gpu", "UUID", "modelName", "Hostname")
_INSTANT_POWER_FIELD = 186


class GpuCollector(Collector):
    """Reads the GPUs whenever Prometheus asks. A GPU or a value that cannot be read is left out.

    Raises:
        MissingExtraError: nvidia-ml-py is not installed.
        NVMLError: no driver.
    """

    def __init__(self, hostname: str) -> None:
        self._nvml = load_nvml()
        self._hostname = hostname
        self._lock = threading.Lock()
        self._nvml.nvmlInit()

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: registering must not read the GPUs."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family for each value."""
        families = [(_family(name, text), read) for name, text, read in self._values()]
        with self._lock:
            for index in range(self._nvml.nvmlDeviceGetCount()):
                self._add(index, families)
        yield from (family for family, _ in families)

    def _add(self, index: int, families: list[tuple[Any, Callable[[Any], float]]]) -> None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            labels = [str(index), nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle), self._hostname]
        except nvml.NVMLError:
            return
        for family, read in families:
            try:
                family.add_metric(labels, read(handle))
            except nvml.NVMLError:
                continue

    def _values(self) -> list[tuple[str, str, Callable[[Any], float]]]:
        nvml = self._nvml
        return [
            ("DCGM_FI_DEV_POWER_USAGE", "Power draw (in W).", self._power_w),
            (
                "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
                "Total energy consumption since boot (in mJ).",
                nvml.nvmlDeviceGetTotalEnergyConsumption,
            ),
            (
                "DCGM_FI_DEV_SM_CLOCK",
                "SM clock frequency (in MHz).",
                lambda handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            ),
            (
                "DCGM_FI_DEV_GPU_UTIL",
                "GPU utilization (in %).",
                lambda handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            ),
            (
                "DCGM_FI_DEV_GPU_TEMP",
                "GPU temperature (in C).",
                lambda handle: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            ),
            (
                "DCGM_FI_DEV_FB_USED",
                "Framebuffer memory used (in MiB).",
                lambda handle: nvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20,
            ),
        ]

    def _power_w(self, handle: Any) -> float:
        nvml = self._nvml
        [value] = nvml.nvmlDeviceGetFieldValues(handle, [_INSTANT_POWER_FIELD])
        if value.nvmlReturn == nvml.NVML_SUCCESS:
            return value.value.uiVal / 1000.0
        return nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0


def _family(name: str, text: str) -> Any:
    if name.endswith("_CONSUMPTION"):
        return UnknownMetricFamily(name, text, labels=_LABELS)  # a counter would be renamed to end in _total
    return GaugeMetricFamily(name, text, labels=_LABELS)
