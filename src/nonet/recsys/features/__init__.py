"""From raw values to 64-bit ids: `fid` (slot and signature), `signature` (48-bit hash), `dictionary` (exact numbers),
`encoder` (a feature of either kind), `audit` (how many values share an id), `jagged` (bags in others' formats).
"""

from nonet.recsys.features.audit import CollisionCounter, Collisions, audit_ids, expected_pairs, md5_hash_trick
from nonet.recsys.features.dictionary import Dictionary
from nonet.recsys.features.encoder import FeatureEncoder
from nonet.recsys.features.fid import bucket_of, bucket_owners, fid_v1, fid_v2, mix64, slot_v1, slot_v2, v1_to_v2
from nonet.recsys.features.jagged import (
    bags_from_arrow,
    bags_from_keyed_jagged,
    bags_to_arrow,
    keyed_jagged_parts,
    to_keyed_jagged,
)
from nonet.recsys.features.signature import signatures

__all__ = [
    "CollisionCounter",
    "Collisions",
    "Dictionary",
    "FeatureEncoder",
    "audit_ids",
    "bags_from_arrow",
    "bags_from_keyed_jagged",
    "bags_to_arrow",
    "bucket_of",
    "bucket_owners",
    "expected_pairs",
    "fid_v1",
    "fid_v2",
    "keyed_jagged_parts",
    "md5_hash_trick",
    "mix64",
    "signatures",
    "slot_v1",
    "slot_v2",
    "to_keyed_jagged",
    "v1_to_v2",
]
