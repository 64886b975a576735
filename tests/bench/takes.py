"""What a face swap and a retake cost: `python -m tests.bench.takes [swap|retake ...]`, by default both. Prints counts, and ratios of one run; asserts nothing.

Run it with the host's Python (CONTRIBUTING.md). swap needs ComfyUI-ReActor (tests/host/reactor.py says where it is looked for), on tiny models.
"""

import contextlib
import io
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.conftest import ROOT, comfyui_root
from tests.host import reactor as rig
from tests.host.comfy import Comfy
from tests.host.graphs import Graph

PICTURES, PASSING = 8, 6
REPEATS = 5
HER, OTHER = 2, 4
CHOSEN = {
    "restore_model": "none",
    "detector": "retinaface_mobile0.25",
    "gender": "any",
    "strictness": "standard",
    "threshold": 0.5,
    "target": "most similar",
    "keep": "swapped",
    "preset": "fast",
}


def seconds(run) -> float:
    """The host's own time from the beginning of a prompt to its success."""
    told = {kind: message["timestamp"] for kind, message in run._history["status"]["messages"]}
    return (told["execution_success"] - told["execution_start"]) / 1000


def pictures_of(comfy, salt: int, passing: int) -> list[str]:
    """PICTURES uploads, of which `passing` show her; another salt is another set for every memory."""
    names = []
    for i in range(PICTURES):
        picture = rig.painted((HER if i < passing else OTHER, 150 + i, 150 + salt, 300), noise=3)
        picture[-1, : 2 + salt] = 255 - i
        names.append(comfy.upload(f"takes_{salt}_{i}.png", picture))
    return names


def base(comfy, names: list[str]) -> tuple[Graph, list, list, list]:
    graph = Graph()
    recognizer = graph.add("recognizer", "LikenessLoadRecognizer", recognizer="buffalo_l", device="auto").out(0)
    her = graph.picture("her", comfy.upload("takes_her.png", rig.painted((HER, 100, 100, 400))))
    identity = graph.identity("Mira", her, recognizer=recognizer)
    return graph, rig.batch(graph, names), her, identity


def macro(comfy, names: list[str], when: str):
    graph, batch, _, identity = base(comfy, names)
    node = graph.add("swap", "LikenessFaceSwap", image=batch, identity=identity, swap_model=rig.SWAPPER, swap_when=when, **CHOSEN)
    graph.tell("report", node.out(3))
    return comfy.run(graph)


def by_hand(comfy, names: list[str]):
    """ReActor's own two nodes, and a score before and after."""
    graph, batch, her, identity = base(comfy, names)
    swapped = rig.swap(graph, batch, her, options={"console_log_level": 0}).out(rig.SWAPPED)
    for name, images in (("before", batch), ("after", swapped)):
        graph.tell(f"told {name}", graph.add(name, "LikenessIdentityScore", image=images, identity=identity, face="best match").out(1))
    return comfy.run(graph)


def bench_swap() -> None:
    if rig.absent():
        print(f"swap: {rig.absent()}")
        return
    with tempfile.TemporaryDirectory() as folder:
        comfy = rig.start(Path(folder))
        try:
            macro(comfy, pictures_of(comfy, 90, PICTURES), "always")
            run = macro(comfy, pictures_of(comfy, 91, PASSING), "below gate")
            report = json.loads(run.texts("report")[0])
            print(f"swap: {PICTURES} pictures of which {PASSING} pass: {report['passes_through_ReActor']} through ReActor (wanted {PICTURES - PASSING})")
            times = {"macro": [], "by hand": []}
            for repeat in range(REPEATS):
                for which, make in (("macro", lambda names: macro(comfy, names, "always")), ("by hand", lambda names: by_hand(comfy, names))):
                    names = pictures_of(comfy, 2 * repeat + (which == "macro"), 0)
                    times[which].append(seconds(make(names)))
            medians = {which: statistics.median(own) for which, own in times.items()}
            print(
                f"swap: time of the macro over ReActor's own nodes and two scoring passes: {medians['macro'] / medians['by hand']:.2f} (wanted under 1.05); "
                f"{PICTURES} pictures of 640x640, medians of {REPEATS}, {medians['macro']:.1f} s and {medians['by hand']:.1f} s"
            )
        finally:
            comfy.stop()


def bench_retake() -> None:
    from character_likeness.nodes import demo
    from character_likeness.nodes.identity.recognizers import open_recognizer

    with contextlib.redirect_stdout(io.StringIO()):
        people = demo.people(demo.photograph("insightface", "data", "images", "t1.jpg"), open_recognizer("dlib"))
    with tempfile.TemporaryDirectory() as folder:
        comfy = Comfy(comfyui_root(), ROOT, Path(folder), extra=(ROOT / "tests" / "tiny" / "qwen_host",))
        try:
            graph = Graph()
            good, other = (graph.picture(name, comfy.upload(f"{name}.png", np.asarray(people[i].pixels))) for i, name in ((0, "good"), (3, "other")))
            fixed = graph.add("fixed", "TestCounted", image=other, name="does not depend on the seed").out(0)
            start = graph.add("start", "LikenessTakeStart", seed=1)
            made = graph.add("made", "TestBySeed", good=good, other=fixed, seed=start.out(0), good_from=8, deaf=False).out(0)
            made = graph.add("late", "TestCounted", image=made, name="depends on the seed").out(0)
            who = graph.identity("Mira", good)
            end = graph.add("end", "LikenessTakeEnd", image=made, flow=start.out(2), identity=who, strictness="standard", threshold=0.5, max_takes=64)
            graph.tell("takes", end.out(3))
            comfy.post("/test_counts/reset", {})
            run = comfy.run(graph)
            runs = comfy.get("/test_counts")["runs"]
            fixed_runs, late_runs = runs.count("does not depend on the seed"), runs.count("depends on the seed")
            print(
                f"retake: {run.texts('takes')[0]} takes: a node that does not depend on the seed ran {fixed_runs} time (wanted 1), one that does {late_runs} times"
            )
        finally:
            comfy.stop()


BENCHES = {"swap": bench_swap, "retake": bench_retake}

if __name__ == "__main__":
    from tests.conftest import make_package_importable

    if comfyui_root() is None:
        sys.exit("The benches run in a ComfyUI's Python: see CONTRIBUTING.md.")
    make_package_importable()
    for bench in sys.argv[1:] or BENCHES:
        BENCHES[bench]()
