"""Five reference parsers written as plainly as their pseudo-code, full scans and all: oracles for the fast ones.

Each takes masked lines and gives one template a line, in compat mode.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

W = "<*>"


def drain(lines: list[str], st: float, depth: int, max_child: int) -> list[str]:
    tree: dict = {}
    clusters: list[list[str]] = []
    of_line = []
    layers = depth - 3
    for line in lines:
        tok = line.split()
        node = tree.get(len(tok))
        for k in range(layers):
            if node is None or k >= len(tok):
                node = None
                break
            node = node[tok[k]] if tok[k] in node else node.get(W)
        best, rank = None, (-1.0, -1)
        for number in (node or {}).get("leaf", []):
            sim = sum(a == b != W for a, b in zip(clusters[number], tok, strict=True)) / len(tok)
            wild = clusters[number].count(W)
            if (sim, wild) > rank:
                best, rank = number, (sim, wild)
        if best is not None and rank[0] >= st:
            clusters[best] = [a if a == b else W for a, b in zip(clusters[best], tok, strict=True)]
            of_line.append(best)
            continue
        clusters.append(tok)
        of_line.append(len(clusters) - 1)
        if len(tok) <= layers:
            continue
        node = tree.setdefault(len(tok), {})
        for token in tok[:layers]:
            full = len(node) >= max_child if W in node else len(node) + 1 >= max_child
            goes_to_wild = token not in node and (re.search(r"\d", token) or full)
            node = node.setdefault(W if goes_to_wild else token, {})
        node.setdefault("leaf", []).append(len(clusters) - 1)
    return [" ".join(clusters[number]) for number in of_line]


def ael(lines: list[str], min_event_count: int, merge_percent: float) -> list[str]:
    bins: dict = {}
    for line in dict.fromkeys(lines):
        tok = line.split()
        bins.setdefault((len(tok), tok.count(W)), []).append(line)
    template = {line: line for line in lines}
    for (length, _), events in bins.items():
        if len(events) <= min_event_count or length == 0:
            continue
        merged: set[str] = set()
        for e1 in events:
            if e1 in merged:
                continue
            first = e1.split()
            group = [e1]
            for e2 in events:
                if e2 in merged or e2 == e1:
                    continue
                different = sum(a != b for a, b in zip(first, e2.split(), strict=True))
                if 0 < different / length <= merge_percent:
                    group.append(e2)
            merged.update(group)
            if len(group) > 1:
                columns = zip(*(event.split() for event in group), strict=True)
                text = " ".join(column[0] if len(set(column)) == 1 else W for column in columns)
                template.update(dict.fromkeys(group, text))
    return [template[line] for line in lines]


def lfa(lines: list[str]) -> list[str]:
    count = Counter(key for line in lines for key in enumerate(line.split()))
    templates = []
    for line in lines:
        tok = line.split()
        values = sorted(count[at, token] for at, token in enumerate(tok) if token != W)
        if len(values) >= 2 and values[0] != values[-1]:
            _, _, value = max((b - a, -at, a) for at, (a, b) in enumerate(pairwise(values)))
            tok = [token if count[at, token] > value else W for at, token in enumerate(tok)]
        templates.append(" ".join(tok))
    return templates


def iplom(lines: list[str], ct: float, lower_bound: float) -> list[str]:
    rows = [[w for w in re.split(r"[\s=:,]", line) if w] or [" "] for line in lines]
    by_length: dict[int, list[int]] = {}
    for line, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(line)
    templates = [""] * len(lines)
    for length, members in by_length.items():
        cards = [len({rows[m][at] for m in members}) for at in range(length)]
        low = min(cards)
        if low == 1:
            halves = [(1, members)]
        else:
            at = cards.index(low)
            halves = [(2, [m for m in members if rows[m][at] == w]) for w in {rows[m][at] for m in members}]
        for step, part in halves:
            for leaf in _iplom_step_3(step, part, rows, length, ct, lower_bound):
                columns = list(zip(*(rows[m] for m in leaf), strict=True))
                text = " ".join(column[0] if len(set(column)) == 1 else W for column in columns)
                for m in leaf:
                    templates[m] = text
    return templates


def _iplom_step_3(
    step: int, part: list[int], rows: list[list[str]], length: int, ct: float, lower_bound: float
) -> list[list[int]]:
    cards = [len({rows[m][at] for m in part}) for at in range(length)]
    if length == 2:
        p1, p2 = 0, 1
    elif length < 2 or cards.count(1) / length >= ct:
        return [part]
    else:
        often = Counter(cards)
        if step == 2:
            top = max((often[c] for c in cards if c != 1), default=0)
            if top <= 1:
                return [part]
            card = next(c for c in cards if c != 1 and often[c] == top)
            p1, p2 = [at for at in range(length) if cards[at] == card][:2]
        else:
            freq = sorted({often[c] for c in cards})
            if len(freq) == 1:
                return [part]
            p1 = next(at for at in range(length) if often[cards[at]] == freq[0])
            p2 = next(at for at in range(length) if often[cards[at]] == freq[1])
    pairs = [(rows[m][p1], rows[m][p2]) for m in part]
    right = {a: {y for x, y in pairs if x == a} for a, _ in pairs}
    left = {b: {x for x, y in pairs if y == b} for _, b in pairs}
    kind = {}
    for a, b in set(pairs):
        if all(len(left[y]) == 1 for y in right[a]):
            kind[a, b] = "1-1" if len(right[a]) == 1 else "1-M"
        elif all(len(right[x]) == 1 for x in left[b]):
            kind[a, b] = "M-1"
        else:
            kind[a, b] = "M-M"
    rest1 = {a for (a, b), k in kind.items() if k == "M-M"}
    rest2 = {b for (a, b), k in kind.items() if k == "M-M"}
    leaves: dict = {}
    for m, (a, b) in zip(part, pairs, strict=True):
        match kind[a, b]:
            case "1-1":
                key = a
            case "1-M":
                key = b if len(right[a]) / sum(x == a for x, _ in pairs) <= lower_bound else a
            case "M-1":
                key = a if len(left[b]) / sum(y == b for _, y in pairs) <= lower_bound else b
            case _:
                key = None if step == 2 else a if len(rest1) < len(rest2) else b
        leaves.setdefault(key, []).append(m)
    return list(leaves.values())


def lcs(one: list[str], two: list[str]) -> list[str]:
    table = [[0] * (len(two) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(two):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    i, j, out = len(one), len(two), []
    while i and j:
        if table[i][j] == table[i - 1][j]:
            i -= 1
        elif table[i][j] == table[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            out.insert(0, one[i])
    return out


class _SpellNode:
    def __init__(self) -> None:
        self.child: dict[str, _SpellNode] = {}
        self.number: int | None = None
        self.uses = 0


def spell(lines: list[str], tau: float) -> list[str]:
    root = _SpellNode()
    templates: list[list[str]] = []
    of_line = []

    def constants(number: int) -> list[str]:
        return [t for t in templates[number] if t != W]

    def insert(number: int) -> None:
        node = root
        for token in constants(number):
            node = node.child.setdefault(token, _SpellNode())
            node.uses += 1
        if node.number is None:
            node.number = number

    def remove(number: int) -> None:
        node = root
        for token in constants(number):
            if token not in node.child:
                return
            if node.child[token].uses == 1:
                del node.child[token]
                return
            node = node.child[token]
            node.uses -= 1

    def walk(node: _SpellNode, c: list[str], at: int) -> int | None:
        for i in range(at, len(c)):
            child = node.child.get(c[i])
            if child is None:
                continue
            if child.number is None:
                return walk(child, c, i + 1)
            if len(constants(child.number)) >= tau * len(c):
                return child.number
        return None

    for line in lines:
        seq = [w for w in re.split(r"[\s=:,]", line) if w]
        c = [t for t in seq if t != W]
        hit = walk(root, c, 0)
        if hit is None:
            inside = (n for n, t in enumerate(templates) if len(t) >= 0.5 * len(c) and set(t) <= {*c, W})
            hit = next(inside, None)
        if hit is None:
            best, best_common = None, []
            for n, t in enumerate(templates):
                if len(set(seq) & set(t)) < 0.5 * len(seq):
                    continue
                common = lcs(seq, t)
                if best is None or (len(common), -len(t)) > (len(best_common), -len(templates[best])):
                    best, best_common = n, common
            if best is not None and len(best_common) >= tau * len(seq):
                hit = best
                new: list[str] = []
                rest = list(best_common)
                for at, token in enumerate(templates[hit]):
                    if not rest:
                        break
                    new.append(token if token == rest[0] else W)
                    if token == rest[0]:
                        rest.pop(0)
                    if not rest and at + 1 < len(templates[hit]):
                        new.append(W)
                if new != templates[hit]:
                    remove(hit)
                    templates[hit] = new
                    insert(hit)
        if hit is None:
            templates.append(seq)
            hit = len(templates) - 1
            insert(hit)
        of_line.append(hit)
    return [" ".join(templates[n]) for n in of_line]
