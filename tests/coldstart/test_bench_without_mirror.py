"""The bench on the curves that come with the package, where nobody has set NONET_MIRROR."""

import pytest

from nonet.coldstart.bench.generator import measure_cold_events


def test_cold_events_are_measured_without_the_figures_that_calibrate_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NONET_MIRROR", raising=False)
    found = measure_cold_events(scale=0.01)
    assert {"ks_total_per_region_max", "ks_runtime_max", "ks_iat_max", "spearman_mae"} <= set(found)
    assert "ks_pooled" not in found and not any(name.startswith("heldout_ks_scheduling") for name in found)
    assert 0 < found["ks_total_per_region_max"] < 0.2
