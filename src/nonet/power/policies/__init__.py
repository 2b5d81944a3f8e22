"""Policies: from row power to caps and the brake, the same objects in the simulator, in shadow mode and in the daemon.

protocol.py        what a policy sees and says
polca.py           two thresholds, two priorities; baselines.py: one threshold, or none; null.py: nothing at all
server_levels.py   a level for each server: dynamo.py, thunderbolt.py, water_filling.py
base.py, modes.py  what they share: judging samples, settling, the brake; ladders of modes
release.py         how a brake ends: group by group
ledger.py          commands on their way to servers: one in flight each, retries, read-back; ledger_lines.py: a server
shadow.py          what a policy would have done on a recorded power series
guards.py          what to doubt in a row, its thresholds and its series
registry.py        policies by name and from TOML files; view.py: a row as plain values

>>> build_policy("polca", t1=0.75).name
'polca'
>>> build_policy("polka")
Traceback (most recent call last):
nonet.common.errors.InputError: unknown policy 'polka'; did you mean 'polca'? (known: ...)
"""

from __future__ import annotations

from nonet.power.policies.ledger import CommandLedger, LedgerConfig, Write
from nonet.power.policies.polca import Polca
from nonet.power.policies.protocol import Action, Command, Policy, Priority, Quiet, Sample, View
from nonet.power.policies.registry import POLICIES, PolicyKind, build_policy, load_policy
from nonet.power.policies.shadow import ShadowCommand, ShadowLog, shadow
from nonet.power.policies.view import RowView

__all__ = [
    "POLICIES",
    "Action",
    "Command",
    "CommandLedger",
    "LedgerConfig",
    "Polca",
    "Policy",
    "PolicyKind",
    "Priority",
    "Quiet",
    "RowView",
    "Sample",
    "ShadowCommand",
    "ShadowLog",
    "View",
    "Write",
    "build_policy",
    "load_policy",
    "shadow",
]
