"""Flux IP-Adapter files: recognized by keys and shapes, read back whole, and everything else refused in one sentence."""

import pytest

torch = pytest.importorskip("torch")

from character_likeness.nodes.errors import MissingModelError  # noqa: E402
from character_likeness.nodes.flux.checkpoint import INSTANTX, XLABS, check_encoder, read_adapter, read_encoder  # noqa: E402
from tests.tiny import flux_models  # noqa: E402

pytestmark = pytest.mark.torch


def refused(call, *words):
    with pytest.raises(MissingModelError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".")
    for word in words:
        assert word in sentence, sentence
    return sentence


@pytest.mark.parametrize("tokens", (4, 16))
@pytest.mark.parametrize("layout", ("xlabs", "diffusers"))
def test_xlabs_files_of_true_width_are_recognized_in_both_layouts(tmp_path, tokens, layout):
    path = flux_models.write_xlabs(tmp_path / "a.safetensors", tokens, 768, 3072, 4096, blocks=1, layout=layout, dtype="float16")
    adapter = read_adapter(path)
    assert (adapter.family, adapter.tokens, adapter.image_width, adapter.context, adapter.hidden, adapter.blocks) == (XLABS, tokens, 768, 4096, 3072, 1)


@pytest.mark.parametrize("name", ("ip-adapter.bin", "ip-adapter.safetensors"))
def test_instantx_files_of_true_width_are_recognized_as_pickle_and_as_safetensors(tmp_path, name):
    path = flux_models.write_instantx(tmp_path / name, 2, 1152, 3072, 4096, blocks=2, dtype="float16")
    adapter = read_adapter(path)
    assert (adapter.family, adapter.tokens, adapter.image_width, adapter.context, adapter.hidden, adapter.blocks) == (INSTANTX, 2, 1152, 4096, 3072, 2)


def test_both_layouts_and_both_kinds_of_file_hold_the_same_tensors(tmp_path):
    pairs = (
        [flux_models.write_xlabs(tmp_path / f"{layout}.safetensors", layout=layout) for layout in ("xlabs", "diffusers")],
        [flux_models.write_instantx(tmp_path / name, tokens=4) for name in ("a.bin", "a.safetensors")],
    )
    for one, other in pairs:
        one, other = read_adapter(one), read_adapter(other)
        assert set(one._names) == set(other._names)
        with one.opened() as first, other.opened() as second:
            for name in one._names:
                assert torch.equal(first(name), second(name)), name


def test_a_file_is_read_tensor_by_tensor_and_says_when_it_has_no_bias(tmp_path):
    adapter = read_adapter(flux_models.write_instantx(tmp_path / "a.safetensors", tokens=4))
    with adapter.opened() as get:
        assert get("0.k.bias") is None
        assert get("0.k.weight").shape == (adapter.hidden, adapter.context)


def test_what_is_no_flux_ip_adapter_is_refused_and_named(tmp_path):
    bad = flux_models.write_bad(tmp_path)
    assert len(bad) >= 7
    for name, path in bad.items():
        sentence = refused(lambda path=path: read_adapter(path), path.name)
        if "lora" in name.lower():
            assert "looks like a LoRA" in sentence
        if "sdxl" in name.lower():
            assert "IP-Adapter for Stable Diffusion" in sentence


def test_a_pickle_that_would_run_a_program_is_never_unpickled(tmp_path):
    bad = flux_models.write_bad(tmp_path)
    for name in ("malicious", "malicious legacy"):
        refused(lambda name=name: read_adapter(bad[name]), "something other than tensors")
        assert not (tmp_path / "unpickled").exists()


def test_the_first_shape_that_does_not_fit_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    whole = load_file(flux_models.write_xlabs(tmp_path / "a.safetensors"))
    for key, shape in (
        ("double_blocks.1.processor.ip_adapter_double_stream_v_proj.weight", (7, 64)),
        ("ip_adapter_proj_model.norm.bias", (5,)),
        ("ip_adapter_proj_model.proj.bias", (3,)),
        ("double_blocks.0.processor.ip_adapter_double_stream_k_proj.bias", (2, 2)),
    ):
        save_file({**whole, key: torch.zeros(shape)}, tmp_path / "b.safetensors")
        refused(lambda: read_adapter(tmp_path / "b.safetensors"), key, str(list(shape)))
    save_file({name: value for name, value in whole.items() if not name.startswith("double_blocks.0.")}, tmp_path / "c.safetensors")
    sentence = refused(lambda: read_adapter(tmp_path / "c.safetensors"), "it has no double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight")
    assert "looks like" not in sentence
    save_file({**whole, "something.else": torch.zeros(1)}, tmp_path / "d.safetensors")
    refused(lambda: read_adapter(tmp_path / "d.safetensors"), "something.else")


def test_encoders_are_told_apart_and_one_that_does_not_fit_is_answered_with_the_one_that_does(tmp_path):
    clip = read_encoder(flux_models.write_clip_vision(tmp_path / "clip.safetensors", "clip"))
    siglip = read_encoder(flux_models.write_clip_vision(tmp_path / "siglip.safetensors", "siglip"))
    other = read_encoder(flux_models.write_clip_vision(tmp_path / "vit-h.safetensors", "vit-h"))
    assert (clip.kind, clip.width, siglip.kind, siglip.width) == ("CLIP", flux_models.PROJECTION, "SigLIP", flux_models.SIGLIP)
    xlabs, instantx = read_adapter(flux_models.write_xlabs(tmp_path / "x.safetensors")), read_adapter(flux_models.write_instantx(tmp_path / "i.bin", tokens=4))
    check_encoder(xlabs, clip)
    check_encoder(instantx, siglip)
    for encoder in (siglip, other):
        refused(lambda encoder=encoder: check_encoder(xlabs, encoder), encoder.path.name, "clip-vit-large-patch14.safetensors", "models download")
    for encoder in (clip, other):
        refused(lambda encoder=encoder: check_encoder(instantx, encoder), encoder.path.name, "sigclip_vision_patch14_384.safetensors")
    refused(lambda: read_encoder(xlabs.path), "no CLIP or SigLIP vision encoder")


def test_a_siglip_file_without_its_head_says_so(tmp_path):
    from safetensors.torch import load_file, save_file

    whole = load_file(flux_models.write_clip_vision(tmp_path / "siglip.safetensors", "siglip"))
    save_file({name: value for name, value in whole.items() if ".head." not in name}, tmp_path / "headless.safetensors")
    instantx = read_adapter(flux_models.write_instantx(tmp_path / "i.bin", tokens=4))
    refused(lambda: check_encoder(instantx, read_encoder(tmp_path / "headless.safetensors")), "without its pooling head", "sigclip_vision_patch14_384")


def test_a_file_that_changes_or_goes_after_it_was_looked_into_is_a_sentence(tmp_path):
    path = flux_models.write_xlabs(tmp_path / "x.safetensors")
    adapter = read_adapter(path)

    def read():
        with adapter.opened() as get:
            return get("0.k.weight")

    assert read() is not None
    path.write_bytes(flux_models.write_xlabs(tmp_path / "y.safetensors", tokens=12).read_bytes())
    refused(read, "has changed since it was loaded")
    path.unlink()
    refused(read, "x.safetensors cannot be read")


def test_an_encoder_for_larger_pictures_is_told_from_the_one_that_fits(tmp_path):
    large = read_encoder(flux_models.write_clip_vision(tmp_path / "clip336.safetensors", "clip", positions=577))
    refused(lambda: check_encoder(read_adapter(flux_models.write_xlabs(tmp_path / "x.safetensors")), large), "577 parts", "clip-vit-large-patch14.safetensors")


def test_a_pickle_that_holds_itself_is_refused(tmp_path):
    held = {}
    held["image_proj"] = {"again": held}
    torch.save(held, tmp_path / "loop.bin")
    refused(lambda: read_adapter(tmp_path / "loop.bin"), "loop.bin")
