"""Evaluate two parsers on a synthetic twin: labelled logs of any size, the paper's metrics and slices."""

import tempfile
from pathlib import Path

from nonet.logs import evaluate
from nonet.logs.evaluation.twin import builtin_templates, twin

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, labels = folder / "Shop_full.log", folder / "Shop_full.log_structured.csv"
        made = twin(builtin_templates(), 2_000, 1, log, labels)
        print(f"synthetic: {made.num_lines} lines, {made.num_templates} templates, header {made.header_format}")
        report = evaluate("nonet,Drain", folder, mode="fixed", out_dir=folder / "run", slices=["params:0", "rare:20"])
        for row in report.slice_table():
            scores = "  ".join(f"{metric.upper()} {row[metric]:.3f}" for metric in ("ga", "fga", "pa", "fta"))
            print(f"{row['parser']:6} {row['slice']:9} {scores}")
