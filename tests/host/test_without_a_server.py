"""The pack in a program that imports ComfyUI and runs nodes without its server, as tests/bench/identity.py does; and what loading it brings along."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.host

PROGRAM = """
import asyncio, sys
from tests.bench.identity import enter_host, our_node
from tests.tiny.drawn_faces import MIRA, portrait
host = enter_host()
assert asyncio.run(host.load_custom_node(sys.argv[1]))
print("loaded:", *sorted(name.partition(".nodes.")[2] for name in sys.modules if name.startswith(f"{sys.argv[1]}.nodes.")))
import torch
picture = torch.from_numpy(portrait(MIRA).copy())[None].float() / 255
recognizer = our_node(host, "LikenessLoadRecognizer", recognizer="dlib", device="auto")
identity, *_ = our_node(host, "LikenessBuildIdentity", images=[picture], name=["Mira"], combine=["mean"], recognizer=list(recognizer))
choices = {"strictness": "standard", "threshold": 0.5, "face": "best match", "no_face": "reject", "uncertain": "own output", "keep_best": 0, "max_score": 1.0}
gate = our_node(host, "LikenessIdentityGate", image=[picture], identity=[identity], **{name: [value] for name, value in choices.items()})
print("passed:", len(gate[0]))
"""


# What the schemas are made of: names, choices and texts. Every other module costs the start of every ComfyUI that has the pack a millisecond or more.
LIGHT = (
    "choices errors extension files flux flux.choices flux.nodes host identity identity.choices identity.nodes identity.swap_nodes identity.take_nodes "
    "installation lora_dataset lora_dataset.choices lora_dataset.comparison_nodes lora_dataset.export_nodes lora_dataset.nodes lora_dataset.sweep_nodes "
    "pictures routes sampling scene scene.choices scene.nodes telling tensors texts"
).split()


@pytest.fixture(scope="module")
def told():
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(ROOT)], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)


def test_the_pack_loads_and_its_nodes_run_without_a_server(told):
    assert told["passed"] == "1"


def test_loading_the_pack_brings_no_engine_along(told):
    loaded = told["loaded"].split()
    assert "extension" in loaded and set(loaded) <= set(LIGHT), set(loaded) - set(LIGHT)
