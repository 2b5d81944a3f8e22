"""Real parts for the controller: a validated Redfish service, a BMC, a PDU and a Prometheus server."""

from __future__ import annotations

import datetime
import random
import socket
import threading
from pathlib import Path

import pytest

from tests.power.controlling.real.redfish_mock import PASSWORD, RedfishMock


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Babbler:
    """Answers every datagram on a UDP port with random bytes, or with the datagram itself with one byte changed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                data, sender = self._socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            noise = self._random.randbytes(self._random.randint(0, 60))
            answer = bytearray(data if self._random.random() < 0.5 else noise)
            if answer:
                answer[self._random.randrange(len(answer))] = self._random.randrange(256)
            self._socket.sendto(answer, sender)

    def stop(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())


@pytest.fixture(params=range(3))
def babbler(request):
    found = Babbler(request.param)
    yield found
    found.stop()


@pytest.fixture
def make_redfish(monkeypatch):
    mocks = []
    monkeypatch.setenv("REDFISH_PASSWORD", PASSWORD)

    def make(**options) -> RedfishMock:
        mocks.append(RedfishMock(**options))
        return mocks[-1]

    yield make
    for mock in mocks:
        mock.stop()


@pytest.fixture
def certificate(tmp_path) -> Path:
    """A key and a self-signed certificate for 127.0.0.1 in one PEM file."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bmc")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1)).add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "bmc.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path
