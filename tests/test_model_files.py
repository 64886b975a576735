"""Model files: what the catalogue promises, and downloads from a server on this machine (Range, cut connections, a make-believe Hugging Face)."""

import errno
import hashlib
import io
import pickle
import random
import re
import stat
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import pytest

from character_likeness.nodes import installation, model_files
from character_likeness.nodes.errors import DownloadError, InputError, MissingModelError
from character_likeness.nodes.model_files import HubFile, Member, ModelEntry, ModelFile, WebFile, catalogue, transfer

COMMIT = "af6d057c9b0ec4071d4c49c80e3539258798b609"
WEB = "https://models.invalid"  # what the catalogue says; the tests' endpoint takes its place


def tflite(size: int, seed: int = 0) -> bytes:
    """The smallest thing that counts as a TensorFlow Lite model."""
    return b"\x1c\x00\x00\x00TFL3" + random.Random(seed).randbytes(size - 8)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Site:
    """A web server that notes what it is asked. `files` are served with Range, If-Range and an ETag; `hub` as Hugging Face serves LFS files."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.etags: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.status: dict[str, int] = {}
        self.hub: dict[tuple[str, str], bytes] = {}
        self.stated: dict[tuple[str, str], str] = {}  # a hash that the hub states wrongly
        self.cdn: Site | None = None  # the other host that the hub redirects to
        self.cut_after: int | None = None  # bytes of a body after which the connection drops
        self.cuts = 0  # how many times it still does
        self.shift = 0  # how far beside the asked range it starts
        self.patience: int | None = None  # requests answered before it falls silent
        self.pace = 0.0  # seconds between the tenths of a body
        self.hold = threading.Event()  # what a connection waits for before it is cut
        self.hold.set()
        self.requests: list[SimpleNamespace] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_HEAD(self):
                site._answer(self)

            def do_GET(self):
                site._answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def gets(self) -> list[SimpleNamespace]:
        return [request for request in self.requests if request.method == "GET"]

    def ranges(self, path: str) -> list[str | None]:
        return [request.headers.get("Range") for request in self.gets if request.path == path]

    def _answer(self, handler):
        path = handler.path
        self.requests.append(SimpleNamespace(method=handler.command, path=path, headers=dict(handler.headers)))
        if self.patience is not None and len(self.requests) > self.patience:
            return None
        if path in self.status:
            return self._send(handler, self.status[path], {}, b"no")
        if path in self.redirects:
            return self._send(handler, 302, {"Location": self.redirects[path]}, b"")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._answer_hub(handler, match[1], match[3])
        if path not in self.files:
            return self._send(handler, 404, {}, b"")
        body, etag = self.files[path], self.etags.get(path, f'"{sha256(self.files[path])[:16]}"')
        headers, status = {"ETag": etag, "Accept-Ranges": "bytes"}, 200
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if asked and handler.headers.get("If-Range", etag) == etag:
            start = int(asked[1]) + self.shift
            if start >= len(body):
                return self._send(handler, 416, {"Content-Range": f"bytes */{len(body)}"}, b"")
            headers["Content-Range"], status = f"bytes {start}-{len(body) - 1}/{len(body)}", 206
            body = body[start:]
        self._send(handler, status, headers, body, cut=self.cut_after)

    def _answer_hub(self, handler, repo_id, path):
        content = self.hub.get((repo_id, path))
        if content is None:
            return self._send(handler, 404, {"X-Error-Code": "EntryNotFound"}, b"")
        stored = f"/lfs/{sha256(content)}"
        self.cdn.files[stored] = content
        self._send(
            handler,
            302,
            {
                "Location": self.cdn.url + stored,
                "ETag": '"a-pointer"',
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{self.stated.get((repo_id, path), sha256(content))}"',
                "X-Linked-Size": str(len(content)),
            },
            b"",
        )

    def _send(self, handler, status, headers, body, cut=None):
        handler.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(key, value)
        handler.end_headers()
        if handler.command == "GET":
            if cut is not None and self.cuts > 0 and len(body) > cut:
                self.cuts -= 1
                handler.wfile.write(body[:cut])
                handler.wfile.flush()
                self.hold.wait(20)
            elif self.pace:
                tenth = -(-len(body) // 10)
                for start in range(0, len(body), tenth):
                    try:
                        handler.wfile.write(body[start : start + tenth])
                        handler.wfile.flush()
                    except ConnectionError:  # whoever asked has had enough
                        return
                    time.sleep(self.pace)
            else:
                handler.wfile.write(body)


@pytest.fixture
def new_site():
    sites = []

    def start() -> Site:
        sites.append(Site())
        return sites[-1]

    yield start
    for site in sites:
        site.server.shutdown()
        site.server.server_close()


@pytest.fixture
def site(new_site):
    return new_site()


@pytest.fixture
def hub(site, new_site):
    site.cdn = new_site()
    return site


@pytest.fixture(autouse=True)
def quiet_surroundings(monkeypatch, tmp_path_factory):
    for name in ("HF_TOKEN", "HUGGINGFACE_TOKEN", "HF_ENDPOINT", "COMFYUI_ROOT", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    # No certificate is needed here, and reading the whole store takes httpx longer than the rest of a test.
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path_factory.getbasetemp()))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "RETRY_PAUSE", 0)


@pytest.fixture
def shelve(monkeypatch):
    """Put files into the catalogue as the entry `tiny`, in the folder models/mediapipe."""

    def put(*files: ModelFile) -> str:
        item = ModelEntry("tiny", "Tiny model", "mediapipe", files, "MIT", True, "https://models.invalid/tiny", "a test")
        monkeypatch.setitem(model_files.CATALOGUE, "tiny", item)
        return "tiny"

    return put


@pytest.fixture
def fetch(tmp_path, site):
    def run(name: str = "tiny", **options) -> list[Path]:
        return model_files.download(name, tmp_path, **{"progress": False, "endpoint": site.url, **options})

    return run


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "mediapipe"


def web_file(content: bytes, *, name: str = "a.tflite", pinned: bool = True) -> ModelFile:
    return ModelFile(name, WebFile(f"{WEB}/{name}"), len(content), sha256(content) if pinned else None)


def hub_file(content: bytes, *, pinned: bool = True) -> ModelFile:
    return ModelFile("a.tflite", HubFile("owner/repo", "weights/model.tflite"), len(content), sha256(content) if pinned else None)


HUB_KEY = ("owner/repo", "weights/model.tflite")


def sentence_of(caught) -> str:
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text
    return text


# ---- the catalogue


@pytest.mark.parametrize("name", list(model_files.CATALOGUE))
def test_every_entry_is_complete_and_stays_inside_the_models_folder(name):
    item = model_files.CATALOGUE[name]
    assert item.name == name and item.title and item.licence and item.what and item.files
    assert item.page.startswith("https://")
    folder = PurePosixPath(item.folder)
    assert not folder.is_absolute() and ".." not in folder.parts and "\\" not in item.folder
    for file in item.files:
        if isinstance(file.source, WebFile):
            assert file.source.url.startswith("https://")
        else:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", file.source.repo_id) and file.source.path and file.source.revision
        assert file.archive == bool(file.members) == file.filename.endswith(".zip")
        for part in (file, *file.members):
            assert PurePosixPath(part.filename).name == part.filename
            assert part.size > 0
            assert re.fullmatch(r"[0-9a-f]{64}", part.sha256), "every file is pinned: the check of an .onnx without the onnx package relies on it"


def test_no_two_entries_write_the_same_file():
    paths = [(item.folder, name) for item in model_files.CATALOGUE.values() for file in item.files for name in file.provides]
    assert len(paths) == len(set(paths))


def test_auraface_takes_its_embedder_and_not_the_detector_that_belongs_to_insightface():
    sources = [(file.source.repo_id, file.source.path) for file in model_files.CATALOGUE["auraface"].files]
    assert sources == [("fal/AuraFace-v1", "glintr100.onnx"), ("opencv/face_detection_yunet", "face_detection_yunet_2023mar.onnx")]
    assert model_files.CATALOGUE["auraface"].files[0].sha256 != model_files.CATALOGUE["antelopev2"].files[0].members[1].sha256


def test_entries_that_forbid_commercial_use_say_so_in_their_licence():
    for item in model_files.CATALOGUE.values():
        assert item.commercial != ("non-commercial" in item.licence.lower())
    assert not model_files.CATALOGUE["buffalo_l"].commercial and not model_files.CATALOGUE["flux-ip-adapter-v2"].commercial


def test_an_insightface_pack_is_present_with_detector_and_embedder_alone(tmp_path):
    item = model_files.CATALOGUE["antelopev2"]
    assert item.missing(tmp_path) == ("scrfd_10g_bnkps.onnx", "glintr100.onnx")
    folder = tmp_path / "insightface/models/antelopev2"
    folder.mkdir(parents=True)
    (folder / "glintr100.onnx").touch()
    assert item.missing(tmp_path) == ("scrfd_10g_bnkps.onnx",) and not item.present(tmp_path)
    (folder / "scrfd_10g_bnkps.onnx").touch()
    assert item.present(tmp_path)


def test_the_missing_sentence_says_which_how_large_which_licence_where_and_how(tmp_path):
    text = model_files.missing_sentence("auraface", tmp_path)
    for part in ("glintr100.onnx", "face_detection_yunet_2023mar.onnx", "261 MB", "Apache-2.0", "MIT", str(tmp_path / "insightface/models/auraface")):
        assert part in text
    assert f"`likeness models download auraface --models-dir {tmp_path}`" in text and text.endswith(".")
    folder = tmp_path / "insightface/models/auraface"
    folder.mkdir(parents=True)
    (folder / "glintr100.onnx").touch()
    text = model_files.missing_sentence("auraface", tmp_path)
    assert "233 kB" in text and "glintr100" not in text


def test_the_missing_sentence_works_without_a_models_folder():
    text = model_files.missing_sentence("buffalo_l", None)
    assert "models/insightface/models/buffalo_l of your ComfyUI" in text and "289 MB" in text and "non-commercial" in text


def test_rows_show_what_is_on_disk(tmp_path):
    (tmp_path / "clip_vision").mkdir()
    (tmp_path / "clip_vision/clip-vit-large-patch14.safetensors").touch()
    rows = {row["name"]: row for row in model_files.rows(tmp_path)}
    assert [name for name, row in rows.items() if row["present"]] == ["clip-vit-large-patch14"]
    assert rows["antelopev2"]["size"] == 360_662_982 and rows["antelopev2"]["commercial"] is False
    assert rows["siglip-so400m"]["folder"] == "clip_vision"


def test_importing_and_listing_load_no_network_library_and_open_no_connection(tmp_path):
    code = f"""
import importlib.util, socket, sys
from importlib.machinery import ModuleSpec
spec = ModuleSpec("character_likeness", None, is_package=True)
spec.submodule_search_locations = [{str(catalogue.PACK)!r}]
sys.modules["character_likeness"] = importlib.util.module_from_spec(spec)
def no(*args, **kwargs): raise AssertionError("network")
socket.socket.connect = socket.getaddrinfo = no
from character_likeness.nodes import installation, model_files
model_files.rows({str(tmp_path)!r})
model_files.missing_sentence("auraface", None)
heavy = {{"torch", "huggingface_hub", "httpx", "requests", "onnx", "onnxruntime", "tqdm", "safetensors", "numpy", "folder_paths"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"'buffalo'.*auraface, buffalo_l") as caught:
        model_files.download("buffalo", tmp_path)
    sentence_of(caught)


# ---- the models folder


def test_an_explicit_models_folder_wins_over_the_environment(tmp_path, monkeypatch):
    (tmp_path / "host/models").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("COMFYUI_ROOT", str(tmp_path / "host"))
    assert model_files.find_models_dir(str(tmp_path / "mine")) == tmp_path / "mine"
    assert model_files.find_models_dir() == tmp_path / "host/models"


def test_the_comfyui_around_the_pack_is_found(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    for module in (installation, catalogue):
        monkeypatch.setattr(module, "PACK", tmp_path / "custom_nodes/ComfyUI-Likeness")
    assert model_files.find_models_dir() == tmp_path / "models"
    assert model_files.find_models_dir_or_none() == tmp_path / "models"


def test_without_any_comfyui_one_sentence_says_how_to_name_one(tmp_path, monkeypatch):
    for module in (installation, catalogue):
        monkeypatch.setattr(module, "PACK", tmp_path / "src/ComfyUI-Likeness")
    with pytest.raises(MissingModelError, match=r"--models-dir.*COMFYUI_ROOT") as caught:
        model_files.find_models_dir()
    sentence_of(caught)
    assert model_files.find_models_dir_or_none() is None


@pytest.mark.parametrize("origin", ["--models-dir", "COMFYUI_ROOT"])
def test_a_models_folder_that_does_not_exist_is_an_error_and_not_created(tmp_path, monkeypatch, origin):
    if origin == "COMFYUI_ROOT":
        monkeypatch.setenv("COMFYUI_ROOT", str(tmp_path / "typo"))
    with pytest.raises(InputError, match=f"typo.*{origin}"):
        model_files.find_models_dir(str(tmp_path / "typo") if origin == "--models-dir" else None)
    assert not (tmp_path / "typo").exists()


# ---- a plain file


def test_a_file_arrives_under_its_name_and_leaves_nothing_else(tmp_path, site, shelve, fetch):
    content = tflite(5000)
    site.files["/a.tflite"] = content
    shelve(web_file(content))
    assert fetch() == [folder_of(tmp_path) / "a.tflite"]
    assert {path.name: path.read_bytes() for path in folder_of(tmp_path).iterdir()} == {"a.tflite": content}


def test_what_is_there_is_not_asked_for_again(site, shelve, fetch):
    content = tflite(5000)
    site.files["/a.tflite"] = content
    shelve(web_file(content))
    first = fetch()
    count = len(site.requests)
    assert fetch() == first and len(site.requests) == count


def test_a_users_own_file_is_never_overwritten(tmp_path, site, shelve, fetch):
    old, new = tflite(5000, seed=1), tflite(5000, seed=2)
    site.files.update({"/a.tflite": old, "/b.tflite": new})
    shelve(web_file(old), web_file(new, name="b.tflite"))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a.tflite").write_bytes(b"mine")
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == b"mine"
    assert (folder_of(tmp_path) / "b.tflite").read_bytes() == new
    assert site.ranges("/a.tflite") == []


def test_a_dropped_connection_goes_on_where_it_stopped(tmp_path, site, shelve, fetch):
    content = tflite(300_000)
    site.files["/a.tflite"] = content
    site.cut_after, site.cuts = 100_000, 2
    shelve(web_file(content))
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content
    assert site.ranges("/a.tflite") == [None, "bytes=100000-", "bytes=200000-"]
    assert all(request.headers["If-Range"] == f'"{sha256(content)[:16]}"' for request in site.gets[1:])


def test_a_run_after_a_killed_process_asks_only_for_the_rest(tmp_path, site, shelve, fetch):
    content = tflite(300_000)
    site.files["/a.tflite"] = content
    site.cut_after, site.cuts = 200_000, 1
    site.hold.clear()
    code = f"""
import importlib.util, sys
from importlib.machinery import ModuleSpec
spec = ModuleSpec("character_likeness", None, is_package=True)
spec.submodule_search_locations = [{str(catalogue.PACK)!r}]
sys.modules["character_likeness"] = importlib.util.module_from_spec(spec)
from character_likeness.nodes.model_files import CATALOGUE, ModelEntry, ModelFile, WebFile, download
file = ModelFile("a.tflite", WebFile("{WEB}/a.tflite"), {len(content)}, "{sha256(content)}")
CATALOGUE["tiny"] = ModelEntry("tiny", "Tiny", "mediapipe", (file,), "MIT", True, "https://models.invalid", "a test")
download("tiny", {str(tmp_path)!r}, endpoint="{site.url}")
"""
    part = folder_of(tmp_path) / "a.tflite.part"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 20
            while not (part.is_file() and part.stat().st_size > 0) and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            process.kill()
    site.hold.set()
    kept = part.stat().st_size
    assert 0 < kept <= 200_000
    shelve(web_file(content))
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content
    assert site.ranges("/a.tflite") == [None, f"bytes={kept}-"]


def test_a_line_that_stays_dead_keeps_what_arrived_and_says_so(tmp_path, site, shelve, fetch):
    content = tflite(300_000)
    site.files["/a.tflite"] = content
    site.etags["/a.tflite"] = 'W/"weak"'  # nothing to tell versions by, but the catalogue's hash
    site.cut_after, site.cuts, site.patience = 100_000, 1, 1
    shelve(web_file(content))
    with pytest.raises(DownloadError, match=r"only in part \(100 kB of 300 kB; .*`likeness models download tiny`, which goes on") as caught:
        fetch()
    sentence_of(caught)
    assert len(site.requests) == 1 + transfer.ATTEMPTS
    site.patience = None
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content
    assert site.gets[-1].headers["Range"] == "bytes=100000-" and "If-Range" not in site.gets[-1].headers


def test_a_file_that_changed_since_is_started_over_and_never_glued(tmp_path, site, shelve, fetch):
    old, new = tflite(300_000, seed=1), tflite(300_000, seed=2)
    shelve(web_file(new, pinned=False))
    site.files["/a.tflite"] = new
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a.tflite.part").write_bytes(old[:100_000])
    (folder_of(tmp_path) / "a.tflite.part.version").write_text(f'"{sha256(old)[:16]}"')
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == new
    assert site.gets[0].headers["If-Range"] == f'"{sha256(old)[:16]}"'


def test_an_answer_that_starts_elsewhere_is_not_glued(tmp_path, site, shelve, fetch):
    content = tflite(5000)
    site.files["/a.tflite"] = content
    site.shift = 1
    shelve(web_file(content, pinned=False))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a.tflite.part").write_bytes(content[:1000])
    (folder_of(tmp_path) / "a.tflite.part.version").write_text(f'"{sha256(content)[:16]}"')
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content
    assert site.ranges("/a.tflite") == ["bytes=1000-", None]


def test_bytes_of_unknown_origin_are_not_trusted_where_no_hash_would_tell(tmp_path, site, shelve, fetch):
    content = tflite(5000)
    site.files["/a.tflite"] = content
    shelve(web_file(content, pinned=False))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a.tflite.part").write_bytes(b"x" * 1000)
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content and site.ranges("/a.tflite") == [None]


@pytest.mark.parametrize("surplus", [0, 7])
def test_a_part_that_is_whole_or_too_long_is_recognised(tmp_path, site, shelve, fetch, surplus):
    content = tflite(5000)
    site.files["/a.tflite"] = content
    shelve(web_file(content))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a.tflite.part").write_bytes(content + b"x" * surplus)
    (folder_of(tmp_path) / "a.tflite.part.version").write_text(f'"{sha256(content)[:16]}"')
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content
    assert len(site.gets) == (2 if surplus else 1)


def test_a_wrong_hash_leaves_no_file_and_names_both_hashes(tmp_path, site, shelve, fetch):
    content, other = tflite(5000, seed=1), tflite(5000, seed=2)
    site.files["/a.tflite"] = other
    shelve(web_file(content))
    with pytest.raises(DownloadError, match=f"{sha256(other)} instead of {sha256(content)}") as caught:
        fetch()
    sentence_of(caught)
    assert list(folder_of(tmp_path).iterdir()) == []


def test_a_server_that_sends_far_too_much_is_stopped(tmp_path, site, shelve, fetch):
    site.files["/a.tflite"] = tflite(2 << 20)
    shelve(ModelFile("a.tflite", WebFile(f"{WEB}/a.tflite"), 1000))
    with pytest.raises(DownloadError, match=r"sends 2\.1 MB or more as a\.tflite, which should be 1 kB") as caught:
        fetch()
    sentence_of(caught)
    assert list(folder_of(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, r"no longer at .*/a\.tflite \(404\); find it at https://models\.invalid/tiny"), (403, "answers 403"), (503, "answers 503.*later")],
)
def test_a_refusal_is_one_sentence(site, shelve, fetch, status, expected):
    site.status["/a.tflite"] = status
    shelve(web_file(tflite(5000)))
    with pytest.raises(DownloadError, match=expected) as caught:
        fetch()
    sentence_of(caught)


def test_offline_is_one_sentence_with_the_way_by_hand(tmp_path, new_site, shelve, fetch):
    gone = new_site()
    gone.server.shutdown()
    gone.server.server_close()
    shelve(web_file(tflite(5000)))
    with pytest.raises(DownloadError, match=r"cannot be reached \(ConnectError\); go online .* or put a\.tflite from https://models\.invalid/tiny") as caught:
        fetch(endpoint=gone.url)
    assert str(folder_of(tmp_path)) in sentence_of(caught)


def test_too_little_room_is_said_before_anything_is_asked(site, shelve, fetch, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    shelve(web_file(tflite(5000)))
    with pytest.raises(DownloadError, match=r"Tiny model needs 67\.1 MB on the disk of .*, where 1 MB are free; make room") as caught:
        fetch()
    sentence_of(caught)
    assert site.requests == []


@pytest.mark.parametrize(("code", "expected"), [(errno.ENOSPC, "is full; make room"), (errno.EACCES, "cannot be written")])
def test_a_disk_that_gives_out_is_one_sentence(site, shelve, fetch, monkeypatch, code, expected):
    def fail(*args):
        raise OSError(code, "no")

    monkeypatch.setattr(transfer, "_advance", fail)
    shelve(web_file(tflite(5000)))
    with pytest.raises(DownloadError, match=expected) as caught:
        fetch()
    sentence_of(caught)


def test_plain_http_is_refused_without_an_endpoint_of_ones_own(site, shelve, fetch):
    content = tflite(5000)
    site.files["/a.tflite"] = content
    shelve(ModelFile("a.tflite", WebFile(f"{site.url}/a.tflite"), len(content)))
    with pytest.raises(DownloadError, match="is not https") as caught:
        fetch(endpoint=None)
    sentence_of(caught)
    assert site.requests == []


def test_redirects_are_followed_but_not_to_plain_http(tmp_path, site, shelve, fetch):
    content = tflite(5000)
    site.files["/moved.tflite"] = content
    site.redirects["/a.tflite"] = f"{site.url}/moved.tflite"
    shelve(web_file(content))
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content
    (folder_of(tmp_path) / "a.tflite").unlink()
    site.redirects["/a.tflite"] = "http://elsewhere.invalid/moved.tflite?signature=secret"
    with pytest.raises(DownloadError, match=r"http://elsewhere\.invalid is not https") as caught:
        fetch()
    assert "secret" not in sentence_of(caught)


def test_endless_redirects_end(site, shelve, fetch):
    site.redirects["/a.tflite"] = f"{site.url}/a.tflite"
    shelve(web_file(tflite(5000)))
    with pytest.raises(DownloadError, match="TooManyRedirects"):
        fetch()


# ---- Hugging Face


def test_a_hub_file_comes_from_the_commit_whose_hash_was_stated(tmp_path, hub, shelve, fetch):
    content = tflite(5000)
    hub.hub[HUB_KEY] = content
    shelve(hub_file(content, pinned=False))
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content
    assert [(request.method, request.path) for request in hub.requests] == [
        ("HEAD", "/owner/repo/resolve/main/weights/model.tflite"),
        ("GET", f"/owner/repo/resolve/{COMMIT}/weights/model.tflite"),
    ]
    assert [(request.method, request.path) for request in hub.cdn.requests] == [("GET", f"/lfs/{sha256(content)}")]


def test_a_hub_file_is_held_against_the_hash_that_the_hub_states(tmp_path, hub, shelve, fetch):
    content = tflite(5000)
    hub.hub[HUB_KEY], hub.stated[HUB_KEY] = content, "0" * 64
    shelve(hub_file(content, pinned=False))
    with pytest.raises(DownloadError, match=f"{sha256(content)} instead of {'0' * 64}"):
        fetch()
    assert list(folder_of(tmp_path).iterdir()) == []


def test_a_hub_file_that_is_no_longer_the_pinned_one_is_not_downloaded_at_all(hub, shelve, fetch):
    hub.hub[HUB_KEY] = tflite(5000, seed=2)
    shelve(hub_file(tflite(5000, seed=1)))
    with pytest.raises(DownloadError, match=r"has changed at .*nothing was downloaded; update Likeness") as caught:
        fetch()
    sentence_of(caught)
    assert hub.gets == hub.cdn.gets == []


def test_a_hub_file_goes_on_after_a_dropped_connection(tmp_path, hub, shelve, fetch):
    content = tflite(300_000)
    hub.hub[HUB_KEY] = content
    hub.cdn.cut_after, hub.cdn.cuts = 100_000, 1
    shelve(hub_file(content))
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content
    assert hub.cdn.ranges(f"/lfs/{sha256(content)}") == [None, "bytes=100000-"]


def test_a_hub_file_that_changed_since_is_started_over(tmp_path, hub, shelve, fetch):
    old, new = tflite(300_000, seed=1), tflite(300_000, seed=2)
    hub.hub[HUB_KEY] = new
    shelve(hub_file(new, pinned=False))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a.tflite.part").write_bytes(old[:100_000])
    (folder_of(tmp_path) / "a.tflite.part.version").write_text(sha256(old))
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == new
    assert hub.cdn.ranges(f"/lfs/{sha256(new)}") == [None]


def test_a_hub_file_that_had_arrived_whole_is_only_checked(tmp_path, hub, shelve, fetch):
    content = tflite(5000)
    hub.hub[HUB_KEY] = content
    shelve(hub_file(content))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a.tflite.part").write_bytes(content)
    (folder_of(tmp_path) / "a.tflite.part.version").write_text(sha256(content))
    fetch()
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content and hub.gets == hub.cdn.gets == []


@pytest.mark.parametrize(
    ("variables", "token"),
    [({"HF_TOKEN": "hf_one"}, "hf_one"), ({"HUGGINGFACE_TOKEN": "hf_two\n"}, "hf_two"), ({"HF_TOKEN": "hf_one", "HUGGINGFACE_TOKEN": "hf_two"}, "hf_one")],
)
def test_the_token_goes_to_the_hub_and_not_to_the_host_it_redirects_to(hub, shelve, fetch, monkeypatch, variables, token):
    content = tflite(5000)
    hub.hub[HUB_KEY] = content
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shelve(hub_file(content))
    fetch()
    assert [request.headers.get("authorization") for request in hub.requests] == [f"Bearer {token}"] * 2
    [stored] = hub.cdn.requests
    assert "authorization" not in {key.lower() for key in stored.headers}


def test_the_token_does_not_go_to_other_sources(site, shelve, fetch, monkeypatch):
    content = tflite(5000)
    site.files["/a.tflite"] = content
    monkeypatch.setenv("HF_TOKEN", "hf_one")
    shelve(web_file(content))
    fetch()
    assert all("authorization" not in {key.lower() for key in request.headers} for request in site.requests)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_names_the_page_and_the_token(site, shelve, fetch, status):
    site.status["/owner/repo/resolve/main/weights/model.tflite"] = status
    shelve(hub_file(tflite(5000)))
    with pytest.raises(DownloadError, match=rf"\({status}\): accept the licence at https://models\.invalid/tiny .* HF_TOKEN") as caught:
        fetch()
    sentence_of(caught)


def test_a_file_that_left_the_hub_is_one_sentence(site, shelve, fetch):
    shelve(hub_file(tflite(5000)))
    with pytest.raises(DownloadError, match=r"\(404\); find it at") as caught:
        fetch()
    sentence_of(caught)


def test_a_hub_that_cannot_be_reached_is_one_sentence(new_site, shelve, fetch):
    gone = new_site()
    gone.server.shutdown()
    gone.server.server_close()
    shelve(hub_file(tflite(5000)))
    with pytest.raises(DownloadError, match=r"cannot be reached .*go online") as caught:
        fetch(endpoint=gone.url)
    sentence_of(caught)


def test_hf_hub_offline_is_obeyed(hub, shelve, fetch, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.hub[HUB_KEY] = tflite(5000)
    shelve(hub_file(tflite(5000)))
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set") as caught:
        fetch()
    sentence_of(caught)
    assert hub.requests == []


def test_hf_endpoint_is_obeyed_and_must_be_https(site, shelve, fetch, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    shelve(hub_file(tflite(5000)))
    with pytest.raises(DownloadError, match=f"{re.escape(site.url)} is not https"):
        fetch(endpoint=None)
    assert site.requests == []


# ---- archives


def zipped(members: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = ((stat.S_IFLNK if name in links else stat.S_IFREG) | 0o644) << 16
            bundle.writestr(info, content)
    return packed.getvalue()


DETECTOR, EMBEDDER, EXTRA = tflite(3000, seed=3), tflite(4000, seed=4), tflite(1000, seed=5)


def pack(content: bytes) -> ModelFile:
    members = (
        Member("detector.tflite", len(DETECTOR), sha256(DETECTOR)),
        Member("embedder.tflite", len(EMBEDDER), sha256(EMBEDDER)),
        Member("extra.tflite", len(EXTRA), sha256(EXTRA), needed=False),
    )
    return ModelFile("pack.zip", WebFile(f"{WEB}/pack.zip"), len(content), sha256(content), archive=True, members=members)


@pytest.mark.parametrize("inside", ["", "pack/", "pack/pack/", "a\\b\\"])
def test_an_archive_is_flattened_however_it_is_nested(tmp_path, site, shelve, fetch, inside):
    members = {f"{inside}detector.tflite": DETECTOR, f"{inside}embedder.tflite": EMBEDDER, f"{inside}extra.tflite": EXTRA, f"{inside}README.md": b"hello"}
    site.files["/pack.zip"] = zipped(members)
    shelve(pack(site.files["/pack.zip"]))
    paths = fetch()
    assert [path.name for path in paths] == ["detector.tflite", "embedder.tflite", "extra.tflite"]
    assert {path.name: path.read_bytes() for path in folder_of(tmp_path).iterdir()} == {
        "detector.tflite": DETECTOR,
        "embedder.tflite": EMBEDDER,
        "extra.tflite": EXTRA,
    }


def test_unpacking_leaves_files_that_are_there_alone(tmp_path, site, shelve, fetch):
    site.files["/pack.zip"] = zipped({"detector.tflite": DETECTOR, "embedder.tflite": EMBEDDER})
    shelve(pack(site.files["/pack.zip"]))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "detector.tflite").write_bytes(b"mine")
    fetch()
    assert (folder_of(tmp_path) / "detector.tflite").read_bytes() == b"mine"
    assert (folder_of(tmp_path) / "embedder.tflite").read_bytes() == EMBEDDER


def test_an_archive_that_the_user_put_there_is_used_and_kept(tmp_path, site, shelve, fetch):
    content = zipped({"pack/detector.tflite": DETECTOR, "pack/embedder.tflite": EMBEDDER})
    shelve(pack(content))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "pack.zip").write_bytes(content)
    fetch()
    assert site.requests == []
    assert sorted(path.name for path in folder_of(tmp_path).iterdir()) == ["detector.tflite", "embedder.tflite", "pack.zip"]


def test_a_wrong_archive_of_the_users_is_named_and_kept(tmp_path, site, shelve, fetch):
    shelve(pack(zipped({"detector.tflite": DETECTOR, "embedder.tflite": EMBEDDER})))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "pack.zip").write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"pack\.zip cannot be used, since its sha256 .*; remove it") as caught:
        fetch()
    sentence_of(caught)
    assert [path.name for path in folder_of(tmp_path).iterdir()] == ["pack.zip"]


GOOD = {"detector.tflite": DETECTOR, "embedder.tflite": EMBEDDER}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (zipped({**GOOD, "link.tflite": b"/etc/passwd"}, links=("link.tflite",)), r"write outside its folder \(link\.tflite\)"),
        (zipped({"embedder.tflite": b"/etc/passwd", "detector.tflite": DETECTOR}, links=("embedder.tflite",)), "write outside"),
        (zipped({**GOOD, "/etc/extra.tflite": EXTRA}), "write outside"),
        (zipped({**GOOD, "../extra.tflite": EXTRA}), "write outside"),
        (zipped({**GOOD, "a/../../extra.tflite": EXTRA}), "write outside"),
        (zipped({**GOOD, "..\\extra.tflite": EXTRA}), "write outside"),
        (zipped({**GOOD, "C:extra.tflite": EXTRA}), "write outside"),
        (zipped({**GOOD, "extra.tflite": bytes(3 << 20)}), r"extra\.tflite in it would be 3\.15 MB, not 1 kB"),
        (zipped({**GOOD, "more/detector.tflite": DETECTOR}), r"holds detector\.tflite twice"),
        (zipped({"detector.tflite": DETECTOR}), r"does not hold embedder\.tflite"),
        (zipped({**GOOD, "embedder.tflite": tflite(4000, seed=9)}), r"embedder\.tflite in it is wrong: its sha256"),
        (zipped(GOOD).replace(EMBEDDER[100:200], EMBEDDER[100:199] + b"\0"), "no sound zip"),
        (b"<html>sorry</html>", "no sound zip"),
    ],
    ids="link linked-member absolute parent parent-inside backslash drive bomb twice absent wrong-member crc html".split(),
)
def test_a_hostile_or_broken_archive_leaves_nothing_behind(tmp_path, site, shelve, fetch, content, expected):
    site.files["/pack.zip"] = content
    shelve(pack(content))
    with pytest.raises(DownloadError, match=expected) as caught:
        fetch()
    sentence_of(caught)
    assert list(folder_of(tmp_path).iterdir()) == []
    assert not list(tmp_path.rglob("extra*"))


# ---- looking inside


class _Bomb:
    def __reduce__(self):
        return (Path.touch, (Path(BOMB_MARK),))


BOMB_MARK = "unpickled"


def _onnx() -> bytes:
    onnx = pytest.importorskip("onnx")
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "tiny", value[:1], value[1:])
    return onnx.helper.make_model(graph).SerializeToString()


def _safetensors() -> bytes:
    import numpy
    from safetensors.numpy import save

    return save({"weight": numpy.zeros((2, 3), numpy.float32)})


SOUND = {
    "m.onnx": _onnx,
    "m.safetensors": _safetensors,
    "m.tflite": lambda: tflite(100),
    "m.task": lambda: zipped({"detector.tflite": DETECTOR}),
    "m.bin": lambda: zipped({"archive/data.pkl": pickle.dumps(_Bomb()), "archive/data/0": b"weights"}),
}


@pytest.mark.parametrize("name", list(SOUND))
def test_a_sound_file_of_each_kind_passes_and_nothing_is_unpickled(tmp_path, site, shelve, fetch, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    site.files[f"/{name}"] = SOUND[name]()
    shelve(web_file(site.files[f"/{name}"], name=name, pinned=False))
    fetch()
    assert (folder_of(tmp_path) / name).is_file() and not (tmp_path / BOMB_MARK).exists()


@pytest.mark.parametrize("damage", ["page", "cut"])
@pytest.mark.parametrize("name", list(SOUND))
def test_a_file_of_each_kind_that_is_something_else_is_thrown_away(tmp_path, site, shelve, fetch, name, damage):
    if damage == "cut" and name == "m.tflite":
        pytest.skip("a cut .tflite shows only in its hash, which the catalogue has")
    site.files[f"/{name}"] = b"<!DOCTYPE html><title>Sign in</title>" * 9 if damage == "page" else SOUND[name]()[:-20]
    shelve(web_file(site.files[f"/{name}"], name=name, pinned=False))
    with pytest.raises(DownloadError, match=f"{name} from .* was thrown away, since it ") as caught:
        fetch()
    sentence_of(caught)
    assert list(folder_of(tmp_path).iterdir()) == []


def test_an_onnx_file_is_accepted_on_its_hash_where_the_onnx_package_is_absent(tmp_path, site, shelve, fetch, monkeypatch):
    monkeypatch.setattr(transfer.importlib.util, "find_spec", lambda name: None)
    site.files["/m.onnx"] = b"any bytes"
    shelve(web_file(b"any bytes", name="m.onnx"))
    fetch()
    assert (folder_of(tmp_path) / "m.onnx").read_bytes() == b"any bytes"


def test_what_a_killed_run_left_while_unpacking_is_cleared(tmp_path, site, shelve, fetch):
    site.files["/pack.zip"] = zipped(GOOD)
    shelve(pack(site.files["/pack.zip"]))
    left = folder_of(tmp_path) / ".pack.zip.unpacking"
    left.mkdir(parents=True)
    (left / "detector.tflite").write_bytes(b"half")
    fetch()
    assert sorted(path.name for path in folder_of(tmp_path).iterdir()) == ["detector.tflite", "embedder.tflite"]


# ---- one at a time, watched and stopped from another thread


@pytest.fixture
def downloads(site):
    return model_files.Downloads(site.url)


def until(downloads, reached, seconds: float = 30) -> model_files.downloads.State:
    """The state of the download as soon as it is `reached`."""
    end = time.monotonic() + seconds
    while not reached(downloads.state):
        assert time.monotonic() < end, downloads.state
        time.sleep(0.01)
    return downloads.state


def ended(state) -> bool:
    return not state.running


def test_a_download_in_the_background_tells_its_bytes_over_all_files(tmp_path, site, shelve, downloads):
    first, second = tflite(30_000, 1), tflite(10_000, 2)
    site.files |= {"/a.tflite": first, "/b.tflite": second}
    shelve(web_file(first), web_file(second, name="b.tflite"))
    site.pace = 0.02
    assert downloads.state is None
    started = downloads.start("tiny", tmp_path)
    assert (started.name, started.stage, started.done, started.total) == ("tiny", "downloading", 0, 40_000)
    assert 0 < until(downloads, lambda state: state.done > 0).done <= 40_000
    done = until(downloads, ended)
    assert (done.number, done.stage, done.done, done.total, done.sentence) == (1, "done", 40_000, 40_000, "")
    assert sorted(path.name for path in folder_of(tmp_path).iterdir()) == ["a.tflite", "b.tflite"]


def test_the_total_is_what_is_missing(tmp_path, site, shelve, downloads):
    first, second = tflite(30_000, 1), tflite(10_000, 2)
    site.files |= {"/b.tflite": second}
    shelve(web_file(first), web_file(second, name="b.tflite"))
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / "a.tflite").write_bytes(first)
    assert downloads.start("tiny", tmp_path).total == 10_000
    assert until(downloads, ended).total == 10_000
    assert [request.path for request in site.gets] == ["/b.tflite"]


def test_a_second_download_is_refused_while_one_runs_and_taken_afterwards(tmp_path, site, shelve, downloads):
    content = tflite(50_000)
    site.files["/a.tflite"] = content
    shelve(web_file(content))
    site.pace = 0.03
    downloads.start("tiny", tmp_path)
    for name in ("auraface", "tiny"):
        with pytest.raises(model_files.BusyError, match=r"^Tiny model is being downloaded; wait for it or cancel it, then start ") as caught:
            downloads.start(name, tmp_path)
        sentence_of(caught)
    until(downloads, ended)
    assert len(site.gets) == 1
    assert downloads.start("tiny", tmp_path).number == 2
    assert until(downloads, ended).stage == "done" and len(site.gets) == 1, "what is there is not fetched again"


def test_a_stopped_download_keeps_what_arrived_and_the_next_goes_on_there(tmp_path, site, shelve, downloads):
    content = tflite(200_000)
    site.files["/a.tflite"] = content
    shelve(web_file(content))
    site.pace = 0.05
    downloads.start("tiny", tmp_path)
    until(downloads, lambda state: state.done > 0)
    assert downloads.stop().stage == "stopping"
    stopped = until(downloads, ended)
    assert stopped.stage == "stopped" and 0 < stopped.done < 200_000
    assert stopped.sentence == "Tiny model was stopped; what arrived is kept, and the next download goes on there."
    part = folder_of(tmp_path) / "a.tflite.part"
    have = part.stat().st_size
    assert 0 < have < 200_000 and not (folder_of(tmp_path) / "a.tflite").exists()
    assert downloads.stop() == stopped, "stopping what has ended changes nothing"
    downloads.start("tiny", tmp_path)
    assert until(downloads, ended).stage == "done"
    assert site.ranges("/a.tflite") == [None, f"bytes={have}-"]
    assert (folder_of(tmp_path) / "a.tflite").read_bytes() == content and not part.exists()


def test_a_download_is_stopped_while_its_bytes_are_checked_too(tmp_path, site, shelve, downloads, monkeypatch):
    content = tflite(5 << 20)
    site.files["/a.tflite"] = content
    shelve(web_file(content))
    checked = transfer._sha256

    def stop_first(job, path):
        downloads.stop()
        return checked(job, path)

    monkeypatch.setattr(transfer, "_sha256", stop_first)
    downloads.start("tiny", tmp_path)
    assert until(downloads, ended).stage == "stopped"
    assert [path.name for path in sorted(folder_of(tmp_path).iterdir())] == ["a.tflite.part", "a.tflite.part.version"]
    monkeypatch.setattr(transfer, "_sha256", checked)
    downloads.start("tiny", tmp_path)
    assert until(downloads, ended).stage == "done"


def test_a_download_that_fails_leaves_its_sentence_and_makes_way(tmp_path, site, shelve, downloads, monkeypatch):
    content = tflite(100)
    shelve(web_file(content))
    downloads.start("tiny", tmp_path)
    failed = until(downloads, ended)
    assert failed.stage == "failed" and "is no longer at" in failed.sentence
    with pytest.raises(InputError, match="no model called 'no such'"):
        downloads.start("no such", tmp_path)
    monkeypatch.setattr(model_files.downloads, "download", lambda *args, **options: 1 / 0)
    downloads.start("tiny", tmp_path)
    failed = until(downloads, ended)
    assert failed.sentence == "Tiny model was not downloaded (ZeroDivisionError: division by zero); the log of ComfyUI says more."
