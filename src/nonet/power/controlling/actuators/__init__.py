"""Back ends that write caps. Importing this registers them; their client libraries are imported when one is built."""

from nonet.power.controlling.actuators import dry, ipmi, nvml, redfish, zeusd
from nonet.power.controlling.actuators.protocol import ACTUATORS, Actuator, Capability, Scale, Server

__all__ = ["ACTUATORS", "Actuator", "Capability", "Scale", "Server", "dry", "ipmi", "nvml", "redfish", "zeusd"]
