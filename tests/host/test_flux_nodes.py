"""Load and Apply Flux IP-Adapter in a real ComfyUI on tiny files: with the host's own loaders and samplers, cached, stacked, and refusing in a sentence."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.host.flux_graphs import digest, official_flux
from tests.host.graphs import Graph
from tests.host.qwen_graphs import drawn_picture, forget
from tests.tiny import flux_models as files

pytestmark = pytest.mark.host

ENCODERS = {files.XLABS_V1: files.CLIP_VISION, files.XLABS_V2: files.CLIP_VISION, files.INSTANTX: files.SIGLIP_VISION}
# The class of the vision encoders in the host.
VISION_MODEL = "CLIPVisionModelProjection"
APPLY = {"start_percent": 0.0, "end_percent": 1.0}
# What their authors start with: XLabs' example for v1, the default of XLabs' node, InstantX' model card.
OWN_WEIGHTS = {files.XLABS_V1: 0.92, files.XLABS_V2: 0.93, files.INSTANTX: 0.7}


@pytest.fixture(scope="module")
def pictures(flux):
    return [flux.upload(f"flux_{seed}.png", drawn_picture(seed, 160, 128)) for seed in (60, 61)]


def adapted(adapter, images, name="ip", loader=None, wired=False, weight=0.8, choice=None, **inputs):
    """A patch for official_flux: our two nodes.

    images: names for Load Image; weight: a number or a link, or None for the adapter's own; choice: the inputs that say so, whatever weight is.
    """
    weights = choice or ({"weight": "own"} if weight is None else {"weight": "custom", "weight.value": weight})

    def patch(graph, model):
        load = {"ipadapter": adapter, "clip_vision": ENCODERS[adapter]} | (loader or {})
        if wired:
            load["clip_vision_model"] = graph.add(f"{name} vision", "CLIPVisionLoader", clip_name=load["clip_vision"]).out(0)
        loaded = graph.add(f"{name} load", "LikenessLoadFluxIPAdapter", **load).out(0)
        shown = {f"images.image{i}": graph.picture(f"{name} {file}", file) if isinstance(file, str) else file for i, file in enumerate(images)}
        return graph.add(name, "LikenessApplyFluxIPAdapter", model=model, flux_ipadapter=loaded, **shown, **(APPLY | weights | inputs)).out(0)

    return patch


def chained(*patches):
    def patch(graph, model):
        for one in patches:
            model = one(graph, model)
        return model

    return patch


def lora(graph, model):
    return graph.add("lora", "LoraLoaderModelOnly", model=model, lora_name="flux_character.safetensors", strength_model=1.0).out(0)


def write_lora(path):
    draw, wide = np.random.default_rng(5), files.HIDDEN
    shapes = {"double_blocks_0_img_attn_qkv": 3 * wide, "double_blocks_1_img_attn_proj": wide}
    tensors = {}
    for name, out in shapes.items():
        tensors[f"lora_unet_{name}.lora_down.weight"] = draw.standard_normal((2, wide), np.float32) / wide**0.5
        tensors[f"lora_unet_{name}.lora_up.weight"] = draw.standard_normal((out, 2), np.float32) * np.float32(0.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)


def foreign(graph, model):
    return graph.add("foreign", "TestForeignReplace", model=model, blocks=files.DEPTH).out(0)


def made(flux, **options):
    """Digests of the pictures of a graph that must go well."""
    run = run_of(flux, **options)
    assert run.status == "success" and run.error is None, run.error
    return run.texts("digest")


def run_of(flux, **options):
    graph = Graph()
    digest(graph, official_flux(graph, **options))
    return flux.run(graph)


@pytest.mark.parametrize("adapter", ENCODERS)
def test_each_family_runs_through_the_hosts_loaders_and_sampler_and_changes_the_picture(flux, pictures, adapter):
    plain = made(flux)
    one, other = (made(flux, patch=adapted(adapter, [picture])) for picture in pictures)
    assert len({*plain, *one, *other}) == 3
    assert made(flux, patch=adapted(adapter, pictures[:1], wired=True)) == one, "an encoder from Load CLIP Vision gives the same"
    assert made(flux, patch=adapted(adapter, pictures[:1], weight=0.0)) == plain
    assert made(flux) == plain


@pytest.mark.parametrize("sampler", ("dpmpp_2m", "heun", "uni_pc"))
def test_any_sampler_takes_it(flux, pictures, sampler):
    patch = adapted(files.XLABS_V2, pictures[:1])
    assert made(flux, sampler=sampler, patch=patch) != made(flux, sampler=sampler)
    assert made(flux, sampler=sampler, custom=True, patch=patch) != made(flux, sampler=sampler, custom=True)


@pytest.mark.parametrize("unet", (files.SCHNELL, files.KONTEXT, files.FILL))
def test_schnell_kontext_and_fill_take_both_families(flux, pictures, unet):
    options = {"unet": unet}
    if unet == files.KONTEXT:
        options["references"] = pictures[1:]
    if unet == files.FILL:
        hole = np.dstack([drawn_picture(62, 96, 128), np.where(np.arange(96) < 48, 0, 255).astype(np.uint8)[None].repeat(128, 0)])
        options["fill"] = flux.upload("flux_fill.png", hole)
    plain = made(flux, **options)
    pictured = [made(flux, patch=adapted(adapter, pictures[:1]), **options) for adapter in (files.XLABS_V2, files.INSTANTX)]
    assert len({*plain, *pictured[0], *pictured[1]}) == 3


@pytest.mark.parametrize("unet, weight_dtype", ((files.KONTEXT, "default"), (files.DEV, "fp8_e4m3fn")), ids=("scaled fp8 file", "weight_dtype"))
def test_models_in_fp8_take_both_families(flux, pictures, unet, weight_dtype):
    options = {"unet": unet, "weight_dtype": weight_dtype}
    plain = made(flux, **options)
    pictured = [made(flux, patch=adapted(adapter, pictures[:1]), **options) for adapter in (files.XLABS_V2, files.INSTANTX)]
    assert len({*plain, *pictured[0], *pictured[1]}) == 3
    for adapter in (files.XLABS_V2, files.INSTANTX):
        assert made(flux, patch=adapted(adapter, pictures[:1], weight=0.0), **options) == plain


def test_cfg_with_each_negative_and_batches(flux, pictures):
    options = {"cfg": 3.0, "negative": "ugly", "batch": 2}
    images = []
    for negative in ({"negative": "none"}, {"negative": "zero"}, {"negative": "picture"}):
        if negative["negative"] == "picture":
            graph = Graph()
            black = graph.picture("negative", pictures[1])
            patch = adapted(files.XLABS_V2, pictures[:1], negative_image=black, **negative)
            digest(graph, official_flux(graph, patch=patch, **options))
            run = flux.run(graph)
            assert run.error is None, run.error
            images.append(run.texts("digest"))
        else:
            images.append(made(flux, patch=adapted(files.XLABS_V2, pictures[:1], **negative), **options))
    assert all(len(set(rows)) == 2 for rows in images) and len({row for rows in images for row in rows}) == 6


def test_a_second_run_with_the_same_picture_and_another_weight_encodes_nothing(flux, pictures):
    for adapter in (files.XLABS_V2, files.INSTANTX):
        made(flux, patch=adapted(adapter, pictures))
        flux.post("/test_counts/reset", {})
        made(flux, patch=adapted(adapter, pictures, weight=0.55))
        counts = flux.get("/test_counts")
        assert counts["vision_encode"] == 0 and VISION_MODEL not in counts["loads"]


def test_an_encoder_is_not_loaded_before_a_picture_is_new(flux):
    flux.post("/test_counts/reset", {})
    new = flux.upload("flux_new.png", drawn_picture(77, 100, 80))
    made(flux, patch=adapted(files.XLABS_V2, [new, new]))
    counts = flux.get("/test_counts")
    assert counts["vision_encode"] == 1 and counts["loads"].count(VISION_MODEL) == 1


def test_an_encoder_is_let_go_of_once_it_has_seen_the_pictures(flux):
    forget(flux)
    before = flux.get("/test_alive")["vision_encoders"]
    for seed, adapter in enumerate((files.XLABS_V2, files.INSTANTX), 80):
        made(flux, patch=adapted(adapter, [flux.upload(f"flux_{seed}.png", drawn_picture(seed, 90, 80))]))
    assert flux.get("/test_alive")["vision_encoders"] == before


def test_loras_and_other_packs_replacements_give_the_same_in_either_order(flux, pictures):
    write_lora(flux.base / "models" / "loras" / "flux_character.safetensors")
    ours = adapted(files.XLABS_V2, pictures[:1])
    for other in (lora, foreign):
        one, two = made(flux, patch=chained(other, ours)), made(flux, patch=chained(ours, other))
        assert one == two
        assert one not in (made(flux, patch=ours), made(flux, patch=other))


def test_stacked_adapters_have_weights_of_their_own(flux, pictures):
    def stack(first, second):
        return chained(adapted(files.XLABS_V2, pictures[:1], "one", weight=first), adapted(files.INSTANTX, pictures[1:], "two", weight=second))

    both = made(flux, patch=stack(0.8, 0.6))
    assert made(flux, patch=stack(0.8, 0.0)) == made(flux, patch=adapted(files.XLABS_V2, pictures[:1], weight=0.8))
    assert made(flux, patch=stack(0.0, 0.6)) == made(flux, patch=adapted(files.INSTANTX, pictures[1:], weight=0.6))
    assert both not in (made(flux, patch=stack(0.8, 0.0)), made(flux, patch=stack(0.0, 0.6)))


def test_a_time_range_is_time(flux, pictures):
    def ranged(start, end, **options):
        return made(flux, steps=4, patch=adapted(files.XLABS_V2, pictures[:1], start_percent=start, end_percent=end), **options)

    plain = made(flux, steps=4)
    results = [ranged(0, 1), ranged(0, 0.5), ranged(0.5, 1)]
    assert len({tuple(result) for result in (plain, *results)}) == 4


def test_the_node_says_what_it_did(flux, pictures):
    forget(flux)
    run = run_of(flux, patch=adapted(files.XLABS_V2, pictures, weights="1.0, 0.5"))
    assert run.texts("ip load")[0].startswith("XLabs, 16 tokens")
    first, second = run.texts("ip")[0].splitlines()
    assert first.startswith("XLabs, 16 tokens; 2 pictures (concat); weight 0.8 from 0 to 1")
    assert second.startswith("weight 0.8, custom; the adapter's own is 0.93: the default of ip_scale in XLabs' node")


@pytest.mark.parametrize("adapter", ENCODERS)
def test_the_weight_is_the_adapters_own_until_another_is_typed_or_wired(flux, pictures, adapter):
    own = OWN_WEIGHTS[adapter]
    forget(flux)
    graph = Graph()
    digest(graph, official_flux(graph, patch=adapted(adapter, pictures[:1], weight=None)))
    run = flux.run(graph)
    assert run.error is None, run.error
    assert f"weight {own:g} from 0 to 1" in run.texts("ip")[0].splitlines()[0]
    assert run.texts("ip")[0].splitlines()[1].startswith(f"weight {own:g}, the adapter's own: ")
    assert run.texts("ip load")[0].splitlines()[1] == run.texts("ip")[0].splitlines()[1]
    typed = made(flux, patch=adapted(adapter, pictures[:1], weight=own))
    assert run.texts("digest") == typed != made(flux, patch=adapted(adapter, pictures[:1], weight=own - 0.3))

    def wired(graph, model):
        return adapted(adapter, pictures[:1], weight=graph.add("number", "PrimitiveFloat", value=own).out(0))(graph, model)

    assert made(flux, patch=wired) == typed


def refused(flux, pictures, *words, adapter=files.XLABS_V2, options=None, **inputs):
    run = run_of(flux, patch=adapted(adapter, pictures, **inputs), **(options or {}))
    assert run.error is not None
    sentence = run.error.splitlines()[-1]
    for word in words:
        assert word in sentence, run.error
    return sentence


def test_bad_input_is_one_sentence_with_the_value(flux, pictures):
    one = pictures[:1]
    refused(flux, one, "weight must be `own`, or `custom` with a number in weight.value", choice={"weight": 0.8})
    refused(flux, one, "start_percent 0.8 is above end_percent 0.2", start_percent=0.8, end_percent=0.2)

    def huge(graph, model):
        return adapted(files.XLABS_V2, one, weight=graph.add("number", "PrimitiveFloat", value=1e9).out(0))(graph, model)

    assert "weight is 1e+09; it must be -10 to 10" in run_of(flux, patch=huge).error
    refused(flux, pictures, "weights has 3 numbers for 2 pictures", weights="1, 1, 1")
    refused(flux, pictures, "'strong' in weights is no number", weights="1, strong")
    refused(flux, one, "no negative_image is wired", negative="picture")
    refused(flux, pictures, "2 pictures are wired as one per batch row, and the latent batch has 1", combine="one per batch row")
    refused(flux, one, files.SIGLIP_VISION, "choose clip-vit-large-patch14.safetensors", loader={"clip_vision": files.SIGLIP_VISION})
    refused(flux, one, files.WRONG_VISION, "CLIP embeddings of 40", loader={"clip_vision": files.WRONG_VISION})
    refused(flux, one, "gone.safetensors", "models download flux-ip-adapter-v2", loader={"ipadapter": "gone.safetensors"})
    refused(flux, one, "gone.safetensors", "models/clip_vision", loader={"clip_vision": "gone.safetensors"})


def test_files_of_other_kinds_are_refused_when_chosen(flux, pictures):
    bad = files.write_bad(flux.base / "models" / "ipadapter")
    assert bad
    for path in bad.values():
        if path.suffix in (".safetensors", ".bin"):
            sentence = refused(flux, pictures[:1], path.name, loader={"ipadapter": path.name})
            assert sentence.endswith(".")
    assert not (flux.base / "models" / "ipadapter" / "unpickled").exists()
    for path in bad.values():
        path.unlink()


def test_models_that_are_not_flux_1_are_refused_by_name(qwen, flux, pictures):
    from tests.tiny import qwen_models

    refused(flux, pictures[:1], "The model is QwenImage", options={"unet": qwen_models.IMAGE_2512})


def test_files_of_one_name_in_two_folders_can_both_be_chosen_and_other_files_are_not_listed(flux):
    models = flux.base / "models"
    twin = models / "ipadapter" / files.XLABS_V2
    twin.parent.mkdir(exist_ok=True)
    twin.write_bytes((models / "xlabs" / "ipadapters" / files.XLABS_V2).read_bytes())
    (twin.parent / "read me.txt").write_text("no adapter")
    choices = flux.get("/object_info/LikenessLoadFluxIPAdapter")["LikenessLoadFluxIPAdapter"]["input"]["required"]["ipadapter"]
    options = choices[1]["options"] if isinstance(choices[0], str) else choices[0]
    assert {files.XLABS_V2, f"ipadapter/{files.XLABS_V2}", files.INSTANTX, files.XLABS_V1} <= set(options)
    assert "read me.txt" not in options
    twin.unlink()
    (twin.parent / "read me.txt").unlink()
