"""Helpers of the tests of the miner: odd lines, and spans over them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from nonet.logs.mining.shape_table import Spans

WORDS = [
    "user",
    "root",
    "guest",
    "session",
    "opened",
    "closed",
    "10.0.0.1",
    "10.0.0.2",
    "42",
    "7",
    "eth0",
    "eth1",
    "blk_12",
    "/var/log",
    "/tmp/x",
    "a=1",
    "b=x",
]
WORDS += ["(uid=0)", "May", "Mon", "é", "<*>", "\x00", "100%", "x:1", "3ms", "0x1f", "a.b.c", "h:80", "'q'", "ext3"]
BLANKS = [" ", " ", " ", " ", "  ", "\t", "", "\x1b[0m", "\n", "\r\n\t"]

odd_lines = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(BLANKS)), max_size=7).map(
    lambda parts: "".join(word + blank for word, blank in parts).encode()
)
any_lines = st.lists(st.one_of(odd_lines, odd_lines, st.binary(max_size=12)), min_size=1, max_size=30)


def spans_of(contents: list[bytes]) -> Spans:
    """Contents as spans of one buffer."""
    lengths = np.array([len(c) for c in contents], np.int64)
    ends = np.cumsum(lengths + 1) - 1
    return Spans.without_user_masks(np.array(bytearray(b"\n".join(contents) + b"\n")), ends - lengths, ends)
