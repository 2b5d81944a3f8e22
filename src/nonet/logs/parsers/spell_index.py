"""Where Spell looks its clusters up: the prefix tree of their constants, and an index of their words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from math import ceil

from nonet.logs.parsers.base import WILDCARD


class Cluster:
    """One message type.

    Attributes:
        number: order of birth.
        template: words and wildcards.
        constants: the words of the template, in order.
        words: the distinct words of the template, the wildcard among them.
    """

    __slots__ = ("constants", "number", "template", "words")

    def __init__(self, number: int, template: list[str]) -> None:
        self.number = number
        self.rewrite(template)

    def rewrite(self, template: list[str]) -> None:
        """Give the cluster another template."""
        self.template = template
        self.constants = [word for word in template if word != WILDCARD]
        self.words = set(template)


class _Node:
    """A node of the prefix tree: the constants on the way to it may be all those of one cluster."""

    __slots__ = ("children", "cluster", "num_templates")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.cluster: Cluster | None = None
        self.num_templates = 0


class PrefixTree:
    """Constants of the templates, word by word.

    Args:
        forgets: whether a removed template also gives up its node when other templates run through it. The reference
            keeps such a node pointing to the cluster, whose template has changed.
    """

    def __init__(self, forgets: bool) -> None:
        self._root = _Node()
        self._forgets = forgets

    def add(self, cluster: Cluster) -> None:
        """Insert the constants of a cluster; the first cluster to end in a node keeps it."""
        node = self._root
        for word in cluster.constants:
            node = node.children.setdefault(word, _Node())
            node.num_templates += 1
        if node.cluster is None:
            node.cluster = cluster

    def remove(self, cluster: Cluster) -> None:
        """Take out the constants that a cluster was added with."""
        node = self._root
        for word in cluster.constants:
            child = node.children.get(word)
            if child is None:
                return
            if child.num_templates == 1:
                del node.children[word]
                return
            child.num_templates -= 1
            node = child
        if self._forgets and node.cluster is cluster:
            node.cluster = None

    def find(self, words: list[str], tau: float) -> Cluster | None:
        """Walk the words, taking every child that there is and skipping words without one.

        A child that ends a template is never entered: it is the answer when the template is long enough, else skipped.
        """
        node = self._root
        for word in words:
            child = node.children.get(word)
            if child is None:
                continue
            if child.cluster is None:
                node = child
            elif len(child.cluster.constants) >= tau * len(words):
                return child.cluster
        return None


class WordIndex:
    """Which clusters have which words: a search looks at few clusters, and answers as if it had looked at all."""

    def __init__(self) -> None:
        self._clusters: list[Cluster] = []
        self._with_word: dict[str, set[int]] = {}
        self._filed_under: dict[str, set[int]] = {}
        self._key_of: list[str] = []

    def add(self, cluster: Cluster) -> None:
        """Index a cluster; the first has number 0, the next 1 and so on."""
        self._clusters.append(cluster)
        self._key_of.append("")
        self._insert(cluster)

    def remove(self, cluster: Cluster) -> None:
        """Forget the words of a cluster before its template changes; `put_back` it afterwards."""
        for word in cluster.words:
            self._with_word[word].discard(cluster.number)
        self._filed_under[self._key_of[cluster.number]].discard(cluster.number)

    def put_back(self, cluster: Cluster) -> None:
        """Index a known cluster with its new template."""
        self._insert(cluster)

    def _insert(self, cluster: Cluster) -> None:
        for word in cluster.words:
            self._with_word.setdefault(word, set()).add(cluster.number)
        # A cluster is looked up by one of its constants, the least used; without constants, by the wildcard.
        key = min(cluster.constants, key=lambda word: len(self._filed_under.get(word, ())), default=WILDCARD)
        self._filed_under.setdefault(key, set()).add(cluster.number)
        self._key_of[cluster.number] = key

    def inside(self, constants: list[str]) -> Iterator[Cluster]:
        """Clusters in order of birth, all of whose constants occur in the message and that have half its length."""
        words = set(constants)
        candidates = [self._filed_under.get(word, ()) for word in (*words, WILDCARD)]
        for number in sorted(set().union(*candidates)):
            cluster = self._clusters[number]
            if len(cluster.template) >= 0.5 * len(constants) and words.issuperset(cluster.constants):
                yield cluster

    def sharing(self, message: list[str], least_common: int) -> list[Cluster]:
        """Clusters in order of birth that may have a common subsequence of at least `least_common` words.

        They share distinct words numbering at least half the message's length (the reference's own filter), and enough
        of them to make up such a subsequence.
        """
        occurrences = Counter(message)
        most_by_shared = accumulate(sorted(occurrences.values(), reverse=True), initial=0)
        enough = next(shared for shared, most in enumerate(most_by_shared) if most >= least_common)
        needed = max(ceil(0.5 * len(message)), enough)
        if needed == 0:
            return self._clusters
        # Who shares `needed` of the words has at least one among any len(words) - needed + 1 of them: take the rarest.
        holders = sorted((self._with_word.get(word, set()) for word in occurrences), key=len)
        candidates: set[int] = set().union(*holders[: max(len(occurrences) - needed + 1, 0)])
        clusters = map(self._clusters.__getitem__, sorted(candidates))
        words = occurrences.keys()
        return [cluster for cluster in clusters if len(words & cluster.words) >= needed]
