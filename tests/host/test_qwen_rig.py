"""The rig that the scene room is tested with: tiny Qwen-Image models in the real host behave like the real ones where it matters for plumbing."""

import time

import numpy as np
import pytest

from tests.host.graphs import Graph
from tests.host.qwen_graphs import drawn_picture, forget, official_edit, official_edit_plain, official_text_to_image, switches
from tests.tiny import qwen_models as files

pytestmark = pytest.mark.host

MODELS = {"clip": files.TEXT_ENCODER, "vae": files.VAE}
SMALL = {"width": 96, "height": 128}


@pytest.fixture(scope="module")
def references(qwen):
    return [qwen.upload(f"rig_{i}.png", drawn_picture(i)) for i in range(3)]


@pytest.fixture(scope="module")
def picture(qwen):
    """The pixels that one of the official graphs makes."""

    def run(build, **options):
        graph = Graph()
        graph.show("show", build(graph, **MODELS, **({"prompt": "a woman in the rain", **SMALL} | options)))
        started = time.monotonic()
        ran = qwen.run(graph)
        print(f"{build.__name__}: {time.monotonic() - started:.2f} s")
        assert ran.status == "success", ran.error
        return ran.pictures("show")[0]

    return run


@pytest.fixture(scope="module")
def edit(picture, references):
    """The pixels of one edit: its defaults, and what a test changes."""

    def run(build=official_edit, **options):
        return picture(build, **({"unet": files.EDIT_2511, "references": references[:2]} | options))

    return run


def counts(qwen):
    return qwen.get("/test_counts")


def same(first, second):
    return np.array_equal(first, second)


def test_the_loaders_list_every_file(qwen):
    def listed(node, entry):
        return set(qwen.get(f"/object_info/{node}")[node]["input"]["required"][entry][0])

    assert listed("UNETLoader", "unet_name") >= set(files.DIFFUSION_MODELS)
    assert listed("CLIPLoader", "clip_name") >= {files.TEXT_ENCODER, files.WRONG_CLIP}
    assert listed("VAELoader", "vae_name") >= {files.VAE, files.WRONG_VAE}
    assert listed("LoraLoaderModelOnly", "lora_name") >= {*files.LORAS, files.FLUX_LORA}


def test_the_whole_set_is_small(qwen):
    assert sum(path.stat().st_size for path in files.write_all(qwen.base / "models")) < 120e6


def test_writing_again_leaves_the_files_alone(tmp_path):
    first = files.write_vae(tmp_path / "vae.safetensors").stat().st_mtime_ns
    assert files.write_vae(tmp_path / "vae.safetensors").stat().st_mtime_ns == first


@pytest.mark.parametrize("unet", files.DIFFUSION_MODELS)
def test_every_diffusion_model_edits(edit, unet):
    made = edit(unet=unet)
    assert made.shape == (128, 96, 3)
    burnt_out = np.isin(made, (0, 255)).mean()
    assert made.std() > 30 and burnt_out < 0.4


@pytest.mark.parametrize("unet", [files.EDIT_2509, files.EDIT_2511])
def test_an_edit_follows_its_prompt_seed_pictures_and_their_order_and_nothing_else(qwen, edit, references, unet):
    base = edit(unet=unet)
    assert not same(base, edit(unet=unet, prompt="a woman in the sun"))
    assert not same(base, edit(unet=unet, negative="rain"))
    assert not same(base, edit(unet=unet, seed=2))
    assert not same(base, edit(unet=unet, references=[references[0], references[2]]))
    assert not same(base, edit(unet=unet, references=[references[1], references[0]]))
    assert not same(base, edit(unet=unet, references=references[:1]))
    assert not same(base, edit(unet=unet, reference_sizes=[(96, 128), (64, 96)]))
    forget(qwen)
    qwen.post("/test_counts/reset", {})
    assert same(base, edit(unet=unet))
    assert counts(qwen)["sample"] == 1, "the host did not compute it again"


def test_the_plain_form_runs_and_equals_the_other_with_references_of_one_megapixel(edit, references):
    plain = edit(official_edit_plain, references=references[:1], steps=1, cfg=1.0)
    assert same(plain, edit(references=references[:1], reference_sizes=[(888, 1184)], steps=1, cfg=1.0))


def test_a_2511_file_without_its_key_needs_the_reference_method(edit):
    base, repack = edit(unet=files.EDIT_2511), edit(unet=files.EDIT_2511_REPACK)
    assert not same(base, repack)
    assert same(base, edit(unet=files.EDIT_2511_REPACK, method="index_timestep_zero"))
    assert same(repack, edit(unet=files.EDIT_2511, method="index"))


@pytest.mark.parametrize("lora", files.LORAS)
def test_a_lora_changes_the_picture_by_its_strength(edit, lora):
    off, half, on = (edit(lora=(lora, strength)) for strength in (0.0, 0.5, 1.0))
    assert same(off, edit())
    assert not same(off, half) and not same(half, on)


def test_the_lora_of_another_family_changes_nothing(qwen, edit):
    assert same(edit(), edit(lora=(files.FLUX_LORA, 1.0)))
    assert "lora key not loaded: lora_unet_double_blocks_0_img_attn_qkv" in qwen.log()


def test_text_to_image_follows_its_prompt(picture):
    first, second = (picture(official_text_to_image, unet=files.IMAGE_2512, prompt=prompt) for prompt in ("a woman in the rain", "a man in the rain"))
    assert first.shape == (128, 96, 3) and not same(first, second)


def test_a_source_shows_where_denoise_leaves_it(edit, references):
    source = drawn_picture(2).astype(float)

    def distance(denoise):
        return np.abs(edit(source=references[2], denoise=denoise, steps=8) - source).mean()

    assert distance(0.1) < distance(0.5) < distance(1.0)
    assert same(edit(source=references[2]), edit())


def test_the_vae_gives_8_pixel_squares_back(qwen, references):
    graph = Graph()
    vae = graph.add("vae", "VAELoader", vae_name=files.VAE).out(0)
    latent = graph.add("encode", "VAEEncode", pixels=graph.picture("picture", references[0]), vae=vae).out(0)
    graph.show("show", graph.add("decode", "VAEDecode", samples=latent, vae=vae).out(0))
    assert np.abs(qwen.run(graph).pictures("show")[0].astype(int) - drawn_picture(0)).max() <= 2


@pytest.mark.parametrize("wrong", ["vae", "clip"])
def test_models_of_another_family_load(qwen, wrong):
    graph = Graph()
    if wrong == "vae":
        loaded = graph.add("load", "VAELoader", vae_name=files.WRONG_VAE).out(0)
        latent = graph.add("latent", "EmptyLatentImage", width=64, height=64, batch_size=1).out(0)
        graph.show("show", graph.add("decode", "VAEDecode", samples=latent, vae=loaded).out(0))
    else:
        loaded = graph.add("load", "CLIPLoader", clip_name=files.WRONG_CLIP, type="qwen_image", device="default").out(0)
        graph.tell("show", graph.add("encode", "CLIPTextEncode", clip=loaded, text="a woman").out(0))
    ran = qwen.run(graph)
    assert ran.status == "success", ran.error


def test_counts_tell_what_one_graph_does(qwen, edit):
    forget(qwen)
    qwen.post("/test_counts/reset", {})
    edit(steps=3, lora=(files.STYLE_LORA, 1.0))
    told = counts(qwen)
    loads, read, runs = told.pop("loads"), told.pop("files"), told.pop("runs")
    assert runs == []
    # Two texts with two pictures each, two references resized for the VAE; prompt and negative differ in length and so take a pass each.
    assert told == {"vae_encode": 2, "vae_decode": 1, "text_encode": 2, "vision_encode": 0, "sample": 1, "model_forward": 6, "model_rows": 6, "upscale": 6}
    assert sorted(switches(loads)) == ["QwenImage", "QwenImageTEModel_", "WanVAE", "WanVAE"] and switches(loads)[-2:] == ["QwenImage", "WanVAE"]
    assert sorted(read) == sorted([files.EDIT_2511, files.TEXT_ENCODER, files.VAE, files.STYLE_LORA])
    qwen.post("/test_counts/reset", {})
    edit(steps=3, lora=(files.STYLE_LORA, 1.0))
    assert counts(qwen)["sample"] == 0, "the second time it comes from the cache"


def test_a_sampling_can_be_made_to_run_out_of_memory_once(qwen, references):
    def seeds(*numbers):
        graph = Graph()
        for seed in numbers:
            options = {"unet": files.EDIT_2511, **MODELS, "references": references[:1], "prompt": "a woman", **SMALL, "seed": seed}
            graph.show(f"show_{seed}", official_edit(graph, **options, name=f"edit_{seed}"))
        return qwen.run(graph)

    qwen.post("/test_faults", {"oom_at_sample": 2})
    try:
        assert "test" in seeds(101, 102).error
        again = seeds(101, 102)
        assert again.status == "success", again.error
    finally:
        qwen.post("/test_faults", {})


def test_sampling_can_be_slowed_down(qwen, edit):
    def seconds(seed):
        started = time.monotonic()
        edit(seed=seed, steps=4, cfg=1.0)
        return time.monotonic() - started

    qwen.post("/test_faults", {"slow": 0.5})
    try:
        # Four steps, however fast or slow the machine is.
        assert seconds(202) >= 2.0
    finally:
        qwen.post("/test_faults", {})
