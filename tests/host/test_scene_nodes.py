"""The scene nodes in a real ComfyUI on tiny Qwen models: equal to the official graphs, made once, resumed, reported."""

import json
import time

import numpy as np
import pytest

from tests.host.graphs import Graph
from tests.host.qwen_graphs import drawn_picture, official_edit, official_text_to_image, switches
from tests.host.scene_graphs import CAPTIONS, IMAGES, PROMPTS, SCORES, SceneGraph
from tests.tiny import qwen_models as files

pytestmark = pytest.mark.host

MODELS = {"clip": files.TEXT_ENCODER, "vae": files.VAE}


@pytest.fixture(scope="module")
def uploads(qwen):
    """Names of three pictures: two of 640x480, which become 384x288 at 0.1 megapixels, and one upright."""
    pictures = [drawn_picture(50, 640, 480), drawn_picture(51, 640, 480), drawn_picture(52, 480, 640)]
    return [qwen.upload(f"scene_{i}.png", pixels) for i, pixels in enumerate(pictures)]


ENCODED = [(384, 288), (384, 288), (288, 384)]


@pytest.fixture
def counted(qwen):
    """Runs a graph; gives the run and what the host did for it."""

    def run(graph):
        qwen.post("/test_counts/reset", {})
        ran = qwen.run(graph)
        return ran, qwen.get("/test_counts")

    return run


def report(run, name="scene"):
    return json.loads(run.texts(f"{name} report")[0])


def digests(run, name="scene"):
    return run.texts(f"{name} digest")


def good(run):
    assert run.status == "success" and run.error is None, run.error
    return run


def official(qwen, build=official_edit, seed=1, prompt="a woman in the rain", **options):
    graph = Graph()
    made = build(graph, **MODELS, **({"width": 256, "height": 256, "prompt": prompt, "seed": seed} | options))
    graph.add("scene digest", "TestDigest", images=made)
    return digests(good(qwen.run(graph)))


@pytest.mark.parametrize(("unet", "shift"), [(files.EDIT_2509, 3.0), (files.EDIT_2511, 3.1)])
@pytest.mark.parametrize(("steps", "cfg"), [(4, 1.0), (2, 2.5)])
def test_a_scene_is_bit_for_bit_what_the_official_graph_makes(qwen, uploads, unet, shift, steps, cfg):
    graph = SceneGraph(unet)
    references = graph.references(face=uploads[0], outfit=uploads[2])
    graph.scene(references=references, **{"preset.steps": steps, "preset.cfg": cfg})
    own = good(qwen.run(graph))
    sizes = [ENCODED[0], ENCODED[2]]
    theirs = official(qwen, unet=unet, shift=shift, references=[uploads[0], uploads[2]], reference_sizes=sizes, steps=steps, cfg=cfg)
    assert digests(own) == theirs


def test_a_repacked_2511_gets_its_reference_method_by_its_name(qwen, uploads):
    graph = SceneGraph(files.EDIT_2511_REPACK)
    graph.scene(references=graph.references(face=uploads[0]))
    run = good(qwen.run(graph))
    theirs = official(qwen, unet=files.EDIT_2511, references=uploads[:1], reference_sizes=ENCODED[:1])
    assert digests(run) == theirs
    assert report(run)["model"] | {"because": ""} == {
        "kind": "edit 2511",
        "because": "",
        "file": files.EDIT_2511_REPACK,
        "reference_method": "index_timestep_zero",
    }


def test_text_to_image_is_bit_for_bit_what_the_official_graph_makes(qwen):
    graph = SceneGraph(files.IMAGE_2512)
    graph.scene(negative="blurred", **{"preset.cfg": 4.0})
    theirs = official(qwen, official_text_to_image, unet=files.IMAGE_2512, negative="blurred", steps=2, cfg=4.0)
    assert digests(good(qwen.run(graph))) == theirs


def test_a_source_below_denoise_1_is_bit_for_bit_what_the_official_graph_makes(qwen, uploads):
    square = qwen.upload("scene_square.png", drawn_picture(60, 256, 256))
    graph = SceneGraph()
    graph.scene(references=graph.references(face=uploads[0]), source=graph.picture("source", square), denoise=0.5, **{"preset.steps": 4})
    run = good(qwen.run(graph))
    theirs = official(qwen, unet=files.EDIT_2511, references=uploads[:1], reference_sizes=ENCODED[:1], steps=4, source=square, denoise=0.5)
    assert digests(run) == theirs
    assert any("denoise 0.5 keeps about" in note for note in report(run)["notes"])


def test_loras_of_the_pack_are_bit_for_bit_those_of_the_host(qwen, uploads):
    graph = SceneGraph()
    first = graph.lora("first", files.STYLE_LORA, strength=0.5, role="style")
    graph.lora("second", files.CHARACTER_LORA, trigger="none", loras=first.out(1))
    graph.scene(references=graph.references(face=uploads[0]))
    theirs = official(
        qwen, unet=files.EDIT_2511, references=uploads[:1], reference_sizes=ENCODED[:1], lora=[(files.STYLE_LORA, 0.5), (files.CHARACTER_LORA, 1.0)]
    )
    assert digests(good(qwen.run(graph))) == theirs


def test_pictures_are_counted_by_role_and_the_prompt_names_them(qwen, uploads):
    graph = SceneGraph()
    first = graph.references("first", face=uploads[1], name="Mira")
    both = graph.add("both", "ImageBatch", image1=graph.picture("a", uploads[0]), image2=graph.picture("b", uploads[1])).out(0)
    second = graph.references("second", face=both, outfit=uploads[2], name="Tomas", references=first)
    graph.scene(references=second, scene="{character}: {picture:Mira}, {picture:Tomas.face}, {picture:outfit}")
    run = good(qwen.run(graph))
    told = report(run)
    assert told["shots"][0]["prompt"] == "Mira and Tomas: Picture 1, Pictures 2 and 3, Picture 4"
    assert [(row["role"], row["character"], row["encoded_at"]) for row in told["references"]] == [
        ("face", "Mira", [384, 288]),
        ("face", "Tomas", [384, 288]),
        ("face", "Tomas", [384, 288]),
        ("outfit", "Tomas", [288, 384]),
    ]


def test_the_order_of_the_pictures_is_the_order_of_their_latents(qwen, uploads):
    """Three pictures as one batch of the same role are three references, in order, and no video."""
    graph = SceneGraph()
    batch = graph.add("batch", "ImageBatch", image1=graph.picture("a", uploads[0]), image2=graph.picture("b", uploads[1])).out(0)
    graph.scene(references=graph.references(face=batch))
    theirs = official(qwen, unet=files.EDIT_2511, references=uploads[:2], reference_sizes=ENCODED[:2])
    swapped = official(qwen, unet=files.EDIT_2511, references=uploads[1::-1], reference_sizes=ENCODED[:2])
    assert digests(good(qwen.run(graph))) == theirs != swapped


def test_many_shots_encode_each_reference_once_and_switch_models_once_per_group(qwen, uploads, counted):
    graph = SceneGraph()
    shots = graph.shots(scenes="\n".join(f"does thing {i}" for i in range(6)))
    graph.scene(references=graph.references(face=uploads[0], outfit=uploads[2], name="counted"), shots=shots.out(0), seed=100)
    run, counts = counted(graph)
    good(run)
    assert counts["vae_encode"] <= 2 and counts["sample"] == 6 and counts["vae_decode"] == 6
    # Six prompts and one negative.
    assert counts["text_encode"] == 7
    turned = [model for model in switches(counts["loads"]) if model != "AutoencodingEngine"]
    # Groups of 4 and 2: the model and the VAE come twice.
    assert turned.count("QwenImage") == 2, turned
    assert len(digests(run)) == 6 and len(set(digests(run))) == 6


def test_the_same_again_samples_nothing_and_a_changed_shot_only_itself(qwen, uploads, counted):
    def shoot(scenes, group):
        graph = SceneGraph()
        shots = graph.shots(scenes=scenes)
        # Another group size makes the host run the node again without changing any picture.
        graph.scene(references=graph.references(face=uploads[0], name="resumed"), shots=shots.out(0), seed=200, group=group)
        return counted(graph)

    first, counts = shoot("sits\nstands\nruns", 4)
    assert counts["sample"] == 3
    again, counts = shoot("sits\nstands\nruns", 3)
    assert counts["sample"] == counts["vae_decode"] == counts["text_encode"] == counts["vae_encode"] == 0
    assert digests(again) == digests(first) and all(row["made_before"] for row in report(again)["shots"])
    edited, counts = shoot("sits\nswims\nruns", 4)
    assert counts["sample"] == counts["vae_decode"] == 1
    assert [row["made_before"] for row in report(edited)["shots"]] == [True, False, True]
    assert digests(edited)[0] == digests(first)[0] and digests(edited)[2] == digests(first)[2] and digests(edited)[1] != digests(first)[1]


def test_a_changed_lora_strength_makes_pictures_anew(qwen, uploads, counted):
    def shoot(strength):
        graph = SceneGraph()
        graph.lora("lora", files.STYLE_LORA, strength=strength, role="style")
        graph.scene(references=graph.references(face=uploads[0]), seed=300)
        return counted(graph)

    one, _ = shoot(0.5)
    other, counts = shoot(0.6)
    assert counts["sample"] == 1 and digests(one) != digests(other)


def test_an_interrupted_run_keeps_what_is_done(qwen, uploads, counted):
    def graph():
        graph = SceneGraph()
        shots = graph.shots(scenes="\n".join(f"interrupted {i}" for i in range(6)))
        graph.scene(references=graph.references(face=uploads[0]), shots=shots.out(0), seed=400, group=1)
        return graph

    qwen.post("/test_faults", {"slow": 0.15})
    qwen.interrupt_when(lambda counts: counts["vae_decode"] >= 1)
    run, counts = counted(graph())
    qwen.post("/test_faults", {})
    assert run.status == "error" and run.error is None
    done = counts["vae_decode"]
    assert 0 < done < 6
    run, counts = counted(graph())
    assert len(digests(good(run))) == 6
    assert sum(row["made_before"] for row in report(run)["shots"]) >= done
    assert counts["sample"] <= 6 - done


def test_a_shot_that_runs_out_of_memory_is_reported_and_the_others_are_kept(qwen, uploads):
    graph = SceneGraph()
    shots = graph.shots(scenes="memory 0\nmemory 1\nmemory 2")
    scene = graph.scene(references=graph.references(face=uploads[0]), shots=shots.out(0), seed=500)
    graph.tell("prompts", scene.out(PROMPTS))
    graph.tell("captions", scene.out(CAPTIONS))
    qwen.post("/test_faults", {"oom_at_sample": 2})
    run = good(qwen.run(graph))
    qwen.post("/test_faults", {})
    rows = report(run)["shots"]
    assert "out of memory" in rows[1]["error"] and "error" not in rows[0] and "error" not in rows[2]
    assert len(digests(run)) == 2
    assert [text.split()[-1] for text in run.texts("prompts")] == ["0", "2"]
    assert [text.split()[-1] for text in run.texts("captions")] == ["0", "2"]


def test_finished_pictures_are_saved_as_they_come(qwen, uploads):
    graph = SceneGraph()
    shots = graph.shots(scenes="saved 0\nsaved 1")
    graph.scene(references=graph.references(face=uploads[0]), shots=shots.out(0), seed=600, save_as="album/mira")
    good(qwen.run(graph))
    saved = sorted((qwen.base / "output" / "album").glob("*.png"))
    assert [path.name for path in saved] == ["mira_00001_.png", "mira_00002_.png"]
    from PIL import Image

    with Image.open(saved[0]) as picture:
        assert "LikenessQwenScene" in picture.info["prompt"] and picture.size == (256, 256)


def test_a_list_of_texts_makes_one_picture_each_in_one_run(qwen, uploads, counted):
    graph = SceneGraph()
    listed = graph.shots(scenes="listed 0\nlisted 1")
    graph.scene(references=graph.references(face=uploads[0]), scene=listed.out(1), seed=700)
    run, counts = counted(graph)
    assert len(digests(good(run))) == 2 and counts["sample"] == 2


def test_triggers_of_loras_stand_once_in_every_prompt(qwen, uploads):
    graph = SceneGraph()
    graph.lora("lora", files.CHARACTER_LORA)
    graph.scene(references=graph.references(face=uploads[0]), scene="a street")
    assert report(good(qwen.run(graph)))["shots"][0]["prompt"] == "mira_k, a street"
    graph["scene"]["inputs"]["scene"] = "a street with mira_k"
    assert report(good(qwen.run(graph)))["shots"][0]["prompt"] == "a street with mira_k"


def test_the_lora_node_tells_rank_layers_and_trigger(qwen):
    graph = SceneGraph()
    node = graph.lora("lora", files.CHARACTER_LORA, strength=0.8)
    graph.tell("trigger", node.out(2))
    graph.tell("report", node.out(3))
    run = good(qwen.run(graph))
    assert run.texts("trigger") == ["mira_k"]
    (row,) = json.loads(run.texts("report")[0])["loras"]
    assert row["matched"] == row["layers"] > 0 and row["rank"] == "4" and row["strength"] == 0.8 and row["warnings"] == []


def test_a_lora_of_another_family_is_called_without_effect_and_has_none(qwen, uploads):
    graph = SceneGraph()
    node = graph.lora("lora", files.FLUX_LORA)
    graph.tell("lora report", node.out(3))
    graph.scene(references=graph.references(face=uploads[0]), seed=1)
    run = good(qwen.run(graph))
    assert "matches nothing in this model: it is a Flux LoRA" in run.texts("lora report")[0]
    assert digests(run) == official(qwen, unet=files.EDIT_2511, references=uploads[:1], reference_sizes=ENCODED[:1])


def test_an_angle_lora_that_never_meets_its_words_is_told(qwen, uploads):
    def shoot(vocabulary):
        graph = SceneGraph()
        graph.lora("angles", files.ANGLES_2511, role="angle")
        shots = graph.shots(scenes="sits", angles="front left", angle_vocabulary=vocabulary)
        graph.scene(references=graph.references(face=uploads[0]), shots=shots.out(0))
        return report(good(qwen.run(graph)))

    assert any("set angle_vocabulary of Shot List to `2511 angle LoRA`" in note for note in shoot("plain words")["notes"])
    told = shoot("2511 angle LoRA")
    assert told["notes"] == [] and told["shots"][0]["prompt"].startswith("<sks> ")


def test_auto_takes_the_words_of_the_angle_lora_that_is_wired(qwen):
    def words(lora=None):
        graph = SceneGraph()
        wired = {"loras": graph.lora("angles", lora, role="angle").out(1)} if lora else {}
        shots = graph.shots(scenes="sits", angles="front left", template="{scene}[, {angle}]", angle_vocabulary="auto", **wired)
        graph.tell("prompts", shots.out(1))
        return good(qwen.run(graph)).texts("prompts")[0]

    assert words(files.ANGLES_2511).startswith("<sks> front-left quarter view")
    assert "Rotate the camera 45 degrees to the left." in words(files.ANGLES_2509)
    assert words() == "sits, three-quarter view from the left"


def test_preset_fast_takes_the_lightning_lora_and_says_when_there_is_none(qwen, uploads):
    def shoot(lora, unet=files.EDIT_2511):
        graph = SceneGraph(unet)
        graph.scene(references=graph.references(face=uploads[0]), preset="fast", speed_lora=lora)
        return good(qwen.run(graph))

    theirs = official(qwen, unet=files.EDIT_2511, references=uploads[:1], reference_sizes=ENCODED[:1], steps=4, cfg=1.0, lora=(files.LIGHTNING_2511, 1.0))
    run = shoot(files.LIGHTNING_2511)
    assert digests(run) == theirs and report(run)["notes"] == []
    assert report(run)["settings"]["steps"] == 4 and report(run)["settings"]["negative"] is None
    without = shoot("none: already in the model")
    assert "neither a Lightning LoRA nor a merged Lightning model is seen" in report(without)["notes"][0]
    assert digests(without) != theirs
    assert any("2509" in note for note in report(shoot(files.LIGHTNING_2509))["notes"])


def test_a_lightning_lora_from_the_hosts_own_loader_is_seen(qwen, uploads):
    graph = SceneGraph()
    graph.model = graph.add("speed", "LoraLoaderModelOnly", model=graph.model, lora_name=files.LIGHTNING_2511, strength_model=1.0).out(0)
    graph.scene(references=graph.references(face=uploads[0]), preset="fast")
    assert report(good(qwen.run(graph)))["notes"] == []


def test_the_negative_is_encoded_only_above_cfg_1(qwen, uploads, counted):
    def encodes(cfg, seed):
        graph = SceneGraph()
        graph.scene(references=graph.references(face=uploads[0]), seed=seed, **{"preset.cfg": cfg})
        return counted(graph)[1]["text_encode"]

    assert encodes(1.0, 800) == 1 and encodes(2.0, 801) == 2


def test_a_mask_keeps_the_source_pixel_by_pixel(qwen, uploads):
    pixels = drawn_picture(70, 256, 256)
    source = qwen.upload("scene_kept.png", pixels)
    graph = SceneGraph()
    mask = graph.add("mask", "SolidMask", value=0.0, width=256, height=256).out(0)
    white = graph.add("white", "SolidMask", value=1.0, width=128, height=256).out(0)
    mask = graph.add("half", "MaskComposite", destination=mask, source=white, x=0, y=0, operation="add").out(0)
    scene = graph.scene(references=graph.references(face=uploads[0]), source=graph.picture("source", source), mask=mask)
    graph.show("made", scene.out(IMAGES))
    made = good(qwen.run(graph)).pictures("made")[0]
    assert np.abs(made[:, :120].astype(int) - pixels[:, :120]).max() <= 1
    assert np.abs(made[:, 136:].astype(int) - pixels[:, 136:]).mean() > 10


@pytest.mark.parametrize("policy", ["scene", "pixel lock", "custom megapixels"])
def test_references_are_encoded_at_the_size_of_their_policy(qwen, policy):
    tall = qwen.upload("scene_tall.png", drawn_picture(80, 300, 400))
    graph = SceneGraph()
    references = graph.references(face=tall, policy=policy)
    graph.scene(references=references, width=288, height=384, **{"preset.steps": 1, "preset.cfg": 1.0})
    row = report(good(qwen.run(graph)))["references"][0]
    assert row["encoded_at"] == {"scene": [896, 1184], "pixel lock": [288, 384], "custom megapixels": [288, 384]}[policy]


def test_pixel_lock_on_another_aspect_says_so(qwen, uploads):
    graph = SceneGraph()
    graph.scene(references=graph.references(face=uploads[0], policy="pixel lock"), **{"preset.steps": 1, "preset.cfg": 1.0})
    notes = report(good(qwen.run(graph)))["notes"]
    assert any("Picture 1 (face) is 640x480, of another aspect than 256x256" in note for note in notes)


@pytest.mark.parametrize(("size", "expected"), [((300, 500), (288, 512)), ((257, 1000), (256, 992))])
def test_odd_sizes_never_reach_the_latent(qwen, uploads, size, expected):
    graph = SceneGraph()
    scene = graph.scene(references=graph.references(face=uploads[0]), width=size[0], height=size[1], **{"preset.steps": 1, "preset.cfg": 1.0})
    graph.show("made", scene.out(IMAGES))
    run = good(qwen.run(graph))
    assert run.pictures("made")[0].shape[:2] == expected[::-1]
    assert any("must be multiples of 32" in note for note in report(run)["notes"])


def test_denoise_that_does_nothing_is_said_and_does_nothing(qwen, uploads):
    square = qwen.upload("scene_square.png", drawn_picture(60, 256, 256))

    def shoot(denoise):
        graph = SceneGraph()
        source = graph.picture("source", square)
        graph.scene(references=graph.references(face=uploads[0]), source=source, denoise=denoise, **{"preset.steps": 4, "preset.cfg": 1.0})
        return good(qwen.run(graph))

    high, full = shoot(0.9), shoot(1.0)
    assert digests(high) == digests(full)
    assert any("denoise 0.9 at 4 steps has no effect" in note for note in report(high)["notes"])
    assert any("nothing of the source is used" in note for note in report(full)["notes"])


def test_a_denoise_without_a_source_is_1_and_says_so(qwen, uploads):
    graph = SceneGraph()
    graph.scene(references=graph.references(face=uploads[0]), denoise=0.5)
    run = good(qwen.run(graph))
    assert report(run)["settings"]["denoise"] == 1.0
    assert any("needs a source" in note for note in report(run)["notes"])


# --- with an identity ---


@pytest.fixture(scope="module")
def person(qwen, cast):
    """The name of a photograph of one person, square."""
    from PIL import Image

    pixels = np.asarray(Image.fromarray(cast[0].pixels).resize((512, 512)))
    return qwen.upload("scene_person.png", pixels)


@pytest.mark.dlib
@pytest.mark.insightface
def test_a_shot_that_does_not_pass_is_taken_again_and_a_back_view_is_not(qwen, uploads, person, counted):
    """Tiny models draw noise, in which nobody is found."""
    graph = SceneGraph()
    identity = graph.identity("mira", graph.picture("person", person))
    shots = graph.shots(scenes="sits", angles="front\nback view", template="{scene}[, {angle}]")
    scene = graph.scene(references=graph.references(face=uploads[0]), shots=shots.out(0), identity=identity, max_takes=3, seed=40)
    graph.tell("scores", scene.out(SCORES))
    run, counts = counted(graph)
    good(run)
    front, back = report(run)["shots"]
    assert front["takes"] == 3 and front["verdict"] == "no face" and front["scores_of_takes"] == [None] * 3
    assert back["takes"] == 1 and back["verdict"] == "not judged"
    assert counts["sample"] == 4 and run.texts("scores") == ["-1.0", "-1.0"]
    assert report(run)["match_rate"]["n"] == 1


@pytest.mark.dlib
@pytest.mark.insightface
def test_a_picture_of_the_character_passes_at_its_first_take(qwen, uploads, person, counted):
    """The whole source is kept, so the picture is the photograph again."""
    graph = SceneGraph()
    photograph = graph.picture("person", person)
    identity = graph.identity("mira", photograph)
    mask = graph.add("mask", "SolidMask", value=1.0, width=512, height=512).out(0)
    references = graph.references(face=uploads[0])
    graph.scene(references=references, source=photograph, mask=mask, identity=identity, max_takes=4, aspect_ratio="match source", megapixels=0.25, seed=41)
    run, counts = counted(graph)
    (row,) = report(good(run))["shots"]
    assert row["verdict"] == "pass" and row["takes"] == 1 and row["score"] > 0.9 and counts["sample"] == 1
    assert report(run)["match_rate"]["rate"] == 1.0
    assert any("The mask covers everything" in note for note in report(run)["notes"])


@pytest.mark.dlib
@pytest.mark.insightface
def test_takes_made_before_are_judged_again_without_sampling(qwen, uploads, person, counted):
    def shoot(strictness, max_takes):
        graph = SceneGraph()
        identity = graph.identity("mira", graph.picture("person", person))
        graph.scene(references=graph.references(face=uploads[0]), identity=identity, max_takes=max_takes, strictness=strictness, seed=60)
        return counted(graph)

    shoot("standard", 2)
    run, counts = shoot("strict", 3)
    assert counts["sample"] == 1 and report(good(run))["shots"][0]["takes"] == 3


def test_takes_without_an_identity_are_said_to_have_no_use(qwen, uploads):
    graph = SceneGraph()
    graph.scene(references=graph.references(face=uploads[0]), max_takes=5)
    run = good(qwen.run(graph))
    assert report(run)["shots"][0]["takes"] == 1 and any("max_takes needs an identity" in note for note in report(run)["notes"])


# --- what a user is told ---


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scene": "   "}, "The scene is empty"),
        ({"width": 0}, "A picture of 0x256 cannot be made: each side must lie between 256 and 4096"),
        ({"aspect_ratio": "21:9", "megapixels": 0.1}, "0.1 megapixels at 21:9"),
        ({"scene": "{picture:outfit} is worn"}, "outfit"),
        ({"scene": "{colour} hair"}, "colour"),
        ({"preset.sampler": "magic"}, "Value not in list: preset.sampler"),
        ({"save_as": "../outside"}, "cannot be a file name"),
    ],
)
def test_bad_input_is_one_sentence(qwen, uploads, change, told):
    graph = SceneGraph()
    graph.scene(references=graph.references(face=uploads[0]), **change)
    run = qwen.run(graph)
    assert run.status != "success" and told in run.error and "\n" not in run.error.strip()


def test_a_size_of_20000_is_refused_before_anything_runs(qwen, uploads, counted):
    graph = SceneGraph()
    graph.scene(references=graph.references(face=uploads[0]), width=20000)
    run, counts = counted(graph)
    assert run.status == "refused" and "20000" in run.error and counts["sample"] == 0


def test_an_edit_model_without_references_is_refused(qwen, counted):
    graph = SceneGraph()
    graph.scene()
    run, counts = counted(graph)
    assert "needs at least one reference picture: wire Character References" in run.error and counts["sample"] == 0


def test_references_on_a_text_to_image_model_are_refused_and_ignored_only_when_told(qwen, uploads):
    graph = SceneGraph(files.IMAGE_2512)
    graph.scene(references=graph.references(face=uploads[0]))
    assert "cannot see the references" in qwen.run(graph).error
    graph["scene"]["inputs"]["model_kind"] = "text to image, ignore references"
    run = good(qwen.run(graph))
    assert "The references are ignored, as model_kind says." in report(run)["notes"]


def test_no_reference_wired_is_told_by_the_node(qwen):
    graph = SceneGraph()
    graph.scene(references=graph.references())
    assert "No reference picture is wired" in qwen.run(graph).error


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"clip": files.WRONG_CLIP}, "not the text encoder of Qwen-Image"),
        ({"vae": files.WRONG_VAE}, "not the VAE of Qwen-Image"),
        ({"unet": files.LAYERED}, "Qwen-Image-Layered"),
    ],
)
def test_wrong_models_are_named_by_what_they_are(qwen, uploads, wrong, told):
    graph = SceneGraph(**wrong)
    graph.scene(references=graph.references(face=uploads[0]))
    assert told in qwen.run(graph).error


def test_too_many_shots_are_cut_to_the_limit_before_sampling_and_that_is_said(qwen):
    graph = SceneGraph()
    many = "\n".join(f"scene {i}" for i in range(100))
    shots = graph.shots(scenes=many, lighting=many, limit=7)
    graph.tell("count", shots.out(3))
    graph.tell("shots report", shots.out(4))
    run = good(qwen.run(graph))
    assert run.texts("count") == ["7"]
    assert "10000" in run.texts("shots report")[0].replace(",", "")


def test_a_mask_without_a_source_and_a_source_of_another_aspect_are_refused(qwen, uploads):
    graph = SceneGraph()
    mask = graph.add("mask", "SolidMask", value=1.0, width=256, height=256).out(0)
    graph.scene(references=graph.references(face=uploads[0]), mask=mask)
    assert "wire that picture to source" in qwen.run(graph).error
    graph = SceneGraph()
    graph.scene(references=graph.references(face=uploads[0]), source=graph.picture("source", uploads[0]), denoise=0.5)
    assert "set aspect_ratio to `match source`" in qwen.run(graph).error


def test_a_missing_lora_is_one_sentence_before_the_run(qwen, uploads):
    graph = SceneGraph()
    graph.lora("lora", "gone.safetensors")
    graph.scene(references=graph.references(face=uploads[0]), speed_lora="also_gone.safetensors", preset="fast")
    run = qwen.run(graph)
    assert run.status == "refused"
    assert "The LoRA gone.safetensors is not in models/loras" in run.error
    assert "The speed LoRA also_gone.safetensors is not in models/loras" in run.error


def test_progress_goes_over_all_shots(qwen, uploads):
    """Pictures appear in the node's output while it runs: the history shows them all at the end."""
    graph = SceneGraph()
    shots = graph.shots(scenes="progress 0\nprogress 1\nprogress 2")
    graph.scene(references=graph.references(face=uploads[0]), shots=shots.out(0), seed=900)
    started = time.monotonic()
    run = good(qwen.run(graph))
    assert len(run.images("scene")) == 3 and time.monotonic() - started < 60
