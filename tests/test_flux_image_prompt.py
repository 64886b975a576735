"""Image prompts: the published formulas, written out a second time with PyTorch's own modules, and how several pictures become one."""

import math

import pytest

torch = pytest.importorskip("torch")

from character_likeness.nodes.errors import InputError  # noqa: E402
from character_likeness.nodes.flux import image_prompt  # noqa: E402
from character_likeness.nodes.flux.checkpoint import read_adapter, read_encoder  # noqa: E402
from character_likeness.nodes.flux.image_prompt import AVERAGE, CONCAT, PER_ROW, Recipe, check_pictures, combined, keys_and_values, parse_weights  # noqa: E402
from tests.tiny import flux_models  # noqa: E402

pytestmark = pytest.mark.torch
CPU = torch.device("cpu")


@pytest.fixture
def xlabs(tmp_path):
    return read_adapter(flux_models.write_xlabs(tmp_path / "x.safetensors", tokens=4))


@pytest.fixture
def instantx(tmp_path):
    return read_adapter(flux_models.write_instantx(tmp_path / "i.bin", tokens=8))


def embedding(adapter, seed=0, rows=1):
    return torch.randn((rows, adapter.image_width), generator=torch.Generator().manual_seed(seed))


def recipe(adapter, **options):
    return Recipe(adapter, flux_models.HEADS, torch.float32, CPU, **options)


def tensors(adapter):
    with adapter.opened() as get:
        return {name: get(name).float() for name in adapter._names}


def module(weights, name):
    """torch.nn's own layer with these weights."""
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    made = torch.nn.LayerNorm(weight.shape[0]) if weight.ndim == 1 else torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return made


@torch.no_grad()
def test_xlabs_keys_and_values_are_those_of_the_published_formula(xlabs):
    weights, given = tensors(xlabs), embedding(xlabs, rows=2)
    tokens = module(weights, "projection.norm")(module(weights, "projection.proj")(given).reshape(2, xlabs.tokens, xlabs.context))
    got = keys_and_values(xlabs, given, flux_models.HEADS, torch.float32, CPU)
    assert got.shape == (2, xlabs.blocks, 2, flux_models.HEADS, xlabs.tokens, xlabs.hidden // flux_models.HEADS)
    for block in range(xlabs.blocks):
        for place, kind in enumerate("kv"):
            wanted = module(weights, f"{block}.{kind}")(tokens).reshape(2, xlabs.tokens, flux_models.HEADS, -1).permute(0, 2, 1, 3)
            assert torch.allclose(got[place, block], wanted, atol=1e-5)


@torch.no_grad()
def test_instantx_keys_go_through_a_norm_without_weights_and_values_only_when_asked(instantx):
    weights, given = tensors(instantx), embedding(instantx)
    inner = torch.nn.GELU()(module(weights, "projection.proj.0")(given))
    tokens = module(weights, "projection.norm")(module(weights, "projection.proj.2")(inner).reshape(1, instantx.tokens, instantx.context))

    def normed(x):
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)

    for ported in (False, True):
        got = keys_and_values(instantx, given, flux_models.HEADS, torch.float32, CPU, normalize_values=ported)
        for block in range(instantx.blocks):
            key, value = (module(weights, f"{block}.{kind}")(tokens).reshape(1, instantx.tokens, flux_models.HEADS, -1).permute(0, 2, 1, 3) for kind in "kv")
            assert torch.allclose(got[0, block], normed(key), atol=1e-5)
            assert torch.allclose(got[1, block], normed(value) if ported else value, atol=1e-5)


@torch.no_grad()
def test_siglip_pooling_is_that_of_pytorchs_own_attention(tmp_path):
    head = read_encoder(flux_models.write_clip_vision(tmp_path / "siglip.safetensors", "siglip")).head()
    hidden = torch.randn((3, 20, flux_models.SIGLIP), generator=torch.Generator().manual_seed(1))
    attention = torch.nn.MultiheadAttention(flux_models.SIGLIP, image_prompt.SIGLIP_HEADS, batch_first=True)
    attention.load_state_dict({name.removeprefix("attention."): value for name, value in head.items() if name.startswith("attention.")})
    norm = torch.nn.LayerNorm(flux_models.SIGLIP, eps=1e-6)
    norm.load_state_dict({"weight": head["layernorm.weight"], "bias": head["layernorm.bias"]})
    pooled = attention(head["probe"].repeat(3, 1, 1), hidden, hidden)[0]
    inner = torch.nn.GELU(approximate="tanh")(module(head, "mlp.fc1")(norm(pooled)))
    assert torch.allclose(image_prompt.siglip_pool(hidden, head), (pooled + module(head, "mlp.fc2")(inner))[:, 0], atol=1e-5)


def test_transformers_own_siglip_head_gives_the_same(tmp_path):
    transformers = pytest.importorskip("transformers")
    from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

    head = read_encoder(flux_models.write_clip_vision(tmp_path / "siglip.safetensors", "siglip")).head()
    width = flux_models.SIGLIP
    config = transformers.SiglipVisionConfig(
        hidden_size=width, num_attention_heads=image_prompt.SIGLIP_HEADS, intermediate_size=head["mlp.fc1.weight"].shape[0], hidden_act="gelu_pytorch_tanh"
    )
    theirs = SiglipMultiheadAttentionPoolingHead(config).eval()
    theirs.load_state_dict(head)
    hidden = torch.randn((2, 20, width), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.allclose(image_prompt.siglip_pool(hidden, head), theirs(hidden), atol=1e-5)


def attended(prompt, query):
    """What a query gets from an image prompt in its first block."""
    bias = None if prompt.bias is None else prompt.bias.view(1, 1, 1, -1)
    keys, values = prompt.joined(CPU)
    return torch.nn.functional.scaled_dot_product_attention(query, keys[0], values[0], attn_mask=bias)


def test_twice_the_weight_counts_as_having_the_picture_twice_and_none_as_not_having_it(xlabs):
    one, other = (embedding(xlabs, seed) for seed in (1, 2))
    query = torch.randn((1, flux_models.HEADS, 5, flux_models.HEAD), generator=torch.Generator().manual_seed(3))
    twice = combined(recipe(xlabs), [one, one, other], [("a",), ("a",), ("b",)], CONCAT, (1.0, 1.0, 1.0))
    weighted = combined(recipe(xlabs), [one, other], [("a",), ("b",)], CONCAT, (2.0, 1.0))
    assert torch.allclose(attended(twice, query), attended(weighted, query), atol=1e-5)
    alone, without = (combined(recipe(xlabs), *given) for given in (([one], [("a",)], CONCAT, (1.0,)), ([one, other], [("a",), ("b",)], CONCAT, (1.0, 0.0))))
    assert torch.equal(alone.joined(CPU)[0], without.joined(CPU)[0]) and without.bias is None
    assert math.isclose(float(weighted.bias[0]), math.log(2), rel_tol=1e-6)


def test_average_is_the_weighted_mean_of_the_embeddings(xlabs):
    one, other = (embedding(xlabs, seed) for seed in (1, 2))
    mean = combined(recipe(xlabs), [one, other], [("a",), ("b",)], AVERAGE, (3.0, 1.0))
    wanted = keys_and_values(xlabs, one * 0.75 + other * 0.25, flux_models.HEADS, torch.float32, CPU)
    assert torch.allclose(mean.parts[0], wanted, atol=1e-6)


def test_one_per_batch_row_keeps_each_picture_in_its_row_with_its_weight(xlabs):
    given = [embedding(xlabs, seed) for seed in range(3)]
    prompt = combined(recipe(xlabs), given, [(i,) for i in range(3)], PER_ROW, (1.0, 0.0, 0.5))
    assert prompt.rows == 3 and prompt.row_weights == (1.0, 0.0, 0.5)
    for row, one in enumerate(given):
        assert torch.allclose(prompt.joined(CPU)[0][:, row], keys_and_values(xlabs, one, flux_models.HEADS, torch.float32, CPU)[0][:, 0], atol=1e-6)


def test_keys_and_values_are_computed_once_for_a_picture_and_again_for_another_file(tmp_path, monkeypatch):
    made = []
    original = image_prompt.keys_and_values
    monkeypatch.setattr(image_prompt, "keys_and_values", lambda *arguments: made.append(1) or original(*arguments))
    one, other = (read_adapter(flux_models.write_xlabs(tmp_path / f"{seed}.safetensors", seed=seed)) for seed in (1, 2))
    for adapter in (one, one, other, one):
        recipe(adapter).of([embedding(adapter), embedding(adapter, 5)], [("test_keys_and_values",), ("another picture",)])
    # Both pictures of a file in one reading of it.
    assert len(made) == 2


def test_memory_of_an_image_prompt_is_its_keys_and_values_alone(xlabs):
    prompt = combined(Recipe(xlabs, flux_models.HEADS, torch.bfloat16, CPU), [embedding(xlabs)], [("memory",)], CONCAT, (1.0,))
    assert prompt.bytes == 2 * xlabs.blocks * xlabs.tokens * xlabs.hidden * 2


@pytest.mark.parametrize(
    ("text", "count", "weights"),
    (("", 2, (1.0, 1.0)), ("1.0, 0.7", 2, (1.0, 0.7)), (" 2;1\n0 ", 3, (2.0, 1.0, 0.0))),
)
def test_weights_are_read(text, count, weights):
    assert parse_weights(text, count) == weights


@pytest.mark.parametrize(
    ("text", "words"), (("1", "1 number for 2 pictures"), ("1, two", "'two'"), ("1, -1", "-1"), ("1, nan", "nan"), ("0, 0", "All weights are 0"))
)
def test_weights_that_cannot_be_are_named(text, words):
    with pytest.raises(InputError, match=words):
        parse_weights(text, 2)


def test_pictures_that_cannot_be_are_named():
    fine = torch.rand(4, 4, 3)
    with pytest.raises(InputError, match="No picture arrived"):
        check_pictures([])
    with pytest.raises(InputError, match="Picture 2 holds values that are no finite number"):
        check_pictures([fine, fine * float("nan")])
    with pytest.raises(InputError, match="Picture 1 has no pixels"):
        check_pictures([torch.rand(0, 4, 3)])
    with pytest.raises(InputError, match="65 pictures are wired; 64 is the most"):
        check_pictures([fine] * 65)
    grey, transparent = check_pictures([fine[..., :1], torch.rand(4, 4, 4)])
    assert grey.shape == transparent.shape == (1, 4, 4, 3)
