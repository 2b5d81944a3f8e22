"""Real parts for the controller: a validated Redfish service, a BMC, a PDU and a Prometheus server."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path

import pytest

from tests.power.controlling.real.redfish_mock import PASSWORD, RedfishMock


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def make_redfish(monkeypatch):
    mocks = []
    monkeypatch.setenv("NONET_REDFISH_PASSWORD", PASSWORD)

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
