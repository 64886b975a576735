"""A custom-node pack for the test host alone: it counts how often the pack's detectors look for faces.

GET  /test_looks         how many times a detector has looked since the last reset
POST /test_looks/reset   nothing counted yet
"""

import sys

from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
LOOKS = []
COUNTED = set()


def count_looks() -> None:
    """Wrap the detectors of the pack, which the host has loaded by now under a name of its own."""
    for name, module in list(sys.modules.items()):
        if not name.endswith(".identity.recognizers.detectors") or name in COUNTED:
            continue
        COUNTED.add(name)
        for detector in (module.HogDetector, module.ScrfdDetector, module.YunetDetector):
            detector.find = counted(detector.find)


def counted(find):
    def look(self, pixels):
        LOOKS.append(pixels.shape)
        return find(self, pixels)

    return look


@PromptServer.instance.routes.get("/test_looks")
async def get_looks(request):
    return web.json_response(len(LOOKS))


@PromptServer.instance.routes.post("/test_looks/reset")
async def reset_looks(request):
    count_looks()
    LOOKS.clear()
    return web.json_response(len(COUNTED))
