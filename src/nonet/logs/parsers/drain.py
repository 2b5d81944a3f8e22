"""Drain: a tree of fixed depth over message length and first tokens, with a similarity search in its leaves.

He, Zhu, Zheng, Lyu: "Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import eq

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker

_SCAN_LIMIT = 48  # leaves with more clusters than this compare in one NumPy operation
_UNKNOWN, _NEVER_EQUAL = -1, -2


class _Leaf:
    """Clusters of one length and one prefix; finds the one most similar to a message.

    Attributes:
        clusters: numbers of the clusters, in order of birth.
        templates: their tokens.
        num_wildcards: how many of these are wildcards.
    """

    __slots__ = ("_columns", "_vocabulary", "clusters", "num_wildcards", "templates")

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.clusters: list[int] = []
        self.templates: list[list[str]] = []
        self.num_wildcards: list[int] = []
        self._vocabulary = vocabulary
        self._columns: NDArray[np.int32] | None = (
            None  # token numbers, shape (tokens, capacity), once the leaf is large
        )

    def add(self, cluster: int, template: list[str]) -> None:
        """Put a cluster behind the others."""
        self.clusters.append(cluster)
        self.templates.append(template)
        self.num_wildcards.append(template.count(WILDCARD))
        if self._columns is not None or len(self.clusters) > _SCAN_LIMIT:
            self._write_column(len(self.clusters) - 1)

    def most_similar(self, tokens: list[str]) -> tuple[int, int]:
        """Place in the leaf of the best cluster and its number of equal constant tokens.

        Ties go to the template with more wildcards, then to the older one.
        """
        if self._columns is not None:
            return self._most_similar_by_column(tokens, self._columns)
        # A wildcard in the message must equal nothing: only constants count as similar.
        probe = [None if token == WILDCARD else token for token in tokens] if WILDCARD in tokens else tokens
        best, best_same, best_wildcards = -1, -1, -1
        for place, template in enumerate(self.templates):
            same = sum(map(eq, template, probe))
            if same > best_same or (same == best_same and self.num_wildcards[place] > best_wildcards):
                best, best_same, best_wildcards = place, same, self.num_wildcards[place]
        return best, best_same

    def generalise(self, place: int, tokens: list[str]) -> None:
        """Turn the positions in which a cluster's template and the message differ into wildcards."""
        template = self.templates[place]
        if template == tokens:
            return
        merged = [ours if ours == theirs else WILDCARD for ours, theirs in zip(template, tokens, strict=True)]
        if merged != template:
            self.templates[place][:] = merged
            self.num_wildcards[place] = merged.count(WILDCARD)
            if self._columns is not None:
                self._write_column(place)

    def _most_similar_by_column(self, tokens: list[str], columns: NDArray[np.int32]) -> tuple[int, int]:
        number_of = self._vocabulary
        probe = [_NEVER_EQUAL if token == WILDCARD else number_of.get(token, _NEVER_EQUAL) for token in tokens]
        same = (columns[:, : len(self.clusters)] == np.array(probe, np.int32)[:, None]).sum(axis=0, dtype=np.int32)
        best_same = int(same.max())
        ties = np.flatnonzero(same == best_same).tolist()
        return max(ties, key=lambda place: (self.num_wildcards[place], -place)), best_same

    def _write_column(self, place: int) -> None:
        """Mirror one template in `_columns`, making or doubling the table as needed."""
        if self._columns is None or place >= self._columns.shape[1]:
            table = np.full((len(self.templates[0]), 2 * len(self.clusters)), _UNKNOWN, np.int32)
            self._columns = table
            places: Sequence[int] = range(len(self.clusters))
        else:
            table, places = self._columns, (place,)
        number_of = self._vocabulary
        for each in places:
            table[:, each] = [number_of.setdefault(token, len(number_of)) for token in self.templates[each]]


class _Node:
    """An inner node: children by token."""

    __slots__ = ("children", "leaf")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.leaf: _Leaf | None = None


class _Tree:
    """The prefix tree: length, then `num_layers` leading tokens, then a leaf."""

    def __init__(self, num_layers: int, max_child: int) -> None:
        self._num_layers = num_layers
        self._max_child = max_child
        self._root_of_length: dict[int, _Node] = {}
        self._vocabulary: dict[str, int] = {}

    def find(self, tokens: list[str]) -> _Leaf | None:
        """The leaf in which to look for a message, or None when no path leads to one."""
        node = self._root_of_length.get(len(tokens))
        if node is None:
            return None
        for token in tokens[: self._num_layers]:
            child = node.children.get(token) or node.children.get(WILDCARD)
            if child is None:
                return None
            node = child
        return node.leaf

    def leaf_for_new(self, tokens: list[str]) -> _Leaf:
        """The leaf in which to store a new template, made on the way as needed."""
        node = self._root_of_length.setdefault(len(tokens), _Node())
        for token in tokens[: self._num_layers]:
            node = self._step(node, token)
        if node.leaf is None:
            node.leaf = _Leaf(self._vocabulary)
        return node.leaf

    def _step(self, node: _Node, token: str) -> _Node:
        """The child for a token: its own where there is room, else the wildcard's. Tokens with a digit get no child."""
        children = node.children
        if token in children:
            return children[token]
        if any(map(str.isdigit, token)):
            key = WILDCARD
        elif WILDCARD in children:
            key = token if len(children) < self._max_child else WILDCARD
        else:
            # The last free place is kept for the wildcard.
            key = token if len(children) + 1 < self._max_child else WILDCARD
        return children.setdefault(key, _Node())


@PARSERS.register("Drain")
class Drain(Parser):
    """Drain, online: every line is searched, then merged into a cluster or stored as a new one.

    Mode "compat": a message with no more than `depth - 3` tokens is never stored, so each such line keeps its own text.
    Mode "fixed": short and empty messages are stored and found like others.

    Cost: a line is compared with every cluster of one leaf. Memory: the templates and four bytes a line.

    Args:
        st: similarity threshold, share of equal constant tokens, in [0, 1].
        depth: depth of the tree counting root, length layer and leaf, at least 3.
        max_child: most children of an inner node, at least 1.
        mode: see above.
        masks: see `Parser`.
        seed: unused; nothing is random.

    >>> parsed = Drain(st=0.5, depth=4).parse(["job started on alpha", "job started on beta", "job ended"])
    >>> parsed.templates, parsed.labels.tolist()
    (['job started on <*>', 'job ended'], [0, 0, 1])
    """

    templates_match_lines = True

    def __init__(
        self,
        *,
        st: float = 0.5,
        depth: int = 4,
        max_child: int = 100,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if not 0 <= st <= 1:
            raise InputError(f"Drain: st is a share in [0, 1], not {st}")
        if depth < 3:
            raise InputError(f"Drain: depth counts root, length and leaf, so it is at least 3, not {depth}")
        if max_child < 1:
            raise InputError(f"Drain: max_child is at least 1, not {max_child}")
        self.st = st
        self.num_layers = depth - 3
        self.max_child = max_child

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the final template of its cluster."""
        templates: list[list[str]] = []
        cluster_of_line = np.fromiter(self._cluster_lines(contents, templates), np.int32, len(contents))
        return Parsed.from_groups(cluster_of_line, [" ".join(template) for template in templates])

    def _cluster_lines(self, contents: Sequence[str], templates: list[list[str]]) -> Iterator[int]:
        """Yield the cluster of every line; append the templates of new clusters, which later lines may generalise."""
        tree = _Tree(self.num_layers, self.max_child)
        num_unstored = self.num_layers if self.mode == "compat" else -1
        for masked in Masker(self.masks).each(contents):
            tokens = masked.split()
            leaf = tree.find(tokens)
            if leaf is not None:
                place, same = leaf.most_similar(tokens)
                if not tokens or same / len(tokens) >= self.st:
                    leaf.generalise(place, tokens)
                    yield leaf.clusters[place]
                    continue
            if len(tokens) > num_unstored:
                tree.leaf_for_new(tokens).add(len(templates), tokens)
            templates.append(tokens)
            yield len(templates) - 1
