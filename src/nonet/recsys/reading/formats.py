"""What the columns of a log mean: the registry `FORMATS`, found by name or by looking at a file.

A format says which columns are features, which are numbers, what counts as a positive and when a row happened. The
label is a rule in SQL over the columns, such as `rating >= 3.5`, so that a user can ask for another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import polars as pl

from nonet.common.errors import InputError
from nonet.common.registry import Registry

ROW = "row_number"
"""Column with the number of the row in its file, from 0: the clock of formats without one."""

_CRITEO_MS_PER_ROW = 7 * 86_400_000 / 45_840_617  # seven days, rows of Kaggle's train.txt


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file.

    Args:
        name: in the registry.
        columns: names in the order of the file, for a file without a header line.
        features: feature to the column that holds its value; taken as text.
        item: the feature that names what was shown.
        label: rule in SQL over the columns, true or > 0 for a positive.
        ts_ms: event time in milliseconds, as an expression over the columns and `ROW`.
        numbers: columns that must be numbers.
        optional: of them, those that may be empty.
        dense: feature of one number to its expression; an empty value is 0.
        separator: between fields.
        header: whether the first line names the columns.
        aliases: other names of columns in header lines.
    """

    name: str
    columns: tuple[str, ...]
    features: Mapping[str, str]
    item: str
    label: str
    ts_ms: pl.Expr
    numbers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    dense: Mapping[str, pl.Expr] = field(default_factory=dict)
    separator: str = ","
    header: Literal["always", "never", "maybe"] = "always"
    aliases: Mapping[str, str] = field(default_factory=dict)

    def with_label(self, rule: str | None) -> Format:
        """The same with another rule for positives.

        Raises:
            InputError: it is no SQL expression.

        >>> FORMATS["movielens"].with_label("rating >= 5").label
        'rating >= 5'
        """
        if rule is None:
            return self
        try:
            pl.sql_expr(rule)
        except pl.exceptions.PolarsError as error:
            raise InputError(f"the label rule {rule!r} is no SQL expression over columns: {error}") from error
        return replace(self, label=rule)

    @property
    def num_dense(self) -> int:
        """Numbers of a row."""
        return len(self.dense)


FORMATS: Registry[Format] = Registry("format of logs")


def _add(kind: Format) -> Format:
    FORMATS.add(kind.name, kind)
    return kind


def _squashed(column: str) -> pl.Expr:
    """sign(x) ln(1 + |x|): the counts of Criteo span six orders of magnitude."""
    return pl.col(column).sign() * pl.col(column).abs().log1p()


_SECONDS = (pl.col("timestamp") * 1000).cast(pl.Int64)
_ALIASES = {"user_id": "user", "userId": "user", "userID": "user"}
_ALIASES |= {"item_id": "item", "movieId": "item", "movieID": "item"}

MOVIELENS = _add(
    Format(
        "movielens",
        ("user", "item", "rating", "timestamp"),
        {"user": "user", "item": "item"},
        "item",
        "rating >= 3.5",
        _SECONDS,
        numbers=("rating", "timestamp"),
        aliases=_ALIASES,
    )
)
MOVIELENS_INTER = _add(replace(MOVIELENS, name="movielens-inter", separator="\t"))
MOVIELENS_DAT = _add(replace(MOVIELENS, name="movielens-dat", separator="::", header="never"))
MOVIELENS_DATA = _add(replace(MOVIELENS, name="movielens-data", separator="\t", header="never"))
PAIRS = _add(
    Format(
        "pairs",
        ("user", "item"),
        {"user": "user", "item": "item"},
        "item",
        "1",
        pl.col(ROW) * 1000,
        aliases=_ALIASES,
    )
)
_CRITEO_NUMBERS = tuple(f"I{n}" for n in range(1, 14))
_CRITEO_IDS = tuple(f"C{n}" for n in range(1, 27))
CRITEO = _add(
    Format(
        "criteo",
        ("Label", *_CRITEO_NUMBERS, *_CRITEO_IDS),
        {name: name for name in _CRITEO_IDS},
        "C3",
        '"Label"',
        (pl.col(ROW) * _CRITEO_MS_PER_ROW).cast(pl.Int64),
        numbers=("Label", *_CRITEO_NUMBERS),
        optional=_CRITEO_NUMBERS,
        dense={name: _squashed(name) for name in _CRITEO_NUMBERS},
        separator="\t",
        header="never",
    )
)
CRITEO_CSV = _add(replace(CRITEO, name="criteo-csv", separator=",", header="always"))
_AVAZU_IDS = (
    *("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type", "device_conn_type"),
    *(f"C{n}" for n in range(14, 22)),
)
AVAZU = _add(
    Format(
        "avazu",
        ("id", "click", "hour", *_AVAZU_IDS),
        {name: name for name in _AVAZU_IDS},
        "C14",
        "click",
        (pl.lit("20") + pl.col("hour").cast(pl.Int64).cast(pl.String) + pl.lit("00"))
        .str.to_datetime("%Y%m%d%H%M", strict=False)
        .dt.epoch("ms"),
        numbers=("click", "hour"),
        header="maybe",
    )
)
_OBD_USERS = tuple(f"user_feature_{n}" for n in range(4))
OBD = _add(
    Format(
        "obd",
        ("timestamp", "item_id", "position", "click", "propensity_score", *_OBD_USERS),
        {"item": "item_id", "position": "position", **{name: name for name in _OBD_USERS}},
        "item",
        "click",
        pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", strict=False).dt.epoch("ms"),
        numbers=("click", "propensity_score"),
    )
)
TAOBAO = _add(
    Format(
        "taobao",
        ("user", "item", "category", "behavior", "timestamp"),
        {"user": "user", "item": "item", "category": "category"},
        "item",
        "behavior IN ('buy', 'cart', 'fav')",
        _SECONDS,
        numbers=("timestamp",),
        header="never",
    )
)


def table_format(
    features: Sequence[str],
    *,
    label: str,
    timestamp: str,
    dense: Sequence[str] = (),
    item: str = "",
    separator: str = ",",
    unit: Literal["s", "ms"] = "s",
) -> Format:
    """A format for a table of one's own, with a header line.

    Args:
        features: columns that are ids.
        label: rule in SQL over numeric columns, such as `clicked` or `dwell_s > 30`; the columns that it names must
            be numbers.
        timestamp: column with Unix time.
        dense: columns that are numbers.
        item: which feature names what was shown; the last by default.
        separator: between fields.
        unit: of the time.

    Raises:
        InputError: no feature, an item that is none, or a rule that is no SQL expression.

    >>> table_format(["user", "shop"], label="paid > 0", timestamp="t").item
    'shop'
    """
    if not features or (item and item not in features):
        raise InputError(f"a table needs features and the item among them, got {list(features)} and {item!r}")
    try:
        named = pl.sql_expr(label).meta.root_names()
    except pl.exceptions.PolarsError as error:
        raise InputError(f"the label rule {label!r} is no SQL expression over columns: {error}") from error
    numbers = tuple(dict.fromkeys([timestamp, *dense, *named]))
    return Format(
        "table",
        tuple(dict.fromkeys([*features, *numbers])),
        {name: name for name in features},
        item or features[-1],
        label,
        (pl.col(timestamp) * (1000 if unit == "s" else 1)).cast(pl.Int64),
        numbers=numbers,
        optional=tuple(dense),
        dense={name: pl.col(name) for name in dense},
        separator=separator,
    )


def detect_format(path: Path, first_line: str) -> Format:
    """The format of a file, by its ending and its first line.

    Raises:
        InputError: it looks like none of them.

    >>> detect_format(Path("a.dat"), "1::1193::5::978300760").name
    'movielens-dat'
    """
    for kind, told in _SIGNS:
        if told(first_line):
            return kind
    known = ", ".join(FORMATS)
    raise InputError(
        f"{path}: cannot tell its format from its first line {first_line[:80]!r}; name one of: {known}; or, for a "
        "table of your own: nonet recsys init DIR --data FILE --feature ... --label ... --timestamp ..., then "
        "--job DIR/job.yaml"
    )


def _has(*columns: str, separator: str = ","):  # type: ignore[no-untyped-def]
    return lambda line: set(columns) <= {part.split(":")[0] for part in line.split(separator)}


_SIGNS = (
    (MOVIELENS_INTER, _has("user_id", "item_id", "rating", "timestamp", separator="\t")),
    (MOVIELENS, _has("userId", "movieId", "rating", "timestamp")),
    (PAIRS, lambda line: {*line.split(",")} in ({"userID", "movieID"}, {"user", "item"})),
    (MOVIELENS_DAT, lambda line: line.count("::") == 3),
    (MOVIELENS_DATA, lambda line: line.count("\t") == 3),
    (CRITEO, lambda line: line.count("\t") == len(CRITEO.columns) - 1),
    (CRITEO_CSV, _has("Label", "I1", "C26")),
    (AVAZU, lambda line: line.count(",") == len(AVAZU.columns) - 1),
    (OBD, _has("timestamp", "item_id", "position", "click")),
    (TAOBAO, lambda line: line.count(",") == 4 and line.split(",")[3] in ("pv", "buy", "cart", "fav")),
)
