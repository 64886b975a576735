"""Exactness, cost and memory of Flux IP-Adapters: `python -m tests.bench.flux [exact|flops|memory|time ...]`, by default the first three.

Run it with the host's Python (CONTRIBUTING.md). exact holds the injection in ComfyUI's own Flux (tiny, float32) against the forward pass written out
from the published formulas. flops counts the floating-point operations of one step of FLUX.1 at its real size, 1024x1024 and 512 text tokens, on
tensors without data. memory measures what stays in main memory of an adapter file of the real size, which holds zeros, after the first step of a model of
the real width and depth in bfloat16 whose blocks share one set of weights, each adapter in a process of its own. What a first step of the model alone
leaves is there before. Freed memory that the C library holds is given back first, or the model alone would grow and shrink by 10 MB from step to step.
time measures a step at real width with few blocks and random weights where there is a CUDA device. Nothing is asserted.
"""

import argparse
import ctypes
import ctypes.util
import gc
import json
import multiprocessing
import statistics
import struct
import tempfile
import time
from pathlib import Path

import torch

from tests.conftest import make_package_importable

make_package_importable()

from character_likeness.nodes.flux.checkpoint import read_adapter  # noqa: E402
from character_likeness.nodes.flux.image_prompt import CONCAT, ImagePrompt, Recipe, combined  # noqa: E402
from tests.host.flux_in_process import TinyFlux, load_comfy  # noqa: E402
from tests.tiny import flux_models  # noqa: E402

CPU = torch.device("cpu")
# FLUX.1 as black-forest-labs/flux has it (src/flux/util.py), and a picture of one megapixel.
REAL = {
    "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19,
    "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
SIDE, WORDS = 128, 512
TOKENS = {"XLabs v1": 4, "XLabs v2": 16, "InstantX": 128}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: exact flops memory")
    with tempfile.TemporaryDirectory() as folder:
        for part in parser.parse_args().parts or ["exact", "flops", "memory"]:
            print(f"== {part}")
            PARTS[part](Path(folder))


# ---- exactness -------------------------------------------------------------------------------------------------------


def exact(folder: Path) -> None:
    from tests.host import test_flux_injection as tests

    flux = TinyFlux(folder)
    adapters = {
        "XLabs": read_adapter(flux_models.write_xlabs(folder / "x.safetensors", tokens=16)),
        "InstantX": read_adapter(flux_models.write_instantx(folder / "i.bin", tokens=128)),
    }
    inputs, reference = flux.inputs(batch=2), torch.randn((1, 16, 8, 12), generator=torch.Generator().manual_seed(9))

    def line(what, model, prompts, **options):
        got = flux.run(model, inputs, references=[one.expand(2, -1, -1, -1) for one in options.get("references", ())], rows=options.pop("rows", (0,)))
        wanted = tests.written_out(flux, inputs, prompts, **options)
        print(f"{what:42} largest error {tests.difference(got, wanted):.1e}, of the largest value {tests.error(got, wanted):.1e}")

    line("the host's Flux alone", flux.model, [])
    line("the host's Flux alone, reference tokens", flux.model, [], references=[reference])
    both, formulas = flux.model, []
    for name, adapter in adapters.items():
        prompt = tests.prompt_of(adapter)
        formula = tests.formula_prompt(adapter, prompt, [0.8, 0.8])
        patched = tests.injected(flux.model, adapter, prompt)
        line(name, patched, [formula])
        line(f"{name}, mask of ones", tests.injected(flux.model, adapter, prompt, mask=torch.ones(1, 64, 96)), [formula])
        line(f"{name}, reference tokens", patched, [formula], references=[reference])
        negative = tests.prompt_of(adapter, (3,))
        rows = [tests.formula_prompt(adapter, prompt, [0.8, 0.0]), tests.formula_prompt(adapter, negative, [0.0, 0.8])]
        line(f"{name}, positive and negative rows", tests.injected(flux.model, adapter, prompt, negative=negative), rows, rows=(0, 1))
        off = flux.run(tests.injected(flux.model, adapter, prompt, weight=0.0), inputs)
        late = flux.run(tests.injected(flux.model, adapter, prompt, start=0.9), inputs)
        plain = flux.run(flux.model, inputs)
        print(
            f"{f'{name}, weight 0; outside the range; after':42} bit-identical: {torch.equal(off, plain)}; {torch.equal(late, plain)}; {_after(flux, patched, inputs)}"
        )
        both, formulas = tests.injected(both, adapter, prompt), [*formulas, formula]
    line("both at once", both, formulas)


def _after(flux, patched, inputs) -> bool:
    before = flux.run(flux.model, inputs)
    flux.run(patched, inputs)
    return torch.equal(flux.run(flux.model, inputs), before)


# ---- cost ------------------------------------------------------------------------------------------------------------


class _Model:
    """What an injection asks of the host's model."""

    class model_sampling:
        percent_to_sigma = staticmethod(lambda percent: 1 - percent)


def _flux(device, dtype, **sizes):
    import comfy.ldm.flux.model
    import comfy.ops

    return comfy.ldm.flux.model.Flux(image_model="flux", dtype=dtype, device=device, operations=comfy.ops.disable_weight_init, **(REAL | sizes))


def _step(flux, injections, device, dtype):
    """A function that runs one step with these image prompts."""
    x = torch.zeros((1, 16, SIDE, SIDE), device=device, dtype=dtype)
    given = {"context": torch.zeros((1, WORDS, 4096), device=device, dtype=dtype), "y": torch.zeros((1, 768), device=device, dtype=dtype)}
    t = torch.full((1,), 0.5, device=device)

    class Last:
        class_obj = _Model

        def __call__(self, x, _t, *others, **kwargs):
            with torch.no_grad():
                return flux(x, t.to(dtype), **given, guidance=t.to(dtype) * 7, transformer_options=others[-1])

    run = Last()
    for injection in injections:
        run = _Around(injection, run)
    return lambda: run(x, torch.tensor([0.5]), None, None, None, {})


class _Around:
    class_obj = _Model

    def __init__(self, injection, inner):
        self.injection, self.inner = injection, inner

    def __call__(self, *arguments):
        return self.injection(self.inner, *arguments)


def _injection(name: str, device, dtype, depth=19, single=38):
    """An image prompt of the real width; which adapter it is of only its family and block count tell."""
    from character_likeness.nodes.flux import checkpoint
    from character_likeness.nodes.flux.injection import Course, Injection

    family = checkpoint.INSTANTX if name == "InstantX" else checkpoint.XLABS
    blocks = depth + single if family.single_blocks else depth
    adapter = checkpoint.Adapter(Path(name), family, TOKENS[name], 0, 4096, 3072, blocks, (), {})
    part = torch.zeros((2, blocks, 1, 24, TOKENS[name], 128), device=device, dtype=dtype)
    return Injection(adapter, ImagePrompt((part,), None, (1.0,)), None, Course(0.8))


def flops(_folder: Path) -> None:
    load_comfy()
    import comfy.model_management
    from torch.utils.flop_counter import FlopCounterMode

    device, dtype = torch.device("meta"), torch.bfloat16
    flux = _flux(device, dtype)
    # Rotary positions in plain PyTorch: the host's own kernels do not count, and add nothing but them.
    comfy.model_management.in_training = True
    counts = {}
    for name in (None, *TOKENS):
        counter = FlopCounterMode(display=False)
        step = _step(flux, [] if name is None else [_injection(name, device, dtype)], device, dtype)
        with counter:
            step()
        counts[name] = counter.get_total_flops()
    comfy.model_management.in_training = False
    print(f"FLUX.1 at 1024x1024, {WORDS} text tokens: {counts[None] / 1e12:.2f} TFLOP a step")
    for name in TOKENS:
        print(f"{name:10} +{(counts[name] / counts[None] - 1) * 100:.3f} %")


def timed(_folder: Path) -> None:
    if not torch.cuda.is_available():
        print("no CUDA device here")
        return
    device, dtype, sizes = torch.device("cuda"), torch.bfloat16, {"depth": 19, "depth_single_blocks": 38}
    load_comfy(cpu=False)
    flux = _flux(device, dtype, **sizes)
    for parameter in flux.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    steps = {name: _step(flux, [] if name is None else [_injection(name, device, dtype)], device, dtype) for name in (None, *TOKENS)}
    seconds = {name: [] for name in steps}
    for _ in range(12):
        for name, step in steps.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            step()
            torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds[None][2:])
    print(f"{torch.cuda.get_device_name()}: {base * 1000:.1f} ms a step, medians of 10, interleaved")
    for name in TOKENS:
        print(f"{name:10} {statistics.median(seconds[name][2:]) / base:.4f} of the base step")


# ---- memory ----------------------------------------------------------------------------------------------------------


def memory(folder: Path) -> None:
    for name in TOKENS:
        process = multiprocessing.get_context("spawn").Process(target=_first_step, args=(name, folder))
        process.start()
        process.join()


def _first_step(name: str, folder: Path) -> None:
    global SIDE, WORDS
    # What stays does not depend on the size of the picture; how long a step takes on a CPU does.
    SIDE, WORDS = 8, 32
    load_comfy()
    dtype = torch.bfloat16
    flux = _flux(CPU, dtype, depth=1, depth_single_blocks=1)
    for parameter in flux.parameters():
        parameter.data.fill_(0.01)
    for blocks, count in ((flux.double_blocks, REAL["depth"]), (flux.single_blocks, REAL["depth_single_blocks"])):
        blocks.extend([blocks[0]] * (count - 1))
    # Text encoders compute in float32 before a model samples, so what its matrix products keep is there, too: a feed-forward layer of T5.
    torch.nn.functional.linear(torch.randn(256, 4096), torch.randn(10240, 4096))
    from character_likeness.nodes.flux.injection import Course, Injection

    adapter = read_adapter(_hollow(folder / f"{name}.safetensors", name, TOKENS[name]))
    alone = _step(flux, [], CPU, dtype)
    alone()
    before = _anonymous()
    alone()
    again = _anonymous()

    start = time.perf_counter()
    prompt = combined(Recipe(adapter, 24, dtype, CPU), [torch.randn(1, adapter.image_width)], [("bench",)], CONCAT, (1.0,))
    seconds = time.perf_counter() - start
    _step(flux, [Injection(adapter, prompt, None, Course(0.8))], CPU, dtype)()
    after = _anonymous()
    print(
        f"{name:10} {(after - again) / 1e6:.1f} MB more after the first step (a second step of the model alone: {(again - before) / 1e6:.1f} MB), of it keys and "
        f"values {prompt.bytes / 1e6:.1f} MB; computed in {seconds:.1f} s from a file of {adapter.path.stat().st_size / 1e9:.2f} GB",
        flush=True,
    )
    adapter.path.unlink()


def _anonymous() -> int:
    """Bytes of main memory in use that are no mapped file's."""
    gc.collect()
    # glibc alone has it; without it, what is free but held counts as used.
    trim = getattr(ctypes.CDLL(ctypes.util.find_library("c")), "malloc_trim", None)
    if trim:
        trim(0)
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def _hollow(path: Path, name: str, tokens: int) -> Path:
    """An adapter's file of the real size in bf16, of zeros that take no room on the disk."""
    shapes = {}
    if name == "InstantX":
        shapes |= {"image_proj.proj.0.weight": [2304, 1152], "image_proj.proj.0.bias": [2304], "image_proj.proj.2.weight": [tokens * 4096, 2304]}
        shapes |= {"image_proj.proj.2.bias": [tokens * 4096], "image_proj.norm.weight": [4096], "image_proj.norm.bias": [4096]}
        shapes |= {f"ip_adapter.{i}.to_{kind}_ip.weight": [3072, 4096] for i in range(57) for kind in "kv"}
    else:
        shapes |= {"ip_adapter_proj_model.proj.weight": [tokens * 4096, 768], "ip_adapter_proj_model.proj.bias": [tokens * 4096]}
        shapes |= {"ip_adapter_proj_model.norm.weight": [4096], "ip_adapter_proj_model.norm.bias": [4096]}
        for i in range(19):
            for kind in "kv":
                at = f"double_blocks.{i}.processor.ip_adapter_double_stream_{kind}_proj"
                shapes |= {f"{at}.weight": [3072, 4096], f"{at}.bias": [3072]}
    header, end = {}, 0
    for key, shape in shapes.items():
        start, end = end, end + 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


PARTS = {"exact": exact, "flops": flops, "memory": memory, "time": timed}

if __name__ == "__main__":
    main()
