"""What a request gets: retrieved, ranked, and written to the log as it was shown."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from nonet.common.errors import InputError
from nonet.recsys.example import ActionEvent, FeatureEvent, encode
from nonet.recsys.logs import Log, LogUnavailableError, Record
from nonet.recsys.serving.arms import Arm, Assignment
from nonet.recsys.serving.encoding import Catalogue, Ids


class ShownEvent(FeatureEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A feature event with what an evaluation of the arms needs; a joiner passes over the added fields.

    Args:
        arm: that answered.
        position: from 0.
        score: probability.
    """

    arm: str = ""
    position: int = 0
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Ranked items.

    Args:
        request_id: of the request.
        arm: that answered.
        items: names, best first.
        scores: probabilities.
        source: "index", "default" (nothing could be retrieved) or "request" (candidates were given).
        logged: whether the feature events are on the log.
    """

    request_id: str
    arm: Arm
    items: tuple[str, ...]
    scores: tuple[float, ...]
    source: str
    logged: bool


class Recommender:
    """Answers requests. An unknown user counts by context and biases alone; an unknown item by its attributes.

    Args:
        arms: each once.
        assignment: of users; even shares by default.
        log: for events; None writes none.
        features_topic: of what was shown.
        actions_topic: of what was done.
        oversample: items that are retrieved for each that is asked for, before ranking.
        candidates: items that are retrieved at least; the model may rank far up what the inner product does not.
        clock: seconds since 1970.

    Raises:
        InputError: no arms, two of one name, or an assignment to others.

    >>> from nonet.recsys import Catalogue, FeatureEncoder, Features, Replica, Trainer, preset_table
    >>> catalogue = Catalogue(Features({name: FeatureEncoder(name, n) for n, name in enumerate(("user", "item"))}))
    >>> for item in ("i1", "i2", "i3"):
    ...     catalogue.put(item)
    >>> trainer = Trainer("fm", preset_table("fm", 4, name="ids"), features=("user", "item"))
    >>> recommender = Recommender([Arm("main", trainer.model, Replica({"ids": 5}), catalogue)])
    >>> answer = recommender.recommend("u1", 2)  # nothing is known yet: the items are as good as each other
    >>> len(answer.items), answer.arm.name, [float(score) for score in answer.scores]
    (2, 'main', [0.5, 0.5])
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        *,
        assignment: Assignment | None = None,
        log: Log | None = None,
        features_topic: str = "features",
        actions_topic: str = "actions",
        oversample: int = 5,
        candidates: int = 500,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.arms = {arm.name: arm for arm in arms}
        self.assignment = assignment or Assignment(dict.fromkeys(self.arms, 1.0))
        if not arms or len(self.arms) < len(arms) or set(self.assignment.shares) != set(self.arms):
            raise InputError(f"arms {[arm.name for arm in arms]} do not fit {dict(self.assignment.shares)}")
        self.clock = clock
        self._log, self._topics = log, (features_topic, actions_topic)
        self._oversample, self._candidates = oversample, candidates
        if log is not None:
            for topic in self._topics:
                if not log.num_partitions(topic):
                    log.create(topic)

    def arm_of(self, user: str) -> Arm:
        """The arm of a user."""
        return self.arms[self.assignment.arm_of(user)]

    def recommend(
        self,
        user: str,
        count: int,
        *,
        context: Mapping[str, Any] | None = None,
        dense: Sequence[float] = (),
        request_id: str = "",
        exclude: Sequence[str] = (),
    ) -> Answer:
        """Retrieve items, rank them, write down what is shown; where few are learned, others of the catalogue fill up.

        Raises:
            InputError: context or numbers that the model does not take.
        """
        arm = self.arm_of(user)
        request = arm.features.of_request(user, context or {})
        unwanted = set(exclude)
        wanted = max(count * self._oversample, self._candidates) + len(unwanted)
        found = [item for item in arm.retrieve(request, wanted) if item not in unwanted]
        source = "index" if found else "default"
        if len(found) < count:  # items that nobody has learned about yet fill up
            passed_over = unwanted | set(found)
            rest = arm.catalogue.first(wanted + len(passed_over))
            found += [item for item in rest if item not in passed_over][: wanted - len(found)]
        return self._answer(arm, request, found, count, dense, request_id, source, is_shown=True)

    def rank(
        self,
        user: str,
        items: Sequence[str],
        *,
        context: Mapping[str, Any] | None = None,
        dense: Sequence[float] = (),
        request_id: str = "",
        shown: bool = False,
    ) -> Answer:
        """Rank the items given; `shown` writes them down as shown.

        Raises:
            InputError: context or numbers that the model does not take.
        """
        arm = self.arm_of(user)
        request = arm.features.of_request(user, context or {})
        return self._answer(arm, request, items, len(items), dense, request_id, "request", is_shown=shown)

    def act(self, request_id: str, item: str, action: str, value: float, ts_ms: int | None = None) -> None:
        """Append what somebody did to the log.

        Raises:
            InputError: there is no log.
            LogUnavailableError: it does not answer; try again.
        """
        if self._log is None:
            raise InputError("this service has no log; start it with one to take actions")
        at_ms = self._now_ms() if ts_ms is None else ts_ms
        key = _bytes(request_id)
        event = ActionEvent(request_id=key, item_id=_bytes(item), ts_ms=at_ms, action=action, value=value)
        self._log.publish(self._topics[1], [Record(key, encode(event), at_ms)])

    def _answer(
        self,
        arm: Arm,
        request: Ids,
        items: Sequence[str],
        count: int,
        dense: Sequence[float],
        request_id: str,
        source: str,
        *,
        is_shown: bool,
    ) -> Answer:
        request_id = request_id or uuid.uuid4().hex
        ids = [arm.catalogue.ids_of(item) for item in items]
        now_ms = self._now_ms()
        scores = arm.rank(arm.features.batch(request, ids, dense, now_ms))
        best = np.argsort(-scores, kind="stable")[:count].tolist()
        logged = False
        if is_shown and self._log is not None and best:
            rows = [(items[n], {**request, **ids[n]}, float(scores[n])) for n in best]
            logged = self._write(self._log, arm, request_id, rows, dense, now_ms)
        names = tuple(items[n] for n in best)
        return Answer(request_id, arm, names, tuple(float(scores[n]) for n in best), source, logged)

    def _write(
        self,
        log: Log,
        arm: Arm,
        request_id: str,
        rows: list[tuple[str, Ids, float]],
        dense: Sequence[float],
        now_ms: int,
    ) -> bool:
        key = _bytes(request_id)
        events = (
            ShownEvent(
                request_id=key,
                item_id=_bytes(item),
                ts_ms=now_ms,
                ids=ids,
                dense=list(dense),
                arm=arm.name,
                position=position,
                score=score,
            )
            for position, (item, ids, score) in enumerate(rows)
        )
        try:
            log.publish(self._topics[0], [Record(key, msgspec.msgpack.encode(event), now_ms) for event in events])
        except LogUnavailableError:
            return False  # an answer that cannot be learned from is still an answer; it says so
        return True

    def _now_ms(self) -> int:
        return int(self.clock() * 1000)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def new_items(catalogue: Catalogue, arms: Sequence[Arm], items: Mapping[str, Mapping[str, Any]]) -> None:
    """Add items to a catalogue, and to the index of every arm that has learned about them."""
    for item, attributes in items.items():
        catalogue.put(item, attributes)
    for arm in arms:
        arm.refresh(list(items))
