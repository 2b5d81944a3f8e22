"""The registry of admission filters."""

from __future__ import annotations

from typing import Any

from nonet.common.registry import Registry

ADMISSIONS: Registry[type[Any]] = Registry("admission filter")
"""Frozen dataclasses that keep `interfaces.Admission`; their fields are what a configuration may set."""
