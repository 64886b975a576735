"""The rig that the Flux room is tested with: tiny Flux models in the real host behave like the real ones where it matters for plumbing."""

import contextlib
import json
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.host.flux_graphs import digest, official_flux, vision_encode
from tests.host.graphs import Graph
from tests.host.qwen_graphs import drawn_picture, forget
from tests.tiny import flux_models as files

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def pictures(flux):
    return [flux.upload(f"flux_{i}.png", drawn_picture(i)) for i in range(3)]


@pytest.fixture(scope="module")
def holed(flux):
    """A picture whose right half is transparent."""
    opaque = np.full((128, 96, 1), 255, np.uint8)
    opaque[:, 48:] = 0
    return flux.upload("flux_holed.png", np.concatenate([drawn_picture(0), opaque], 2))


@pytest.fixture(scope="module")
def make(flux):
    """The digests of the official graph's pictures, as the host computes them."""

    def run(**options):
        graph = Graph()
        digest(graph, official_flux(graph, **options))
        started = time.monotonic()
        ran = flux.run(graph)
        print(f"{options}: {time.monotonic() - started:.2f} s")
        assert ran.status == "success", ran.error
        return ran.texts("digest")

    return run


@pytest.fixture(scope="module")
def seen(flux):
    """The pixels of the official graph's first picture."""

    def run(**options):
        graph = Graph()
        graph.show("show", official_flux(graph, **options))
        ran = flux.run(graph)
        assert ran.status == "success", ran.error
        return ran.pictures("show")[0]

    return run


def foreign(blocks):
    return lambda graph, model: graph.add("foreign", "TestForeignReplace", model=model, blocks=blocks).out(0)


def test_the_loaders_list_every_file(flux):
    def listed(node, entry):
        return set(flux.get(f"/object_info/{node}")[node]["input"]["required"][entry][0])

    assert listed("UNETLoader", "unet_name") >= set(files.DIFFUSION_MODELS)
    assert listed("DualCLIPLoader", "clip_name1") >= {files.CLIP_L, files.T5}
    assert listed("VAELoader", "vae_name") >= {files.AE}
    assert listed("CLIPVisionLoader", "clip_name") >= set(files.VISIONS)


def test_the_whole_set_is_small(flux):
    assert sum(path.stat().st_size for path in files.write_all(flux.base / "models")) < 100e6


def test_writing_again_leaves_the_files_alone(tmp_path):
    first = files.write_instantx(tmp_path / "adapter.bin").stat().st_mtime_ns
    assert files.write_instantx(tmp_path / "adapter.bin").stat().st_mtime_ns == first


@pytest.mark.parametrize("unet", files.DIFFUSION_MODELS)
def test_every_diffusion_model_makes_a_picture(seen, unet):
    made = seen(unet=unet)
    assert made.shape == (128, 96, 3)
    assert made.std() > 30 and np.isin(made, (0, 255)).mean() < 0.4


def test_a_picture_follows_its_prompt_seed_guidance_and_model_and_nothing_else(flux, make):
    base = make()
    assert base != make(prompt="a woman in the sun")
    assert base != make(seed=2)
    assert base != make(guidance=2.0)
    assert base != make(unet=files.KONTEXT)
    assert base == make(negative="rain"), "a CFG of 1 has no negative"
    forget(flux)
    flux.post("/test_counts/reset", {})
    assert base == make()
    assert flux.get("/test_counts")["sample"] == 1, "the host did not compute it again"


def test_schnell_has_no_guidance(make):
    assert make(unet=files.SCHNELL) == make(unet=files.SCHNELL, guidance=2.0)


def test_a_negative_counts_above_a_cfg_of_1(make):
    rain = make(cfg=3.0, negative="rain")
    assert rain != make(cfg=3.0, negative="sun")
    assert rain != make()


def test_the_first_of_a_batch_is_the_picture_alone(seen):
    # Not to the last bit: the host multiplies larger matrices.
    assert np.abs(seen(batch=2).astype(int) - seen()).max() <= 1


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_the_custom_sampler_equals_ksampler(make, cfg):
    assert make(custom=True, cfg=cfg, negative="rain") == make(cfg=cfg, negative="rain")


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "uni_pc"])
def test_other_samplers_run(make, sampler):
    assert make(sampler=sampler) != make()


def test_kontext_follows_its_references_and_their_order(make, pictures):
    kontext = {"unet": files.KONTEXT}
    one, two = make(**kontext, references=pictures[:1]), make(**kontext, references=pictures[:2])
    assert len({*make(**kontext), *one, *two, *make(**kontext, references=pictures[1:2]), *make(**kontext, references=pictures[1::-1])}) == 5


def test_fill_keeps_what_is_opaque(flux, make, seen, holed):
    source = drawn_picture(0).astype(float)
    made = seen(unet=files.FILL, fill=holed, seed=5, steps=4)
    # The VAE stretches the contrast of the whole picture, so what was kept follows the source, and is not equal to it.
    kept, new = (np.corrcoef(made[:, part].ravel(), source[:, part].ravel())[0, 1] for part in (slice(0, 40), slice(56, 96)))
    assert kept > 0.8 > new + 0.3
    assert make(unet=files.FILL, fill=holed) != make(unet=files.FILL, fill=holed, prompt="a dog")


def test_a_source_shows_where_denoise_leaves_it(seen, pictures):
    source = drawn_picture(2).astype(float).ravel()

    def likeness(denoise):
        return np.corrcoef(seen(source=pictures[2], denoise=denoise, steps=8).ravel(), source)[0, 1]

    assert likeness(0.1) > likeness(0.5) > likeness(1.0)


def test_the_vae_gives_8_pixel_squares_back_with_another_contrast(flux, pictures):
    graph = Graph()
    vae = graph.add("vae", "VAELoader", vae_name=files.AE).out(0)
    latent = graph.add("encode", "VAEEncode", pixels=graph.picture("picture", pictures[0]), vae=vae).out(0)
    graph.show("show", graph.add("decode", "VAEDecode", samples=latent, vae=vae).out(0))
    made, source = flux.run(graph).pictures("show")[0].astype(float), drawn_picture(0).astype(float)
    for colour in range(3):
        inside = (made[..., colour] > 0) & (made[..., colour] < 255)
        assert np.corrcoef(made[..., colour][inside], source[..., colour][inside])[0, 1] > 0.999


def test_another_packs_patch_changes_the_picture_with_each_block(make):
    assert make(patch=foreign(0)) == make()
    assert len({*make(), *make(patch=foreign(1)), *make(patch=foreign(2))}) == 3


@pytest.mark.parametrize("file", files.VISIONS)
def test_an_image_encoder_loads_whole_and_sees_the_picture(flux, pictures, file):
    before = len(flux.log())
    flux.post("/test_counts/reset", {})
    graph = Graph()
    for i, picture in enumerate(pictures[:2]):
        graph.add(f"tell {i}", "TestVision", vision=vision_encode(graph, file, graph.picture(f"picture {i}", picture), name=f"vision {i}"))
    ran = flux.run(graph)
    assert ran.status == "success", ran.error
    assert "missing clip vision" not in flux.log()[before:]
    assert flux.get("/test_counts")["vision_encode"] == 2
    first, second = (np.array(json.loads(ran.texts(f"tell {i}")[0])) for i in range(2))
    assert len(first) == (files.VISION_KINDS[files.VISIONS[file]]["projection"] or files.SIGLIP)
    assert first.std() > 0.3 and np.corrcoef(first, second)[0, 1] < 0.95


def test_the_malicious_files_do_harm_to_a_loader_that_runs_them_and_to_no_other(tmp_path):
    torch = pytest.importorskip("torch")
    bad = files.write_bad(tmp_path)
    marker = tmp_path / "unpickled"
    for name in ("malicious", "malicious legacy"):
        with pytest.raises(Exception, match="Weights only load failed"):
            torch.load(bad[name], weights_only=True)
        assert not marker.exists()
        with contextlib.suppress(Exception):
            torch.load(bad[name], weights_only=False)
        marker.unlink()


def test_both_forms_of_an_adapter_hold_the_same_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    nested, flat = torch.load(files.write_instantx(tmp_path / "a.bin")), load_file(files.write_instantx(tmp_path / "a.safetensors"))
    assert {f"{part}.{key}" for part, tensors in nested.items() for key in tensors} == set(flat)
    assert all(np.array_equal(nested[name.split(".")[0]][name.split(".", 1)[1]], values) for name, values in flat.items())
    words = {
        "ip_adapter_proj_model": "image_proj",
        "double_blocks": "ip_adapter",
        "processor.ip_adapter_double_stream_": "to_",
        "k_proj": "k_ip",
        "v_proj": "v_ip",
    }
    one, other = (load_file(files.write_xlabs(tmp_path / f"{layout}.safetensors", layout=layout)) for layout in ("xlabs", "diffusers"))
    for name, values in one.items():
        for word, theirs in words.items():
            name = name.replace(word, theirs)
        assert np.array_equal(other.pop(name), values)
    assert not other
