"""From the tables that train to those that serve, at minute level and acknowledged.

frames.py     messages as bytes with a checksum
messages.py   Delta, Blob, Hello, Ack
changes.py    which key changed in which epoch; floors of buckets
publisher.py  DeltaPublisher: what each replica lacks; SyncLoop
replica.py    Replica: applies, reads, staleness
forms.py      compressors of rows, compared before a row travels
links.py      in the process, HTTP
topic.py      over a log
store.py      into Redis or Valkey; online.py  `get_online_features`
trials.py     what the bench measures
"""

from nonet.recsys.syncing.links import HttpLink, InProcessLink, add_sync_route
from nonet.recsys.syncing.messages import Ack, Blob, Delta
from nonet.recsys.syncing.online import OnlineResponse, get_online_features
from nonet.recsys.syncing.publisher import DeltaPublisher, Link, LinkDownError, Published, SyncLoop
from nonet.recsys.syncing.replica import Replica
from nonet.recsys.syncing.store import RedisStore
from nonet.recsys.syncing.topic import TopicLink, TopicReplica

__all__ = [
    "Ack",
    "Blob",
    "Delta",
    "DeltaPublisher",
    "HttpLink",
    "InProcessLink",
    "Link",
    "LinkDownError",
    "OnlineResponse",
    "Published",
    "RedisStore",
    "Replica",
    "SyncLoop",
    "TopicLink",
    "TopicReplica",
    "add_sync_route",
    "get_online_features",
]
