"""The service factory, spoken to by a real client over a socket."""

from __future__ import annotations

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from nonet.common.errors import InputError
from nonet.common.service import Service, make_app


@pytest.fixture
def reasons():
    return [""]


@pytest.fixture
def service(reasons):
    registry = CollectorRegistry()
    Counter("demo_things", "Things.", registry=registry).inc(3)
    app = make_app("demo", registry=registry, ready=lambda: reasons[0], token="secret", max_body_bytes=1000)

    @app.post("/length")
    async def length(body: dict) -> int:
        return len(body)

    running = Service(app, has_token=True).start()
    yield running
    running.stop()


def test_the_checks_need_no_token_and_say_why(service, reasons):
    assert httpx2.get(f"{service.address}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{service.address}/readyz").status_code == 200
    reasons[0] = "no telemetry"
    answer = httpx2.get(f"{service.address}/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "no telemetry")


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}])
def test_metrics_need_the_token(service, header):
    answer = httpx2.get(f"{service.address}/metrics", headers=header)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_metrics_in_the_format_asked_for(service):
    token = {"Authorization": "Bearer secret"}
    text = httpx2.get(f"{service.address}/metrics", headers=token)
    families = {family.name: family for family in text_string_to_metric_families(text.text)}
    assert families["demo_things"].samples[0].value == 3
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    assert httpx2.get(f"{service.address}/metrics", headers=token | accept).text.endswith("# EOF\n")


def test_long_bodies_are_refused_declared_or_not(service):
    token = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
    post = lambda content: httpx2.post(f"{service.address}/length", content=content, headers=token)  # noqa: E731
    assert post(b'{"a": 1}').json() == 1
    assert post(b'{"a": "' + b"x" * 2000 + b'"}').status_code == 413
    assert post(iter([b'{"a": "', b"x" * 2000, b'"}'])).status_code == 413  # chunked: no length declared


def test_a_wide_address_needs_a_token():
    with pytest.raises(InputError, match="token"):
        Service(make_app("demo"), host="0.0.0.0")


def test_a_taken_port_is_said(service):
    with pytest.raises(InputError, match="another port"):
        Service(make_app("demo"), port=service.port)


def test_stop_frees_the_port(reasons):
    first = Service(make_app("demo")).start()
    first.stop()
    second = Service(make_app("demo"), port=first.port).start()
    assert httpx2.get(f"{second.address}/healthz").status_code == 200
    second.stop()
