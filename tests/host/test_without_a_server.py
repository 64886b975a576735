"""The pack in a program that imports ComfyUI and runs nodes without its server, as tests/bench/identity.py does."""

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
import torch
picture = torch.from_numpy(portrait(MIRA).copy())[None].float() / 255
recognizer = our_node(host, "LikenessLoadRecognizer", recognizer="dlib", device="auto")
identity, *_ = our_node(host, "LikenessBuildIdentity", images=[picture], name=["Mira"], combine=["mean"], recognizer=list(recognizer))
choices = {"strictness": "standard", "threshold": 0.5, "face": "best match", "no_face": "reject", "uncertain": "own output", "keep_best": 0, "max_score": 1.0}
gate = our_node(host, "LikenessIdentityGate", image=[picture], identity=[identity], **{name: [value] for name, value in choices.items()})
print("passed:", len(gate[0]))
"""


def test_the_pack_loads_and_its_nodes_run_without_a_server():
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(ROOT)], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.stdout.splitlines()[-1:] == ["passed: 1"], done.stdout + done.stderr
