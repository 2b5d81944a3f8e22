"""`recommend` for people."""

from __future__ import annotations

from nonet.coldstart.advising.recommend import Advice
from nonet.common.console import print_table

_NUM_REJECTED = 8


def print_advice(advice: Advice) -> None:
    """The recommendations as a table on stdout, then what was tried and does not pay, then how it was found out."""
    rows = [
        [
            rec.title,
            _signed(-rec.saving),
            f"{rec.low:.1%} to {rec.high:.1%}",
            _signed(-rec.wait_saving),
            _signed(rec.extra_memory),
            rec.usd_per_month,
        ]
        for rec in advice.recommendations
    ]
    if rows:
        print_table(("change", "cold starts", "fewer, 95 %", "user wait", "memory", "net $/month"), rows)
        print(
            f"together: {_signed(-advice.saving)} cold starts ({advice.low:.1%} to {advice.high:.1%} fewer), "
            f"memory {_signed(advice.extra_memory)}"
        )
    else:
        print("no change pays")
    for rejected in advice.rejected[:_NUM_REJECTED]:
        print(f"not recommended: {rejected.title}: {rejected.reason}")
    if len(advice.rejected) > _NUM_REJECTED:
        print(f"not recommended: {len(advice.rejected) - _NUM_REJECTED:,} more (all in the JSON)")
    print(f"\n{summary(advice)}")


def summary(advice: Advice) -> str:
    """How it was found out, in a line or two."""
    keep = advice.keep_alive
    observed = "" if advice.num_observed is None else f", {advice.num_observed:,} in the trace"
    looked = "" if advice.coverage == 1 else f"; looked at functions with {advice.coverage:.1%} of the cold starts"
    assumed = ""
    if advice.assumed_cold_s is not None:
        assumed = f"; the trace tells no durations, {advice.assumed_cold_s:g} s each is assumed (--cold-seconds)"
    return (
        f"region {advice.region} ({advice.platform}), keep-alive {keep.keep_alive_us / 1e6:g} s ({keep.source}); "
        f"chosen on {advice.fitted[0]} to {advice.fitted[1]}, tried on {advice.tested[0]} to {advice.tested[1]} "
        f"({advice.num_cold:,} cold starts simulated{observed}){looked}{assumed}\n"
        f"pays: prices {advice.prices}, a second of waiting is worth {advice.wait_usd_per_s:g} $"
    )


def _signed(share: float) -> str:
    """A share with its sign; none for 0.

    >>> _signed(-0.58), _signed(0.0)
    ('-58.0%', '0.0%')
    """
    return f"{share:+.1%}" if round(share, 3) else "0.0%"
