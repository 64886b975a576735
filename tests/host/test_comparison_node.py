"""Compare Methods in a real ComfyUI: what comes out, what is shown and saved, and what a user is told."""

import csv
import json
from io import StringIO

import numpy as np
import pytest

from tests.host.graphs import Graph

pytestmark = [pytest.mark.host, pytest.mark.dlib, pytest.mark.insightface]

SHEET, PLOT, TABLE, REPORT = range(4)


@pytest.fixture(scope="module")
def people(comfy, cast):
    """Uploads two people in two versions each, and a picture of nobody."""
    pictures = {"her.png": cast[0].pixels, "her_again.png": np.ascontiguousarray(cast[0].pixels[:, ::-1]), "him.png": cast[3].pixels}
    pictures |= {"him_again.png": np.ascontiguousarray(cast[3].pixels[:, ::-1]), "nobody.png": np.full((120, 90, 3), (200, 60, 20), np.uint8)}
    for name, pixels in pictures.items():
        comfy.upload(name, pixels, "compare")
    return pictures


def compare(graph, groups, /, **inputs):
    """A Compare Methods over groups of uploaded pictures, each group a list, against her."""
    images = {}
    for place, files in enumerate(groups):
        loaded = [graph.picture(f"picture{place}{i}", f"compare/{file}.png") for i, file in enumerate(files)]
        if len(loaded) > 1:
            loaded = [graph.add(f"list{place}", "CreateList", **{f"inputs.input{i}": image for i, image in enumerate(loaded)}).out(0)]
        images[f"images.image{place}"] = loaded[0]
    identity = graph.identity("identity", graph.picture("reference", "compare/her.png"), name="Mira")
    given = {"identity": identity, "labels": "", "strictness": "standard", "threshold": 0.5} | images | inputs
    return graph.add("compare", "LikenessCompareMethods", **given)


def ran(comfy, groups, /, **inputs):
    graph = Graph()
    node = compare(graph, groups, **inputs)
    graph.show("sheet", node.out(SHEET))
    graph.show("plot", node.out(PLOT))
    graph.tell("table", node.out(TABLE))
    graph.tell("report", node.out(REPORT))
    return comfy.run(graph)


def error(comfy, groups, /, **inputs):
    graph = Graph()
    compare(graph, groups, **inputs)
    return comfy.run(graph).error


def test_methods_are_measured_side_by_side_with_their_figures(comfy, people):
    run = ran(comfy, [["her", "her_again"], ["him", "him_again"], ["nobody", "her"]], labels="LoRA\nface swap", seconds="12\n-\n3.5")
    assert run.error is None
    report = json.loads(run.texts("report")[0])
    assert [(row["method"], row["passed"], row["n"], row["no face"], row["s per picture"]) for row in report["methods"]] == [
        ("LoRA", 2, 2, 0.0, 12.0),
        ("face swap", 0, 2, 0.0, None),
        ("method 3", 1, 2, 0.5, 3.5),
    ]
    assert [one["verdict"] for one in report["pictures"]] == ["pass", "pass", "reject", "reject", "no face", "pass"]
    assert report["recognizer"] == "dlib" and report["aligned"] is True
    # Two pictures each show nothing about match rates.
    assert report["findings"][0] == "By match rate no two of the 3 methods are shown to differ: the 95% intervals overlap."
    table = run.texts("table")[0].splitlines()
    assert len(table) == 5 and table[2].startswith("| LoRA | 2 | 1 | 2 |")
    (sheet,), (plot,) = run.pictures("sheet"), run.pictures("plot")
    nobody = (sheet == people["nobody.png"][0, 0]).all(axis=-1)
    columns = np.flatnonzero(nobody.any(axis=0))
    assert nobody.sum() > 10_000 and columns[0] > sheet.shape[1] / 2
    assert plot.shape[1] >= 960
    # Both are shown in the node itself.
    assert len(run.images("compare")) == 2


def test_a_batch_counts_like_a_list_and_sizes_may_differ(comfy, people):
    graph = Graph()
    batch = graph.add("batch", "ImageBatch", image1=graph.picture("one", "compare/her.png"), image2=graph.picture("two", "compare/him.png")).out(0)
    node = compare(graph, [["nobody", "her", "him"]], **{"images.image1": batch})
    graph.tell("report", node.out(REPORT))
    run = comfy.run(graph)
    assert run.error is None
    report = json.loads(run.texts("report")[0])
    assert [row["n"] for row in report["methods"]] == [3, 2] and report["aligned"] is False
    assert [one["verdict"] for one in report["pictures"]] == ["no face", "pass", "reject", "pass", "reject"]
    assert any("The methods have 2, 3 pictures" in note for note in report["notes"])


def test_one_method_alone_is_measured_and_one_without_any_face_is_marked(comfy, people):
    alone = ran(comfy, [["her", "him"]], labels="LoRA")
    assert json.loads(alone.texts("report")[0])["findings"] == ["LoRA is the only method with pictures: there is nothing to compare it with."]
    faceless = ran(comfy, [["nobody"], ["her"]])
    assert faceless.error is None
    report = json.loads(faceless.texts("report")[0])
    assert "method 1: none of its 1 pictures shows a face that can be judged." in report["notes"] and report["methods"][1]["passed"] == 1


def test_strictness_changes_the_marks_and_not_the_match_rate(comfy, people):
    report = json.loads(ran(comfy, [["her"], ["her_again"]], strictness="custom", threshold=0.99).texts("report")[0])
    assert [row["passed"] for row in report["methods"]] == [1, 1] and report["methods"][1]["pass at custom"] == 0
    assert report["pictures"][1]["verdict"] == "reject" and report["threshold"] == 0.99


def test_what_is_saved_is_table_report_sheet_and_plot_under_one_new_number(comfy, people):
    for number in ("00001", "00002"):
        # Another label, so that the host does not take what it has.
        assert ran(comfy, [["her"], ["him"]], labels=f"LoRA {number}", save_as="comparison/mira").error is None
        files = {path.name for path in (comfy.base / "output" / "comparison").glob(f"mira_{number}.*")}
        assert files == {f"mira_{number}{suffix}" for suffix in (".csv", ".md", ".json", ".sheet.png", ".plot.png")}
    folder = comfy.base / "output" / "comparison"
    assert len(list(folder.iterdir())) == 10
    assert [row["method"] for row in csv.DictReader(StringIO((folder / "mira_00001.csv").read_text()))] == ["LoRA 00001", "method 2"]
    assert "LoRA 00002" in (folder / "mira_00002.md").read_text() and json.loads((folder / "mira_00002.json").read_text())["identity"] == "Mira"


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({"labels": "a\nb\nc"}, "labels has 3 lines for 2 methods; write one label a line, in the order of the images."),
        ({"seconds": "12\nfast"}, "'fast' in seconds is no time; write the seconds per picture of each method in a line of its own, such as 12.5, or -."),
        ({"seconds": "1\n2\n3"}, "seconds has 3 lines for 2 methods; write one time a line, in the order of the images."),
        ({"save_as": "../mira"}, "'../mira' cannot be a file name here; use letters, digits, spaces, - and _, with / for a sub-folder."),
    ],
)
def test_what_cannot_be_used_is_one_sentence(comfy, people, inputs, message):
    assert error(comfy, [["her"], ["him"]], **inputs) == message


def test_without_pictures_it_says_what_to_wire_and_without_an_identity_the_host_names_the_input(comfy, people):
    assert error(comfy, []) == "No pictures are wired in: wire the pictures of each method to an image input of its own."
    graph = Graph()
    graph.add(
        "compare", "LikenessCompareMethods", labels="", strictness="standard", threshold=0.5, **{"images.image0": graph.picture("one", "compare/her.png")}
    )
    assert comfy.run(graph).error == "Required input is missing: identity"


def test_two_identities_on_one_socket_are_refused(comfy, people):
    graph = Graph()
    both = [graph.identity(f"identity{i}", graph.picture(f"reference{i}", f"compare/{name}.png")) for i, name in enumerate(("her", "him"))]
    listed = graph.add("both", "CreateList", **{f"inputs.input{i}": identity for i, identity in enumerate(both)}).out(0)
    compare(graph, [["her"]], identity=listed)
    assert comfy.run(graph).error == "identity takes one value, 2 are wired to it."
