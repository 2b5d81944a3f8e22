"""Compiled functions over arrays, without reference counts.

Numba counts references to arrays by atomic additions. A loop that hands arrays to small functions spends most of its
time on them: four fifths of it in the byte scanner of `nonet.logs`, more when threads share an array. A `kernel` works
on the arrays that it is given and owns none, so it needs no counts. What has to allocate is an ordinary
`numba.njit(cache=True, nogil=True)` around kernels, once a block.

A kernel that allocates does not compile ("NRT required but not enabled"). It must not call an ordinary compiled
function that returns a new array either: that array would never be freed.
"""

from __future__ import annotations

from numba import njit

kernel = njit(cache=True, nogil=True, _nrt=False)
"""Decorator of a compiled function that allocates nothing."""

inlined_kernel = njit(cache=True, nogil=True, inline="always", _nrt=False)
"""As `kernel`, copied into its callers; for a few lines in an inner loop."""
