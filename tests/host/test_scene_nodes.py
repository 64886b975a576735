"""The scene nodes in a real ComfyUI on tiny Qwen models: equal to the official graphs, made once, resumed, reported."""

import json
import shutil
import uuid

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.host.comfy import RUN_SECONDS
from tests.host.flux_in_process import load_comfy
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


def test_a_reference_that_grows_is_enlarged_smoothly_and_not_in_the_blocks_of_the_official_graph(qwen):
    # Grey enough that what bicubic overshoots is not cut off.
    small = qwen.upload("scene_small.png", drawn_picture(53, 320, 240) // 2 + 64)

    def theirs(method):
        graph = Graph()
        size = {"width": 256, "height": 256, "reference_sizes": [(384, 288)]}
        made = official_edit(graph, **MODELS, unet=files.EDIT_2511, references=[small], prompt="a woman in the rain", **size)
        (scaled,) = (node["inputs"] for node in graph.values() if node["class_type"] == "ImageScale")
        scaled["upscale_method"] = method
        graph.add("scene digest", "TestDigest", images=made)
        return digests(good(qwen.run(graph)))

    graph = SceneGraph()
    graph.scene(references=graph.references(face=small))
    run = good(qwen.run(graph))
    assert report(run)["references"][0]["encoded_at"] == [384, 288]
    assert digests(run) == theirs("bicubic") != theirs("area")


def test_a_wired_shift_is_replaced_and_a_wired_cfg_norm_stays_alone_which_is_said(qwen, uploads):
    graph = SceneGraph()
    references, model = graph.references(face=uploads[0]), graph.model
    graph.scene("plain", references=references, seed=2)
    graph.model = graph.add("shift", "ModelSamplingAuraFlow", model=model, shift=9.0).out(0)
    graph.scene("shifted", references=references, seed=2)
    graph.model = graph.add("norm", "CFGNorm", model=model, strength=1.0).out(0)
    graph.scene("normed", references=references, seed=2)
    graph.scene("without", references=references, seed=2, **{"preset.cfg_norm": 0.0})
    graph.model = model
    graph.scene("neither", references=references, seed=2, **{"preset.cfg_norm": 0.0})
    run = good(qwen.run(graph))
    assert digests(run, "plain") == digests(run, "shifted") == digests(run, "normed") == digests(run, "without") != digests(run, "neither")
    assert report(run, "plain")["notes"] == report(run, "neither")["notes"] == []
    assert report(run, "shifted")["notes"] == [
        "The shift that is set on the model is replaced by 3.1: this node sets it by itself, leave ModelSamplingAuraFlow out."
    ]
    assert report(run, "normed")["notes"] == ["CFGNorm is on the model already; it is left as it is. This node sets it by itself: leave that node out."]


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


def test_many_shots_encode_each_reference_once_and_switch_models_once_per_group(qwen, counted):
    # Pictures that no other test has: encoded ones are remembered.
    face, outfit = (qwen.upload(f"scene_counted_{i}.png", drawn_picture(54 + i, 640, 480)) for i in range(2))
    graph = SceneGraph()
    shots = graph.shots(scenes="\n".join(f"does thing {i}" for i in range(6)))
    graph.scene(references=graph.references(face=face, outfit=outfit, name="counted"), shots=shots.out(0), seed=100)
    run, counts = counted(graph)
    good(run)
    assert counts["vae_encode"] == 2 and counts["sample"] == 6 and counts["vae_decode"] == 6
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


def test_whatever_a_picture_depends_on_makes_it_anew_and_nothing_else(qwen):
    square, other = (qwen.upload(f"scene_key_{i}.png", drawn_picture(56 + i, 256, 256)) for i in range(2))

    def run(changes):
        graph = SceneGraph()
        graph.cut = graph.add("cut", "CLIPSetLastLayer", clip=graph.clip, stop_at_clip_layer=-2).out(0)
        graph.half = graph.add("half", "SolidMask", value=0.5, width=256, height=256).out(0)
        graph.seen = {name: graph.picture(name, name) for name in (square, other)}
        graph.known = {
            "face": graph.references(face=graph.seen[square]),
            "other face": graph.references("other", face=graph.seen[other]),
            "locked": graph.references("locked", face=graph.seen[square], policy="pixel lock"),
        }
        for name, change in changes.items():
            made = change(graph) if callable(change) else change
            graph.scene(name, **({"references": graph.known["face"], "seed": 250, "preset.steps": 1, "preset.cfg": 1.0} | made))
        ran = good(qwen.run(graph))
        return {name: report(ran, name)["shots"][0]["made_before"] for name in changes}

    anew = {
        "seed": {"seed": 251},
        "size": {"width": 288},
        "steps": {"preset.steps": 2},
        "sampler": {"preset.sampler": "heun"},
        "shift": {"preset.shift": 5.0},
        "cfg": {"preset.cfg": 2.0},
        "negative": {"preset.cfg": 2.0, "negative": "rain"},
        # With its own shift it would be anew for that.
        "kind": {"model_kind": "edit 2509", "preset.shift": 3.1},
        "face": lambda graph: {"references": graph.known["other face"]},
        "policy": lambda graph: {"references": graph.known["locked"]},
        "clip layer": lambda graph: {"clip": graph.cut},
        "source": lambda graph: {"source": graph.seen[square], "denoise": 0.5},
        "other source": lambda graph: {"source": graph.seen[other], "denoise": 0.5},
        "mask": lambda graph: {"source": graph.seen[square], "denoise": 0.5, "mask": graph.half},
    }
    remembered = {"group": {"group": 7}, "negative at cfg 1": {"negative": "rain"}}
    assert run({"first": {}}) == {"first": False}
    assert run(anew | remembered) == dict.fromkeys(anew, False) | dict.fromkeys(remembered, True)


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


def test_on_a_full_disk_one_sentence_is_said_and_the_next_run_saves_what_was_made(qwen, uploads, counted):
    graph = SceneGraph()
    shots = graph.shots(scenes="full 0\nfull 1\nfull 2")
    graph.scene(references=graph.references(face=uploads[0]), shots=shots.out(0), seed=650, group=1, save_as="full disk/mira")
    folder = qwen.base / "output" / "full disk"
    qwen.post("/test_faults", {"room_for": 1})
    run, first = counted(graph)
    qwen.post("/test_faults", {})
    assert "full disk cannot be written (No space left on device): make room there, or choose another save_as, and queue again" in run.error
    assert [path.name for path in folder.iterdir()] == ["mira_00001_.png"]
    run, second = counted(graph)
    assert first["sample"] + second["sample"] == 3 and len(digests(good(run))) == 3
    assert sorted(path.name for path in folder.iterdir()) == [f"mira_0000{number}_.png" for number in (1, 2, 3)]


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


def test_a_scene_with_nothing_behind_it_runs_and_saves_no_picture_twice(qwen, uploads):
    graph = SceneGraph()
    graph.scene(references=graph.references(face=uploads[0]), seed=610, save_as="alone/mira")
    del graph["scene report"], graph["scene digest"]
    assert len(good(qwen.run(graph)).images("scene")) == 1
    (first,) = (qwen.base / "output" / "alone").iterdir()
    # Another group makes the host run the node again.
    graph["scene"]["inputs"]["group"] = 5
    good(qwen.run(graph))
    assert [*first.parent.iterdir()] == [first]
    first.unlink()
    graph["scene"]["inputs"]["group"] = 6
    good(qwen.run(graph))
    assert len([*first.parent.iterdir()]) == 1


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


def test_a_trigger_is_the_name_of_the_nameless_and_goes_with_its_lora_at_strength_0(qwen):
    graph = SceneGraph(files.IMAGE_2512)
    plain = graph.model
    off = graph.lora("off", files.CHARACTER_LORA, strength=0.0)
    graph.tell("trigger", off.out(2))
    graph.scene("without", scene="{character}[ of {picture:face}] stands")
    graph.model = plain
    graph.lora("on", files.CHARACTER_LORA)
    graph.scene("with", scene="{character}[ of {picture:face}] stands")
    run = good(qwen.run(graph))
    assert report(run, "with")["shots"][0]["prompt"] == "mira_k stands"
    assert report(run, "without")["shots"][0]["prompt"] == "the character stands" and run.texts("trigger") == [""]


def test_the_name_of_a_lora_in_between_does_not_tell_the_kind_of_the_model(qwen, uploads):
    models = qwen.base / "models"
    shutil.copy(models / "diffusion_models" / files.EDIT_2511_REPACK, models / "diffusion_models" / "nameless.safetensors")
    shutil.copy(models / "loras" / files.STYLE_LORA, models / "loras" / "style_for_qwen_edit_2511.safetensors")
    graph = SceneGraph("nameless.safetensors")
    graph.model = graph.add("between", "LoraLoaderModelOnly", model=graph.model, lora_name="style_for_qwen_edit_2511.safetensors", strength_model=1.0).out(0)
    graph.scene(references=graph.references(face=uploads[0]), **{"preset.steps": 1, "preset.cfg": 1.0})
    told = report(good(qwen.run(graph)))["model"]
    assert told["kind"] == "edit 2509" and "neither the file nor its name says it" in told["because"]


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

    assert any("in Shot List set angle_vocabulary to `2511 angle LoRA`" in note for note in shoot("plain words")["notes"])
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


def test_speed_loras_that_cannot_come_out_well_are_told(qwen, uploads):
    models, merged = qwen.base / "models" / "diffusion_models", "qwen_edit_2511_lightning_merged.safetensors"
    shutil.copy(models / files.EDIT_2511, models / merged)
    graph = SceneGraph()
    references = graph.references(face=uploads[0])
    graph.scene("left out", references=references, speed_lora=files.LIGHTNING_2511)
    graph.model = graph.add("speed", "LoraLoaderModelOnly", model=graph.model, lora_name=files.LIGHTNING_2511, strength_model=1.0).out(0)
    graph.scene("harsh", references=references, **{"preset.steps": 9})
    graph.model = graph.add("merged", "UNETLoader", unet_name=merged, weight_dtype="default").out(0)
    graph.scene("grid", references=references, preset="fast", speed_lora=files.LIGHTNING_2511)
    run = good(qwen.run(graph))
    assert report(run, "left out")["notes"] == [f"speed_lora is for preset fast only; with preset custom {files.LIGHTNING_2511} is left out."]
    assert report(run, "harsh")["notes"] == [
        f"{files.LIGHTNING_2511} is made for few steps at cfg 1; with 9 steps at cfg 2.5 pictures turn out harsh: take preset fast."
    ]
    assert report(run, "grid")["notes"] == [
        f"{merged} already holds a speed LoRA by its name: with {files.LIGHTNING_2511} on top pictures get grid lines; set speed_lora to none."
    ]


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
        ({"width": 5000}, "A picture of 5000x256 cannot be made: each side must lie between 256 and 4096 pixels."),
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
        ({"clip": files.WRONG_CLIP}, "The clip is CLIP-L (Stable Diffusion 1.5), not the text encoder of Qwen-Image"),
        ({"vae": files.WRONG_VAE}, "The vae is TAESD with 4 latent channels, not the VAE of Qwen-Image"),
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


def test_more_than_1000_texts_and_more_than_one_source_are_refused_before_sampling(qwen, uploads, counted):
    graph = SceneGraph()
    lists = [graph.shots(name, scenes="\n".join(f"{name} {i}" for i in range(600)), limit=600).out(1) for name in ("first", "second")]
    both = graph.add("both", "CreateList", **{f"inputs.input{i}": texts for i, texts in enumerate(lists)})
    pictures = graph.add("pictures", "CreateList", **{f"inputs.input{i}": graph.picture(name, name) for i, name in enumerate(uploads)})
    references = graph.references(face=uploads[0])
    scene = graph.scene(references=references, scene=both.out(0))
    run, counts = counted(graph)
    assert "1200 shots are more than the 1000 that one run makes; set a lower limit in Shot List." in run.error and counts["sample"] == 0
    graph.scene(scene.name, references=references, source=pictures.out(0))
    run, counts = counted(graph)
    assert "source takes one picture, 3 are wired to it." in run.error and counts["sample"] == 0


def test_no_shot_at_all_is_one_sentence():
    load_comfy()
    from character_likeness.nodes.errors import InputError
    from character_likeness.nodes.scene import filming

    given = {"preset": "balanced", "custom": {}, "aspect": "1:1", "megapixels": 1.0, "custom_size": (1024, 1024), "seed": 0}
    order = filming.Order(model=None, clip=None, vae=None, shots=(), references=None, **given)
    with pytest.raises(InputError, match=r"^There is no shot to make: write a scene, or wire a Shot List\.$"):
        filming.film(order, filming.Watch())


def test_an_empty_mask_is_told(qwen, uploads):
    graph = SceneGraph()
    mask = graph.add("mask", "SolidMask", value=0.0, width=640, height=480).out(0)
    source = graph.picture("source", uploads[0])
    graph.scene(references=graph.references(face=source), source=source, mask=mask, width=384, height=288)
    assert report(good(qwen.run(graph)))["notes"] == ["The mask is empty: nothing of the source is kept."]


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


def watched(comfy, graph):
    """What the host tells the client that queued a graph about the node `scene` while it runs: [(value, maximum)] of its bar, and the lines of text."""
    from websockets.sync.client import connect

    client, bar, lines = uuid.uuid4().hex, [], []
    with connect(f"{comfy.url.replace('http', 'ws', 1)}/ws?clientId={client}", max_size=None) as socket:
        comfy.post("/prompt", {"prompt": graph, "client_id": client})
        while True:
            told = socket.recv(RUN_SECONDS)
            if isinstance(told, bytes):
                # Kind 3 is a text: 4 bytes for the length of the node's name, the name, the text (server.py, BinaryEventTypes).
                if told[:4] == bytes([0, 0, 0, 3]) and told[8 : 8 + told[7]] == b"scene":
                    lines.append(told[8 + told[7] :].decode())
                continue
            told = json.loads(told)
            if told["type"] == "progress" and told["data"]["node"] == "scene":
                bar.append((told["data"]["value"], told["data"]["max"]))
            if told["type"].startswith("execution_") and told["type"] not in ("execution_start", "execution_cached"):
                assert told["type"] == "execution_success", told
                return bar, lines


def test_progress_rises_over_all_shots_and_ends_at_the_last(qwen, uploads):
    graph = SceneGraph()
    shots = graph.shots(scenes="progress 0\nprogress 1\nprogress 2")
    graph.scene(references=graph.references(face=uploads[0]), shots=shots.out(0), seed=900, group=2)
    # The host leaves out what comes within a tenth of a second.
    qwen.post("/test_faults", {"slow": 0.15})
    bar, lines = watched(qwen, graph)
    qwen.post("/test_faults", {})
    values = [value for value, _ in bar]
    assert {maximum for _, maximum in bar} == {3} and values == sorted(set(values)) and len(values) > 3
    assert 0 < values[0] <= 1 and values[-1] == 3
    begun = [line for line in lines if line.startswith("Shot")]
    assert list(dict.fromkeys(line[:11] for line in begun)) == [f"Shot {number} of 3" for number in (1, 2, 3)]
    assert any("about" in line and line.endswith("left") for line in begun) and lines[-1] == "3 of 3 pictures"
