"""An export that is killed, has no room, may not write, or meets another one: nothing is lost, nothing is half there, and the next run comes to the same end."""

import contextlib
import errno
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from character_likeness.nodes.lora_dataset import writing
from character_likeness.nodes.lora_dataset.export import carry_out, plan_export
from character_likeness.nodes.lora_dataset.targets import ExportError
from tests.tiny.exports import album, dataset_of, drawn, export, inside, options, tree

pytestmark = pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "fork"), reason="needs fork and POSIX signals")
KILLS = 20


class Rig:
    """Two states of a dataset, what each is on disk, and a folder that holds the first."""

    def __init__(self, folder: Path):
        pictures = dataset_of(album(folder / "in", 8, 200, 160))
        self.first = pictures.with_items(pictures.items[:6])
        changed = dataset_of(album(folder / "more", 3, 200, 160, first=40)).items
        kept = [replace(item, caption=f"{item.caption}, changed") for item in pictures.items[2:]]
        # The same stem with another picture, too.
        self.second = pictures.with_items([*kept, *changed[1:], replace(changed[0], stem="p001")])
        self.options = {"archive": "zip"}
        self.before = folder / "before"
        export(self.first, self.before, **self.options)
        self.states = {None: {}, "first": tree(self.before)}
        start = time.perf_counter()
        export(self.second, folder / "after", **self.options)
        self.seconds = time.perf_counter() - start
        self.wanted = tree(folder / "after")

    def start_at(self, out: Path, state: str | None) -> None:
        if state:
            shutil.copytree(self.before, out, copy_function=shutil.copy2)

    def check(self, out: Path, state: str | None) -> None:
        """Every file is whole, old or new; and the next run ends as one that nobody disturbed."""
        for name, content in tree(out).items() if out.exists() else ():
            assert content in (self.wanted.get(name), self.states[state].get(name)), name
        if out.exists() and tree(out).get("mira/manifest.json") == self.wanted["mira/manifest.json"]:
            # It is the last to change.
            assert tree(out).items() >= self.wanted.items()
        export(self.second, out, **self.options)
        assert tree(out) == self.wanted
        assert inside(out / "mira") == ["journal.json", "lock"]
        assert export(self.second, out, **self.options).difference.nothing


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    return Rig(tmp_path_factory.mktemp("rig"))


def child(work, *arguments):
    """A process that does this and nothing of pytest's."""

    def run():
        # Not pytest's own outputs: what a dying process leaves there is no failure.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            work(*arguments)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


@pytest.mark.parametrize("state", [None, "first"], ids=["into nothing", "over an older one"])
def test_after_a_kill_at_a_random_moment_the_next_run_comes_to_the_same_end(rig, tmp_path, state):
    rng, killed = random.Random(1), 0
    for number in range(KILLS // 2):
        out = tmp_path / str(number)
        rig.start_at(out, state)
        process = child(lambda out=out: export(rig.second, out, **rig.options))
        process.join(rng.uniform(0, 1.2 * rig.seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        rig.check(out, state)
    # Enough of them died before they were done.
    assert killed >= KILLS // 4


CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "open")


def dies_at(moment: int, what, *arguments, changes=CHANGES, **more) -> None:
    """Does it, and is killed (SIGKILL) just before its moment-th change of the disk, of these kinds."""
    count = 0

    def watch(event, details):
        nonlocal count
        reads = event == "open" and not (isinstance(details[1], str) and any(letter in details[1] for letter in "wax+"))
        if event in changes and not reads:
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    what(*arguments, **more)


@pytest.mark.parametrize(
    "state, changes, step, least",
    [(None, CHANGES, 9, 40), ("first", CHANGES, 7, 40), ("first", ("os.rename", "os.remove"), 1, 20)],
    ids=["into nothing", "over an older one", "while files are put in place"],
)
def test_after_a_kill_at_any_change_of_the_disk_the_next_run_comes_to_the_same_end(rig, tmp_path, state, changes, step, least):
    moment = 1
    while True:
        out = tmp_path / str(moment)
        rig.start_at(out, state)
        process = child(lambda out=out, moment=moment: dies_at(moment, export, rig.second, out, changes=changes, **rig.options))
        process.join()
        rig.check(out, state)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        shutil.rmtree(out)
        moment += step
    assert moment > least


@pytest.mark.parametrize("moment", [1, 2, 3, 8])
def test_after_two_kills_with_other_wishes_in_between_nothing_is_taken_for_somebody_else_s(rig, tmp_path, moment):
    between = rig.second.with_items(replace(item, caption=f"{item.caption}, between") for item in rig.second.items[:7])
    rig.start_at(tmp_path / "out", "first")
    for dataset in (between, rig.second):
        # The first to be renamed is the journal that tells what will be moved, then come the files.
        process = child(lambda dataset=dataset: dies_at(moment, export, dataset, tmp_path / "out", changes=("os.rename",), **rig.options))
        process.join()
        assert process.exitcode == -signal.SIGKILL
    export(rig.second, tmp_path / "out", **rig.options)
    assert tree(tmp_path / "out") == rig.wanted


def test_a_killed_run_does_not_make_the_next_one_begin_anew(rig, tmp_path, monkeypatch):
    out = tmp_path / "out"
    process = child(lambda: dies_at(30, export, rig.second, out, **rig.options))
    process.join()
    made = list((out / "mira" / ".likeness" / "staging").glob("*"))
    assert process.exitcode == -signal.SIGKILL and len(made) > 5
    told = []
    real = writing.digest_of
    monkeypatch.setattr(writing, "digest_of", lambda path: (told.append(path.name), real(path))[1])
    export(rig.second, out, **rig.options)
    assert len(told) <= len(rig.wanted) - len(made) + 3
    assert tree(out) == rig.wanted


def test_of_two_exports_into_one_folder_the_second_is_refused_and_a_killed_one_blocks_nobody(rig, tmp_path):
    out, ready = tmp_path / "out", tmp_path / "ready"

    def slow():
        def wait(done, total, path):
            ready.touch()
            time.sleep(60)

        carry_out(plan_export(rig.second, options(out, **rig.options)), wait)

    process = child(slow)
    try:
        while not ready.exists():
            assert process.is_alive()
            time.sleep(0.01)
        with pytest.raises(ExportError, match="Another export is at work") as error:
            export(rig.second, out, **rig.options)
        assert str(out / "mira") in str(error.value) and str(error.value).endswith(".")
        # The dry run only looks.
        assert export(rig.second, out, dry_run=True, **rig.options).difference.new
        assert process.is_alive() and inside(out / "mira") == ["lock", "staging"]
    finally:
        process.kill()
        process.join()
    rig.check(out, None)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int):
    folder.mkdir(parents=True, exist_ok=True)
    mounted = shutil.which("mount") and subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], capture_output=True)
    if not mounted or mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_disk_is_as_before(rig, tmp_path):
    disk = tmp_path / "disk"
    size = sum(map(len, rig.wanted.values())) // 1024
    for share in (0.05, 0.4, 0.6, 0.95):
        with small_disk(disk, max(16, int(size * share))):
            with pytest.raises(ExportError, match="is full; make room and export again") as error:
                export(rig.second, disk / "out", **rig.options)
            assert "\n" not in str(error.value) and str(error.value).endswith(".")
            assert not list(disk.iterdir())
    with small_disk(disk, size * 3):
        rig.start_at(disk / "out", "first")
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(b"x" * 4096)
        with pytest.raises(ExportError, match="is full"):
            export(rig.second, disk / "out", **rig.options)
        assert tree(disk / "out") == rig.states["first"] and inside(disk / "out" / "mira") == ["journal.json", "lock"]
        filler.unlink()
        rig.check(disk / "out", "first")


def test_a_file_too_large_for_the_file_system_is_one_sentence_and_nothing_is_there(rig, tmp_path):
    """By the limit of a process (RLIMIT_FSIZE), which any user can set: the archive is the largest file."""
    import resource

    answer = tmp_path / "answer"

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, largest // 2))
        try:
            export(rig.second, tmp_path / "out", **rig.options)
        except ExportError as error:
            answer.write_text(str(error))

    largest = max(map(len, rig.wanted.values()))
    process = child(work)
    process.join()
    assert process.exitcode == 0 and "too large for the file system" in answer.read_text()
    assert not (tmp_path / "out").exists()


def test_a_folder_that_may_not_be_written_is_one_sentence(rig):
    # Root may write anywhere, so a process of nobody tries; it may not look into pytest's own folders either.
    with tempfile.TemporaryDirectory() as name:
        folder, answer = Path(name), Path(name) / "answers" / "answer"
        folder.chmod(0o755)
        answer.parent.mkdir()
        answer.parent.chmod(0o777)
        rig.start_at(folder / "out", "first")
        pictures = shutil.copytree(album(folder / "in", 2), folder / "in2")
        dataset = dataset_of(pictures)
        paths = [folder / "out", *(folder / "out").rglob("*"), folder]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)

        def work(out):
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            try:
                export(dataset, out)
            except ExportError as error:
                answer.write_text(str(error))

        for out in (folder / "out", folder / "new"):
            answer.unlink(missing_ok=True)
            process = child(work, out)
            process.join()
            assert process.exitcode == 0
            text = answer.read_text()
            assert "cannot be written (Permission denied)" in text and text.count("\n") == 0 and text.endswith(".")
        assert tree(folder / "out") == rig.states["first"] and not (folder / "new").exists()
        for path in paths:
            path.chmod(0o755)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_while_files_are_put_in_place_is_one_sentence_and_the_next_run_goes_on(rig, tmp_path, monkeypatch, number):
    """No file system fails there on demand, so the call does."""
    rig.start_at(tmp_path / "out", "first")
    real, calls = os.replace, []

    def replace_(source, target):
        calls.append(target)
        if len(calls) == 6:
            raise OSError(number, os.strerror(number), str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace_)
    with pytest.raises(ExportError, match="the next export goes on from there") as error:
        export(rig.second, tmp_path / "out", **rig.options)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    rig.check(tmp_path / "out", "first")


def test_a_source_that_changes_during_the_export_stops_it(rig, tmp_path):
    folder = album(tmp_path / "in", 4)
    plan = plan_export(dataset_of(folder), options(tmp_path / "out"))
    Image.fromarray(drawn(99)).save(folder / "p001.jpg")
    with pytest.raises(Exception, match="was changed while it was being exported") as error:
        carry_out(plan)
    assert "p001.jpg" in str(error.value) and not tree(tmp_path / "out")


def test_a_journal_line_that_was_cut_off_is_no_harm(rig, tmp_path):
    out = tmp_path / "out"
    process = child(lambda: dies_at(40, export, rig.second, out, **rig.options))
    process.join()
    log = out / "mira" / ".likeness" / "staging" / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    for path in sorted(log.parent.glob("*[0-9a-f]"))[:3]:
        path.write_bytes(path.read_bytes()[:-1])
    rig.check(out, None)


def test_what_somebody_writes_while_files_are_made_is_kept(tmp_path):
    from character_likeness.nodes.lora_dataset.targets import Wanted
    from character_likeness.nodes.lora_dataset.writing import bring_about

    folder = tmp_path / "set"
    bring_about(folder, [Wanted.of("a/x.txt", b"old"), Wanted.of("a/gone.txt", b"old")])

    def meanwhile(path, words):
        def make(file):
            (folder / path).write_text(words)
            file.write(b"ours")
            return {}

        return make

    for path in ("a/x.txt", "a/new.txt"):
        with pytest.raises(ExportError, match="was changed while the export ran"):
            bring_about(folder, [Wanted(path, "new", meanwhile(path, "mine")), Wanted.of("a/gone.txt", b"old")])
        assert (folder / path).read_text() == "mine"
        (folder / path).unlink()
    bring_about(folder, [Wanted.of("a/gone.txt", b"old")])
    done = bring_about(folder, [Wanted("b.txt", "new", meanwhile("a/gone.txt", "mine"))])
    assert done.kept == ("a/gone.txt",) and (folder / "a/gone.txt").read_text() == "mine"


def test_a_picture_that_is_another_than_the_one_that_was_judged_is_not_exported(tmp_path):
    from character_likeness.nodes.errors import PictureError

    dataset = dataset_of(album(tmp_path / "in", 2))
    judged = dataset.with_items([replace(item, seen=item.source.key) for item in dataset.items])
    plan_export(judged, options(tmp_path / "out"))
    Image.new("RGB", (50, 50), (255, 0, 0)).save(judged.items[1].source.path)
    with pytest.raises(PictureError, match="is another picture than the one that was judged"):
        plan_export(judged, options(tmp_path / "out"))
