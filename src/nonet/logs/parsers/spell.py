"""Spell: a line joins the template with which it shares the longest common subsequence of words.

Du, Li: "Spell: Streaming Parsing of System Event Logs", ICDM 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import DistinctLines, Masker
from nonet.logs.parsers.spell_index import Cluster, PrefixTree, WordIndex
from nonet.logs.parsers.words import TemplateText, split_words


def _longest_common(message: list[str], template: list[str]) -> list[str]:
    """The longest common subsequence; among several, the one found from the ends, shortening the message first.

    Bit-parallel (Hyyro 2004): bit j of row i is clear when the subsequence of the first i words of the message and the
    first j + 1 of the template is longer than without word j. Memory: a bit for every pair of words.

    >>> _longest_common("a b c d".split(), "b a d".split())
    ['a', 'd']
    """
    places_of: dict[str, int] = {}
    for place, word in enumerate(template):
        places_of[word] = places_of.get(word, 0) | 1 << place
    row = every_place = (1 << len(template)) - 1
    rows = [row]
    for word in message:
        matched = row & places_of.get(word, 0)
        row = ((row + matched) | (row - matched)) & every_place
        rows.append(row)

    def length(num_words: int, num_places: int) -> int:
        return num_places - (rows[num_words] & ((1 << num_places) - 1)).bit_count()

    common: list[str] = []
    at, column = len(message), len(template)
    while at and column:
        if length(at, column) == length(at - 1, column):
            at -= 1
        elif rows[at] >> (column - 1) & 1:
            column -= 1
        else:
            at, column = at - 1, column - 1
            common.append(message[at])
    return common[::-1]


def _generalised(template: list[str], common: list[str]) -> list[str]:
    """The template with wildcards for words outside the common subsequence; one wildcard for all that follows its end.

    >>> _generalised("a b c d e f".split(), ["b", "c"]), _generalised(["a"], [])
    (['<*>', 'b', 'c', '<*>'], [])
    """
    if not common:
        return []
    merged: list[str] = []
    num_used = 0
    for word in template:
        if num_used == len(common):
            return [*merged, WILDCARD]
        if word == common[num_used]:
            merged.append(word)
            num_used += 1
        else:
            merged.append(WILDCARD)
    return merged


def _places(constants: list[str], words: list[str]) -> list[int] | None:
    """Where the constants first occur in a message in their order, or None when they do not."""
    places = []
    at = 0
    for constant in constants:
        try:
            at = words.index(constant, at) + 1
        except ValueError:
            return None
        places.append(at - 1)
    return places


class _Clusters:
    """The message types found so far.

    Args:
        tau: share of a line's words that must be common.
        strict: mends what mode "fixed" mends.
    """

    def __init__(self, tau: float, strict: bool) -> None:
        self.templates: list[Cluster] = []
        self._tau = tau
        self._strict = strict
        self._tree = PrefixTree(forgets=strict)
        self._index = WordIndex()

    def assign(self, message: list[str]) -> int:
        """The number of the cluster that a message belongs to, made or changed as needed."""
        constants = [word for word in message if word != WILDCARD]
        cluster = self._tree.find(constants, self._tau) or self._inside(constants) or self._by_subsequence(message)
        if cluster is None:
            cluster = Cluster(len(self.templates), message)
            self.templates.append(cluster)
            self._tree.add(cluster)
            self._index.add(cluster)
        return cluster.number

    def _inside(self, constants: list[str]) -> Cluster | None:
        """The oldest cluster whose constants all occur in the message."""
        for cluster in self._index.inside(constants):
            # A template without constants would swallow every short line.
            if not self._strict or (
                bool(cluster.constants) == bool(constants) and _places(cluster.constants, constants) is not None
            ):
                return cluster
        return None

    def _by_subsequence(self, message: list[str]) -> Cluster | None:
        """The cluster with the longest common subsequence, rewritten; ties go to the shorter, then the older one."""
        best: Cluster | None = None
        most = ceil(self._tau * len(message))
        for cluster in self._index.sharing(message, least_common=most):
            length = int(LCSseq.similarity(message, cluster.template, score_cutoff=most))
            if length > most or (length == most and (best is None or len(cluster.template) < len(best.template))):
                best, most = cluster, length
        if best is None:
            return None
        common = _longest_common(message, best.template)
        if self._strict and all(word == WILDCARD for word in common):
            return None
        self._rewrite(best, _generalised(best.template, common))
        return best

    def _rewrite(self, cluster: Cluster, template: list[str]) -> None:
        if template == cluster.template:
            return
        self._tree.remove(cluster)
        self._index.remove(cluster)
        cluster.rewrite(template)
        self._tree.add(cluster)
        self._index.put_back(cluster)


@PARSERS.register("Spell")
class Spell(Parser):
    """Spell, online. A line is looked up in three ways, and becomes a new cluster when none finds one.

    1. In the prefix tree of constants. 2. The oldest cluster all of whose constants occur in the line. 3. The cluster
    with the longest common subsequence; only this one rewrites its template. Lines are split at blanks, `=`, `:`, `,`.

    Mode "compat": the second way ignores the order of the words; nodes of the tree keep pointing to clusters that have
    changed; templates join the words with single blanks, so the separators are lost; a line without words joins the
    shortest cluster and empties its template.
    Mode "fixed": the second way asks for the order; the tree forgets; templates keep the separators that their lines
    share, and match all of their lines; lines without words are equal to each other only.

    Cost: a line is compared with the clusters that share half its words. Memory: the distinct masked lines in mode
    "fixed"; the templates in both.

    Args:
        tau: share of a line's words that must be common, in [0, 1].
        mode: see above.
        masks: see `Parser`.
        seed: unused; nothing is random.

    >>> Spell(tau=0.5).parse(["job 1 state=up", "job 2 state=up", "bye"]).templates
    ['job <*> state=up', 'bye']
    """

    def __init__(self, *, tau: float = 0.7, mode: Mode = "fixed", masks: Sequence[str] = (), seed: int = 0) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if not 0 <= tau <= 1:
            raise InputError(f"Spell: tau is a share in [0, 1], not {tau}")
        self.tau = tau
        self.templates_match_lines = mode == "fixed"

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the final template of its cluster."""
        lines = Masker(self.masks).distinct(contents)
        clusters = _Clusters(self.tau, strict=self.mode == "fixed")
        numbers = (clusters.assign(split_words(lines.texts[text])) for text in lines.index_of_line.tolist())
        cluster_of_line = np.fromiter(numbers, np.int32, len(contents))
        if self.mode == "compat":
            templates = [" ".join(cluster.template) for cluster in clusters.templates]
        else:
            templates = _texts(clusters.templates, cluster_of_line, lines)
        return Parsed.from_groups(cluster_of_line, templates)


def _texts(clusters: list[Cluster], cluster_of_line: NDArray[np.int32], lines: DistinctLines) -> list[str]:
    """The templates with separators: what stands between a cluster's constants in all of its lines."""
    templates = [TemplateText(cluster.constants) for cluster in clusters]
    for number, text in np.unique(np.stack((cluster_of_line, lines.index_of_line), axis=1), axis=0).tolist():
        line = lines.texts[text]
        places = _places(clusters[number].constants, split_words(line))
        if places is None:
            raise RuntimeError(f"Spell: the constants of template {number} do not occur in one of its lines: {line!r}")
        templates[number].add(line, places)
    return [str(template) for template in templates]
