"""Take Start and Retake until Match in a real ComfyUI: how often what runs, which take is kept, what is told."""

import json

import numpy as np
import pytest

from tests.host.graphs import Graph
from tests.host.scene_graphs import SceneGraph

pytestmark = [pytest.mark.host, pytest.mark.dlib, pytest.mark.insightface]

IMAGE, SCORE, SEED, TAKES, REPORT = range(5)


@pytest.fixture(scope="module")
def pictures(qwen, cast):
    return {name: qwen.upload(f"retake_{name}.png", cast[i].pixels) for name, i in (("mira", 0), ("other", 3), ("third", 4))}


@pytest.fixture
def counted(qwen):
    def run(graph):
        qwen.post("/test_counts/reset", {})
        ran = qwen.run(graph)
        return ran, qwen.get("/test_counts")["runs"]

    return run


class TakeGraph(Graph):
    """A pair around a generator that shows Mira from a seed on, and somebody else before."""

    def __init__(self, pictures, good_from, seed=100, salt="", deaf=False):
        super().__init__()
        self.mira, self.other = self.picture("mira", pictures["mira"]), self.picture("other", pictures["other"])
        # Another name is another picture for the host, so that a test does not meet what one before it left.
        self.fixed = self.add("fixed", "TestCounted", image=self.other, name=f"fixed {salt}").out(0)
        self.who = self.identity("Mira", self.mira)
        self.start = self.add("start", "LikenessTakeStart", seed=seed)
        self.made = self.add("made", "TestBySeed", good=self.mira, other=self.fixed, seed=self.start.out(0), good_from=good_from, deaf=deaf).out(0)
        self.made = self.add("late", "TestCounted", image=self.made, name=f"late {salt}").out(0)

    def end(self, image=None, name="end", **inputs):
        chosen = {"strictness": "standard", "threshold": 0.5, "max_takes": 4} | inputs
        node = self.add(name, "LikenessTakeEnd", image=image or self.made, flow=self.start.out(2), identity=self.who, **chosen)
        self.tell(f"{name} report", node.out(REPORT))
        self.tell(f"{name} seed", node.out(SEED))
        self.tell(f"{name} takes", node.out(TAKES))
        self.show(f"{name} image", node.out(IMAGE))
        return node


def report(run, name="end"):
    assert run.error is None and run.status == "success", run.error
    return json.loads(run.texts(f"{name} report")[0])


def test_it_stops_at_the_first_take_that_passes_and_gives_its_seed(qwen, pictures, cast, counted):
    graph = TakeGraph(pictures, good_from=102, salt="a")
    graph.end()
    run, runs = counted(graph)
    told = report(run)
    assert (told["verdict"], told["kept"], told["seed"], len(told["takes"])) == ("pass", 3, 102, 3)
    assert [take["seed"] for take in told["takes"]] == [100, 101, 102]
    assert [take["verdict"] for take in told["takes"]] == ["reject", "reject", "pass"]
    assert run.texts("end seed") == ["102"] and run.texts("end takes") == ["3"]
    assert np.array_equal(run.pictures("end image")[0], cast[0].pixels)
    # What does not depend on the seed runs once, the rest once per take.
    assert runs == ["fixed a", 100, "late a", 101, "late a", 102, "late a"]


def test_a_first_take_that_passes_is_the_only_one(pictures, counted):
    graph = TakeGraph(pictures, good_from=0, salt="b")
    graph.end()
    run, runs = counted(graph)
    assert report(run)["verdict"] == "pass" and runs == ["fixed b", 100, "late b"]


def test_after_the_last_take_the_best_is_given(qwen, pictures, counted):
    graph = TakeGraph(pictures, good_from=10**6, salt="c")
    graph.end(max_takes=3)
    run, runs = counted(graph)
    told = report(run)
    assert told["verdict"] == "best of 3" and len(told["takes"]) == 3
    scores = [take["score"] for take in told["takes"]]
    assert told["score"] == max(scores) and told["kept"] == scores.index(max(scores)) + 1
    # The last copy of the node shows all takes, in the place of the one in the graph.
    shown = [output["images"] for node, output in run._history["outputs"].items() if node.endswith(".end") and "images" in output]
    assert [len(images) for images in shown] == [3] and len(run.pictures("end image")) == 1
    assert runs.count("late c") == 3


def test_another_strictness_judges_the_takes_again_and_makes_none(pictures, counted):
    def shoot(strictness, most):
        graph = TakeGraph(pictures, good_from=10**6, salt="d")
        graph.end(strictness=strictness, max_takes=most)
        return counted(graph)

    shoot("standard", 4)
    run, runs = shoot("strict", 4)
    assert runs == [] and [take["made_before"] for take in report(run)["takes"]] == [False, True, True, True]
    run, runs = shoot("loose", 5)
    assert runs == [104, "late d"] and len(report(run)["takes"]) == 5


def test_a_graph_that_ignores_the_seed_is_stopped_at_the_second_take_and_told(pictures, counted):
    graph = TakeGraph(pictures, good_from=10**6, salt="e", deaf=True)
    graph.end(max_takes=9)
    run, _ = counted(graph)
    told = report(run)
    assert len(told["takes"]) == 2 and told["verdict"] == "best of 2"
    assert "does not use the seed of Take Start" in told["notes"][0]


def test_a_picture_without_any_wire_to_take_start_is_told_as_well(pictures, counted):
    graph = TakeGraph(pictures, good_from=0, salt="f")
    graph.end(image=graph.fixed, max_takes=9)
    run, _ = counted(graph)
    told = report(run)
    assert len(told["takes"]) <= 2 and "does not use the seed of Take Start" in told["notes"][0]


def test_two_pairs_in_one_graph_do_not_mix(pictures, counted):
    graph = TakeGraph(pictures, good_from=101, salt="g")
    graph.end()
    first_made = graph.made
    graph.start = graph.add("start2", "LikenessTakeStart", seed=500)
    second = graph.add("made2", "TestBySeed", good=graph.mira, other=graph.fixed, seed=graph.start.out(0), good_from=503, deaf=False).out(0)
    graph.end(image=second, name="end2")
    run, runs = counted(graph)
    assert first_made != second
    assert (report(run)["seed"], report(run, "end2")["seed"]) == (101, 503)
    assert [seed for seed in runs if isinstance(seed, int) and seed >= 500] == [500, 501, 502, 503]


def test_a_pair_inside_a_pair_retakes_within_each_take(pictures, counted):
    """The inner pair never gets its picture at an outer seed below 301: the outer one takes again."""
    graph = TakeGraph(pictures, good_from=0, salt="h")
    outer = graph.add("outer", "LikenessTakeStart", seed=300)
    inner = graph.add("inner", "LikenessTakeStart", seed=outer.out(0))
    made = graph.add("twice", "TestBySeed", good=graph.mira, other=graph.fixed, seed=inner.out(0), good_from=302, deaf=False).out(0)
    graph.start = inner
    inside = graph.end(image=made, name="inside", max_takes=2)
    graph.start = outer
    graph.end(image=inside.out(IMAGE), name="outside", max_takes=3)
    run, runs = counted(graph)
    told = report(run, "outside")
    assert told["verdict"] == "pass" and told["seed"] == 301
    # 300 and 301 fail inside; the outer take 301 tries 301 again, or remembers it, and then 302.
    assert [seed for seed in runs if isinstance(seed, int)] in ([300, 301, 302], [300, 301, 301, 302])


def test_a_pair_works_around_qwen_character_scene(qwen, pictures, counted):
    graph = SceneGraph()
    start = graph.add("start", "LikenessTakeStart", seed=7)
    scene = graph.scene(references=graph.references(face=pictures["mira"]), seed=start.out(0), **{"preset.steps": 1, "preset.cfg": 1.0})
    who = graph.identity("Mira", graph.picture("mira", pictures["mira"]))
    chosen = {"strictness": "standard", "threshold": 0.5, "max_takes": 3}
    end = graph.add("end", "LikenessTakeEnd", image=scene.out(0), flow=start.out(2), identity=who, **chosen)
    graph.tell("end report", end.out(REPORT))
    qwen.post("/test_counts/reset", {})
    run = qwen.run(graph)
    counts = qwen.get("/test_counts")
    told = report(run)
    assert told["verdict"] == "best of 3" and [take["seed"] for take in told["takes"]] == [7, 8, 9]
    assert counts["sample"] == 3 and counts["vae_encode"] <= 1
    assert sum(name.endswith(".safetensors") for name in counts["files"]) <= 3


def test_interrupting_between_takes_stops_and_keeps_the_takes(qwen, pictures, counted):
    def graph():
        graph = TakeGraph(pictures, good_from=10**6, salt="i")
        graph.end(max_takes=8)
        return graph

    qwen.post("/test_faults", {"slow": 0.3})
    qwen.interrupt_when(lambda counts: len(counts["runs"]) >= 2)
    run, runs = counted(graph())
    qwen.post("/test_faults", {})
    assert run.status == "error" and run.error is None
    before = sum(isinstance(seed, int) for seed in runs)
    assert 0 < before < 8
    run, runs = counted(graph())
    assert len(report(run)["takes"]) == 8
    assert sum(isinstance(seed, int) for seed in runs) <= 8 - before + 1


def test_interrupting_inside_a_take_stops_the_sampling(qwen, pictures):
    graph = SceneGraph()
    start = graph.add("start", "LikenessTakeStart", seed=70)
    scene = graph.scene(references=graph.references(face=pictures["mira"]), seed=start.out(0), **{"preset.steps": 30, "preset.cfg": 1.0})
    who = graph.identity("Mira", graph.picture("mira", pictures["mira"]))
    end = graph.add("end", "LikenessTakeEnd", image=scene.out(0), flow=start.out(2), identity=who, strictness="standard", threshold=0.5, max_takes=3)
    graph.tell("end report", end.out(REPORT))
    qwen.post("/test_faults", {"slow": 0.1})
    qwen.interrupt_when(lambda counts: counts["model_forward"] >= 2)
    run = qwen.run(graph)
    qwen.post("/test_faults", {})
    counts = qwen.get("/test_counts")
    assert run.status == "error" and run.error is None
    assert counts["sample"] == 1 and counts["model_forward"] < 30


def test_a_batch_passes_when_all_its_pictures_do(pictures, counted):
    graph = TakeGraph(pictures, good_from=101, salt="j")
    batch = graph.add("batch", "ImageBatch", image1=graph.mira, image2=graph.made).out(0)
    graph.end(image=batch)
    run, _ = counted(graph)
    told = report(run)
    assert told["seed"] == 101 and told["takes"][0]["verdict"] == "reject" and len(run.pictures("end image")) == 2


def test_a_list_of_pictures_is_refused(qwen, pictures, cast, counted):
    for i in range(2):
        qwen.upload(f"{i}.png", cast[i].pixels, "retake_list")
        (qwen.base / "input" / "retake_list" / f"{i}.txt").write_text("somebody")
    graph = TakeGraph(pictures, good_from=0, salt="k")
    listed = graph.add("folder", "LoadImageTextDataSetFromFolder", folder="retake_list").out(0)
    graph.end(image=listed)
    run, _ = counted(graph)
    assert "takes one picture or one batch, 2 came in a list" in run.error


@pytest.mark.parametrize("takes", [0, 65])
def test_max_takes_out_of_range_is_refused_before_the_run(pictures, counted, takes):
    graph = TakeGraph(pictures, good_from=0, salt="l")
    graph.end(max_takes=takes)
    run, runs = counted(graph)
    assert run.status == "refused" and "max_takes" in run.error and runs == []


def test_an_end_without_a_start_is_refused_before_the_run(pictures, counted):
    graph = TakeGraph(pictures, good_from=0, salt="m")
    graph.end()
    del graph["end"]["inputs"]["flow"]
    run, runs = counted(graph)
    assert run.status == "refused" and "flow" in run.error and runs == []


def test_a_start_without_an_end_is_a_seed(pictures, counted):
    graph = TakeGraph(pictures, good_from=0, salt="n")
    graph.tell("seed", graph.start.out(0))
    graph.tell("take", graph.start.out(1))
    run, _ = counted(graph)
    assert run.error is None and run.texts("seed") == ["100"] and run.texts("take") == ["0"]
