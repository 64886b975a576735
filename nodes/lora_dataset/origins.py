"""How a picture was made, as far as a workflow tells: its seed, its model and a hash of the workflow, out of a PNG's text or the graph that ran. For the manifest alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..pictures import opened

_SEEDS = ("seed", "noise_seed")
_MODELS = ("ckpt_name", "unet_name", "model_name")
# Nodes that film several shots or takes, whose pictures have seeds of their own.
_OWN_SEEDS = frozenset({"LikenessQwenScene"})


# --- what a generator wrote into a picture ---


def made_by(path: Path) -> Mapping[str, Any]:
    """What a PNG's text says of its making: `workflow`, the SHA-256 of the workflow it carries, `seed` and `model` where there is one of each, `synthetic`.

    Read are ComfyUI's `workflow` and `prompt` and the `parameters` of A1111; {} for a picture without them. The texts themselves stay behind.
    """
    with opened(path, decode=False) as image:
        texts = {name: str(image.info[name]) for name in ("workflow", "prompt", "parameters") if name in image.info} if image.format == "PNG" else {}
    if not texts:
        return {}
    told = next(iter(texts.values()))
    found: dict[str, Any] = {"workflow": hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest(), "synthetic": True}
    seeds, models = set(), set()
    if match := re.search(r"\bSeed: (\d+)", texts.get("parameters", "")):
        seeds.add(int(match[1]))
    if match := re.search(r"\bModel: ([^,\n]+)", texts.get("parameters", "")):
        models.add(match[1].strip())
    for name, value in _all_inputs(texts.get("prompt", "")):
        if name in _SEEDS and type(value) is int:
            seeds.add(value)
        elif name in _MODELS and isinstance(value, str):
            models.add(value)
    return found | _only("seed", seeds) | _only("model", models)


def _all_inputs(prompt: str) -> Iterator[tuple[str, Any]]:
    """The inputs of all nodes in an API prompt; none where it is no such thing."""
    try:
        nodes = json.loads(prompt)
    except (ValueError, RecursionError):
        return
    for node in nodes.values() if isinstance(nodes, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        yield from inputs.items() if isinstance(inputs, dict) else ()


def _only(name: str, values: set) -> dict[str, Any]:
    return {name: next(iter(values))} if len(values) == 1 else {}


# --- the graph that ran ---


def made_in(prompt: Mapping[str, Any] | None, node_id: str, source: str) -> Mapping[str, Any]:
    """What an API prompt says of the pictures that an input of a node is given: `workflow`, the SHA-256 of the node with all that leads to it, `seed` and `model`.

    From the input back, each way is followed to the first node with a seed or with noise. Where that is one node on all of them, which samples a
    model, `seed` is its number, unless that comes out of another node or the node makes several pictures with seeds of their own; `model` is the
    file that its model comes from, unless several names lead there. What is not certain is left out. {} without a prompt.
    """
    if not prompt or node_id not in prompt:
        return {}
    upstream = {name: {"class": prompt[name]["class_type"], "inputs": prompt[name]["inputs"]} for name in _upstream(prompt, [node_id])}
    told = {"workflow": hashlib.sha256(json.dumps(upstream, sort_keys=True).encode()).hexdigest()}
    samplers = [name for name in _upstream(prompt, _linked(prompt, node_id, source), stop=_makes_noise) if _makes_noise(prompt[name]["inputs"])]
    if len(samplers) == 1:
        told |= _sampled(prompt, samplers[0])
    return told


def _makes_noise(inputs: Mapping[str, Any]) -> bool:
    return any(name in inputs for name in (*_SEEDS, "noise"))


def _sampled(prompt: Mapping[str, Any], sampler: str) -> dict[str, Any]:
    node = prompt[sampler]
    weights = [origin for name in ("model", "guider") for origin in _linked(prompt, sampler, name)]
    if not weights:
        # A seed of something else: film grain, a service.
        return {}
    noise = prompt[_linked(prompt, sampler, "noise")[0]]["inputs"] if _linked(prompt, sampler, "noise") else node["inputs"]
    seeds = [noise[name] for name in _SEEDS if name in noise]
    told = {"seed": seeds[0]} if len(seeds) == 1 and type(seeds[0]) is int and node["class_type"] not in _OWN_SEEDS and _adds_noise(node) else {}
    inputs = (item for name in _upstream(prompt, weights, only=("model", "guider")) for item in prompt[name]["inputs"].items())
    return told | _only("model", {value.replace("\\", "/") for name, value in inputs if name in _MODELS and isinstance(value, str)})


def _adds_noise(node: Mapping[str, Any]) -> bool:
    """The second half of a sampling takes over the noise of the first, whatever its seed says."""
    return node["inputs"].get("add_noise", "enable") in ("enable", True)


def _linked(prompt: Mapping[str, Any], node_id: str, source: str) -> list[str]:
    """The node that an input is wired to, in a list; [] where it is wired to none."""
    value = prompt[node_id]["inputs"].get(source)
    return [value[0]] if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and value[0] in prompt else []


def _upstream(prompt: Mapping[str, Any], names: list[str], stop=lambda inputs: False, only: tuple[str, ...] = ()) -> dict[str, None]:
    """These nodes and all that lead to them, in no order that means anything. stop: tells inputs behind which nothing is followed; only: the inputs that are, () for all."""
    waiting, found = list(names), {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = None
        inputs = prompt[name]["inputs"]
        if not stop(inputs):
            waiting += [origin for source in (only or inputs) for origin in _linked(prompt, name, source)]
    return found
