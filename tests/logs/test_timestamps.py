from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nonet.logs.reading.timestamps import NO_TIME, TIME_FORMS, TimeParser, find_time_fields

EPOCH = datetime.datetime(1970, 1, 1)
REFERENCE = datetime.datetime(2026, 11, 22, 12, 30)
MOMENTS = st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2069, 12, 31))
ZONELESS = [form.replace("%z", "") for form in TIME_FORMS if "%Y" in form or "%y" in form]


def microseconds(moment: datetime.datetime) -> int:
    return (moment - EPOCH) // datetime.timedelta(microseconds=1)


@given(st.sampled_from(sorted(set(ZONELESS))), MOMENTS, st.integers(0, 6), st.sampled_from(".,:"))
@settings(max_examples=150, deadline=None)
def test_forms_agree_with_strptime(form: str, moment: datetime.datetime, digits: int, separator: str) -> None:
    fraction = f"{separator}{moment.microsecond:06d}"[: digits + 1] if digits and "%f" in form else ""
    python_form = form.replace("%f", "").replace("%e", "%d")
    text = moment.strftime(form.replace("%f", fraction).replace("%e", "%d"))
    expected = datetime.datetime.strptime(moment.strftime(python_form), python_form)
    micros = int(fraction[1:].ljust(6, "0")) if fraction else 0
    assert TimeParser(form, REFERENCE).parse_texts([text.encode()]) == [microseconds(expected) + micros]


@given(MOMENTS, st.integers(-14 * 60, 14 * 60), st.sampled_from(["%z", "colon"]))
@settings(max_examples=100, deadline=None)
def test_zones_become_utc(moment: datetime.datetime, minutes: int, style: str) -> None:
    zoned = moment.replace(tzinfo=datetime.timezone(datetime.timedelta(minutes=minutes)))
    text = zoned.isoformat() if style == "colon" else zoned.strftime("%Y-%m-%dT%H:%M:%S.%f%z")
    expected = zoned.astimezone(datetime.UTC).replace(tzinfo=None)
    assert TimeParser("%Y-%m-%dT%H:%M:%S%f%z", REFERENCE).parse_texts([text.encode()]) == [microseconds(expected)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000", 1_700_000_000_000_000),
        ("1700000000.25", 1_700_000_000_250_000),
        ("1700000000123", 1_700_000_000_123_000),
        ("1700000000123456", 1_700_000_000_123_456),
        ("1700000000123456789", 1_700_000_000_123_456),
        ("17", NO_TIME),
        ("1700000000x", NO_TIME),
    ],
)
def test_unix_times(text: str, expected: int) -> None:
    assert TimeParser("%s", REFERENCE).parse_texts([text.encode()]) == [expected]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("2026-11-22 12:30:01", True),
        ("2026-11-22 12:30:01,123456789", True),
        ("2026-11-22 12:30:01 UTC", True),
        ("2026-11-22 12:30:01Z", True),
        ("2026-11-22  12:30:01 +02", True),
        ("2026-13-22 12:30:01", False),
        ("2026-11-32 12:30:01", False),
        ("2026-11-22 25:30:01", False),
        ("2026-11-22 12:61:01", False),
        ("2026-11-22 12:30", False),
        ("2026-11-22 12:30:01.", False),
        ("2026-11-22 12:30:01 up", False),
        ("2026-11-22 12:30:01+", False),
        ("26-11-22 12:30:01", False),
        ("", False),
        ("2026-11-22 12:30:01 ", False),
    ],
)
def test_only_whole_stamps_parse(text: str, good: bool) -> None:
    (time_us,) = TimeParser("%Y-%m-%d %H:%M:%S%f%z", REFERENCE).parse_texts([text.encode()])
    assert (time_us != NO_TIME) is good


def years(form: str, texts: list[bytes], batch: int) -> list[int]:
    parser = TimeParser(form, REFERENCE)
    times = [t for i in range(0, len(texts), batch) for t in parser.parse_texts(texts[i : i + batch])]
    return [(EPOCH + datetime.timedelta(microseconds=time)).year for time in times]


@pytest.mark.parametrize("batch", [1, 2, 10])
def test_a_missing_year_moves_on(batch: int) -> None:
    texts = [
        b"Dec 30 10:00:00",
        b"Dec 31 23:59:59",
        b"Jan  1 00:00:00",
        b"Dec 31 23:59:59",
        b"Jan  2 00:00:00",
        b"Oct  1 00:00:00",
    ]
    assert years("%b %e %H:%M:%S%f", texts, batch) == [2025, 2025, 2026, 2025, 2026, 2026]


def test_a_missing_year_is_not_in_the_future() -> None:
    assert years("%b %e %H:%M:%S%f", [b"Nov 22 10:00:00"], 1) == [2026]
    assert years("%b %e %H:%M:%S%f", [b"Nov 24 10:00:00"], 1) == [2025]
    assert years("%m-%d %H:%M:%S%f", [b"03-17 16:13:38.811"], 1) == [2026]


def test_time_fields_are_found_among_columns() -> None:
    text = b"- 1117838570 2005.06.03 R02 2005-06-03-15.42.50.675872"
    words = text.split()
    ends = np.cumsum([len(word) + 1 for word in words]) - 1
    starts = ends - [len(word) for word in words]
    found = find_time_fields(
        ["Label", "Timestamp", "Date", "Node", "Time"],
        np.frombuffer(bytearray(text), np.uint8),
        starts.astype(np.int32)[None],
        ends.astype(np.int32)[None],
    )
    assert found is not None
    assert (found.first, found.last, found.form) in [(1, 1, "%s"), (4, 4, "%Y-%m-%d-%H.%M.%S%f")]
