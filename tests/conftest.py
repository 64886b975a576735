"""Test harness: the repository root is a ComfyUI pack, so pytest must never import its `__init__.py` or put the root on sys.path.

Host-free tests import `character_likeness.nodes...` straight from the working tree. Tests marked `host` get a running ComfyUI by the fixture
`comfy`, tests marked `browser` an editor on it by tests/browser/editor.py.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from tests.browser.editor import chromium

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "character_likeness"


class _RootIsNoPackage:
    """Without this, pytest imports the root `__init__.py` in every import mode (pytest.Package)."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path, parent):
        if Path(path) == ROOT:
            return pytest.Dir.from_parent(parent, path=path)
        return None


def comfyui_root() -> Path | None:
    """The ComfyUI to test in: COMFYUI_ROOT, else comfy-cli's default place; None where there is none."""
    root = Path(os.environ.get("COMFYUI_ROOT") or Path.home() / "comfy" / "ComfyUI")
    return root if (root / "comfyui_version.py").is_file() else None


def make_package_importable() -> None:
    """`character_likeness.nodes...` is the working tree, without running the root `__init__`."""
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(ROOT)]
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)


def pytest_configure(config):
    config.pluginmanager.register(_RootIsNoPackage(), "likeness-root")
    make_package_importable()
    # A user's own settings must not decide what the tests see.
    for name in ("LIKENESS_COMMERCIAL_ONLY", "LIKENESS_ALLOW_DOWNLOADS", "HF_TOKEN", "HUGGINGFACE_TOKEN"):
        os.environ.pop(name, None)
    if importlib.util.find_spec("hypothesis"):
        from hypothesis import settings

        # The first example of a test may import scipy, and a busy machine is not a failure.
        settings.register_profile("likeness", deadline=None)
        settings.load_profile("likeness")


def pytest_collection_modifyitems(config, items):
    missing = {
        "dlib": _absent("dlib", "face_recognition_models"),
        "insightface": _absent("insightface", "onnxruntime", "onnx"),
        "torch": _absent("torch"),
        "host": _absent("torch") or (None if comfyui_root() else "no ComfyUI at COMFYUI_ROOT or ~/comfy/ComfyUI"),
    }
    missing["browser"] = missing["host"] or _absent("playwright") or (None if chromium() else "no Chromium at /usr/bin/chromium or CHROMIUM")
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _absent(*packages: str) -> str | None:
    gone = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(gone)}" if gone else None


def package_file(package: str, *parts: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"not installed: {package}")
    return Path(spec.origin).parent.joinpath(*parts)


@pytest.fixture(scope="session")
def comfy(tmp_path_factory):
    """One running ComfyUI for all host and browser tests (tests/host/comfy.py)."""
    from tests.host.comfy import Comfy

    host = Comfy(comfyui_root(), ROOT, tmp_path_factory.mktemp("comfy"), extra=(ROOT / "tests" / "tiny" / "qwen_host",))
    yield host
    host.stop()


@pytest.fixture(scope="session")
def qwen(comfy):
    """The host with tiny Qwen-Image models, encoders, VAEs and LoRAs under their real names (tests/tiny/qwen_models.py)."""
    from tests.tiny.qwen_models import write_all

    write_all(comfy.base / "models")
    return comfy


@pytest.fixture(scope="session")
def flux(comfy):
    """The host with tiny Flux models, encoders, a VAE and IP-Adapters under their real names (tests/tiny/flux_models.py)."""
    from tests.tiny.flux_models import write_all

    write_all(comfy.base / "models")
    return comfy


# --- the photographs and recognizers that several rooms are tested with; what they find is remembered for the whole session ---


@pytest.fixture(scope="session")
def dlib_recognizer():
    from character_likeness.nodes.identity.recognizers import open_recognizer

    return open_recognizer("dlib")


@pytest.fixture(scope="session")
def group():
    """Six people in one photograph, 1280x886."""
    from character_likeness.nodes.pictures import read_picture

    return read_picture(package_file("insightface", "data", "images", "t1.jpg"))


@pytest.fixture(scope="session")
def people(group, dlib_recognizer):
    """Each of the six alone, from left to right."""
    from character_likeness.nodes.demo import people

    return people(group, dlib_recognizer)


@pytest.fixture(scope="session")
def variants(people):
    """For each of the six the picture as it is, mirrored, blurred, darkened, badly compressed and made small."""
    from character_likeness.nodes.demo import altered

    return [{"as it is": person, **altered(person)} for person in people]


@pytest.fixture(scope="session")
def identities(people, dlib_recognizer):
    """The six people, each from one reference."""
    from character_likeness.nodes.identity.identity import build_identity

    return [build_identity([person], dlib_recognizer, f"person {i}") for i, person in enumerate(people, 1)]


@pytest.fixture(scope="session")
def face_packs():
    """tests/tiny/face_packs.py: painted faces, and models that know them."""
    spec = importlib.util.spec_from_file_location("face_packs", ROOT / "tests" / "tiny" / "face_packs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory, face_packs):
    """A models folder with the packs buffalo_l, antelopev2 and auraface."""
    folder = tmp_path_factory.mktemp("models")
    for name in face_packs.PACKS:
        face_packs.write_pack(folder / "insightface" / "models" / name, name)
    return folder


@pytest.fixture(scope="session")
def buffalo(models_dir):
    from character_likeness.nodes.identity.recognizers import open_recognizer

    return open_recognizer("buffalo_l", models_dir)


# --- the hosts' photographs, and the host with ReActor ---


@pytest.fixture(scope="session")
def cast():
    """The six people of insightface's group photograph, left to right, and the whole photograph last."""
    from character_likeness.nodes import demo
    from character_likeness.nodes.identity.recognizers import open_recognizer

    group = demo.photograph("insightface", "data", "images", "t1.jpg")
    return [*demo.people(group, open_recognizer("dlib")), group]


@pytest.fixture(scope="session")
def reactor(tmp_path_factory):
    """A host of its own with the real ComfyUI-ReActor pack on tiny models (tests/host/reactor.py)."""
    from tests.host.reactor import absent, start

    if reason := absent():
        pytest.skip(reason)
    host = start(tmp_path_factory.mktemp("reactor"))
    yield host
    host.stop()


@pytest.fixture(scope="session")
def judge(buffalo):
    """Who is in a picture of painted faces, by buffalo_l."""
    from tests.host.reactor import Judge

    return Judge(buffalo)
