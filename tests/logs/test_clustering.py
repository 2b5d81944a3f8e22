"""The canonical clustering: its contract on random shapes, small examples, and its accuracy on labelled logs."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import random
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.logs.mining.clustering import Clustering, settle
from nonet.logs.mining.shape import SOFT, Kind, Shape

_spec = importlib.util.spec_from_file_location("reference_masks", Path(__file__).with_name("reference_masks.py"))
assert _spec and _spec.loader
reference_masks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference_masks)


def shapes_of(lines: list[bytes]) -> tuple[list[Shape], list[int]]:
    """Shapes of the lines by the reference scanner, and the shape of every line."""
    seen: dict[bytes, tuple[int, list[bytes | None], int]] = {}
    of_line: list[int] = []
    cache: dict[bytes, int] = {}
    for line in lines:
        if line not in cache:
            masked, holes = reference_masks.scan(line)
            values = [line[start:end] if kind in SOFT else None for kind, start, end in holes]
            index, constants, _ = seen.get(masked, (len(seen), values, 0))
            joined = [a if a == b else None for a, b in zip(constants, values, strict=True)]
            seen[masked] = (index, joined, seen.get(masked, (0, [], 0))[2])
            cache[line] = index
        of_line.append(cache[line])
    counts = Counter(of_line)
    return [Shape(masked, tuple(constants), counts[index]) for masked, (index, constants, _) in seen.items()], of_line


def templates_of(*lines: str) -> list[str]:
    shapes, of_line = shapes_of([line.encode() for line in lines])
    found = settle(shapes)
    return [found.templates[found.labels[index]] for index in of_line]


def rendered(shape: Shape, regions: list[tuple[int, int]]) -> str:
    """The template that the regions of a shape stand for, written from the definition."""
    constants = iter(shape.constants)
    values = {i: next(constants) for i, code in enumerate(shape.masked) if code < 0x20}

    def literal(i: int) -> bytes:
        code = shape.masked[i]
        if code == Kind.SPACE:
            return b" "
        if code >= 0x20:
            return bytes([code])
        value = values[i]
        assert value is not None, "a hard or varied hole outside every region"
        return value

    text = b""
    position = 0
    for start, end in regions:
        text += b"".join(literal(i) for i in range(position, start)) + b"<*>"
        position = end
    text += b"".join(literal(i) for i in range(position, len(shape.masked)))
    return text.strip(b" ").decode("utf-8", "surrogateescape")


def check(shapes: list[Shape], found: Clustering) -> None:
    """The contract of `Clustering`."""
    assert len(set(found.templates)) == len(found.templates)
    assert set(found.labels.tolist()) == set(range(len(found.templates)))
    for shape, label, regions in zip(shapes, found.labels.tolist(), found.regions, strict=True):
        bounds = [bound for region in regions for bound in region]
        assert bounds == sorted(bounds)
        assert all(0 <= start <= end <= len(shape.masked) for start, end in regions)
        assert found.templates[label] == rendered(shape, regions)
        assert found.templates[label].count("<*>") == len(regions)
        assert "  " not in found.templates[label]


WORDS = r"""
    open close user root (uid=0) by LOGIN(uid=0) from 10.0.0.1 10.0.0.1:80 wpad:80 host.example.org:80 42 -7 eth0
    EXT3 hda2 <ok> <0x1f> fn+0x1f/0x20 [a, b] ( ) () [] '' 'x' "y z" `p' key= key=1 a=1,2,3 a== state RUNNING DONE
    ERR_NO_DATA null true KB 1.5 MB 12ms blk_-1 blk_2 node-7 2026-11-22 12:30:01 Sat Jun 11 2005 EDT , : . ; - -- ..
    ... touch.1 x..1 #3# # /var/log/x C:\y http://a/b HTTP/1.1 <*> <*>x (IPv6) 1st 512-byte R36-M1-NE vm:
    a="b err="no msg=" \\" a=<x> a=<x: a=[ a=[] a=[b] ann@acme.io {a=b {b= },
    `x` kube/1 [kube/1] "GET /" pool-1-abcd a.service: \\"x\\"
    channel.jni:jni ( vm, ) failure failures yes no aa:bb:cc:dd:ee:ff:00:11:22
"""
ODD_WORDS = ["", "\t", "\x00", "\x01", "\xff\xfe", "caf\xe9"]
lines_of_words = st.lists(st.sampled_from([*WORDS.split(), *ODD_WORDS]), max_size=9).map(
    lambda words: " ".join(words).encode("latin-1")
)
lines = st.lists(st.one_of(lines_of_words, st.binary(max_size=20)), min_size=1, max_size=25)


@settings(max_examples=300, deadline=None)
@given(lines, st.randoms(use_true_random=False))
def test_contract_and_order(texts: list[bytes], rng: random.Random) -> None:
    shapes, _ = shapes_of(texts)
    found = settle(shapes)
    check(shapes, found)
    order = list(range(len(shapes)))
    rng.shuffle(order)
    again = settle([shapes[i] for i in order])
    assert again.templates == found.templates
    assert [again.labels[k] for k in range(len(order))] == [found.labels[i] for i in order]
    assert [again.regions[k] for k in range(len(order))] == [found.regions[i] for i in order]


@settings(max_examples=100, deadline=None)
@given(lines, st.integers(1, 1000))
def test_counts_and_repetition_change_nothing(texts: list[bytes], count: int) -> None:
    shapes, _ = shapes_of(texts)
    found = settle(shapes)
    again = settle([*shapes, *(Shape(s.masked, s.constants, count) for s in shapes)])
    assert again.templates == found.templates
    assert again.labels.tolist() == found.labels.tolist() * 2


def test_nothing() -> None:
    found = settle([])
    assert found.templates == [] and found.labels.shape == (0,) and found.regions == []


def test_empty_and_blank_contents() -> None:
    assert templates_of("", "  ", "\t") == ["", "", ""]


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ("job 12 took 15ms", "job <*> took <*>"),
        ("[<0212ebf3>] __alloc_pages+0x274/0x281", "[<*>] __alloc_pages+<*>"),
        ("touch all.......1", "touch all.......<*>"),
        ("read /proc/kmsg, page 512-byte", "read <*>, page <*>-byte"),
        ("Initializing CPU#0", "Initializing CPU#<*>"),
        ("EXT3-fs: mounted", "EXT3-fs: mounted"),
        ("deleting block blk_-160 from node-17.", "deleting block <*> from <*>."),
        ("state=OPEN user= rhost=a.b.c", "state=<*> user=<*> rhost=<*>"),
        ("at Sat Jun 11 03:28:22 EDT 2005 and 2005-11-14 12:30:01", "at <*> and <*>"),
        ("2017-07-03 12:00:01 agent started", "<*> <*> agent started"),
        ("speeds ( 1 2 3 4 5 )", "speeds ( <*> )"),
        ("child init 1 2", "child init <*> <*>"),
        ("job 'x' of <*> is done", "job <*> of <*> is done"),
        ("mail for judy@acme.io is sent", "mail for <*> is sent"),
        ('probe="ready" err="no route to host" pods=["a/b"]', "probe=<*> err=<*> pods=<*>"),
        ('event="x \\"y\\" z" to=<ann> left=[] at=[]', 'event="x \\"y\\" z" to=<*> left=<*> at=<*>'),
        ('level=info msg="cache miss" key="a b"', 'level=<*> msg="cache miss" key=<*>'),
        ("limit=<memory:7, vCores:8> node=[a=1]", "limit=<memory:<*>, vCores:<*> node=[a=<*>]"),
        ("a \t b  ", "a b"),
    ],
)
def test_one_line(line: str, template: str) -> None:
    assert templates_of(line) == [template]


def test_names_vary_after_nouns_and_prepositions() -> None:
    assert set(templates_of("closed for user ann", "closed for user bob")) == {"closed for user <*>"}
    assert set(templates_of(*(f"got reply from {name} ok" for name in ("here", "there", "home")))) == {
        "got reply from <*> ok"
    }


def test_verbs_do_not_vary() -> None:
    lines = [f"instance 12 {verb} normally" for verb in ("started", "stopped", "paused", "resumed")]
    assert templates_of(*lines) == [line.replace("12", "<*>") for line in lines]


def test_first_words_need_a_large_family() -> None:
    names = ["syslogd", "klogd", "irqbalance", "portmap", "statd", "idmapd", "hcid", "sdpd"]
    assert set(templates_of(*(f"{name} startup succeeded" for name in names))) == {"<*> startup succeeded"}
    assert len(set(templates_of(*(f"{name} startup succeeded" for name in names[:4])))) == 4


def test_keys_never_vary() -> None:
    names = ["path", "vendor", "home", "version", "dir", "arch", "tmp", "user", "host", "group", "locale", "zone", "os"]
    assert len(set(templates_of(*(f"environment: java.{name}=x" for name in names)))) == len(names)


def test_a_word_beside_a_number_is_a_value() -> None:
    assert set(templates_of("invalid user 0101 from 1.2.3.4", "invalid user admin from 1.2.3.4")) == {
        "invalid user <*> from <*>"
    }


def test_missing_values_line_up() -> None:
    assert set(templates_of("opened by (uid=0)", "opened by LOGIN(uid=0)")) == {"opened by <*>(uid=<*>)"}
    assert set(templates_of("connection from 1.2.3.4 ()", "connection from 1.2.3.4 (a.b.c)")) == {
        "connection from <*> (<*>)"
    }


def test_units_are_part_of_the_number_when_they_vary() -> None:
    assert set(templates_of("size 5.7 KB now", "size 5.7 MB now")) == {"size <*> now"}
    assert set(templates_of("size 5.7 KB now", "size 7 KB now")) == {"size <*> KB now"}


def test_lists_of_any_length_are_one_variable() -> None:
    assert set(templates_of("ask 1.2.3.4 to delete 5", "ask 1.2.3.4 to delete 5 6 7", "ask 1.2.3.4 to delete 5 6")) == {
        "ask <*> to delete <*>"
    }


@pytest.mark.parametrize(
    "lines",
    [
        ("session opened for user root", "session closed for user root"),
        ("cache service started", "cache service stopped"),
        ("node joined the cluster", "node left the cluster"),
        ("link state is up on port 3", "link state was down on port 3"),
        tuple(f"status {how} libx 7" for how in ("installed", "half-installed", "unpacked", "half-configured")),
        tuple(f"Camera::{name} entered" for name in ("start", "setState", "wakeUp", "sleepNow")),
    ],
)
def test_verbs_and_methods_are_no_values(lines: tuple[str, ...]) -> None:
    assert len(set(templates_of(*lines))) == len(lines)


@pytest.mark.parametrize("noun", ["topic", "user", "pod", "index", "bucket"])
def test_two_names_after_a_noun_are_values(noun: str) -> None:
    lines = [f"closed {noun} {name} after 3 retries" for name in ("orders", "mails")]
    assert set(templates_of(*lines)) == {f"closed {noun} <*> after <*> retries"}


def test_reasons_at_the_end_are_values_when_there_are_four() -> None:
    lines = [f"client 7 left: {why}" for why in ("timeout", "quit", "kicked", "banned")]
    assert set(templates_of(*lines)) == {"client <*> left: <*>"}
    assert len(set(templates_of(*lines[:3]))) == 3


def test_four_names_before_a_verb_are_values() -> None:
    lines = [f"Map {name} loaded in 7 ms" for name in ("Ashfall", "Duskwood", "Frosthold", "Sunreach")]
    assert set(templates_of(*lines)) == {"Map <*> loaded in <*> ms"}
    assert len(set(templates_of(*(line.replace("loaded", "ready") for line in lines)))) == 4


def test_quoted_text_without_blanks_is_a_value() -> None:
    images = ["nginx:1.25", "redis:7-alpine", "busybox"]
    assert set(templates_of(*(f'pulled image "{image}" in 7 s' for image in images))) == {"pulled image <*> in <*> s"}


def test_quoted_words_are_a_value_except_after_a_colon() -> None:
    assert templates_of("class of suite 'Microsoft Word Suite' is bad") == ["class of suite <*> is bad"]
    assert templates_of('add: "Operation not supported" - 931') == ['add: "Operation not supported" - <*>']


def test_values_of_fields_in_braces_have_blanks() -> None:
    line = "failed: {Reason=The host is gone, Code=7, Inner={Text=no route}} at x=a b, c"
    assert templates_of(line) == ["failed: {Reason=<*>, Code=<*>, Inner={Text=<*>}} at x=<*> b, c"]


def test_prefixes_before_a_slash_are_part_of_the_value() -> None:
    spaces = ["kube-system", "staging", "default"]
    assert set(templates_of(*(f"assigned {space}/pod-1 to node-7" for space in spaces))) == {"assigned <*> to <*>"}
    assert set(templates_of("update mapping of [logs7/ab12] now", "update mapping of [products/ab12] now")) == {
        "update mapping of [<*>] now"
    }


def test_names_after_a_noun_and_a_colon_are_values() -> None:
    assert set(templates_of(*(f"unsupported file type: {kind}" for kind in ("png", "csv", "pdf")))) == {
        "unsupported file type: <*>"
    }
    assert len(set(templates_of(*(f"cache service: {what}" for what in ("started", "stopped", "lost"))))) == 3


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ('open failed, request: "GET /a/b HTTP/1.1", host: 7', 'open failed, request: "<*>", host: <*>'),
        ("bad version 'GET / HTTP/1.0' from 1.2.3.4", "bad version <*> from <*>"),
        ('1.2.3.4 "GET /a/b HTTP/1.1" status: 200', '<*> "GET <*> <*>" status: <*>'),
        ("cannot find `value` here", "cannot find <*> here"),
        ('retry err="node \\"node-1\\" is gone" n=7', "retry err=<*> n=<*>"),
    ],
)
def test_quotations(line: str, template: str) -> None:
    assert templates_of(line) == [template]


def test_prefixes_before_a_slash_vary_at_the_start() -> None:
    names = ["stats", "http-in", "api_fe"]
    assert set(templates_of(*(f"1.2.3.4 {name}/1: TLS handshake failure" for name in names))) == {
        "<*> <*>: TLS handshake failure"
    }


def test_first_words_with_one_ending_are_values() -> None:
    assert set(templates_of(*(f"{name}.service: start failed" for name in ("sshd", "cron", "ntp")))) == {
        "<*>: start failed"
    }
    assert len(set(templates_of(*(f"{name}: start failed" for name in ("a.Reader", "b.Writer", "c.Cache"))))) == 3


def test_four_first_words_in_capitals_are_values() -> None:
    kinds = ["READ", "MUTATION", "HINT", "READ_REPAIR"]
    lines = [f"{kind} messages were dropped in last 7 ms" for kind in kinds]
    assert set(templates_of(*lines)) == {"<*> messages were dropped in last <*> ms"}
    assert len(set(templates_of(*lines[:3]))) == 3


def test_values_of_one_statement_are_values_in_another() -> None:
    lines = [f"failed password for {name} on port 7" for name in ("root", "admin", "test")]
    assert templates_of(*lines, "too many failures for root [preauth]")[-1] == "too many failures for <*> [preauth]"
    assert templates_of(*lines, "no word for this")[-1] == "no word for this"


def test_three_words_in_brackets_are_values() -> None:
    lines = [f"key ({name}) exists" for name in ("mail", "name", "owner")]
    assert set(templates_of(*lines)) == {"key (<*>) exists"}
    assert len(set(templates_of(*lines[:2]))) == 2


def test_words_that_many_names_follow_are_nouns() -> None:
    names = ["ash", "birch", "cedar", "elm", "fir", "oak"]
    lines = [f"Sensor {name} reports low battery" for name in names]
    others = [f"Sensor {name} is gone for 7 s" for name in ("lime", "yew")]
    assert templates_of(*lines, *others)[-2:] == ["Sensor <*> is gone for <*> s"] * 2
    assert templates_of(*others) == others_with_number(others)


def others_with_number(lines: list[str]) -> list[str]:
    return [line.replace("7", "<*>") for line in lines]


def test_names_of_several_parts_may_end_in_letters() -> None:
    assert templates_of("ran on gke-pool-1-abcd in 512-byte blocks") == ["ran on <*> in <*>-byte blocks"]


def test_dotted_names_before_a_colon_are_keys() -> None:
    assert templates_of("yarn.client.max-proxies : 7", "mapreduce.task.io.sort.mb: 100") == [
        "yarn.client.max-proxies : <*>",
        "mapreduce.task.io.sort.mb: <*>",
    ]
    assert set(templates_of("mail.acme.io: lost", "db.acme.io: lost")) == {"<*>: lost"}


def test_repeated_groups_are_one_variable() -> None:
    lines = [" ".join(["nodesets", *["node-1 7 <ok>"] * times]) for times in (1, 2, 3, 5)]
    assert len(set(templates_of(*lines[1:]))) == 1


def test_several_open_columns_vary_together() -> None:
    rng = random.Random(0)
    name = lambda: "".join(rng.choices("abcdefgh", k=8))  # noqa: E731
    assert set(templates_of(*(f"user {name()} logged in from {name()}" for _ in range(50)))) == {
        "user <*> logged in from <*>"
    }


def test_compound_values_are_whole_words() -> None:
    values = [("vm", ""), ("channel.jni", "jni"), ("worker.jni", "onStartup"), ("worker.jni", "onShutdown")]
    lines = [f"env.create(): Factory error creating {a}:{b} ( {a}, {b})" for a, b in values]
    assert set(templates_of(*lines)) == {"env.create(): Factory error creating <*> ( <*>, <*>)"}


def test_lines_of_random_words_settle_as_well() -> None:
    rng = random.Random(0)
    shapes = [
        Shape(
            b" ".join(rng.randbytes(6).hex().encode().translate(None, b"0123456789") + b"q" for _ in range(12)), (), 1
        )
        for _ in range(2_000)
    ]
    check(shapes, settle(shapes))


def test_states_after_a_noun_are_statements_however_many() -> None:
    states = ["unpacked", "installed", "half-installed", "half-configured", "triggers-pending", "not-installed"]
    packages = [("libc6:amd64", "2.36-9"), ("adduser:all", "3.134"), ("passwd:amd64", "1:4.13")]
    lines = [f"status {state} {name} {version}" for state in states for name, version in packages]
    assert {text.split()[1] for text in templates_of(*lines)} == set(states)


# --- accuracy on labelled logs


def accuracy(predicted: list[str], truth: list[str]) -> tuple[float, float]:
    """FGA and FTA by their definitions."""
    lines_of: dict[str, dict[str, set[int]]] = {"p": defaultdict(set), "g": defaultdict(set)}
    for i, (p, g) in enumerate(zip(predicted, truth, strict=True)):
        lines_of["p"][p].add(i)
        lines_of["g"][g].add(i)
    groups = {frozenset(members) for members in lines_of["p"].values()}
    grouped = sum(frozenset(members) in groups for members in lines_of["g"].values())
    identified = sum({truth[i] for i in members} == {text} for text, members in lines_of["p"].items())
    total = len(lines_of["p"]) + len(lines_of["g"])
    return 2 * grouped / total, 2 * identified / total


def header_pattern(log_format: str) -> re.Pattern[str]:
    """Header format of the benchmark as a regular expression."""
    pieces = re.split(r"<([^<>]+)>", log_format)
    return re.compile("".join(f"(?P<{p}>.*?)" if i % 2 else re.sub(" +", r"\\s+", p) for i, p in enumerate(pieces)))


def opened(path: Path) -> TextIO:
    """A text file, gzipped or not; bytes are read one to one."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="latin-1", newline="\n")
    return path.open(encoding="latin-1", newline="\n")


def measured(folder: Path, system: str, log: str, labels: str) -> tuple[float, float]:
    pattern = header_pattern(json.loads((folder / "params.json").read_text())["log_format"][system])
    with opened(folder / log) as log_file, opened(folder / labels) as label_file:
        matches = (pattern.fullmatch(line.strip()) for line in log_file)
        contents = [match.group("Content").encode("latin-1") for match in matches if match]
        truth = [row["EventTemplate"] for row in csv.DictReader(label_file)]
    shapes, of_line = shapes_of(contents)
    found = settle(shapes)
    check(shapes, found)
    return accuracy([found.templates[found.labels[i]] for i in of_line], truth)


@pytest.mark.parametrize(("system", "fga", "fta"), [("Linux", 0.94, 0.78), ("Proxifier", 0.99, 0.87)])
def test_accuracy_on_complete_logs(mirror: Path, system: str, fga: float, fta: float) -> None:
    path = f"loghub2_full/{system}/{system}_full.log"
    measured_fga, measured_fta = measured(mirror / "logs", system, f"{path}.gz", f"{path}_structured.csv.gz")
    assert measured_fga >= fga and measured_fta >= fta


def test_accuracy_on_the_samples(mirror: Path) -> None:
    systems = sorted(path.name for path in (mirror / "logs" / "loghub_2k").iterdir() if path.is_dir())
    systems = [system for system in systems if system not in ("Android", "Windows")]
    paths = {system: f"loghub_2k/{system}/{system}_2k.log" for system in systems}
    found = [
        measured(mirror / "logs", system, path, f"{path}_structured_corrected.csv") for system, path in paths.items()
    ]
    assert len(found) == 14
    assert sum(fga for fga, _ in found) / len(found) >= 0.89
