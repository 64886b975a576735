"""What Qwen Character Scene makes of models, LoRAs, sources and masks as users wire them, and what it says of each; and its progress over many shots."""

import json
import shutil

import pytest

pytest.importorskip("torch")

from tests.host.flux_in_process import load_comfy
from tests.host.qwen_graphs import drawn_picture
from tests.host.scene_graphs import IMAGES, SceneGraph
from tests.tiny import qwen_models as files

pytestmark = pytest.mark.host

QUICK = {"preset.steps": 1, "preset.cfg": 1.0}


@pytest.fixture(scope="module")
def tall(qwen):
    """A picture of 4:5, whose aspect no multiple of 32 has at 0.25 megapixels: 448x576 is nearest, 2.9 % off."""
    return qwen.upload("models_tall.png", drawn_picture(90, 1080, 1350))


def copied(qwen, folder, name, to):
    path = qwen.base / "models" / folder / to
    if not path.exists():
        shutil.copy(path.with_name(name), path)
    return to


def ran(qwen, graph):
    run = qwen.run(graph)
    assert run.status == "success" and run.error is None, run.error
    return run


def report(run, name="scene"):
    return json.loads(run.texts(f"{name} report")[0])


# --- sources and masks ---


def test_under_match_source_no_source_is_refused_and_pixel_lock_holds(qwen, tall):
    graph = SceneGraph()
    references = graph.references(face=tall, policy="pixel lock")
    options = {"references": references, "aspect_ratio": "match source", "megapixels": 0.25, **QUICK}
    scene = graph.scene("sourced", source=graph.picture("source", tall), denoise=0.5, **options)
    graph.show("made", scene.out(IMAGES))
    graph.scene("alone", **options)
    run = ran(qwen, graph)
    assert run.pictures("made")[0].shape[:2] == (576, 448)
    for name in ("sourced", "alone"):
        told = report(run, name)
        assert told["settings"]["size"] == told["references"][0]["encoded_at"] == [448, 576]
        assert told["notes"][0].startswith("448x576 is 2.9% off the aspect of 1080x1350") and not any("not locked" in note for note in told["notes"])


@pytest.mark.parametrize("size", [(640, 480), (256, 256)])
def test_the_mask_of_a_picture_without_transparency_is_called_empty(qwen, size):
    picture = qwen.upload(f"models_opaque_{size[0]}.png", drawn_picture(91, *size))
    graph = SceneGraph()
    source = graph.add("source", "LoadImage", image=picture)
    graph.scene(references=graph.references(face=source.out(0)), source=source.out(0), mask=source.out(1), aspect_ratio="match source", **QUICK)
    assert "The mask is empty: the picture that it comes from has no transparency; paint a mask" in qwen.run(graph).error


# --- models ---


def test_a_model_whose_kind_is_a_guess_is_said_to_be_one(qwen, tall):
    nameless = copied(qwen, "diffusion_models", files.EDIT_2511_REPACK, "mymodel.safetensors")
    graph = SceneGraph(nameless)
    graph.scene(references=graph.references(face=tall), **QUICK)
    graph.scene("chosen", references=graph["scene"]["inputs"]["references"], model_kind="edit 2511", **QUICK)
    run = ran(qwen, graph)
    assert report(run)["notes"] == ["The model is taken for edit 2509 because references are wired: neither the file nor its name says it; model_kind sets it."]
    assert report(run, "chosen")["notes"] == []


@pytest.fixture(scope="module")
def wired():
    load_comfy()
    from character_likeness.nodes.scene import wired

    return wired


def test_what_a_loader_did_not_find_in_its_file_is_one_sentence(wired):
    import comfy.sd

    from character_likeness.nodes.errors import InputError

    # What Load Checkpoint gives for a file with nothing but the diffusion model: None, and a VAE without a model.
    for check, nothing, told in [
        (wired.check_clip, None, "^The clip is empty: .* no text encoder; load qwen_2.5_vl_7b_fp8_scaled.safetensors with Load CLIP, type qwen_image.$"),
        (wired.check_vae, None, "^The vae is empty: .* no VAE; load qwen_image_vae.safetensors with Load VAE.$"),
        (wired.check_vae, comfy.sd.VAE(sd={}), "^The vae is empty"),
        (wired.check_model, None, "^The model is empty: .* no diffusion model; load one such as .* with Load Diffusion Model.$"),
    ]:
        with pytest.raises(InputError, match=told):
            check(nothing)
    with pytest.raises(InputError, match="The model is empty"):
        wired.read_model(None, "auto", True)


def test_a_checkpoint_without_text_encoder_and_vae_is_told_of_each(qwen, tall):
    from safetensors.numpy import load_file, save_file

    path = qwen.base / "models" / "checkpoints" / "qwen_edit_2511_alone.safetensors"
    path.parent.mkdir(exist_ok=True)
    weights = load_file(qwen.base / "models" / "diffusion_models" / files.EDIT_2511)
    save_file({f"model.diffusion_model.{name}": tensor for name, tensor in weights.items()}, path)

    def told(**wrong):
        graph = SceneGraph()
        references = graph.references(face=tall)
        loaded = graph.add("checkpoint", "CheckpointLoaderSimple", ckpt_name=path.name)
        graph.scene(references=references, **QUICK, **{name: loaded.out(index) for name, index in wrong.items()})
        return qwen.run(graph).error

    assert told(model=0, clip=1).startswith("The clip is empty: the file that it comes from holds no text encoder")
    assert told(model=0, vae=2).startswith("The vae is empty: the file that it comes from holds no VAE")


# --- LoRAs and settings ---


def test_speed_loras_of_other_loaders_are_judged_with_the_kind_of_the_model(qwen, tall):
    graph = SceneGraph()
    references = graph.references(face=tall)
    plain = graph.model
    graph.model = graph.add("speed", "LoraLoaderModelOnly", model=plain, lora_name=files.LIGHTNING_2509, strength_model=1.0).out(0)
    graph.scene("two", references=references, preset="fast", speed_lora=files.LIGHTNING_2511)
    graph.model = plain
    graph.lora("zero", files.LIGHTNING_2511, strength=0.0, role="speed")
    graph.scene("off", references=references, preset="fast")
    graph.scene("off and on", references=references, preset="fast", speed_lora=files.LIGHTNING_2511, negative="blurred")
    run = ran(qwen, graph)
    assert report(run, "two")["notes"] == [
        f"{files.LIGHTNING_2509} is a speed LoRA for edit 2509, and the model is edit 2511: use the one for the same model.",
        f"{files.LIGHTNING_2509}, which another loader puts on the model, and {files.LIGHTNING_2511} are both speed LoRAs, which together overshoot: keep one.",
    ]
    assert ["neither a Lightning LoRA" in note for note in report(run, "off")["notes"]] == [True]
    assert report(run, "off and on")["notes"] == ["negative is not used at cfg 1: it needs a cfg above 1, as the presets balanced and quality have."]


def test_an_angle_lora_without_a_telling_name_gets_the_words_of_its_model_and_none_at_strength_0(qwen, tall):
    angles = copied(qwen, "loras", files.STYLE_LORA, "my_angles.safetensors")
    nameless = copied(qwen, "diffusion_models", files.EDIT_2511_REPACK, "mymodel.safetensors")

    def shoot(unet, strength):
        graph = SceneGraph(unet)
        lora = graph.lora("angles", angles, strength=strength, role="angle")
        shots = graph.shots(scenes="sits", angles="front left", angle_vocabulary="auto", template="{scene}[, {angle}]", loras=lora.out(1))
        graph.tell("prompts", shots.out(1))
        graph.tell("shots report", shots.out(4))
        graph.scene(references=graph.references(face=tall), shots=shots.out(0), **QUICK)
        run = ran(qwen, graph)
        return run.texts("prompts")[0], json.loads(run.texts("shots report")[0])["notes"], report(run)["notes"]

    prompt, *notes = shoot(files.EDIT_2511, 1.0)
    assert prompt.startswith("<sks> front-left quarter view") and notes == [[], []]
    prompt, *notes = shoot(files.EDIT_2511, 0.0)
    assert prompt == "sits, three-quarter view from the left" and notes == [[], []]
    prompt, listed, filmed = shoot(nameless, 1.0)
    untold = f"{angles} is an angle LoRA, but neither its file nor the model tells whose words it understands: choose angle_vocabulary of Shot List."
    assert prompt == "sits, three-quarter view from the left" and listed == [untold] and filmed[1:] == [untold]


# --- progress ---


class Live:
    """Writes down what a node shows."""

    def __init__(self):
        self.bar, self.texts = [], []

    def progress(self, done, total, preview=None):
        self.bar.append((done, total))

    def tell(self, text):
        self.texts.append(text)

    def show(self, picture):
        pass

    def check(self):
        pass


class Studio:
    """Makes pictures in no time."""

    def key(self, prompt, seed):
        return prompt, seed

    def prepare(self):
        pass

    def encode(self, prompt):
        return prompt

    def sample(self, conditioning, seed, step):
        step(1, 2, None)
        step(2, 2, None)
        return conditioning

    def decode(self, latent):
        return latent


class Store(dict):
    look = dict.get
    keep = dict.__setitem__


def test_progress_goes_over_all_shots_of_a_long_list_and_never_back(wired):
    from character_likeness.nodes.scene.filming import Showing
    from character_likeness.nodes.scene.shots import Shot
    from character_likeness.nodes.scene.takes import Job, PictureMemory, shoot

    live = Live()
    jobs = [Job(Shot(f"s{i}", "", "", "", 0), f"prompt {i}", i) for i in range(100)]
    shoot(jobs, Studio(), PictureMemory(Store(), Store()), watch=Showing(live, lambda index, take: None))
    assert live.bar == [((half + 1) / 2, 100) for half in range(200)]
    assert live.texts[-1].startswith("Shot 100 of 100")
