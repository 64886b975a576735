"""A real ComfyUI as a child process on the CPU, with this pack linked in, driven through its HTTP API."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

START_SECONDS = 180
RUN_SECONDS = 300


class Comfy:
    """One running host. base: its base directory, with input, output, models and custom_nodes; extra: packs besides this one; arguments: of its command line."""

    def __init__(self, root: Path, pack: Path, base: Path, extra: tuple[Path, ...] = (), arguments: tuple[str, ...] = ()):
        self.base = base
        for folder in ("custom_nodes", "input", "output", "models", "temp", "user"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        for name, folder in (("ComfyUI-Likeness", pack), *((folder.name, folder) for folder in extra)):
            link = base / "custom_nodes" / name
            if not link.exists():
                link.symlink_to(folder, target_is_directory=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = base / "host.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        environment |= {"PYTHONDONTWRITEBYTECODE": "", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "main.py", "--cpu", "--base-directory", str(base), "--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
        with open(self.log_file, "w") as log:
            self.process = subprocess.Popen(
                [*command, *arguments, "--port", str(self.port), "--use-pytorch-cross-attention"],
                cwd=root,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended while starting:\n{self.log()[-3000:]}")
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.3)
        self.stop()
        raise RuntimeError(f"ComfyUI did not start:\n{self.log()[-3000:]}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def get(self, path: str):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def get_text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + urllib.parse.quote(path), timeout=60) as answer:
            return answer.read().decode()

    def post(self, path: str, value) -> dict:
        request = urllib.request.Request(self.url + path, json.dumps(value).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            content = error.read()
        return json.loads(content) if content else {}

    def upload(self, name: str, pixels: np.ndarray, folder: str = "") -> str:
        """Send a uint8 picture through the host's own upload; returns the name for Load Image."""
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG")
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'.encode() + encoded.getvalue(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\n{folder}'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue'.encode(),
            f"--{boundary}--\r\n".encode(),
        ]
        request = urllib.request.Request(self.url + "/upload/image", b"\r\n".join(parts), {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        return f"{told['subfolder']}/{told['name']}" if told["subfolder"] else told["name"]

    def run(self, prompt: dict) -> "Run":
        """Queue a prompt in API form and wait for it."""
        answer = self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
        if "prompt_id" not in answer:
            return Run(self, {"status": {"status_str": "refused"}, "outputs": {}, "answer": answer})
        end = time.monotonic() + RUN_SECONDS
        while time.monotonic() < end:
            history = self.get(f"/history/{answer['prompt_id']}")
            if answer["prompt_id"] in history:
                return Run(self, history[answer["prompt_id"]] | {"answer": answer})
            time.sleep(0.1)
        raise RuntimeError(f"The prompt did not end within {RUN_SECONDS} s:\n{self.log()[-3000:]}")

    def interrupt_when(self, reached) -> None:
        """Interrupt, from a thread of its own, as soon as what GET /test_counts gives makes `reached` true, however slow the machine is."""

        def wait() -> None:
            end = time.monotonic() + RUN_SECONDS
            while time.monotonic() < end and not reached(self.get("/test_counts")):
                time.sleep(0.05)
            self.post("/interrupt", {})

        self.post("/test_counts/reset", {})
        threading.Thread(target=wait, daemon=True).start()

    def picture(self, image: dict) -> np.ndarray:
        with urllib.request.urlopen(f"{self.url}/view?{urllib.parse.urlencode(image)}", timeout=60) as answer:
            return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGB"))


class Run:
    """What came of a prompt. refused: the host did not take it; error: the message of the node that failed, else None."""

    def __init__(self, comfy: Comfy, history: dict):
        self._comfy, self._history = comfy, history
        self.status = history["status"]["status_str"]

    @property
    def error(self) -> str | None:
        # The host leaves out what cannot run and runs the rest.
        if self.status == "refused" or self._history.get("answer", {}).get("node_errors"):
            errors = [error for node in self._history["answer"].get("node_errors", {}).values() for error in node["errors"]]
            return "\n".join(f"{error['message']}: {error['details']}" for error in errors) or json.dumps(self._history["answer"])
        for kind, message in self._history["status"].get("messages", []):
            if kind == "execution_error":
                return message["exception_message"].strip()
        return None

    def images(self, node: str) -> list[dict]:
        return self._history["outputs"].get(node, {}).get("images", [])

    def pictures(self, node: str) -> list[np.ndarray]:
        return [self._comfy.picture(image) for image in self.images(node)]

    def texts(self, node: str) -> list[str]:
        return list(self._history["outputs"].get(node, {}).get("text", []))
