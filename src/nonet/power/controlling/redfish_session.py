"""A session with a Redfish service: what actuator and telemetry share of the DMTF's library.

The library does the sessions; this adds what a controller needs: every request ends by its deadline and brings a
bounded body, a session that the service has forgotten is opened again, proxies and passwords of the environment are
left out, certificates are checked unless told otherwise, and what went wrong comes as one of four faults.
"""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nonet.common.errors import InputError
from nonet.power.controlling.optional import client_library
from nonet.power.controlling.pooling import Deadline

MAX_BODY_BYTES = 4 << 20
_TEXT = 200


class RedfishLogin(BaseModel):
    """How to log in; part of the sections `[actuators.redfish]` and `[telemetry]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    user: str = Field("admin", description="User of the service.")
    password_env: str = Field("REDFISH_PASSWORD", description="Variable of the environment with the password.")
    authentication: Literal["session", "basic"] = Field("session", description="How requests are authenticated.")
    ca_file: Path | None = Field(None, description="Certificates (PEM) to trust; the usual ones when left out.")
    verify_tls: bool = Field(True, description="Whether the certificate of the service is checked.")


class RedfishError(Exception):
    """Something went wrong; one line."""


class NotReachedError(RedfishError):
    """No connection: nothing was sent."""


class NotAnsweredError(RedfishError):
    """Sent, but no answer in time, or a broken connection."""


class ForbiddenError(RedfishError):
    """The service does not let us."""


class DeclinedError(RedfishError):
    """The service answered no, or with something that is not Redfish.

    Args:
        text: one line.
        status: of HTTP.
    """

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said.

    Args:
        body: of JSON.
        etag: for `If-Match`, "" when there is none.
        allow: methods that the service names, upper case; empty when it names none.
    """

    body: dict[str, Any]
    etag: str
    allow: frozenset[str]


class RedfishSession:
    """One session; for one caller at a time. Nothing is sent before the first request.

    Args:
        address: `https://host[:port]`.
        login: see there.

    Raises:
        InputError: an address that is no http(s) address, or no password in the environment.
        MissingExtraError: the library is not installed.
    """

    def __init__(self, address: str, login: RedfishLogin) -> None:
        self._where = check_address(address)
        self._login = login
        self._password = os.environ.get(login.password_env, "")
        if not self._password:
            raise InputError(f"redfish: no password; set {login.password_env} in the environment of this process")
        self._client: Any = None

    def get(self, path: str, deadline: Deadline) -> Answer:
        """Read a resource.

        Raises:
            RedfishError: one of the four.
        """
        return self._request("get", path, deadline)

    def patch(self, path: str, body: dict[str, Any], etag: str, deadline: Deadline) -> Answer:
        """Change a resource, if it still is what the ETag says.

        Raises:
            RedfishError: one of the four; DeclinedError with status 412 when it has changed meanwhile.
        """
        return self._request("patch", path, deadline, body=body, headers={"If-Match": etag} if etag else {})

    def close(self, timeout_s: float) -> None:
        """Log out, so that the service has its session back."""
        if self._client is not None:
            self._client._timeout = timeout_s  # the library's logout takes no timeout
            try:
                self._client.logout()
            except Exception:  # what cannot be logged out expires
                self.drop()
        self._client = None

    def drop(self) -> None:
        """Close the connection only."""
        if self._client is not None:
            self._client._session.close()
        self._client = None

    def _request(self, method: str, path: str, deadline: Deadline, **more: Any) -> Answer:
        fresh = self._client is None
        if fresh:
            self._open(deadline)
        where = f"{self._where}{path}"
        try:
            response = self._send(method, path, deadline, **more)
        except NotAnsweredError:
            # An idle connection that the service closed: reading again harms nobody.
            if fresh or method != "get" or deadline.over:
                raise
            response = self._send(method, path, deadline, **more)
        if response.status == 401 and not fresh and not deadline.over:
            self.drop()  # the session has expired
            self._open(deadline)
            response = self._send(method, path, deadline, **more)
        return _checked(response, where, method)

    def _send(self, method: str, path: str, deadline: Deadline, **more: Any) -> Any:
        if deadline.over:
            raise NotAnsweredError(f"{self._where}{path}: no time left for this request")
        try:
            return getattr(self._client, method)(path, timeout=deadline.left_s(), max_retry=0, **more)
        except Exception as error:  # the library wraps what requests raises, and more
            raise _translated(f"{self._where}{path}", error) from error

    def _open(self, deadline: Deadline) -> None:
        login, certificates = self._login, None
        if login.verify_tls and self._where.startswith("https://"):
            certificates = str(login.ca_file) if login.ca_file else _usual_certificates()
        library, client_class = _client_class()
        self._client = client_class(
            self._where, login.user, self._password, cafile=certificates, timeout=deadline.left_s(), max_retry=0,
            check_connectivity=False,
        )  # fmt: skip
        try:
            self._client.login(auth=login.authentication)
        except library.InvalidCredentialsError as error:
            self.drop()
            raise ForbiddenError(f"{self._where}: user {login.user} or its password is wrong") from error
        except (library.SessionCreationError, library.ServerDownOrUnreachableError, library.JsonDecodingError) as error:
            self.drop()
            raise DeclinedError(f"{self._where}: no session: {_one_line(str(error))}", 503) from error
        except Exception as error:
            self.drop()
            raise _translated(self._where, error) from error


def check_address(address: str) -> str:
    """An address without its last slash.

    Raises:
        InputError: it is no http(s) address.

    >>> check_address("https://bmc7/")
    'https://bmc7'
    """
    if not address.startswith(("http://", "https://")) or not address.partition("://")[2].strip("/"):
        raise InputError(f"redfish: address {address!r} must be https://host[:port]")
    return address.rstrip("/")


@functools.cache
def _client_class() -> tuple[Any, type]:
    with client_library("Redfish needs the library redfish"):
        from redfish.rest import v1 as library
    from requests.adapters import HTTPAdapter
    from requests.exceptions import ContentDecodingError, ReadTimeout

    class BoundedAdapter(HTTPAdapter):
        """Reads bodies itself, up to a size and a moment."""

        def send(self, request: Any, stream: bool = False, timeout: Any = None, *arguments: Any, **more: Any) -> Any:
            deadline = Deadline(timeout)
            response = super().send(request, True, timeout, *arguments, **more)
            body = bytearray()
            while chunk := response.raw.read1(1 << 16, decode_content=True):
                body += chunk
                if len(body) > MAX_BODY_BYTES or deadline.over:
                    response.close()
                    if deadline.over:
                        raise ReadTimeout("the answer comes too slowly")
                    raise ContentDecodingError(f"the answer is longer than {MAX_BODY_BYTES} bytes")
            response._content, response._content_consumed = bytes(body), True
            return response

    class Client(library.HttpClient):
        """The library's client on bounded connections of its own."""

        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            self._session.trust_env = False
            self._session.mount("http://", BoundedAdapter())
            self._session.mount("https://", BoundedAdapter())

    return library, Client


def _usual_certificates() -> str:
    from requests.certs import where

    return os.environ.get("SSL_CERT_FILE") or where()


def _checked(response: Any, where: str, method: str) -> Answer:
    status = response.status
    if status in (401, 403):
        raise ForbiddenError(f"{where}: {status}: the user has no right to {method} this")
    if status >= 400:
        text = f"{where}: {status} {_message(response)}".rstrip()
        raise NotAnsweredError(text) if status in (500, 502, 504) else DeclinedError(text, status)
    try:
        body = json.loads(response.text) if response.text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise DeclinedError(f"{where}: answered with something that is no JSON", status) from error
    if not isinstance(body, dict):
        raise DeclinedError(f"{where}: answered with something that is no JSON object", status)
    etag = response.getheader("ETag") or body.get("@odata.etag") or ""
    methods = (response.getheader("Allow") or "").upper().split(",")
    return Answer(body, str(etag), frozenset(name.strip() for name in methods if name.strip()))


def _message(response: Any) -> str:
    """What a Redfish error says, or the start of any other text."""
    try:
        error = json.loads(response.text)["error"]
        details = error.get("@Message.ExtendedInfo") or [{}]
        text = details[0].get("Message") or error.get("message") or ""
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        text = response.text
    return _one_line(str(text))


def _translated(where: str, error: Exception) -> RedfishError:
    from requests import exceptions

    cause = error.__cause__ if error.__cause__ is not None else error
    reason = getattr(cause.args[0], "reason", None) if cause.args else None
    if isinstance(cause, exceptions.SSLError):
        return NotReachedError(f"{where}: {_one_line(str(reason or cause))}; give ca_file, or set verify_tls = false")
    never = type(reason).__name__ in ("NewConnectionError", "NameResolutionError")
    if never or isinstance(cause, exceptions.ConnectTimeout):
        return NotReachedError(f"{where}: no connection; is the BMC up and the address right?")
    if isinstance(cause, exceptions.ContentDecodingError):
        return DeclinedError(f"{where}: {_one_line(str(cause))}")
    if isinstance(cause, exceptions.Timeout):
        return NotAnsweredError(f"{where}: no answer in time")
    return NotAnsweredError(f"{where}: {type(cause).__name__}: {_one_line(str(cause))}")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_TEXT]
