"""`unfinished.json`: marks a folder whose conversion has not ended, and says how far it came, so that it can go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nonet.coldstart.trace.manifest import Part
from nonet.common.atomic import atomic_write
from nonet.common.errors import InputError

JOURNAL_NAME = "unfinished.json"


@dataclass(slots=True)
class Journal:
    """How far a conversion came at its last checkpoint.

    Attributes:
        job: what is being converted and how; another job never goes on from here.
        done: names of the steps that are finished, in order.
        parts: the files that belong to them.
        quarantined: refused rows by reason, up to there.
        quarantine_bytes: length of the quarantine file then.
        memory: what the importer has to remember.
    """

    job: str
    done: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    quarantined: dict[str, int] = field(default_factory=dict)
    quarantine_bytes: int = 0
    memory: dict[str, int] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it atomically."""
        with atomic_write(folder / JOURNAL_NAME) as file:
            json.dump(asdict(self), file)


def load_journal(folder: Path) -> Journal | None:
    """The journal in a folder, None without one.

    Raises:
        InputError: it is damaged.
    """
    path = folder / JOURNAL_NAME
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_bytes())
        return Journal(**{**values, "parts": [Part(**part) for part in values["parts"]]})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); delete the folder and convert again") from None
