"""Nonet: nine published systems for running AI infrastructure, rebuilt as one toolbox.

Each system lives in a room of its own (`nonet.logs` is the first); what two rooms share is in `nonet.common`.
"""

__version__ = "0.1.0"
