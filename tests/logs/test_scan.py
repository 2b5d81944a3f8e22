"""The byte scanner against the same rules written with regular expressions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_masks
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.logs.mining.shape import Kind
from nonet.logs.mining.shape_table import ShapeTable, Spans


def scan(content: bytes) -> tuple[bytes, list[tuple[Kind, int, int]]]:
    """Masked text and holes of one Content through the public table."""
    buffer = np.array(bytearray(content or b"\0"))
    spans = Spans.without_user_masks(buffer, np.zeros(1, np.int64), np.array([len(content)], np.int64))
    table = ShapeTable()
    table.learn(spans)
    seen = table.label(spans)
    assert seen.entries[0] == 0
    holes = [(Kind(k), int(s), int(e)) for k, s, e in zip(seen.kinds, seen.starts, seen.ends, strict=True)]
    return table.masked_text(0), holes


FRAGMENT_TEXT = """
10.0.0.1 /10.0.0.1:8080 10.0.0.0/8 1.2.3 fe80::1 ::1 1:2:3:4:5:6:7:8 aa:bb:cc:dd:ee:ff aa-bb-cc-dd-ee-ff
aa:bb:cc:dd:ee:f0:11 123e4567-e89b-12d3-a456-426614174000 http://a.b/c?d=e&f, https:// 2026-11-22
2026-11-22T12:30:01Z 2026/1/2 11/22/2026 1/2/26 12:30 12:30:01,250 12:30:01.5 0x1f 0xzz deadbeef1 00a0ff 42 -7
+3 3.14 50% 1.5% 15ms 3s 126MB 1.5GB/s 4K 4k /var/log/x ~/x C:\\x \\\\srv a/b/c a/b eth0 blk_-123 blk_123
java.io.IOException java.lang.FooError a.b.CException9 x.Error a.b:80 host:8080 user@host.example.org user@h
root@x:22 id:10.0.0.1 addr:/x/y path:/var/x jar:file:/D:/x ab:c/d/e x:/y action:com.x.Y
id:123e4567-e89b-12d3-a456-426614174000 at:12:30 ab://x java.io.tmpdir= net.ipv4.ip_forward a.b.c Mon Monday
May maybe January Mon. <*> <*>x ext3 x86_64 ext3_file_write a12bcd 0x1f-0xA node-17 PendingReds:12 #12 (uid=0)
<1 >2.5 sec seconds_x a=1 b=c: [x] 'q' "r" ... : .: foo. bar: 12. 12: / // : - + % 1-2 1:2 1:2:3 é ü1 \x00
\x01\x02 \x7f <
> * ,123 1e5 v1.2 1..2 a..b
"""
FRAGMENTS = FRAGMENT_TEXT.split()
GLUE = [
    " = ",
    "=",
    " ",
    "  ",
    "",
    ",",
    ":",
    ".",
    "=",
    "-",
    "/",
    "\t",
    "\x00",
    "(",
    ")",
    "<",
    "_",
    "@",
    "\x1b[1;31m",
    "\x1b[0m",
    "\x1b[",
]
texts = st.lists(st.tuples(st.sampled_from(FRAGMENTS), st.sampled_from(GLUE)), max_size=8).map(
    lambda parts: "".join(a + b for a, b in parts).encode()
)


@settings(max_examples=600, deadline=None)
@given(st.one_of(texts, st.binary(max_size=40), st.text("0123456789abf:.-/T+Z,@_ ", max_size=24).map(str.encode)))
def test_scanner_equals_its_regular_expressions(content: bytes) -> None:
    assert scan(content) == reference_masks.scan(content)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_masked_text_and_spans_restore_the_content(content: bytes) -> None:
    masked, holes = scan(content)
    values = iter(content[start:end] for _, start, end in holes)
    assert b"".join(next(values) if byte < 0x20 else bytes([byte]) for byte in masked) == content


@pytest.mark.parametrize(
    "content",
    [b"x" * 5000, b"a b " * 30_000, b"1 " * 5000, b"/" + b"x" * 5000, b"12" * 1500, b" " * 3000, b"a." * 3000],
)
def test_long_contents_end_in_one_rest_hole(content: bytes) -> None:
    assert scan(content) == reference_masks.scan(content)
    assert len(scan(content)[0]) <= 2049


def test_scanner_equals_its_regular_expressions_on_real_lines(mirror: Path) -> None:
    for log in sorted(mirror.glob("logs/loghub_2k/*/*_2k.log")):
        for line in log.read_bytes().splitlines()[::7]:
            assert scan(line) == reference_masks.scan(line), line
