"""The routes below /likeness/models on a real ComfyUI: what they list, whom they refuse, and downloads from a server on this machine."""

import hashlib
import json
import time
import urllib.error
import urllib.request

import pytest
from safetensors.numpy import save

from character_likeness.nodes.model_files import CATALOGUE
from tests.browser.locales import SERVER_SAYS
from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.test_model_files import Site

pytestmark = pytest.mark.host

RIG = ROOT / "tests" / "tiny" / "download_host"
SIGLIP, ADAPTER, BUFFALO = "siglip-so400m", "flux-ip-adapter-v2", "buffalo_l"
FILES = {SIGLIP: "sigclip_vision_patch14_384.safetensors", ADAPTER: "flux-ip-adapter-v2.safetensors", BUFFALO: "w600k_r50.safetensors"}
ALLOW = "LIKENESS_ALLOW_DOWNLOADS"


def weights(seed: int) -> bytes:
    """A safetensors file of 400 kB."""
    import numpy as np

    return save({"weight": np.random.default_rng(seed).random((50, 1000))})


CONTENT = {name: weights(seed) for seed, name in enumerate(FILES)}


def start(base, *arguments) -> Comfy:
    return Comfy(comfyui_root(), ROOT, base, extra=(RIG,), arguments=arguments)


def arrange(comfy: Comfy, site: Site) -> None:
    """The host's downloads of three models come from `site`, with contents made here."""
    for name, filename in FILES.items():
        site.files[f"/{filename}"] = CONTENT[name]
    models = {name: {FILES[name]: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}} for name, content in CONTENT.items()}
    comfy.post("/test_downloads", {"endpoint": site.url, "models": models})


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    host = start(tmp_path_factory.mktemp("routed"))
    yield host
    host.stop()


@pytest.fixture
def site():
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def comfy(routed, site):
    """A host with none of the models, and nothing under way."""
    arrange(routed, site)
    yield routed
    site.pace = 0
    site.hold.set()
    routed.post("/likeness/models/cancel", {})
    ended(routed)
    for name, filename in FILES.items():
        for left in (routed.base / "models" / CATALOGUE[name].folder).glob(f"{filename}*"):
            left.unlink()


def post(comfy: Comfy, path: str, body: bytes, **headers) -> tuple[int, dict]:
    """Status and answer of a post with these headers, `_` for `-`."""
    sent = {"Content-Type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
    request = urllib.request.Request(f"{comfy.url}/likeness/models{path}", body, sent)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def download(comfy: Comfy, name) -> tuple[int, dict]:
    return post(comfy, "/download", json.dumps({"name": name}).encode())


def progress(comfy: Comfy) -> dict:
    return comfy.get("/likeness/models/progress")["download"]


def until(comfy: Comfy, reached) -> dict:
    end = time.monotonic() + 60
    while not reached(state := progress(comfy)):
        assert time.monotonic() < end, state
        time.sleep(0.02)
    return state


def ended(comfy: Comfy) -> dict | None:
    return until(comfy, lambda state: state is None or not state["running"])


def row(comfy: Comfy, name: str) -> dict:
    return next(each for each in comfy.get("/likeness/models")["models"] if each["name"] == name)


def sentence(answer: tuple[int, dict], status: int) -> str:
    assert answer[0] == status, answer
    text = answer[1]["error"]
    assert text.endswith(".") and "\n" not in text
    return text


def test_the_list_tells_of_every_model_what_a_user_decides_by(comfy):
    told = comfy.get("/likeness/models")
    assert [each["name"] for each in told["models"]] == list(CATALOGUE)
    assert told["refused"] == "" and told["commercial_only"] is False
    for each in told["models"]:
        assert each["title"] and each["licence"] and each["size"] and each["page"].startswith("https://") and each["folder"].startswith("models/")
        assert each["nodes"], "somebody wants it"
        assert str(comfy.base) not in json.dumps(each["files"] + [each["folder"]]), "where the host lies is nobody's business"
    buffalo = row(comfy, "antelopev2")
    assert not buffalo["present"] and not buffalo["commercial"] and buffalo["missing"] == ["scrfd_10g_bnkps.onnx", "glintr100.onnx"]


def test_what_nodes_want_names_inputs_and_values_that_they_have(comfy):
    nodes = comfy.get("/object_info")
    files = {filename for entry in CATALOGUE.values() for file in entry.files for filename in file.provides}
    for want in comfy.get("/likeness/models")["wanted"]:
        inputs = nodes[want["node"]]["input"]
        inputs = inputs.get("required", {}) | inputs.get("optional", {})
        assert want["model"] in CATALOGUE
        assert set(want["unwired"]) <= set(inputs), want
        for name, values in want["when"].items():
            options = inputs[name][1]["options"]
            # With no such file the list has one value, which says so.
            assert set(values) <= set(options) | files, (want, options)
            assert len(options) > 1 or options[0] in values or set(values) <= files, (want, options)


def test_a_download_by_name_puts_the_file_into_its_folder_where_the_host_finds_it(comfy, site):
    assert row(comfy, SIGLIP)["missing"] == [FILES[SIGLIP]]
    status, told = download(comfy, SIGLIP)
    assert status == 200 and told["download"]["name"] == SIGLIP and told["download"]["total"] == len(CONTENT[SIGLIP])
    done = ended(comfy)
    assert done["stage"] == "done" and done["done"] == done["total"] == len(CONTENT[SIGLIP])
    assert (comfy.base / "models" / "clip_vision" / FILES[SIGLIP]).read_bytes() == CONTENT[SIGLIP]
    assert row(comfy, SIGLIP)["present"] and not row(comfy, SIGLIP)["begun"]
    assert FILES[SIGLIP] in comfy.get("/object_info/LikenessLoadFluxIPAdapter")["LikenessLoadFluxIPAdapter"]["input"]["required"]["clip_vision"][1]["options"]


def test_a_file_in_another_folder_of_its_kind_is_not_missing(comfy):
    other = comfy.base / "models" / "ipadapter" / FILES[ADAPTER]
    other.parent.mkdir(exist_ok=True)
    try:
        other.write_bytes(CONTENT[ADAPTER])
        assert row(comfy, ADAPTER)["present"]
    finally:
        other.unlink()
    assert not row(comfy, ADAPTER)["present"]


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "no such",
        "https://example.com/a.onnx",
        "../../etc/passwd",
        "models/clip_vision",
        "/etc/passwd",
        "SIGLIP-so400m",
        7,
        ["auraface"],
        {"a": 1},
        "a\x00b",
    ],
)
def test_nothing_but_a_name_of_the_catalogue_is_taken(comfy, site, name):
    assert "choose one of auraface, buffalo_l, " in sentence(download(comfy, name), 400)
    assert site.requests == [] and not (progress(comfy) or {}).get("running")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"auraface"', b"null", b"\xff\xfe", b"[" * 4000, b'{"name": "' + b"a" * 5000 + b'"}'])
def test_what_is_no_small_json_object_is_refused(comfy, site, body):
    assert "The request is no JSON object of at most 4096 bytes" in sentence(post(comfy, "/download", body), 400)
    assert site.requests == []


@pytest.mark.parametrize("path", ["/download", "/cancel"])
def test_pages_of_other_sites_are_refused(comfy, site, path):
    body = json.dumps({"name": SIGLIP}).encode()
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"):
        assert "send application/json" in sentence(post(comfy, path, body, Content_Type=content_type), 415)
    assert "a page of another site" in sentence(post(comfy, path, body, Sec_Fetch_Site="same-site"), 403)
    # Those of `cross-site` and of another origin on this machine the host itself turns away, with no word.
    assert post(comfy, path, body, Sec_Fetch_Site="cross-site")[0] == 403
    assert post(comfy, path, body, Origin="http://evil.example")[0] == 403
    assert site.requests == []
    assert post(comfy, path, body, Sec_Fetch_Site="same-origin", Origin=comfy.url)[0] == 200


def test_an_allowed_foreign_origin_may_still_not_download(tmp_path, site):
    host = start(tmp_path, "--enable-cors-header", "*")
    try:
        arrange(host, site)
        assert "a page of another site" in sentence(post(host, "/download", json.dumps({"name": SIGLIP}).encode(), Origin="http://evil.example"), 403)
        assert site.requests == []
    finally:
        host.stop()


def test_only_one_download_runs_and_the_second_is_told_which(comfy, site):
    site.pace = 0.2
    assert download(comfy, SIGLIP)[0] == 200
    until(comfy, lambda state: state["done"] > 0)
    assert sentence(download(comfy, ADAPTER), 409).startswith(f"{CATALOGUE[SIGLIP].title} is being downloaded; ")
    assert sentence(download(comfy, SIGLIP), 409)
    assert comfy.get("/system_stats"), "the host goes on meanwhile"
    site.pace = 0
    assert ended(comfy)["stage"] == "done"
    assert [request.path for request in site.gets] == [f"/{FILES[SIGLIP]}"]


def test_the_host_answers_while_the_server_of_a_model_is_silent(comfy, site):
    site.cut_after, site.cuts = 1000, 1
    site.hold.clear()
    download(comfy, SIGLIP)
    until(comfy, lambda state: state["done"] == 1000)
    begun = time.monotonic()
    assert comfy.get("/likeness/models")["download"]["running"]
    assert time.monotonic() - begun < 15, "shorter than the silence"
    site.hold.set()
    assert ended(comfy)["stage"] == "done"


def test_a_cancelled_download_keeps_its_part_and_goes_on_there(comfy, site):
    site.pace = 0.2
    download(comfy, SIGLIP)
    until(comfy, lambda state: state["done"] > 0)
    status, told = post(comfy, "/cancel", b"{}")
    assert status == 200 and told["download"]["stage"] in ("stopping", "stopped")
    stopped = ended(comfy)
    assert stopped["stage"] == "stopped" and "what arrived is kept" in stopped["sentence"]
    have = (comfy.base / "models" / "clip_vision" / f"{FILES[SIGLIP]}.part").stat().st_size
    assert 0 < have < len(CONTENT[SIGLIP]) and not row(comfy, SIGLIP)["present"]
    assert row(comfy, SIGLIP)["begun"] and not row(comfy, ADAPTER)["begun"]
    site.pace = 0
    download(comfy, SIGLIP)
    assert ended(comfy)["stage"] == "done"
    assert site.ranges(f"/{FILES[SIGLIP]}") == [None, f"bytes={have}-"]


def test_a_download_goes_on_after_the_host_was_killed(tmp_path, site):
    host = start(tmp_path)
    try:
        arrange(host, site)
        site.pace = 0.3
        download(host, SIGLIP)
        until(host, lambda state: state["done"] > 0)
        host.process.kill()
        host.process.wait(20)
        part = tmp_path / "models" / "clip_vision" / f"{FILES[SIGLIP]}.part"
        have = part.stat().st_size
        assert 0 < have < len(CONTENT[SIGLIP])
        site.pace = 0
        host = start(tmp_path)
        arrange(host, site)
        assert progress(host) is None and download(host, SIGLIP)[0] == 200
        assert ended(host)["stage"] == "done"
        assert site.ranges(f"/{FILES[SIGLIP]}")[-1] == f"bytes={have}-"
        assert (tmp_path / "models" / "clip_vision" / FILES[SIGLIP]).read_bytes() == CONTENT[SIGLIP] and not part.exists()
    finally:
        host.stop()


def test_a_failed_download_leaves_its_sentence(comfy, site):
    del site.files[f"/{FILES[SIGLIP]}"]
    assert download(comfy, SIGLIP)[0] == 200
    failed = ended(comfy)
    assert failed["stage"] == "failed" and "is no longer at" in failed["sentence"]


def test_commercial_use_only_refuses_what_is_not_cleared(comfy, site):
    comfy.post("/settings/Likeness.CommercialUseOnly", True)
    try:
        assert comfy.get("/likeness/models")["commercial_only"] is True
        for name in (BUFFALO, ADAPTER):
            assert "is not cleared for commercial use" in sentence(download(comfy, name), 403)
        assert site.requests == []
        assert download(comfy, SIGLIP)[0] == 200
        assert ended(comfy)["stage"] == "done"
    finally:
        comfy.post("/settings/Likeness.CommercialUseOnly", False)


@pytest.mark.parametrize("allowed", [False, True])
def test_with_several_users_nobody_downloads_unless_the_operator_allows_it(tmp_path, site, monkeypatch, allowed):
    monkeypatch.setenv(ALLOW, "1" if allowed else "")
    host = start(tmp_path, "--multi-user")
    try:
        arrange(host, site)
        refused = host.get("/likeness/models")["refused"]
        assert refused == ("" if allowed else SERVER_SAYS["refused"])
        if allowed:
            assert download(host, SIGLIP)[0] == 200
            assert ended(host)["stage"] == "done"
        else:
            assert sentence(download(host, SIGLIP), 403) == refused and f"{ALLOW}=1" in refused
            assert sentence(post(host, "/cancel", b"{}"), 403) == refused
            assert site.requests == []
    finally:
        host.stop()
