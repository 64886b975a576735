"""Counts and wall time of LoRA Sweep beside the same pictures as separate prompts: `python -m tests.bench.sweep [--checkpoints 3 --strengths 3 ...]`.

Run it with the host's Python (CONTRIBUTING.md). A real ComfyUI samples a tiny Qwen-Image model with LoRAs of known effect; painted faces are measured
by a recognizer of the true layout. The other side queues one graph for each picture (Load Diffusion Model, LoraLoaderModelOnly, CLIPTextEncode, KSampler,
VAE Decode, Identity Score), checkpoint by checkpoint as one would by hand, with the host's caching on. Nothing is asserted. The shares of loading, encoding and
sampling are those of the tiny models, not of the real ones: here a turn to another model costs nothing, so how often that happens is counted beside the time.
"""

import argparse
import statistics
import tempfile
import time
from itertools import groupby, product
from pathlib import Path

from tests.conftest import ROOT, comfyui_root, make_package_importable

make_package_importable()

from tests.host.comfy import Comfy  # noqa: E402
from tests.host.graphs import Graph  # noqa: E402
from tests.host.qwen_graphs import forget  # noqa: E402
from tests.host.test_lora_sweep import BEST, REPORT, SweepGraph  # noqa: E402
from tests.tiny import face_packs  # noqa: E402
from tests.tiny import qwen_models as files  # noqa: E402


class Host:
    """A ComfyUI with a folder of checkpoints; seeds never come again from one measurement to the next."""

    def __init__(self, comfy: Comfy, sizes):
        self.comfy, self.sizes, self.seed = comfy, sizes, 0
        files.write_all(comfy.base / "models")
        self.names = [f"bench_{number:09}" for number in range(500, 500 * sizes.checkpoints + 1, 500)]
        for number, name in enumerate(self.names):
            files.write_shifting_lora(comfy.base / "models" / "loras" / "bench" / f"{name}.safetensors", number / 2)
        face_packs.write_pack(comfy.base / "models" / "insightface" / "models" / "antelopev2", "antelopev2")
        picture = face_packs.background(256, 256)
        face_packs.paint(picture, 2, 72, 72, 112)
        comfy.upload("painted.png", picture)
        self.strengths = [round(0.4 + 0.2 * i, 1) for i in range(sizes.strengths)]
        self.prompts = [f"a woman in place {i}" for i in range(sizes.prompts)]

    @property
    def pictures(self) -> int:
        one = self.sizes.prompts * self.sizes.seeds
        return one + self.sizes.checkpoints * self.sizes.strengths * one

    def sweep(self, seed: int, **more) -> Graph:
        graph = SweepGraph()
        wanted = {"checkpoints": "bench/", "strengths": ", ".join(map(str, self.strengths)), "prompts": "\n".join(self.prompts), "seed": seed}
        wanted |= {"width": self.sizes.side, "height": self.sizes.side}
        node = graph.sweep(**wanted, seeds=self.sizes.seeds, steps=self.sizes.steps, limit=100_000, **more)
        del graph["table"], graph["report"]
        graph.tell("report", node.out(REPORT))
        return graph

    def separate(self, seed: int) -> list[Graph]:
        cells = [(None, 0.0), *product(self.names, self.strengths)]
        return [self._one(name, strength, text, seed + k) for name, strength in cells for text in self.prompts for k in range(self.sizes.seeds)]

    def _one(self, name: str | None, strength: float, text: str, seed: int) -> Graph:
        graph = SweepGraph()
        model = graph.model
        if name:
            model = graph.add("lora", "LoraLoaderModelOnly", model=model, lora_name=f"bench/{name}.safetensors", strength_model=strength).out(0)
        positive = graph.add("text", "CLIPTextEncode", clip=graph.clip, text=text).out(0)
        negative = graph.add("zero", "ConditioningZeroOut", conditioning=positive).out(0)
        latent = graph.add("latent", "EmptySD3LatentImage", width=self.sizes.side, height=self.sizes.side, batch_size=1).out(0)
        settings = {"steps": self.sizes.steps, "cfg": 1.0, "seed": seed, "denoise": 1.0, "sampler_name": "euler", "scheduler": "simple"}
        sampled = graph.add("sample", "KSampler", model=model, positive=positive, negative=negative, latent_image=latent, **settings).out(0)
        image = graph.add("decode", "VAEDecode", samples=sampled, vae=graph.vae).out(0)
        graph.add("score", "LikenessIdentityScore", image=image, identity=graph.who, strictness="standard", threshold=0.5, face="best match")
        return graph

    def fresh(self) -> int:
        self.seed += 1000
        return self.seed

    def run(self, graphs: list[Graph]) -> float:
        """Seconds from the first to the end of the last; all are queued at once, so that nobody waits for a question."""
        start = time.perf_counter()
        queued = [self.comfy.post("/prompt", {"prompt": graph, "client_id": "bench"})["prompt_id"] for graph in graphs]
        while not (ended := self.comfy.get(f"/history/{queued[-1]}")):
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        assert ended[queued[-1]]["status"]["status_str"] == "success", ended
        return seconds

    def counted(self, graphs: list[Graph]) -> str:
        self.comfy.post("/test_counts/reset", {})
        self.run(graphs)
        counts = self.comfy.get("/test_counts")
        reads = sum(name.startswith("bench_") for name in counts["files"])
        turns = sum(1 for _ in groupby(counts["loads"]))
        return f"{counts['sample']} samplings, {counts['text_encode']} text encodes, {reads} LoRA file reads, {counts['vae_decode']} decodes, {turns} turns of models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"checkpoints": 3, "strengths": 3, "prompts": 2, "seeds": 4, "steps": 4, "side": 128, "repeats": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4], help="seeds of a prompt that the sweep samples at once, one measurement each")
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        comfy = Comfy(comfyui_root(), ROOT, Path(folder), extra=(ROOT / "tests" / "tiny" / "qwen_host",))
        try:
            _measure(Host(comfy, sizes), sizes)
        finally:
            comfy.stop()


def _measure(host: Host, sizes) -> None:
    print(
        f"{sizes.checkpoints} checkpoints x {sizes.strengths} strengths x {sizes.prompts} prompts x {sizes.seeds} seeds and without a LoRA: {host.pictures} pictures"
    )
    print(f"Qwen-Image tiny, {sizes.side}x{sizes.side}, {sizes.steps} steps, cfg 1; painted faces, latent mean {BEST:g} is the best")
    forget(host.comfy)
    seed = host.fresh()
    print("separate prompts", host.counted(host.separate(host.fresh())))
    print("first run       ", host.counted([host.sweep(seed)]))
    print("second run      ", host.counted([host.sweep(seed, group=3)]))
    host.prompts.append("a woman somewhere else")
    print("one prompt more ", host.counted([host.sweep(seed)]))
    host.prompts.pop()
    for batch in sizes.batches:
        print(f"batch {batch:<10}", host.counted([host.sweep(host.fresh(), batch=batch)]))
    ratios = {batch: [] for batch in sizes.batches}
    for _ in range(sizes.repeats):
        theirs = host.run(host.separate(host.fresh()))
        own = {batch: host.run([host.sweep(host.fresh(), batch=batch)]) for batch in sizes.batches}
        for batch, seconds in own.items():
            ratios[batch].append(seconds / theirs)
        print(
            f"separate prompts {theirs:.1f} s; sweep "
            + ", ".join(f"{seconds:.1f} s ({seconds / theirs:.2f}) at batch {batch}" for batch, seconds in own.items())
        )
    for batch, found in ratios.items():
        print(f"median ratio at batch {batch}: {statistics.median(found):.2f} (wanted 0.7 at most)")


if __name__ == "__main__":
    main()
