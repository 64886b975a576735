"""Workflows in API form: in step with the workflows of the editor, filled by rule, and what is said when a host lacks something."""

import json
import re
import shlex

import pytest
from PIL import Image

from character_likeness.nodes import api_forms, terminal, terminal_run
from character_likeness.nodes.api_forms import Filling, Form, fields_of, missing
from character_likeness.nodes.errors import InputError
from character_likeness.nodes.scene import presets
from tests.browser import api_forms as script
from tests.conftest import ROOT

NAMES = script.names()
BYPASSED, MUTED = 4, 2
NOTES = ("MarkdownNote", "Note")
REFRESH = "out of date: run `python -m tests.browser.api_forms` (or, where fields.json alone is, with --fields)"


def form_of(prompt: dict) -> Form:
    return Form("mine", {id_: {"class_type": kind, "inputs": inputs, "_meta": {"title": title}} for id_, (kind, title, inputs) in prompt.items()})


# --- in step with the workflows ---


def test_every_workflow_has_an_api_form_and_an_entry_and_there_are_no_others():
    assert {path.stem for path in script.FORMS.glob("*.json")} - {"fields"} == set(NAMES), REFRESH
    assert list(json.loads(script.FIELDS.read_text(encoding="utf-8"))) == NAMES, REFRESH


def links_of(workflow: dict) -> dict[tuple[str, str], list]:
    """(node, input) -> [node, output] as the host gets them: past nodes that are bypassed."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}

    def origin(link: int) -> list | None:
        _, node, output, *_, kind = links[link]
        if nodes[node]["mode"] == MUTED:
            return None
        if nodes[node]["mode"] != BYPASSED:
            return [str(node), output]
        through = [slot["link"] for slot in nodes[node]["inputs"] if slot["type"] == kind and slot.get("link") is not None]
        return origin(through[0]) if through else None

    found = {}
    for node in workflow["nodes"]:
        for slot in node.get("inputs", ()):
            if slot.get("link") is not None and (source := origin(slot["link"])):
                found[str(node["id"]), slot["name"]] = source
    return found


def values_of(node: dict) -> dict:
    """The widgets that the host gets: those that are inputs and are not wired, without buttons."""
    slots = [slot for slot in node.get("inputs", ()) if slot.get("widget") and slot["type"] != "IMAGEUPLOAD"]
    values = node.get("widgets_values_named") or dict(zip((slot["name"] for slot in slots), node.get("widgets_values") or ()))
    return {slot["name"]: values[slot["name"]] for slot in slots if slot.get("link") is None and slot["name"] in values}


@pytest.mark.parametrize("name", NAMES)
def test_an_api_form_has_the_nodes_widgets_and_links_of_its_workflow(name):
    workflow, prompt = script.workflow_of(name), api_forms.read(script.FORMS / f"{name}.json")
    lora = json.loads(script.FIELDS.read_text(encoding="utf-8"))[name].get("lora") or {"nodes": {}, "links": {}}
    there = {str(node["id"]): node for node in workflow["nodes"] if node["type"] not in NOTES and node["mode"] != MUTED}
    active = {id_: node for id_, node in there.items() if node["mode"] != BYPASSED}
    assert set(prompt) == set(active), REFRESH
    assert set(lora["nodes"]) == {id_ for id_ in set(there) - set(active) if there[id_]["type"] == api_forms.LORA}, REFRESH
    links = links_of(workflow)
    for id_, node in {**prompt, **lora["nodes"]}.items():
        assert node["class_type"] == there[id_]["type"], REFRESH
        assert there[id_].get("title") in (None, node["_meta"]["title"]), REFRESH
        wired = {key: value for key, value in node["inputs"].items() if isinstance(value, list)}
        assert wired == {key: source for (of, key), source in links.items() if of == id_}, REFRESH
        # The editor adds what a node has got since the workflow was saved, as it stands at first.
        newer = set(node["inputs"]) - {slot["name"] for slot in there[id_].get("inputs", ())}
        assert {key: value for key, value in node["inputs"].items() if key not in wired and key not in newer} == values_of(there[id_]), REFRESH


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_in_fields_json_is_what_rules_and_workflow_say(name):
    entry = json.loads(script.FIELDS.read_text(encoding="utf-8"))[name]
    prompt = api_forms.read(script.FORMS / f"{name}.json")
    assert entry == json.loads(json.dumps(script.described(name, prompt, entry.get("lora")))), REFRESH
    assert entry["what"]


@pytest.mark.parametrize("name", NAMES)
def test_every_slot_is_an_input_with_a_value_and_every_picture_has_an_option(name):
    form = api_forms.find(name)
    prompt = api_forms.with_lora(form.prompt, form.lora) if form.lora else form.prompt
    for option, slots in vars(form.fields).items():
        for slot in slots:
            id_, key = slot.split(".", 1)
            assert not isinstance(prompt[id_]["inputs"][key], list), (option, slot)
    loaded = {f"{id_}.image" for id_, node in prompt.items() if node["class_type"] == "LoadImage"}
    assert {*form.fields.reference, *form.fields.picture} == loaded


def test_the_aspects_are_those_of_the_scene_node():
    assert tuple(presets.ASPECTS) == api_forms.ASPECTS and presets.CUSTOM_SIZE == api_forms.CUSTOM


# --- which one is meant ---


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("flux", "Flux IP-Adapter face"),
        ("QWEN 2512 + reactor", "Qwen 2512 + ReActor"),
        ("qwen 2512 + reactor (", "Qwen 2512 + ReActor (fast 4 steps)"),
        (" Two  characters", "Two characters, one scene"),
    ],
)
def test_a_workflow_is_found_by_the_beginning_of_its_name_and_a_whole_name_wins(text, name):
    assert api_forms.find(text).name == name


def test_a_beginning_of_several_names_them_and_an_unknown_name_names_all():
    with pytest.raises(InputError, match=r"'Qwen 2512' is the beginning of Qwen 2512 \+ character LoRA, Qwen 2512 \+ ReActor, .*; write more of the name\."):
        api_forms.find("Qwen 2512")
    with pytest.raises(InputError, match=r"There is no workflow 'nothing'; there are .*Character LoRA dataset, .*, or name a .json file"):
        api_forms.find("nothing")
    with pytest.raises(InputError, match="There is no workflow ''"):
        api_forms.find("")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is no JSON file"),
        ("[" * 100_000, "is no JSON file"),
        ('{"nodes": [], "links": []}', "as the editor saves it; export it in API form"),
        ("{}", "is no workflow in API form"),
        ('{"1": {"inputs": {}}}', "is no workflow in API form"),
        ('{"1": {"class_type": "A", "inputs": []}}', "is no workflow in API form"),
        ("[]", "is no workflow in API form"),
    ],
)
def test_a_file_that_is_no_api_form_is_refused_with_the_way_to_one(tmp_path, content, sentence):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(InputError, match=sentence):
        api_forms.find(str(tmp_path / "mine.json"))
    with pytest.raises(InputError, match="cannot be read"):
        api_forms.find(str(tmp_path / "absent.json"))


def test_a_file_of_ones_own_is_taken_bare_or_as_a_whole_request(tmp_path):
    node = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
    for name, content in (("bare", node), ("request", {"prompt": node, "client_id": "x"})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        form = api_forms.find(str(tmp_path / f"{name}.json"))
        assert (form.prompt, form.name, form.fields.picture) == (node, name, ("1.image",))


# --- which inputs an option fills ---


def test_prompts_are_told_from_negatives_through_what_lies_between_encoder_and_sampler():
    fields = form_of(
        {
            "1": ("CLIPTextEncode", "", {"text": "yes", "clip": ["9", 0]}),
            "2": ("CLIPTextEncode", "", {"text": "no", "clip": ["9", 0]}),
            "3": ("ControlNetApplyAdvanced", "", {"positive": ["1", 0], "negative": ["2", 0], "strength": 1.0}),
            "4": ("KSampler", "", {"positive": ["3", 0], "negative": ["3", 1], "seed": 3, "latent_image": ["5", 0]}),
            "5": ("EmptyLatentImage", "", {"width": 512, "height": 768, "batch_size": 1}),
            "9": ("CLIPLoader", "", {}),
        }
    ).fields
    assert fields.prompt == ("1.text",) and fields.negative == ("2.text",)
    assert (fields.seed, fields.aspect) == (("4.seed",), ("5.width", "5.height"))


def test_texts_and_seeds_are_found_in_primitives_guiders_and_noise():
    fields = form_of(
        {
            "10": ("PrimitiveStringMultiline", "", {"value": "a scene"}),
            "2": ("CLIPTextEncode", "", {"text": ["10", 0], "clip": ["9", 0]}),
            "3": ("FluxGuidance", "", {"conditioning": ["2", 0], "guidance": 3.5}),
            "4": ("BasicGuider", "", {"conditioning": ["3", 0], "model": ["9", 0]}),
            "5": ("RandomNoise", "", {"noise_seed": 4}),
            "6": ("SamplerCustomAdvanced", "", {"guider": ["4", 0], "noise": ["5", 0]}),
            "9": ("CLIPLoader", "", {}),
        }
    ).fields
    assert (fields.prompt, fields.negative, fields.seed) == (("10.value",), (), ("5.noise_seed",))


def test_the_words_that_are_zeroed_for_the_negative_stay_the_prompts():
    fields = form_of(
        {
            "1": ("CLIPTextEncode", "", {"text": "yes", "clip": ["9", 0]}),
            "2": ("ConditioningZeroOut", "", {"conditioning": ["1", 0]}),
            "4": ("KSampler", "", {"positive": ["1", 0], "negative": ["2", 0], "seed": ["7", 0]}),
            "9": ("CLIPLoader", "", {}),
        }
    ).fields
    assert (fields.prompt, fields.negative, fields.seed) == (("1.text",), (), ())


def test_a_reference_is_found_through_scaling_but_not_behind_what_makes_a_picture():
    fields = form_of(
        {
            "1": ("LoadImage", "", {"image": "a.png"}),
            "2": ("ImageScale", "", {"image": ["1", 0]}),
            "3": ("LikenessCharacterReferences", "", {"face": ["2", 0], "vae": ["9", 0]}),
            "4": ("LoadImage", "", {"image": "b.png"}),
            "5": ("LikenessQwenScene", "", {"scene": "x", "source": ["4", 0], "seed": 1, "aspect_ratio": "1:1", "negative": ""}),
            "6": ("LikenessCharacterReferences", "", {"face": ["5", 0]}),
            "7": ("LikenessQwenScene", "", {"scene": "y", "references": ["6", 0], "seed": 1, "aspect_ratio": "match source", "negative": ""}),
        }
    ).fields
    assert (fields.reference, fields.picture) == (("1.image",), ("4.image",))
    # The second step works on what the first made: its words and its size are its own.
    assert fields.prompt == ("5.scene",) and fields.aspect == ("5.aspect_ratio",) and fields.seed == ("5.seed", "7.seed")


def test_a_text_about_something_else_is_left_and_the_same_text_elsewhere_is_filled():
    fields = form_of(
        {
            "1": ("LikenessShotList", "", {"scenes": "four portraits"}),
            "2": ("LikenessQwenScene", "", {"scene": "", "shots": ["1", 0], "seed": 1}),
            "3": ("LikenessShotList", "", {"scenes": "in a kitchen"}),
            "4": ("LikenessQwenScene", "", {"scene": "", "shots": ["3", 0], "seed": 1}),
            "5": ("CLIPTextEncode", "", {"text": "four portraits", "clip": ["9", 0]}),
            "6": ("KSampler", "", {"positive": ["5", 0], "negative": ["8", 0], "seed": 3}),
            "7": ("LikenessLora", "", {"lora": ["9", 0], "role": "character"}),
            "8": ("CLIPTextEncode", "", {"text": ["2", 1], "clip": ["9", 0]}),
            "9": ("CLIPLoader", "", {}),
        }
    ).fields
    assert fields.prompt == ("1.scenes", "5.text") and fields.lora == () and fields.negative == ()


def test_a_sweep_takes_prompts_seed_and_aspect():
    sweep = {"prompts": "a\nb", "seed": 1, "seeds": 2, "width": 1024, "height": 1344, "negative": "", "lora": "x"}
    fields = form_of({"3": ("LikenessLoraSweep", "", sweep)}).fields
    assert (fields.prompt, fields.negative, fields.seed) == (("3.prompts",), ("3.negative",), ("3.seed",))
    assert fields.aspect == ("3.width", "3.height")


def test_circles_and_links_into_nothing_end():
    nodes = {"1": ("KSampler", "", {"positive": ["2", 0], "negative": ["gone", 0]}), "2": ("Join", "", {"a": ["3", 0]}), "3": ("Join", "", {"a": ["2", 0]})}
    assert fields_of(form_of(nodes).prompt) == api_forms.Fields()


# --- filling ---


@pytest.fixture
def scene():
    return Filling(api_forms.find("Qwen character scene (2511)"))


def test_one_option_fills_every_input_that_it_stands_for_and_the_shipped_form_stays(scene):
    scene.text("prompt", "on a beach")
    scene.text("negative", "blur")
    scene.seed(7)
    scene.aspect("9:16")
    inputs = scene.prompt["7"]["inputs"]
    assert [inputs[name] for name in ("scene", "negative", "seed", "aspect_ratio")] == ["on a beach", "blur", 7, "9:16"]
    assert scene.filled == {"7.scene": "on a beach", "7.negative": "blur", "7.seed": 7, "7.aspect_ratio": "9:16"}
    assert scene.form.prompt["7"]["inputs"]["seed"] == 1


def test_an_aspect_that_the_node_does_not_name_is_a_custom_size_of_as_many_pixels(scene):
    scene.aspect("1:2")
    inputs = scene.prompt["7"]["inputs"]
    assert (inputs["aspect_ratio"], inputs["width"], inputs["height"]) == ("custom", 736, 1440)
    assert abs(736 * 1440 / (1024 * 1024) - 1) < 0.02


@pytest.mark.parametrize(("aspect", "size"), [("9:16", (768, 1376)), ("16:9", (1376, 768)), ("1:1", (1024, 1024)), ("1.85:1", (1408, 768))])
def test_an_empty_latent_keeps_its_area_in_multiples_of_32(aspect, size):
    flux = Filling(api_forms.find("flux"))
    flux.aspect(aspect)
    inputs = flux.prompt["11"]["inputs"]
    assert (inputs["width"], inputs["height"]) == size
    assert abs(size[0] * size[1] / 1024**2 - 1) < 0.05 and not any(side % 32 for side in size)


@pytest.mark.parametrize("aspect", ["wide", "0:1", "16:", "-1:2", "1:9", "100:1", "1:1:1", "nan:1", "99999999:1"])
def test_what_is_no_aspect_is_refused(scene, aspect):
    with pytest.raises(InputError, match="is not WIDTH:HEIGHT"):
        scene.aspect(aspect)


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_outside_of_what_hosts_take_is_refused(scene, seed):
    with pytest.raises(InputError, match=r"The seed -?\d+ must lie between 0 and 18446744073709551615"):
        scene.seed(seed)


def test_an_option_that_a_workflow_does_not_take_is_refused():
    gate = Filling(api_forms.find("Identity gate"))
    with pytest.raises(InputError, match="Identity gate has nothing that --prompt could fill"):
        gate.text("prompt", "x")
    with pytest.raises(InputError, match=r"Identity gate takes 3 file\(s\) with --picture \(Picture to judge 1; Picture to judge 2; .*\), and 2 are given"):
        gate.check_files("picture", 2)
    with pytest.raises(InputError, match="has nothing that --lora could fill"):
        gate.lora("x.safetensors")


def test_the_lora_that_is_bypassed_is_switched_on_where_the_editor_would_put_it():
    filling = Filling(api_forms.find("Qwen 2512 + character LoRA"))
    assert not any(node["class_type"] == api_forms.LORA for node in filling.prompt.values())
    filling.lora("mira.safetensors")
    filling.set("Character LoRA (choose yours, then un-bypass).strength=0.8")
    (own,) = (id_ for id_, node in filling.prompt.items() if node["class_type"] == api_forms.LORA)
    (scene,) = (node for node in filling.prompt.values() if node["class_type"] == api_forms.SCENE)
    assert scene["inputs"]["model"] == [own, 0]
    assert (filling.prompt[own]["inputs"]["lora"], filling.prompt[own]["inputs"]["strength"]) == ("mira.safetensors", 0.8)
    assert filling.prompt[own]["inputs"]["model"] == filling.form.prompt["7"]["inputs"]["model"]


@pytest.mark.parametrize(
    ("text", "slot", "value"),
    [
        ("7.megapixels=0.5", "7.megapixels", 0.5),
        ("Qwen Character Scene.max_takes=2", "7.max_takes", 2),
        ("likenessqwenscene.scene=a=b.c", "7.scene", "a=b.c"),
        ("7.seed=12345678901234567890", "7.seed", 12345678901234567890),
        ("7.scene=3", "7.scene", "3"),
        ("7.preset=custom", "7.preset", "custom"),
        ("7.preset.steps=2", "7.preset.steps", 2),
        ("7.preset.sampler=euler", "7.preset.sampler", "euler"),
        ("Passed: saved.filename_prefix=a/b", "11.filename_prefix", "a/b"),
    ],
)
def test_set_reaches_any_input_and_keeps_its_kind(scene, text, slot, value):
    scene.set(text)
    id_, name = slot.split(".", 1)
    found = scene.prompt[id_]["inputs"][name]
    assert found == value and type(found) is type(value)


def test_set_keeps_switches_switches():
    filling = Filling(form_of({"1": ("A", "Node v1.5", {"on": True, "number": 1.5})}))
    filling.set("Node v1.5.on=false")
    assert filling.prompt["1"]["inputs"]["on"] is False
    with pytest.raises(InputError, match="this input takes true or false, not 'maybe'"):
        filling.set("1.on=maybe")
    with pytest.raises(InputError, match="this input takes a number, not 'nan'"):
        filling.set("1.number=nan")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("7", "is not NODE.INPUT=VALUE"),
        ("seed=3", "is not NODE.INPUT=VALUE"),
        ("99.seed=3", r"Qwen character scene \(2511\) has no node '99'"),
        ("7.sead=3", r"Qwen Character Scene \(7\) has no input 'sead'; it has scene, "),
        ("7.model=x", r"'model' of Qwen Character Scene \(7\) comes from another node; set it there \(1\)"),
        ("7.seed=one", "this input takes a number, not 'one'"),
        ("PreviewImage.images=1", r"'PreviewImage' are the nodes 12, 13; name one by its number"),
    ],
)
def test_a_set_that_cannot_be_done_says_why(scene, text, sentence):
    with pytest.raises(InputError, match=sentence):
        scene.set(text)


# --- what a host lacks ---

INFO = {
    "UNETLoader": {"input": {"required": {"unet_name": [["other.safetensors"]]}}},
    "LikenessLoadFluxIPAdapter": {"input": {"required": {"ipadapter": ["COMBO", {"options": ["x"]}], "clip_vision": ["COMBO", {"options": []}]}}},
    "LoadImage": {"input": {"required": {"image": [["example.png"], {"image_upload": True}]}}},
    "Dynamic": {
        "input": {
            "required": {
                "preset": [
                    "COMFY_DYNAMICCOMBO_V3",
                    {"options": [{"key": "a", "inputs": {}}, {"key": "b", "inputs": {"required": {"file": ["COMBO", {"options": ["1.pt"]}]}}}]},
                ]
            }
        }
    },
}


def test_missing_nodes_and_files_are_a_sentence_each_with_what_to_do():
    form = api_forms.find("flux")
    sentences = missing(form.prompt, INFO, form.models)
    assert (
        "The host has no node LikenessApplyFluxIPAdapter: install Likeness there with ComfyUI Manager, or bring it up to date, and restart ComfyUI."
        in sentences
    )
    assert "The host has no node FluxGuidance: bring its ComfyUI to 0.33 or newer, or install the pack that has it, and restart ComfyUI." in sentences
    (unet,) = [one for one in sentences if one.startswith("Load Diffusion Model needs")]
    assert unet == (
        "Load Diffusion Model needs the file flux1-dev.safetensors (unet_name), which the host does not have: download "
        "https://huggingface.co/Comfy-Org/flux1-dev/resolve/main/flux1-dev.safetensors as flux1-dev.safetensors into its models/diffusion_models."
    )
    (adapter,) = [one for one in sentences if "(ipadapter)" in one]
    assert adapter.endswith("run `likeness models download flux-ip-adapter-v2` there, which puts it into models/xlabs/ipadapters.")
    assert len(sentences) == len(set(sentences))


def test_a_picture_that_is_uploaded_or_lies_in_a_folder_is_not_missed():
    prompt = form_of({"1": ("LoadImage", "Face", {"image": "her.png"}), "2": ("LoadImage", "", {"image": "likeness/her.png"})}).prompt
    assert missing(prompt, INFO, given=["1.image"]) == []
    assert missing(prompt, INFO) == ["Face names her.png, which is not in the host's input folder: name a file of yours with --reference or --picture."]


def test_the_files_of_a_chosen_option_are_looked_for_and_those_of_others_are_not():
    def lacks(**inputs):
        return missing(form_of({"1": ("Dynamic", "", inputs)}).prompt, INFO)

    assert lacks(preset="a", **{"preset.file": "2.pt"}) == [] == lacks(preset="b", **{"preset.file": "1.pt"})
    assert lacks(preset="b", **{"preset.file": "2.pt"}) == [
        "Dynamic needs the file 2.pt (preset.file), which the host does not have: put it into its models folder, or choose another with --set."
    ]


# --- what README.md says ---

README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUESTS = ("/qwen-faceswap", "/qwen-faceswap-fast", "/qwen-character-scene", "/qwen-image-2512-lora", "/flux-ipadapter-faceid")


def commands() -> list[str]:
    """Every `likeness run` command of README.md, in code blocks with its continued lines and in tables."""
    joined = README.replace("\\\n", " ")
    return [line.strip() for line in re.findall(r"^likeness run .+$", joined, re.M)] + re.findall(r"`(likeness run [^`]+)`", joined)


@pytest.mark.parametrize("command", commands())
def test_the_commands_in_readme_name_workflows_and_inputs_that_are_there(command, tmp_path, monkeypatch):
    options = terminal._parser().parse_args(shlex.split(command)[1:])
    monkeypatch.chdir(tmp_path)
    if options.name and options.name.endswith(".json"):
        (tmp_path / options.name).write_text(json.dumps(api_forms.find("Identity gate").prompt))
    form = api_forms.find(options.name) if options.name else None
    for file in (*options.reference, *options.picture):
        Image.new("RGB", (8, 8)).save(tmp_path / file)
    if form:
        filling, uploads = terminal_run._filled(form, options)
        assert len(uploads) == len(options.reference) + len(options.picture)
        assert options.list or options.out
        assert filling.filled or uploads or options.list


def test_readme_has_a_command_for_each_request_of_a_hosted_deployment():
    rows = {row.split("|")[1].strip().strip("`"): row for row in README.splitlines() if row.startswith("| `/")}
    assert set(REQUESTS) <= set(rows)
    for request in REQUESTS:
        assert re.search(r"`likeness run [^`]+`", rows[request]), request
        (name,) = [name for name in NAMES if f"| {name} |" in rows[request]]
        assert api_forms.find(shlex.split(re.search(r"`(likeness run [^`]+)`", rows[request])[1])[2]).name == name
