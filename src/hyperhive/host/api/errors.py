"""Every refusal as an ErrorBody with a fitting status."""

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hyperhive.core.errors import HiveError
from hyperhive.wire.operator.base import ErrorBody

log = structlog.get_logger(__name__)

STATUS_BY_CODE = {
    "invalid_input": 400,
    "refused": 403,
    "not_found": 404,
    "conflict": 409,
    "too_large": 413,
    "inbox_full": 413,
    "too_many": 429,
    "driver_failed": 502,
    "unavailable": 503,
    "storage_failed": 507,
}

# What every operation may answer, for the OpenAPI document.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Refused, with a reason."},
    "5XX": {"model": ErrorBody, "description": "Failed, with a reason."},
}


def error_response(code: str, message: str, hint: str, status: int) -> JSONResponse:
    body = ErrorBody(code=code, message=message, hint=hint)
    return JSONResponse(body.model_dump(), status_code=status)


def add_error_handlers(app: FastAPI) -> None:
    """Turns our errors, FastAPI's own, unknown paths and mistakes of ours into ErrorBodies."""

    async def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HiveError)
        return error_response(error.code, error.message, error.hint, STATUS_BY_CODE.get(error.code, 500))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
        return error_response("invalid_input", f"{where}: {first['msg']}", "see /api/openapi.json", 400)

    async def other(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = "not_found" if error.status_code == 404 else "invalid_input"
        return error_response(code, str(error.detail), "see /api/openapi.json", error.status_code)

    async def failed(request: Request, error: Exception) -> JSONResponse:
        # The path was never the login's: that one is a page, and its token is in the query.
        log.error("api.failed", method=request.method, path=request.url.path, exc_info=error)
        return error_response("internal", "the daemon failed", "see its log", 500)

    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(HiveError, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, other)
