"""Questions with retrieved chunks, and the requests that fill the store before they are asked.

Files are as `xquad_bm25_trace.jsonl` (qid, question, answer, top5) and `xquad_chunks.jsonl` (chunk_id, text). A
question is never asked among the requests that made the variants it uses, since quality on the request that warmed the
cache is perfect and says nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nonet.common.errors import InputError

SYSTEM = "Answer the question from the passages. Be brief."


@dataclass(frozen=True, slots=True)
class Case:
    """A question and what was retrieved for it.

    Args:
        question: its text.
        answer: the gold answer, "" when unknown.
        chunks: ids of the retrieved chunks, in the order in which they stand in the prompt.
    """

    question: str
    answer: str
    chunks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is asked, after what.

    Args:
        name: of the set.
        texts: every chunk by its id.
        warming: questions that are served beforehand and so fill the store.
        asked: the questions that are measured.
    """

    name: str
    texts: Mapping[str, str]
    warming: tuple[Case, ...]
    asked: tuple[Case, ...]


def read_cases(questions: str | Path, chunks: str | Path) -> tuple[list[Case], dict[str, str]]:
    """Read a trace of questions and its chunks.

    Args:
        questions: JSON lines with `question`, a list `top5` (or `chunks`) of chunk ids, and optionally `answer`.
        chunks: JSON lines with `chunk_id` and `text`.

    Raises:
        InputError: a line that lacks these, or a question that names an unknown chunk.
    """
    texts = {str(record["chunk_id"]): str(record["text"]) for record in _records(chunks, ("chunk_id", "text"))}
    cases = []
    for number, record in enumerate(_records(questions, ("question",)), start=1):
        named = record.get("chunks", record.get("top5"))
        if not isinstance(named, list) or not named:
            raise InputError(f'{questions}:{number}: needs "top5", a list of chunk ids')
        ids = tuple(str(one) for one in named)
        if unknown := [one for one in ids if one not in texts]:
            raise InputError(f"{questions}:{number}: chunk {unknown[0]} is not in {chunks}")
        cases.append(Case(str(record["question"]), str(record.get("answer", "")), ids))
    if not cases:
        raise InputError(f"{questions}: no questions")
    return cases, texts


def joined_chunks(
    cases: Sequence[Case], texts: Mapping[str, str], group: int, per_request: int
) -> tuple[list[Case], dict[str, str]]:
    """Longer chunks: neighbours of the list are joined, and questions point at the joined ones.

    Args:
        cases: with the short chunks.
        texts: in the order of their documents.
        group: short chunks in a long one.
        per_request: long chunks of a question at most, best first.
    """
    ids = list(texts)
    of = {chunk: f"{n // group}" for n, chunk in enumerate(ids)}
    long: dict[str, str] = {}
    for chunk in ids:
        long[of[chunk]] = f"{long[of[chunk]]}\n{texts[chunk]}" if of[chunk] in long else texts[chunk]
    moved = [
        Case(case.question, case.answer, tuple(dict.fromkeys(of[chunk] for chunk in case.chunks))[:per_request])
        for case in cases
    ]
    return moved, long


def hotpot_cases(path: str | Path, per_request: int = 5) -> tuple[list[Case], dict[str, str]]:
    """Multi-hop questions with the passages that answer them and distractors, in an order of their own.

    Args:
        path: HotpotQA's JSON (`question`, `answer`, `context`, `supporting_facts`).
        per_request: passages of a question; all supporting ones are among them.
    """
    texts: dict[str, str] = {}
    cases = []
    for number, record in enumerate(json.loads(Path(path).read_text("utf-8"))):
        for title, sentences in record["context"]:
            texts[title] = f"{title}: {''.join(sentences)}"
        needed = list(dict.fromkeys(title for title, _ in record["supporting_facts"]))
        others = [title for title, _ in record["context"] if title not in needed]
        chosen = (needed + others)[:per_request]
        random.Random(number).shuffle(chosen)
        cases.append(Case(record["question"], record["answer"], tuple(chosen)))
    return cases, texts


def evaluation_of(
    name: str, cases: Sequence[Case], texts: Mapping[str, str], *, num_warming: int, num_asked: int, seed: int = 0
) -> Evaluation:
    """Part a trace: some of its questions warm the store, others whose chunks were all met then are asked.

    Args:
        name: of the set.
        cases: the trace.
        texts: its chunks.
        num_warming: questions that warm at most.
        num_asked: questions that are asked at most.
        seed: of the order.

    Raises:
        InputError: no question is left whose chunks were all met, in an order of their own.
    """
    order = list(cases)
    random.Random(seed).shuffle(order)
    warming, rest = order[:num_warming], order[num_warming:]
    met = {chunk for case in warming for chunk in case.chunks}
    contexts = {case.chunks for case in warming}
    asked = [case for case in rest if met.issuperset(case.chunks) and case.chunks not in contexts][:num_asked]
    if not asked and all(len(case.chunks) < 2 for case in cases):
        raise InputError(
            f"{name}: no question has more than one chunk, and one alone is an exact prefix when it comes again; give "
            "questions with two chunks or more"
        )
    if not asked:
        raise InputError(
            f"{name}: {len(warming)} of {len(order)} questions fill the store, and no other has chunks that all came "
            "up there, in another order; give more questions about these chunks, or fill it with more of them"
        )
    return Evaluation(name, texts, tuple(warming), tuple(asked))


def shares_of(num_cases: int, num_warming: int, num_asked: int) -> tuple[int, int]:
    """How many questions warm and how many are asked where there are too few for both: the same ratio, one at least.

    Args:
        num_cases: that there are.
        num_warming: that are wanted to warm.
        num_asked: that are wanted to be asked.

    >>> shares_of(60, 100, 40), shares_of(200, 100, 40)
    ((42, 18), (100, 40))
    """
    if num_cases >= num_warming + num_asked:
        return num_warming, num_asked
    num_first = max(1, num_cases * num_warming // (num_warming + num_asked))
    return num_first, max(1, num_cases - num_first)


def with_planted_neighbours(
    name: str, cases: Sequence[Case], texts: Mapping[str, str], *, num_asked: int, seed: int = 0
) -> Evaluation:
    """For questions whose chunks never come back: each chunk is served among chunks of other questions first.

    Once: a chunk that is known would be reused the second time, and nothing be stored.

    Args:
        name: of the set.
        cases: questions that share no chunks.
        texts: their chunks.
        num_asked: questions that are asked.
        seed: of the company.
    """
    draws = random.Random(seed)
    asked = list(cases)
    draws.shuffle(asked)
    asked = asked[:num_asked]
    of_question = {chunk: number for number, case in enumerate(asked) for chunk in case.chunks}
    size = max(len(case.chunks) for case in asked)
    warming = []
    pool = list(of_question)
    draws.shuffle(pool)
    while pool:
        group = _strangers(pool, of_question, size)
        warming.append(Case("What is this about?", "", tuple(group)))
    return Evaluation(name, texts, tuple(warming), tuple(asked))


def _strangers(pool: list[str], of_question: Mapping[str, int], size: int) -> list[str]:
    # Taken off the pool: chunks of different questions, as far as there are such.
    group: list[str] = []
    for chunk in list(pool):
        if len(group) < size and of_question[chunk] not in {of_question[one] for one in group}:
            group.append(chunk)
            pool.remove(chunk)
    return group


def _records(path: str | Path, needed: Iterable[str]) -> list[dict[str, Any]]:
    place = Path(path)
    if not place.is_file():
        raise InputError(f"{path}: no such file")
    records = []
    for number, line in enumerate(place.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not JSON ({error.msg})") from error
        if not isinstance(record, dict) or (missing := [name for name in needed if name not in record]):
            lacks = missing[0] if isinstance(record, dict) else "an object"
            raise InputError(f"{path}:{number}: lacks {lacks!r}")
        records.append(record)
    return records


def made_up_cases(
    num_chunks: int = 24, num_questions: int = 120, *, seed: int = 0
) -> tuple[list[Case], dict[str, str]]:
    """Questions about made-up towns, for machines without published questions.

    Args:
        num_chunks: one town each.
        num_questions: each retrieves its town and four others, in an order of chance.
        seed: of everything drawn.

    >>> cases, texts = made_up_cases(6, 2)
    >>> len(texts), [len(case.chunks) for case in cases]
    (6, [5, 5])
    """
    draws = random.Random(seed)
    facts = {
        "river": ("Which river runs through {}?", ("Arve", "Brenta", "Charente", "Dordogne", "Elster", "Fulda")),
        "trade": ("What does {} live on?", ("glass", "salt", "ships", "wool", "clocks", "paper")),
        "feast": ("When does {} hold its feast?", ("in March", "in May", "in June", "in August", "in October")),
        "founder": ("Who founded {}?", ("a miller", "a bishop", "three fishermen", "a widow", "a deserter")),
    }
    towns = [
        f"{draws.choice('BDFGKLMNRST')}{draws.choice('aeiou')}{draws.choice('lmnr')}ta{n}" for n in range(num_chunks)
    ]
    known = {town: {name: draws.choice(choices) for name, (_, choices) in facts.items()} for town in towns}
    texts = {
        town: f"{town} is a town of {draws.randrange(2, 90)},000 people. {fact['founder'].capitalize()} founded it in "
        f"{draws.randrange(900, 1800)}, after a winter in which nobody could cross the hills. The river "
        f"{fact['river']} runs through it, under {draws.randrange(2, 30)} bridges. It lives on {fact['trade']}, which "
        f"is sold in {draws.choice(towns)} and {draws.choice(towns)}. Its feast is held {fact['feast']} and takes "
        f"{draws.randrange(2, 9)} days, and nobody works then but the bakers."
        for town, fact in known.items()
    }
    cases = []
    for _ in range(num_questions):
        name, town = draws.choice(list(facts)), draws.choice(towns)
        chunks = [town, *draws.sample([one for one in towns if one != town], 4)]
        draws.shuffle(chunks)
        cases.append(Case(facts[name][0].format(town), known[town][name], tuple(chunks)))
    return cases, texts
