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
from nonet.logs._line_kernels import split_lines
from nonet.logs.header_format import HeaderFormat

PARAMS = Path("logs/params.json")


def spans(lines: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A buffer that holds the lines one after another, and their spans."""
    buffer = np.frombuffer(b"\n".join(lines), np.uint8)
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


LINE = st.lists(st.sampled_from([b" ", b"  ", b"\t", b":", b"[", b"]", b"-", b"a", b"b", b"x", b".", b"|", b",", b"\xff", b"\0", b"\r"]), max_size=24).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(header_texts(), st.lists(LINE, min_size=1, max_size=12))
def test_program_agrees_with_re(text: str, lines: list[bytes]) -> None:
    header = HeaderFormat.parse(text)
    assert header.program is not None
    pattern = oracle_pattern(text)
    assert our_fields(header, lines) == [oracle_fields(header, pattern, line) for line in lines]
