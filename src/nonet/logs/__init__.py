"""Log parsing that is exact, honest and fast: which statements wrote these lines, and with which values.

Paper: Jiang et al., "A Large-Scale Evaluation for Log Parsing Techniques: How Far Are We?", ISSTA 2024 (Loghub-2.0).
The room holds a default parser for operations teams, the fifteen reference parsers of the paper, and its evaluation.

Map, in the order in which data flow:

- `reading`: files, archives and pipes to records with header fields;
- `mining`: the default parser: masks, shapes, templates, exact parameters, mergeable state;
- `outputs` and `parse`: a whole file to Parquet, CSV or JSON lines;
- `views`: `top`, `diff`, `compare`; `drain3` for those who come from Drain3;
- `parsers`: the fifteen reference parsers; `testing`: the conformance suite for parsers of your own;
- `evaluation`: metrics, data sets, the paper's protocol; `bench`: the headline experiments;
- `cli`, `cli_evaluate`, `cli_options`: the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nonet.logs import parsers
    from nonet.logs.evaluation.experiment import evaluate
    from nonet.logs.mining.miner import Mined, Miner, Parameter, merge
    from nonet.logs.mining.template import Template, restore, template_id
    from nonet.logs.parse import ParseReport, parse_file

__all__ = [
    "Mined",
    "Miner",
    "Parameter",
    "ParseReport",
    "Template",
    "evaluate",
    "merge",
    "parse_file",
    "parsers",
    "restore",
    "template_id",
]

_HOMES = {
    "Mined": "mining.miner",
    "Miner": "mining.miner",
    "Parameter": "mining.miner",
    "ParseReport": "parse",
    "Template": "mining.template",
    "evaluate": "evaluation.experiment",
    "merge": "mining.miner",
    "parse_file": "parse",
    "restore": "mining.template",
    "template_id": "mining.template",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line must start without compiling kernels."""
    import importlib

    if name == "parsers":
        return importlib.import_module("nonet.logs.parsers")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nonet.logs.{_HOMES[name]}"), name)
