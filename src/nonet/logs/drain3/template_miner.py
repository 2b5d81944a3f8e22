"""A streaming miner with Drain3's interface."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from nonet.common.errors import InputError
from nonet.logs.drain3.delimiters import DelimitedMasks
from nonet.logs.drain3.drain import ANY, Clusters, LogCluster
from nonet.logs.drain3.masking import LogMasker
from nonet.logs.drain3.parameters import ExtractedParameter, align, placeholder, units_of
from nonet.logs.drain3.persistence_handler import PersistenceHandler
from nonet.logs.drain3.simple_profiler import NullProfiler
from nonet.logs.drain3.template_miner_config import TemplateMinerConfig
from nonet.logs.mining.lineage import Event
from nonet.logs.mining.masks import UserMask
from nonet.logs.mining.miner import DEFAULT_MAX_CLUSTERS, Mined, Miner
from nonet.logs.mining.shape import Kind
from nonet.logs.mining.template import WILDCARD, Template

MIN_CLUSTERS = 16  # of the miner underneath
DEFAULT_CONFIG_FILE = "drain3.ini"
_STATE_MAGIC = b"nonet-drain3-state 1"
_USER = Kind.USER.name.lower()
_STRATEGIES = ("never", "fallback", "always")

SearchStrategy = Literal["never", "fallback", "always"]


class TemplateMiner:
    """A streaming miner with Drain3's interface.

    Args:
        persistence_handler: keeps the state; loaded at once, saved when templates change and every
            `snapshot_interval_minutes`.
        config: the settings; None reads `drain3.ini` in the working folder, if there is one.

    Raises:
        InputError: a mask that RE2 cannot run, bad settings, or a state that is damaged or was made with other masks.

    >>> miner = TemplateMiner(config=TemplateMinerConfig())
    >>> miner.add_log_message("connected to 10.0.0.1")["change_type"]
    'cluster_created'
    >>> found = miner.add_log_message("connected to 192.168.0.1")
    >>> found["change_type"], found["cluster_id"], found["cluster_size"], found["template_mined"]
    ('none', 1, 2, 'connected to <*>')
    >>> miner.extract_parameters(found["template_mined"], "connected to 10.0.0.7")
    [ExtractedParameter(value='10.0.0.7', mask_name='*')]
    """

    def __init__(
        self, persistence_handler: PersistenceHandler | None = None, config: TemplateMinerConfig | None = None
    ) -> None:
        if config is None:
            config = TemplateMinerConfig()
            if Path(DEFAULT_CONFIG_FILE).is_file():
                config.load(DEFAULT_CONFIG_FILE)
        self.config = config
        self.persistence_handler = persistence_handler
        if idle := config.without_effect():
            warnings.warn(f"settings of Drain3 that change nothing here: {', '.join(idle)}", UserWarning, stacklevel=2)
        self._mask_names = [one.mask_with for one in config.masking_instructions]
        self.profiler = NullProfiler()
        self.masker = LogMasker(config.masking_instructions, config.mask_prefix, config.mask_suffix)
        masks = [UserMask(one.pattern) for one in config.masking_instructions]
        self._line_masks = DelimitedMasks(masks, config.drain_extra_delimiters)
        self._miner = self._with_delimiters(
            Miner(masks=masks, max_clusters=max(config.drain_max_clusters or DEFAULT_MAX_CLUSTERS, MIN_CLUSTERS))
        )
        self.drain = self._no_clusters()
        self._line_of_last_look = self._num_events = 0
        self._saved_at_s = time.monotonic()
        if persistence_handler is not None:
            self.load_state()

    def _with_delimiters(self, miner: Miner) -> Miner:
        miner.line_masks = self._line_masks
        return miner

    def _no_clusters(self) -> Clusters:
        return Clusters(self.config.mask_prefix, self.config.mask_suffix, self.config.drain_max_clusters)

    def add_log_message(self, log_message: str) -> dict[str, Any]:
        """Learn a message.

        Returns:
            `change_type` ("cluster_created", "cluster_template_changed" or "none"), `cluster_id`, `cluster_size`,
            `template_mined`, `cluster_count`. A change is told with the next message of the cluster.
        """
        content = self._line_masks.blanked(log_message)
        mined = self._miner.add(content)
        events = self._miner.lineage.since(self._num_events)
        self._num_events = self._miner.lineage.num_recorded
        cluster = self._follow(mined, content, events)
        change = cluster.tell()
        self._save_if_due(change, cluster.cluster_id)
        return {
            "change_type": change,
            "cluster_id": cluster.cluster_id,
            "cluster_size": cluster.size,
            "template_mined": cluster.get_template(),
            "cluster_count": len(self.drain.clusters),
        }

    def match(self, log_message: str, full_search_strategy: SearchStrategy = "never") -> LogCluster | None:
        """The cluster that a message belongs to, without learning it; None when there is none.

        All strategies give the same answer: the search always covers all templates.

        Raises:
            InputError: an unknown strategy.
        """
        if full_search_strategy not in _STRATEGIES:
            known = ", ".join(_STRATEGIES)
            raise InputError(f"full_search_strategy must be one of {known}, got {full_search_strategy!r}")
        mined = self._miner.match(self._line_masks.blanked(log_message))
        return None if mined is None else self.drain.find(mined.template_id)

    def extract_parameters(
        self, log_template: str, log_message: str, exact_matching: bool = True
    ) -> list[ExtractedParameter] | None:
        """The values of a message, one a hole of the template; None when the message is not of the template.

        Time is linear in the message. Every value is as short as the rest allows, as with `.+?` in an expression.

        Args:
            log_template: as `add_log_message` or `get_template` gave it, now or at any earlier time.
            log_message: the message.
            exact_matching: whether a hole of a mask takes only what that mask matches.
        """
        content = self._line_masks.blanked(log_message)
        mined = self._miner.match(content)
        cluster = None if mined is None else self.drain.find(mined.template_id)
        if mined is not None and cluster is not None and cluster.get_template() == log_template:
            pairs = zip(mined.parameters, cluster.mask_names, strict=True)
            return [ExtractedParameter(parameter.value, name) for parameter, name in pairs]
        names, shown = self._holes_of(log_template, exact_matching)
        masked = self._masked(content.encode("utf-8", "surrogateescape")) if exact_matching else []
        values = align(shown, units_of(content, masked))
        return None if values is None else [ExtractedParameter(*pair) for pair in zip(values, names, strict=True)]

    def get_parameter_list(self, log_template: str, log_message: str) -> list[str]:
        """The values alone; an empty list when the message is not of the template."""
        found = self.extract_parameters(log_template, log_message, exact_matching=False)
        return [parameter.value for parameter in found or ()]

    def save_state(self, snapshot_reason: str) -> None:
        """Hand the state to the persistence handler.

        Args:
            snapshot_reason: why; for those who override this method.
        """
        if self.persistence_handler is None:
            raise InputError(f"no persistence handler to save the state to ({snapshot_reason})")
        self.persistence_handler.save_state(self._packed())
        self._saved_at_s = time.monotonic()

    def load_state(self) -> None:
        """Go on from the state that the persistence handler has; nothing happens when it has none."""
        packed = None if self.persistence_handler is None else self.persistence_handler.load_state()
        if packed is not None:
            self._unpack(packed)

    def get_snapshot_reason(self, change_type: str, cluster_id: int) -> str | None:
        """Why the state should be saved now, or None."""
        if change_type != "none":
            return f"{change_type} ({cluster_id})"
        due_s = self._saved_at_s + 60 * self.config.snapshot_interval_minutes
        return "periodic" if time.monotonic() >= due_s else None

    def _save_if_due(self, change_type: str, cluster_id: int) -> None:
        if self.persistence_handler is not None:
            reason = self.get_snapshot_reason(change_type, cluster_id)
            if reason is not None:
                self.save_state(reason)

    def _follow(self, mined: Mined, content: str, events: Sequence[Event]) -> LogCluster:
        """The cluster of a message just learned, after what the lineage told of older clusters."""
        names = self._names_of(mined, content)
        moved = len(events) == 1 and events[0].new_ids == (mined.template_id,)
        if moved and self.drain.move(events[0].old_id, mined.template, names):
            events = ()
        cluster = self.drain.find(mined.template_id)
        if events or (cluster is None and mined.count > 1 and self._may_look()):
            self._look_at_all()
            cluster = self.drain.find(mined.template_id)
        elif cluster is not None:
            cluster.size += 1
            if self._mask_names:
                cluster.meet_names(names)
        return cluster or self.drain.create(mined.template, names, self._miner.num_lines - 1, mined.count)

    def _may_look(self) -> bool:
        """A look at all templates costs as many steps as there are; so many lines must have come since the last one."""
        return self._miner.num_lines - self._line_of_last_look >= len(self.drain.clusters)

    def _look_at_all(self, *, settle: bool = False) -> None:
        templates = self._miner.templates(settle=settle)
        self.drain.follow(templates, [self._names_of_template(template) for template in templates])
        self._line_of_last_look = self._miner.num_lines
        self._num_events = self._miner.lineage.num_recorded

    def _names_of_template(self, template: Template) -> list[str]:
        if not self._mask_names or _USER not in template.types:
            return [ANY] * len(template.types)
        mined = self._miner.match(template.sample)
        fits = mined is not None and mined.template == template.text
        names = self._names_of(mined, template.sample) if mined is not None and fits else [ANY] * len(template.types)
        return [name if kind == _USER else ANY for name, kind in zip(names, template.types, strict=True)]

    def _names_of(self, mined: Mined, content: str) -> list[str]:
        """The mask of every hole of a message, "*" for those that no mask made."""
        if _USER not in mined.types:
            return [ANY] * len(mined.types)
        masked = self._masked(content.encode("utf-8", "surrogateescape"))
        numbers = {(low, high): number for low, high, number in masked}
        found = [numbers.get(span) for span in mined.spans]
        return [ANY if number is None else self._mask_names[number] for number in found]

    def _masked(self, content: bytes) -> list[tuple[int, int, int]]:
        """Spans of the masks with the number of the first mask of that name."""
        found = self._line_masks.find(content)
        return [(low, high, self._mask_names.index(self._mask_names[owner])) for low, high, owner in found]

    def _holes_of(self, template: str, exact_matching: bool) -> tuple[list[str], str]:
        """Names of all holes, and the template with `<*>`, or the placeholder of a mask, in them."""
        prefix, suffix = re.escape(self.config.mask_prefix), re.escape(self.config.mask_suffix)
        names = "|".join(re.escape(name) for name in sorted({*self._mask_names, ANY}, key=len, reverse=True))
        parts = re.split(f"{prefix}({names}){suffix}", template)
        holes = parts[1::2]
        is_open = [name == ANY or not exact_matching for name in holes]
        shown = [
            WILDCARD if any_value else placeholder(self._mask_names.index(name))
            for any_value, name in zip(is_open, holes, strict=True)
        ]
        return holes, parts[0] + "".join(hole + piece for hole, piece in zip(shown, parts[2::2], strict=True))

    def _packed(self) -> bytes:
        self._look_at_all(settle=True)  # as saving the miner does
        with tempfile.TemporaryDirectory(prefix="nonet-drain3-") as folder:
            path = Path(folder) / "state"
            self._miner.save(path)
            miner_state = path.read_bytes()
        clusters = [[c.cluster_id, c.size, c.mined_template, c.mask_names, c.first_line] for c in self.drain.clusters]
        about = {"counter": self.drain.clusters_counter, "mask_names": self._mask_names, "clusters": clusters}
        body = json.dumps(about).encode() + b"\n" + miner_state
        return _STATE_MAGIC + b" " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body

    def _unpack(self, packed: bytes) -> None:
        head, _, body = packed.partition(b"\n")
        magic, _, digest = head.rpartition(b" ")
        if magic != _STATE_MAGIC:
            raise InputError("the state was not saved by this adapter (or by another version); delete it to start anew")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise InputError("the state is damaged (checksum differs); restore a copy or delete it to start anew")
        text, _, miner_state = body.partition(b"\n")
        about = json.loads(text)
        with tempfile.TemporaryDirectory(prefix="nonet-drain3-") as folder:
            path = Path(folder) / "state"
            path.write_bytes(miner_state)
            miner = Miner.load(path)
        if miner.masks != self._miner.masks or about["mask_names"] != self._mask_names:
            raise InputError("the state was made with other masks; use the same ones, or delete it to start anew")
        self._miner = self._with_delimiters(miner)
        self._num_events = miner.lineage.num_recorded
        self.drain = self._no_clusters()
        self.drain.clusters_counter = about["counter"]
        for number, size, template, names, first_line in about["clusters"]:
            edges = (self.config.mask_prefix, self.config.mask_suffix)
            self.drain.put(LogCluster(number, size, template, names, first_line, *edges)).tell()
