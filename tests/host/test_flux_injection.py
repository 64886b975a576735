"""The injection in ComfyUI's own Flux, held against the forward pass written out from the published formulas (tests/tiny/flux_formula.py)."""

import pytest

torch = pytest.importorskip("torch")

from character_likeness.nodes.errors import InputError  # noqa: E402
from character_likeness.nodes.flux.checkpoint import read_adapter  # noqa: E402
from character_likeness.nodes.flux.image_prompt import CONCAT, PER_ROW, Recipe, combined  # noqa: E402
from tests.host.flux_in_process import TinyFlux  # noqa: E402
from tests.tiny import flux_formula, flux_models  # noqa: E402

pytestmark = pytest.mark.host
# What float32 may differ by from float64, as a share of the largest value: the host's Flux alone differs by up to 3e-6.
EXACT = 1e-5


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return TinyFlux(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "XLabs": read_adapter(flux_models.write_xlabs(folder / "x.safetensors", tokens=4)),
        "InstantX": read_adapter(flux_models.write_instantx(folder / "i.bin", tokens=8)),
    }


FAMILIES = ("XLabs", "InstantX")


def prompt_of(adapter, seeds=(0,), combine=CONCAT, weights=None):
    given = [torch.randn((1, adapter.image_width), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    recipe = Recipe(adapter, flux_models.HEADS, torch.float32, torch.device("cpu"))
    return combined(recipe, given, [("seed", seed) for seed in seeds], combine, weights or (1.0,) * len(seeds))


def injected(model, adapter, prompt, weight=0.8, negative=None, mask=None, **course):
    from character_likeness.nodes.flux import injection

    return injection.with_image_prompt(model, injection.Injection(adapter, prompt, negative and (lambda: negative), injection.Course(weight, **course), mask))


def written_out(flux, inputs, prompts, sigma=0.7, references=()):
    """In float64, so that what differs is the host's rounding. Flux predicts the velocity; the host gives x - sigma * velocity."""
    given = {name: value.double() for name, value in inputs.items()}
    time = torch.full((len(given["x"]),), sigma, dtype=torch.float64)
    references = [reference.double() for reference in references]
    out = flux_formula.forward(flux.weights, given["x"], time, given["text"], given["pooled"], given["guidance"], references, prompts)
    return (given["x"] - sigma * out).float()


def formula_prompt(adapter, prompt, scale, rows=None, mask=None):
    rows = rows or [0] * len(scale)
    keys, values = (part[:, rows].double() for part in prompt.joined(torch.device("cpu")))
    return flux_formula.Prompt(keys, values, torch.tensor(scale).double(), not adapter.family.single_blocks, mask)


def difference(one, other):
    return float((one - other).abs().max())


def error(one, wanted):
    """The largest difference as a share of the largest value."""
    return difference(one, wanted) / float(wanted.abs().max())


def test_the_written_out_formula_is_the_hosts_flux(flux):
    inputs = flux.inputs(batch=2)
    assert error(flux.run(flux.model, inputs), written_out(flux, inputs, ())) < EXACT


@pytest.mark.parametrize("family", FAMILIES)
def test_one_adapter_is_exact_and_changes_the_picture(flux, adapters, family):
    adapter, inputs = adapters[family], flux.inputs(batch=2)
    prompt = prompt_of(adapter)
    got = flux.run(injected(flux.model, adapter, prompt), inputs)
    assert error(got, written_out(flux, inputs, [formula_prompt(adapter, prompt, [0.8, 0.8])])) < EXACT
    assert difference(got, flux.run(flux.model, inputs)) > 0.01


def test_two_adapters_are_exact_with_weights_of_their_own_in_either_order(flux, adapters):
    inputs = flux.inputs()
    prompts = {family: prompt_of(adapters[family], (seed,)) for seed, family in enumerate(FAMILIES)}
    weights = {"XLabs": 0.6, "InstantX": 0.9}
    wanted = written_out(flux, inputs, [formula_prompt(adapters[family], prompts[family], [weights[family]]) for family in FAMILIES])
    for order in (FAMILIES, FAMILIES[::-1]):
        model = flux.model
        for family in order:
            model = injected(model, adapters[family], prompts[family], weights[family])
        assert error(flux.run(model, inputs), wanted) < EXACT


@pytest.mark.parametrize("family", FAMILIES)
def test_positive_and_negative_rows_of_one_call_get_their_own(flux, adapters, family):
    adapter, inputs = adapters[family], flux.inputs(batch=4)
    prompt, negative = prompt_of(adapter, (1, 2)), prompt_of(adapter, (3,))
    for rows in ((0, 1), (1, 0)):
        positive = [0.8 if rows[row // 2] == 0 else 0.0 for row in range(4)]
        alone = formula_prompt(adapter, prompt, positive)
        other = formula_prompt(adapter, negative, [0.8 - weight for weight in positive])
        none = flux.run(injected(flux.model, adapter, prompt), inputs, rows=rows)
        assert error(none, written_out(flux, inputs, [alone])) < EXACT
        both = flux.run(injected(flux.model, adapter, prompt, negative=negative), inputs, rows=rows)
        assert error(both, written_out(flux, inputs, [alone, other])) < EXACT


def test_steps_on_the_limit_of_a_range_are_in_as_with_the_hosts_own_ranges(flux):
    import comfy.samplers

    from character_likeness.nodes.flux import injection

    sampling = flux.model.model.model_sampling
    for steps in range(1, 31):
        for sigma in comfy.samplers.calculate_sigmas(sampling, "simple", steps)[:-1]:
            for start, end in ((0.5, 1.0), (0.0, 0.5), (0.2, 0.8)):
                # comfy.samplers.get_area_and_mult_and_control compares the float32 timestep with the range's ends.
                host = not (start > 0 and sigma > sampling.percent_to_sigma(start)) and not (end < 1 and sigma < sampling.percent_to_sigma(end))
                assert bool(injection.Course(1.0, start, end).at(float(sigma), sampling)) == host, (steps, float(sigma))


def test_the_negative_is_known_by_its_conditioning_whatever_its_place(flux, adapters):
    from types import SimpleNamespace

    from character_likeness.nodes.flux.injection import Course, Injection

    own = Injection(adapters["XLabs"], prompt_of(adapters["XLabs"]), None, Course(0.8))
    guider = SimpleNamespace(conds={"positive": [{"uuid": "p"}], "middle": [{"uuid": "m"}], "negative": [{"uuid": "n"}]})

    def sampled():
        # DualCFGGuider counts the negative as 0.
        return own._chunks({"cond_or_uncond": [2, 1, 0], "uuids": ["p", "m", "n"]})

    def executor():
        return sampled()

    executor.class_obj = guider
    assert own.around_sampling(executor) == [0, 0, 1]
    assert own._chunks({"cond_or_uncond": [0, 1], "uuids": ["a", "b"]}) == [0, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_cfg_batched_and_split_give_the_same(flux, adapters, family):
    adapter, inputs = adapters[family], flux.inputs(batch=2)
    model = injected(flux.model, adapter, prompt_of(adapter, (1,)), negative=prompt_of(adapter, (2,)))
    both = flux.run(model, inputs, rows=(0, 1))
    for row, kind in enumerate((0, 1)):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        assert error(flux.run(model, one, rows=(kind,)), both[row : row + 1]) < EXACT


@pytest.mark.parametrize("family", FAMILIES)
def test_negative_rows_alone_are_bit_identical_when_the_negative_looks_at_nothing(flux, adapters, family):
    adapter, inputs = adapters[family], flux.inputs()
    assert torch.equal(flux.run(injected(flux.model, adapter, prompt_of(adapter)), inputs, rows=(1,)), flux.run(flux.model, inputs, rows=(1,)))


@pytest.mark.parametrize("family", FAMILIES)
def test_one_picture_per_batch_row_is_exact(flux, adapters, family):
    adapter, inputs = adapters[family], flux.inputs(batch=3)
    prompt = prompt_of(adapter, (1, 2, 3), PER_ROW, (1.0, 0.5, 0.0))
    got = flux.run(injected(flux.model, adapter, prompt), inputs)
    assert error(got, written_out(flux, inputs, [formula_prompt(adapter, prompt, [0.8, 0.4, 0.0], [0, 1, 2])])) < EXACT
    with pytest.raises(InputError, match="3 pictures are wired as one per batch row, and the latent batch has 2"):
        flux.run(injected(flux.model, adapter, prompt), flux.inputs(batch=2))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_of_ones_is_no_mask_and_a_part_is_exact(flux, adapters, family):
    adapter, inputs = adapters[family], flux.inputs(batch=2)
    prompt = prompt_of(adapter)
    plain = flux.run(injected(flux.model, adapter, prompt), inputs)
    assert error(flux.run(injected(flux.model, adapter, prompt, mask=torch.ones(1, 64, 96)), inputs), plain) < EXACT
    left = torch.zeros(1, 64, 96)
    left[..., :40] = 1.0
    # Tokens are 16 pixels: two and a half columns of six are white.
    tokens = torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0, 0.0]).repeat(4)
    got = flux.run(injected(flux.model, adapter, prompt, mask=left), inputs)
    assert error(got, written_out(flux, inputs, [formula_prompt(adapter, prompt, [0.8, 0.8], mask=tokens)])) < EXACT


def test_masks_that_do_not_fit_are_named(flux, adapters):
    adapter, inputs = adapters["XLabs"], flux.inputs(batch=2)
    with pytest.raises(InputError, match=r"The mask is 64x64, the picture .* 96x64, of another aspect"):
        flux.run(injected(flux.model, adapter, prompt_of(adapter), mask=torch.ones(1, 64, 64)), inputs)
    with pytest.raises(InputError, match="3 masks are wired for a batch of 2"):
        flux.run(injected(flux.model, adapter, prompt_of(adapter), mask=torch.ones(3, 64, 96)), inputs)


@pytest.mark.parametrize("method", ("offset", "index"))
@pytest.mark.parametrize("family", FAMILIES)
def test_reference_tokens_get_nothing(flux, adapters, family, method):
    adapter, inputs = adapters[family], flux.inputs(batch=2)
    prompt, reference = prompt_of(adapter), torch.randn((1, 16, 8, 12), generator=torch.Generator().manual_seed(9))
    got = flux.run(injected(flux.model, adapter, prompt), inputs, references=[reference.expand(2, -1, -1, -1)], method=method)
    assert error(got, written_out(flux, inputs, [formula_prompt(adapter, prompt, [0.8, 0.8])], references=[reference])) < EXACT


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_zero_and_times_outside_the_range_are_bit_identical_to_the_model_alone(flux, adapters, family):
    adapter, inputs, prompt = adapters[family], flux.inputs(), prompt_of(adapters[family])
    sampling = flux.model.model.model_sampling
    for options, sigmas in (
        ({"weight": 0.0}, (1.0, 0.5)),
        ({"start": 0.5}, (1.0, sampling.percent_to_sigma(0.4))),
        ({"end": 0.5}, (0.1, sampling.percent_to_sigma(0.6))),
    ):
        for sigma in sigmas:
            assert torch.equal(flux.run(injected(flux.model, adapter, prompt, **options), inputs, sigma), flux.run(flux.model, inputs, sigma)), (options, sigma)
    for options, percent in (({"start": 0.5}, 0.51), ({"end": 0.5}, 0.49)):
        sigma = sampling.percent_to_sigma(percent)
        assert not torch.equal(flux.run(injected(flux.model, adapter, prompt, **options), inputs, sigma), flux.run(flux.model, inputs, sigma))


def test_a_curve_follows_the_time(flux, adapters):
    from character_likeness.nodes.flux import injection

    sampling = flux.model.model.model_sampling
    for percent in (0.0, 0.2, 0.5, 0.9, 1.0):
        assert injection.percent_of(sampling.percent_to_sigma(percent), sampling) == pytest.approx(percent, abs=2e-6)
    for curve, wanted in {"fade out": (1.0, 0.75, 0.5), "fade in": (0.0, 0.25, 0.5), "ease out": (1.0, 0.8536, 0.5), "middle": (0.0, 0.7071, 1.0)}.items():
        course = injection.Course(2.0, 0.2, 0.6, curve)
        got = [course.at(sampling.percent_to_sigma(percent), sampling) for percent in (0.2, 0.3, 0.4)]
        assert got == pytest.approx([2 * weight for weight in wanted], abs=1e-3), curve


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_stays_on_the_model(flux, adapters, family):
    adapter, inputs, options = adapters[family], flux.inputs(), flux.model.model_options
    before, known = flux.run(flux.model, inputs), repr(options)
    patched = injected(flux.model, adapter, prompt_of(adapter))
    flux.run(patched, inputs)
    assert torch.equal(flux.run(flux.model, inputs), before)
    assert repr(options) == known and not flux.model.wrappers.get("apply_model")
    (wrapper,) = patched.wrappers["apply_model"].values()
    assert wrapper[0]._placed
    patched.cleanup()
    assert not wrapper[0]._placed


@pytest.mark.parametrize("family", FAMILIES)
def test_other_packs_replacements_stay_in_force_in_either_order(flux, adapters, family):
    adapter, inputs, prompt = adapters[family], flux.inputs(), prompt_of(adapters[family])

    def foreign(model):
        model = model.clone()
        for block in range(flux_models.DEPTH):

            def louder(args, extra):
                out = extra["original_block"](args)
                return {**out, "txt": out["txt"] * 1.1}

            model.set_model_patch_replace(louder, "dit", "double_block", block)
        model.set_model_patch(lambda attention, options: attention * 0.9, "attn1_output_patch")
        return model

    one = flux.run(injected(foreign(flux.model), adapter, prompt), inputs)
    other = flux.run(foreign(injected(flux.model, adapter, prompt)), inputs)
    assert torch.equal(one, other)
    assert difference(one, flux.run(injected(flux.model, adapter, prompt), inputs)) > 1e-3
    assert difference(one, flux.run(foreign(flux.model), inputs)) > 1e-3


def test_a_replacement_that_does_not_run_its_block_gets_nothing_stale(flux, adapters):
    adapter, inputs, model = adapters["XLabs"], flux.inputs(), flux.model.clone()
    for block in range(flux_models.DEPTH):
        model.set_model_patch_replace(lambda args, extra: {"img": args["img"], "txt": args["txt"]}, "dit", "double_block", block)
    assert torch.equal(flux.run(injected(model, adapter, prompt_of(adapter)), inputs), flux.run(model, inputs))


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_models_give_nearly_the_same(flux, adapters, family, dtype, tmp_path):
    adapter, inputs = adapters[family], flux.inputs()
    half = TinyFlux(tmp_path, dtype)
    recipe = Recipe(adapter, flux_models.HEADS, dtype, torch.device("cpu"))
    prompt = combined(recipe, [torch.randn((1, adapter.image_width), generator=torch.Generator().manual_seed(0))], [("seed", 0)], CONCAT, (1.0,))
    assert prompt.parts[0].dtype == dtype
    got, wanted = half.run(injected(half.model, adapter, prompt), inputs).float(), flux.run(injected(flux.model, adapter, prompt_of(adapter)), inputs)
    change = difference(wanted, flux.run(flux.model, inputs))
    assert torch.isfinite(got).all() and difference(got - half.run(half.model, inputs).float(), wanted - flux.run(flux.model, inputs)) < 0.25 * change


@pytest.mark.parametrize("scaled", (True, False), ids=("scaled fp8 file", "weight_dtype fp8_e4m3fn"))
@pytest.mark.parametrize("family", FAMILIES)
def test_fp8_models_give_nearly_the_same(adapters, family, scaled, tmp_path):
    """Their weights are fp8, what is computed with them is not: the change by the picture is that of the same model in fp16."""
    adapter = adapters[family]
    (tmp_path / "half").mkdir()
    half = TinyFlux(tmp_path / "half", torch.float16)
    eight = TinyFlux(tmp_path, None if scaled else torch.float8_e4m3fn, scaled_fp8=scaled)
    stored = [value for name, value in eight.model.model.diffusion_model.state_dict().items() if name.endswith("img_attn.qkv.weight")]
    assert [value.dtype for value in stored] == [torch.float8_e4m3fn] * flux_models.DEPTH
    inputs = eight.inputs(batch=2)
    changes = []
    for flux in (eight, half):
        recipe = Recipe(adapter, flux_models.HEADS, flux.model.model.get_dtype_inference(), torch.device("cpu"))
        assert recipe.dtype in (torch.float32, torch.float16, torch.bfloat16)
        prompt = combined(recipe, [torch.randn((1, adapter.image_width), generator=torch.Generator().manual_seed(0))], [("seed", 0)], CONCAT, (1.0,))
        plain, got = flux.run(flux.model, inputs), flux.run(injected(flux.model, adapter, prompt), inputs)
        assert torch.isfinite(got).all() and torch.equal(flux.run(injected(flux.model, adapter, prompt, weight=0.0), inputs), plain)
        changes.append((got - plain).float())
    assert float(changes[1].abs().max()) > 0.01
    # By their lengths: 0.12 in a scaled file and 0.18 without scales, as measured; the same picture changes another model by 1.2 times as much otherwise.
    assert float((changes[0] - changes[1]).norm() / changes[1].norm()) < 0.25


@pytest.mark.parametrize("family", FAMILIES)
def test_the_largest_weight_stays_finite_and_a_larger_one_is_a_sentence(flux, adapters, family):
    from character_likeness.nodes.flux import injection

    assert torch.isfinite(flux.run(injected(flux.model, adapters[family], prompt_of(adapters[family]), injection.MOST_WEIGHT), flux.inputs())).all()
    for weight in (1e9, float("nan"), -11):
        with pytest.raises(InputError, match="weight is"):
            injection.Course(weight)
    with pytest.raises(InputError, match=r"start_percent 0.8 is above end_percent 0.2"):
        injection.Course(1.0, 0.8, 0.2)


@pytest.mark.parametrize("family", FAMILIES)
def test_ten_runs_leave_memory_flat(flux, adapters, family):
    import gc

    adapter, inputs = adapters[family], flux.inputs()
    counts = []
    for _ in range(10):
        model = injected(flux.model, adapter, prompt_of(adapter))
        flux.run(model, inputs)
        model.cleanup()
        del model
        gc.collect()
        counts.append(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()))
    assert counts[-1] == counts[1], counts


@pytest.mark.parametrize("family", FAMILIES)
def test_torch_compile_breaks_the_graph_no_more_often_than_the_model_alone(flux, adapters, family):
    adapter, inputs = adapters[family], flux.inputs()
    prompt = prompt_of(adapter)
    plain, compiled = (compiled_counts(flux, model, inputs) for model in (flux.model, injected(flux.model, adapter, prompt, curve="fade out")))
    assert compiled == plain, (compiled, plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_compiled_by_the_hosts_node_sees_every_change(flux, adapters, family):
    """TorchCompileModel drops all guards on transformer options, and graphs are used again by later clones: what changes there must still be seen."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    adapter, inputs = adapters[family], flux.inputs()
    part = torch.zeros(1, 64, 96)
    part[..., 48:] = 1.0
    torch._dynamo.reset()
    variants = [flux.model]
    variants += [injected(flux.model, adapter, prompt_of(adapter), **options) for options in ({}, {"mask": part}, {"start": 0.5}, {"end": 0.5})]
    variants += [injected(flux.model, adapter, prompt_of(adapter, (1, 2), weights=(1.0, 0.3)))]
    for first in (False, True):
        for model in variants:
            compiled = model.clone()
            set_torch_compile_wrapper(compiled, backend="eager", options={"guard_filter_fn": skip_torch_compile_dict})
            if first and model is not flux.model:
                # The node before ours: its wrapper comes first.
                wrappers = compiled.wrappers["apply_model"]
                compiled.wrappers["apply_model"] = dict(reversed(list(wrappers.items())))
            for sigma in (0.95, 0.3):
                assert error(flux.run(compiled, inputs, sigma), flux.run(model, inputs, sigma)) < EXACT


def compiled_counts(flux, model, inputs):
    """(graphs, graph breaks) that torch.compile makes of the diffusion model over four steps of a sampling."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from torch._dynamo.utils import counters

    sigmas = (0.9, 0.7, 0.5, 0.3)
    wanted = [flux.run(model, inputs, sigma) for sigma in sigmas]
    torch._dynamo.reset()
    counters.clear()
    model = model.clone()
    set_torch_compile_wrapper(model, backend="eager")
    for sigma, out in zip(sigmas, wanted):
        assert error(flux.run(model, inputs, sigma), out) < EXACT
    return counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())


# What the host reads from the keys and shapes of a file: its model_detection knows the model by it.
UNET = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "use_spatial_transformer": True, "legacy": False}
UNET |= {"use_temporal_attention": False, "use_temporal_resblock": False}
DIT = {"context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56]}
DIT |= {"theta": 10000, "patch_size": 2, "qkv_bias": True, "txt_ids_dims": [], "vec_in_dim": None}
OTHERS = {
    "SD15": UNET | {
        "adm_in_channels": None, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "transformer_depth": [1] * 6 + [0] * 2, "num_heads": 8,
        "transformer_depth_output": [1] * 9 + [0] * 3, "transformer_depth_middle": 1, "use_linear_in_transformer": False, "context_dim": 768,
    },
    "SDXL": UNET | {
        "num_classes": "sequential", "adm_in_channels": 2816, "num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4], "num_head_channels": 64, "context_dim": 2048,
        "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0] * 3 + [2] * 3 + [10] * 3, "transformer_depth_middle": 10,
        "use_linear_in_transformer": True,
    },
    "Flux2": DIT | {
        "image_model": "flux2", "in_channels": 128, "out_channels": 128, "hidden_size": 6144, "num_heads": 48, "mlp_ratio": 3.0, "theta": 2000, "depth": 8,
        "depth_single_blocks": 48, "axes_dim": [32] * 4, "patch_size": 1, "context_in_dim": 15360, "qkv_bias": False, "ops_bias": False, "txt_ids_dims": [3],
        "global_modulation": True, "mlp_silu_act": True, "default_ref_method": "index", "ref_index_scale": 10.0, "guidance_embed": True,
    },
    "Chroma": DIT | {
        "image_model": "chroma", "in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 3072, "hidden_dim": 5120, "n_layers": 5,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_models_of_other_kinds_are_refused_by_name(flux, adapters, kind):
    """The host's own models at their real size, without weights."""
    import comfy.model_detection
    import comfy.model_patcher

    from character_likeness.nodes.flux import injection

    config = comfy.model_detection.model_config_from_unet_config({**OTHERS[kind], "dtype": torch.float16})
    model = comfy.model_patcher.ModelPatcher(config.get_model({}, device="meta"), torch.device("cpu"), torch.device("cpu"))
    assert next(model.model.diffusion_model.parameters()).is_meta
    for family in FAMILIES:
        with pytest.raises(InputError, match=rf"^The model is {kind}; Flux IP-Adapters work with FLUX\.1 .* alone: load one of those\.$"):
            injection.check_model(model, adapters[family])


def test_flux_of_another_size_is_refused(flux, adapters, tmp_path):
    from character_likeness.nodes.flux import injection

    small = TinyFlux(tmp_path, depth=1)
    for family in FAMILIES:
        assert injection.check_model(flux.model, adapters[family]) == flux_models.HEADS
        with pytest.raises(InputError, match=r"is made for .* blocks of width 256; this Flux has 1 double and 3 single"):
            injection.check_model(small.model, adapters[family])
