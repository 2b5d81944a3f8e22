"""A Redfish service of a GPU server and a rack PDU: sessions, ETags, power limits, controls; and its faults.

It is valid Redfish: the DMTF's validator passes over it. `faults` makes it misbehave.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import secrets
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.power.controlling.real.redfish_schemas import FACTS

ROOT = "/redfish/v1"
GPUS = f"{ROOT}/Systems/HGX_Baseboard_0/Processors"
CONTROL = f"{ROOT}/Chassis/HGX_Chassis/Controls/PowerLimit_0"
SENSOR = f"{ROOT}/Chassis/HGX_Chassis/Sensors/Power_0"
PDU = f"{ROOT}/PowerEquipment/RackPDUs/PDU_1"
USER, PASSWORD = "admin", "correct horse"
_VERSIONS = {f[0]: f[2] for f in (line.split("\t") for line in FACTS.read_text().splitlines()) if f[1:2] == ["version"]}
_METHODS = {f[0]: f[2] for f in (line.split("\t") for line in FACTS.read_text().splitlines()) if f[1:2] == ["methods"]}


@dataclass
class Faults:
    """What goes wrong."""

    status: dict[str, int] = field(default_factory=dict)  # by method: answer with this
    etag_races: int = 0  # so many times somebody else writes between our GET and our PATCH
    silent: bool = False  # accept, read, and never answer
    drip_s: float = 0.0  # pause before each byte of a body
    hang_up: bool = False  # close in the middle of an answer
    text: str | None = None  # answer every GET below Systems and Chassis with this
    rounding_w: float = 0.0  # set points are stored as a multiple of this
    no_etags: bool = False
    broken: str = "-"  # what lies below this path is answered with 500


class RedfishMock:
    """Serves on a free port of 127.0.0.1."""

    def __init__(self, num_gpus: int = 2, certificate: Path | None = None) -> None:
        self.faults = Faults()
        self.lock = threading.Lock()
        self.sessions: dict[str, str] = {}  # id by token
        self.writes: list[tuple[str, dict]] = []
        self.logins = 0
        self.resources = _tree(num_gpus)
        self._over = threading.Event()
        mock = self

        class Handler(_Handler):
            service = mock

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.address = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def limit(self, gpu: int = 1) -> dict:
        """The power limit of a GPU, to read and to change."""
        return self.resources[f"{GPUS}/GPU_SXM_{gpu}/EnvironmentMetrics"]["PowerLimitWatts"]

    def expire(self) -> None:
        """Forget every session."""
        with self.lock:
            self.sessions.clear()
            for path in [p for p in self.resources if p.startswith(f"{ROOT}/SessionService/Sessions/")]:
                del self.resources[path]

    def wait(self) -> None:
        """Hang until the service stops."""
        self._over.wait(30)

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    service: RedfishMock

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        if self._stopped("GET"):
            return
        path, mock = self._path(), self.service
        if mock.faults.text is not None and path.startswith((f"{ROOT}/Systems/", f"{ROOT}/Chassis/")):
            self._send(200, mock.faults.text)
            return
        with mock.lock:
            found = self._shown(path)
        if found is None:
            self._error(404, f"There is no resource at {path}")
            return
        kind = found["@odata.type"].split(".")[0].lstrip("#")
        methods = ", ".join(["GET", "HEAD", *_METHODS[kind].split()])
        self._send(200, json.dumps(found), {"ETag": found.get("@odata.etag", ""), "Allow": methods})

    def do_POST(self) -> None:
        if self.path.rstrip("/") != f"{ROOT}/SessionService/Sessions":
            if not self._stopped("POST"):
                self._error(405, "Only sessions can be made")
            return
        mock, given = self.service, json.loads(self._body())
        if (given.get("UserName"), given.get("Password")) != (USER, PASSWORD):
            self._error(401, "The user name or the password is wrong")
            return
        with mock.lock:
            mock.logins += 1
            name, token = str(mock.logins), secrets.token_hex(16)
            mock.sessions[token] = name
            path = f"{ROOT}/SessionService/Sessions/{name}"
            mock.resources[path] = _resource("Session", path, name, UserName=USER)
            answer = self._shown(path)
        self._send(201, json.dumps(answer), {"X-Auth-Token": token, "Location": path})

    def do_DELETE(self) -> None:
        if self._stopped("DELETE"):
            return
        with self.service.lock:
            gone = self.service.resources.pop(self._path(), None)
            mine = {t: n for t, n in self.service.sessions.items() if gone is None or n != gone["Id"]}
            self.service.sessions = mine
        self._send(204 if gone else 404, "")

    def do_PATCH(self) -> None:
        body = self._body()
        if self._stopped("PATCH"):
            return
        mock, path = self.service, self._path()
        with mock.lock:
            if mock.faults.etag_races > 0:
                mock.faults.etag_races -= 1
                mock.resources[path]["Description"] = f"changed by somebody else {secrets.token_hex(4)}"
            found = self._shown(path)
            if found is None or "PATCH" not in _METHODS[found["@odata.type"].split(".")[0].lstrip("#")]:
                problem = (405, "This resource cannot be changed")
            elif not mock.faults.no_etags and self.headers.get("If-Match") != found["@odata.etag"]:
                problem = (412 if self.headers.get("If-Match") else 428, "The ETag does not match")
            else:
                problem = self._change(mock.resources[path], json.loads(body))
                mock.writes.append((path, json.loads(body)))
            shown = self._shown(path)
        if problem:
            self._error(*problem)
        else:
            self._send(200, json.dumps(shown), {"ETag": shown.get("@odata.etag", "")})

    def _change(self, resource: dict, change: dict) -> tuple[int, str] | None:
        control = change.get("PowerLimitWatts", change)
        target = resource["PowerLimitWatts"] if "PowerLimitWatts" in change else resource
        if set(control) - {"SetPoint", "ControlMode"}:
            return 400, "There is a property that cannot be changed"
        set_point = control.get("SetPoint", target["SetPoint"])
        if not target["AllowableMin"] <= set_point <= target["AllowableMax"]:
            return 400, f"The value {set_point} for the property SetPoint is out of range"
        rounding_w = self.service.faults.rounding_w
        target.update(control | {"SetPoint": round(set_point / rounding_w) * rounding_w if rounding_w else set_point})
        return None

    def _shown(self, path: str) -> dict | None:
        found = self.service.resources.get(path)
        if found is None:
            return None
        found = copy.deepcopy(found)
        if "Members" in found:
            below = [p for p in self.service.resources if p.startswith(f"{path}/") and "/" not in p[len(path) + 1 :]]
            found |= {"Members": [{"@odata.id": p} for p in below], "Members@odata.count": len(below)}
        if not self.service.faults.no_etags:
            found["@odata.etag"] = f'"{hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]}"'
        return found

    def _stopped(self, method: str) -> bool:
        """Whether the request ends here: a fault, or no session."""
        faults = self.service.faults
        if faults.silent:
            self.service.wait()
            self.close_connection = True
            return True
        if method in faults.status:
            self._error(faults.status[method], "Injected")
            return True
        if self._path().startswith(faults.broken):
            self._error(500, "Injected")
            return True
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        token = self.headers.get("X-Auth-Token", "")
        if self._path() != ROOT and token not in self.service.sessions and self.headers.get("Authorization") != basic:
            self._error(401, "There is no such session")
            return True
        return False

    def _path(self) -> str:
        return self.path.split("?")[0].rstrip("/")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _error(self, status: int, text: str) -> None:
        message = {"MessageId": "Base.1.18.GeneralError", "Message": text, "Severity": "Warning"}
        error = {"code": "Base.1.18.GeneralError", "message": text, "@Message.ExtendedInfo": [message]}
        self._send(status, json.dumps({"error": error}))

    def _send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        content, faults = text.encode(), self.service.faults
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "OData-Version": "4.0"} | (headers or {})).items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if faults.hang_up:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif faults.drip_s:
            for byte in content:
                time.sleep(faults.drip_s)
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        else:
            self.wfile.write(content)


def _resource(kind: str, path: str, name: str, **properties) -> dict:
    version = _VERSIONS[kind]
    type_ = f"#{kind}.{version}.{kind}" if version else f"#{kind}.{kind}"
    head = {"@odata.id": path, "@odata.type": type_, "Name": name}
    return head | ({} if kind.endswith("Collection") else {"Id": name}) | properties


def _tree(num_gpus: int) -> dict[str, dict]:
    found: dict[str, dict] = {}

    def add(kind: str, path: str, **properties) -> None:
        for name, value in properties.items():
            if isinstance(value, str) and value.startswith(ROOT):
                properties[name] = {"@odata.id": value}
        if kind.endswith("Collection"):
            properties["Members"] = []
        found[path] = _resource(kind, path, path.rsplit("/", 1)[-1] if path != ROOT else "RootService", **properties)

    limit = {"ControlMode": "Automatic", "AllowableMin": 200, "AllowableMax": 700, "DefaultSetPoint": 700}
    add("ServiceRoot", ROOT, RedfishVersion="1.23.0", Systems=f"{ROOT}/Systems", Chassis=f"{ROOT}/Chassis",
        SessionService=f"{ROOT}/SessionService", PowerEquipment=f"{ROOT}/PowerEquipment",
        Links={"Sessions": {"@odata.id": f"{ROOT}/SessionService/Sessions"}})  # fmt: skip
    found[ROOT]["@odata.id"] = f"{ROOT}/"
    add("SessionService", f"{ROOT}/SessionService", SessionTimeout=1800, Sessions=f"{ROOT}/SessionService/Sessions")
    add("SessionCollection", f"{ROOT}/SessionService/Sessions")
    add("ComputerSystemCollection", f"{ROOT}/Systems")
    add("ComputerSystem", f"{ROOT}/Systems/HGX_Baseboard_0", SystemType="Physical", Processors=GPUS)
    add("ProcessorCollection", GPUS)
    for gpu in range(1, num_gpus + 1):
        path = f"{GPUS}/GPU_SXM_{gpu}"
        add("Processor", path, ProcessorType="GPU", EnvironmentMetrics=f"{path}/EnvironmentMetrics")
        add("EnvironmentMetrics", f"{path}/EnvironmentMetrics", PowerWatts={"Reading": 412.5},
            PowerLimitWatts={"SetPoint": 700, "Reading": 412.5, **limit})  # fmt: skip
    add("ChassisCollection", f"{ROOT}/Chassis")
    chassis = f"{ROOT}/Chassis/HGX_Chassis"
    add("Chassis", chassis, ChassisType="Module", Controls=f"{chassis}/Controls", Sensors=f"{chassis}/Sensors",
        EnvironmentMetrics=f"{chassis}/EnvironmentMetrics")  # fmt: skip
    add("EnvironmentMetrics", f"{chassis}/EnvironmentMetrics", PowerWatts={"DataSourceUri": SENSOR, "Reading": 4210.0})
    add("ControlCollection", f"{chassis}/Controls")
    add("Control", CONTROL, ControlType="Power", SetPointType="Single", SetPointUnits="W", ControlMode="Disabled",
        SetPoint=None, AllowableMin=2000, AllowableMax=8000)  # fmt: skip
    add("SensorCollection", f"{chassis}/Sensors")
    add("Sensor", SENSOR, ReadingType="Power", ReadingUnits="W", Reading=4210.0, ReadingTime="2026-01-01T00:00:00Z")
    add("PowerEquipment", f"{ROOT}/PowerEquipment", RackPDUs=f"{ROOT}/PowerEquipment/RackPDUs")
    add("PowerDistributionCollection", f"{ROOT}/PowerEquipment/RackPDUs")
    add("PowerDistribution", PDU, EquipmentType="RackPDU", Metrics=f"{PDU}/Metrics")
    add("PowerDistributionMetrics", f"{PDU}/Metrics", PowerWatts={"Reading": 61_250.0})
    return found
