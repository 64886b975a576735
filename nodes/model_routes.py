"""What the routes of routes.py answer: which models are missing, whom a download is refused, and one download at a time. Imported at the first request."""

import asyncio
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import folder_paths
from aiohttp import web
from comfy.cli_args import args

from . import host
from .errors import LikenessError
from .flux.nodes import FOLDERS, NO_ADAPTERS, NO_ENCODERS
from .identity.masks import mediapipe_is_here
from .identity.recognizers.catalogue import dlib_installed
from .installation import pip_command, switched_on
from .model_files import CATALOGUE, BusyError, Downloads, ModelEntry, entry, human_size

ALLOW_VARIABLE = "LIKENESS_ALLOW_DOWNLOADS"
# A name and its JSON around it.
MOST_BYTES = 4096
# The host's kinds of folders in which a file may lie besides the catalogue's own, those of extra_model_paths.yaml included.
KINDS = {"xlabs/ipadapters": tuple(FOLDERS), "ipadapter-flux": tuple(FOLDERS), "clip_vision": ("clip_vision",)}

downloads = Downloads()


@dataclass(frozen=True)
class Want:
    """A node of class `node` uses `model` while its inputs have one of the values in `when` and nothing is wired to those in `unwired`.

    needed: it does not run without, else it does less well.
    """

    node: str
    model: str
    when: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unwired: tuple[str, ...] = ()
    needed: bool = True


_XLABS_V1, _XLABS_V2, _INSTANTX = (CATALOGUE[name].files[0].filename for name in ("flux-ip-adapter", "flux-ip-adapter-v2", "flux-ip-adapter-instantx"))
_CLIP, _SIGLIP = (CATALOGUE[name].files[0].filename for name in ("clip-vit-large-patch14", "siglip-so400m"))
_LOADER, _FLUX = "LikenessLoadRecognizer", "LikenessLoadFluxIPAdapter"
_WITHOUT_DLIB = (
    Want(_LOADER, "auraface", {"recognizer": ("auto",)}),
    Want("LikenessBuildIdentity", "auraface", unwired=("recognizer",)),
)
_WANTED = (
    *(Want(_LOADER, name, {"recognizer": (name,)}) for name in ("auraface", "buffalo_l", "antelopev2")),
    Want("LikenessFaceSwap", "buffalo_l"),
    Want("LikenessFaceCrop", "mediapipe-face-detector", unwired=("identity", "recognizer")),
    *(
        Want(node, model, needed=False)
        for node in ("LikenessFaceCrop", "LikenessDatasetAudit")
        for model in ("mediapipe-face-detector", "mediapipe-face-landmarker", "mediapipe-pose-landmarker")
    ),
    Want("LikenessCharacterMask", "mediapipe-face-landmarker", unwired=("landmarks",), needed=False),
    Want("LikenessCharacterMask", "mediapipe-selfie-multiclass", {"area": ("hair and face",)}, needed=False),
    # Where there is no adapter at all, the smaller download of the better one.
    Want(_FLUX, "flux-ip-adapter-v2", {"ipadapter": (NO_ADAPTERS, _XLABS_V2)}),
    Want(_FLUX, "flux-ip-adapter", {"ipadapter": (_XLABS_V1,)}),
    Want(_FLUX, "flux-ip-adapter-instantx", {"ipadapter": (_INSTANTX,)}),
    Want(_FLUX, "clip-vit-large-patch14", {"clip_vision": (_CLIP,)}),
    Want(_FLUX, "clip-vit-large-patch14", {"clip_vision": (NO_ENCODERS,), "ipadapter": (NO_ADAPTERS, _XLABS_V1, _XLABS_V2)}),
    Want(_FLUX, "siglip-so400m", {"clip_vision": (_SIGLIP,)}),
    Want(_FLUX, "siglip-so400m", {"clip_vision": (NO_ENCODERS,), "ipadapter": (_INSTANTX,)}),
)


def _refused() -> str:
    """Why nobody may download here, or nothing."""
    if args.multi_user and not switched_on(ALLOW_VARIABLE):
        return f"Downloads are off in multi-user mode; whoever runs this ComfyUI can fetch the model in a terminal, or start it with {ALLOW_VARIABLE}=1."
    return ""


def _answer(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


async def _posted(request: web.Request) -> dict | web.Response:
    """The JSON object of a post, or its refusal. A page of another site can send neither this content type nor, in a browser, its own origin unseen."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site != "same-origin" if site else origin and urlsplit(origin).netloc.lower() != request.host.lower():
        return _answer(403, "This was asked by a page of another site; use the buttons in the editor of this ComfyUI.")
    if refused := _refused():
        return _answer(403, refused)
    if request.content_type != "application/json":
        return _answer(415, f"The content type is {request.content_type}; send application/json.")
    # Without a length it could be of any length.
    if request.content_length is not None and request.content_length <= MOST_BYTES:
        try:
            posted = await request.json()
        except (ValueError, RecursionError):
            posted = None
        if isinstance(posted, dict):
            return posted
    return _answer(400, f'The request is no JSON object of at most {MOST_BYTES} bytes; send {{"name": "auraface"}}.')


async def models(request: web.Request) -> web.Response:
    # Looking for files can take long on a network drive.
    return web.json_response(await asyncio.to_thread(_overview))


async def progress(request: web.Request) -> web.Response:
    return web.json_response(_told())


async def download(request: web.Request) -> web.Response:
    posted = await _posted(request)
    if isinstance(posted, web.Response):
        return posted
    try:
        item = entry(str(posted.get("name")))
        if not item.commercial and await asyncio.to_thread(host.commercial_only):
            return _answer(403, f"{item.title} is not cleared for commercial use ({item.licence}) and 'commercial use only' is on; turn it off to download it.")
        await asyncio.to_thread(downloads.start, item.name, host.models_dir())
    except BusyError as error:
        return _answer(409, str(error))
    except LikenessError as error:
        return _answer(400, str(error))
    return web.json_response(_told())


async def cancel(request: web.Request) -> web.Response:
    posted = await _posted(request)
    if isinstance(posted, web.Response):
        return posted
    downloads.stop()
    return web.json_response(_told())


def _told() -> dict:
    state = downloads.state
    return {"download": None if state is None else asdict(state) | {"running": state.running}}


def _overview() -> dict:
    """Everything that the editor shows of the catalogue; looks for each file, so not for the event loop."""
    wanted = [*_WANTED, *(() if dlib_installed() else _WITHOUT_DLIB)]
    return {
        "models": [_row(item) for item in CATALOGUE.values()],
        "wanted": [asdict(want) for want in wanted],
        "refused": _refused(),
        "commercial_only": host.commercial_only(),
        **_told(),
    }


def _row(item: ModelEntry) -> dict:
    """size: of all its files, to_download: of those that are missing, both for people; begun: whether a part of them lies there from an earlier try.

    folder: below ComfyUI's models; package: what else it needs to be of use.
    """
    kinds = KINDS.get(item.folder, ())
    gone = [name for name in item.missing(host.models_dir()) if not any(folder_paths.get_full_path(kind, name) for kind in kinds)]
    size = sum(file.size for file in item.files if set(file.provides) & set(gone))
    package = ""
    if item.folder == "mediapipe" and not mediapipe_is_here():
        install = pip_command('install "mediapipe<1"')
        package = f"MediaPipe below 1.0 is not installed: run `{install}`."
    return {
        "name": item.name,
        "title": item.title,
        "what": item.what,
        "files": [name for file in item.files for name in file.provides],
        "missing": gone,
        "present": not gone,
        "size": human_size(item.total_size),
        "to_download": human_size(size),
        "begun": any(Path(host.models_dir(), item.folder, f"{file.filename}.part").is_file() for file in item.files),
        "licence": item.licence,
        "commercial": item.commercial,
        "page": item.page,
        "folder": f"models/{item.folder}",
        "package": package,
        "nodes": sorted({want.node for want in (*_WANTED, *_WITHOUT_DLIB) if want.model == item.name}),
    }
