"""The editor's way to the catalogue of models, below /likeness/models: what is missing for which node, and one download at a time, by its name alone.

    GET  /likeness/models            {"models": [...], "wanted": [...], "download": ..., "refused": ..., "commercial_only": ...}
    GET  /likeness/models/progress   {"download": null or {"number", "name", "stage", "done", "total", "sentence", "running"}}
    POST /likeness/models/download   {"name": a name of the catalogue}: 200 and its progress; 400 no such name, 403 not here, 409 another is under way
    POST /likeness/models/cancel     {}: 200 and the progress; what arrived is kept

A refusal is {"error": one sentence}. Posts must be JSON and come from the editor's own pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import host

if TYPE_CHECKING:
    from aiohttp import web


def register() -> None:
    """Where there is no server, nothing."""
    server = host.server_here()
    if server is None:
        return
    routes = server.routes
    routes.get("/likeness/models")(_models)
    routes.get("/likeness/models/progress")(_progress)
    routes.post("/likeness/models/download")(_download)
    routes.post("/likeness/models/cancel")(_cancel)


async def _models(request: web.Request) -> web.Response:
    from . import model_routes

    return await model_routes.models(request)


async def _progress(request: web.Request) -> web.Response:
    from . import model_routes

    return await model_routes.progress(request)


async def _download(request: web.Request) -> web.Response:
    from . import model_routes

    return await model_routes.download(request)


async def _cancel(request: web.Request) -> web.Response:
    from . import model_routes

    return await model_routes.cancel(request)
