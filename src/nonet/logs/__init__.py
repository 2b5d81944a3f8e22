"""Log parsing that is exact, honest and fast: which statements wrote these lines, and with which values.

Paper: Jiang et al., "A Large-Scale Evaluation for Log Parsing Techniques: How Far Are We?", ISSTA 2024 (Loghub-2.0).
The room holds a default parser for operations teams, the fifteen reference parsers of the paper, and its evaluation.

Map, in the order in which data flow:

- *read*: `sources` (files, archives, pipes to blocks), `header_format` and `headers` (header formats), `records`
  (lines to records), `timestamps`, `_line_kernels`, `_record_kernels`, `_time_kernels`
- *mask*: `shape` (the vocabulary), `_scan_kernels` (the byte scanner), `masks` (masks of your own)
- *mine*: `shape_table` and `_table_kernels` (distinct shapes, a mergeable state), `clustering` (shapes to templates),
  `placement`, `extraction` (exact parameters), `labelling`, `miner` (streaming and batch), `lineage`, `state`
- *write*: `template`, `outputs`, `parse` (a whole file)
- *compare*: `parsers` (the reference parsers), `metrics`, `slices`, `rules`, `evaluation`, `published`, `data`, `twin`
- *view*: `top`, `diff`, `compare`; `drain3` for those who come from Drain3
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nonet.logs import parsers
    from nonet.logs.evaluation import evaluate
    from nonet.logs.miner import Mined, Miner, Parameter, merge
    from nonet.logs.parse import ParseReport, parse_file
    from nonet.logs.template import Template, restore, template_id

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
    "Mined": "miner",
    "Miner": "miner",
    "Parameter": "miner",
    "ParseReport": "parse",
    "Template": "template",
    "evaluate": "evaluation",
    "merge": "miner",
    "parse_file": "parse",
    "restore": "template",
    "template_id": "template",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line must start without compiling kernels."""
    import importlib

    if name == "parsers":
        return importlib.import_module("nonet.logs.parsers")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"nonet.logs.{_HOMES[name]}"), name)
