"""Sources of row power. Importing this registers them; their client libraries are imported when one is built."""

from nonet.power.controlling.telemetry import file, prometheus, redfish, snmp
from nonet.power.controlling.telemetry.protocol import TELEMETRY, Reading, Telemetry, TelemetryError

__all__ = ["TELEMETRY", "Reading", "Telemetry", "TelemetryError", "file", "prometheus", "redfish", "snmp"]
