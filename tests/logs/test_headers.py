from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.reading._line_kernels import split_lines
from nonet.logs.reading.header_format import HeaderFormat
from nonet.logs.reading.headers import HEADER_FORMATS, detect, detect_header

PARAMS = Path("logs/params.json")


def spans(lines: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A buffer that holds the lines one after another, and their spans."""
    buffer = np.frombuffer(bytearray(b"\n".join(lines)), np.uint8)
    ends = np.cumsum([len(line) + 1 for line in lines], dtype=np.int64) - 1
    return buffer, ends - np.array([len(line) for line in lines], np.int64), ends


def oracle_pattern(header: str) -> re.Pattern[bytes]:
    """Section A.2 of the specification, word for word."""
    parts = re.split(r"(<[^<>]+>)", header)
    text = "".join(re.sub(" +", r"\\s+", part) if i % 2 == 0 else f"(?P{part}.*?)" for i, part in enumerate(parts))
    return re.compile(b"^" + text.encode() + b"$")


def oracle_fields(header: HeaderFormat, pattern: re.Pattern[bytes], line: bytes) -> list[bytes | None] | None:
    found = pattern.match(line.strip())
    return None if found is None else [found.group(name) for name in header.fields]


def our_fields(header: HeaderFormat, lines: list[bytes]) -> list[list[bytes | None] | None]:
    buffer, starts, ends = spans(lines)
    data = buffer.tobytes()
    found = header.match(buffer, starts, ends)
    rows = []
    for row, matched in enumerate(found.matched.tolist()):
        cells = zip(found.starts[row].tolist(), found.ends[row].tolist(), strict=True)
        rows.append([None if a < 0 else data[a:b] for a, b in cells] if matched else None)
    return rows


SEPARATORS = [" ", "  ", ": ", ":", r"\[", r"\] ", r"\|", ", ", " - ", r"\.", "x", "ab", "-", r"\s+", "\t", ""]
GROUPS = [r"(\[<{}>\])?", r"( <{}>)?", r"(-)?", r"(:<{}> )?", r"(?:a<{}>)?", r"(<{}>(b<{}>)? )?"]


@st.composite
def header_texts(draw: st.DrawFn) -> str:
    names = iter(f"F{i}" for i in range(40))

    def piece() -> str:
        group = draw(st.sampled_from(GROUPS)) if draw(st.integers(0, 3)) == 0 else ""
        return draw(st.sampled_from(SEPARATORS)) + group.format(*(next(names) for _ in range(group.count("{}"))))

    text = piece() if draw(st.booleans()) else ""
    for _ in range(draw(st.integers(0, 5))):
        text += f"<{next(names)}>" + piece()
    text += "<Content>"
    return text + (piece() if draw(st.integers(0, 4)) == 0 else "")


LINE = st.lists(
    st.sampled_from(
        [
            b" ",
            b"  ",
            b"\t",
            b":",
            b"[",
            b"]",
            b"-",
            b"a",
            b"b",
            b"x",
            b".",
            b"|",
            b",",
            b"\xff",
            b"\0",
            b"\r",
            b"\x0b",
            b"1",
        ]
    ),
    max_size=24,
).map(b"".join)


@settings(max_examples=250, deadline=None)
@given(header_texts(), st.lists(LINE, min_size=1, max_size=12))
def test_program_agrees_with_re(text: str, lines: list[bytes]) -> None:
    header = HeaderFormat.parse(text)
    assert header.program is not None
    pattern = oracle_pattern(text)
    assert our_fields(header, lines) == [oracle_fields(header, pattern, line) for line in lines]


@given(LINE)
@settings(max_examples=200, deadline=None)
def test_stale_ranges_of_other_lines_do_not_matter(line: bytes) -> None:
    header = HeaderFormat.parse("<A> <B>( <C>)?: <Content>")
    repeated = our_fields(header, [line] * 3)
    assert repeated[0] == repeated[1] == repeated[2]
    buffer = np.frombuffer(bytearray(line * 2), np.uint8)
    touching = header.match(buffer, np.array([0, len(line)]), np.array([len(line), 2 * len(line)]))
    assert touching.matched.tolist() == [repeated[0] is not None] * 2


@pytest.mark.parametrize("size", [3_000, 12_000])
def test_time_is_linear_in_a_line_that_almost_matches(size: int) -> None:
    header = HeaderFormat.parse("<A> <B> <C> <D> <E> <F>(\\[<G>\\])?: <Content>")
    lines = [b"a " * size, b"x" + b" " * size + b"y", b"a" * size, b"[b] " * size + b":" * size]
    assert our_fields(header, lines) == [None] * 4  # a backtracking engine would need size**5 steps


def test_real_formats_on_real_lines(mirror: Path) -> None:
    formats: dict[str, str] = json.loads((mirror / PARAMS).read_text())["log_format"]
    assert len(formats) == 16
    for system, text in formats.items():
        header = HeaderFormat.parse(text)
        assert header.program is not None
        data = (mirror / f"logs/loghub_2k/{system}/{system}_2k.log").read_bytes()
        full = mirror / f"logs/loghub2_full/{system}/{system}_full.log.gz"
        if full.exists():
            data += b"\n" + gzip.decompress(full.read_bytes())
        lines = [line.removesuffix(b"\r") for line in data.split(b"\n")]
        pattern = oracle_pattern(text)
        assert our_fields(header, lines) == [oracle_fields(header, pattern, line) for line in lines], system


GENERAL = [
    r"<A>\d+ <Content>",
    r"<A>[:;]\s*<Content>",
    r"<A>(?:x|y)<Content>",
    r"<A>:+? <Content>",
]


@given(st.sampled_from(GENERAL), st.lists(LINE, min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_general_literals_take_the_regex_path(text: str, lines: list[bytes]) -> None:
    header = HeaderFormat.parse(text)
    assert header.program is None
    assert our_fields(header, lines) == [oracle_fields(header, oracle_pattern(text), line) for line in lines]


def test_escapes_are_literal() -> None:
    header = HeaderFormat.parse(r"\<<A>\>\t\{<B>\}{x} <Content>")
    assert header.program is not None
    line = b"<1>\t{2}{x} text"
    assert header.split(line) == {"A": b"1", "B": b"2", "Content": b"text"}
    assert our_fields(header, [line]) == [[b"1", b"2", b"text"]]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"12 a.b-c: rest", [b"12", b"a.b-c", b"rest"]),
        (b"1x a: rest", None),
        (b"12 a b: rest", None),
        (b" : rest", None),
    ],
)
def test_field_classes(line: bytes, expected: list[bytes] | None) -> None:
    header = HeaderFormat.parse("<Pid:int> <Component:token>: <Content>")
    assert our_fields(header, [line]) == [expected]
    assert our_fields(header, [line]) == [oracle_fields(header, header.regex, line)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<Date> <Time>", "no <Content>"),
        ("<A> <A> <Content>", "stands twice"),
        ("<a b> <Content>", "not a name"),
        ("<A:nope> <Content>", "unknown class"),
        ("<A>( <Content>", "not a regular expression"),
    ],
)
def test_bad_formats_are_one_line_errors(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        HeaderFormat.parse(text)
    assert "\n" not in str(raised.value)


def read_samples() -> dict[str, tuple[list[bytes], bytes]]:
    """Lines of every registered format, written after the programs' documentation, and the Content of the first."""
    text = (Path(__file__).parent / "header_samples.txt").read_bytes()
    samples = {}
    for section in text.split(b"== ")[1:]:
        name, *lines, content = section.splitlines()
        samples[name.decode()] = (lines, content.removeprefix(b"=> "))
    return samples


def test_every_registered_format_has_a_sample() -> None:
    assert set(read_samples()) == {header.name for header in HEADER_FORMATS}
    assert all(header.program is not None for header in HEADER_FORMATS)


@pytest.mark.parametrize("name", list(read_samples()))
def test_detects_registered_formats(name: str) -> None:
    lines, content = read_samples()[name]
    header = detect(lines)
    assert header is not None
    assert header.name == name
    fields = header.split(lines[0])
    assert fields is not None
    assert fields["Content"] == content


def test_detection_survives_stack_traces_and_noise() -> None:
    lines = (
        read_samples()["hadoop"][0] * 6
        + [b"java.io.IOException: x", b"\tat a.b(C.java:1)"] * 10
        + [b"plain noise here"] * 2
    )
    header = detect(lines)
    assert header is not None
    assert header.name == "hadoop"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"   "],
        [b"free text without any header"] * 5,
        [b"\x00\xff\xfe binary"] * 3,
        [b"a: b", b"c d: e", b"x"],
    ],
)
def test_no_header_is_found_where_there_is_none(lines: list[bytes]) -> None:
    assert detect(lines) is None


@pytest.mark.parametrize(
    "system",
    [
        "Android",
        "Apache",
        "BGL",
        "HDFS",
        "HPC",
        "Hadoop",
        "HealthApp",
        "Linux",
        "Mac",
        "OpenSSH",
        "OpenStack",
        "Proxifier",
        "Spark",
        "Thunderbird",
        "Windows",
        "Zookeeper",
    ],
)
def test_detected_content_is_the_content_of_the_published_format(mirror: Path, system: str) -> None:
    published = HeaderFormat.parse(json.loads((mirror / PARAMS).read_text())["log_format"][system])
    data = (mirror / f"logs/loghub_2k/{system}/{system}_2k.log").read_bytes()
    buffer = np.frombuffer(bytearray(data), np.uint8)
    starts, ends = split_lines(buffer)
    found = detect_header([data[a:b] for a, b in zip(starts[:500], ends[:500], strict=True)])
    assert found is not None
    assert found.time_fields is not None

    def contents(header: HeaderFormat) -> list[tuple[int, int]]:
        spans = header.match(buffer, starts, ends)
        column = header.content_index
        return list(zip(spans.starts[:, column].tolist(), spans.ends[:, column].tolist(), strict=True))

    assert contents(found.header) == contents(published)


def test_a_bar_outside_groups_is_refused_and_a_line_without_content_is_unmatched() -> None:
    with pytest.raises(InputError, match="write"):
        HeaderFormat.parse("<Date>|<Content>")
    assert HeaderFormat.parse(r"<Date>\|<Content>").split(b"monday|all well") == {
        "Date": b"monday",
        "Content": b"all well",
    }
    header = HeaderFormat.parse("<Date>(: <Content>)?")
    buffer = np.frombuffer(bytearray(b"monday: all well\ntuesday\n"), np.uint8)
    starts, ends = np.array([0, 17]), np.array([16, 24])
    assert header.match(buffer, starts, ends).matched.tolist() == [True, False]
