"""Logs whose clock is not that of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nonet.common.errors import InputError
from tests.coldstart.importing.test_knative import T0, Cluster, as_list, precise


@pytest.mark.parametrize("skew", [-20, -1, 0, 1, 4, 30])
def test_a_log_by_another_clock_is_told_and_can_be_set_right(
    take: Callable[..., Any], tmp_path: Path, skew: int
) -> None:
    cluster = Cluster(3)
    cluster.serve("timer", [T0 + 90 * i for i in range(30)], run=0.5, pull=0.2, init=1.5)
    cluster.serve("burst", [T0 + 600 * i + 0.01 * j for i in range(4) for j in range(5)], run=2.0, pull=3.1, init=0.4)
    (tmp_path / "pods.json").write_text(as_list(cluster.pod_objects()))
    lines = []
    for call, line in zip(sorted(cluster.calls, key=lambda c: c["end"]), cluster.log_lines(), strict=True):
        lines.append(f"{precise(call['end'] + skew)} {line.partition(' ')[2]}")
    (tmp_path / "access.log").write_text("\n".join(lines))
    sources = [("k8s", [tmp_path / "pods.json"]), ("knative", [tmp_path / "access.log"])]
    told = [text for text in take(sources, log_time="end").report.warnings if "clock" in text]
    assert [text.rpartition("=")[2] for text in told] == ([str(skew)] if abs(skew) > 1 else [])
    taken = take(sources, clock_skew=str(skew), log_time="end")
    cold = [(at, pod) for at, pod, is_cold in taken.rows("request", "arrive_us", "pod", "cold") if is_cold]
    planted = sorted((c["arrive"] * 1e6, c["pod"]["name"]) for c in cluster.calls if c["cold"])
    assert [pod for _, pod in cold] == [pod for _, pod in planted]
    assert [at for at, _ in cold] == pytest.approx([at for at, _ in planted], abs=5)
    with pytest.raises(InputError, match="clock_skew"):
        take(sources, clock_skew="soon")
