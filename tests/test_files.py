"""Writing without loss: names stay in their folder, nothing is overwritten, a file is whole or not there."""

import os
import threading
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.files import checked_name, write_new

# --- names ---


@pytest.mark.parametrize(
    "name, path",
    [
        ("her", "her"),
        ("Ann Lee 2", "Ann Lee 2"),
        ("李小龍", "李小龍"),
        ("Zoë, été", "Zoë, été"),
        ("shoot 1/her", "shoot 1/her"),
        ("shoot 1\\her", "shoot 1/her"),
        ("  her  ", "her"),
        ("./her", "her"),
        ("v1.2", "v1.2"),
        (".hidden", ".hidden"),
        ("console", "console"),
        ("her.safetensors", "her"),
        ("her.png", "her.png"),
        ("a..b", "a..b"),
        ("~", "~"),
    ],
)
def test_names_that_are_good_on_every_system_are_taken(name, path):
    assert checked_name(name, ".safetensors") == Path(path)


@pytest.mark.parametrize("name", ["", "   ", ".", "/", "\\", ".safetensors", "x/.."])
def test_a_name_of_nothing_is_refused(name):
    with pytest.raises(InputError, match="cannot be a file name"):
        checked_name(name, ".safetensors")


@pytest.mark.parametrize(
    "name",
    [
        *["..", "../her", "a/../../her", "..\\her", "a\\..\\..\\her", "/etc/her", "\\her"],
        *["//server/share/her", "\\\\server\\share\\her", "C:\\her", "c:her", "C:", "a/C:/her"],
    ],
)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(InputError) as error:
        checked_name(name)
    assert f"'{name}'" in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        *["con", "CON", "nul.txt", "a/Aux", "com1", "LPT9.old", "com²", "PRN .x", "CONIN$", "her.", "a./her", "her ./x", "a /her"],
        *["a\0b", "a\nb", "a\x1bb", 'a"b', "a<b", "a|b", "a?b", "a*b", "a:b", "\ud800"],
    ],
)
def test_names_that_some_system_refuses_are_refused(name):
    with pytest.raises(InputError):
        checked_name(name)


names = st.one_of(
    st.text(st.characters(codec=None), max_size=30),
    st.lists(st.sampled_from(["..", ".", "/", "\\", "a", " ", ":", "C:", "nul", "~", "\0", "é", "%2e", "...", "$HOME"]), max_size=8).map("".join),
)


@given(names)
@example("..\\..\\x")
@example("a/b\\..\\..\\..\\x")
def test_whatever_name_is_accepted_stays_in_its_folder_on_every_system(name):
    try:
        path = checked_name(name, ".png")
    except InputError:
        return
    text = path.as_posix()
    for kind, folder in ((PurePosixPath, "/folder"), (PureWindowsPath, "D:\\folder")):
        whole = kind(folder) / kind(text)
        assert whole.parts[: len(kind(folder).parts)] == kind(folder).parts
        assert len(whole.parts) > len(kind(folder).parts) and ".." not in whole.parts
        assert not kind(text).anchor
    text.encode("utf-8")
    assert all(part == part.strip(" ").rstrip(".") for part in path.parts)


# --- writing ---


def test_a_taken_name_gets_a_number_and_the_files_there_stay(tmp_path):
    (tmp_path / "her.bin").write_bytes(b"mine")
    written = [write_new(tmp_path / "her.bin", bytes([i])) for i in range(3)]
    assert [path.name for path in written] == ["her_00002.bin", "her_00003.bin", "her_00004.bin"]
    assert (tmp_path / "her.bin").read_bytes() == b"mine"
    assert [path.read_bytes() for path in written] == [b"\0", b"\1", b"\2"]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_folder_or_a_dangling_link_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "her.bin").mkdir()
    (tmp_path / "his.bin").symlink_to(tmp_path / "nowhere")
    assert write_new(tmp_path / "her.bin", b"x").name == "her_00002.bin"
    assert write_new(tmp_path / "his.bin", b"x").name == "his_00002.bin"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_an_interrupted_write_leaves_nothing_behind(tmp_path, monkeypatch, error):
    whole = Path.write_bytes

    def half(self, content):
        whole(self, content[: len(content) // 2])
        raise error

    (tmp_path / "her.bin").write_bytes(b"mine")
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(error if isinstance(error, type) else OSError):
        write_new(tmp_path / "her.bin", b"0123456789")
    assert [path.name for path in tmp_path.iterdir()] == ["her.bin"]
    assert (tmp_path / "her.bin").read_bytes() == b"mine"


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def look(source, target):
        seen.append((Path(source).read_bytes(), Path(target).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    target = write_new(tmp_path / "her.bin", b"0123456789")
    assert seen == [(b"0123456789", b"")]
    assert target.read_bytes() == b"0123456789" and list(tmp_path.iterdir()) == [target]


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path):
    target = tmp_path / ("n" * 251 + ".bin")
    assert write_new(target, b"x").read_bytes() == b"x"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(OSError):
        write_new(tmp_path / ("n" * 300), b"x")
    assert list(tmp_path.iterdir()) == [target]


def test_two_writers_of_one_name_both_keep_their_file(tmp_path):
    written, start = [], threading.Barrier(8)

    def write(i):
        start.wait()
        written.append((write_new(tmp_path / "her.bin", bytes([i]) * 1000), i))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({path for path, _ in written}) == 8 == len(list(tmp_path.iterdir()))
    assert all(path.read_bytes() == bytes([i]) * 1000 for path, i in written)
