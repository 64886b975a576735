"""LoRA Sweep in a real ComfyUI on a tiny Qwen-Image model, with LoRAs of known effect and painted faces that a recognizer tells apart."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from character_likeness.nodes.lora_dataset.choices import ROW_BY_ROW
from tests.host.graphs import Graph
from tests.host.qwen_graphs import forget, official_text_to_image
from tests.tiny import flux_models as flux_files
from tests.tiny import qwen_models as files

pytestmark = pytest.mark.host

GRID, PLOT, LORA, STRENGTH, TABLE, REPORT, TRIGGER = range(7)
SWEEP = {
    "folder": "by the lines below",
    "checkpoints": "sweep/",
    "trigger": "m1ra",
    "strengths": "0.4, 0.8, 1.2",
    "prompts": "{trigger} in a kitchen\n{trigger} on a beach",
    "seed": 5,
    "seeds": 2,
    "width": 256,
    "height": 256,
    "steps": 2,
    "cfg": 1.0,
    "sampler": "euler",
    "scheduler": "simple",
    "strictness": "standard",
    "threshold": 0.5,
    "save_as": "",
}
# The latent's mean at which the painted face is the character's to the last pixel: the second checkpoint at 0.8.
BEST, SHIFT = 6.5, 4.0
CHECKPOINTS = {"mira_000000500": 0.0, "mira_000001000": SHIFT, "mira_000001500": 3 * SHIFT}


@pytest.fixture(scope="module")
def host(qwen, face_packs):
    """The host with a folder of three checkpoints: one that changes nothing, the best one, and one that goes too far; and a picture of the character."""
    for name, shift in CHECKPOINTS.items():
        files.write_shifting_lora(qwen.base / "models" / "loras" / "sweep" / f"{name}.safetensors", shift)
    face_packs.write_pack(qwen.base / "models" / "insightface" / "models" / "antelopev2", "antelopev2")
    picture = face_packs.background(256, 256)
    face_packs.paint(picture, 2, 72, 72, 112)
    qwen.upload("painted.png", picture)
    return qwen


class SweepGraph(Graph):
    def __init__(self, unet: str = files.IMAGE_2512, painted: bool = True):
        super().__init__()
        self.model = self.add("unet", "UNETLoader", unet_name=unet, weight_dtype="default").out(0)
        self.clip = self.add("clip", "CLIPLoader", clip_name=files.TEXT_ENCODER, type="qwen_image", device="default").out(0)
        self.vae = self.add("vae", "VAELoader", vae_name=files.VAE).out(0)
        if painted:
            self.vae = self.add("painted", "TestPaintedFaces", vae=self.vae, identity=2, best=BEST, lost=1e3).out(0)
        recognizer = self.add("recognizer", "LikenessLoadRecognizer", recognizer="antelopev2", device="auto").out(0)
        self.who = self.identity("Mira", self.picture("reference", "painted.png"), recognizer=recognizer)

    def sweep(self, **inputs):
        node = self.add("sweep", "LikenessLoraSweep", **({"model": self.model, "clip": self.clip, "vae": self.vae, "identity": self.who} | SWEEP | inputs))
        self.tell("table", node.out(TABLE))
        self.tell("report", node.out(REPORT))
        return node


@pytest.fixture
def counted(host):
    def run(graph):
        host.post("/test_counts/reset", {})
        ran = host.run(graph)
        return ran, host.get("/test_counts")

    return run


def good(run):
    assert run.status == "success" and run.error is None, run.error
    return run


def report(run) -> dict:
    return json.loads(run.texts("report")[0])


def timeless(told: dict) -> dict:
    """A report without what the clock had to do with it."""
    told = json.loads(json.dumps(told))
    for cell in told["cells"]:
        del cell["s per picture"]
    for picture in told["pictures"]:
        del picture["seconds"]
    return told


def test_the_constructed_best_is_suggested_and_strengths_order_as_constructed(host, counted):
    forget(host)
    graph = SweepGraph()
    node = graph.sweep()
    graph.tell("lora", node.out(LORA))
    graph.tell("strength", node.out(STRENGTH))
    graph.tell("trigger", node.out(TRIGGER))
    run, counts = counted(graph)
    told = report(good(run))
    assert told["suggestion"]["checkpoint"] == "mira_000001000" and told["suggestion"]["strength"] == 0.8, told["suggestion"]
    assert run.texts("lora") == ["sweep/mira_000001000.safetensors"] and float(run.texts("strength")[0]) == 0.8 and run.texts("trigger") == ["m1ra"]
    mean = {(cell["checkpoint"], cell["strength"]): cell["identity mean"] or 0.0 for cell in told["cells"]}
    assert mean["mira_000001000", 0.8] > mean["mira_000001000", 1.2] > mean["no LoRA", None]
    assert mean["mira_000001000", 0.8] > mean["mira_000001000", 0.4] > mean["no LoRA", None]
    assert mean["mira_000001500", 0.4] > mean["mira_000001500", 0.8] >= mean["mira_000001500", 1.2]
    # Two prompts without a LoRA and for each of nine cells, both seeds at once, each text encoded once, each file read once.
    assert counts["sample"] == counts["vae_decode"] == 2 + 9 * 2 and counts["text_encode"] == 2
    assert [name for name in counts["files"] if name.startswith("mira_")] == [f"{name}.safetensors" for name in CHECKPOINTS]


def test_a_lora_that_changes_nothing_is_the_column_without_a_lora_bit_for_bit(host):
    graph = SweepGraph()
    graph.sweep(checkpoints="sweep/mira_000000500.safetensors", save_as="bits/sweep", save_pictures=True, seed=77)
    told = report(good(host.run(graph)))
    bare, cell = told["cells"][0], told["cells"][1]
    assert cell["from no LoRA"] == 0 and {
        **bare,
        "checkpoint": 0,
        "step": 0,
        "strength": 0,
        "from no LoRA": 0,
        "s per picture": 0,
        "pareto": 0,
        "suggested": 0,
    } == {
        **cell,
        **{"checkpoint": 0, "step": 0, "strength": 0, "from no LoRA": 0, "s per picture": 0, "pareto": 0, "suggested": 0},
    }
    saved = sorted((host.base / "output" / "bits" / "sweep_pictures").glob("*.png"))
    pixels = [np.asarray(Image.open(path)) for path in saved]
    cells = {name: [one for path, one in zip(saved, pixels) if path.name.startswith(name)] for name in ("no_lora", "mira_000000500_0.4", "mira_000000500_1.2")}
    assert [len(several) for several in cells.values()] == [4, 4, 4]
    for name in ("mira_000000500_0.4", "mira_000000500_1.2"):
        assert all(np.array_equal(a, b) for a, b in zip(cells["no_lora"], cells[name]))


@pytest.mark.parametrize(("sampler", "cfg"), [("euler", 2.5), ("euler_cfg_pp", 1.0)])
def test_a_picture_is_bit_for_bit_what_the_hosts_own_nodes_make(host, sampler, cfg):
    """Samplers of CFG++ look at the negative prompt at cfg 1, too."""
    graph = SweepGraph(painted=False)
    graph.model = graph.add("shift", "ModelSamplingAuraFlow", model=graph.model, shift=3.1).out(0)
    graph.sweep(
        checkpoints="sweep/mira_000001000.safetensors",
        strengths="0.8",
        prompts="a woman in the rain",
        seeds=1,
        cfg=cfg,
        sampler=sampler,
        negative="blurred",
        save_as=f"same/{sampler}",
        save_pictures=True,
    )
    good(host.run(graph))
    own = next((host.base / "output" / "same" / f"{sampler}_pictures").glob("mira*.png"))
    official = Graph()
    made = official_text_to_image(
        official, unet=files.IMAGE_2512, clip=files.TEXT_ENCODER, vae=files.VAE, prompt="a woman in the rain", negative="blurred", width=256, height=256,
        cfg=cfg, seed=5, lora=("sweep/mira_000001000.safetensors", 0.8),
    )  # fmt: skip
    (sampled,) = (node for node in official.values() if node["class_type"] == "KSampler")
    sampled["inputs"]["sampler_name"] = sampler
    official.show("show", made)
    assert np.array_equal(np.asarray(Image.open(own)), good(host.run(official)).pictures("show")[0])


def test_a_second_run_makes_nothing_and_one_more_picture_costs_one_sample(host, counted):
    graph = SweepGraph()
    graph.sweep(seed=200)
    first = report(good(host.run(graph)))
    graph["sweep"]["inputs"]["group"] = 3
    run, counts = counted(graph)
    assert counts["sample"] == counts["vae_decode"] == counts["text_encode"] == 0 and not counts["files"], counts
    assert report(good(run)) == first
    # Somebody else's face: measured anew from the latents, nothing sampled.
    graph["sweep"]["inputs"] |= {"strictness": "strict"}
    run, counts = counted(graph)
    assert counts["sample"] == counts["vae_decode"] == 0 and report(good(run))["cells"] == first["cells"]
    graph["sweep"]["inputs"] |= {"prompts": "{trigger} in a kitchen", "seeds": 1, "checkpoints": "sweep/mira_000001000.safetensors", "strengths": "0.8, 0.9"}
    run, counts = counted(good(run) and graph)
    assert counts["sample"] == 1 and counts["text_encode"] == 1, counts


def test_a_batch_samples_the_seeds_of_a_prompt_at_once_and_finds_what_single_ones_do(host, counted):
    graph = SweepGraph()
    graph.sweep(seed=400, seeds=3, batch=1)
    single = report(good(host.run(graph)))
    # Known singles would do for a batch as well.
    forget(host)
    graph["sweep"]["inputs"] |= {"batch": 2}
    run, counts = counted(graph)
    at_once = report(good(run))
    # Two seeds at once, and the third alone, for two prompts, without a LoRA and in nine cells, two steps.
    assert counts["sample"] == counts["vae_decode"] == 2 * 2 * 10 and counts["model_rows"] == 60 * 2, counts
    assert [(one["seed"], one["prompt"]) for one in at_once["pictures"]] == [(one["seed"], one["prompt"]) for one in single["pictures"]]
    assert [one["score"] for one in at_once["pictures"]] == pytest.approx([one["score"] for one in single["pictures"]], abs=2e-3)
    assert at_once["suggestion"]["checkpoint"] == single["suggestion"]["checkpoint"]
    bare, nothing = at_once["cells"][0], at_once["cells"][1]
    assert nothing["checkpoint"] == "mira_000000500" and nothing["from no LoRA"] == 0 and nothing["identity mean"] == bare["identity mean"]
    run, counts = counted(graph)
    assert counts["sample"] == 0 and report(good(run)) == at_once


# A third of them, for the sake of time: all hold when ROW_BY_ROW is taken whole.
@pytest.mark.parametrize("sampler", [*sorted(ROW_BY_ROW)[::3], "euler_ancestral", "lcm"])
def test_of_every_sampler_a_picture_is_the_same_whatever_is_made_with_it(host, counted, sampler):
    pictures = {}
    # Pictures that were made alone would do for a batch as well, so that comes first.
    for batch in (2, 1):
        graph = SweepGraph(painted=False)
        name = f"rows/{sampler}_{batch}"
        sizes = {"width": 64, "height": 64, "steps": 3, "cfg": 2.0, "strengths": "0.8", "prompts": "in the rain", "seed": 800}
        graph.sweep(**sizes, checkpoints="sweep/mira_000001000.safetensors", sampler=sampler, batch=batch, save_as=name, save_pictures=True)
        run, counts = counted(graph)
        good(run)
        # What draws noise on the way is made one by one, which is what a batch of 1 makes.
        assert counts["sample"] == (4 // batch if sampler in ROW_BY_ROW else 4 * (batch - 1)), counts
        pictures[batch] = [np.asarray(Image.open(path)).astype(int) for path in sorted((host.base / "output" / f"{name}_pictures").glob("*.png"))]
    assert len(pictures[2]) == 4 and len(pictures[1]) == (4 if sampler in ROW_BY_ROW else 0)
    assert all(np.abs(one - other).max() <= 2 for one, other in zip(pictures[1], pictures[2]))
    assert np.abs(pictures[2][0] - pictures[2][1]).max() > 20


def test_an_interrupted_sweep_in_batches_goes_on_to_the_table_of_an_undisturbed_one(host, counted):
    graph = SweepGraph()
    graph.sweep(seed=500, seeds=3, batch=2, strengths="0.8", checkpoints="sweep/mira_000001000.safetensors")
    host.post("/test_faults", {"slow": 0.05})
    host.interrupt_when(lambda counts: counts["sample"] >= 4)
    assert host.run(graph).status != "success"
    host.post("/test_faults", {})
    run, counts = counted(graph)
    resumed = timeless(report(good(run)))
    assert 0 < counts["sample"] < 8, counts
    forget(host)
    again = SweepGraph()
    again.sweep(seed=500, seeds=3, batch=2, strengths="0.8", checkpoints="sweep/mira_000001000.safetensors")
    run, counts = counted(again)
    assert counts["sample"] == 8 and timeless(report(good(run))) == resumed


def test_an_edit_model_shows_its_references_to_every_row_of_a_batch(host):
    told = []
    for batch in (1, 2):
        graph = SweepGraph(files.EDIT_2511)
        shown = {"vae": graph.vae, "name": "", "policy": "custom megapixels", "megapixels": 0.1, "face": graph["Mira"]["inputs"]["images"]}
        references = graph.add("references", "LikenessCharacterReferences", **shown).out(0)
        graph.sweep(references=references, checkpoints="sweep/mira_000001000.safetensors", strengths="0.8", prompts="in the rain", batch=batch)
        told.append([one["score"] for one in report(good(host.run(graph)))["pictures"]])
    assert len(told[0]) == 4 and told[0] == pytest.approx(told[1], abs=2e-3)


def test_an_interrupted_sweep_goes_on_and_its_table_is_that_of_an_undisturbed_one(host, counted):
    graph = SweepGraph()
    graph.sweep(seed=300)
    host.post("/test_faults", {"slow": 0.05})
    host.interrupt_when(lambda counts: counts["sample"] >= 9)
    stopped = host.run(graph)
    host.post("/test_faults", {})
    assert stopped.error is None or "nterrupt" in str(stopped.error)
    assert stopped.status != "success"
    run, counts = counted(graph)
    resumed = timeless(report(good(run)))
    assert 0 < counts["sample"] < 20 - 5, counts
    forget(host)
    whole = SweepGraph()
    whole.sweep(seed=300)
    run, counts = counted(whole)
    assert counts["sample"] == 20 and timeless(report(good(run))) == resumed


def test_what_is_saved_is_numbered_and_says_the_same(host):
    graph = SweepGraph()
    graph.sweep(seed=400, seeds=1, strengths="0.8", save_as="tables/mira")
    told = report(good(host.run(graph)))
    graph["sweep"]["inputs"]["group"] = 2
    good(host.run(graph))
    folder = host.base / "output" / "tables"
    suffixes = ["csv", "grid.png", "json", "md", "plot.png"]
    assert sorted(path.name for path in folder.iterdir()) == [f"mira_0000{number}.{suffix}" for number in (1, 2) for suffix in suffixes]
    assert json.loads((folder / "mira_00001.json").read_text()) == told
    rows = list(csv.DictReader(io.StringIO((folder / "mira_00001.csv").read_text())))
    assert [row["checkpoint"] for row in rows] == ["no LoRA", *CHECKPOINTS] and [row["suggested"] for row in rows].count("yes") == 1
    assert {"lighting", "background", "artifacts"} <= rows[0].keys()
    assert told["suggestion"]["reason"] in (folder / "mira_00001.md").read_text().replace("\\", "")


def test_on_a_full_disk_one_sentence_is_said_and_the_next_run_saves_what_was_made(host, counted):
    graph = SweepGraph()
    graph.sweep(seed=900, strengths="0.8", checkpoints="sweep/mira_000001000.safetensors", save_as="full/mira", save_pictures=True)
    folder = host.base / "output" / "full"
    host.post("/test_faults", {"room_for": 3})
    run, first = counted(graph)
    assert "mira_pictures cannot be written (No space left on device): make room there, or choose another save_as, and queue again" in run.error
    assert len(list(folder.rglob("*.png"))) == 3 and 0 < first["sample"] < 4
    # All eight pictures, and two of the five files of the table.
    host.post("/test_faults", {"room_for": 5 + 2})
    run, second = counted(graph)
    # What was being sampled when the disk was full is sampled again.
    assert "full cannot be written (No space left on device)" in run.error and 4 <= first["sample"] + second["sample"] <= 5
    assert len(list((folder / "mira_pictures").iterdir())) == 8 and [path.name for path in folder.iterdir()] == ["mira_pictures"]
    host.post("/test_faults", {})
    run, third = counted(graph)
    assert third["sample"] == third["vae_decode"] == 0 and report(good(run))["pictures"]
    assert len(list((folder / "mira_pictures").iterdir())) == 8 and (folder / "mira_00001.csv").is_file()
    assert all(Image.open(path).size == (256, 256) for path in (folder / "mira_pictures").iterdir())


def test_what_memory_did_not_suffice_for_is_made_when_the_same_is_queued_again(host, counted):
    graph = SweepGraph()
    graph.sweep(seed=1000, seeds=1, strengths="0.8", checkpoints="sweep/mira_000001000.safetensors")
    host.post("/test_faults", {"oom_at_sample": 2})
    told = report(good(host.run(graph)))
    host.post("/test_faults", {})
    assert [bool(one.get("error")) for one in told["pictures"]].count(True) == 1
    run, counts = counted(graph)
    assert counts["sample"] == 1 and not any(one.get("error") for one in report(good(run))["pictures"])
    run, counts = counted(graph)
    assert counts["sample"] == 0 and not counts["files"] and run.status == "success"


def test_a_batch_that_does_not_fit_is_made_one_by_one(host, counted):
    graph = SweepGraph()
    graph.sweep(seed=1100, seeds=3, prompts="in the rain", strengths="0.8", checkpoints="sweep/mira_000001000.safetensors")
    host.post("/test_faults", {"oom_at_sample": 2})
    run, counts = counted(graph)
    host.post("/test_faults", {})
    told = report(good(run))
    # Without a LoRA at once; then three that did not fit, and half as many at once.
    assert counts["sample"] == 1 + 1 + 3 and not any(one.get("error") for one in told["pictures"])
    assert "3 pictures at once do not fit into memory: from mira_000001000 at 0.8 on fewer were sampled at once." in told["notes"]
    graph["sweep"]["inputs"]["batch"] = 1
    run, counts = counted(graph)
    # What was made alone is what a batch of 1 makes.
    assert counts["sample"] == 3 and not any("fit into memory" in note for note in report(good(run))["notes"])


@pytest.mark.parametrize("patch", ["Mahiro", "CFGNorm"])
def test_on_a_model_with_functions_of_other_nodes_pictures_are_made_alone(host, counted, patch):
    graph = SweepGraph()
    graph.model = graph.add("patch", patch, model=graph.model, **({"strength": 1.0} if patch == "CFGNorm" else {})).out(0)
    graph.sweep(seed=1200, prompts="in the rain", strengths="0.8", checkpoints="sweep/mira_000001000.safetensors", cfg=2.0, width=64, height=64)
    run, counts = counted(graph)
    assert counts["sample"] == 4 and any("functions that other nodes have put on the model" in note for note in report(good(run))["notes"])


def test_a_checkpoint_that_cannot_be_used_is_marked_and_the_rest_goes_on(host):
    folder = host.base / "models" / "loras" / "mixed"
    files.write_shifting_lora(folder / "good_000000100.safetensors", SHIFT)
    whole = (folder / "good_000000100.safetensors").read_bytes()
    (folder / "good_000000200.safetensors").write_bytes(whole[:-100])
    (folder / "good_000000300.safetensors").write_bytes(b"no LoRA at all")
    files.write_flux_lora(folder / "good_000000400.safetensors")
    graph = SweepGraph()
    graph.sweep(checkpoints="mixed/", seeds=1, strengths="0.8", prompts="a woman", seed=500)
    told = report(good(host.run(graph)))
    assert [cell["checkpoint"] for cell in told["cells"]] == ["no LoRA", "good_000000100"] and told["suggestion"]["checkpoint"] == "good_000000100"
    assert sorted(told["failed"]) == ["good_000000200", "good_000000300", "good_000000400"]
    assert "matches nothing in this model; it is a LoRA for Flux" in told["failed"]["good_000000400"]
    graph["sweep"]["inputs"]["checkpoints"] = "mixed/good_000000400.safetensors"
    assert "No checkpoint can be used; good_000000400: good_000000400.safetensors matches nothing" in host.run(graph).error


def test_where_no_picture_shows_a_face_nothing_is_suggested_and_nothing_hangs_on_it_runs(host):
    graph = SweepGraph()
    graph["painted"]["inputs"]["lost"] = -1e3
    node = graph.sweep(seeds=1, strengths="0.8", seed=600)
    graph.tell("lora", node.out(LORA))
    run = good(host.run(graph))
    assert report(run)["suggestion"] == {
        "checkpoint": None,
        "strength": None,
        "reason": "No picture with a LoRA shows a face that can be judged, so nothing is suggested.",
    }
    assert not run.texts("lora") and all(cell["no face"] == 1 for cell in report(run)["cells"])


def test_the_suggested_file_goes_into_a_lora_loader(host):
    graph = SweepGraph()
    node = graph.sweep(seeds=1, strengths="0.8", seed=700)
    for name, loader, strength in (("hosts", "LoraLoaderModelOnly", "strength_model"), ("own", "LikenessLora", "strength")):
        wires = {"lora_name" if loader != "LikenessLora" else "lora": node.out(LORA), strength: node.out(STRENGTH)}
        more = {"role": "character", "trigger": node.out(TRIGGER)} if loader == "LikenessLora" else {}
        model = graph.add(name, loader, model=graph.model, **wires, **more).out(0)
        positive = graph.add(f"{name} text", "CLIPTextEncode", clip=graph.clip, text="m1ra in a kitchen").out(0)
        latent = graph.add(f"{name} latent", "EmptySD3LatentImage", width=256, height=256, batch_size=1).out(0)
        settings = {"steps": 2, "cfg": 1.0, "seed": 700, "denoise": 1.0, "sampler_name": "euler", "scheduler": "simple"}
        sampled = graph.add(f"{name} sample", "KSampler", model=model, positive=positive, negative=positive, latent_image=latent, **settings).out(0)
        graph.add(f"{name} digest", "TestDigest", images=graph.add(f"{name} decode", "VAEDecode", samples=sampled, vae=graph.vae).out(0))
    run = good(host.run(graph))
    assert run.texts("hosts digest") == run.texts("own digest") != []


def test_flux_with_guidance_and_a_lora_for_its_text_encoder_is_bit_for_bit_what_the_hosts_own_nodes_make(host, flux):
    tensors = files._Weights(3)
    for name, shape in {
        "lora_unet_double_blocks_0_img_attn_qkv": (3 * flux_files.HIDDEN, flux_files.HIDDEN),
        "lora_te1_text_model_encoder_layers_0_mlp_fc2": (flux_files.POOLED, 4 * flux_files.POOLED),
    }.items():
        files._low_rank(tensors, name, shape, 2, 1.0, "lora_down", "lora_up")
    tensors.write(flux.base / "models" / "loras" / "flux_both_000000100.safetensors")
    graph = SweepGraph(painted=False)
    graph.add("unet", "UNETLoader", unet_name=flux_files.DEV, weight_dtype="default")
    graph.add("clip", "DualCLIPLoader", clip_name1=flux_files.CLIP_L, clip_name2=flux_files.T5, type="flux", device="default")
    graph.add("vae", "VAELoader", vae_name=flux_files.AE)
    chosen = {"checkpoints": "flux_both_000000100.safetensors", "strengths": "0.7", "prompts": "a woman in the rain\na woman in the sun", "seeds": 1}
    graph.sweep(**chosen, guidance=2.5, save_as="flux/sweep", save_pictures=True)
    told = report(good(flux.run(graph)))
    assert told["cells"][1]["from no LoRA"] > 0
    folder = flux.base / "output" / "flux" / "sweep_pictures"
    own = [np.asarray(Image.open(path)) for name in ("no_lora", "flux_both") for path in sorted(folder.glob(f"{name}*.png"))]
    theirs = Graph()
    model = theirs.add("unet", "UNETLoader", unet_name=flux_files.DEV, weight_dtype="default").out(0)
    clip = theirs.add("clip", "DualCLIPLoader", clip_name1=flux_files.CLIP_L, clip_name2=flux_files.T5, type="flux", device="default").out(0)
    vae = theirs.add("vae", "VAELoader", vae_name=flux_files.AE).out(0)
    both = theirs.add("lora", "LoraLoader", model=model, clip=clip, lora_name="flux_both_000000100.safetensors", strength_model=0.7, strength_clip=0.7)
    shown = []
    for kind, (own_model, own_clip) in {"bare": (model, clip), "with": (both.out(0), both.out(1))}.items():
        for place in ("rain", "sun"):
            text = theirs.add(f"{kind} {place}", "CLIPTextEncode", clip=own_clip, text=f"a woman in the {place}").out(0)
            guided = theirs.add(f"{kind} {place} guided", "FluxGuidance", conditioning=text, guidance=2.5).out(0)
            latent = theirs.add(f"{kind} {place} latent", "EmptySD3LatentImage", width=256, height=256, batch_size=1).out(0)
            settings = {"steps": 2, "cfg": 1.0, "seed": 5, "denoise": 1.0, "sampler_name": "euler", "scheduler": "simple"}
            wires = {"model": own_model, "positive": guided, "negative": guided, "latent_image": latent}
            sampled = theirs.add(f"{kind} {place} sampled", "KSampler", **wires, **settings).out(0)
            shown.append(f"{kind} {place} shown")
            theirs.show(shown[-1], theirs.add(f"{kind} {place} decoded", "VAEDecode", samples=sampled, vae=vae).out(0))
    run = good(flux.run(theirs))
    for mine, name in zip(own, shown, strict=True):
        assert np.array_equal(mine, run.pictures(name)[0]), name


BAD = {
    "an empty line": ({"checkpoints": ""}, "No LoRA is named: write the folder of your checkpoints below models/loras, or one file a line."),
    "an empty folder": ({"checkpoints": "nothing/"}, "'nothing/' is neither a LoRA nor a folder of LoRAs in models/loras; put the .safetensors files there and press R."),
    "words for strengths": ({"strengths": "strong"}, "'strong' in strengths is no number; write numbers such as 0.6, 0.8, 1.0, or a range such as 0.6..1.0."),
    "too many": ({"seeds": 64, "strengths": "0.1..2.0", "limit": 600}, "3 checkpoints x 20 strengths x 2 prompts x 64 seeds, and 128 without a LoRA), the limit is 600"),
    "another size": ({"width": 250}, "The pictures would be 250x256; both sides must be multiples of 16 from 64 to 8192."),
    "no such cell": ({"pick": "mira at 2", "seeds": 1}, "pick is 'mira at 2', and no cell of the sweep is that; write for example: mira_000000500 at 0.4."),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(host, name):
    inputs, sentence = BAD[name]
    graph = SweepGraph()
    graph.sweep(**inputs)
    assert sentence in (host.run(graph).error or "")


def test_without_an_identity_the_host_says_so(host):
    graph = SweepGraph()
    graph.sweep()
    del graph["sweep"]["inputs"]["identity"]
    assert "identity" in host.run(graph).error
