"""The data sets of the room in the registry of `nonet.common.datasets`: logs of ratings and clicks.

MovieLens, OBD and Taobao can be downloaded; Criteo and Avazu ask for a consent, so they are taken from a folder that is
given, from the mirror or from the cache, as every set is where it is at hand. Nothing is downloaded on import.
"""

from __future__ import annotations

from nonet.common.datasets import DATASETS, DataFile, Dataset

_GROUPLENS = "GroupLens: research use, no redistribution, no revenue without permission"
_MOVIELENS = "F. Maxwell Harper, Joseph A. Konstan. The MovieLens Datasets. ACM TiiS 5(4), 2015."
_FILES = "https://files.grouplens.org/datasets/movielens/"


def _movielens(name: str, archive: str, member: str, path: str, sha256: str = "") -> Dataset:
    file = DataFile("log", path, url=_FILES + archive if archive else "", member=member, sha256=sha256)
    return Dataset(f"movielens/{name}", (file,), _GROUPLENS, _MOVIELENS, "https://grouplens.org/datasets/movielens/")


ML_100K = _movielens(
    "100k",
    "",
    "",
    "recsys/ml-100k/ml-100k.inter",
    "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
)
ML_100K_DATA = _movielens("100k-original", "ml-100k.zip", "ml-100k/u.data", "recsys/ml-100k/u.data")
# GroupLens renews this one from time to time, so no checksum can be held against it.
ML_LATEST_SMALL = _movielens(
    "latest-small", "ml-latest-small.zip", "ml-latest-small/ratings.csv", "recsys/ml-latest-small/ratings.csv"
)
ML_1M = _movielens("1m", "ml-1m.zip", "ml-1m/ratings.dat", "recsys/ml-1m/ratings.dat")
ML_1M_PAIRS = _movielens(
    "1m-pairs",
    "",
    "",
    "recsys/ml-1m/ratings.parquet",
    "b354c7081dd0a6ca6b2711d6ae48d057ade864332ae90e28856372997d88994f",
)
ML_25M = _movielens("25m", "ml-25m.zip", "ml-25m/ratings.csv", "recsys/ml-25m/ratings.csv")
CRITEO = Dataset(
    "criteo/kaggle",
    (DataFile("log", "recsys/criteo/train.txt"),),
    "Criteo: research use; the archive is criteo-research-kaggle-display-advertising-challenge-dataset.tar.gz",
    "Criteo Labs. Display Advertising Challenge. Kaggle, 2014.",
    "https://ailab.criteo.com/ressources/",
)
CRITEO_SAMPLE = Dataset(
    "criteo/sample",
    (DataFile("log", "recsys/criteo/wide_resdnn_train.csv"),),
    CRITEO.licence,
    CRITEO.citation,
    CRITEO.homepage,
)
AVAZU = Dataset(
    "avazu/kaggle",
    (DataFile("log", "recsys/avazu/train.csv"),),
    "Kaggle competition terms; ask for it at the homepage",
    "Steve Wang, Will Cukierski. Click-Through Rate Prediction. Kaggle, 2014.",
    "https://www.kaggle.com/c/avazu-ctr-prediction",
)
_OBD_LICENCE = "CC BY 4.0"
_OBD_PAPER = "Yuta Saito et al. Open Bandit Dataset and Pipeline. NeurIPS Datasets and Benchmarks, 2021."
_OBD_HOME = "https://research.zozo.com/data.html"
_OBD_ZIP = "https://research.zozo.com/data_release/open_bandit_dataset.zip"
OBD_SAMPLE = Dataset(
    "obd/sample",
    (DataFile("log", "recsys/obd/bts_all.csv"), DataFile("random", "recsys/obd/random_all.csv", optional=True)),
    _OBD_LICENCE,
    _OBD_PAPER,
    _OBD_HOME,
)
OBD = Dataset(
    "obd/full",
    (
        DataFile("log", "recsys/obd-full/bts_all.csv", url=_OBD_ZIP, member="open_bandit_dataset/bts/all/all.csv"),
        DataFile(
            "random", "recsys/obd-full/random_all.csv", url=_OBD_ZIP, member="open_bandit_dataset/random/all/all.csv"
        ),
    ),
    _OBD_LICENCE,
    _OBD_PAPER,
    _OBD_HOME,
)
TAOBAO = Dataset(
    "taobao/user-behavior",
    (
        DataFile(
            "log",
            "recsys/taobao/UserBehavior.csv",
            url="https://alicloud-dev.oss-cn-hangzhou.aliyuncs.com/UserBehavior.csv.zip",
            member="UserBehavior.csv",
        ),
    ),
    "Alibaba Tianchi: research use",
    "Han Zhu et al. Learning Tree-based Deep Model for Recommender Systems. KDD 2018.",
    "https://tianchi.aliyun.com/dataset/649",
)

_ALL = (ML_100K, ML_100K_DATA, ML_LATEST_SMALL, ML_1M, ML_1M_PAIRS, ML_25M, CRITEO, CRITEO_SAMPLE, AVAZU)
for _dataset in (*_ALL, OBD_SAMPLE, OBD, TAOBAO):
    DATASETS.add(_dataset.name, _dataset)
