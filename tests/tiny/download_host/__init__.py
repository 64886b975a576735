"""A custom-node pack for the test host alone: it gives models of the catalogue other, tiny files, and sends their downloads to a server on this machine.

POST /test_downloads   {"endpoint": "http://127.0.0.1:1234", "models": {"siglip-so400m": {"a.safetensors": {"size": 9, "sha256": "..."}}}}
"""

import sys
from dataclasses import replace
from importlib import import_module

from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.post("/test_downloads")
async def arrange(request):
    given = await request.json()
    # The name under which the host has imported the pack depends on where it lies.
    pack = next(name for name in sys.modules if name.endswith(".nodes.routes")).removesuffix("routes")
    routes, package = import_module(f"{pack}model_routes"), import_module(f"{pack}model_files")
    routes.downloads.endpoint = given["endpoint"]
    for name, files in given["models"].items():
        entry = package.CATALOGUE[name]
        made = tuple(package.ModelFile(filename, package.WebFile(f"https://models.invalid/{filename}"), **sizes) for filename, sizes in files.items())
        package.CATALOGUE[name] = replace(entry, files=made)
    return web.json_response({})
