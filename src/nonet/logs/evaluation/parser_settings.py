"""Settings of parsers that a user gives: `Drain.st=0.4`, `LogPPT.encoder=models/roberta-base`.

They take the place of the tuned ones of the published evaluation. Values are read as JSON where they are JSON, as text
where they are not. `training` names labelled lines, see `labelled_lines`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from nonet.common.datasets import DATASETS
from nonet.common.errors import InputError
from nonet.logs.evaluation.data import load
from nonet.logs.evaluation.job import NONET
from nonet.logs.evaluation.template_columns import read_column
from nonet.logs.mining.miner import Miner
from nonet.logs.parsers.base import PARSERS, WILDCARD

Settings = dict[str, dict[str, Any]]
"""Parser to name to value."""

TRAINING = "training"
_SETTING = re.compile(r"(?P<parser>[^=]+)\.(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.DOTALL)
_BY_OTHER_MEANS = {"mode": "--mode"}
_HOLE = re.compile(r"\{\w+\}")
_JSON_KEYS = (("content", "template"), ("Content", "EventTemplate"), ("query", "answer"))


def parse_settings(texts: Sequence[str], parsers: Sequence[str]) -> Settings:
    """Read settings and check that the parsers are there and have such parameters.

    Args:
        texts: each `PARSER.NAME=VALUE`.
        parsers: the parsers of the run, in the field's spelling.

    Raises:
        InputError: another form, a parser that does not run, or a parameter that it does not have.

    >>> parse_settings(["drain.st=0.4", "Drain.depth=5"], ["Drain"])
    {'Drain': {'st': 0.4, 'depth': 5}}
    """
    spelled = {name.lower(): name for name in parsers}
    settings: Settings = {}
    for text in texts:
        match = _SETTING.fullmatch(text)
        if match is None:
            raise InputError(f"setting {text!r}: expected PARSER.NAME=VALUE, such as Drain.st=0.4")
        parser, name = spelled.get(match["parser"].lower()), match["name"]
        if parser is None:
            raise InputError(f"setting {text!r}: this run has no such parser; it has {', '.join(parsers)}")
        _check_name(text, parser, name)
        settings.setdefault(parser, {})[name] = _value(match["value"])
    return settings


def _check_name(text: str, parser: str, name: str) -> None:
    if name in _BY_OTHER_MEANS:
        raise InputError(f"setting {text!r}: give {_BY_OTHER_MEANS[name]} instead")
    if parser != NONET and parser not in PARSERS:
        return  # a parser of the user's own says itself what it does not know
    takes: Any = Miner if parser == NONET else PARSERS[parser]
    known = sorted(set(inspect.signature(takes).parameters) - set(_BY_OTHER_MEANS))
    if name not in known:
        raise InputError(f"setting {text!r}: {parser} has no parameter {name!r}; it has {', '.join(known)}")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def labelled_lines(source: str, system: str) -> list[tuple[str, str]]:
    """Labelled lines for a parser that is trained.

    Args:
        source: a CSV or Parquet file with the columns Content and EventTemplate; a file of JSON lines with `content`
            and `template` (or `query` and `answer`; `{...}` is a hole, as `<*>` is); or a data set such as
            `loghub2k/Linux`. `{system}` in it stands for the system.
        system: e.g. "Linux".

    Returns:
        (content, template) of each line that has a template.

    Raises:
        InputError: no such file or data set, or not of these forms.
    """
    source = source.replace("{system}", system)
    path = Path(source)
    if source in DATASETS and not path.exists():
        path = load(source, download=False).labels_path
    if not path.is_file():
        raise InputError(f"labelled lines {source!r}: no such file, and no data set of that name")
    if path.suffix in (".json", ".jsonl"):
        return _from_json_lines(path)
    columns = (
        pa.chunked_array(list(read_column(path, name, empty_is_null=name == "EventTemplate"))).cast(pa.string())
        for name in ("Content", "EventTemplate")
    )
    pairs = zip(*(column.to_pylist() for column in columns), strict=True)
    return [(content, template) for content, template in pairs if template is not None]


def _from_json_lines(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            content, template = next((row[a], row[b]) for a, b in _JSON_KEYS if a in row and b in row)
        except (ValueError, TypeError, StopIteration):
            keys = " or ".join(f"{a}/{b}" for a, b in _JSON_KEYS)
            raise InputError(f"{path}, line {number}: expected a JSON object with {keys}") from None
        pairs.append((content, _HOLE.sub(WILDCARD, template)))
    return pairs
