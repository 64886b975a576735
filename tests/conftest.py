"""Test harness: the repository root is a ComfyUI pack, so pytest must never import its `__init__.py` or put the root on sys.path.

Host-free tests import `character_likeness.nodes...` straight from the working tree. Tests marked `host` get a running ComfyUI through the
fixtures of tests/host/conftest.py, tests marked `browser` an editor through tests/browser/conftest.py.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

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


def pytest_configure(config):
    config.pluginmanager.register(_RootIsNoPackage(), "likeness-root")
    spec = ModuleSpec(PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(ROOT)]
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    # A user's own settings must not decide what the tests see.
    for name in ("LIKENESS_COMMERCIAL_ONLY", "HF_TOKEN", "HUGGINGFACE_TOKEN"):
        os.environ.pop(name, None)


def pytest_collection_modifyitems(config, items):
    missing = {
        "dlib": _absent("dlib", "face_recognition_models"),
        "insightface": _absent("insightface", "onnxruntime", "onnx"),
        "torch": _absent("torch"),
        "host": _absent("torch") or (None if comfyui_root() else "no ComfyUI at COMFYUI_ROOT or ~/comfy/ComfyUI"),
    }
    missing["browser"] = missing["host"] or _absent("playwright")
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
