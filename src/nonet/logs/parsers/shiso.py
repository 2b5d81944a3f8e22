"""SHISO: a tree of formats, searched by what kinds of characters the words are made of.

Mizutani: "Incremental Mining of System Log Format", SCC 2013.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nonet.common.errors import InputError
from nonet.logs.parsers._shiso_kernels import CHANGED, DONE, FULL, Floats, Ints, walk
from nonet.logs.parsers.base import PARSERS, WILDCARD, Mode, Parsed, Parser
from nonet.logs.parsers.masking import Masker
from nonet.logs.parsers.shiso_formats import WILDCARD_WORD, FormatTable

Vector = tuple[float, float, float, float]


def word_vector(word: str) -> Vector:
    """The unit vector of a word's numbers of lower-case letters, upper-case letters, digits and other characters.

    >>> word_vector("ab12345678X")[:3] == word_vector("cd87654321Y")[:3], word_vector("root")
    (True, (1.0, 0.0, 0.0, 0.0))
    """
    lower, upper, digits = (sum(map(kind, word)) for kind in (str.islower, str.isupper, str.isdigit))
    other = len(word) - lower - upper - digits
    norm = math.sqrt(lower * lower + upper * upper + digits * digits + other * other)
    return lower / norm, upper / norm, digits / norm, other / norm


class _Words:
    """The words of distinct texts as numbers; the wildcard is number 0.

    Attributes:
        texts: word by number.
        vectors: shape (words, 4).
        numbers: word numbers of all texts, one after the other.
        starts: shape (texts + 1,); where each text starts in `numbers`.
    """

    def __init__(self, texts: Sequence[str], wildcard: str) -> None:
        number_of = {wildcard: WILDCARD_WORD}
        rows = [[number_of.setdefault(word, len(number_of)) for word in text.split()] for text in texts]
        self.texts = list(number_of)
        self.vectors: Floats = np.array([word_vector(word) for word in self.texts])
        self.starts: Ints = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=self.starts[1:])
        self.numbers: Ints = np.fromiter((number for row in rows for number in row), np.int64, int(self.starts[-1]))


class FormatTree:
    """The tree; its arrays are those of `_shiso_kernels`, and grow as needed.

    Args:
        words: the words of the texts.
        max_child_num: children that a node can have.
        merge_threshold: the largest distance at which a message joins a format.
        free_tail: see `_shiso_kernels.distance`.
    """

    def __init__(self, words: _Words, max_child_num: int, merge_threshold: float, *, free_tail: bool) -> None:
        self._words = words
        self._merge_threshold = merge_threshold
        self._free_tail = free_tail
        self._starts: Ints = np.zeros(256, np.int64)
        self._lengths: Ints = np.zeros(256, np.int64)
        self._num_children: Ints = np.zeros(256, np.int64)
        self._children: Ints = np.zeros((256, max_child_num), np.int64)
        self._pool: Ints = np.zeros(4096, np.int64)
        self._used: Ints = np.array([1, 0])

    @property
    def num_nodes(self) -> int:
        """Nodes in use, the root included."""
        return int(self._used[0])

    def words_of(self, node: int) -> list[int]:
        """Word numbers of a node's format."""
        start = self._starts[node]
        numbers: list[int] = self._pool[start : start + self._lengths[node]].tolist()
        return numbers

    def _grow(self, num_words: int) -> None:
        """Make room for another node of so many words, at least doubling what is short."""
        if self._used[0] == len(self._lengths):
            self._starts, self._lengths, self._num_children, self._children = (
                np.concatenate([table, np.zeros_like(table)])
                for table in (self._starts, self._lengths, self._num_children, self._children)
            )
        missing = int(self._used[1]) + num_words - len(self._pool)
        if missing > 0:
            self._pool = np.concatenate([self._pool, np.zeros(max(missing, len(self._pool)), np.int64)])

    def place(self, text_of_line: Ints, formats: FormatTable | None) -> Ints:
        """Walk all lines down the tree; returns the node of every line.

        Args:
            text_of_line: shape (lines,).
            formats: told of every new and changed format, if there is one; it must be empty.
        """
        node_of_line = np.zeros(len(text_of_line), np.int64)
        line, state, num_known = 0, FULL, 1
        while state != DONE:
            line, state = walk(
                self._words.numbers,
                self._words.starts,
                text_of_line,
                line,
                self._words.vectors,
                self._starts,
                self._lengths,
                self._children,
                self._num_children,
                self._pool,
                self._used,
                node_of_line,
                self._merge_threshold,
                self._free_tail,
                formats is not None,
            )
            if state == FULL:
                text = text_of_line[line]
                self._grow(int(self._words.starts[text + 1] - self._words.starts[text]))
            if formats is not None:
                changed = int(node_of_line[line - 1]) if state == CHANGED else None
                num_known = self._tell(formats, num_known, changed)
        return node_of_line

    def _tell(self, formats: FormatTable, num_known: int, changed: int | None) -> int:
        """Store the formats of nodes since `num_known`, then adjust the changed one; returns how many are known."""
        for node in range(num_known, self.num_nodes):
            formats.put(node, self.words_of(node))
        if changed is not None:
            formats.put(changed, self.words_of(changed))
            formats.adjust(changed)
        return self.num_nodes


@PARSERS.register("SHISO")
class SHISO(Parser):
    """SHISO, online: a message joins the first similar format on its way down a tree, or becomes a new node.

    Words are similar when they are made of like shares of lower-case letters, upper-case letters, digits and other
    characters. At every node the message is compared with the children: the nearest one of its length joins it, if it
    is near enough; else the message becomes a child, as long as there is room; else it goes on to the nearest child.

    Compat keeps these quirks of the reference, mended in fixed mode:

    * the second phase of the paper never acts, since its table of formats starts empty and only a hit in it fills it;
      in fixed mode a format that changes is joined with the stored one most like it (Dice coefficient of word 3-grams
      above `format_lookup_threshold`) if they have enough words in common (longest common subsequence over mean length
      above `super_format_threshold`). Both nodes stay in the tree and share one template;
    * words that a message lacks cost nothing when the first of them is a wildcard, else 1 each; fixed always charges;
    * the wildcard is `*`, and a masked word is an ordinary one; fixed writes the wildcard of the field.

    Cost: lines x depth x children x words. Memory: the vocabulary, the distinct masked lines and the nodes.

    Args:
        max_child_num: children that a node can have; at least 1.
        merge_threshold: the largest distance at which a message joins a format; from 0 to 1.
        format_lookup_threshold: see above; from 0 to 1.
        super_format_threshold: see above; from 0 to 1.
        mode: "compat" or "fixed".
        masks: see `Parser`.
        seed: not used; nothing is drawn.

    >>> lines = ["user a7 in", "user b8 in", "Bye"]
    >>> SHISO(mode="compat").parse(lines).templates
    ['user * in', 'Bye']

    Raises:
        InputError: a parameter is out of its range.
    """

    def __init__(
        self,
        *,
        max_child_num: int = 4,
        merge_threshold: float = 0.002,
        format_lookup_threshold: float = 0.3,
        super_format_threshold: float = 0.85,
        mode: Mode = "fixed",
        masks: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__(mode=mode, masks=masks, seed=seed)
        if max_child_num < 1:
            raise InputError(f"SHISO: max_child_num is {max_child_num}; it must be 1 or more")
        thresholds = {
            "merge_threshold": merge_threshold,
            "format_lookup_threshold": format_lookup_threshold,
            "super_format_threshold": super_format_threshold,
        }
        for name, threshold in thresholds.items():
            if not 0 <= threshold <= 1:
                raise InputError(f"SHISO: {name} is {threshold}; it must be from 0 to 1")
        self.max_child_num = max_child_num
        self.merge_threshold = merge_threshold
        self.format_lookup_threshold = format_lookup_threshold
        self.super_format_threshold = super_format_threshold

    def parse(self, contents: Sequence[str]) -> Parsed:
        """Give every line the final format of its node."""
        compat = self.mode == "compat"
        lines = Masker(self.masks).distinct(contents)
        words = _Words(lines.texts, "*" if compat else WILDCARD)
        tree = FormatTree(words, self.max_child_num, self.merge_threshold, free_tail=compat)
        formats = None if compat else FormatTable(self.format_lookup_threshold, self.super_format_threshold)
        node_of_line = tree.place(lines.index_of_line.astype(np.int64), formats)
        format_of = {node: tree.words_of(node) for node in range(tree.num_nodes)}
        if formats is not None:
            of_event = formats.super_formats()
            format_of |= {node: of_event[formats.event(node)] for node in range(1, tree.num_nodes)}
        texts = [" ".join(words.texts[number] for number in format_of[node]) for node in range(tree.num_nodes)]
        return Parsed.from_groups(node_of_line, texts)
