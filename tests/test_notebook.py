"""What was seen of pictures outlives a killed run: noted as numbers, read again as it was, believed only under the same settings, gone in the end."""

import json

import numpy as np
import pytest

from character_likeness.nodes.errors import InputError
from character_likeness.nodes.identity.recognizers import Face
from character_likeness.nodes.lora_dataset import survey
from character_likeness.nodes.lora_dataset.audit import audit
from character_likeness.nodes.lora_dataset.dataset import Dataset, DatasetItem
from character_likeness.nodes.lora_dataset.faces import FaceReading
from character_likeness.nodes.lora_dataset.notebook import Notebook, resumable
from character_likeness.nodes.lora_dataset.survey import Faces
from character_likeness.nodes.lora_dataset.targets import MEASURED, OURS, Wanted
from character_likeness.nodes.lora_dataset.writing import bring_about
from tests.tiny.exports import album, dataset_of

FACE = Face((1.5, 2, 30.25, 40), np.float32(0.87), np.arange(10, dtype=np.float32).reshape(5, 2), np.linspace(-1, 1, 8, dtype=np.float32), -12.5, 0.125)
SEEN = {
    "pixels": {"width": 640, "sharpness": 812.4, "phash": "00ff00ff00ff00ff"},
    "faces": Faces((FACE,), np.array([0.61])),
    "reading": None,
    "crop": ((640, 480), (FaceReading((1.0, 2.0, 3.0, 4.0), 0.9, framing="closeup", by="x"), 0.5, "the face"), None),
}


@pytest.fixture(autouse=True)
def forgotten():
    survey.forget()


def noted(folder, settings="one"):
    notebook = Notebook(folder, settings)
    for part, value in SEEN.items():
        notebook.note("k1", part, ("variant", 1), value)
    return notebook


def test_what_was_noted_is_read_again_as_it_was(tmp_path):
    noted(tmp_path / "mira")
    again = Notebook(tmp_path / "mira", "one")
    (pixels,), (faces,), (reading,), (crop,) = (again.recall("k1", part, ("variant", 1)) for part in SEEN)
    assert pixels == SEEN["pixels"] and reading is None and crop == SEEN["crop"] and type(faces.faces[0].confidence) is np.float32
    (face,) = faces.faces
    assert (face.box, face.confidence, face.yaw, face.sharpness) == (FACE.box, FACE.confidence, FACE.yaw, FACE.sharpness)
    for one, other in ((face.keypoints, FACE.keypoints), (face.embedding, FACE.embedding), (faces.scores, SEEN["faces"].scores)):
        assert one.dtype == other.dtype and (one == other).all()
    assert again.recall("k2", "pixels", ("variant", 1)) == again.recall("k1", "pixels", ("variant", 2)) == ()


def test_what_was_seen_with_something_else_is_not_believed_and_is_begun_anew(tmp_path):
    noted(tmp_path / "mira")
    other = Notebook(tmp_path / "mira", "two")
    assert other.recall("k1", "pixels", ("variant", 1)) == ()
    other.note("k1", "pixels", 0, {"width": 1})
    assert Notebook(tmp_path / "mira", "two").recall("k1", "pixels", 0) == ({"width": 1},)
    assert Notebook(tmp_path / "mira", "one").recall("k1", "pixels", ("variant", 1)) == ()


@pytest.mark.parametrize("damage", [b"", b"{", b'[]\n{"key": 1}', b'{"format": 1}\n'])
def test_a_damaged_file_is_begun_anew(tmp_path, damage):
    path = noted(tmp_path / "mira").path
    path.write_bytes(damage)
    assert noted(tmp_path / "mira").recall("k1", "faces", ("variant", 1)) == ()
    assert Notebook(tmp_path / "mira", "one").recall("k1", "faces", ("variant", 1)) != ()


def test_a_line_that_is_cut_off_or_damaged_is_passed_over(tmp_path):
    path = noted(tmp_path / "mira").path
    head, pixels, faces, *_ = path.read_bytes().splitlines()
    broken = json.loads(faces)
    broken["value"] = {"kind": "Faces"}
    path.write_bytes(b"\n".join((head, pixels, json.dumps(broken).encode(), b'{"key": "k1", "pa')))
    again = Notebook(tmp_path / "mira", "one")
    assert again.recall("k1", "pixels", ("variant", 1)) == (SEEN["pixels"],) and again.recall("k1", "faces", ("variant", 1)) == ()


def test_no_picture_is_noted_and_another_run_does_not_look_again(tmp_path):
    dataset = dataset_of(album(tmp_path / "in", 3))

    class Reader:
        name, looks = "a reader", 0

        def read(self, pixels):
            self.looks += 1
            return FaceReading((1.0, 1.0, 20.0, 20.0), 0.9)

    class Killed(BaseException):
        pass

    def kill(done, of):
        if done == 2:
            raise Killed

    reader = Reader()
    with pytest.raises(Killed), resumable(tmp_path / "out" / "mira", 1):
        audit(dataset, faces=reader, progress=kill)
    path = tmp_path / "out" / "mira" / OURS / MEASURED
    lines = [json.loads(line) for line in path.read_bytes().splitlines()[1:]]
    assert {line["part"] for line in lines} == {"pixels", "reading"} and 4 <= len(lines) <= 6
    looks = reader.looks
    survey.forget()
    with resumable(tmp_path / "out" / "mira", 1):
        resumed = audit(dataset, faces=reader)
    assert reader.looks == 3 and looks >= 2
    survey.forget()
    fresh = audit(dataset, faces=Reader())
    assert [item.measured for item in resumed.dataset.items] == [item.measured for item in fresh.dataset.items]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name != "mira"]


def test_a_failure_with_a_sentence_leaves_nothing_behind(tmp_path):
    with pytest.raises(InputError), resumable(tmp_path / "out" / "mira", 1):
        audit(dataset_of(album(tmp_path / "in", 2)))
        raise InputError("No.")
    assert not (tmp_path / "out").exists()


def test_an_export_takes_the_file_away(tmp_path):
    notebook = noted(tmp_path / "mira")
    bring_about(tmp_path / "mira", [Wanted.of("a.txt", b"a")])
    assert not notebook.path.exists()


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "mira").write_text("a file")
    with resumable(tmp_path / "mira", 1):
        result = audit(dataset_of(album(tmp_path / "in", 2)))
    assert len(result.dataset) == 2 and (tmp_path / "mira").read_text() == "a file"


def test_without_a_folder_nothing_is_noted(tmp_path):
    with resumable(None, 1):
        audit(Dataset((DatasetItem(dataset_of(album(tmp_path / "in", 1)).items[0].source, "a"),)))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
