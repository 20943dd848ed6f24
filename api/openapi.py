"""Keys in the OpenAPI description, so that /docs has a field for one."""

from functools import cache
from typing import Any

from fastapi import FastAPI

from impasto.api.middleware.access import needed

SCHEME = {"type": "http", "scheme": "bearer", "description": "a key of this service, from `impasto keys add`"}


def declare_keys(app: FastAPI, required: bool) -> None:
    """Let the description say which operations take a key, and whether one is `required`."""
    plain = app.openapi

    @cache
    def openapi() -> dict[str, Any]:
        schema = plain()
        schema["components"]["securitySchemes"] = {"key": SCHEME}
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                if needed(method.upper(), path):
                    operation["security"] = [{"key": []}] if required else [{"key": []}, {}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way, "Extending OpenAPI"
