"""The identity nodes in a real ComfyUI: what comes out of which side, and what a user is told."""

import json

import numpy as np
import pytest

from tests.host.graphs import (
    ALL_PASSED,
    COUNT,
    GATE,
    OVERLAY,
    PASSED,
    PASSED_CAPTIONS,
    PLOT,
    REJECTED,
    REJECTED_CAPTIONS,
    REPORT,
    SCORES,
    UNCERTAIN,
    Graph,
)

pytestmark = [pytest.mark.host, pytest.mark.dlib, pytest.mark.insightface]

PEOPLE = range(6)


@pytest.fixture(scope="module")
def people(comfy, cast):
    """Uploads the six people as person0.png.. and the group as group.png; gives their pixels by name."""
    pictures = {f"person{i}.png": cast[i].pixels for i in PEOPLE} | {"group.png": cast[6].pixels}
    for name, pixels in pictures.items():
        comfy.upload(name, pixels)
    return pictures


@pytest.fixture(scope="module")
def album(comfy, cast):
    """A folder with 36 pictures, six of each person, each with a caption file that says whose it is; gives the pixels by caption."""
    from character_likeness.nodes import demo

    pictures = {}
    for i in PEOPLE:
        for j, picture in enumerate([cast[i], *demo.altered(cast[i]).values()]):
            caption = f"person{i} take{j}"
            comfy.upload(f"{i}{j}.png", picture.pixels, "album")
            (comfy.base / "input" / "album" / f"{i}{j}.txt").write_text(caption)
            pictures[caption] = picture.pixels
    return pictures


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all())


@pytest.mark.parametrize("person", PEOPLE)
def test_six_people_in_six_variants_are_gated_against_one_reference_with_every_verdict_right(comfy, people, album, person):
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", f"person{person}.png"))
    folder = graph.add("folder", "LoadImageTextDataSetFromFolder", folder="album")
    gate = graph.gate(folder.out(0), identity, captions=folder.out(1))
    for name, output in (("passed", PASSED), ("rejected", REJECTED), ("uncertain", UNCERTAIN)):
        graph.show(name, gate.out(output))
    for name, output in (
        ("report", REPORT),
        ("passed captions", PASSED_CAPTIONS),
        ("rejected captions", REJECTED_CAPTIONS),
        ("all", ALL_PASSED),
        ("count", COUNT),
    ):
        graph.tell(name, gate.out(output))

    run = comfy.run(graph)

    assert run.error is None
    own = sorted(caption for caption in album if caption.startswith(f"person{person} "))
    assert sorted(run.texts("passed captions")) == own
    assert sorted(run.texts("rejected captions")) == sorted(set(album) - set(own))
    # Captions stand beside their own pictures, and pictures come out bit for bit.
    for side in ("passed", "rejected"):
        for caption, pixels in zip(run.texts(f"{side} captions"), run.pictures(side), strict=True):
            assert same(album[caption], pixels), caption
    # Nobody is uncertain: that side blocks quietly.
    assert run.images("uncertain") == []
    assert run.texts("count") == ["6"] and run.texts("all") == ["False"]
    report = json.loads(run.texts("report")[0])
    assert report["match_rate"]["passed"] == 6 and report["match_rate"]["n"] == 36
    assert report["recognizer"]["name"] == "dlib"


def test_a_gate_without_any_pass_stops_that_side_quietly_and_the_prompt_succeeds(comfy, people):
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", "person0.png"))
    gate = graph.gate(graph.picture("other", "person3.png"), identity)
    graph.show("passed", gate.out(PASSED))
    graph.show("rejected", gate.out(REJECTED))
    graph.tell("captions", gate.out(PASSED_CAPTIONS))
    run = comfy.run(graph)
    assert run.status == "success" and run.error is None
    assert run.images("passed") == [] and run.texts("captions") == []
    assert same(run.pictures("rejected")[0], people["person3.png"])


def test_the_gate_shows_its_verdicts_in_the_node_without_anything_wired_behind_it(comfy, people):
    graph = Graph()
    graph.gate(graph.picture("other", "group.png"), graph.identity("character", graph.picture("reference", "person2.png")))
    run = comfy.run(graph)
    assert run.error is None and len(run.images("gate")) == 1


def test_a_batch_keeps_its_batch_minus_the_rejected_frames_and_the_overlay_keeps_all(comfy, people):
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", "person0.png"))
    own, other = graph.picture("own", "person0.png"), graph.picture("other", "person5.png")
    both = graph.add("both", "ImageBatch", image1=own, image2=other).out(0)
    batch = graph.add("batch", "ImageBatch", image1=both, image2=own).out(0)
    gate = graph.gate(batch, identity)
    graph.show("passed", gate.out(PASSED))
    graph.show("overlay", gate.out(OVERLAY))
    graph.show("plot", gate.out(PLOT))
    graph.tell("scores", gate.out(SCORES))
    run = comfy.run(graph)
    assert run.error is None
    assert [same(picture, people["person0.png"]) for picture in run.pictures("passed")] == [True, True]
    assert len(run.images("overlay")) == 3 and len(run.images("plot")) == 1
    scores = [float(text) for text in run.texts("scores")]
    assert len(scores) == 3 and scores[0] > 0.9 > 0.4 > scores[1]


def test_captions_that_do_not_match_the_pictures_in_number_are_one_sentence(comfy, people):
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", "person0.png"))
    text = graph.add("text", "PrimitiveString", value="one").out(0)
    both = graph.add("both", "CreateList", **{"inputs.input0": graph.picture("a", "person0.png"), "inputs.input1": graph.picture("b", "person1.png")}).out(0)
    graph.gate(both, identity, captions=text)
    assert comfy.run(graph).error == "1 caption(s) are wired in for 2 picture(s); each picture needs its own."


def test_a_cast_passes_only_when_everyone_is_there_and_strangers_can_be_refused(comfy, people):
    def gate_of(members, strangers, name):
        chosen = {f"identities.identity{i}": identities[member] for i, member in enumerate(members)}
        gate = graph.add(name, "LikenessCastGate", image=group, **chosen, **GATE, strangers=strangers)
        graph.tell(f"{name} report", gate.out(REPORT))

    graph = Graph()
    identities = [graph.identity(f"person{i}", graph.picture(f"reference{i}", f"person{i}.png")) for i in PEOPLE]
    group = graph.picture("group", "group.png")
    gate_of(PEOPLE, "reject", "everyone")
    gate_of((0, 3), "allow", "two")
    gate_of((0, 3), "reject", "two alone")
    alone = graph.add(
        "alone",
        "LikenessCastGate",
        image=graph.picture("solo", "person0.png"),
        **{"identities.identity0": identities[0], "identities.identity1": identities[1]},
        **GATE,
        strangers="allow",
    )
    graph.tell("alone report", alone.out(REPORT))
    run = comfy.run(graph)
    assert run.error is None

    def told(name):
        return json.loads(run.texts(f"{name} report")[0])["pictures"][0]

    assert told("everyone")["verdict"] == "pass"
    assert sorted(face["taken_for"] for face in told("everyone")["faces"]) == [f"person{i}" for i in PEOPLE]
    assert told("two")["verdict"] == "pass"
    assert told("two alone")["verdict"] == "reject" and told("two alone")["reason"] == "4 strangers are in the picture"
    assert told("alone")["reason"] == "person1 missing: 1 face for 2 people"


def test_an_identity_saved_and_loaded_scores_the_same_and_no_file_is_replaced(comfy, people):
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", "person1.png"))
    graph.add("save", "LikenessSaveIdentity", identity=identity, filename="heroes/Änne 1")
    for _ in range(2):
        graph["save"]["inputs"]["filename"] += ""
        graph["character"]["inputs"]["name"] += "x"
        assert comfy.run(graph).error is None
    folder = comfy.base / "models" / "likeness" / "identities" / "heroes"
    assert sorted(file.name for file in folder.iterdir()) == ["Änne 1.safetensors", "Änne 1_00002.safetensors"]

    graph = Graph()
    loaded = graph.add("load", "LikenessLoadIdentity", file="heroes/Änne 1.safetensors").out(0)
    built = graph.identity("built", graph.picture("reference", "person1.png"))
    for name, source in (("loaded", loaded), ("built", built)):
        score = graph.add(f"score {name}", "LikenessIdentityScore", image=graph.picture(f"group {name}", "group.png"), identity=source, face="best match")
        graph.tell(f"scores {name}", score.out(1))
    run = comfy.run(graph)
    assert run.error is None
    assert run.texts("scores loaded") == run.texts("scores built")


@pytest.mark.parametrize("name", ["../out", "/etc/out", "C:\\out", "a/../../out", "nul", ""])
def test_a_file_name_that_leads_out_of_the_folder_is_refused_in_one_sentence(comfy, people, name):
    graph = Graph()
    graph.add("save", "LikenessSaveIdentity", identity=graph.identity("character", graph.picture("reference", "person1.png")), filename=name)
    before = sorted(str(path) for path in comfy.base.rglob("*.safetensors"))
    assert f"'{name}' cannot be a file name here" in comfy.run(graph).error
    assert sorted(str(path) for path in comfy.base.rglob("*.safetensors")) == before


def test_an_identity_file_that_is_not_ours_is_one_sentence(comfy):
    folder = comfy.base / "models" / "likeness" / "identities"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "broken.safetensors").write_bytes(b"\x00" * 40)
    graph = Graph()
    graph.tell("x", graph.add("load", "LikenessLoadIdentity", file="broken.safetensors").out(0))
    assert comfy.run(graph).error == "broken.safetensors is damaged or not an identity made by Likeness."


def test_a_missing_identity_file_is_told_before_anything_runs(comfy):
    graph = Graph()
    graph.tell("x", graph.add("load", "LikenessLoadIdentity", file="gone.safetensors").out(0))
    run = comfy.run(graph)
    assert run.status == "refused" and "The identity gone.safetensors is not in models/likeness/identities" in run.error


def test_a_recognizer_whose_pack_is_missing_says_what_where_how_large_and_which_command(comfy):
    graph = Graph()
    graph.tell("x", graph.add("load", "LikenessLoadRecognizer", recognizer="buffalo_l", device="auto").out(0))
    run = comfy.run(graph)
    assert run.status == "refused"
    for part in ("models download buffalo_l", "custom_nodes/ComfyUI-Likeness", "289 MB", "non-commercial", "insightface/models/buffalo_l"):
        assert part in run.error.replace("\\", "/")


def test_a_synthetic_arcface_pack_is_listed_and_gates(comfy):
    from tests.tiny.face_packs import background, paint, write_pack

    write_pack(comfy.base / "models" / "insightface" / "models" / "buffalo_l", "buffalo_l")
    write_pack(comfy.base / "models" / "insightface" / "models" / "my pack", "antelopev2")
    for identity in (0, 1):
        picture = background(640, 640, "gray")
        paint(picture, identity, 200, 200, 200)
        comfy.upload(f"painted{identity}.png", picture)
    options = comfy.get("/object_info/LikenessLoadRecognizer")["LikenessLoadRecognizer"]["input"]["required"]["recognizer"][1]["options"]
    assert options[:5] == ["auto", "auraface", "buffalo_l", "antelopev2", "dlib"]
    for pack in ("buffalo_l", "my pack"):
        graph = Graph()
        recognizer = graph.add("recognizer", "LikenessLoadRecognizer", recognizer=pack, device="cpu").out(0)
        identity = graph.identity("character", graph.picture("reference", "painted0.png"), recognizer=recognizer)
        both = graph.add("both", "ImageBatch", image1=graph.picture("a", "painted0.png"), image2=graph.picture("b", "painted1.png")).out(0)
        gate = graph.gate(both, identity)
        graph.tell("report", gate.out(REPORT))
        run = comfy.run(graph)
        assert run.error is None
        report = json.loads(run.texts("report")[0])
        assert [picture["verdict"] for picture in report["pictures"]] == ["pass", "reject"]
        assert report["recognizer"]["name"] == pack and report["recognizer"]["commercial"] is False


def test_the_commercial_setting_hides_and_refuses_what_is_not_cleared(comfy):
    from tests.tiny.face_packs import write_pack

    write_pack(comfy.base / "models" / "insightface" / "models" / "buffalo_l", "buffalo_l")
    graph = Graph()
    graph.tell("x", graph.add("load", "LikenessLoadRecognizer", recognizer="buffalo_l", device="auto").out(0))
    try:
        comfy.post("/settings/Likeness.CommercialUseOnly", True)
        options = comfy.get("/object_info/LikenessLoadRecognizer")["LikenessLoadRecognizer"]["input"]["required"]["recognizer"][1]["options"]
        assert options == ["auto", "auraface", "dlib"]
        run = comfy.run(graph)
        assert run.status == "refused" and "not cleared for commercial use" in run.error
    finally:
        comfy.post("/settings/Likeness.CommercialUseOnly", False)
    assert comfy.run(graph).error is None


def test_a_reference_without_a_face_stops_with_one_sentence(comfy):
    comfy.upload("plain.png", np.full((256, 256, 3), 90, np.uint8))
    graph = Graph()
    graph.tell("x", graph.identity("character", graph.picture("reference", "plain.png")))
    assert comfy.run(graph).error.startswith("The reference picture shows no face that HOG (dlib) can find; ")


@pytest.mark.parametrize(("policy", "passed", "rejected", "error"), [("reject", 0, 1, None), ("pass", 1, 0, None), ("error", 0, 0, "Picture 1 shows no face")])
def test_a_picture_without_a_face_goes_where_no_face_says(comfy, people, policy, passed, rejected, error):
    comfy.upload("plain.png", np.full((256, 256, 3), 90, np.uint8))
    graph = Graph()
    gate = graph.gate(graph.picture("other", "plain.png"), graph.identity("character", graph.picture("reference", "person0.png")), no_face=policy)
    graph.show("passed", gate.out(PASSED))
    graph.show("rejected", gate.out(REJECTED))
    run = comfy.run(graph)
    assert (len(run.images("passed")), len(run.images("rejected"))) == (passed, rejected)
    assert run.error is None if error is None else run.error.startswith(error)


def test_one_and_four_channel_pictures_and_extreme_sizes_are_measured_or_reported(comfy, people):
    comfy.upload("dot.png", np.full((16, 16, 3), 200, np.uint8))
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", "person0.png"))
    own = graph.add("own", "LoadImage", image="person0.png")
    grey = graph.add("grey", "MaskToImage", mask=graph.add("red", "ImageToMask", image=own.out(0), channel="red").out(0)).out(0)
    rgba = graph.add("rgba", "JoinImageWithAlpha", image=own.out(0), alpha=own.out(1)).out(0)
    pictures = graph.add("list", "CreateList", **{"inputs.input0": grey, "inputs.input1": rgba, "inputs.input2": graph.picture("dot", "dot.png")}).out(0)
    gate = graph.gate(pictures, identity)
    graph.tell("report", gate.out(REPORT))
    graph.show("overlay", gate.out(OVERLAY))
    run = comfy.run(graph)
    assert run.error is None
    report = json.loads(run.texts("report")[0])
    assert [picture["verdict"] for picture in report["pictures"]] == ["pass", "pass", "no face"]
    assert "Picture 2: 4 channels read as RGB" in report["notes"]
    assert [picture.shape[:2] for picture in run.pictures("overlay")] == [people["person0.png"].shape[:2]] * 2 + [(16, 16)]


def test_two_identities_on_one_socket_are_refused(comfy, people):
    graph = Graph()
    both = graph.add(
        "both",
        "CreateList",
        **{f"inputs.input{i}": graph.identity(f"person{i}", graph.picture(f"reference{i}", f"person{i}.png")) for i in (0, 1)},
    ).out(0)
    graph.gate(graph.picture("group", "group.png"), both)
    assert comfy.run(graph).error == "identity takes one value, 2 are wired to it."


def test_the_mask_covers_that_persons_face_and_is_empty_when_they_are_not_there(comfy, people):
    graph = Graph()
    group = graph.picture("group", "group.png")
    for person, where in ((0, "group.png"), (5, "group.png"), (3, "person0.png")):
        identity = graph.identity(f"person{person}", graph.picture(f"reference{person}", f"person{person}.png"))
        picture = group if where == "group.png" else graph.picture("solo", where)
        mask = graph.add(f"mask{person}", "LikenessCharacterMask", image=picture, identity=identity, area="face", grow=0, feather=0, invert=False)
        graph.show(f"shown{person}", graph.add(f"image{person}", "MaskToImage", mask=mask.out(0)).out(0))
        graph.tell(f"report{person}", mask.out(2))
    run = comfy.run(graph)
    assert run.error is None
    for person, centre in ((0, (335, 120)), (5, (340, 1165))):
        mask = run.pictures(f"shown{person}")[0][..., 0]
        assert mask.shape == people["group.png"].shape[:2]
        assert mask[centre] == 255 and mask[335, 780] == 0
        assert 0.003 < (mask > 127).mean() < 0.03
    assert not run.pictures("shown3")[0].any()
    assert "is not there" in json.loads(run.texts("report3")[0])["pictures"][0]["reason"]


def test_every_node_has_tooltips_a_description_and_a_help_page(comfy):
    ours = {name: info for name, info in comfy.get("/object_info").items() if name.startswith("Likeness")}
    assert len(ours) >= 8
    extension = next(path for path in comfy.get("/extensions") if path.endswith("likeness.js"))
    for name, info in ours.items():
        assert info["description"] and info["display_name"] and info["category"].startswith("likeness/"), name
        for kind in ("required", "optional"):
            for entry, (_, options) in info["input"].get(kind, {}).items():
                assert options.get("tooltip"), (name, entry)
        assert all(info["output_tooltips"]), name
        assert comfy.get_text(f"{extension.rsplit('/', 1)[0]}/docs/{name}.md").startswith("# ")


def test_loading_the_pack_leaves_no_word_in_the_log(comfy):
    assert "Cannot import" not in comfy.log() and "comfy_entrypoint" not in comfy.log()


def test_a_pack_file_replaced_while_the_host_runs_is_another_recognizer(comfy):
    from tests.tiny.face_packs import background, paint, write_arcface, write_pack

    pack = comfy.base / "models" / "insightface" / "models" / "changing"
    write_pack(pack, "buffalo_l")
    picture = background(640, 640, "gray")
    paint(picture, 4, 200, 200, 200)
    comfy.upload("painted4.png", picture)

    def hash_of_the_recognizer():
        graph = Graph()
        recognizer = graph.add("recognizer", "LikenessLoadRecognizer", recognizer="changing", device="cpu").out(0)
        built = graph.add("built", "LikenessBuildIdentity", images=graph.picture("reference", "painted4.png"), name="x", combine="mean", recognizer=recognizer)
        graph.tell("report", built.out(2))
        run = comfy.run(graph)
        assert run.error is None
        return json.loads(run.texts("report")[0])["recognizer"]["file_hash"]

    before = hash_of_the_recognizer()
    write_arcface(pack / "w600k_r50.onnx", seed=99)
    assert hash_of_the_recognizer() != before


def test_the_file_of_an_identity_can_be_wired(comfy, people):
    graph = Graph()
    identity = graph.identity("wired", graph.picture("reference", "person4.png"))
    saved = graph.add("save", "LikenessSaveIdentity", identity=identity, filename="wired")
    loaded = graph.add("load", "LikenessLoadIdentity", file=saved.out(1)).out(0)
    gate = graph.gate(graph.picture("group", "group.png"), loaded)
    graph.tell("report", gate.out(REPORT))
    run = comfy.run(graph)
    assert run.error is None
    assert json.loads(run.texts("report")[0])["pictures"][0]["verdict"] == "pass"


# --- the panel in the editor: what the gates tell it, and what pins do ---


def panel_of(run, node: str = "gate") -> dict:
    return run._history["outputs"][node]["likeness"][0]


def test_the_gates_and_identity_score_tell_the_panel_of_every_picture(comfy, people):
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", "person0.png"))
    own, other = graph.picture("own", "person0.png"), graph.picture("other", "person3.png")
    both = graph.add("both", "CreateList", **{"inputs.input0": own, "inputs.input1": other}).out(0)
    graph.gate(both, identity)
    graph.add("cast", "LikenessCastGate", image=both, **{"identities.identity0": identity}, **GATE, strangers="allow")
    graph.add("score", "LikenessIdentityScore", image=both, identity=identity, face="best match")
    run = comfy.run(graph)
    assert run.error is None
    told = panel_of(run)
    assert (told["strictness"], told["applied"], told["recognizer"], told["large"]) == ("standard", 0.5, "dlib", 2)
    assert told["match_rate"] == {"passed": 1, "n": 2} and [one["name"] for one in told["pictures"]] == ["1", "2"]
    for one, verdict in zip(told["pictures"], ("pass", "reject")):
        assert [step[1] for step in one["steps"]] == ["pass", "reject"]
        assert next(said for upto, said, *_ in one["steps"] if upto is None or told["applied"] <= upto) == verdict
        small = comfy.picture({"filename": one["file"], "type": "temp", "subfolder": ""})
        assert max(small.shape[:2]) <= 192
    assert panel_of(run, "cast")["pictures"] == [dict(one, reason=other["reason"]) for one, other in zip(told["pictures"], panel_of(run, "cast")["pictures"])]
    assert [one["file"] for one in panel_of(run, "score")["pictures"]] == [one["file"] for one in told["pictures"]]


def test_pins_decide_where_pictures_go_and_leave_the_match_rate_alone(comfy, people):
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", "person0.png"))
    both = graph.add(
        "both", "CreateList", **{"inputs.input0": graph.picture("own", "person0.png"), "inputs.input1": graph.picture("other", "person3.png")}
    ).out(0)
    gate = graph.gate(both, identity)
    for name, output in (("passed", PASSED), ("rejected", REJECTED)):
        graph.show(name, gate.out(output))
    graph.tell("report", gate.out(REPORT))
    graph.add("cast", "LikenessCastGate", image=both, **{"identities.identity0": identity}, **GATE, strangers="allow")
    first, second = (one["key"] for one in panel_of(comfy.run(graph))["pictures"])
    graph["gate"]["inputs"]["pins"] = graph["cast"]["inputs"]["pins"] = f"{first} reject, {second} pass, {'0' * 32} pass"
    run = comfy.run(graph)
    assert run.error is None
    assert same(run.pictures("passed")[0], people["person3.png"]) and same(run.pictures("rejected")[0], people["person0.png"])
    report = json.loads(run.texts("report")[0])
    assert [(one["verdict"], one["goes_to"], one["pinned"]) for one in report["pictures"]] == [("reject", "rejected", "reject"), ("pass", "passed", "pass")]
    assert report["pictures"][1]["reason"].startswith("pinned by hand as pass; the recognizer says 0.") and ", below 0.50" in report["pictures"][1]["reason"]
    assert report["match_rate"]["passed"] == 1 and report["match_rate"]["n"] == 2
    assert report["notes"][-2:] == [
        "Pinned by hand: 1 as pass, 1 as reject. The match rate does not count pins; it is the recognizer's.",
        "1 pin belongs to no picture of this run.",
    ]
    assert [one["pinned"] for one in panel_of(run, "cast")["pictures"]] == ["reject", "pass"]


def test_pins_that_are_none_are_one_sentence(comfy, people):
    graph = Graph()
    identity = graph.identity("character", graph.picture("reference", "person0.png"))
    graph.gate(graph.picture("own", "person0.png"), identity, pins="the third one")
    assert comfy.run(graph).error == (
        "'the third one' in pins is no pin; write the picture's 32 digits and `pass` or `reject`, or empty pins and pin in the panel."
    )
