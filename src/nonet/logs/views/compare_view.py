"""`compare` for people: a table on the terminal."""

from __future__ import annotations

from nonet.logs.views.compare import ComparedParser, CompareReport

COLUMNS = (
    "parser",
    "templates",
    "seen once",
    "holes a line",
    "restored",
    "compression",
    "silhouette",
    "seconds",
    "lines/s",
    "peak MiB",
    "note",
)


def print_compare(report: CompareReport) -> None:
    """The report as a table on stdout."""
    from nonet.common.console import print_table

    part = "" if report.is_whole else " (the first ones; --max-lines 0 takes all)"
    masks = f", masks {' '.join(report.masks)}" if report.masks else ""
    print_table(COLUMNS, [_cells(one) for one in report.parsers])
    print(
        f"{report.source}: {report.num_lines:,} messages{part}, header {report.header or 'none'}{masks}, "
        f"reference parsers in {report.mode} mode with their default parameters\n"
        "restored: lines that template and values give back (but for runs of blanks); compression: zstd of the lines / "
        "zstd of the parsed form; silhouette: -1 to 1, how well groups hold together; none of these needs labels"
    )


def _cells(one: ComparedParser) -> list[object]:
    quality = one.quality
    peak_mib = round(one.peak_rss_bytes / 2**20)
    if quality is None or one.seconds is None or one.lines_per_s is None:
        return [one.parser, *[None] * 8, peak_mib, f"{one.status}: {one.error}"]
    return [
        one.parser,
        quality.num_templates,
        quality.num_once,
        round(quality.mean_holes, 2),
        f"{quality.restored_share:.1%}",
        f"{quality.compression:.2f}x",
        f"{quality.silhouette:.3f}",
        round(one.seconds, 3),
        round(one.lines_per_s),
        peak_mib,
        "",
    ]
