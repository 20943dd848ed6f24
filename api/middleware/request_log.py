"""The id of each request, its line in the log, and its figures."""

import asyncio
import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Match, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from impasto.api.errors import LEFT, answer, flat
from impasto.api.metrics import Metrics
from impasto.api.middleware.access import HEALTH
from impasto.core.errors import Stopping
from impasto.core.logs import request_id

WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")

log = logging.getLogger("impasto.requests")


class Requests:
    """ASGI middleware. It logs the route instead of the path, as ids of jobs are secrets."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        id = sent if WELL_FORMED.fullmatch(sent) else secrets.token_hex(8)
        request_id.set(id)  # for this request's task, and what it starts
        begun = time.perf_counter()
        status, size, first = LEFT, 0, 0.0

        async def noted(message: Message) -> None:
            nonlocal status, size, first
            if message["type"] == "http.response.start":
                status, first = message["status"], time.perf_counter() - begun
                MutableHeaders(scope=message)["X-Request-ID"] = id
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except asyncio.CancelledError:  # by the server, after IMPASTO_GRACE seconds of stopping
            if first:
                raise
            await answer(Stopping())(scope, receive, noted)
        except Exception:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - begun
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = _route(scope)
            self.metrics.request(method, route, status, first or seconds)
            if scope["path"] not in HEALTH:
                facts = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
                caller = scope.get("state", {}).get("caller")
                facts |= {"bytes": size, "client": scope["client"][0] if scope.get("client") else None}
                facts |= {"caller": caller.name} if caller and caller.name else {}
                log.info("request", extra={"facts": facts})


def _route(scope: Scope) -> str:
    """The declared path of the request's route, also of a request that was refused before it came there."""
    declared = (route for route in flat(scope["app"].routes) if isinstance(route, Route | Mount))
    route = scope.get("route") or next((route for route in declared if route.matches(scope)[0] != Match.NONE), None)
    return route.path if route else "none"
