"""The 15 reference parsers of Loghub-2.0 behind one interface: contents in, one template a line out.

Each is written from its published description and runs in two modes: "compat" keeps the quirks of the implementation
behind the published tables, "fixed" mends them.

- `base.py`: the interface (`Parser`, `Parsed`) and the registry `PARSERS`.
- `settings.py`, `settings.json`: header formats, masks and parameters of the published evaluation, by system.
- `masking.py`: masks substituted before tokenising.
- `words.py`: the tokeniser that IPLoM and Spell share, and templates that keep its separators.
- One file a parser, named by it. Tree and similarity search, online: `drain.py`, `spell.py` (its look-ups:
  `spell_index.py`), `lenma.py`. Offline partitions and counts: `ael.py`, `iplom.py`, `lfa.py`, `logcluster.py`,
  `logram.py`, `slct.py`. Pairwise merging: `logmine.py` (its alignment: `alignment.py`), `shiso.py` (its formats:
  `shiso_formats.py`). Search: `logsig.py` (its pairs: `logsig_pairs.py`), `molfi.py` (its selection: `nsga2.py`).
- Trained on labelled lines, in the extra `logs-neural`: `uniparser.py`, `logppt.py`; their parts are in `neural/`.

>>> parser = get_parser("drain")(st=0.4, depth=4, mode="compat", masks=[r"\\d+"])
>>> parser.parse(["sent 5 bytes", "sent 17 bytes"]).templates
['sent <*> bytes']
"""

from __future__ import annotations

from nonet.logs.parsers.ael import AEL
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.drain import Drain
from nonet.logs.parsers.iplom import IPLoM
from nonet.logs.parsers.lenma import LenMa
from nonet.logs.parsers.lfa import LFA
from nonet.logs.parsers.logcluster import LogCluster
from nonet.logs.parsers.logmine import LogMine
from nonet.logs.parsers.logppt import LogPPT
from nonet.logs.parsers.logram import Logram
from nonet.logs.parsers.logsig import LogSig
from nonet.logs.parsers.molfi import MoLFI
from nonet.logs.parsers.settings import header_format, masks_for, parameters_for
from nonet.logs.parsers.shiso import SHISO
from nonet.logs.parsers.slct import SLCT
from nonet.logs.parsers.spell import Spell
from nonet.logs.parsers.uniparser import UniParser

__all__ = [
    "AEL",
    "LFA",
    "PARSERS",
    "SHISO",
    "SLCT",
    "WILDCARD",
    "Drain",
    "IPLoM",
    "LenMa",
    "LogCluster",
    "LogMine",
    "LogPPT",
    "LogSig",
    "Logram",
    "MoLFI",
    "Mode",
    "Parsed",
    "Parser",
    "Spell",
    "UniParser",
    "get_parser",
    "header_format",
    "masks_for",
    "parameters_for",
]


def get_parser(name: str) -> type[Parser]:
    """The parser class of that name, whatever its case.

    >>> get_parser("IPLOM").name
    'IPLoM'

    Raises:
        InputError: there is no such parser; the message names the nearest.
    """
    spelling = {known.lower(): known for known in PARSERS}
    return PARSERS[spelling.get(name.lower(), name)]
