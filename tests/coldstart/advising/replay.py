"""Cold starts of one function under changed settings, replayed call by call; the ground truth of recommendations.

Written from the statements of the settings; it shares no code with nonet.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Timer:
    period_s: float
    lead_s: float
    hold_s: float


def replay(
    calls: list[tuple[float, float]],
    start_s: float,
    keep_alive_s: float,
    *,
    concurrency: int = 1,
    always: int = 0,
    timer: Timer | None = None,
) -> list[float]:
    """Moments of the cold starts.

    Args:
        calls: arrival and run of each call.
        start_s: how long a pod takes to start.
        always: pods that never go.
        timer: each call announces the next; pods go at once after a run.
    """
    pods = [{"ready": -1e9, "busy": [], "idle_since": -1e9, "until": 1e18, "always": True} for _ in range(always)]
    ahead: list[tuple[float, float]] = []
    cold = []
    keep_s = 0.0 if timer else keep_alive_s
    for arrive, run in sorted(calls):
        while ahead and ahead[0][0] <= arrive:
            at, until = ahead.pop(0)
            pods.append({"ready": at + start_s, "busy": [], "idle_since": at, "until": until, "always": False})
        for pod in pods:
            pod["busy"] = [end for end in pod["busy"] if end > arrive]
        pods = [p for p in pods if p["always"] or p["busy"] or arrive <= p["until"]]
        free = [p for p in pods if len(p["busy"]) < concurrency]
        if free:
            pod = max(free, key=lambda p: (p["ready"] <= arrive, p["idle_since"]))
        else:
            pod = {"ready": arrive + start_s, "busy": [], "idle_since": arrive, "until": 0.0, "always": False}
            pods.append(pod)
            cold.append(arrive)
        end = max(arrive, pod["ready"]) + run
        pod["busy"].append(end)
        pod["idle_since"] = max(pod["idle_since"], end)
        pod["until"] = max(pod["busy"]) + keep_s
        if timer:
            due = arrive + timer.period_s - timer.lead_s
            ahead.append((due, due + timer.hold_s))
    return cold
