from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.common.errors import InputError
from nonet.logs.reading import _json_kernels as kernels
from nonet.logs.reading.envelopes import choose_paths, detect_envelope, pack_keys
from nonet.logs.reading.lines import joined
from nonet.logs.reading.records import RecordReader, read_records

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(["message", "a", "stream", "x", "", "é"]), VALUES, max_size=5)
KEYS = ["message", "a", "stream"]


def scan(lines: list[bytes]) -> list[dict[str, tuple[int, bytes]] | None]:
    """Per line the kind and raw text of the known keys; None for what is no object."""
    buffer, starts, ends = joined(lines)
    spans, valid = kernels.find_members(buffer, starts, ends, *pack_keys(KEYS))
    data = buffer.tobytes()
    rows = []
    for row, good in zip(spans.tolist(), valid.tolist(), strict=True):
        found = {key: (kind, data[a:b]) for key, (a, b, kind) in zip(KEYS, row, strict=True) if kind != kernels.ABSENT}
        rows.append(found if good else None)
    return rows


def loads(line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except ValueError:
        return None


def check_like_json(line: bytes) -> None:
    (row,) = scan([line])
    value = loads(line)
    if not isinstance(value, dict):
        assert row is None
        return
    assert row is not None
    assert set(row) == set(KEYS) & set(value)
    for key, (kind, raw) in row.items():
        text = b'"' + raw + b'"' if kind in (kernels.STRING, kernels.ESCAPED) else raw
        assert repr(json.loads(text)) == repr(value[key])
        assert (kind == kernels.NULL) == (value[key] is None)
        assert (kind == kernels.NESTED) == isinstance(value[key], dict | list)
        assert (kind == kernels.STRING) == (isinstance(value[key], str) and b"\\" not in raw)


@given(OBJECTS, st.booleans(), st.sampled_from([None, 0, 2]))
@settings(max_examples=200, deadline=None)
def test_objects_are_scanned_like_json(value: dict[str, Any], ascii_only: bool, indent: int | None) -> None:
    check_like_json(json.dumps(value, ensure_ascii=ascii_only, indent=indent).replace("\n", " \r\t ").encode())


@given(OBJECTS, st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_objects_are_refused_like_json(value: dict[str, Any], data: st.DataObject) -> None:
    line = bytearray(json.dumps(value).encode())
    at = data.draw(st.integers(0, len(line) - 1))
    line[at : at + data.draw(st.integers(0, 2))] = data.draw(
        st.sampled_from([b"", b"\\", b'"', b"}", b"]", b",", b"0", b"-", b"e", b"\x01", b"{"])
    )
    check_like_json(bytes(line))


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b" { } ",
        b"[]",
        b'"a"',
        b"{",
        b"}",
        b"",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":-}',
        b'{"a":1.}',
        b'{"a":1e}',
        b'{"a":.5}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":tru}',
        b'{"a":"\\u12"}',
        b'{"a":"\\x"}',
        b'{"a":"\t"}',
        b'{"a":1}{',
        b'{"a" 1}',
        b"{a:1}",
        b'{"a":[1,]}',
        b'{"a":[}',
        b'{"a":[{]}',
        b'{"a":1,"a":2}',
        b'{"a":"x',
        b'{"a":{"message":1}}',
        b'{"a":1 2}',
        b'{"a":}',
        b'{"a":"\\"}',
    ],
)
def test_corner_cases_like_json(line: bytes) -> None:
    check_like_json(line)


def test_deep_nesting_is_bounded() -> None:
    deep = kernels.MAX_DEPTH + 1
    assert scan([b'{"a":' + b"[" * deep + b"]" * deep + b"}"]) == [None]
    assert scan([b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"]) != [None]


def read(data: bytes, **options: Any) -> tuple[list[bytes], RecordReader]:
    reader = read_records(io.BytesIO(data), **options)
    return [content for batch in reader for content in batch.contents()], reader


@given(st.lists(st.text(max_size=10), min_size=1, max_size=8), st.booleans(), st.integers(1, 200))
@settings(max_examples=150, deadline=None)
def test_messages_are_unescaped_like_json(messages: list[str], ascii_only: bool, block_bytes: int) -> None:
    data = "".join(json.dumps({"n": i, "message": m}, ensure_ascii=ascii_only) + "\n" for i, m in enumerate(messages))
    try:
        raw = data.encode()
    except UnicodeEncodeError:  # lone surrogates cannot be written as they are
        raw = data.encode(errors="replace")
        messages = [m.encode(errors="replace").decode() for m in messages]
    contents, reader = read(raw, block_bytes=block_bytes, header="none")
    expected = [m.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode() for m in messages]
    assert contents == expected
    assert reader.input_format == "json"
    assert reader.report.matched == reader.report.lines == len(messages)


def test_json_lines_keep_what_they_cannot_read() -> None:
    data = b'{"level":"info","message":"up"}\n{"message":7}\nnot json\n{"other":true}\n{"message":null}\n'
    contents, reader = read(data)
    assert contents == [b"up", b"7", b"not json", b'{"other":true}', b'{"message":null}']
    report = reader.report
    assert (report.matched, report.unmatched_kept, report.invalid_json, report.missing_field) == (2, 3, 1, 2)


def test_other_json_fields_and_the_time_are_there() -> None:
    data = b'{"ts":1700000000.5,"level":"info","msg":"up","ctx":{"a":[1]},"note":"a\\tb"}\n'
    data += b'{"msg":"down","ts":1700000001}\n'
    (batch,) = read_records(io.BytesIO(data))
    assert batch.contents() == [b"up", b"down"]
    assert batch.names == ("ts", "level", "ctx", "note")
    assert batch.field("level") == [b"info", None]
    assert batch.field("ctx") == [b'{"a":[1]}', None]
    assert batch.field("note") == [b"a\tb", None]
    assert batch.timestamps_us is not None
    assert batch.timestamps_us.tolist() == [1_700_000_000_500_000, 1_700_000_001_000_000]


@pytest.mark.parametrize(
    ("line", "path", "content"),
    [
        ('{"timestamp":"2026-01-01T00:00:00Z","fields":{"message":"a \\u00e9"},"target":"x"}', "fields.message", "a é"),
        ('{"t":{"$date":"2026-01-01T00:00:00.5Z"},"s":"I","c":"NETWORK","id":1,"msg":"Listening"}', "msg", "Listening"),
        ('{"@timestamp":"2026-01-01T00:00:00Z","log.message":"flat","log":{"message":"deep"}}', "log.message", "flat"),
        ('{"MESSAGE":"Started","__REALTIME_TIMESTAMP":"1700000000000000","PRIORITY":"6"}', "MESSAGE", "Started"),
        ('{"body":{"stringValue":"otlp"},"timeUnixNano":"1700000000000000000"}', "body.stringValue", "otlp"),
    ],
)
def test_message_fields_of_common_loggers(line: str, path: str, content: str) -> None:
    paths = choose_paths([line.encode()])
    assert paths is not None
    assert (paths.text, paths.time is not None) == (path, True)
    (batch,) = read_records(io.BytesIO(line.encode()))
    assert batch.contents() == [content.encode()]
    assert batch.timestamps_us is not None
    assert batch.timestamps_us[0] > 0


def test_a_given_json_field() -> None:
    data = b'{"message":"no","err":{"why":{"text":"yes"}}}\n'
    assert read(data, json_field="err.why.text")[0] == [b"yes"]
    contents, reader = read(data, json_field="absent")
    assert contents == [data.strip()]
    assert reader.report.missing_field == 1
    with pytest.raises(InputError, match="json_field"):
        read(b'{"a":1}\n', input_format="json")


CRI = st.tuples(
    st.sampled_from(["stdout", "stderr"]),
    st.sampled_from(["P", "F", "F", "P:x", "bad"]),
    st.sampled_from(["a", "b ", " c", "", "é"]),
)


def oracle(pieces: list[tuple[str, str, str]], is_whole: Any, raw: Any) -> list[bytes]:
    """Texts in order of completion, pieces of one stream put together."""
    open_texts: dict[str, str] = {}
    done: list[bytes] = []
    for stream, tag, text in pieces:
        if tag == "bad":
            done.append(raw(stream, tag, text))
            continue
        open_texts[stream] = open_texts.get(stream, "") + text
        if is_whole(tag):
            done.append(open_texts.pop(stream).encode())
    order = [stream for stream in ("stdout", "stderr") if stream in open_texts]
    return done + [open_texts[stream].encode() for stream in order]


@given(st.lists(CRI, min_size=1, max_size=12), st.integers(1, 300))
@settings(max_examples=150, deadline=None)
def test_cri_lines(pieces: list[tuple[str, str, str]], block_bytes: int) -> None:
    lines = [f"2026-11-22T12:30:01.5Z {stream} {tag} {text}".encode() for stream, tag, text in pieces]
    contents, reader = read(
        b"\n".join(lines) + b"\n", block_bytes=block_bytes, input_format="cri", header="none", multiline="off"
    )
    expected = oracle(
        pieces, lambda tag: tag[0] == "F", lambda *piece: "2026-11-22T12:30:01.5Z {} {} {}".format(*piece).encode()
    )
    assert contents == expected
    report = reader.report
    assert report.lines == len(lines) == report.records + report.joined
    assert report.invalid_cri == report.unmatched_kept == sum(tag == "bad" for _, tag, _ in pieces)


@given(st.lists(CRI.filter(lambda piece: piece[1] != "P:x"), min_size=1, max_size=12), st.integers(1, 300))
@settings(max_examples=150, deadline=None)
def test_docker_lines(pieces: list[tuple[str, str, str]], block_bytes: int) -> None:
    lines = []
    for stream, tag, text in pieces:
        log = text + "\n" * (tag == "F")
        line = json.dumps({"log": log, "stream": stream, "time": "2026-11-22T12:30:01.5Z"})
        lines.append(b"bad " + stream.encode() if tag == "bad" else line.encode())
    contents, reader = read(
        b"\n".join(lines), block_bytes=block_bytes, input_format="docker", header="none", multiline="off"
    )
    assert contents == oracle(pieces, lambda tag: tag == "F", lambda stream, *_: b"bad " + stream.encode())
    assert reader.report.lines == len(lines) == reader.report.records + reader.report.joined


def test_header_and_stack_trace_inside_an_envelope() -> None:
    inner = ["2026-11-22 12:30:01,250 ERROR [main] a.B: failed", "java.io.IOException: x", "\tat a.B.c(B.java:1)"] * 3
    texts = [line.encode() for line in inner]
    record = b"failed\njava.io.IOException: x\n\tat a.B.c(B.java:1)"
    cri = b"".join(b"2026-11-22T12:30:01.5Z stderr F " + text + b"\n" for text in texts)
    docker = b"".join(
        json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-11-22T12:30:01.5Z"}).encode() + b"\n"
        for line in inner
    )
    for data, kind in ((cri, "cri"), (docker, "docker")):
        for block_bytes in (1, 100, 1 << 20):
            contents, reader = read(data, block_bytes=block_bytes)
            assert contents == [record] * 3
            assert (reader.input_format, reader.header and reader.header.name) == (kind, "hadoop")
            assert (reader.report.matched, reader.report.joined) == (3, 6)


def test_detection_of_envelopes() -> None:
    assert detect_envelope([]) == "text"
    assert detect_envelope([b"plain", b'{"a":1}', b"plain"]) == "text"
    assert detect_envelope([b'{"a":1}', b"plain", b'{"a":1}']) == "json"
    assert detect_envelope([b'{"log":"a\\n","stream":"stdout","time":"2026-11-22T12:30:01Z","attrs":{}}']) == "docker"
    assert detect_envelope([b"2026-11-22T12:30:01.5Z stdout P a"]) == "cri"
