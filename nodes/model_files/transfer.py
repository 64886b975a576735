"""Fetches a catalogue entry when the user asks: resumable, checked, never over a file that is already there. What exists is in catalogue.py.

Bytes go to `<name>.part` beside the target, with `<name>.part.version` telling which version of the file they belong to. A finished file is checked by
hash and by opening it, and os.replace puts it in place.

Files on Hugging Face are resolved by huggingface_hub (address, authentication, gating, size, LFS hash), but not fetched by hf_hub_download, which cannot
resume: each try writes to a new `<etag>.<uuid>.incomplete` and deletes it on failure (huggingface_hub 1.x to 2.4, its issue 4196). They take the same
stream as every other file instead, from the very commit whose hash was stated.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import re
import shutil
import stat
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ..errors import DownloadError
from .catalogue import HubFile, ModelEntry, ModelFile, WebFile, entry, human_size

CHUNK = 1 << 20  # bytes read at a time when hashing and unpacking
ATTEMPTS = 3  # tries in a row that bring not one new byte before giving up; a slow line that drops every minute still gets there
RETRY_PAUSE = 2.0  # seconds between tries
TIMEOUT = 30.0  # seconds without a byte
MAX_REDIRECTS = 5  # GitHub and Hugging Face use one or two
DISK_MARGIN = 64 << 20  # bytes left free, so that the host can still write its own files
LOOPBACK = ("127.0.0.1", "::1", "localhost")

# (name of the file, bytes that are there, bytes that it has): told as they arrive, and again and again while they are checked and unpacked.
Watch = Callable[[str, int, int], None]


def download(name: str, models_dir: str | Path, *, progress: bool = True, endpoint: str | None = None, watch: Watch | None = None) -> list[Path]:
    """Fetch what `name` lacks in `models_dir` and return the paths of its files. Files that are there are left alone, whatever they hold.

    `endpoint` replaces scheme and host of every address: a mirror, or a server on this machine, the one place where http is accepted. Without it
    Hugging Face files honour HF_ENDPOINT. HF_TOKEN, then HUGGINGFACE_TOKEN, then `hf auth login` authenticate there, and nowhere else.
    An archive that the user has put into the folder is used instead of downloading it. What `watch` raises stops the download; what arrived is kept.

    Raises InputError for an unknown name, DownloadError (one sentence; what arrived is kept unless it is wrong) for everything that can go wrong.
    """
    item = entry(name)
    folder = Path(models_dir, item.folder)
    jobs = [
        _Job(item, file, folder, progress, endpoint, watch or _unwatched)
        for file in item.files
        if not all((folder / found).is_file() for found in file.provides)
    ]
    try:
        if jobs:
            folder.mkdir(parents=True, exist_ok=True)
            _require_space(jobs)
        for job in jobs:
            _install(job)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"The disk of {folder} is full; make room and repeat `{item.command}`, which goes on where it stopped.") from error
        raise DownloadError(f"{folder} cannot be written ({error.strerror or error}); mend its permissions or choose another --models-dir.") from error
    paths = [folder / found for file in item.files for found in ([member.filename for member in file.members] or [file.filename])]
    return [path for path in paths if path.is_file()]


@dataclass(frozen=True)
class _Job:
    """One file to fetch into one folder."""

    item: ModelEntry
    file: ModelFile
    folder: Path
    progress: bool
    endpoint: str | None
    watch: Watch

    def look(self) -> None:
        """Let the watcher stop what takes long and brings no bytes."""
        self.watch(self.file.filename, self.have, max(self.file.size, self.have))

    @property
    def given(self) -> bool:
        """The user has put the archive there."""
        return self.file.archive and (self.folder / self.file.filename).is_file()

    @property
    def part(self) -> Path:
        return self.folder / f"{self.file.filename}.part"

    @property
    def version(self) -> Path:
        return self.folder / f"{self.file.filename}.part.version"

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Remote:
    """Where the bytes are. `version` names this version of the file before it is asked for; '' where only the answer's ETag can tell."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    sha256: str | None = None
    size: int | None = None
    version: str = ""


def _unwatched(filename: str, done: int, total: int) -> None:
    pass


def _limit(size: int) -> int:
    """Most bytes accepted for a file that the catalogue gives as `size`: some sizes are rounded, and half as much again is another file."""
    return size + size // 2 + (1 << 20)


def _require_space(jobs: list[_Job]) -> None:
    """Downloads and, for archives, what comes out of them must fit beside each other."""
    item, folder = jobs[0].item, jobs[0].folder
    fetched = sum(max(job.file.size - job.have, 0) for job in jobs if not job.given)
    need = fetched + sum(member.size for job in jobs for member in job.file.members) + DISK_MARGIN
    free = shutil.disk_usage(folder).free
    if free < need:
        raise DownloadError(
            f"{item.title} needs {human_size(need)} on the disk of {folder}, where {human_size(free)} are free; make room and repeat `{item.command}`."
        )


def _install(job: _Job) -> None:
    """Fetch, check and put in place one file, or what one archive holds."""
    target = job.folder / job.file.filename
    if job.given:
        fault = _fault(job, target, target.name, job.file.sha256) or _unpack(job, target)
        if fault:
            raise DownloadError(f"{target} cannot be used, since {fault}; remove it and repeat `{job.item.command}`.")
        return
    remote = _fetch(job)
    fault = _fault(job, job.part, job.file.filename, remote.sha256) or (_unpack(job, job.part) if job.file.archive else None)
    if fault:
        job.drop()
        raise DownloadError(f"{job.file.filename} from {_host(remote.url)} was thrown away, since {fault}; repeat `{job.item.command}`.")
    if not job.file.archive:
        os.replace(job.part, target)
    job.drop()


# ---- where the bytes are


def _resolve(job: _Job) -> _Remote:
    """The address of a job's file with what is known of it beforehand. Raises DownloadError."""
    source = job.file.source
    if isinstance(source, WebFile):
        url = job.endpoint.rstrip("/") + urlsplit(source.url).path if job.endpoint else source.url
        return _Remote(url, sha256=job.file.sha256)
    return _resolve_hub(job, source)


def _resolve_hub(job: _Job, source: HubFile) -> _Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import HfHubHTTPError, OfflineModeIsEnabled, build_hf_headers

    endpoint = (job.endpoint or os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None
    token = (os.environ.get("HF_TOKEN") or os.environ.get("HUGGINGFACE_TOKEN") or "").strip() or None
    url = hf_hub_url(source.repo_id, source.path, revision=source.revision, endpoint=endpoint)
    _require_https(job, url)
    try:
        found = get_hf_file_metadata(url, token=token, library_name="character-likeness")
    except OfflineModeIsEnabled as error:
        raise DownloadError(f"{job.file.filename} was not downloaded, since HF_HUB_OFFLINE is set; unset it and repeat `{job.item.command}`.") from error
    except HfHubHTTPError as error:
        raise _refusal(job, url, error.response.status_code) from error
    except Exception as error:  # requests', httpx' or httpx2's own, by version of huggingface_hub
        raise _unreachable(job, url, error) from error
    etag = found.etag or ""
    stated = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None  # of LFS files the ETag is the sha256
    pinned = job.file.sha256
    if stated and pinned and stated != pinned:
        raise DownloadError(
            f"{job.file.filename} has changed at {_host(url)} (sha256 {stated} instead of {pinned}), so nothing was downloaded; "
            f"update Likeness, or look at {job.item.page}."
        )
    url = hf_hub_url(source.repo_id, source.path, revision=found.commit_hash or source.revision, endpoint=endpoint)
    return _Remote(url, build_hf_headers(token=token, library_name="character-likeness"), stated or pinned, found.size, etag)


def _require_https(job: _Job, url: str) -> None:
    parts = urlsplit(url)
    local = (job.endpoint or "").startswith("http://") and parts.scheme == "http" and parts.hostname in LOOPBACK
    if parts.scheme != "https" and not local:
        raise DownloadError(f"{job.file.filename} was not downloaded, since the address {_host(url)} is not https; see {job.item.page}.")


def _host(url: str) -> str:
    """Scheme and host: enough to tell a source, and without the signature that a redirected address carries."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def _refusal(job: _Job, url: str, status: int) -> DownloadError:
    name, item = job.file.filename, job.item
    if status in (401, 403) and isinstance(job.file.source, HubFile):
        return DownloadError(
            f"{_host(url)} refuses {name} ({status}): accept the licence at {item.page} with your account, set HF_TOKEN (or HUGGINGFACE_TOKEN) "
            f"to an access token of that account, and repeat `{item.command}`."
        )
    if status == 404:
        return DownloadError(f"{name} is no longer at {url} (404); find it at {item.page} and put it into {job.folder}.")
    return DownloadError(f"{_host(url)} answers {status} for {name}; repeat `{item.command}` later, which goes on where it stopped.")


def _unreachable(job: _Job, url: str, error: Exception) -> DownloadError:
    if job.have:
        return DownloadError(
            f"{job.file.filename} arrived only in part ({human_size(job.have)} of {human_size(job.file.size)}; {type(error).__name__}); "
            f"repeat `{job.item.command}`, which goes on where it stopped."
        )
    return DownloadError(
        f"{_host(url)} cannot be reached ({type(error).__name__}); go online and repeat `{job.item.command}`, "
        f"or put {job.file.filename} from {job.item.page} into {job.folder}."
    )


# ---- the stream


def _fetch(job: _Job) -> _Remote:
    """Bring the part file to its full length, over as many connections as that takes. Raises DownloadError."""
    import httpx

    remote = _resolve(job)
    # httpx follows redirects itself and takes Authorization off as soon as the origin changes; the hook sees each hop before it is asked.
    hooks = {"request": [lambda request: _require_https(job, str(request.url))]}
    stalled = 0
    with httpx.Client(follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=TIMEOUT, event_hooks=hooks) as client:
        while True:
            job.look()
            before, error = job.have, httpx.ReadError("incomplete")
            try:
                if _advance(client, job, remote):
                    return remote
            except httpx.TransportError as dropped:
                error = dropped
            except httpx.HTTPError as broken:  # too many redirects, a compressed answer that cannot be read
                raise _unreachable(job, remote.url, broken) from broken
            stalled = 0 if job.have > before else stalled + 1
            if stalled == ATTEMPTS:
                raise _unreachable(job, remote.url, error) from error
            time.sleep(RETRY_PAUSE)


def _advance(client, job: _Job, remote: _Remote) -> bool:
    """One request: go on after the bytes that are there, or start over when they cannot be the start of this file. True when it is whole."""
    from tqdm import tqdm

    known = job.version.read_text() if job.version.is_file() else ""
    # Bytes of another version are useless; bytes of an unknown one are only worth keeping where a hash will tell in the end.
    if (remote.version and known != remote.version) or not (known or remote.sha256):
        job.drop()
    have = job.have
    if have and have == remote.size:
        return True
    headers = {**remote.headers, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known and not remote.version:
            headers["If-Range"] = known  # a file that has changed comes whole
    with client.stream("GET", remote.url, headers=headers) as response:
        status, sent = response.status_code, response.headers.get("Content-Range", "")
        if status == 416:  # nothing after what we have: it is whole, or longer than the file
            if sent == f"bytes */{have}":
                return True
            job.drop()
            return False
        if status not in (200, 206):
            raise _refusal(job, remote.url, status)
        if status == 200:
            job.drop()
            have = 0
        elif not sent.startswith(f"bytes {have}-"):
            job.drop()
            return False
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else remote.size
        limit = _limit(job.file.size)
        _require_size(job, remote, total or 0, limit)
        etag = response.headers.get("ETag", "")
        job.version.write_text(remote.version or ("" if etag.startswith("W/") else etag))  # a weak ETag does not promise equal bytes
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=job.file.filename, disable=not job.progress)
        with job.part.open("ab") as part, bar:
            for block in response.iter_raw():
                part.write(block)
                bar.update(len(block))
                have += len(block)
                if have > limit:
                    break
                job.watch(job.file.filename, have, total or max(job.file.size, have))
    _require_size(job, remote, have, limit)
    return total is None or have == total


def _require_size(job: _Job, remote: _Remote, size: int, limit: int) -> None:
    if size > limit:
        job.drop()
        raise DownloadError(
            f"{_host(remote.url)} sends {human_size(size)} or more as {job.file.filename}, which should be {human_size(job.file.size)}, "
            f"so it was thrown away; look at {job.item.page}."
        )


# ---- is it what it should be


def _sha256(job: _Job, path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
            job.look()
    return digest.hexdigest()


def _fault(job: _Job, path: Path, filename: str, sha256: str | None) -> str | None:
    """Why `path` cannot be the model file `filename`, or None: its hash where one is known, then a look inside. Nothing is unpickled or run.

    A .zip is looked into by `_unpack`, which reads only the members that are wanted.
    """
    if sha256 and (found := _sha256(job, path)) != sha256:
        return f"its sha256 is {found} instead of {sha256}"
    kind = Path(filename).suffix
    try:
        # onnx comes with insightface; without it the hash, which every .onnx of the catalogue has, stands alone.
        if kind == ".onnx" and importlib.util.find_spec("onnx"):
            import onnx

            graph = onnx.load_model(str(path), load_external_data=False).graph
            if not (graph.input and graph.node):
                return "it holds no ONNX graph"
        elif kind == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="numpy") as tensors:
                if not tensors.keys():
                    return "it holds no tensors"
        elif kind == ".tflite":
            with path.open("rb") as file:
                if file.read(8)[4:] != b"TFL3":  # the FlatBuffers file identifier of TensorFlow Lite
                    return "it is no TensorFlow Lite model"
        elif kind == ".task":  # a zip of TensorFlow Lite models
            with zipfile.ZipFile(path) as bundle:
                if broken := bundle.testzip():
                    return f"{broken} in it is damaged"
        elif kind == ".bin":  # torch.save writes a zip around data.pkl; its directory stands at the end, so a cut file has none
            with zipfile.ZipFile(path) as checkpoint:
                if not any(PurePosixPath(name).name == "data.pkl" for name in checkpoint.namelist()):
                    return "it is no PyTorch checkpoint"
    except Exception as error:  # each reader has its own
        return f"it cannot be opened ({error})"
    return None


def _unpack(job: _Job, archive: Path) -> str | None:
    """Put the archive's members, found by base name in whatever folder they are, flat into the job's folder; returns why not, or None.

    All are unpacked beside the target and checked before the first is put in place, and none over a file that is there. One hostile member
    (a link, an absolute path, a drive, '..', a size far beyond the catalogue's) condemns the archive. zipfile itself never yields more bytes than the
    size that was checked here, and raises BadZipFile where the content or its CRC disagrees.
    """
    wanted = {member.filename: member for member in job.file.members if not (job.folder / member.filename).exists()}
    chosen: dict[str, zipfile.ZipInfo] = {}
    workplace = job.folder / f".{job.file.filename}.unpacking"
    shutil.rmtree(workplace, ignore_errors=True)  # left by a run that was killed
    try:
        with zipfile.ZipFile(archive) as bundle:
            for info in bundle.infolist():
                path = PurePosixPath(info.filename.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", info.filename) or stat.S_ISLNK(info.external_attr >> 16):
                    return f"it wants to write outside its folder ({info.filename})"
                if path.name not in wanted or info.is_dir():
                    continue
                if path.name in chosen:
                    return f"it holds {path.name} twice"
                if info.file_size > _limit(wanted[path.name].size):
                    return f"{path.name} in it would be {human_size(info.file_size)}, not {human_size(wanted[path.name].size)}"
                chosen[path.name] = info
            if absent := [name for name, member in wanted.items() if member.needed and name not in chosen]:
                return f"it does not hold {' and '.join(absent)}"
            workplace.mkdir()
            for name, info in chosen.items():
                target = workplace / name
                with bundle.open(info) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, CHUNK)
                if fault := _fault(job, target, name, wanted[name].sha256):
                    return f"{name} in it is wrong: {fault}"
            for name in chosen:
                os.replace(workplace / name, job.folder / name)
    except zipfile.BadZipFile as error:
        return f"it is no sound zip ({error})"
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return None
