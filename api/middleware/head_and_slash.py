"""Requests as people send them: `/stylize/` goes where `/stylize` goes, and HEAD wherever GET goes."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAndSlash:
    """ASGI middleware. It stands before access control, which therefore sees what the router sees."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)

        if scope["type"] == "http":
            scope["path"] = scope["path"].rstrip("/") or "/"
            if scope["method"] == "HEAD" and not scope["path"].endswith("/events"):  # a stream has no end to wait for
                scope.setdefault("state", {})["head"] = True  # for a route that would read a file in vain
                await self.app({**scope, "method": "GET"}, receive, without_body)
                return
        await self.app(scope, receive, send)
