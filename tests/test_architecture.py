"""The house keeps its rules: who may import whom, what a start-up may load, what the package contains, and what stands beside every node and workflow."""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from tests.browser.help_graphs import PAGES, described_as, drawing, links, page_file, picture_file, places, titles
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
        "nodes/model_routes.py",
        "nodes/routes.py",
        "nodes/lora_dataset/sweep_showing.py",
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


def test_every_help_page_shows_the_picture_of_what_it_draws_below_its_first_paragraph():
    for name in PAGES:
        title, _, shown, *_ = page_file(name).read_text(encoding="utf-8").split("\n\n")
        alt, file = re.fullmatch(r'!\[([^]"]{30,})\]\((.+)\)', shown).groups()
        assert alt.startswith(title.removeprefix("# ")), name
        assert file == picture_file(name).name
        with Image.open(picture_file(name)) as picture:
            assert picture.format == "WEBP" and 500 <= picture.width <= 900, name
            said = picture.getexif()[ExifTags.Base.ImageDescription]
        assert said == described_as(name), f"{name} draws another graph than its picture: python -m tests.browser.help_pictures {name}"


def test_the_help_pictures_are_small_and_none_is_of_no_page():
    files = [path for path in (ROOT / "js" / "docs").iterdir() if path.suffix != ".md"]
    assert {path.name for path in files} == {picture_file(name).name for name in PAGES}
    sizes = {path.name: path.stat().st_size for path in files}
    assert {name: size for name, size in sizes.items() if size >= 40_000} == {}
    assert sum(sizes.values()) < 900_000


@pytest.mark.parametrize("name", PAGES)
def test_what_a_help_page_draws_is_around_its_node_and_leads_to_the_right_without_overlap(name):
    graph = links(drawing(name))
    title = page_file(name).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert any(each == title or each.startswith(f"{title} (") for each in titles(graph))
    sizes = {each: (200 + 10 * index, 300 - 10 * index) for index, each in enumerate(titles(graph))}
    placed = places(graph, sizes, [(20, 20)] * len(graph))
    assert placed.keys() == sizes.keys()
    assert all(placed[link.source][0] + sizes[link.source][0] < placed[link.target][0] for link in graph)
    boxes = [(x, y, x + width, y + sizes[each][1]) for each, (x, y, width) in placed.items()]
    assert not [(a, b) for a, b in combinations(boxes, 2) if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]


@pytest.mark.parametrize(
    "text", ["  IMAGE ─> Identity Gate", "Load Image ─> Identity Gate", "Load Image\n  IMAGE ─ face > Character References", "Load Image\n  IMAGE"]
)
def test_a_drawing_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="neither a node nor an output of one"):
        links(text)


def test_every_workflow_has_a_thumbnail_and_names_only_known_inputs():
    for path in (ROOT / "example_workflows").glob("*.json"):
        assert path.with_suffix(".jpg").is_file()
        assert json.loads(path.read_text(encoding="utf-8"))["nodes"]
