"""The miner: exact parameters, order-free templates, lineage, bounds, state."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import any_lines

from nonet.common.errors import InputError
from nonet.logs import Miner, merge, restore
from nonet.logs.mining.as_parser import parse_contents


def summary(miner: Miner) -> list[tuple[str, str, int]]:
    return [(t.id, t.text, t.count) for t in miner.templates()]


def restored(table: pa.Table) -> list[bytes]:
    columns = (table[name].to_pylist() for name in ("template", "parameters", "spacing", "raw"))
    return [
        raw if raw is not None else restore(text, values, spacing).encode()
        for text, values, spacing, raw in zip(*columns, strict=True)
    ]


@given(any_lines)
@settings(max_examples=150, deadline=None)
def test_template_and_parameters_are_the_line(contents: list[bytes]) -> None:
    assert restored(Miner().add_lines(contents)) == contents


@given(any_lines)
@settings(max_examples=60, deadline=None)
def test_streaming_restores_every_line_and_counts_add_up(contents: list[bytes]) -> None:
    miner = Miner()
    for content in contents:
        mined = miner.add(content)
        line = restore(mined.template, [p.value for p in mined.parameters], mined.spacing)
        assert line.encode("utf-8", "surrogateescape") == content
    miner.check_integrity()
    assert sum(t.count for t in miner.templates()) == len(contents) == miner.num_lines
    assert summary(miner) == summary(_batch(contents))


def _batch(contents: list[bytes]) -> Miner:
    miner = Miner()
    miner.add_lines(contents)
    return miner


@given(any_lines, st.integers(2, 6), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_shards_in_any_order_give_the_same_templates(
    contents: list[bytes], num_shards: int, rng: random.Random
) -> None:
    shards = [_batch(contents[i::num_shards]) for i in range(num_shards)]
    rng.shuffle(shards)
    assert summary(merge(shards)) == summary(_batch(contents))
    left = merge([merge(shards[:1]), merge(shards[1:])])
    right = merge([merge(shards[:-1]), merge(shards[-1:])])
    assert summary(left) == summary(right)


def test_shards_of_real_lines_give_the_same_templates(mirror: Path) -> None:
    lines = (mirror / "logs/loghub_2k/Thunderbird/Thunderbird_2k.log").read_bytes().splitlines()
    rng = random.Random(5)
    whole = summary(_batch(lines))
    for num_shards in (2, 4, 8):
        rng.shuffle(lines)
        assert summary(merge(_batch(lines[i::num_shards]) for i in range(num_shards))) == whole


def test_ids_depend_on_the_text_alone() -> None:
    first, second = Miner(), Miner()
    second.add("something else entirely")
    assert first.add("port 80 open").template_id == second.add("port 443 open").template_id


def test_lineage_leads_from_old_ids_to_the_present() -> None:
    miner = Miner()
    old = {name: miner.add(f"service {name} started by root").template_id for name in ("alpha", "beta")}
    for i in range(60):
        name = "".join(random.Random(i).choices("abcdefghijklmnop", k=7))
        miner.add(f"service {name} started by root")
    miner.settle()
    now = miner.add("service alpha started by root")
    assert now.template == "service <*> started by root"
    assert {miner.lineage.resolve(i) for i in old.values()} == {(now.template_id,)}


def test_a_constant_that_varies_later_becomes_a_parameter() -> None:
    miner = Miner()
    for name in ("eth0", "eth0", "eth1", "eth0"):
        mined = miner.add(f"link {name} is up")
        assert restore(mined.template, [p.value for p in mined.parameters], mined.spacing) == f"link {name} is up"
    assert summary(miner)[0][1:] == ("link <*> is up", 4)


def test_colours_are_blanks() -> None:
    miner = Miner()
    lines = ["\x1b[31mERROR\x1b[0m disk \x1b[1;36m7\x1b[0m is full", "ERROR disk 8 is full"]
    table = miner.add_lines(lines)
    assert set(table["template"].to_pylist()) == {"ERROR disk <*> is full"}
    assert table["parameters"].to_pylist() == [["7"], ["8"]]
    assert restored(table) == [line.encode() for line in lines]


def test_match_does_not_learn() -> None:
    miner = Miner()
    for port in range(20):
        miner.add(f"connect to 10.0.0.{port} port {port}")
    before = miner.num_lines
    hit = miner.match("connect to 10.9.9.9 port 1")
    assert hit is not None
    assert [p.value for p in hit.parameters] == ["10.9.9.9", "1"]
    assert miner.match("a line of another kind") is None
    assert miner.num_lines == before


def test_memory_is_bounded_and_every_line_is_counted() -> None:
    rng = random.Random(3)
    miner = Miner(max_clusters=200)
    lines = [" ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(5)) for _ in range(3000)]
    table = miner.add_lines(lines)
    assert sum(t.count for t in miner.templates()) + miner.num_evicted_lines == 3000
    assert len(miner.templates()) <= 200
    assert restored(table) == [line.encode() for line in lines]


def test_a_noisy_source_cannot_push_out_a_quiet_one() -> None:
    rng = random.Random(4)
    miner = Miner(max_clusters=100, source_quota=0.5)
    miner.add("quiet service says hello", source="quiet")
    noise = [" ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(4)) for _ in range(2000)]
    miner.learn(miner.spans(*_joined(noise)), source="noisy")
    assert "quiet service says hello" in {t.text for t in miner.templates()}


def _joined(lines: list[str]):  # type: ignore[no-untyped-def]
    from nonet.logs.mining.miner import join_lines

    return join_lines(lines)


def test_arrow_arrays_and_slices_are_lines_too() -> None:
    lines = pa.chunked_array([["a 1", "b 2"], ["c é 3"]])
    assert restored(Miner().add_lines(lines)) == [b"a 1", b"b 2", "c é 3".encode()]
    assert restored(Miner().add_lines(pa.array(["x", "a 1", "b 2"]).slice(1))) == [b"a 1", b"b 2"]


def test_state_survives_and_goes_on(tmp_path: Path) -> None:
    miner = Miner(max_clusters=500, masks=[r"job-\w+"])
    for i in range(50):
        miner.add(f"job-{chr(97 + i % 7)}x took {i} ms on eth0", source="a" if i % 2 else "b")
    miner.settle()
    miner.save(tmp_path / "state")
    loaded = Miner.load(tmp_path / "state")
    loaded.check_integrity()
    assert summary(loaded) == summary(miner)
    assert list(loaded.lineage) == list(miner.lineage)
    assert loaded.masks == miner.masks
    line = "job-zz took 1 ms on eth1"
    assert loaded.add(line).template_id == miner.add(line).template_id


@pytest.mark.parametrize("damage", ["flip", "cut", "foreign", "newer", "empty"])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state"
    miner = Miner()
    miner.add("port 80")
    miner.save(path)
    data = path.read_bytes()
    broken = {
        "flip": data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
        "cut": data[: len(data) // 2],
        "foreign": b"\x80\x04\x95 pickle",
        "newer": data.replace(b"state 2 ", b"state 99 ", 1),
        "empty": b"",
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(InputError, match="state"):
        Miner.load(path)
    with pytest.raises(InputError, match="cannot read"):
        Miner.load(tmp_path / "missing")


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="max_clusters"):
        Miner(max_clusters=1)
    with pytest.raises(InputError, match="source_quota"):
        Miner(source_quota=0)
    with pytest.raises(InputError, match="at least one"):
        merge([])


def test_every_id_leads_to_the_id_that_the_line_has_in_the_end(tmp_path: Path) -> None:
    """Odd lines, among which the same template ends and comes back several times."""
    rng = random.Random(3)
    pieces = ["42", "1.2.3.4", "0x1f", "true", "foo", "Bar", "GET", "=", ":", "(", ")", ",", '"', "<*>", "\\", "é"]
    lines = ["".join(rng.choice(pieces) + " " * rng.randrange(3) for _ in range(rng.randrange(9))) for _ in range(2000)]
    miner, given = Miner(), []
    for number, line in enumerate(lines):
        template_id = miner.add(line).template_id
        given.append((template_id, miner.lineage.num_recorded))
        if number == 1000:
            miner.save(tmp_path / "state")
            miner = Miner.load(tmp_path / "state")
    miner.settle()
    reborn = {old for old, count in Counter(event.old_id for event in miner.lineage).items() if count > 1}
    assert reborn & {old for old, _ in given}
    for line, (old, given_at) in zip(lines, given, strict=True):
        now = miner.match(line)
        assert now is not None and now.template_id in miner.lineage.resolve(old, given_at)


def test_parse_contents_labels_every_line() -> None:
    parsed = parse_contents(["port 80", "port 81", "", "other text here"])
    assert [parsed.templates[i] for i in parsed.labels] == ["port <*>", "port <*>", "", "other text here"]
    assert len(parse_contents([]).labels) == 0


def test_parse_contents_labels_what_was_forgotten_and_learned_again() -> None:
    first = ["connection lost"]
    lines = first + [f"{'x' * (i % 97 + 1)} {'y' * (i // 97 + 1)} came" for i in range(400)] + first
    parsed = parse_contents(lines, max_clusters=32)
    assert parsed.labels[0] == parsed.labels[-1]
    assert parsed.templates[parsed.labels[-1]] == "connection lost"


def test_line_ends_inside_a_record_part_words() -> None:
    records = [
        f"request failed\njava.lang.{name}\n\tat com.acme.A.f(A.java:10)"
        for name in ("NullPointerException", "IllegalStateException")
    ]
    table = Miner().add_lines(records)
    assert len(set(table["template"].to_pylist())) == 2
    assert all("failed java.lang." in template for template in table["template"].to_pylist())
    assert restored(table) == [record.encode() for record in records]
