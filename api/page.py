"""The page at `/` and its files, as they lie in `web/`."""

import os
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

WEB = Path(__file__).parent / "web"

router = APIRouter()


class Files(StaticFiles):
    """A browser asks each time whether what it has is current, by its ETag: names have no version in them."""

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers["Cache-Control"] = "no-cache"
        return response


files = Files(directory=WEB)
compressed = GZipMiddleware(files)


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    return await files.get_response("index.html", request.scope)
