"""Rounds of runs: what the searches of all seeds and policies want, spread over processes or Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from nonet.common.parallel import Engine, check_engine, parallel_map
from nonet.power.planning.outcome import Outcome, Runner, Task
from nonet.power.planning.search import PrefixSearch
from nonet.power.planning.slo import Slo

Progress = Callable[[int, str], None]
Evaluate = Callable[[Sequence[Task]], Iterable[list[Outcome]]]
_FEW_WORKERS = 8
CLOSE_USE, CLOSE_PEAK = 0.9, 0.97
"""A step that uses more of a latency limit, or whose power comes nearer to the budget, held by a small margin."""


def choose_engine(engine: Engine | None, workers: int) -> Engine:
    """Threads for few workers: the kernels leave the interpreter alone, and new processes would each start anew.

    Raises:
        InputError: an unknown engine, or no workers.
        MissingExtraError: Ray is not installed.
    """
    chosen: Engine = engine or ("threads" if workers <= _FEW_WORKERS else "local")
    check_engine(chosen, workers)
    return chosen


def pooled(runner: Runner, workers: int, engine: Engine) -> Evaluate:
    """Runs tasks over threads, processes or Ray; here, when there is one worker."""

    def evaluate(tasks: Sequence[Task]) -> Iterable[list[Outcome]]:
        if workers == 1 and engine != "ray":
            return map(runner, tasks)
        # Large rows take longest: first come, first served keeps all workers busy to the end.
        ordered = sorted(tasks, key=lambda task: -task.added)
        return (found for _, found in parallel_map(runner, ordered, workers=workers, engine=engine))

    return evaluate


Key = tuple[str, int, int]
"""(policy, seed, added)."""


def search_steps(
    evaluate: Evaluate,
    steps: Sequence[int],
    seeds: Sequence[int],
    policies: Sequence[str],
    slo: Slo,
    *,
    sections: int = 4,
    scan: bool = False,
    fill: bool = True,
    progress: Progress | None = None,
) -> dict[Key, Outcome]:
    """Run what the searches of every seed and policy want, round by round, and both sides of every answer on all seeds.

    Args:
        evaluate: runs tasks.
        steps: numbers of added servers, ascending.
        seeds, policies, slo: see `plan`.
        sections: see `PrefixSearch`.
        scan: run every step instead.
        fill: in the end, run every step below the answer at least under the first seed: it is checked, and has a price.
        progress: see `plan`.
    """
    neighbours = len(steps) if scan else 2
    pairs = [(policy, seed) for policy in policies for seed in seeds]
    limits = {pair: PrefixSearch(len(steps), sections=sections, neighbours=neighbours) for pair in pairs}
    brakes = {pair: PrefixSearch(len(steps), sections=sections, neighbours=min(1, neighbours)) for pair in pairs}
    found: dict[Key, Outcome] = {}
    while True:
        wanted = {(p, s, steps[i]) for p, s in pairs for i in (*limits[p, s].wanted(), *brakes[p, s].wanted())}
        if scan:
            wanted = {(p, s, added) for p, s in pairs for added in steps if (p, s, added) not in found}
        if not wanted:
            wanted = {key for key in _sides(limits, steps, seeds, policies) if key not in found}
        if not wanted and fill:
            wanted = {key for key in _below(limits, steps, seeds, policies) if key not in found}
        if not wanted:
            return found
        tasks: dict[tuple[int, int], list[str]] = {}
        for policy, seed, added in sorted(wanted):
            tasks.setdefault((added, seed), []).append(policy)
        for outcomes in evaluate([Task(added, seed, tuple(names)) for (added, seed), names in tasks.items()]):
            for outcome in outcomes:
                pair, at = (outcome.policy, outcome.seed), steps.index(outcome.added)
                found[*pair, outcome.added] = outcome
                close = slo.used(outcome.impact) > CLOSE_USE or outcome.peak > CLOSE_PEAK
                limits[pair].tell(at, holds(outcome, slo), close)
                brakes[pair].tell(at, outcome.brakes == 0, outcome.peak > CLOSE_PEAK)
            if progress is not None and outcomes:
                progress(len(found), f"{outcomes[0].policy} seed {outcomes[0].seed} +{outcomes[0].added} servers")


def _below(
    limits: Mapping[tuple[str, int], PrefixSearch], steps: Sequence[int], seeds: Sequence[int], policies: Sequence[str]
) -> Iterable[Key]:
    for policy in policies:
        answer = min(limits[policy, seed].answer for seed in seeds)
        yield from ((policy, seeds[0], added) for added in steps[: max(0, answer)])


def _sides(
    limits: Mapping[tuple[str, int], PrefixSearch], steps: Sequence[int], seeds: Sequence[int], policies: Sequence[str]
) -> Iterable[Key]:
    for policy in policies:
        answer = min(limits[policy, seed].answer for seed in seeds)
        for at in (max(0, answer), min(answer + 1, len(steps) - 1)):
            yield from ((policy, seed, steps[at]) for seed in seeds)


def holds(outcome: Outcome, slo: Slo) -> bool:
    """Whether a run keeps every limit."""
    return not slo.broken(outcome.impact, outcome.brakes)
