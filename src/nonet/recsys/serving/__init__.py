"""Answers over HTTP from models that follow the sync.

encoding.py     from a request to ids; the catalogue of items
index.py        ItemIndex: nearest items, changed in place
arms.py         Arm: model, replica and index; Assignment of users
recommender.py  retrieve, rank, write down what was shown
bodies.py       what requests may say;  app.py  routes;  metrics.py  Prometheus
trials.py       what the bench measures
"""

from nonet.recsys.serving.app import make_serving_app, serve
from nonet.recsys.serving.arms import Arm, Assignment
from nonet.recsys.serving.encoding import Catalogue, Features
from nonet.recsys.serving.index import ItemIndex
from nonet.recsys.serving.recommender import Answer, Recommender, ShownEvent, new_items

__all__ = [
    "Answer",
    "Arm",
    "Assignment",
    "Catalogue",
    "Features",
    "ItemIndex",
    "Recommender",
    "ShownEvent",
    "make_serving_app",
    "new_items",
    "serve",
]
