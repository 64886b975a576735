"""The panel of Cast Gate and of LoRA Sweep in the real editor, after real runs: what it shows, line and pins, in both ways of drawing nodes.

test_panel.py has what is the same for every node with a panel, on Identity Gate.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.browser import editor as browser
from tests.browser.test_panel import LINE, PANEL, TILE, count, drag_line, inputs, look_at, pinned, run, told, verdicts
from tests.browser.test_takes_in_editor import HELPERS
from tests.conftest import ROOT, comfyui_root
from tests.host.test_lora_sweep import BEST, CHECKPOINTS
from tests.tiny import qwen_models as files
from tests.tiny.drawn_faces import EDDA, MIRA, TOMAS, portrait

pytestmark = [pytest.mark.browser, pytest.mark.dlib, pytest.mark.insightface]

CAST, SWEEP = "LikenessCastGate", "LikenessLoraSweep"


@pytest.fixture(scope="module")
def host(tmp_path_factory, face_packs):
    """A host that counts what it samples, decodes and encodes, and how often a detector looks; with all that both graphs need."""
    from tests.host.comfy import Comfy

    tiny = ROOT / "tests" / "tiny"
    running = Comfy(comfyui_root(), ROOT, tmp_path_factory.mktemp("panels"), extra=(tiny / "qwen_host", tiny / "looks_host"))
    models = running.base / "models"
    files.write_dit(models / "diffusion_models" / files.IMAGE_2512, **files.DIFFUSION_MODELS[files.IMAGE_2512])
    files.write_text_encoder(models / "text_encoders" / files.TEXT_ENCODER)
    files.write_vae(models / "vae" / files.VAE)
    for name, shift in CHECKPOINTS.items():
        files.write_shifting_lora(models / "loras" / "sweep" / f"{name}.safetensors", shift)
    face_packs.write_pack(models / "insightface" / "models" / "antelopev2", "antelopev2")
    painted = face_packs.background(256, 256)
    face_packs.paint(painted, 2, 72, 72, 112)
    mira, tomas = portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b"), portrait(TOMAS, background="#d9c9a8", clothes="#31572c")
    for name, pixels in {
        "mira.png": portrait(MIRA),
        "tomas.png": portrait(TOMAS),
        "both.png": np.concatenate([mira, tomas], axis=1),
        "mira_and_edda.png": np.concatenate([mira, portrait(EDDA, background="#d9c9a8")], axis=1),
        "mira_alone.png": mira,
        "painted.png": painted,
    }.items():
        running.upload(name, np.ascontiguousarray(pixels))
    yield running
    running.stop()


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "Nodes 2.0"])
def editor(request, host):
    with browser.editor(host.url, vue=request.param) as opened:
        opened.vue = request.param
        yield opened


# A cleared graph gives the same ids anew, and the editor still knows what the inputs of those were set to.
AT_FIRST = """
    const AT_FIRST = { strictness: 'standard', threshold: 0.5, pins: '' }
"""
CAST_GRAPH = (
    """() => {"""
    + HELPERS
    + AT_FIRST
    + """
    const gate = add('LikenessCastGate', 1100, 0, AT_FIRST), many = add('CreateList', 700, 500)
    for (const [i, name] of ['Mira', 'Tomas'].entries()) {
        const face = add('LoadImage', 0, i * 450, { image: `${name.toLowerCase()}.png` }), who = add('LikenessBuildIdentity', 350, i * 450, { name })
        link(face, 'IMAGE', who, 'images'); link(who, 'identity', gate, `identities.identity${i}`)
    }
    for (const [i, image] of ['both.png', 'mira_and_edda.png', 'mira_alone.png'].entries()) {
        link(add('LoadImage', i * 350, 950, { image }), 'IMAGE', many, `inputs.input${i}`)
    }
    link(many, 'list', gate, 'image')
    for (const [i, side] of ['passed', 'rejected'].entries()) {
        const preview = add('PreviewImage', 1700, i * 400)
        preview.title = side
        link(gate, side, preview, 'images')
    }
}"""
)
SWEEP_GRAPH = (
    """([unet, clip, vae, best]) => {"""
    + HELPERS
    + AT_FIRST
    + """
    const sweep = add('LikenessLoraSweep', 1100, 0, {
        checkpoints: 'sweep/', trigger: 'm1ra', strengths: '0.4', prompts: '{trigger} in a kitchen\\n{trigger} on a beach', seed: 5, width: 128,
        height: 128, steps: 2, save_as: '', ...AT_FIRST,
    })
    const face = add('LoadImage', 0, 600, { image: 'painted.png' }), recognizer = add('LikenessLoadRecognizer', 0, 1050, { recognizer: 'antelopev2' })
    const who = add('LikenessBuildIdentity', 350, 600, { name: 'Mira' }), painted = add('TestPaintedFaces', 700, 300, { identity: 2, best, lost: 1000 })
    link(face, 'IMAGE', who, 'images'); link(recognizer, 'recognizer', who, 'recognizer'); link(who, 'identity', sweep, 'identity')
    link(add('UNETLoader', 0, 0, { unet_name: unet }), 'MODEL', sweep, 'model')
    link(add('CLIPLoader', 0, 150, { clip_name: clip, type: 'qwen_image' }), 'CLIP', sweep, 'clip')
    link(add('VAELoader', 0, 350, { vae_name: vae }), 'VAE', painted, 'vae'); link(painted, 'VAE', sweep, 'vae')
}"""
)


@pytest.fixture
def cast(editor):
    """Cast Gate after a run over Mira with Tomas, Mira with Edda, and Mira alone."""
    editor.js(CAST_GRAPH)
    yield from after_a_run(editor, CAST, 3)


@pytest.fixture
def sweep(editor):
    """LoRA Sweep after a run: two prompts, without a LoRA and with three checkpoints."""
    editor.js(SWEEP_GRAPH, [files.IMAGE_2512, files.TEXT_ENCODER, files.VAE, BEST])
    yield from after_a_run(editor, SWEEP, 8)


def after_a_run(editor, node_type: str, tiles: int):
    editor.page.wait_for_timeout(300)
    editor.problems.clear()
    run(editor, tiles)
    assert not editor.errors()
    look_at(editor, node_type)
    # Nodes 2.0 places the widgets of a node itself: the panel is where it is seen.
    editor.js(
        f"""() => {{
            app.canvas.ds.offset[1] += (250 - document.querySelector('{PANEL}').getBoundingClientRect().top) / app.canvas.ds.scale
            app.canvas.setDirty(true, true)
        }}"""
    )
    editor.page.wait_for_timeout(300)
    yield editor
    assert [problem for problem in editor.problems if "likeness" in problem.lower()] == []


def names(editor) -> list[str]:
    """What a screen reader calls the pictures."""
    return editor.js(f"() => [...document.querySelectorAll('{TILE}')].map(tile => tile.ariaLabel)")


def saved(editor, node_type: str) -> dict:
    """The inputs of a node as the saved workflow has them, by name."""
    editor.load(json.loads(json.dumps(editor.workflow())))
    return inputs(editor, node_type)


def seen(editor, name: str) -> None:
    """A screenshot where a person wants to look at it: PANEL_SHOTS names the folder."""
    if folder := os.environ.get("PANEL_SHOTS"):
        editor.screenshot(Path(folder, f"{name} {'nodes2' if editor.vue else 'classic'}.png"))


def pin_by_keys(editor, index: int) -> None:
    """Pin a picture as pass, going to it from the first one with the arrow keys."""
    editor.page.locator(TILE).nth(0).focus()
    for _ in range(index):
        editor.page.keyboard.press("ArrowRight")
    editor.page.keyboard.press("Space")


# --- Cast Gate ---


def test_a_cast_is_shown_whole_with_the_person_who_decides(cast):
    assert names(cast) == ["Picture 1: pass, 0.94", "Picture 2: reject, 0.48", "Picture 3: reject, 1.00"]
    assert cast.page.locator(f"{PANEL} .value").inner_text() == "0.50 standard"
    reasons = ["Mira: score 0.94 reaches 0.50 (standard)", "Tomas: score 0.48 is below 0.50 (standard)", "Tomas missing: 1 face for 2 people"]
    for index, reason in enumerate(reasons):
        cast.page.locator(TILE).nth(index).hover()
        assert cast.page.locator(f"{PANEL} .told").inner_text() == f"Picture {index + 1}: {reason}"
    # Two people side by side are wider than a thumbnail: nobody may be cut off.
    assert cast.js(f"() => [...document.querySelectorAll('{TILE} img')].map(i => getComputedStyle(i).objectFit)") == ["contain"] * 3
    seen(cast, "cast")


def test_line_and_pin_of_a_cast_are_saved_and_the_next_run_uses_them_without_looking_for_a_face(cast, host):
    drag_line(cast, 0.45)
    assert verdicts(cast) == ["pass", "pass", "reject"]
    given = inputs(cast, CAST)
    assert given["strictness"] == "custom" and given["threshold"] == pytest.approx(0.45, abs=0.011)
    # Whoever is missing is missing at any threshold.
    cast.page.locator(LINE).focus()
    cast.page.keyboard.press("Home")
    cast.page.wait_for_function(f"() => document.querySelector('{LINE}').getAttribute('aria-valuenow') === '0'")
    assert verdicts(cast) == ["pass", "pass", "reject"]
    drag_line(cast, 0.45)
    pin_by_keys(cast, 2)
    assert verdicts(cast) == ["pass"] * 3 and pinned(cast) == [None, None, "pass"]
    key = told(cast, CAST)["pictures"][2]["key"]
    assert saved(cast, CAST) == given | {"pins": f"{key} pass"}

    host.post("/test_looks/reset", {})
    run(cast, 3)
    assert host.get("/test_looks") == 0
    shown = told(cast, CAST)
    assert (shown["applied"], shown["strictness"]) == (given["threshold"], "custom") and shown["match_rate"] == {"passed": 1, "n": 3}
    assert shown["pictures"][2]["reason"] == "pinned by hand as pass; the recognizer says reject: Tomas missing: 1 face for 2 people"
    assert verdicts(cast) == ["pass"] * 3 and pinned(cast) == [None, None, "pass"] and count(cast, "passed") == 3


# --- LoRA Sweep ---

CELLS = ["no LoRA", *(f"{name} at 0.4" for name in CHECKPOINTS)]
NAMES = [f"{cell}, prompt {prompt}, seed 5" for cell in CELLS for prompt in (1, 2)]


def test_a_sweep_shows_every_picture_with_its_cell_prompt_and_seed(sweep):
    page = sweep.page
    assert [name.split(": ")[0] for name in names(sweep)] == [f"Picture {name}" for name in NAMES]
    assert [verdict == "pass" for verdict in verdicts(sweep)] == [False] * 4 + [True] * 4
    assert page.locator(f"{TILE} .score").all_inner_texts()[4:] == ["0.48", "0.48", "0.50", "0.50"]
    assert page.locator(f"{PANEL} .value").inner_text() == "0.40 standard"
    # Names that differ only at their ends are read to the end.
    assert page.locator(f"{TILE} .name").all_inner_texts() == NAMES
    cut = f"() => [...document.querySelectorAll('{TILE} .name')].filter(e => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight + 1).length"
    assert sweep.js(cut) == 0
    page.wait_for_function(f"() => [...document.querySelectorAll('{TILE} img')].slice(0, 3).every(i => i.complete && i.naturalWidth > 0)", timeout=20_000)
    seen(sweep, "sweep")
    page.locator(TILE).nth(4).focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog.likeness-large p").inner_text() == f"Picture {NAMES[4]}: pass, 0.48 (5/8)"
    page.keyboard.press("Escape")
    # Grid and plot are the node's own pictures, beside the panel.
    assert sweep.js("type => app.nodeOutputs[app.graph.nodes.find(n => n.type === type).id].images.length", SWEEP) == 2


def test_line_and_pin_of_a_sweep_are_saved_and_the_next_run_uses_them_without_making_or_measuring_a_picture(sweep, host):
    drag_line(sweep, 0.6)
    assert "pass" not in verdicts(sweep) and verdicts(sweep)[4:] == ["reject"] * 4
    given = inputs(sweep, SWEEP)
    assert given["strictness"] == "custom" and given["threshold"] == pytest.approx(0.6, abs=0.011)
    pin_by_keys(sweep, 5)
    assert [index for index, pin in enumerate(pinned(sweep)) if pin] == [5] and verdicts(sweep)[5] == "pass"
    assert sweep.page.locator(f"{PANEL} [role=status]").text_content() == f"Picture {NAMES[5]} pinned as pass"
    key = told(sweep, SWEEP)["pictures"][5]["key"]
    assert saved(sweep, SWEEP) == given | {"pins": f"{key} pass"}

    host.post("/test_counts/reset", {})
    run(sweep, 8)
    # Only latents and scores are kept of a picture: what is not decoded cannot be measured.
    counts = host.get("/test_counts")
    assert counts["sample"] == counts["vae_decode"] == counts["text_encode"] == 0, counts
    shown = told(sweep, SWEEP)
    assert (shown["applied"], shown["strictness"]) == (given["threshold"], "custom") and shown["match_rate"] == {"passed": 4, "n": 6}
    assert shown["pictures"][5]["reason"].startswith("pinned by hand as pass; the recognizer says 0.48, below 0.")
    assert verdicts(sweep)[4:] == ["reject", "pass", "reject", "reject"] and pinned(sweep)[5] == "pass"


def test_the_counters_count(sweep, host):
    """Another seed is made: so counts of none above mean none."""
    host.post("/test_counts/reset", {})
    sweep.set_widget(SWEEP, 0, "prompts", "{trigger} in a kitchen")
    sweep.set_widget(SWEEP, 0, "seed", 6 + sweep.vue)
    run(sweep, 4)
    counts = host.get("/test_counts")
    assert counts["sample"] == counts["vae_decode"] == 4
    assert names(sweep)[0].startswith(f"Picture no LoRA, prompt 1, seed {6 + sweep.vue}: ")
