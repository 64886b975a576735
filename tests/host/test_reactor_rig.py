"""What the real ComfyUI-ReActor does, as far as a macro around it relies on it. Its models are tiny, its code is its own."""

import time

import numpy as np
import pytest

from tests.host.graphs import Graph
from tests.host.reactor import ORIGINAL, SWAPPED, absent, batch, painted, swap
from tests.tiny.reactor_models import DETECTORS, EMPTY_RESTORER, RESTORER, SWAPPER, flagged

pytestmark = [pytest.mark.host, pytest.mark.insightface, pytest.mark.skipif(absent() is not None, reason=str(absent()))]

ORDERS = ["left-right", "right-left", "top-bottom", "bottom-top", "small-large", "large-small"]
LEVEL = 1.5  # of 255: what may change in a picture that nothing is done to
LARGE, SMALL = 2, 5  # a woman's face of 260 px at the left and high, a man's of 200 px at the right and low
SOURCE = 3


@pytest.fixture(scope="module")
def pictures():
    from tests.tiny.face_packs import background

    pair = painted((LARGE, 40, 100, 260), (SMALL, 400, 380, 200))
    return {
        "source": painted((SOURCE, 100, 100, 400)),
        "two sources": painted((SOURCE, 40, 100, 260), (4, 380, 300, 200)),
        "pair": pair,
        "one": painted((LARGE, 200, 190, 256)),
        "empty": background(640, 640, "photo"),
        "flagged": flagged(pair),
        "flagged source": flagged(painted((SOURCE, 100, 100, 400))),
    }


@pytest.fixture(scope="module")
def pair(pictures):
    return pictures["pair"]


@pytest.fixture(scope="module")
def files(reactor, pictures):
    return {name: reactor.upload(f"rig {name}.png", pixels) for name, pixels in pictures.items()}


@pytest.fixture(scope="module")
def swapped(reactor, files):
    """The pictures that ReActor gives for uploaded ones. source: one name or several; output: SWAPPED or ORIGINAL."""

    def run(*targets, source="source", output=SWAPPED, **inputs):
        graph = Graph()
        sources = batch(graph, [files[name] for name in ([source] if isinstance(source, str) else source)], "source")
        graph.show("show", swap(graph, batch(graph, [files[name] for name in targets]), sources, **inputs).out(output))
        started = time.monotonic()
        ran = reactor.run(graph)
        print(f"{targets} {inputs}: {time.monotonic() - started:.2f} s")
        assert ran.status == "success", ran.error
        return ran.pictures("show")

    return run


def difference(first, second):
    return np.abs(first.astype(int) - second.astype(int)).max()


# ---- what it offers --------------------------------------------------------------------------------------------------


def test_it_offers_the_inputs_that_the_macro_wires(reactor):
    def inputs(node):
        described = reactor.get(f"/object_info/{node}")[node]["input"]
        return described["required"], described.get("optional", {})

    required, optional = inputs("ReActorFaceSwapOpt")
    names = ["enabled", "input_image", "swap_model", "facedetection", "face_restore_model", "face_restore_visibility", "codeformer_weight"]
    assert list(required) == names and list(optional) == ["source_image", "face_model", "options", "face_boost"]
    assert required["swap_model"][0] == [SWAPPER]
    assert required["facedetection"][0] == [*DETECTORS, "YOLOv5l", "YOLOv5n"]
    assert required["face_restore_model"][0] == ["none", EMPTY_RESTORER, RESTORER]
    assert required["face_restore_visibility"][1] == {"default": 1, "min": 0.1, "max": 1, "step": 0.05}
    assert required["codeformer_weight"][1] == {"default": 0.5, "min": 0.0, "max": 1, "step": 0.05}
    required, optional = inputs("ReActorOptions")
    assert not optional and required["input_faces_order"] == required["source_faces_order"] == [ORDERS, {"default": "large-small"}]
    assert required["detect_gender_input"] == required["detect_gender_source"] == [["no", "female", "male"], {"default": "no"}]
    assert required["console_log_level"][0] == [0, 1, 2] and required["restore_swapped_only"][0] == "BOOLEAN"
    required, _ = inputs("ReActorFaceBoost")
    assert list(required) == ["enabled", "boost_model", "interpolation", "visibility", "codeformer_weight", "restore_with_main_after"]


# ---- which face is swapped -------------------------------------------------------------------------------------------


def test_the_rig_knows_its_people(judge, pictures):
    assert judge.people(pictures["pair"]) == [LARGE, SMALL] and judge.people(pictures["empty"]) == []


@pytest.mark.parametrize("order", ORDERS)
def test_index_0_is_the_first_face_in_the_order(swapped, judge, order):
    first_is_left = order in ("left-right", "top-bottom", "large-small")
    (picture,) = swapped("pair", options={"input_faces_order": order})
    assert judge.people(picture) == ([SOURCE, SMALL] if first_is_left else [LARGE, SOURCE])


@pytest.mark.parametrize(
    ("index", "people"),
    [("0", [SOURCE, SMALL]), ("1", [LARGE, SOURCE]), ("0,1", [SOURCE, SOURCE]), ("0, 1", [SOURCE, SMALL]), ("7", [LARGE, SMALL]), ("", [SOURCE, SMALL])],
)
def test_faces_are_chosen_by_number_and_a_space_loses_one(swapped, judge, index, people):
    (picture,) = swapped("pair", options={"input_faces_index": index})
    assert judge.people(picture) == people


def test_only_the_face_changes(swapped, pair):
    (picture,) = swapped("pair")
    around = np.ones(picture.shape[:2], bool)
    around[80:400, 20:320] = False
    assert difference(picture[around], pair[around]) <= LEVEL


@pytest.mark.parametrize("options", [{"source_faces_index": "1"}, {"source_faces_order": "small-large"}, {"source_faces_order": "right-left"}])
def test_a_source_face_is_chosen_likewise(swapped, judge, options):
    (picture,) = swapped("pair", source="two sources", options=options)
    assert judge.people(picture) == [4, SMALL]


def test_two_sources_go_onto_two_faces_one_by_one(swapped, judge):
    both = {"input_faces_index": "0,1", "source_faces_index": "0,1"}
    assert [judge.people(picture) for picture in swapped("pair", "pair", source="two sources", options=both)] == [[SOURCE, 4]] * 2


def test_only_the_first_source_picture_counts(swapped, judge):
    assert judge.people(swapped("pair", source=("source", "pair"))[0]) == [SOURCE, SMALL]
    assert judge.people(swapped("pair", source=("pair", "source"))[0]) == [LARGE, SMALL]


@pytest.mark.parametrize(
    ("options", "people"),
    [
        ({"detect_gender_input": "female"}, [SOURCE, SMALL]),
        ({"detect_gender_input": "male"}, [LARGE, SMALL]),
        ({"detect_gender_input": "male", "input_faces_index": "0,1"}, [LARGE, SOURCE]),
        ({"detect_gender_source": "male"}, [SOURCE, SMALL]),
        ({"detect_gender_source": "female"}, [LARGE, SMALL]),
    ],
)
def test_gender_is_asked_of_the_numbered_face_and_another_is_not_looked_for(swapped, judge, options, people):
    (picture,) = swapped("pair", options=options)
    assert judge.people(picture) == people


def test_options_that_are_no_longer_wired_still_hold_for_that_node(swapped, judge):
    swapped("pair", options={"input_faces_index": "1"}, name="sticky")
    assert judge.people(swapped("pair", options=None, name="sticky")[0]) == [LARGE, SOURCE]
    # Another weight, or the host would give the fresh node what it remembers of the sticky one: a node's name is not in its cache key.
    assert judge.people(swapped("pair", options=None, name="fresh", codeformer_weight=0.25)[0]) == [SOURCE, SMALL]


# ---- when there is nothing to swap -----------------------------------------------------------------------------------


def test_without_a_face_in_the_target_the_picture_comes_back(swapped, pictures):
    (picture,) = swapped("empty")
    assert difference(picture, pictures["empty"]) <= LEVEL


@pytest.mark.parametrize("targets", [("pair",), ("pair", "pair")])
def test_without_a_face_in_the_source_the_pictures_come_back_without_a_word(swapped, pair, targets):
    assert [difference(picture, pair) <= LEVEL for picture in swapped(*targets, source="empty")] == [True] * len(targets)


def test_a_mixed_batch_keeps_its_length_and_order(swapped, judge):
    assert [judge.people(picture) for picture in swapped("empty", "pair", "empty", "one")] == [[], [SOURCE, SMALL], [], [SOURCE]]


def test_disabled_and_without_a_source_the_picture_comes_back(reactor, files, pair):
    """Neither run may wire ORIGINAL_IMAGE: there are two values for three outputs, and the host's worker dies of the third."""
    for name, inputs in (("disabled", {"source_image": ["source", 0], "enabled": False}), ("no source", {})):
        graph = Graph()
        graph.picture("source", files["source"])
        graph.show("show", swap(graph, graph.picture("picture", files["pair"]), name=name, **inputs).out(SWAPPED))
        ran = reactor.run(graph)
        assert ran.error is None and difference(ran.pictures("show")[0], pair) <= LEVEL


# ---- the safety check ------------------------------------------------------------------------------------------------


def test_one_flagged_of_three_leaves_two(swapped, judge):
    assert [judge.people(picture) for picture in swapped("pair", "flagged", "empty")] == [[SOURCE, SMALL], []]
    assert len(swapped("pair", "flagged", "empty", output=ORIGINAL)) == 3


@pytest.mark.parametrize("targets", [("flagged",), ("flagged", "flagged")])
def test_all_flagged_gives_one_black_picture(swapped, targets):
    (picture,) = swapped(*targets)
    assert picture.shape == (512, 512, 3) and not picture.any()


def test_only_targets_are_checked(swapped, judge):
    assert judge.people(swapped("pair", source="flagged source")[0]) == [SOURCE, SMALL]


def test_the_check_flags_nothing_else(swapped):
    assert all(swapped(name)[0].shape == (640, 640, 3) for name in ("pair", "one", "empty"))


# ---- restoring -------------------------------------------------------------------------------------------------------


def green(picture):
    """Of a cell in the face of the picture `one`; the cells' colours leave it at 140."""
    return picture[210:240, 270:370, 1].astype(int).mean()


@pytest.mark.parametrize(("index", "who"), [("0", SOURCE), ("7", LARGE)])
def test_the_restorer_works_on_the_swapped_face_and_where_nothing_was_swapped_on_all(swapped, judge, index, who):
    """Ten seconds each: the parser of the restorer's masks has only one size."""
    (plain,) = swapped("one", options={"input_faces_index": index})
    (restored,) = swapped("one", options={"input_faces_index": index}, face_restore_model=RESTORER)
    assert judge.people(plain) == judge.people(restored) == [who]
    assert green(restored) > green(plain) + 8


def test_face_boost_restores_the_crop_before_it_is_pasted(swapped, judge):
    boost = {"enabled": True, "boost_model": RESTORER, "interpolation": "Bicubic", "visibility": 1.0, "codeformer_weight": 0.5}
    (picture,) = swapped("one", boost=boost | {"restore_with_main_after": False}, face_restore_model=EMPTY_RESTORER)
    assert judge.people(picture) == [SOURCE] and green(picture) > green(swapped("one")[0]) + 8


def test_a_restorer_that_cannot_be_read_is_an_error(reactor, files):
    graph = Graph()
    node = swap(graph, graph.picture("picture", files["one"]), graph.picture("source", files["source"]), face_restore_model=EMPTY_RESTORER)
    graph.show("show", node.out(SWAPPED))
    assert reactor.run(graph).status == "error"


# ---- cost, and the network -------------------------------------------------------------------------------------------


def test_a_batch_of_four_is_swapped_within_seconds(reactor, files, judge):
    graph = Graph()
    names = [reactor.upload(f"timed {i}.png", painted((2 * i, 50 + 20 * i, 150, 300))) for i in range(4)]
    source = graph.picture("source", files["source"])
    graph.show("show", swap(graph, batch(graph, names), source).out(SWAPPED))
    started = time.monotonic()
    ran = reactor.run(graph)
    seconds = time.monotonic() - started
    print(f"four pictures of 640x640: {seconds:.2f} s")
    assert [judge.people(picture) for picture in ran.pictures("show")] == [[SOURCE]] * 4
    assert seconds < 20


def test_nothing_was_downloaded(reactor):
    assert "ownloading" not in reactor.log()
