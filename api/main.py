"""The application: `create_app(settings)`."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from api import choices, errors, jobs, page, routes
from api.body import BodyLimit
from api.headers import SafeHeaders
from api.service import Service
from core.settings import Settings

DESCRIPTION = """Send a photograph, get it painted.

    curl -F image=@cat.jpg 'localhost:8000/stylize?arch=aonet&style=wave&dataset=coco' -o painted.png
"""


def create_app(settings: Settings) -> FastAPI:
    """The service with these settings; its documentation at /docs needs no other host."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(settings)
        app.state.service = service
        # A thread, so that /livez answers while a first conversion takes its seconds.
        warming = threading.Thread(target=service.warm, name="warm", daemon=True)
        warming.start()
        yield
        service.close()
        warming.join()  # a process that ends inside the compiler aborts

    app: FastAPI = FastAPIOffline(
        title="Impasto", description=DESCRIPTION, version=version("impasto"), redoc_url=None, lifespan=lifespan
    )
    app.state.stopping = threading.Event()  # set by whoever runs the server: streams without an end then have one
    for part in (page.router, choices.router, routes.router, jobs.router if settings.jobs else jobs.none):
        app.include_router(part)
    app.mount("/web", page.compressed)
    app.add_middleware(BodyLimit, max_bytes=settings.max_bytes, larger={"/jobs": settings.max_upload})
    app.add_middleware(SafeHeaders)
    errors.install(app)
    return app
