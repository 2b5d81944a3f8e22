"""Every format, on lines written as its publisher writes them."""

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nonet.common.errors import InputError
from nonet.recsys.reading.blocks import BadLines
from nonet.recsys.reading.formats import FORMATS, table_format
from nonet.recsys.reading.frames import read_frames

CRITEO_LINE = "\t".join(["1", "-1", "", "3", *["0"] * 10, *[f"{n:08x}" for n in range(25)], ""])
AVAZU_LINE = (
    "10000169349117863715,0,14102103,1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,96809ac8,"
    "711ee120,1,0,15704,320,50,1722,0,35,-1,79"
)
AVAZU_HEADER = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,"
    "device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
)


def frame_of(folder: Path, name: str, text: str, **options) -> pl.DataFrame:
    path = folder / name
    path.write_bytes(text.encode())
    return pl.concat(list(read_frames(path, **options)))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t9\t4\t100\n7\t8\t3\t101.5\n"),
        ("a.csv", "userId,movieId,rating,timestamp\r\n7,9,3.5,100\r\n7,8,3.0,101.5"),
        ("a.dat", "7::9::4::100\n7::8::3::101.5\n"),
        ("u.data", "7\t9\t4\t100\n7\t8\t3\t101.5\n"),
    ],
)
def test_movielens_in_all_its_shapes(tmp_path, name, text):
    frame = frame_of(tmp_path, name, text)
    assert frame.rows() == [("7", "9", 1.0, 100_000), ("7", "8", 0.0, 101_500)]
    assert frame.columns == ["user", "item", "label", "ts_ms"]


def test_header_may_order_columns_in_another_way(tmp_path):
    text = "timestamp,comment,movieId,userId,rating\n100,x,9,7,5\n"
    assert frame_of(tmp_path, "a.csv", text).rows() == [("7", "9", 1.0, 100_000)]


def test_criteo(tmp_path):
    frame = frame_of(tmp_path, "train.txt", f"{CRITEO_LINE}\n" * 3)
    first = frame.row(0, named=True)
    assert first["label"] == 1 and first["C1"] == "00000000" and first["C26"] == ""
    assert first["I1"] == pytest.approx(-0.6931472) and first["I2"] == 0 and first["I3"] == pytest.approx(1.3862944)
    # Seven days over Kaggle's 45,840,617 rows.
    assert frame["ts_ms"].to_list() == [0, 13, 26]
    header = ",".join(["Id", "Label", *(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27))])
    again = frame_of(tmp_path, "train.csv", f"{header}\n" + f"5,{CRITEO_LINE}\n".replace("\t", ",") * 3)
    assert again.equals(frame)


@pytest.mark.parametrize("header", ["", AVAZU_HEADER + "\n"])
def test_avazu_with_and_without_header(tmp_path, header):
    frame = frame_of(tmp_path, "train.csv", header + AVAZU_LINE + "\n")
    row = frame.row(0, named=True)
    assert (row["C1"], row["device_ip"], row["C20"], row["C21"]) == ("1005", "96809ac8", "-1", "79")
    assert row["ts_ms"] == datetime(2014, 10, 21, 3, tzinfo=UTC).timestamp() * 1000
    assert frame.width == 21 + 2


def test_open_bandit(tmp_path):
    text = (
        ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,"
        "user_feature_3,user-item_affinity_0\n0,2019-11-24 00:00:17.004101+00:00,79,2,1,0.08,a,b,c,d,0.0\n"
    )
    row = frame_of(tmp_path, "all.csv", text).row(0, named=True)
    moment = datetime(2019, 11, 24, 0, 0, 17, 4101, tzinfo=UTC)
    assert row == {
        "item": "79", "position": "2", "user_feature_0": "a", "user_feature_1": "b", "user_feature_2": "c",
        "user_feature_3": "d", "label": 1.0, "ts_ms": int(moment.timestamp() * 1000),
    }  # fmt: skip


def test_taobao_and_another_rule(tmp_path):
    text = "1,2,3,pv,1511544070\n1,2,3,buy,1511561733\n1,9,3,fav,1511561734\n"
    assert frame_of(tmp_path, "UserBehavior.csv", text)["label"].to_list() == [0, 1, 1]
    only = FORMATS["taobao"].with_label("behavior = 'buy'")
    frame = frame_of(tmp_path, "UserBehavior.csv", text, kind=only)
    assert frame["label"].to_list() == [0, 1, 0] and frame["category"].to_list() == ["3"] * 3
    assert frame["ts_ms"].to_list()[0] == 1511544070000


def test_parquet_of_pairs(tmp_path):
    path = tmp_path / "ratings.parquet"
    pq.write_table(pa.table({"userID": ["1", "1"], "movieID": ["10", None]}), path)
    frame = pl.concat(list(read_frames(path)))
    assert frame.rows() == [("1", "10", 1.0, 0), ("1", "", 1.0, 1000)]
    pq.write_table(pa.table({"user": ["1"]}), path)
    with pytest.raises(InputError, match=r"ratings.parquet.*needs the columns \['item'\]"):
        list(read_frames(path, "pairs"))
    with pytest.raises(InputError, match=r"ratings.parquet: cannot tell its format .*'user'"):
        list(read_frames(path))
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"ratings.parquet: cannot be read"):
        list(read_frames(path))


def test_parquet_is_told_by_its_columns_as_csv_is(tmp_path):
    path = tmp_path / "ratings.parquet"
    columns = {"userId": [1, 2], "movieId": [10, 20], "rating": [4.5, 1.0], "timestamp": [5, 6]}
    pq.write_table(pa.table(columns), path)
    frame = pl.concat(list(read_frames(path)))
    assert frame.rows() == [("1", "10", 1.0, 5000), ("2", "20", 0.0, 6000)]


def test_a_table_of_ones_own(tmp_path):
    form = table_format(["who", "shop"], label="dwell_s > 30", timestamp="t", dense=["price"], unit="ms")
    text = "who,shop,dwell_s,t,price,note\nann,b1,31,5,2.5,x\nbob,b2,30,6,,y\n"
    frame = frame_of(tmp_path, "mine.csv", text, kind=form)
    assert frame.rows() == [("ann", "b1", 2.5, 1.0, 5), ("bob", "b2", 0.0, 0.0, 6)]


@pytest.mark.parametrize("ending", [".gz", ""])
def test_compressed_files_read_alike(tmp_path, ending):
    text = b"userId,movieId,rating,timestamp\n7,9,4,100\n"
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(gzip.compress(text) if ending else text)
    assert pl.concat(list(read_frames(path))).rows() == [("7", "9", 1.0, 100_000)]


def test_unknown_files_and_rules_say_so(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("hello world\n")
    with pytest.raises(InputError, match=r"cannot tell its format.*movielens"):
        list(read_frames(path))
    with pytest.raises(InputError, match="did you mean 'criteo'"):
        list(read_frames(path, "crito"))
    with pytest.raises(InputError, match="no SQL expression"):
        FORMATS["criteo"].with_label("rating >")
    with pytest.raises(InputError, match=r"label rule 'stars > 3' does not fit the columns.*stars"):
        frame_of(tmp_path, "a.dat", "7::9::4::100\n", kind=FORMATS["movielens-dat"].with_label("stars > 3"))


def test_quotes_of_csv_are_taken_off_as_python_does(tmp_path):
    """Header and fields quoted, separators and quotes inside; a quote that does not close is a bad line."""
    rows = [["1", "10", "4.5", "5"], ['a, "b"', "x,y", "1", "6"], ["\u00e9", "", "5", "7"]]
    path = tmp_path / "ratings.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([["userId", "movieId", "rating", "timestamp"], *rows])
    frame = pl.concat(list(read_frames(path)))
    assert frame.select("user", "item").rows() == [(user, item) for user, item, *_ in rows]
    assert frame["label"].to_list() == [1, 0, 1] and frame["ts_ms"].to_list() == [5000, 6000, 7000]
    with path.open("a", encoding="utf-8") as file:
        file.write('2,"open,3,8\n3,30,4.0,9\n')
    with pytest.raises(InputError, match=r"ratings.csv, line 5: 1 fields, 4 are expected"):
        list(read_frames(path))
    bad = BadLines("skip")
    assert pl.concat(list(read_frames(path, bad=bad)))["user"].to_list()[-1] == "3"
    assert bad.count == 1
