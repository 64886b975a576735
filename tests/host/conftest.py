"""One ComfyUI for all host tests of a session."""

import pytest

from tests.conftest import ROOT, comfyui_root
from tests.host.comfy import Comfy


@pytest.fixture(scope="session")
def comfy(tmp_path_factory):
    host = Comfy(comfyui_root(), ROOT, tmp_path_factory.mktemp("comfy"))
    yield host
    host.stop()


@pytest.fixture(scope="session")
def cast():
    """The six people of insightface's group photograph, left to right, and the whole photograph last."""
    from character_likeness.nodes import demo
    from character_likeness.nodes.identity.recognizers import open_recognizer

    group = demo.photograph("insightface", "data", "images", "t1.jpg")
    return [*demo.people(group, open_recognizer("dlib")), group]
