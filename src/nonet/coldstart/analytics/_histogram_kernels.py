"""The inner loop of histograms over the logarithm."""

from __future__ import annotations

import math

from nonet.common.kernels import kernel


@kernel
def add_to_bins(values, counts, low, high, first_bin, bins_per_decade):
    """Count values into bins of log10, and keep the smallest and the largest of each.

    Args:
        values: float64, shape (n,).
        counts: int64, shape (m,); bin i holds floor(log10(x) * bins_per_decade) == first_bin + i, the ends the rest.
        low, high: float64, shape (m,); must begin as inf and -inf.
        first_bin: number of the first bin.
        bins_per_decade: bins of a factor of ten.

    Returns:
        (values <= 0, values that are NaN).
    """
    num_not_positive = 0
    num_missing = 0
    last = len(counts) - 1
    for i in range(len(values)):
        value = values[i]
        if math.isnan(value):
            num_missing += 1
            continue
        if value <= 0:
            num_not_positive += 1
            continue
        index = math.floor(math.log10(min(value, 1e300)) * bins_per_decade) - first_bin
        index = min(max(index, 0), last)
        counts[index] += 1
        low[index] = min(low[index], value)
        high[index] = max(high[index], value)
    return num_not_positive, num_missing
