"""The service factory, spoken to by a real client over a socket."""

from __future__ import annotations

import http.client
import json

import httpx2
import pytest
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from nonet.common.errors import InputError
from nonet.common.service import TOKEN_NUMBER, Service, make_app


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

    @app.get("/fails")
    async def fails() -> None:
        raise KeyError("ours")

    @app.get("/breaks")
    async def breaks() -> StreamingResponse:
        async def pieces():
            yield b"some"
            raise KeyError("ours")

        return StreamingResponse(pieces())

    running = Service(app, has_token=True).start()
    yield running
    running.stop()


def test_the_checks_need_no_token_and_say_why(service, reasons):
    assert httpx2.get(f"{service.address}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{service.address}/readyz").status_code == 200
    assert httpx2.get(f"{service.address}/health").status_code == 200
    reasons[0] = "no telemetry"
    for check in ("readyz", "health"):
        answer = httpx2.get(f"{service.address}/{check}")
        assert (answer.status_code, answer.json()["reason"]) == (503, "no telemetry")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({}, "needs the header"),
        ({"Authorization": "Bearer wrong"}, "is not a key of this server"),
        ({"Authorization": "Bearer secret2"}, "is not a key of this server"),
        ({"Authorization": b"Bearer s\xe9cret"}, "is not a key of this server"),
        ({"Authorization": "Bearer"}, "needs the header"),
        ({"Authorization": "secret"}, "needs the header"),
        ({"Authorization": "Basic secret"}, "needs the header"),
    ],
)
def test_metrics_need_the_token(service, header, says):
    answer = httpx2.get(f"{service.address}/metrics", headers=header)
    assert answer.status_code == 401 and says in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "secret2" not in answer.text


def test_of_several_tokens_each_will_do_and_a_route_is_told_which():
    app = make_app("demo", token=["first", "second"])

    async def which(request: Request) -> Response:
        return Response(str(request.scope[TOKEN_NUMBER]))

    app.add_route("/which", which)
    running = Service(app, has_token=True).start()
    try:
        for number, header in enumerate(("Bearer first", "bearer second")):
            assert httpx2.get(f"{running.address}/which", headers={"Authorization": header}).text == str(number)
        assert httpx2.get(f"{running.address}/which", headers={"Authorization": "Bearer third"}).status_code == 401
    finally:
        running.stop()


def test_a_kept_connection_survives_every_kind_of_error(service):
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    token = {"Authorization": "Bearer secret"}
    connection.connect()
    kept = connection.sock

    def status(method, path, body=None, headers=token):
        connection.request(method, path, body, headers | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        detail = json.loads(answer.read())["detail"]
        assert connection.sock is kept, (path, answer.status)
        return answer.status, detail

    assert status("GET", "/fails") == (500, "this failed on the server; its log says why")
    assert status("GET", "/nowhere") == (404, "GET /nowhere: there is no such address here")
    assert status("GET", "/length") == (405, "GET /length: this address takes POST")
    assert status("POST", "/length", b"x" * 500_000)[0] == 413
    assert status("POST", "/length", iter([b"x" * 900] * 200))[0] == 413
    assert status("POST", "/length", b"x" * 500_000, {})[0] == 401
    assert status("POST", "/length", b"{")[0] == 422
    connection.request("POST", "/length", b'{"a": 1}', token | {"Content-Type": "application/json"})
    assert connection.getresponse().read() == b"1"


def test_a_failure_within_an_answer_breaks_it_off(service):
    with pytest.raises(httpx2.RemoteProtocolError):
        httpx2.get(f"{service.address}/breaks", headers={"Authorization": "Bearer secret"})


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
