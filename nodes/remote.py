"""A ComfyUI server as its HTTP interface gives it: upload, queue, follow, interrupt, download. Only the named host is contacted; what it says is checked.

What a workflow is, and which files it needs, is api_forms.py's; options and printing are terminal_run.py's.
"""

from __future__ import annotations

import json
import re
import struct
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import InputError, LikenessError
from .files import checked_name
from .installation import needed

DEFAULT_PORT = 8188
# Seconds without a byte, and for a whole answer that is no download.
SECONDS, ANSWER_SECONDS = 30.0, 120.0
# A host that runs out of memory or is restarted behind a proxy comes back, or does not.
SILENT_SECONDS = 60.0
# How often the history is looked at: without a socket, and with one that says nothing.
POLL_SECONDS, QUIET_SECONDS = 1.0, 5.0
# object_info of a host with many files is some MB; a picture of 100 megapixels in 16 bit is 600 MB.
LARGEST_ANSWER, LARGEST_FILE, LARGEST_MESSAGE = 64 << 20, 1 << 30, 64 << 20
MOST_OUTPUTS = 10_000
# What ComfyUI takes in one request, unless it is started with --max-upload-size.
LARGEST_UPLOAD = 100 << 20
UPLOAD_FOLDER = "likeness"
# server.py's BinaryEventTypes.TEXT: the line of text below a node.
TEXT_EVENT = 3


class HostError(LikenessError):
    """A host that cannot be reached, that refuses, or whose answer is not ComfyUI's."""


@dataclass(frozen=True)
class Output:
    """A file that a node gave: in the host's folder `kind` (output, temp, input)."""

    node: str
    filename: str
    subfolder: str
    kind: str


@dataclass(frozen=True)
class Ran:
    """What came of a prompt. error: (node id or "", sentence) of what ended it, None where it ran to its end; texts: (node id, text)."""

    outputs: tuple[Output, ...]
    texts: tuple[tuple[str, str], ...]
    error: tuple[str, str] | None = None
    interrupted: bool = False


@dataclass(frozen=True)
class Step:
    """How far a run is. node: the id that the user knows; of: 0 where nothing is counted; text: what the node says of itself."""

    node: str
    done: float = 0
    of: float = 0
    text: str = ""


class RefusedError(HostError):
    """A prompt that the host does not take. by_node: its sentences by node id."""

    def __init__(self, message: str, by_node: Mapping[str, list[str]]):
        super().__init__(message)
        self.by_node = dict(by_node)


class Host:
    """A ComfyUI at `host:port` or at an http(s) address, with a path before its own where it has one. A context manager.

    Raises InputError for an address that cannot be used, MissingPackageError without httpx. No redirect is followed and no proxy of the environment used.
    """

    def __init__(self, address: str):
        with needed("httpx"):
            import httpx

        self._url = _checked(address)
        # Messages do not repeat a password that the address holds.
        self.name = str(self._url.copy_with(userinfo=b"")).rstrip("/")
        self.client_id = uuid.uuid4().hex
        limits = httpx.Timeout(SECONDS)
        self._client = httpx.Client(timeout=limits, follow_redirects=False, trust_env=False, headers={"Accept-Encoding": "identity"})

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # -- what is asked of it

    def nodes(self, classes: Iterator[str] | list[str]) -> dict[str, dict]:
        """object_info of those classes that the host has."""
        found = {}
        for kind in classes:
            answer = self._json("GET", f"object_info/{quote(kind, safe='')}")
            if isinstance(answer, dict) and isinstance(answer.get(kind), dict):
                found[kind] = answer[kind]
        return found

    def upload(self, path: Path) -> str:
        """Put a picture into the host's input folder, over nothing that is there, and give its name there: the same for the same file."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}).") from None
        if len(content) > LARGEST_UPLOAD:
            raise InputError(f"{path} has {len(content) >> 20} MB, more than the {LARGEST_UPLOAD >> 20} that ComfyUI takes; make it smaller.")
        name = re.sub(r"[^\w.() -]", "_", path.name).lstrip(". ")[-120:] or "picture.png"
        answer = self._json("POST", "upload/image", files={"image": (name, content)}, data={"type": "input", "subfolder": UPLOAD_FOLDER})
        told, folder = (answer.get("name"), answer.get("subfolder", "")) if isinstance(answer, dict) else (None, "")
        if not isinstance(told, str) or not isinstance(folder, str) or not told:
            raise self._foreign("upload/image")
        return f"{folder}/{told}" if folder else told

    def queue(self, prompt: Mapping[str, dict], prompt_id: str) -> tuple[str, dict[str, list[str]]]:
        """(the id of the run, sentences by node of outputs that the host leaves out). Raises RefusedError where it takes nothing."""
        body = {"prompt": prompt, "client_id": self.client_id, "prompt_id": prompt_id}
        answer = self._json("POST", "prompt", json=body, accepted=(200, 400))
        faults = _node_errors(answer.get("node_errors")) if isinstance(answer, dict) else {}
        if isinstance(answer, dict) and isinstance(answer.get("prompt_id"), str):
            return answer["prompt_id"], faults
        error = answer.get("error") if isinstance(answer, dict) else None
        told = error.get("message") if isinstance(error, dict) else error
        if not faults and not isinstance(told, str):
            raise self._foreign("prompt")
        raise RefusedError(f"{self.name} does not take the workflow: {_sentence(told) if isinstance(told, str) else 'its inputs are not valid'}", faults)

    def history(self, prompt_id: str) -> dict | None:
        """The entry of a run that is over, else None."""
        answer = self._json("GET", f"history/{quote(prompt_id, safe='')}")
        if not isinstance(answer, dict):
            raise self._foreign("history")
        entry = answer.get(prompt_id)
        return entry if isinstance(entry, dict) else None

    def waiting(self, prompt_id: str) -> str:
        """`running`, `pending`, or "" for a run that is not in the queue."""
        answer = self._json("GET", "queue")
        for key, state in (("queue_running", "running"), ("queue_pending", "pending")):
            items = answer.get(key) if isinstance(answer, dict) else None
            if any(isinstance(item, list) and len(item) > 1 and item[1] == prompt_id for item in items or ()):
                return state
        return ""

    def stop(self, prompt_id: str) -> str:
        """Interrupt this run, or take it out of the queue; nobody else's is touched. Gives what it was: `running`, `pending` or "" (it was over)."""
        state = self.waiting(prompt_id)
        if state == "pending":
            self._ask("POST", "queue", json={"delete": [prompt_id]})
            # It may have begun in between.
            state = self.waiting(prompt_id) or state
        if state == "running":
            self._ask("POST", "interrupt", json={"prompt_id": prompt_id})
        return state

    def download(self, output: Output) -> bytes:
        """A file that a node gave, whole. Raises HostError."""
        query = {"filename": output.filename, "subfolder": output.subfolder, "type": output.kind}
        return self._ask("GET", "view", params=query, largest=LARGEST_FILE, seconds=None)[1]

    def listen(self) -> Messages | None:
        """The host's messages to this client; None where there is no socket to be had. Open it before queueing: what was said earlier is not repeated."""
        with needed("websockets"):
            from websockets.exceptions import WebSocketException
            from websockets.sync.client import connect

        scheme = {"http": "ws", "https": "wss"}[self._url.scheme]
        address = self._at("ws").copy_with(scheme=scheme, params={"clientId": self.client_id})
        try:
            # As a context manager, which every version takes.
            opened = connect(str(address), open_timeout=SECONDS, close_timeout=1, max_size=LARGEST_MESSAGE, compression=None, proxy=None)
            return Messages(opened.__enter__(), opened)
        except (OSError, WebSocketException, EOFError, ValueError):
            return None

    def follow(self, prompt_id: str, messages: Messages | None, told: Callable[[Step], None], seconds: float | None = None) -> Ran:
        """Wait until a run is over, and say how far it is. Raises TimeoutError after so many seconds, HostError when the host is gone or has lost the run."""
        end = None if seconds is None else time.monotonic() + seconds
        heard, lost = time.monotonic(), 0
        while True:
            over = False
            if messages is None:
                time.sleep(POLL_SECONDS)
            else:
                for step in messages.steps(prompt_id, QUIET_SECONDS):
                    told(step)
                    if end is not None and time.monotonic() > end:
                        raise TimeoutError
                over = messages.over
                if messages.closed:
                    messages = None
            try:
                entry = self.history(prompt_id)
                state = self.waiting(prompt_id) if entry is None else ""
            except HostError:
                if time.monotonic() - heard > SILENT_SECONDS:
                    raise HostError(f"{self.name} has not answered for {SILENT_SECONDS:g} seconds; the run {prompt_id} may go on there.") from None
                time.sleep(POLL_SECONDS)
            else:
                heard = time.monotonic()
                if entry is not None:
                    return _ran(entry)
                # Between the queue and the history a run is in neither for a moment.
                lost = 0 if state else lost + 1
                if lost > 3:
                    raise HostError(f"{self.name} knows nothing of the run {prompt_id} any more: it was restarted, or the run was taken out of its queue.")
                if not state or over:
                    time.sleep(POLL_SECONDS / 4)
            if end is not None and time.monotonic() > end:
                raise TimeoutError

    # -- how

    def _at(self, path: str):
        return self._url.copy_with(path=f"{self._url.path.rstrip('/')}/", query=None).join(path)

    def _json(self, method: str, path: str, accepted: tuple[int, ...] = (200,), **request: Any) -> Any:
        try:
            return json.loads(self._ask(method, path, accepted, **request)[1])
        except (ValueError, RecursionError):
            raise self._foreign(path) from None

    def _ask(
        self,
        method: str,
        path: str,
        accepted: tuple[int, ...] = (200,),
        largest: int = LARGEST_ANSWER,
        seconds: float | None = ANSWER_SECONDS,
        **request: Any,
    ) -> tuple[int, bytes]:
        """(status, body) of an answer that came whole, was not too large and not too slow."""
        import httpx

        end = None if seconds is None else time.monotonic() + seconds
        content = bytearray()
        try:
            with self._client.stream(method, self._at(path), **request) as answer:
                if answer.is_redirect or 300 <= answer.status_code < 400:
                    where = answer.headers.get("location", "elsewhere")[:200]
                    raise HostError(f"{self.name} sends on to {where}, and no redirect is followed; name that address with --host if you trust it.")
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > largest:
                        raise HostError(f"{self.name}/{path} gives more than {largest >> 20} MB; that is refused.")
                    if end is not None and time.monotonic() > end:
                        raise HostError(f"{self.name}/{path} took more than {seconds:g} seconds to answer.")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise HostError(f"{self.name} cannot be reached ({_reason(error)}): start ComfyUI there, or name another with --host.") from None
        except httpx.TimeoutException:
            raise HostError(f"{self.name}/{path} gave no answer within {SECONDS:g} seconds.") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise HostError(f"The connection to {self.name} broke during {path} ({_reason(error)}).") from None
        if answer.status_code not in accepted:
            raise HostError(f"{self.name}/{path} answers {_status(answer.status_code)}.")
        return answer.status_code, bytes(content)

    def _foreign(self, path: str) -> HostError:
        return HostError(f"{self.name}/{path} does not answer as ComfyUI does; is --host the address of a ComfyUI?")


class Messages:
    """What the host says over its socket. over: the run that was asked for has ended; closed: nothing more comes."""

    def __init__(self, socket, opened=None):
        self._socket, self._opened = socket, opened
        self.over = self.closed = False
        self._shown: dict[str, str] = {}

    def close(self) -> None:
        if self._opened is not None:
            self._opened.__exit__(None, None, None)

    def steps(self, prompt_id: str, seconds: float) -> Iterator[Step]:
        """How far the run is, message by message, for so many seconds, or until the run is over or the socket closed."""
        from websockets.exceptions import WebSocketException

        end = time.monotonic() + seconds
        while not self.over and (left := end - time.monotonic()) > 0:
            try:
                message = self._socket.recv(timeout=left)
            except TimeoutError:
                return
            except (OSError, WebSocketException, EOFError):
                self.closed = True
                return
            step = self._text(message) if isinstance(message, bytes) else self._event(message, prompt_id)
            if step:
                yield step

    def _event(self, message: str, prompt_id: str) -> Step | None:
        try:
            told = json.loads(message)
            kind, data = told["type"], told["data"]
            if not isinstance(data, dict) or data.get("prompt_id") != prompt_id:
                return None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if kind in ("execution_success", "execution_error", "execution_interrupted") or (kind == "executing" and data.get("node") is None):
            self.over = True
        elif kind == "executing":
            node = str(data.get("node"))
            self._shown[node] = str(data.get("display_node") or node)
            return Step(self._shown[node])
        elif kind == "progress" and all(isinstance(data.get(key), int | float) for key in ("value", "max")):
            node = str(data.get("node"))
            return Step(self._shown.get(node, node), data["value"], data["max"])
        return None

    def _text(self, message: bytes) -> Step | None:
        """The line of text below a node; pictures, which come the same way, are passed over."""
        if len(message) < 8 or struct.unpack(">I", message[:4])[0] != TEXT_EVENT:
            return None
        (length,) = struct.unpack(">I", message[4:8])
        node = message[8 : 8 + length].decode(errors="replace")
        return Step(self._shown.get(node, node), text=" ".join(message[8 + length :].decode(errors="replace").split())[:200])


def safe_name(output: Output) -> str:
    """The file's own name, for a folder of ours. Raises HostError for a name, or a folder, with which a host reaches for other places."""
    try:
        name = checked_name(f"{output.subfolder}/{output.filename}" if output.subfolder else output.filename).name
        if output.filename != name or name.startswith("."):
            raise InputError(name)
    except InputError:
        raise HostError(f"The host names a file '{output.subfolder}/{output.filename}'; that is no name for a picture, and it is left there.") from None
    return name


def _ran(entry: Mapping[str, Any]) -> Ran:
    """An entry of the history, as far as it is what ComfyUI writes."""
    outputs, texts = {}, []
    nodes = entry.get("outputs")
    for node, given in nodes.items() if isinstance(nodes, dict) else ():
        for key, values in given.items() if isinstance(given, dict) else ():
            if not isinstance(values, list):
                continue
            if key == "text":
                texts += [(str(node), value) for value in values if isinstance(value, str)]
            for value in values:
                # `animated` and the like are no files.
                if isinstance(value, dict) and isinstance(value.get("filename"), str) and isinstance(value.get("type"), str):
                    output = Output(str(node), value["filename"], str(value.get("subfolder") or ""), value["type"])
                    outputs.setdefault((output.node, output.kind, output.subfolder, output.filename), output)
    status = entry.get("status") if isinstance(entry.get("status"), dict) else {}
    error, interrupted = None, False
    for message in status.get("messages") or () if isinstance(status.get("messages"), list) else ():
        kind, data = message if isinstance(message, list) and len(message) == 2 and isinstance(message[1], dict) else ("", {})
        if kind == "execution_error":
            error = (str(data.get("node_id", "")), _sentence(str(data.get("exception_message") or data.get("exception_type") or "it failed")))
        elif kind == "execution_interrupted":
            interrupted = True
    if status.get("status_str") == "error" and error is None and not interrupted:
        error = ("", "The host says no more than that it failed.")
    return Ran(tuple(outputs.values())[:MOST_OUTPUTS], tuple(texts[:MOST_OUTPUTS]), error, interrupted)


def _node_errors(told: Any) -> dict[str, list[str]]:
    """Sentences by node id out of the host's node_errors."""
    found = {}
    for node, entry in told.items() if isinstance(told, dict) else ():
        errors = entry.get("errors") if isinstance(entry, dict) else None
        found[str(node)] = [_node_error(error) for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []
    return found


def _node_error(error: Mapping[str, Any]) -> str:
    message, details = (" ".join(str(error.get(key) or "").split()) for key in ("message", "details"))
    if error.get("type") == "custom_validation_failed":
        # Our own sentence stands behind the input's name.
        return _sentence(details.split(" - ", 1)[-1] or message)
    return _sentence(f"{message}: {details}" if details else message)


def _sentence(text: str) -> str:
    text = " ".join(text.split())[:2000]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _status(code: int) -> str:
    more = {401: "it wants a name and password: write https://NAME:PASSWORD@... with --host", 403: "it refuses", 404: "there is nothing; is it a ComfyUI?"}
    more |= {413: "the file is too large for it", 502: "what stands before it does not reach it", 503: "it is not ready"}
    return f"{code} ({more[code]})" if code in more else str(code)


def _checked(address: str) -> Any:
    """The address as httpx.URL. No message repeats it: it may hold a password."""
    import httpx

    text = address.strip()
    bare = "://" not in text
    try:
        url = httpx.URL(f"http://{text}" if bare else text)
        port = url.port
    except (httpx.InvalidURL, TypeError, ValueError):
        raise InputError("The address of --host cannot be read; give one like 127.0.0.1:8188 or https://example.com/comfy.") from None
    if url.scheme not in ("http", "https") or not url.host or (port is not None and not 0 < port < 65536):
        raise InputError("The address of --host has no host, no such port, or is not http(s); give one like 127.0.0.1:8188 or https://example.com/comfy.")
    if bare and not re.search(r":\d+$", text.split("/")[0]):
        url = url.copy_with(port=DEFAULT_PORT)
    return url.copy_with(query=None, fragment=None)
