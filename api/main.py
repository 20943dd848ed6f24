"""The application: `create_app(settings)`."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware

from impasto.api import errors
from impasto.api.metrics import Metrics
from impasto.api.middleware.access import Access
from impasto.api.middleware.body_limit import BodyLimit
from impasto.api.middleware.form_type import Utf8Multipart
from impasto.api.middleware.head_and_slash import HeadAndSlash
from impasto.api.middleware.headers import SafeHeaders
from impasto.api.middleware.request_log import Requests
from impasto.api.openapi import declare_keys
from impasto.api.routers import health, jobs, meta, models, stylize
from impasto.api.services.streams import Streams
from impasto.api.services.studio import Studio
from impasto.api.services.submissions import PARTS, Submissions
from impasto.core.errors import BadParameter, Forbidden, TooMany, Unauthorized
from impasto.core.settings import Settings

DESCRIPTION = """Send a photograph, get it painted.

    curl -F image=@cat.jpg 'localhost:8000/stylize?arch=aonet&style=wave&dataset=coco' -o painted.png
"""


def create_app(settings: Settings) -> FastAPI:
    """The service with these settings; its documentation at /docs needs no other host."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        studio = Studio(settings)
        submissions = Submissions(settings, studio)
        app.state.studio, app.state.submissions = studio, submissions
        app.state.parsing = asyncio.Lock()  # of forms: one piece in each turn of the event loop
        app.state.metrics.watch(studio, submissions)
        # A thread, so that /livez answers while a first conversion takes its seconds.
        warming = threading.Thread(target=studio.warm, name="warm", daemon=True)
        warming.start()
        yield
        await asyncio.to_thread(studio.close)  # meanwhile requests that were cancelled are answered
        await asyncio.to_thread(submissions.close)
        await asyncio.to_thread(warming.join)  # a process that ends inside the compiler aborts

    about: dict[str, Any] = {
        "title": "Impasto",
        "description": DESCRIPTION,
        "version": version("impasto"),
        "lifespan": lifespan,
        "responses": errors.answers(Unauthorized, Forbidden, BadParameter, TooMany),
        "redirect_slashes": False,  # `HeadAndSlash` serves them
        "form_limits": {"max_files": PARTS, "max_fields": PARTS},
    }
    app: FastAPI = FastAPIOffline(**about, redoc_url=None) if settings.docs else FastAPI(**about, openapi_url=None)
    app.state.metrics = Metrics()
    app.state.streams = Streams()
    app.state.stopping = threading.Event()  # set by whoever runs the server, to end the streams of events
    slow = jobs.router if settings.jobs else jobs.none
    for router in (meta.router, stylize.router, models.router, slow, health.router):
        app.include_router(router)
    app.mount("/web", meta.compressed)
    _add_middleware(app, settings)
    errors.install(app)
    declare_keys(app, required=bool(settings.keys))
    return app


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """Each is called before the ones that were added before it."""
    app.add_middleware(Utf8Multipart)
    app.add_middleware(
        BodyLimit,
        settings.max_bytes,
        larger={"/jobs": settings.max_upload},
        together=settings.max_held,
        requests=settings.connections_of_one,
    )
    app.add_middleware(Access, settings=settings)
    if origins := settings.listed("origins"):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Idempotency-Key", "Last-Event-ID", "X-Request-ID"],
            expose_headers=[
                "Impasto-Painted",
                "Impasto-Picture",
                "Location",
                "Retry-After",
                "Server-Timing",
                "X-Request-ID",
            ],
        )
    app.add_middleware(HeadAndSlash)
    app.add_middleware(SafeHeaders)
    app.add_middleware(Requests, metrics=app.state.metrics)
