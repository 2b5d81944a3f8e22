"""Clusters as users of Drain3 know them: a number for every template that stays when the template's text changes.

The number belongs to the first line of a cluster. When the miner settles its templates anew, a template that holds the
first line of a cluster is that cluster; so a renamed template keeps its number, merged ones get the oldest, and of the
parts of a split one the part with the first line keeps it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TextIO

from nonet.logs.mining.template import WILDCARD, Template, template_id

ANY = "*"


@dataclass(slots=True)
class LogCluster:
    """A template with its number.

    Attributes:
        cluster_id: from 1 on, never used twice.
        size: number of messages.
        mined_template: text with `<*>` in every hole.
        mask_names: for every hole the name of the mask that made it, "*" where messages differ or no mask did.
        first_line: ordinal of its first message.
        mask_prefix, mask_suffix: what stands around the names.
        told: the template when the cluster was last an answer; None before.
        shown: the template as it is shown, once asked for; None when that changed.
    """

    cluster_id: int
    size: int
    mined_template: str
    mask_names: list[str]
    first_line: int
    mask_prefix: str = "<"
    mask_suffix: str = ">"
    told: str | None = None
    shown: str | None = None

    @property
    def template_id(self) -> str:
        """The id of the template that the miner knows it by."""
        return template_id(self.mined_template)

    @property
    def log_template_tokens(self) -> tuple[str, ...]:
        """The words of the template."""
        return tuple(self.get_template().split())

    def get_template(self) -> str:
        """The template with the names of masks in its holes.

        >>> LogCluster(1, 1, "from <*> port <*>", ["IP", "*"], 0, "<:", ":>").get_template()
        'from <:IP:> port <:*:>'
        """
        if self.shown is None:
            pieces = self.mined_template.split(WILDCARD)
            holes = [f"{self.mask_prefix}{name}{self.mask_suffix}" for name in self.mask_names]
            self.shown = pieces[0] + "".join(hole + piece for hole, piece in zip(holes, pieces[1:], strict=True))
        return self.shown

    def become(self, template: str, names: Sequence[str]) -> None:
        """Have another text from now on."""
        self.mined_template, self.mask_names, self.shown = template, list(names), None

    def meet_names(self, names: Sequence[str]) -> None:
        """Keep the names on which another message agrees."""
        if self.mask_names != names:
            self.mask_names = [a if a == b else ANY for a, b in zip(self.mask_names, names, strict=True)]
            self.shown = None

    def tell(self) -> str:
        """The change since the cluster was last an answer, in Drain3's words; from now on there is none."""
        before, self.told = self.told, self.get_template()
        if before is None:
            return "cluster_created"
        return "none" if before == self.told else "cluster_template_changed"

    def __str__(self) -> str:
        return f"ID={str(self.cluster_id).ljust(5)} : size={str(self.size).ljust(10)}: {self.get_template()}"


class Clusters:
    """All clusters; what `TemplateMiner.drain` is.

    Attributes:
        max_clusters: as it was configured; the miner underneath keeps that bound.
        id_to_cluster: clusters by number.
        clusters_counter: the last number given out.
    """

    def __init__(self, mask_prefix: str = "<", mask_suffix: str = ">", max_clusters: int | None = None) -> None:
        self._edges = (mask_prefix, mask_suffix)
        self.max_clusters = max_clusters
        self.id_to_cluster: dict[int, LogCluster] = {}
        self.clusters_counter = 0
        self._by_template: dict[str, LogCluster] = {}

    @property
    def clusters(self) -> Collection[LogCluster]:
        """All clusters, oldest number first."""
        return self.id_to_cluster.values()

    def get_total_cluster_size(self) -> int:
        """Messages in all clusters."""
        return sum(cluster.size for cluster in self.clusters)

    def print_tree(self, file: TextIO | None = None, max_clusters: int = 5) -> None:
        """Print the clusters by number of words and first word, at most so many of each."""
        nodes: dict[int, dict[str, list[LogCluster]]] = {}
        for cluster in self.clusters:
            words = cluster.log_template_tokens
            nodes.setdefault(len(words), {}).setdefault(words[0] if len(words) > 1 else "", []).append(cluster)
        print("<root>", file=file)
        for num_words, by_first_word in nodes.items():
            one = by_first_word.get("", ())
            print(f"\t<L={num_words}>" + (f" (cluster_count={len(one)})" if one else ""), file=file)
            for word, clusters in by_first_word.items():
                if word:
                    print(f'\t\t"{word}" (cluster_count={len(clusters)})', file=file)
                for cluster in clusters[:max_clusters]:
                    print(("\t\t\t" if word else "\t\t") + str(cluster), file=file)

    def find(self, template: str) -> LogCluster | None:
        """The cluster of a template id."""
        return self._by_template.get(template)

    def create(self, template: str, names: Sequence[str], first_line: int, size: int = 1) -> LogCluster:
        """A new cluster with the next number."""
        self.clusters_counter += 1
        return self.put(LogCluster(self.clusters_counter, size, template, list(names), first_line, *self._edges))

    def put(self, cluster: LogCluster) -> LogCluster:
        """Take a cluster with the number that it has."""
        self.id_to_cluster[cluster.cluster_id] = cluster
        self._by_template[cluster.template_id] = cluster
        return cluster

    def follow(self, templates: Sequence[Template], names: Sequence[Sequence[str]]) -> None:
        """Become the clusters of `templates`, whose holes have these mask names; see the module about numbers."""
        by_first_line: dict[int, LogCluster] = {}
        for known in self.clusters:
            by_first_line.setdefault(known.first_line, known)
        self.id_to_cluster, self._by_template = {}, {}
        for template, its in sorted(zip(templates, names, strict=True), key=lambda pair: pair[0].first_seen):
            old = by_first_line.get(template.first_seen)
            if old is None:
                self.create(template.text, its, template.first_seen, template.count)
                continue
            old.become(template.text, its)
            old.size = template.count
            self.put(old)

    def move(self, old_id: str, template: str, names: Sequence[str]) -> bool:
        """Rename the cluster of a template id that ended, or join it to the cluster that has its new template.

        Returns:
            Whether the old id was known.
        """
        left, heir = self._by_template.pop(old_id, None), self._by_template.get(template_id(template))
        if left is None:
            return False
        if heir is None:
            left.become(template, names)
            self.put(left)
            return True
        older, younger = sorted((left, heir), key=lambda cluster: cluster.first_line)
        older.become(template, heir.mask_names)
        older.size += younger.size
        del self.id_to_cluster[younger.cluster_id]
        self.put(older)
        return True
