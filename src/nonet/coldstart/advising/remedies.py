"""What to do about each cause of cold starts, in the words of the platform that the logs are of."""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = ""
"""The platform of a remedy that holds on all."""
PLATFORMS = {"knative": "knative", "k8s": "knative", "openwhisk": "openwhisk", "lambda": "lambda"}
"""Which platform a format of logs is of."""

REMEDIES: Mapping[str, Mapping[str, str]] = {
    "node-scale-up": {
        DEFAULT: "keep room on the nodes: low-priority placeholder pods, or a larger least number of nodes",
        "lambda": "the platform places functions: nothing to set",
    },
    "roll-out": {
        DEFAULT: "start the new revision's pods before traffic moves to it, and deploy outside of peaks",
        "knative": "set initial-scale to the pods in use, and move traffic by gradual roll-out (rollout-duration)",
        "lambda": "put provisioned concurrency on the new version before its alias moves, and shift traffic by weights",
    },
    "image-pull": {
        DEFAULT: "make the package smaller, and keep it on the nodes",
        "knative": "make the image smaller, pull it ahead on every node (daemon set), or let the registry be near",
        "lambda": "make the package smaller, or share layers with a base image of AWS",
    },
    "cpu-starved-init": {
        DEFAULT: "give the function more CPU, at least while it starts",
        "knative": "raise the CPU request and limit (or resize after the start), and load less at the start",
        "lambda": "raise the memory, CPU grows with it (1,769 MB are one core), or turn SnapStart on",
        "openwhisk": "raise the action's memory, its CPU share grows with it",
    },
    "slow-dependencies": {
        DEFAULT: "load fewer dependencies, later, or from a snapshot; build them into the image",
        "lambda": "load fewer dependencies, later, or turn SnapStart on",
        "knative": "build into the image what init containers fetch, load the rest later, and probe readiness often",
    },
    "exhausted-pool": {
        DEFAULT: "make the pool of prepared pods larger at the hours of these starts",
        "openwhisk": "raise the stem cells of this kind and memory (openwhisk-stemcells.json of `recommend -o`)",
    },
    "burst": {
        DEFAULT: "let a pod serve more requests at once, or hold as many pods as bursts need",
        "knative": "raise containerConcurrency if the code allows it, else min-scale or a lower target utilization",
        "openwhisk": "raise the action's concurrency if the code allows it",
        "lambda": "hold provisioned concurrency for the peak, or put a queue with a maximum concurrency in front",
    },
    "timer": {
        DEFAULT: "start a pod shortly before the timer is due (prewarm-plan.json of `recommend -o`)",
        "lambda": "schedule provisioned concurrency around the ticks, or let nobody wait: call it asynchronously",
    },
    "lost-pod": {
        DEFAULT: "find what removes pods early: evictions, preemption, memory limits, crashes, a short keep-alive",
        "knative": "look for evictions, out-of-memory kills and failing probes; set scale-down-delay if it scales down",
        "lambda": "look for time-outs, crashes and updates of the function; the platform may also recycle on its own",
    },
    "scale-from-zero": {
        DEFAULT: "keep one pod, or keep pods longer, where the wait is worth the memory",
        "knative": "set min-scale 1, or a longer scale-to-zero-pod-retention-period, where waits are worth it",
        "openwhisk": "keep idle containers longer (idle-container), or add stem cells of the kind",
        "lambda": "make the start faster (SnapStart, smaller package), or pay for one provisioned where users wait",
    },
    "unexplained": {
        DEFAULT: "log more: requests with their pods, and events of pods",
        "knative": "ingest the request log and `kubectl get pods,events` of the same time together",
    },
    "piggybacked": {
        DEFAULT: "make the starts that they wait for rarer or faster: see the causes above",
    },
}
"""By cause (those of `causes.TITLES` and "piggybacked"), then platform."""


def remedy_of(cause: str, formats: tuple[str, ...] = ()) -> str:
    """One line for a cause; of the first format whose platform has words of its own.

    >>> remedy_of("cpu-starved-init", ("openwhisk",))
    "raise the action's memory, its CPU share grows with it"
    """
    known = REMEDIES[cause]
    platforms = [PLATFORMS[name] for name in formats if name in PLATFORMS]
    return next((known[name] for name in platforms if name in known), known[DEFAULT])
