"""Simulating cold starts: calls (`calls`), a platform (`platform`), policies (`policies`), engine (`engine`), result
(`results`).
"""

from __future__ import annotations
