"""The house keeps its rules: who may import whom, what a start-up may load, and what the package contains."""

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Loaded where first used: none of these may come with the import of the engine.
HEAVY = ("cv2", "dlib", "insightface", "onnxruntime", "onnx", "mediapipe", "scipy", "huggingface_hub", "httpx", "websockets", "torch", "tqdm", "safetensors")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The pack under its import name, without tests beside it."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "nodes", folder / "character_likeness" / "nodes", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "__init__.py", folder / "character_likeness")
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(importlib.util.find_spec("importlinter") is None, reason="not installed: import-linter")
def test_the_import_rules_hold(copy):
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


def test_every_module_of_the_engine_is_under_a_rule():
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    named = [module for contract in contracts if contract["type"] == "forbidden" for module in contract["source_modules"]]
    about_the_host = {
        "nodes/extension.py",
        "nodes/host.py",
        "nodes/sampling.py",
        "nodes/routes.py",
        "nodes/lora_dataset/sweep_studio.py",
        *(f"nodes/scene/{name}.py" for name in ("filming", "render", "wired")),
    }
    about_the_host |= {"nodes/flux/injection.py", "nodes/flux/vision.py"}
    about_the_host |= {str(path.relative_to(ROOT)) for path in ROOT.glob("nodes/*/*nodes.py")}
    for path in ROOT.glob("nodes/**/*.py"):
        relative = path.relative_to(ROOT)
        if str(relative) in about_the_host or path.stat().st_size == 0:
            continue
        module = ".".join(("character_likeness", *relative.with_suffix("").parts)).removesuffix(".__init__")
        assert any(module == name or module.startswith(f"{name}.") for name in named), module


def test_importing_the_engine_loads_nothing_heavy(copy):
    code = (
        "import sys; sys.path.insert(0, '.')\n"
        "import character_likeness.nodes.identity.scoring, character_likeness.nodes.identity.drawing, character_likeness.nodes.identity.masks\n"
        "import character_likeness.nodes.terminal, character_likeness.nodes.model_files\n"
        "import character_likeness.nodes.scene.shots, character_likeness.nodes.scene.takes, character_likeness.nodes.lora_files\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert python(code, copy).strip() == "[]"


def test_the_packages_named_are_those_of_the_tree():
    folders = {path.parent for path in ROOT.glob("nodes/**/*.py")}
    found = {".".join(("character_likeness", *folder.relative_to(ROOT).parts)) for folder in folders} | {"character_likeness"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_data_files_of_the_engine_are_packaged():
    data = {path for path in ROOT.glob("nodes/**/*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    data |= set(ROOT.glob("example_workflows/api/*.json"))
    patterns = [(package, file) for package, files in PROJECT["tool"]["setuptools"]["package-data"].items() for file in files]
    named = {path for package, file in patterns for path in ROOT.joinpath(*package.split(".")[1:]).glob(file)}
    assert data == named


def test_the_installed_package_has_no_top_level_nodes_and_one_command():
    # A build leaves its own metadata in the checkout, which is on the path here: that is not an installation.
    found = [known for known in importlib.metadata.distributions(name="character-likeness") if Path(known.locate_file("")).resolve() != ROOT]
    if not found:
        pytest.skip("character-likeness is not installed here")
    installed = found[0]
    tops = {file.parts[0] for file in installed.files}
    assert "nodes" not in tops
    assert {(entry.name, entry.value) for entry in installed.entry_points} == {("likeness", "character_likeness.nodes.terminal:main")}


def test_a_wheel_contains_the_package_and_nothing_else(tmp_path):
    if importlib.util.find_spec("setuptools") is None or int(importlib.metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("not installed: setuptools 77 or newer")
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", "__pycache__", "build", "*.egg-info", ".*cache"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import zipfile

    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"character_likeness"}
    assert "character_likeness/nodes/identity/report.schema.json" in names
    assert not any("tests/" in name for name in names)
    # What `likeness run` runs is in it, the editor's workflows and their pictures are not.
    workflows = {name.removeprefix("character_likeness/") for name in names if "example_workflows" in name}
    assert workflows == {str(path.relative_to(ROOT)) for path in ROOT.glob("example_workflows/api/*.json")}


def test_torch_and_onnxruntime_gpu_stay_out_of_the_dependencies_and_the_gpu_build_comes_last():
    dependencies = " ".join(PROJECT["project"]["dependencies"])
    assert "torch" not in dependencies and "onnxruntime" not in dependencies and "opencv" not in dependencies
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert lines[-1].startswith("onnxruntime-gpu;")
    assert not any(line.startswith(("torch", "opencv")) or line.startswith("numpy=") for line in lines)
    assert sum(line.startswith("mediapipe>=0.10.30,<1") for line in lines) == 1


def test_the_registry_fields_are_there():
    comfy = PROJECT["tool"]["comfy"]
    assert comfy["DisplayName"] and comfy["PublisherId"] and comfy["requires-comfyui"] == ">=0.33.0"
    assert "web" not in comfy
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")


def test_every_node_has_a_help_page_and_every_page_a_node():
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("nodes/*/*nodes.py"))
    ids = {part.split('"')[0] for part in source.split('node_id="')[1:]}
    assert {path.stem for path in (ROOT / "js" / "docs").glob("*.md")} == ids
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"js/docs/{name}.md" in readme for name in ids)


def test_every_workflow_has_a_thumbnail_and_names_only_known_inputs():
    for path in (ROOT / "example_workflows").glob("*.json"):
        assert path.with_suffix(".jpg").is_file()
        assert json.loads(path.read_text(encoding="utf-8"))["nodes"]
