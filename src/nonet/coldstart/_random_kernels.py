"""Random numbers as pure functions of a key and a counter: any order, any number of shards, the same numbers.

Nothing here has state. A *key* names a stream (`mix64(seed, function, window)`), an *index* a draw in it. The
generator is SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): its i-th output is `finalise(key + (i + 1) * GOLDEN)`, so
it needs no predecessor. Keys are made by the finaliser too, which keeps streams of neighbouring keys unrelated.

All integers are uint64 and wrap around. From Python, pass a key as `np.uint64(key)`: numba takes a plain int for an
int64. Distributions take the uniform by inversion where that is cheap, since then one index is one draw and the draw
is monotone in it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nonet.common.kernels import inlined_kernel, kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_UNIT = 1.0 / 9007199254740992.0  # 2**-53


@inlined_kernel
def finalise(z):
    """SplitMix64's finaliser, a bijection of uint64 in which each bit of the input changes half of the output."""
    z = np.uint64(z)
    z = (z ^ (z >> np.uint64(30))) * _FIRST
    z = (z ^ (z >> np.uint64(27))) * _SECOND
    return z ^ (z >> np.uint64(31))


@kernel
def mix64(a, b, c):
    """One uint64 from three integers, each in any int64 or uint64 range: the key of stream (a, b, c)."""
    h = finalise(np.uint64(a))
    h = finalise(h ^ finalise(np.uint64(b) + GOLDEN))
    return finalise(h ^ finalise(np.uint64(c) + np.uint64(2) * GOLDEN))


@kernel
def bits(key, index):
    """The index-th uint64 of stream `key`."""
    return finalise(np.uint64(key) + (np.uint64(index) + np.uint64(1)) * GOLDEN)


@kernel
def uniform(key, index):
    """The index-th uniform of stream `key`, float64 in (0, 1): an odd multiple of 2**-54."""
    return (np.float64(bits(key, index) >> np.uint64(11)) + 0.5) * _UNIT


@kernel
def exponential(key, index):
    """The index-th exponential with mean 1 of stream `key`."""
    return -math.log(uniform(key, index))


@kernel
def _ratio(x, a, b):
    """A ratio of two polynomials of degree 7, coefficients from the constant on; b[0] is 1."""
    top = ((((((a[7] * x + a[6]) * x + a[5]) * x + a[4]) * x + a[3]) * x + a[2]) * x + a[1]) * x + a[0]
    bottom = ((((((b[7] * x + b[6]) * x + b[5]) * x + b[4]) * x + b[3]) * x + b[2]) * x + b[1]) * x + b[0]
    return top / bottom


# fmt: off
_A = (3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
      4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3)
_B = (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
      2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3)
_C = (1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
      1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4)
_D = (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
      1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9)
_E = (6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
      2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7)
_F = (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
      7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15)
# fmt: on


@kernel
def normal_quantile(p):
    """The standard normal quantile of p in (0, 1), to about 1e-15 (Wichura, AS 241, PPND16)."""
    q = p - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(0.180625 - q * q, _A, _B)
    r = math.sqrt(-math.log(p if q < 0 else 1.0 - p))
    x = _ratio(r - 1.6, _C, _D) if r <= 5.0 else _ratio(r - 5.0, _E, _F)
    return -x if q < 0 else x


@kernel
def normal_probability(x):
    """P(Z <= x) of a standard normal."""
    return 0.5 * math.erfc(-x * 0.7071067811865476)


@kernel
def normal(key, index):
    """The index-th standard normal of stream `key`."""
    return normal_quantile(uniform(key, index))


@kernel
def gamma(key, index, shape):
    """The index-th gamma draw with mean `shape` and scale 1 (Marsaglia and Tsang, 2000; boosted below shape 1).

    Rejection takes a varying number of uniforms, so each draw has a stream of its own made from (key, index).
    """
    own = mix64(key, index, 77)
    raised = shape + 1.0 if shape < 1.0 else shape
    d = raised - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    value = d
    for attempt in range(64):
        x = normal(own, 2 * attempt)
        v = (1.0 + c * x) ** 3
        if v > 0.0 and math.log(uniform(own, 2 * attempt + 1)) < 0.5 * x * x + d - d * v + d * math.log(v):
            value = d * v
            break
    if shape < 1.0:
        value *= uniform(own, 1000) ** (1.0 / shape)
    return value


@njit(cache=True, nogil=True)
def uniforms(key, first, num):
    """Uniforms `first .. first + num - 1` of stream `key`, float64[num]."""
    out = np.empty(num, dtype=np.float64)
    for i in range(num):
        out[i] = uniform(key, first + i)
    return out


@njit(cache=True, nogil=True)
def keys(seed, label, num):
    """The keys `mix64(seed, label, i)` for i in 0 .. num - 1, uint64[num]."""
    out = np.empty(num, dtype=np.uint64)
    for i in range(num):
        out[i] = mix64(seed, label, i)
    return out
