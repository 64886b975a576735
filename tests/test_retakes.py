"""Taking again: which take is kept, which nodes run again, and what a picture depends on."""

from dataclasses import dataclass

import pytest

from character_likeness.nodes.identity.choices import MOST_TAKES
from character_likeness.nodes.identity.retakes import SEEDS, Take, body, links, seed_of, signature


@dataclass
class Judged:
    score: float | None
    goes: str = "rejected"


GRAPH = {
    "loader": {"file": "model.safetensors"},
    "prompt": {"text": "a street", "clip": ["loader", 1]},
    "start": {"seed": 7},
    "sampler": {"model": ["loader", 0], "positive": ["prompt", 0], "seed": ["start", 0], "steps": 4},
    "decode": {"samples": ["sampler", 0], "vae": ["loader", 2]},
    "names": {"text": ["start", 1]},
    "identity": {"images": ["photo", 0]},
    "photo": {"image": "mira.png"},
    "end": {"image": ["decode", 0], "flow": ["start", 2], "identity": ["identity", 0], "max_takes": 3},
    "after": {"image": ["end", 0]},
}


def of(graph):
    return lambda node: graph[node]


def told(graph=None, seed=7, state=lambda node: node, node="decode"):
    return signature(of(graph or GRAPH), state, "start", seed, node, 0)


def test_a_passing_take_beats_any_other_then_the_higher_score_then_the_earlier():
    def best(*takes):
        kept = None
        for take in takes:
            kept = take if take.beats(kept) else kept
        return kept.number

    assert best(Take(0, 1, judgement=Judged(0.9)), Take(1, 2, judgement=Judged(0.5, "passed"))) == 1
    assert best(Take(0, 1, judgement=Judged(0.3)), Take(1, 2, judgement=Judged(0.4)), Take(2, 3, judgement=Judged(0.4))) == 1
    assert best(Take(0, 1, judgement=Judged(None)), Take(1, 2, judgement=Judged(-0.9))) == 1
    assert best(Take(0, 1, error="out of memory"), Take(1, 2)) == 1


def test_seeds_count_up_and_begin_again_at_the_highest():
    assert [seed_of(5, take) for take in range(3)] == [5, 6, 7] and seed_of(SEEDS - 1, 1) == 0 and MOST_TAKES == 64


def test_only_what_depends_on_the_seed_runs_again_in_the_order_of_dependence():
    assert body(of(GRAPH), "start", "end") == ["start", "sampler", "decode", "end"]


def test_an_end_that_does_not_follow_the_start_has_nothing_to_run_again():
    assert body(of({**GRAPH, "end": {"image": ["photo", 0]}}), "start", "end") == []


def test_a_graph_deeper_than_pythons_stack_is_no_matter():
    deep = {"start": {}, "0": {"x": ["start", 0]}, **{str(i): {"x": [str(i - 1), 0]} for i in range(1, 5000)}}
    assert len(body(of(deep), "start", "4999")) == 5001
    assert signature(of(deep), lambda node: "", "start", 1, "4999", 0)


def test_a_signature_changes_with_seed_input_file_and_wiring_and_with_nothing_else():
    same = told()
    assert told() == same
    assert told(seed=8) != same
    assert told({**GRAPH, "sampler": {**GRAPH["sampler"], "steps": 5}}) != same
    assert told({**GRAPH, "sampler": {**GRAPH["sampler"], "positive": ["loader", 0]}}) != same
    assert told(state=lambda node: "another file" if node == "loader" else node) != same
    assert told({**GRAPH, "end": {**GRAPH["end"], "max_takes": 9}, "identity": {"images": ["decode", 0]}}) == same
    assert signature(of(GRAPH), lambda node: node, "start", 7, "decode", 1) != same


def test_the_number_of_the_take_is_part_of_what_it_depends_on():
    assert signature(of(GRAPH), lambda node: node, "start", 7, "decode", 0, 1) != told()


def test_a_value_whose_text_does_not_tell_all_of_it_has_no_signature():
    assert told({**GRAPH, "sampler": {**GRAPH["sampler"], "latent": object()}}) is None
    assert told({**GRAPH, "sampler": {**GRAPH["sampler"], "given": {"a": [1, "b", None, 0.5]}}}) is not None


def test_names_of_nodes_do_not_matter_so_a_copy_has_the_signature_of_its_original():
    copies = {"sampler": "9.0.sampler", "decode": "9.0.decode", "start": "9.0.start"}
    copied = {**GRAPH}
    for node, copy in copies.items():
        inputs = dict(GRAPH[node])
        for name, wired, output in list(links(inputs)):
            inputs[name] = [copies.get(wired, wired), output]
        copied[copy] = inputs
    state = lambda node: node.removeprefix("9.0.")  # noqa: E731
    assert signature(of(copied), state, "9.0.start", 8, "9.0.decode", 0) == signature(of(GRAPH), state, "start", 8, "decode", 0)


def test_what_cannot_be_told_has_no_signature():
    assert told(state=lambda node: None if node == "prompt" else node) is None
    assert told(state=lambda node: None if node == "photo" else node) is not None
    circle = {"start": {}, "a": {"x": ["b", 0]}, "b": {"x": ["a", 0]}}
    assert signature(of(circle), lambda node: node, "start", 1, "a", 0) is None


@pytest.mark.parametrize("value", [["one", "two"], ["node", 0.5], [1, 0], ["node"], "text", None, ["node", 0, 1]])
def test_only_a_node_and_an_output_are_a_link(value):
    assert list(links({"x": value})) == []
