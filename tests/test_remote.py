"""`likeness run` and its client against a small server that plays ComfyUI: what a host answers, refuses, breaks off, and what a hostile one tries."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from character_likeness.nodes import remote
from character_likeness.nodes.errors import InputError
from character_likeness.nodes.remote import Host, HostError, Messages, Output, Step
from character_likeness.nodes.terminal import main

ID = "0f6f7b1c-0000-4000-8000-000000000000"
PNG = io.BytesIO()
Image.new("RGB", (4, 4), "red").save(PNG, "PNG")
PNG = PNG.getvalue()

# A gate between two pictures and two sides; nothing needs a model.
PROMPT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}, "_meta": {"title": "Her"}},
    "2": {"class_type": "LikenessBuildIdentity", "inputs": {"images": ["1", 0]}, "_meta": {"title": "Identity"}},
    "3": {"class_type": "LikenessQwenScene", "inputs": {"scene": "x", "negative": "", "seed": 1, "aspect_ratio": "1:1"}, "_meta": {"title": "Scene"}},
    "4": {"class_type": "LikenessIdentityGate", "inputs": {"image": ["3", 0], "identity": ["2", 0]}, "_meta": {"title": "Gate"}},
    "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0]}, "_meta": {"title": "Passed: saved"}},
    "6": {"class_type": "PreviewImage", "inputs": {"images": ["4", 1]}, "_meta": {"title": "Rejected"}},
    "7": {"class_type": "PreviewAny", "inputs": {"source": ["4", 8]}, "_meta": {"title": "Report"}},
}
OUTPUT_NODES = ("SaveImage", "PreviewImage", "PreviewAny", "LikenessIdentityGate")


def image(name: str, kind: str = "output", subfolder: str = "") -> dict:
    return {"filename": name, "subfolder": subfolder, "type": kind}


SAVED = {"5": {"images": [image("scene_00001_.png", subfolder="likeness")]}}


def history(outputs: dict, *messages: list, status: str = "success") -> dict:
    return {"outputs": outputs, "status": {"status_str": status, "messages": list(messages)}}


class Player(BaseHTTPRequestHandler):
    """ComfyUI's part, as far as it is played. server.answers: {"METHOD /path": function(handler) -> None or a JSON value} in place of it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer("GET")

    def do_POST(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer("POST")

    def answer(self, method: str):
        server: Played = self.server
        self.path, _, query = self.path.partition("?")
        self.query = {key: values[0] for key, values in parse_qs(query).items()}
        path = self.path.removeprefix(server.prefix)
        server.asked.append(f"{method} {path}")
        for key, own in server.answers.items():
            if f"{method} {path}".startswith(key):
                value = own(self) if callable(own) else own
                break
        else:
            value = self.usual(method, path)
        if value is not None:
            self.send(200, json.dumps(value).encode())

    def usual(self, method: str, path: str):
        server: Played = self.server
        if path.startswith("/object_info/"):
            kind = path.removeprefix("/object_info/")
            return {kind: {"input": {}, "output_node": kind in OUTPUT_NODES}}
        if path == "/upload/image":
            server.uploads.append(self.body)
            return {"name": "her (1).png", "subfolder": "likeness", "type": "input"}
        if path == "/prompt":
            server.queued.append(json.loads(self.body))
            return {"prompt_id": server.queued[-1]["prompt_id"], "number": 1, "node_errors": {}}
        if path.startswith("/history/"):
            return {path.removeprefix("/history/"): server.history}
        if path == "/queue" and method == "GET":
            return {"queue_running": [[0, id_] for id_ in server.running], "queue_pending": [[0, id_] for id_ in server.pending]}
        if path in ("/queue", "/interrupt"):
            server.stopped.append((path, json.loads(self.body)))
            return {}
        if path == "/view":
            self.send(200, PNG, "image/png")
            return None
        self.send(404, b"")
        return None

    def send(self, status: int, content: bytes, kind: str = "application/json", **headers: str):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content))}.items() | headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class Played(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, prefix: str = ""):
        super().__init__(("127.0.0.1", 0), Player)
        self.prefix, self.answers, self.history = prefix, {}, history(SAVED)
        self.asked, self.uploads, self.queued, self.stopped = [], [], [], []
        self.running, self.pending = [], []
        self.address = f"127.0.0.1:{self.server_port}{prefix}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that goes away is no news."""


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(remote, "POLL_SECONDS", 0.02)
    server = Played()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def her(tmp_path):
    (tmp_path / "her.png").write_bytes(PNG)
    return tmp_path / "her.png"


@pytest.fixture
def run(played, tmp_path, her, capsys):
    """Runs PROMPT on the played host, with her as the reference; gives (exit status, standard output, standard error)."""
    (tmp_path / "mine.json").write_text(json.dumps(PROMPT))

    def go(*arguments, host=None):
        status = main(["run", str(tmp_path / "mine.json"), "--host", host or played.address, "--out", str(tmp_path / "out"), *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return go


def files(tmp_path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())


# --- a run that goes well ---


def test_a_run_uploads_fills_queues_downloads_and_prints_paths(run, played, tmp_path, her):
    played.history = history(
        {
            "4": {"images": [image("likeness_verdicts.jpg", "temp")]},
            "5": {"images": [image("scene_00001_.png", subfolder="likeness"), image("scene_00002_.png", subfolder="likeness")]},
            "6": {"images": [image("ComfyUI_temp_abc_00001_.png", "temp")]},
            "7": {"text": ['{"verdict": "pass"}', "plain words"]},
        }
    )
    status, out, err = run("--reference", her, "--prompt", "on a beach", "--seed", 5, "--aspect", "9:16", "--negative", "blur")
    assert status == 0, err
    assert files(tmp_path) == ["Rejected.png", "Report.json", "Report.txt", "scene_00001_.png", "scene_00002_.png"]
    assert (tmp_path / "out" / "scene_00001_.png").read_bytes() == PNG
    assert (tmp_path / "out" / "Report.json").read_text() == '{"verdict": "pass"}'
    assert sorted(Path(line).name for line in out.splitlines()) == files(tmp_path)
    (sent,) = played.queued
    assert sent["client_id"] and sent["prompt_id"]
    assert sent["prompt"]["1"]["inputs"]["image"] == "likeness/her (1).png"
    assert sent["prompt"]["3"]["inputs"] == {"scene": "on a beach", "negative": "blur", "seed": 5, "aspect_ratio": "9:16"}
    assert PNG in played.uploads[0] and b'filename="her.png"' in played.uploads[0] and b'name="overwrite"' not in played.uploads[0]


def test_nothing_in_the_folder_is_overwritten(run, her, tmp_path):
    assert run("--reference", her)[0] == 0
    (tmp_path / "out" / "scene_00001_.png").write_bytes(b"mine")
    assert run("--reference", her)[0] == 0
    assert files(tmp_path) == ["scene_00001_.png", "scene_00001__00002.png"]
    assert (tmp_path / "out" / "scene_00001_.png").read_bytes() == b"mine"


def test_the_report_says_what_was_filled_and_made(run, her, tmp_path):
    status, out, err = run("--reference", her, "--seed", 3, "--json", "-")
    told = json.loads(out)
    assert status == 0 and told["filled"] == {"3.seed": 3, "1.image": "likeness/her (1).png"} and told["problems"] == []
    assert told["outputs"] == [{"node": "5", "title": "Passed: saved", "class": "SaveImage", "path": str(tmp_path / "out" / "scene_00001_.png")}]
    assert str(tmp_path / "out" / "scene_00001_.png") in err
    (tmp_path / "there.json").write_text("mine")
    status, _, err = run("--json", tmp_path / "there.json")
    assert status == 2 and "exists already and is not overwritten" in err and (tmp_path / "there.json").read_text() == "mine"


def test_a_reference_that_nobody_named_is_said_to_be_the_workflows_own(run, played):
    status, _, err = run()
    assert status == 0 and "likeness: no --reference: Her keeps example.png." in err and not played.uploads


def test_a_host_behind_a_path_is_reached_there_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(remote, "POLL_SECONDS", 0.02)
    server = Played("/comfy/one")
    (tmp_path / "mine.json").write_text(json.dumps(PROMPT))
    arguments = ["run", str(tmp_path / "mine.json"), "--out", str(tmp_path / "out"), "--host"]
    try:
        assert main([*arguments, f"http://{server.address}/"]) == 0, capsys.readouterr().err
        assert main([*arguments, f"http://name:secret@{server.address}"]) == 0
    finally:
        server.server_close()
    assert files(tmp_path) == ["scene_00001_.png", "scene_00001__00002.png"]
    assert {"POST /prompt", "GET /view", "GET /ws"} <= set(server.asked)


def test_a_password_in_the_address_is_sent_and_not_shown(run, played):
    seen = []
    played.answers["GET /object_info"] = lambda handler: seen.append(handler.headers.get("Authorization")) or handler.send(401, b"")
    status, _, err = run(host=f"http://name:secret@{played.address}")
    assert status == 2 and seen[0].startswith("Basic ") and "secret" not in err and "answers 401 (it wants a name and password" in err


# --- what is refused before anything is queued ---


def test_nodes_and_files_that_the_host_lacks_are_told_and_nothing_is_queued(run, played, her):
    played.answers["GET /object_info/LikenessIdentityGate"] = {}
    played.answers["GET /object_info/LikenessQwenScene"] = {
        "LikenessQwenScene": {"input": {"required": {"scene": ["STRING", {}], "speed_lora": [["none", "there.safetensors"], {}]}}}
    }
    status, _, err = run("--reference", her)
    assert status == 2 and "The host has no node LikenessIdentityGate: install Likeness there" in err and "Nothing was queued." in err
    assert not played.queued and not played.uploads


def test_node_errors_are_a_sentence_for_each_node_by_its_title(run, played, her):
    own = {"type": "custom_validation_failed", "message": "Custom validation failed for node", "details": "face - Choose one\x1b[2J face"}
    usual = {"type": "value_not_in_list", "message": "Value not in list", "details": "aspect_ratio: '9:99' not in list"}
    told = {"error": {"message": "Prompt outputs failed validation"}, "node_errors": {"4": {"errors": [own]}, "3": {"errors": [usual]}}}
    played.answers["POST /prompt"] = lambda handler: handler.send(400, json.dumps(told).encode())
    status, _, err = run("--reference", her)
    assert status == 2
    assert "Gate (4): Choose one\\x1b[2J face." in err and "Scene (3): Value not in list: aspect_ratio: '9:99' not in list." in err
    assert "does not take the workflow: Prompt outputs failed validation." in err and "\x1b" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seed", "-5"], "The seed -5 must lie between"),
        (["--timeout", "0"], "The timeout 0 must be a number of seconds above 0"),
        (["--timeout", "nan"], "The timeout nan must be"),
        (["--lora", "x"], "has nothing that --lora could fill"),
        (["--reference", "a.png", "b.png"], "takes 1 file(s) with --reference (Her), and 2 are given"),
        (["--reference", "absent.png"], "absent.png"),
        (["--set", "3.seed"], "is not NODE.INPUT=VALUE"),
        (["--aspect", "tall"], "is not WIDTH:HEIGHT"),
    ],
)
def test_wrong_use_is_one_sentence_and_reaches_no_host(run, played, arguments, sentence):
    status, _, err = run(*arguments)
    assert status == 2 and sentence in err and err.count("\n") == 1 and not played.asked


def test_a_reference_that_is_no_picture_is_not_sent(run, played, tmp_path):
    (tmp_path / "words.png").write_text("words")
    status, _, err = run("--reference", tmp_path / "words.png")
    assert status == 2 and "is not a picture" in err and not played.asked


# --- addresses ---


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("gpu", "http://gpu:8188"),
        ("gpu:80", "http://gpu"),
        ("[::1]", "http://[::1]:8188"),
        ("https://gpu.example.com/comfy/", "https://gpu.example.com/comfy"),
        ("http://name:secret@gpu:1?x=1#y", "http://gpu:1"),
    ],
)
def test_an_address_is_read_with_and_without_scheme_port_and_path(address, name):
    assert Host(address).name == name


@pytest.mark.parametrize("address", ["", "ftp://gpu", "http://", "gpu:port", "gpu:99999", "http://[::1", "file:///etc/passwd", "gpu:0"])
def test_what_is_no_address_is_refused_without_repeating_it(address):
    with pytest.raises(InputError, match="The address of --host"):
        Host(address)


def test_a_host_that_is_not_there_is_one_sentence(run):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    status, _, err = run(host=f"127.0.0.1:{port}")
    assert status == 2 and f"http://127.0.0.1:{port} cannot be reached" in err and err.count("\n") == 1


def test_proxies_of_the_environment_are_not_used(run, played, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert run()[0] == 0


# --- hostile and broken hosts ---


def test_a_redirect_is_not_followed(run, played):
    other = Played()
    played.answers["GET /object_info"] = lambda handler: handler.send(302, b"", Location=f"http://{other.address}/object_info")
    status, _, err = run()
    other.server_close()
    assert status == 2 and "no redirect is followed" in err and not other.asked


def test_a_redirected_download_is_not_followed_either(run, played, tmp_path):
    other = Played()
    played.answers["GET /view"] = lambda handler: handler.send(307, b"", Location=f"http://{other.address}/view")
    status, _, err = run()
    other.server_close()
    assert status == 1 and "no redirect is followed" in err and not other.asked and files(tmp_path) == []


@pytest.mark.parametrize(
    "output",
    [
        image("../../evil.png"),
        image("evil.png", subfolder="../.."),
        image("evil.png", subfolder="/etc"),
        image("/etc/evil.png"),
        image("a/evil.png"),
        image("a\\..\\evil.png"),
        image("C:evil.png"),
        image("..", "temp"),
        image(""),
        image(".bashrc"),
        image("evil\x1b.png"),
        image("nul.png"),
    ],
)
def test_a_name_that_reaches_for_other_places_is_left_there(run, played, tmp_path, output):
    before = set(tmp_path.rglob("*"))
    played.history = history({"5": {"images": [output, image("good.png")]}})
    status, _, err = run()
    assert status == 1 and "that is no name for a picture, and it is left there" in err and "\x1b" not in err
    assert files(tmp_path) == ["good.png"]
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "out", tmp_path / "out" / "good.png"}


def test_titles_are_made_into_names_that_stay_in_the_folder(run, played, tmp_path, monkeypatch):
    prompt = json.loads(json.dumps(PROMPT))
    prompt["6"]["_meta"]["title"], prompt["7"]["_meta"]["title"] = "../../up: <1>", "NUL"
    (tmp_path / "mine.json").write_text(json.dumps(prompt))
    played.history = history(SAVED | {"6": {"images": [image("x.png", "temp")]}, "7": {"text": ["t"]}})
    assert run()[0] == 0
    assert files(tmp_path) == ["NUL_7.txt", "scene_00001_.png", "up_ _1.png"]


def test_a_download_that_breaks_off_leaves_no_file(run, played, tmp_path):
    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(10 * len(PNG)))
        handler.end_headers()
        handler.wfile.write(PNG)
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)

    played.answers["GET /view"] = half
    status, _, err = run()
    assert status == 1 and "Passed: saved (5): The connection to" in err and "broke during view" in err
    assert files(tmp_path) == []


def test_a_client_that_is_killed_in_a_download_leaves_no_file(played, tmp_path):
    begun = threading.Event()

    def endless(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 30))
        handler.end_headers()
        handler.wfile.write(PNG)
        handler.wfile.flush()
        begun.set()
        time.sleep(30)

    played.answers["GET /view"] = endless
    (tmp_path / "mine.json").write_text(json.dumps(PROMPT))
    arguments = ["run", str(tmp_path / "mine.json"), "--host", played.address, "--out", str(tmp_path / "out")]
    code = f"from tests.conftest import make_package_importable as made; made(); from character_likeness.nodes.terminal import main; main({arguments!r})"
    client = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, stderr=subprocess.DEVNULL)
    assert begun.wait(60)
    time.sleep(0.2)
    client.kill()
    client.wait()
    assert files(tmp_path) == []


def test_an_answer_without_end_is_broken_off(run, played, monkeypatch):
    monkeypatch.setattr(remote, "LARGEST_ANSWER", 1 << 20)
    monkeypatch.setattr(remote.Host._ask, "__defaults__", ((200,), 1 << 20, remote.ANSWER_SECONDS))
    played.answers["GET /object_info"] = lambda handler: handler.send(200, b"[" * (3 << 20))
    status, _, err = run()
    assert status == 2 and "gives more than 1 MB; that is refused" in err


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("GET /history", b"[]"),
        ("GET /history", b"<html>"),
        ("POST /prompt", b"[1]"),
        ("POST /prompt", b'{"prompt_id": 5}'),
        ("GET /object_info", b"\xff\xfe"),
        ("GET /object_info", b"[" * 200_000),
    ],
)
def test_what_is_no_comfyui_is_told_so(run, played, monkeypatch, path, content):
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.1)
    played.answers[path] = lambda handler: handler.send(200, content)
    status, _, err = run()
    assert status == 2 and ("does not answer as ComfyUI does" in err or "has not answered for" in err)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"outputs": [], "status": []},
        {"outputs": {"5": [1], "6": {"images": "x", "text": [1, None]}}, "status": {"messages": "x"}},
        {"outputs": {"5": {"images": [None, 5, {"filename": 5}, {"filename": "a.png"}]}}, "status": {"messages": [[], [1], ["execution_error", 5], None]}},
        {"outputs": {"99": {"images": [image("a.png")]}}},
    ],
)
def test_a_history_of_nonsense_gives_nothing_and_status_1(run, played, tmp_path, entry):
    played.history = entry
    status, out, err = run()
    assert (status, out) == (1, "") and "got nothing" in err and "Traceback" not in err


# --- runs that fail, and gates that nothing passes ---


def test_a_node_that_fails_is_named_with_its_sentence_and_what_was_made_before_comes(run, played, tmp_path):
    error = ["execution_error", {"node_id": "4", "node_type": "LikenessIdentityGate", "exception_message": "No recognizer\n is installed: do this."}]
    played.history = history(SAVED, error, status="error")
    status, _, err = run()
    assert status == 1 and "likeness: Gate (4): No recognizer is installed: do this.\n" in err and files(tmp_path) == ["scene_00001_.png"]


def test_where_nothing_passes_that_is_said_and_the_rejected_come(run, played, tmp_path):
    played.history = history({"6": {"images": [image("t.png", "temp")]}, "7": {"text": ["{}"]}})
    status, _, err = run()
    assert status == 1 and "Passed: saved (5) got nothing: no picture passed Gate (4)." in err
    assert files(tmp_path) == ["Rejected.png", "Report.json"]


def test_an_empty_side_for_the_rejected_is_no_failure(run):
    assert run()[0] == 0


def test_a_widget_whose_value_is_a_list_is_no_link(run, tmp_path):
    prompt = json.loads(json.dumps(PROMPT))
    prompt["3"]["inputs"] |= {"points": [[0, 0], [1, 1]], "empty": [], "curve": [{"x": 0}, 1]}
    (tmp_path / "mine.json").write_text(json.dumps(prompt))
    assert run()[0] == 0


def test_a_run_that_gives_nothing_at_all_says_so(run, played, tmp_path):
    prompt = {"1": PROMPT["1"], "6": PROMPT["6"] | {"inputs": {"images": ["1", 0]}}}
    (tmp_path / "mine.json").write_text(json.dumps(prompt))
    played.history = history({})
    status, _, err = run()
    assert status == 1 and "likeness: The run gave nothing." in err and not (tmp_path / "out").exists()


def test_outputs_that_the_host_leaves_out_are_told(run, played):
    fault = {"6": {"errors": [{"type": "x", "message": "Required input is missing", "details": "images"}]}}
    played.answers["POST /prompt"] = lambda handler: {"prompt_id": ID, "node_errors": fault}
    status, _, err = run()
    assert status == 1 and "Rejected (6): Required input is missing: images. It was left out." in err


def test_a_run_that_somebody_interrupts_is_told(run, played):
    played.history = history({}, ["execution_interrupted", {}], status="error")
    status, _, err = run()
    assert status == 1 and "The run was interrupted on the host." in err


def test_a_run_that_a_host_has_lost_is_told(run, played):
    played.answers["GET /history"] = {}
    status, _, err = run()
    assert status == 2 and "knows nothing of the run" in err


def test_a_host_that_goes_silent_in_a_run_is_given_up(run, played, monkeypatch):
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.1)
    played.answers["GET /history"] = lambda handler: handler.send(502, b"")
    status, _, err = run()
    assert status == 2 and "has not answered for 0.1 seconds; the run" in err and "may go on there" in err


def test_a_slow_host_is_not_waited_for_forever(run, played, monkeypatch):
    monkeypatch.setattr(remote, "SECONDS", 0.2)
    played.answers["GET /object_info"] = lambda handler: time.sleep(1)
    status, _, err = run()
    assert status == 2 and "gave no answer within 0.2 seconds" in err


# --- stopping ---


@pytest.mark.parametrize(("where", "stopped"), [("running", ("/interrupt", "prompt_id")), ("pending", ("/queue", "delete"))])
def test_a_timeout_stops_this_run_and_nobody_elses(run, played, where, stopped):
    def queue(handler):
        sent = json.loads(handler.body)
        getattr(played, where).append(sent["prompt_id"])
        return {"prompt_id": sent["prompt_id"], "node_errors": {}}

    played.running.append("somebody else's")
    played.answers |= {"POST /prompt": queue, "GET /history": {}}
    status, _, err = run("--timeout", "0.2")
    own = getattr(played, where)[-1]
    assert status == 1 and "the run took longer than 0.2 seconds; the" in err
    assert played.stopped == [(stopped[0], {stopped[1]: own if stopped[1] == "prompt_id" else [own]})]


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_stops_this_run_and_says_so(played, tmp_path):
    import signal

    def queue(handler):
        sent = json.loads(handler.body)
        played.running.append(sent["prompt_id"])
        return {"prompt_id": sent["prompt_id"], "node_errors": {}}

    played.answers |= {"POST /prompt": queue, "GET /history": {}}
    (tmp_path / "mine.json").write_text(json.dumps(PROMPT))
    arguments = ["run", str(tmp_path / "mine.json"), "--host", played.address, "--out", str(tmp_path / "out")]
    code = f"import sys; from tests.conftest import make_package_importable as made; made(); from character_likeness.nodes.terminal import main; sys.exit(main({arguments!r}))"
    client = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (played.running and any(one.startswith("GET /history") for one in played.asked)) and time.monotonic() < end:
        time.sleep(0.05)
    client.send_signal(signal.SIGINT)
    _, err = client.communicate(timeout=60)
    assert client.returncode == 130
    assert "likeness: Ctrl-C; the host was asked to stop the run.\nlikeness: interrupted\n" in err
    assert played.stopped == [("/interrupt", {"prompt_id": played.running[0]})]


# --- the socket ---


class Said:
    """A socket that says these things, then nothing, or closes."""

    def __init__(self, *messages, closes=False):
        self.messages, self.closes = list(messages), closes

    def recv(self, timeout):
        if self.messages:
            return self.messages.pop(0)
        if self.closes:
            raise ConnectionError
        raise TimeoutError


def event(kind: str, **data) -> str:
    return json.dumps({"type": kind, "data": {"prompt_id": ID, **data}})


def test_messages_become_steps_of_the_nodes_that_the_user_knows():
    text = (3).to_bytes(4, "big") + (5).to_bytes(4, "big") + b"3.0.1" + b"take 2\n of 4"
    said = [
        event("executing", node="3", display_node="3"),
        event("progress", node="3", value=2, max=4),
        event("executing", node="3.0.1", display_node="3"),
        text,
        event("progress", node="3.0.1", value=1, max=20),
        event("execution_success"),
        event("executing", node="9"),
    ]
    messages = Messages(Said(*said))
    assert list(messages.steps(ID, 1)) == [Step("3"), Step("3", 2, 4), Step("3"), Step("3", text="take 2 of 4"), Step("3", 1, 20)]
    assert messages.over and not messages.closed


def test_what_is_nonsense_or_somebody_elses_is_passed_over():
    other = json.dumps({"type": "executing", "data": {"prompt_id": "other", "node": None}})
    said = ["", "{", "[]", "5", '{"type": 1}', '{"type": "progress", "data": 5}', event("progress", node=[], value="a", max={}), other]
    said += [b"", b"\0\0", b"\0\0\0\x01" + b"x" * 20, "[" * 100_000, json.dumps({"type": "status", "data": {"status": {}}})]
    messages = Messages(Said(*said, closes=True))
    assert list(messages.steps(ID, 1)) == [] and messages.closed and not messages.over


def test_a_socket_that_closes_is_followed_by_looking_at_the_history(played):
    played.running.append(ID)
    entries = [{}, {}, {ID: history(SAVED)}]
    played.answers["GET /history"] = lambda handler: entries.pop(0) if len(entries) > 1 else entries[0]
    steps = []
    with Host(played.address) as host:
        ran = host.follow(ID, Messages(Said(event("executing", node="5"), closes=True)), steps.append)
    assert steps == [Step("5")] and ran.outputs == (Output("5", "scene_00001_.png", "likeness", "output"),)


def test_a_socket_that_never_tires_does_not_keep_the_history_from_being_looked_at(played, monkeypatch):
    monkeypatch.setattr(remote, "QUIET_SECONDS", 0.1)

    class Endless(Said):
        def recv(self, timeout):
            return event("progress", node="5", value=1, max=2)

    with Host(played.address) as host:
        assert host.follow(ID, Messages(Endless()), lambda step: None).outputs


def test_two_uploads_of_one_name_are_what_the_host_calls_them(played, her):
    played.answers["POST /upload"] = {"name": 5}
    with Host(played.address) as host, pytest.raises(HostError, match="does not answer as ComfyUI does"):
        host.upload(her)


def test_the_name_of_an_upload_is_harmless(played, tmp_path):
    path = tmp_path / '..x";\r\n evil.png' if os.name != "nt" else tmp_path / "..x; evil.png"
    path.write_bytes(PNG)
    with Host(played.address) as host:
        assert host.upload(path) == "likeness/her (1).png"
    (line,) = [line for line in played.uploads[0].split(b"\r\n") if b"filename=" in line]
    assert line.endswith((b'filename="x____ evil.png"', b'filename="x_ evil.png"')), line


def test_only_the_named_host_is_asked(run, played, monkeypatch, her):
    asked = set()
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: asked.add(host) or real(host, *rest, **more))
    assert run("--reference", her)[0] == 0
    assert {host.decode() if isinstance(host, bytes) else host for host in asked} <= {urlsplit(f"//{played.address}").hostname}
