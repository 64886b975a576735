"""Counts and speed of the scene room beside the official graphs: `python -m tests.bench.scene [counts|time|gpu ...]`, by default counts and time.

Run it with the host's Python (CONTRIBUTING.md). A real ComfyUI makes 8 shots of 2 references with tiny models, once by one Qwen Character Scene with
a Shot List, once by eight official graphs queued one after another, with the host's caching on. Nothing is asserted: the numbers are printed for
whoever reads them. By default each side of a ratio is timed once, for the sake of time; --repeats 3 gives medians. The shares of encoding and
sampling are those of the tiny models, not of the real ones: the seconds of each stage are printed so that one can tell. gpu needs a CUDA device.
"""

import argparse
import contextlib
import importlib.util
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy
from tests.host.graphs import Graph
from tests.host.qwen_graphs import drawn_picture, forget, official_edit, official_edit_plain, switches
from tests.host.scene_graphs import IMAGES, SceneGraph
from tests.tiny import qwen_models as files

SHOTS, REFERENCES = 8, 2
# The side of a reference as it is given, square: at 1 megapixel the official graph and ours then both make it 1024x1024.
PHOTOGRAPH = 1536
PICTURE, PROMPT = "bench_{}_{}.png", "on day {} a woman does thing {}"
PLAIN, BETTER = "VAE wired into the text node", "references encoded beside the text"
MODELS = {"unet": files.EDIT_2511, "clip": files.TEXT_ENCODER, "vae": files.VAE}
LETTERS = {"QwenImageTEModel_": "T", "WanVAE": "V", "QwenImage": "M"}
COUNTED = {"VAE encodes": "vae_encode", "text encodes": "text_encode", "samples": "sample", "decodes": "vae_decode"}
STAGES = ("resize", "VAE encode", "text encode", "sample", "VAE decode")

# A pack for the host, besides tests/tiny/qwen_host: how long each stage took, and who resized pictures how often.
METER = """
import sys, time
import comfy.samplers, comfy.sd, comfy.utils, torch
from aiohttp import web
from server import PromptServer
NODE_CLASS_MAPPINGS, SECONDS, RESIZES = {}, {}, {}
RESIZERS = {"comfy.utils": "the host's common_upscale", "nodes.scene.references": "Character References", "qwen_vl": "the text encoder itself"}
def around(owner, name, stage):
    original = getattr(owner, name)
    def call(*args, **kwargs):
        caller = sys._getframe(1).f_globals["__name__"]
        start = time.perf_counter()
        result = original(*args, **kwargs)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        resizer = next((told for module, told in RESIZERS.items() if caller.endswith(module)), None) if stage == "resize" else None
        if resizer:
            RESIZES[resizer] = RESIZES.get(resizer, 0) + 1
        if stage != "resize" or resizer and "encoder" not in resizer:
            SECONDS[stage] = SECONDS.get(stage, 0) + time.perf_counter() - start
        return result
    setattr(owner, name, call)
around(torch.nn.functional, "interpolate", "resize")
around(comfy.sd.VAE, "encode", "VAE encode"), around(comfy.sd.VAE, "decode", "VAE decode")
around(comfy.sd.CLIP, "encode_from_tokens_scheduled", "text encode"), around(comfy.samplers.CFGGuider, "sample", "sample")
@PromptServer.instance.routes.get("/meter")
async def meter(request):
    told = {"seconds": dict(SECONDS), "resizes": dict(RESIZES)}
    SECONDS.clear(), RESIZES.clear()
    return web.json_response(told)
"""


@dataclass(frozen=True)
class Row:
    """What is made on both sides alike. side: of the square pictures to make; reference: of each reference as the VAE gets it; wanted: of ours over theirs."""

    form: str
    steps: int
    cfg: float
    side: int
    reference: int = 1024
    wanted: str = ""

    def __str__(self) -> str:
        return f"{self.steps} steps, cfg {self.cfg:g}, {self.side}x{self.side}, {REFERENCES} references of {self.reference}x{self.reference}, official: {self.form}"


class Host:
    """A ComfyUI with tiny models, and the graphs for it by the number of what they show."""

    def __init__(self, comfy: Comfy):
        self.comfy = comfy
        self._numbers = itertools.count()

    def new(self) -> int:
        """The number of a set of references, prompts and seeds that were never seen before."""
        number = next(self._numbers)
        for i in range(REFERENCES):
            self.comfy.upload(PICTURE.format(number, i), drawn_picture(1000 * number + i, PHOTOGRAPH, PHOTOGRAPH))
        return number

    def ours(self, row: Row, number: int, group: int = 4, seed: int = 0, changed: int | None = None) -> list[Graph]:
        """One graph for all shots. changed: a shot that does something else."""
        graph = SceneGraph(**MODELS)
        size = {"policy": "scene"} if row.reference == 1024 else {"policy": "custom megapixels", "megapixels": row.reference**2 / 2**20}
        references = graph.references(**size, **{role: PICTURE.format(number, i) for i, role in enumerate(("face", "outfit"))})
        shots = graph.shots(scenes="\n".join(PROMPT.format(number, SHOTS if i == changed else i) for i in range(SHOTS)), template="{scene}")
        settings = {"preset.steps": row.steps, "preset.cfg": row.cfg, "width": row.side, "height": row.side}
        scene = graph.scene(references=references, shots=shots.out(0), seed=number + seed, group=group, **settings)
        for name in ("scene report", "scene digest"):
            del graph[name]
        graph.show("show", scene.out(IMAGES))
        return [graph]

    def official(self, row: Row, number: int, seed: int = 0) -> list[Graph]:
        """A graph for each shot, with the same settings and sizes."""
        same = {"references": [PICTURE.format(number, i) for i in range(REFERENCES)], "width": row.side, "height": row.side, "steps": row.steps, "cfg": row.cfg}
        if row.form == BETTER:
            same["reference_sizes"] = [(row.reference, row.reference)] * REFERENCES
        graphs = [Graph() for _ in range(SHOTS)]
        for i, graph in enumerate(graphs):
            build = official_edit_plain if row.form == PLAIN else official_edit
            graph.show("show", build(graph, **MODELS, **same, prompt=PROMPT.format(number, i), seed=number + seed))
        return graphs

    def play(self, graphs: list[Graph]) -> tuple[float, dict, dict]:
        """Queue graphs at once; (seconds from the start of the first to the end of the last by the host's clock, its counts, the meter's)."""
        self.comfy.post("/test_counts/reset", {})
        self.comfy.get("/meter")
        answers = [self.comfy.post("/prompt", {"prompt": graph}) for graph in graphs]
        assert not any(answer["node_errors"] for answer in answers), answers
        queued = [answer["prompt_id"] for answer in answers]
        while not self.comfy.get(f"/history/{queued[-1]}"):
            time.sleep(0.5)
        messages = [dict(self.comfy.get(f"/history/{name}")[name]["status"]["messages"]) for name in queued]
        assert all("execution_success" in told for told in messages), self.comfy.log()[-3000:]
        first, last = messages[0]["execution_start"]["timestamp"], messages[-1]["execution_success"]["timestamp"]
        return (last - first) / 1000, self.comfy.get("/test_counts"), self.comfy.get("/meter")


@contextlib.contextmanager
def host(heads: int = 1, blocks: int = 1, gpu: bool = False):
    """A running ComfyUI with models of that many heads and blocks; on the GPU with a VAE of the real width."""
    with tempfile.TemporaryDirectory() as folder:
        models, meter = Path(folder) / "base" / "models", Path(folder) / "packs" / "bench_meter"
        meter.mkdir(parents=True)
        (meter / "__init__.py").write_text(METER)
        files.write_dit(models / "diffusion_models" / files.EDIT_2511, method="index_timestep_zero", heads=heads, blocks=blocks)
        files.write_text_encoder(models / "text_encoders" / files.TEXT_ENCODER)
        files.write_vae(models / "vae" / files.VAE, dim=96 if gpu else 4)
        # The host of the tests asks for the CPU.
        start = subprocess.Popen
        on_gpu = mock.patch("subprocess.Popen", lambda command, **more: start([part for part in command if part != "--cpu"], **more))
        with on_gpu if gpu else contextlib.nullcontext():
            comfy = Comfy(comfyui_root(), ROOT, Path(folder) / "base", extra=(ROOT / "tests" / "tiny" / "qwen_host", meter))
        try:
            yield Host(comfy)
        finally:
            comfy.stop()


def bench_counts(options) -> None:
    """One step and small pictures, as nothing is timed; only the plain form makes its references 1 megapixel all the same."""
    row = Row(BETTER, 1, 4.0, 256, 512)
    with host() as bench:

        def told(name: str, graphs: list[Graph]) -> None:
            _, counts, meter = bench.play(graphs)
            turned = "".join(LETTERS.get(model, f"({model})") for model in switches(counts["loads"]))
            resizes = ", ".join(f"{count} by {by}" for by, count in meter["resizes"].items()) or "none"
            done = ", ".join(f"{what} {counts[key]}" for what, key in COUNTED.items())
            print(f"{name}: {done}; resizes of references: {resizes}; models in turn: {len(turned)} {turned}", flush=True)

        print(f"counts: {REFERENCES} references, {SHOTS} shots, cfg 4; models: T text encoder, V VAE, M diffusion model; at first each is loaded from its file")
        number = bench.new()
        told(f"one Qwen Character Scene, {SHOTS} shots", bench.ours(row, number))
        told("  one shot changed", bench.ours(row, number, changed=3))
        told("  back to the first shots, in another group, so that the host runs the node", bench.ours(row, number, group=8))
        told("  nothing but the seed changed", bench.ours(row, number, seed=10_000))
        for form in (PLAIN, BETTER):
            forget(bench.comfy)
            told(f"{SHOTS} official graphs, {form}", bench.official(replace(row, form=form), number := bench.new()))
        told("  nothing but the seed changed", bench.official(row, number, seed=10_000))


def measure(bench: Host, rows: list[Row], repeats: int) -> None:
    """Print the ratio of each row: both sides in turns, everything new each time but the models, which are loaded."""
    warm = Row(BETTER, 1, 4.0, 256, 512)
    for side in (bench.ours, bench.official):
        bench.play(side(warm, bench.new()))
    for row in rows:
        runs = {"ours": [], "official": []}
        for turn in range(repeats):
            for side in list(runs)[:: 1 if turn % 2 == 0 else -1]:
                runs[side].append(bench.play(getattr(bench, side)(row, bench.new())))
        seconds = {side: statistics.median(run[0] for run in own) for side, own in runs.items()}
        passes = {side: own[0][1]["model_rows"] for side, own in runs.items()}
        print(f"{row}: {seconds['ours'] / seconds['official']:.2f} (wanted {row.wanted}); model passes {passes['ours']} and {passes['official']}")
        for side, own in runs.items():
            parts = {stage: statistics.median(run[2]["seconds"].get(stage, 0) for run in own) for stage in STAGES}
            parts["the rest"] = seconds[side] - sum(parts.values())
            print(f"    {side}: {seconds[side]:.1f} s: " + ", ".join(f"{stage} {part:.1f}" for stage, part in parts.items()), flush=True)


def bench_time(options) -> None:
    blocks, side = options.blocks or 1, options.side or 256
    print(f"time: wall time of {SHOTS} shots, ours over official, repeats: {options.repeats}; diffusion model with 1 head, blocks: {blocks}, on the CPU")
    with host(1, blocks) as bench:
        measure(bench, [Row(PLAIN, 4, 1.0, side, wanted="0.55 or less"), Row(PLAIN, 20, 4.0, side, wanted="0.9 or less")], options.repeats)


def bench_gpu(options) -> None:
    import torch

    if not torch.cuda.is_available():
        print("gpu: skipped, PyTorch sees no CUDA device")
        return
    blocks, side = options.blocks or 4, options.side or 1024
    print(f"gpu: wall time of {SHOTS} shots, ours over official, repeats: {options.repeats}, {torch.cuda.get_device_name()}")
    print(f"random weights: diffusion model with 24 heads, blocks: {blocks} (the real one has 60), VAE of the real width, tiny text encoder")
    with host(24, blocks, gpu=True) as bench:
        rows = [
            Row(form, steps, cfg, side, wanted=wanted)
            for form in (PLAIN, BETTER)
            for steps, cfg, wanted in ((4, 1.0, "0.55 or less"), (20, 4.0, "0.9 or less"))
        ]
        measure(bench, rows, options.repeats)


BENCHES = {"counts": bench_counts, "time": bench_time, "gpu": bench_gpu}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scene", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join(BENCHES))
    parser.add_argument("--repeats", type=int, default=1, help="how often each side is timed")
    parser.add_argument("--blocks", type=int, help="of the diffusion model: 1 on the CPU, 4 on the GPU")
    parser.add_argument("--side", type=int, help="of the pictures to make: 256 on the CPU, 1024 on the GPU")
    options = parser.parse_args()
    if not set(options.names) <= set(BENCHES):
        parser.error(f"the names are {', '.join(BENCHES)}")
    if comfyui_root() is None or importlib.util.find_spec("torch") is None:
        sys.exit("The benches run in a ComfyUI's Python: see CONTRIBUTING.md.")
    for name in options.names or ["counts", "time"]:
        BENCHES[name](options)


if __name__ == "__main__":
    main()
