"""The nodes Take Start and Retake until Match: whatever graph lies between them runs again with the next seed until its picture passes."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING

from comfy_api.internal import _ComfyNodeInternal, first_real_override
from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder
from server import PromptServer

import nodes as host_nodes

from .. import host
from ..errors import InputError
from ..host import Frames, LiveNode
from ..tensors import TensorMemory, content_key
from .choices import MOST_TAKES
from .nodes import strictness_inputs

if TYPE_CHECKING:
    from . import scoring
    from .retakes import History, Take

CATEGORY = "likeness/identity"
ALIASES = ["retry", "loop", "until", "best of", "seed search", "while", "ArcFace", "face similarity", "likeness"]

IdentityType = io.Custom("LIKENESS_IDENTITY")
FlowType = io.Custom("LIKENESS_TAKE_FLOW")

# Pictures of takes, by what they depend on: with another strictness they are judged again, not sampled again.
MEMORY = TensorMemory(2**30)


class LikenessTakeStart(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessTakeStart",
            display_name="Take Start",
            category=CATEGORY,
            description="Gives the seed of the take. Everything that depends on it, up to Retake until Match, is run again with the next seed until the picture passes.",
            search_aliases=ALIASES,
            accept_all_inputs=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="The seed of the first take; each further take adds 1.",
                ),
            ],
            outputs=[
                io.Int.Output("seed_out", display_name="seed", tooltip="The seed of this take: wire it to what samples (KSampler, Qwen Character Scene)."),
                io.Int.Output("take", tooltip="The number of this take, from 0."),
                FlowType.Output("flow", tooltip="Wire it to Retake until Match."),
            ],
        )

    @classmethod
    def execute(cls, seed, _take=0, **kwargs) -> io.NodeOutput:
        from .retakes import Flow, seed_of

        flow = Flow(seed, _take, PromptServer.instance.last_prompt_id, time.monotonic())
        return io.NodeOutput(seed_of(seed, _take), _take, flow)


class LikenessTakeEnd(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LikenessTakeEnd",
            display_name="Retake until Match",
            category=CATEGORY,
            description="Measures the picture against the character and takes it again with the next seed until it passes; after the last take it gives the best.",
            search_aliases=ALIASES,
            is_input_list=True,
            is_output_node=True,
            enable_expand=True,
            accept_all_inputs=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                io.Image.Input("image", tooltip="The picture of this take. A batch passes when all its pictures pass."),
                FlowType.Input("flow", tooltip="From Take Start, whose seed this picture depends on."),
                IdentityType.Input("identity", tooltip="The character, from Character Identity or Load Identity."),
                *strictness_inputs(
                    "How much the face must be like the character to pass. custom takes the threshold below. Takes already made are judged again without sampling."
                ),
                io.Int.Input("max_takes", default=4, min=1, max=MOST_TAKES, tooltip="After so many takes the best one is given."),
            ],
            outputs=[
                io.Image.Output("image_out", display_name="image", tooltip="The first take that passes, else the best."),
                io.Float.Output("score", tooltip="Its likeness score, -1 without a face; of a batch the lowest."),
                io.Int.Output("seed", tooltip="The seed of that take, to make it again."),
                io.Int.Output("takes", tooltip="How many takes were made."),
                io.String.Output("report", tooltip="JSON: seed, score and verdict of each take, and which one was kept."),
            ],
        )

    @classmethod
    def execute(cls, image, flow, identity, strictness, threshold, max_takes, _history=None, **kwargs) -> io.NodeOutput:
        from . import scoring
        from .retakes import History, Take, seed_of

        prompt, own = cls.hidden.dynprompt, cls.hidden.unique_id
        flow, identity, most = host.one(flow, "flow"), host.one(identity, "identity"), host.one(max_takes, "max_takes")
        rules = scoring.Rules(scoring.threshold_of(identity, host.one(strictness, "strictness"), host.one(threshold, "threshold")), strictness[0])
        if len(image) != 1:
            raise InputError(f"Retake until Match takes one picture or one batch, {len(image)} came in a list: put it in front of what makes a list of them.")
        run = _history[0] if _history else History(live=LiveNode(own, prompt))
        loop = _Loop(prompt, own)
        batch, number, remembered = image[0], flow.number, False
        loop.remember(seed_of(flow.first, number), number, batch)
        run.time(flow, PromptServer.instance.last_prompt_id)
        while True:
            take = _judged(Take(number, seed_of(flow.first, number), batch, remembered=remembered), identity, rules)
            run.add(take, content_key(batch))
            _show(run, take, most)
            repeats = run.repeats
            if take.passes or len(run.takes) >= most or repeats is not None:
                return _result(run, identity, rules, repeats)
            number += 1
            batch = loop.recall(seed_of(flow.first, number), number)
            if batch is None:
                _announce(run, take, most)
                return loop.again(number, run)
            remembered = True


class _Loop:
    """The part of a prompt that lies between a Take Start and the end `own`."""

    def __init__(self, prompt, own: str):
        from . import retakes

        self._prompt, self._own = prompt, own
        self._inputs = lambda node: prompt.get_node(node)["inputs"]
        self._start = next(node for name, node, _ in retakes.links(self._inputs(own)) if name == "flow")
        if prompt.get_node(self._start)["class_type"] != "LikenessTakeStart":
            raise InputError("The flow must come straight from Take Start.")
        self._body = retakes.body(self._inputs, self._start, own)

    def remember(self, seed: int, number: int, picture) -> None:
        key = self._signature(seed, number)
        if key is not None:
            MEMORY.keep((key,), picture)

    def recall(self, seed: int, number: int):
        """The picture of the take with that seed and number, where it was made before; else None."""
        key = self._signature(seed, number)
        return None if key is None else MEMORY.look((key,))

    def _signature(self, seed: int, number: int) -> str | None:
        from . import retakes

        node, output = next((node, output) for name, node, output in retakes.links(self._inputs(self._own)) if name == "image")
        return retakes.signature(self._inputs, self._state, self._start, seed, node, output, number)

    def _state(self, node: str):
        """A node's class, and what it said when the host asked it whether anything but its inputs changed, such as a file."""
        asked = self._prompt.get_node(node)
        definition = host_nodes.NODE_CLASS_MAPPINGS[asked["class_type"]]
        said = asked.get("is_changed")
        unsure = any(isinstance(one, float) and math.isnan(one) for one in (said if isinstance(said, list) else [said]))
        # Without a cache the host asks nobody.
        unasked = "is_changed" not in asked and _would_say(definition)
        return None if unsure or unasked or getattr(definition, "NOT_IDEMPOTENT", False) else (asked["class_type"], said)

    def again(self, number: int, run: History) -> io.NodeOutput:
        """Run everything between once more, as the take of that number."""
        from . import retakes

        graph = GraphBuilder()
        copies = {}
        for node in self._body:
            shown = self._prompt.get_display_node_id(node)
            copies[node] = graph.node(self._prompt.get_node(node)["class_type"], id=shown)
            copies[node].set_override_display_id(shown)
        for node, copy in copies.items():
            for name, value in self._inputs(node).items():
                copy.set_input(name, value)
            for name, wired, output in retakes.links(self._inputs(node)):
                if wired in copies:
                    copy.set_input(name, copies[wired].out(output))
        copies[self._start].set_input("_take", number)
        end = copies[self._own]
        end.set_input("_history", run)
        return io.NodeOutput(*(end.out(i) for i in range(5)), expand=graph.finalize())


def _would_say(definition) -> bool:
    """Whether a node has something to say when it is asked what changed."""
    if issubclass(definition, _ComfyNodeInternal):
        return first_real_override(definition, "fingerprint_inputs") is not None
    return hasattr(definition, "IS_CHANGED")


def _judged(take: Take, identity, rules: scoring.Rules) -> Take:
    """The take with the judgement of its picture; of several pictures that of the one that decides."""
    from . import scoring
    from .retakes import Take

    judgements = scoring.judge(scoring.measure(Frames([take.image]).pictures(), [identity]), [identity], rules)
    lowest = min(judgements, key=lambda one: (one.goes == scoring.PASSED, -2.0 if one.score is None else one.score))
    return Take(take.number, take.seed, take.image, lowest, remembered=take.remembered)


def _show(run: History, take: Take, most: int) -> None:
    from ..pictures import small_copy
    from . import drawing

    pixels = Frames([take.image[:1]]).pictures()[0].pixels
    badge = drawing.badge(small_copy(pixels, host.PREVIEW_SIDE), take.judgement, len(run.takes))
    run.shown.append(badge)
    run.live.show(badge)
    score = "no face" if take.score is None else f"score {take.score:.2f}"
    run.live.tell(f"Take {len(run.takes)} of {most}: {score}, {take.judgement.verdict}")
    run.live.check()


def _announce(run: History, last: Take, most: int) -> None:
    """Say in the node which take is made next, and how long it takes if none of the others passes either."""
    from ..telling import last_score, told

    parts = [f"Take {len(run.takes) + 1} of {most}", last_score(last.judgement)]
    left = run.left(most - len(run.takes))
    run.live.tell(", ".join(parts if left is None else [*parts, f"at most {told(left)} left"]))


def _result(run: History, identity, rules: scoring.Rules, repeats: int | None) -> io.NodeOutput:
    from . import scoring

    best = run.best
    # Counted as they were made here: with another end before this one the first may not be number 0.
    place = 1 + next(i for i, take in enumerate(run.takes) if take.number == best.number)
    notes = []
    if repeats is not None:
        notes.append(
            f"Take {len(run.takes)} is the same picture as take {repeats + 1}: what makes it does not use the seed of Take Start; wire that seed to what samples."
        )
    for note in notes:
        host.log.warning("Retake until Match: %s", note)
    verdict = best.judgement.verdict if best.passes else f"best of {len(run.takes)}"
    report = {
        "verdict": verdict,
        "kept": place,
        "seed": best.seed,
        "score": None if best.score is None else round(best.score, 4),
        "reason": best.judgement.reason,
        "takes": [
            {
                "take": i,
                "seed": take.seed,
                "score": None if take.score is None else round(take.score, 4),
                "verdict": take.judgement.verdict,
                "reason": take.judgement.reason,
                "made_before": take.remembered,
            }
            for i, take in enumerate(run.takes, 1)
        ],
        "identity": identity.name,
        "threshold": round(rules.threshold, 4),
        "strictness": rules.label,
        "notes": notes,
    }
    summary = f"{verdict}: take {place} of {len(run.takes)}, seed {best.seed}"
    run.live.tell("\n".join([summary, *notes]))
    score = scoring.NO_SCORE if best.score is None else best.score
    text = json.dumps(report, ensure_ascii=False, indent=1)
    return io.NodeOutput(best.image, score, best.seed, len(run.takes), text, ui=host.previews(run.shown))
