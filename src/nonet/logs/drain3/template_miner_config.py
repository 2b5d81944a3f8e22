"""Settings in the form that users of Drain3 have them: attributes of `TemplateMinerConfig`, or a `drain3.ini` file."""

from __future__ import annotations

import configparser
import json
from dataclasses import dataclass, field
from pathlib import Path

from nonet.common.errors import InputError
from nonet.logs.drain3.masking import MaskingInstruction


@dataclass
class TemplateMinerConfig:
    """The settings of Drain3, with its names and defaults.

    The miner underneath has one configuration for all data, so those of `IGNORED` change nothing; setting one is no
    error, and `TemplateMiner` says so in a warning.
    """

    profiling_enabled: bool = False
    profiling_report_sec: int = 60
    snapshot_interval_minutes: float = 5
    snapshot_compress_state: bool = True
    drain_extra_delimiters: list[str] = field(default_factory=list)
    drain_sim_th: float = 0.4
    drain_depth: int = 4
    drain_max_children: int = 100
    drain_max_clusters: int | None = None
    masking_instructions: list[MaskingInstruction] = field(default_factory=list)
    mask_prefix: str = "<"
    mask_suffix: str = ">"
    parameter_extraction_cache_capacity: int = 3000
    parametrize_numeric_tokens: bool = True
    unknown_settings: list[str] = field(default_factory=list)

    def load(self, config_filename: str | Path) -> None:
        """Take the settings that an INI file holds; others stay.

        Raises:
            InputError: the file is missing or no INI file, or a value is of the wrong kind; the message names it.
        """
        parser = configparser.ConfigParser(interpolation=None)
        try:
            with Path(config_filename).open(encoding="utf-8") as file:
                parser.read_file(file)
        except OSError as error:
            raise InputError(f"{config_filename}: cannot read the settings ({error.strerror})") from error
        except (configparser.Error, UnicodeDecodeError) as error:
            reason = str(error).split("\n", maxsplit=1)[0]
            raise InputError(f"{config_filename}: not an INI file ({reason})") from error
        for section in parser.sections():
            for key in parser.options(section):
                self._take(parser, section, key, str(config_filename))

    def _take(self, parser: configparser.ConfigParser, section: str, key: str, name: str) -> None:
        attribute = _ATTRIBUTES.get((section.upper(), key))
        if attribute is None:
            self.unknown_settings.append(f"[{section}] {key}")
            return
        text = parser.get(section, key)
        try:
            if attribute == "masking_instructions":
                self.masking_instructions = _masking(text)
            elif attribute == "drain_extra_delimiters":
                self.drain_extra_delimiters = [str(one) for one in _json_list(text)]
            elif isinstance(getattr(self, attribute), bool):
                setattr(self, attribute, parser.getboolean(section, key))
            elif attribute in ("mask_prefix", "mask_suffix"):
                setattr(self, attribute, text)
            else:
                number = float(text)
                setattr(self, attribute, int(number) if number.is_integer() else number)
        except ValueError as error:
            raise InputError(f"{name}: [{section}] {key} = {text!r} cannot be read ({error})") from error

    def without_effect(self) -> list[str]:
        """Names of the settings that were given and change nothing here."""
        defaults = TemplateMinerConfig()
        given = [name for name in IGNORED if getattr(self, name) != getattr(defaults, name)]
        return [*given, *self.unknown_settings]


IGNORED = (
    "drain_sim_th",
    "drain_depth",
    "drain_max_children",
    "parametrize_numeric_tokens",
    "snapshot_compress_state",
    "profiling_enabled",
    "profiling_report_sec",
    "parameter_extraction_cache_capacity",
)
"""Settings of Drain3's tree, its profiler and its cache, for which the miner underneath has no use."""

_ATTRIBUTES = {
    ("DRAIN", "sim_th"): "drain_sim_th",
    ("DRAIN", "depth"): "drain_depth",
    ("DRAIN", "max_children"): "drain_max_children",
    ("DRAIN", "max_clusters"): "drain_max_clusters",
    ("DRAIN", "extra_delimiters"): "drain_extra_delimiters",
    ("DRAIN", "parametrize_numeric_tokens"): "parametrize_numeric_tokens",
    ("MASKING", "masking"): "masking_instructions",
    ("MASKING", "mask_prefix"): "mask_prefix",
    ("MASKING", "mask_suffix"): "mask_suffix",
    ("MASKING", "parameter_extraction_cache_capacity"): "parameter_extraction_cache_capacity",
    ("SNAPSHOT", "snapshot_interval_minutes"): "snapshot_interval_minutes",
    ("SNAPSHOT", "compress_state"): "snapshot_compress_state",
    ("PROFILING", "enabled"): "profiling_enabled",
    ("PROFILING", "report_sec"): "profiling_report_sec",
}


def _json_list(text: str) -> list[object]:
    try:
        value = json.loads(text)
    except ValueError:
        # Drain3's own files write lists the way Python prints them.
        value = json.loads(text.replace("'", '"'))
    if not isinstance(value, list):
        raise ValueError("a list is expected")
    return value


def _masking(text: str) -> list[MaskingInstruction]:
    instructions = []
    for one in json.loads(text):
        if not isinstance(one, dict) or not {"regex_pattern", "mask_with"} <= one.keys():
            raise ValueError("every mask needs regex_pattern and mask_with")
        instructions.append(MaskingInstruction(str(one["regex_pattern"]), str(one["mask_with"])))
    return instructions
