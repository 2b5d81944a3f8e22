"""Sizes and defaults of an engine."""

from __future__ import annotations

from dataclasses import dataclass

from nonet.common.errors import InputError
from nonet.ragcache.reuse.abstain import Guard
from nonet.ragcache.reuse.metrics import Rule
from nonet.ragcache.reuse.modes import DEFAULT_MODE, MODES, Split
from nonet.ragcache.reuse.planner import ASKED_FROM, TAU_POWER
from nonet.ragcache.scheduling.shadow import NO_SHADOW, ShadowConfig


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Sizes and defaults of an engine.

    Args:
        max_model_len: tokens of prompt and answer; None for the model's own.
        pool_tokens: tokens whose KV fits into the pages; None for four full contexts.
        max_running: requests that are computed at a time.
        max_waiting: requests that may wait; more are refused.
        step_tokens: rows of one step; up to twice as many where a chunk's rows that lead others must stay together.
        mode: of requests that do not say.
        alpha: factor of the fix overhead.
        theta_full: chunks whose fix overhead reaches this are computed in full.
        overlap: "published" or "symmetric".
        tau_power: see `Planner`.
        asked_from: likewise.
        guided_split: likewise.
        carry: likewise.
        focus: stop repairing chunks that the question does not look at, from a third of the layers on.
        probe_layers: share of the layers, from the first on, that a probe of the question runs through.
        guard: computes everything where reuse might do too much damage.
        background: compute variants of chunks that were met behind reused ones, when nobody waits.
        shadow: sampled comparison with full recomputation.
        observe: collect what attention shows of chunks that are stored, which all modes need that take chunks over at
            other places; costs about a seventh of a prompt's time. Without, only modes "full", "prefix" and "set"
            are served, as by a prefix cache, and other engines do not take over what this one stores.

    Raises:
        InputError: a mode that needs what is not observed, or a share of layers outside its range.

    >>> EngineConfig(max_model_len=4096, alpha=0.3).mode
    'guided'
    """

    max_model_len: int | None = None
    pool_tokens: int | None = None
    max_running: int = 8
    max_waiting: int = 256
    step_tokens: int = 512
    mode: str = DEFAULT_MODE
    alpha: float = 0.5
    theta_full: float = 1.0
    overlap: Rule = "published"
    tau_power: float = TAU_POWER
    asked_from: float = ASKED_FROM
    guided_split: Split = "overhead"
    carry: bool = True
    focus: bool = False
    probe_layers: float = 1.0
    guard: Guard | None = None
    background: bool = True
    shadow: ShadowConfig = NO_SHADOW
    observe: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.probe_layers <= 1:
            raise InputError(f"probe_layers must be above 0 and at most 1, not {self.probe_layers:g}")
        self.check_mode(self.mode)

    def check_mode(self, mode: str) -> None:
        """Refuse a mode that this engine cannot serve.

        Args:
            mode: a name of `MODES`.

        Raises:
            InputError: it is none, or needs what is not observed.
        """
        if MODES[mode].lookup == "any" and not self.observe:
            raise InputError(f"mode {mode!r} needs statistics of attention: let the engine observe, or use 'prefix'")
