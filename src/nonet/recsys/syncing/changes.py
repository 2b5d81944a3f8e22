"""Which keys of a table changed in which epoch: what a replica that stands at some epoch has to be told.

One log serves every replica. Of a key only its newest epoch is kept, since a delta carries current values. What all
replicas have is dropped; what is dropped raises the *floor* of its bucket, the newest epoch of which the log does not
list every change any more. A replica below the floor of a bucket (new, restarted, down for too long) gets that bucket
whole; the others get keys.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nonet.common.errors import InputError
from nonet.recsys.features.fid import bucket_of
from nonet.recsys.syncing.frames import NUM_BUCKETS

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class ChangeLog:
    """Epochs of the changed keys of one table; 24 bytes a key, `max_keys` at most.

    Args:
        buckets: which of the 1,024 buckets this publisher owns.
        max_keys: beyond it the buckets with most listed keys are listed no more: their floor rises to now.

    Raises:
        InputError: no room for a key.
    """

    def __init__(self, buckets: Bools, max_keys: int) -> None:
        if max_keys < 1:
            raise InputError(f"max_pending_keys must be at least 1, got {max_keys}")
        self.buckets = buckets
        self.max_keys = max_keys
        self.epoch = 1  # the state that the publisher has found; a replica that has nothing stands at 0
        self.floor = np.where(buckets, 1, 0).astype(np.int64)
        self._keys = np.empty(0, np.int64)
        self._epochs = np.empty(0, np.int64)
        self._bucket = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def record(self, keys: Ints) -> int:
        """These keys changed (or went): a new epoch, unless there are none.

        Args:
            keys: int64 [n].
        """
        if not len(keys):
            return self.epoch
        self.epoch += 1
        epochs = np.concatenate([np.full(len(keys), self.epoch), self._epochs])
        self._keys, first = np.unique(np.concatenate([keys, self._keys]), return_index=True)  # the newest comes first
        self._epochs = epochs[first]
        self._bucket = bucket_of(self._keys)
        self._bound()
        return self.epoch

    def forget(self, buckets: Bools) -> None:
        """All of these buckets may have changed: a new epoch, in which every replica gets them whole.

        Args:
            buckets: bool [1024].
        """
        chosen = buckets & self.buckets
        if chosen.any():
            self.epoch += 1
            self._drop(chosen[self._bucket])
            self.floor[chosen] = self.epoch

    def since(self, cursors: Ints) -> tuple[Ints, Bools]:
        """What a replica lacks.

        Args:
            cursors: int64 [1024], the epoch at which it stands, by bucket.

        Returns:
            Keys, sorted; buckets to send whole (none of the keys is in them).
        """
        whole = self.buckets & (self.floor > cursors)
        listed = (self._epochs > cursors[self._bucket]) & ~whole[self._bucket]
        return self._keys[listed], whole

    def trim(self, cursors: Ints) -> None:
        """Drop what every replica has.

        Args:
            cursors: int64 [1024], the lowest of the replicas, by bucket.
        """
        self._drop(self._epochs <= cursors[self._bucket])

    def _bound(self) -> None:
        excess = len(self._keys) - self.max_keys
        if excess <= 0:
            return
        sizes = np.bincount(self._bucket, minlength=NUM_BUCKETS)
        largest = np.argsort(-sizes, kind="stable")
        num_dropped = int(np.searchsorted(np.cumsum(sizes[largest]), excess)) + 1
        dropped = np.zeros(NUM_BUCKETS, bool)
        dropped[largest[:num_dropped]] = True
        self._drop(dropped[self._bucket])

    def _drop(self, gone: Bools) -> None:
        if not gone.any():
            return
        np.maximum.at(self.floor, self._bucket[gone], self._epochs[gone])
        kept = ~gone
        self._keys, self._epochs, self._bucket = self._keys[kept], self._epochs[kept], self._bucket[kept]

    def check_integrity(self) -> None:
        """Raises: InputError: the log is not what it says."""
        unsorted = bool((self._keys[1:] <= self._keys[:-1]).any())
        if unsorted or len(self) > self.max_keys or (len(self) and int(self._epochs.max()) > self.epoch):
            raise InputError(f"change log of {len(self)} keys is damaged; restart the publisher")
        if not np.array_equal(self._bucket, bucket_of(self._keys)) or (self._epochs <= self.floor[self._bucket]).any():
            raise InputError("change log: a listed key is below the floor of its bucket; restart the publisher")
