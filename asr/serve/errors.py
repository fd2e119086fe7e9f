"""What the service says when it cannot do what was asked: OpenAI's shape of errors, HTTP's codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """An answer other than the one hoped for.

    Parameters
    ----------
    status : int
        HTTP status code.
    message : str
        For people: what is wrong and what to do.
    code : str
        For programs.
    param : str, optional
        The field of the request that is at fault.
    headers : mapping, optional
        Of the response, such as ``Retry-After``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """``{"error": {"message", "type", "param", "code"}}``."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the answer to send."""
        return JSONResponse(self.body, self.status, self.headers)


def internal_error() -> ApiError:
    """Return the answer for a fault of ours; what it was stands in the log of the server."""
    return ApiError(500, "the server failed on this request; its log says why", "internal_error")
