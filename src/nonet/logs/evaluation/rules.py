"""Template post-processing rules as versioned data.

Labels and parser output are often refined by rewriting rules, and each study changed them: PA and FTA move with the
version, GA does not. So a version is a file in `rule_sets/`, and every report names the version it used.

A rule set is a list of steps, carried out in order:

* `collapse_blanks`: trim, and make every run of white space one blank;
* `tokens`: split at blanks and `delimiters`, which stay; a token fully matched by one of the `variable` expressions
  becomes `<*>`;
* `replace_until_stable`: replace each pair of texts in order, again and again until nothing changes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from nonet.common.errors import InputError
from nonet.logs.evaluation.wildcards import WILDCARD, collapse_blanks

NO_RULES = "none"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One version of the rules.

    Attributes:
        version: its name, e.g. "loghub-2.0".
        source: who wrote these rules.
        steps: functions from template to template, carried out in order.
    """

    version: str
    source: str
    steps: tuple[Callable[[str], str], ...]

    def __call__(self, template: str) -> str:
        """Rewrite one template."""
        for step in self.steps:
            template = step(template)
        return template


def rule_versions() -> tuple[str, ...]:
    """The names of the rule sets at hand.

    >>> rule_versions()
    ('icse22-corrected', 'loghub-2.0', 'none')
    """
    files = resources.files("nonet.logs.evaluation").joinpath("rule_sets").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


@lru_cache
def rule_set(version: str) -> RuleSet:
    """The rules of a version; `InputError` for an unknown one."""
    if version not in rule_versions():
        raise InputError(f"unknown rule version {version!r}; known: {', '.join(rule_versions())}")
    text = resources.files("nonet.logs.evaluation").joinpath("rule_sets").joinpath(f"{version}.toml").read_text("utf-8")
    data = tomllib.loads(text)
    return RuleSet(version, data["source"], tuple(_step(step) for step in data["steps"]))


def apply_rules(template: str, version: str) -> str:
    """Rewrite one template by the rules of a version.

    >>> apply_rules("Accepted  user_<*> from <*>.<*>:22 in 7s", "loghub-2.0")
    'Accepted <*> from <*> in 7s'
    >>> apply_rules("open /var/log/x as root", "icse22-corrected")
    'open <*> as <*>'
    >>> apply_rules("a  <*><*>", "none")
    'a  <*><*>'
    """
    return rule_set(version)(template)


def _step(step: dict[str, Any]) -> Callable[[str], str]:
    """Make one step of a rule file a function."""
    kind = step["kind"]
    if kind == "collapse_blanks":
        return collapse_blanks
    if kind == "tokens":
        return _token_step(step["delimiters"], step["variable"])
    if kind == "replace_until_stable":
        return _replace_step([(old, new) for old, new in step["pairs"]])
    raise ValueError(f"rule file: unknown kind of step {kind!r}")


def _token_step(delimiters: str, variable: list[str]) -> Callable[[str], str]:
    split = re.compile(rf"([\s{re.escape(delimiters)}])")
    is_variable = re.compile("|".join(f"(?:{expression})" for expression in variable))

    def rewrite(template: str) -> str:
        return "".join(WILDCARD if is_variable.fullmatch(token) else token for token in split.split(template))

    return rewrite


def _replace_step(pairs: list[tuple[str, str]]) -> Callable[[str], str]:
    def rewrite(template: str) -> str:
        before = None
        while before != template:
            before = template
            for old, new in pairs:
                template = template.replace(old, new)
        return template

    return rewrite
