"""Face Swap (ReActor) through the real ReActor pack in a real ComfyUI, on tiny models: who is where before and after, and what is told."""

import json

import numpy as np
import pytest

from tests.host.graphs import Graph
from tests.host.reactor import absent, batch, painted
from tests.tiny.reactor_models import EMPTY_RESTORER, GREENER, RESTORER, SWAPPER, flagged

pytestmark = [pytest.mark.host, pytest.mark.insightface, pytest.mark.skipif(absent() is not None, reason=str(absent()))]

IMAGES, BEFORE, AFTER, REPORT, CAPTIONS = range(5)
HER, OTHER, THIRD, HIM = 2, 4, 6, 5
SWAP = {
    "swap_model": SWAPPER,
    "restore_model": "none",
    "detector": "retinaface_mobile0.25",
    "gender": "any",
    "swap_when": "below gate",
    "strictness": "standard",
    "threshold": 0.5,
    "target": "most similar",
    "keep": "better",
    "preset": "fast",
}


@pytest.fixture(scope="module")
def files(reactor):
    from tests.tiny.face_packs import background

    pictures = {
        "her": painted((HER, 100, 100, 400)),
        "him": painted((HIM, 100, 100, 400)),
        "her again": painted((HER, 180, 160, 300), noise=4),
        "other": painted((OTHER, 190, 190, 260)),
        "third": painted((THIRD, 150, 180, 280)),
        "pair": painted((OTHER, 40, 100, 260), (7, 400, 380, 200)),
        "alike on the right": painted((OTHER, 40, 100, 260), (HER, 400, 380, 200), likeness=1.0),
        "empty": background(640, 640, "photo"),
        "small": painted((OTHER, 120, 100, 200), size=(512, 448)),
        "flagged": flagged(painted((OTHER, 190, 190, 260))),
    }
    return {name: (reactor.upload(f"swap {name}.png", pixels), pixels) for name, pixels in pictures.items()}


class SwapGraph(Graph):
    def __init__(self, files):
        super().__init__()
        self.files = files
        self.recognizer = self.add("recognizer", "LikenessLoadRecognizer", recognizer="buffalo_l", device="auto").out(0)

    def load(self, *names: str, name: str = "target") -> list:
        return batch(self, [self.files[file][0] for file in names], name)

    def who(self, file: str, name: str) -> list:
        return self.identity(name, self.picture(f"{name} picture", self.files[file][0]), recognizer=self.recognizer)

    def swap(self, image, /, **inputs):
        inputs = {"identity": self.who("her", "Mira")} | inputs if "reference" not in inputs else inputs
        node = self.add("swap", "LikenessFaceSwap", **({"image": image} | SWAP | inputs))
        self.show("images", node.out(IMAGES))
        self.tell("report", node.out(REPORT))
        self.tell("before", node.out(BEFORE))
        self.tell("after", node.out(AFTER))
        return node


@pytest.fixture
def ran(reactor, files):
    def run(*names, **inputs):
        graph = SwapGraph(files)
        graph.swap(graph.load(*names), **inputs)
        return of(reactor.run(graph))

    return run


def of(run):
    assert run.status == "success" and run.error is None, run.error
    return run, json.loads(run.texts("report")[0])["pictures"], run.pictures("images")


def test_only_the_picture_that_fails_is_swapped_and_the_others_stay_bit_for_bit(ran, files, judge):
    run, rows, pictures = ran("her again", "other", "her")
    assert [row["done"].split(":")[0] for row in rows] == ["left as it is", "swapped", "left as it is"]
    assert np.array_equal(pictures[0], files["her again"][1]) and np.array_equal(pictures[2], files["her"][1])
    assert [judge.people(picture) for picture in pictures] == [[HER]] * 3
    assert rows[1]["score_before"] < 0.4 < 0.8 < rows[1]["score_after"] and rows[1]["verdict_after"] == "pass"
    assert json.loads(run.texts("report")[0])["passes_through_ReActor"] == 1
    assert [round(float(score), 3) for score in run.texts("after")] == [round(row["score_after"], 3) for row in rows]
    assert len(run.texts("before")) == 3


def test_always_swaps_what_passes_as_well(ran):
    _, rows, _ = ran("her again", swap_when="always", keep="swapped")
    assert rows[0]["done"] == "swapped"


def test_the_better_picture_is_kept(ran, files):
    _, rows, pictures = ran("her", swap_when="always")
    assert rows[0]["done"].startswith("original kept: the swap scores")
    assert np.array_equal(pictures[0], files["her"][1])


def test_in_a_group_the_face_most_like_the_character_is_the_target(ran, judge):
    _, rows, pictures = ran("alike on the right", swap_when="always", keep="swapped")
    assert rows[0]["done"] == "swapped" and judge.people(pictures[0]) == [OTHER, HER]
    _, _, pictures = ran("alike on the right", swap_when="always", keep="swapped", target="largest")
    assert judge.people(pictures[0]) == [HER, HER]
    _, _, pictures = ran("pair", target="all")
    assert judge.people(pictures[0]) == [HER, HER]


def test_gender_is_looked_at_before_likeness(ran, judge):
    """The man at the right is the smaller one, and no more like her than the woman at the left."""
    _, rows, pictures = ran("pair", gender="male", target="largest", swap_when="always", keep="swapped")
    assert rows[0]["done"] == "swapped" and judge.people(pictures[0]) == [OTHER, HER]
    _, rows, _ = ran("other", gender="male", swap_when="always")
    assert rows[0]["done"] == "not swapped: no face for this person"


def test_several_persons_get_a_face_each(reactor, files, judge):
    graph = SwapGraph(files)
    graph.swap(graph.load("pair"), **{"people.person0": graph.who("him", "Tomas")})
    run, rows, pictures = of(reactor.run(graph))
    assert rows[0]["done"] == "swapped" and sorted(judge.people(pictures[0])) == [HER, HIM]
    assert json.loads(run.texts("report")[0])["passes_through_ReActor"] == 2


def test_a_reference_picture_stands_for_an_identity(reactor, files, judge):
    graph = SwapGraph(files)
    # Without a recognizer `auto` is taken, which never is buffalo_l: the reference then needs dlib's face, so an identity goes with it here.
    graph.swap(graph.load("other"), reference=graph.load("her", "her again", name="reference"), identity=graph.who("her", "Mira"))
    _, rows, pictures = of(reactor.run(graph))
    assert rows[0]["done"] == "swapped" and judge.people(pictures[0]) == [HER]


def test_a_picture_without_a_face_is_told_as_not_swapped_and_stays(ran, files):
    _, rows, pictures = ran("other", "empty", "third")
    assert [row["done"] for row in rows] == ["swapped", "not swapped: no face found", "swapped"]
    assert np.array_equal(pictures[1], files["empty"][1])


def test_a_flagged_picture_is_withheld_and_the_others_are_theirs(reactor, files, judge):
    graph = SwapGraph(files)
    graph.swap(graph.load("other", "flagged", "third"))
    run, rows, pictures = of(reactor.run(graph))
    assert [row["done"] for row in rows] == ["swapped", "withheld by ReActor's safety check", "swapped"]
    assert len(pictures) == 2 and [judge.people(picture) for picture in pictures] == [[HER], [HER]]
    # The first is where the other was, the second where the third was.
    assert np.abs(pictures[0].astype(int) - files["other"][1]).mean() < np.abs(pictures[0].astype(int) - files["third"][1]).mean()
    assert len(run.texts("after")) == 2


def test_all_pictures_withheld_ends_quietly_with_a_report(reactor, files):
    graph = SwapGraph(files)
    graph.swap(graph.load("flagged"))
    run = reactor.run(graph)
    assert run.status == "success" and run.error is None and run.images("images") == []
    (row,) = json.loads(run.texts("report")[0])["pictures"]
    assert row["done"] == "withheld by ReActor's safety check" and "score_after" not in row


def test_pictures_of_different_sizes_go_in_a_list_and_come_out_in_order(reactor, files):
    names = ["other", "small", "her", "third"]
    for i, name in enumerate(names):
        reactor.upload(f"{i}.png", files[name][1], "swap_list")
        (reactor.base / "input" / "swap_list" / f"{i}.txt").write_text(name)
    graph = SwapGraph(files)
    folder = graph.add("folder", "LoadImageTextDataSetFromFolder", folder="swap_list")
    node = graph.swap(folder.out(0), captions=folder.out(1))
    graph.tell("captions", node.out(CAPTIONS))
    run, rows, pictures = of(reactor.run(graph))
    # The host lists a folder in no order; the captions tell which is which.
    captions = run.texts("captions")
    assert sorted(captions) == sorted(names)
    assert [picture.shape[:2] for picture in pictures] == [files[name][1].shape[:2] for name in captions]
    assert [row["done"].split(":")[0] for row in rows] == ["left as it is" if name == "her" else "swapped" for name in captions]


def test_a_restorer_works_on_the_swapped_face_alone(ran, files, judge):
    plain = ran("pair", target="largest")[2][0]
    restored = ran(
        "pair",
        target="largest",
        restore_model=RESTORER,
        preset="custom",
        **{"preset.restore_visibility": 1.0, "preset.codeformer_weight": 0.5, "preset.boost": False},
    )[2][0]
    assert judge.people(restored)[0] == HER
    greener = restored.astype(int)[..., 1] - plain[..., 1]
    assert greener[150:300, 90:250].mean() > GREENER / 3
    # The smaller face at the right and low was not swapped, so it is not restored either.
    assert np.abs(restored.astype(int) - plain)[450:560, 460:580].max() <= 2


def test_boost_restores_before_the_face_is_put_back(ran, judge):
    _, rows, pictures = ran(
        "other", restore_model=RESTORER, preset="custom", **{"preset.restore_visibility": 0.0, "preset.codeformer_weight": 0.5, "preset.boost": True}
    )
    assert rows[0]["done"] == "swapped" and judge.people(pictures[0]) == [HER]


def test_when_every_picture_passes_reactor_is_not_run_at_all(ran, reactor):
    before = reactor.log().count("Checking for any unsafe content")
    run, rows, _ = ran("her", "her again")
    assert all(row["done"].startswith("left as it is: it passes") for row in rows)
    assert reactor.log().count("Checking for any unsafe content") == before
    assert json.loads(run.texts("report")[0])["passes_through_ReActor"] == 0


def test_the_report_names_the_licence_and_asks_for_consent(ran):
    run, _, _ = ran("her")
    report = json.loads(run.texts("report")[0])
    assert "non-commercial" in report["licence"] and report["swap_model"] == SWAPPER
    assert "people who agreed" in report["notes"][0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"swap_model": "gone.onnx"}, "The swap model gone.onnx is not in models/insightface"),
        ({"restore_model": "gone.pth", "preset": "natural"}, "The restorer gone.pth is not in models/facerestore_models"),
        ({"restore_model": EMPTY_RESTORER, "preset": "natural", "detector": "YOLOv5l"}, "needs yolov5l-face.pth in models/facedetection"),
    ],
)
def test_what_is_missing_is_one_sentence_and_nothing_runs(reactor, files, change, told):
    graph = SwapGraph(files)
    graph.swap(graph.load("other"), **change)
    run = reactor.run(graph)
    assert told in run.error and "\n" not in run.error.strip()


def test_a_reference_without_a_face_is_one_sentence(reactor, files):
    graph = SwapGraph(files)
    graph.swap(graph.load("other"), reference=graph.load("empty", name="reference"), identity=graph.who("her", "Mira"))
    assert "The reference picture shows no face that" in reactor.run(graph).error


def test_people_of_different_recognizers_are_refused(reactor, files, cast):
    photograph = reactor.upload("swap person.png", cast[0].pixels)
    graph = SwapGraph(files)
    dlib = graph.add("dlib", "LikenessLoadRecognizer", recognizer="dlib", device="auto").out(0)
    other = graph.identity("Tomas", graph.picture("person", photograph), recognizer=dlib)
    graph.swap(graph.load("other"), **{"people.person0": other})
    assert "Mira was measured with buffalo_l and Tomas with dlib; build both with the same recognizer." in reactor.run(graph).error


def test_nobody_to_swap_in_is_one_sentence(reactor, files):
    graph = SwapGraph(files)
    graph.swap(graph.load("other"))
    del graph["swap"]["inputs"]["identity"]
    assert "Whose face is to be swapped in?" in reactor.run(graph).error


def test_captions_that_do_not_count_the_pictures_are_refused(reactor, files):
    graph = SwapGraph(files)
    text = graph.add("text", "PrimitiveString", value="one").out(0)
    graph.swap(graph.load("other", "third"), captions=text)
    assert "1 captions are wired in for 2 pictures" in reactor.run(graph).error


def test_reactors_files_are_looked_for_before_it_would_download_them(reactor, files):
    moved = []
    folder = reactor.base / "models" / "insightface" / "models" / "buffalo_l"
    try:
        source = folder / "genderage.onnx"
        source.rename(folder / "genderage.away")
        moved.append(source)
        graph = SwapGraph(files)
        graph.swap(graph.load("third"))
        assert "buffalo_l, of which genderage.onnx is not in models/insightface/models/buffalo_l" in reactor.run(graph).error
    finally:
        for path in moved:
            path.with_suffix(".away").rename(path)
