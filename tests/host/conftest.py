"""The photographs of the host tests."""

import pytest


@pytest.fixture(scope="session")
def cast():
    """The six people of insightface's group photograph, left to right, and the whole photograph last."""
    from character_likeness.nodes import demo
    from character_likeness.nodes.identity.recognizers import open_recognizer

    group = demo.photograph("insightface", "data", "images", "t1.jpg")
    return [*demo.people(group, open_recognizer("dlib")), group]


@pytest.fixture(scope="session")
def reactor(tmp_path_factory):
    """A host of its own with the real ComfyUI-ReActor pack on tiny models (tests/host/reactor.py)."""
    from tests.host.reactor import absent, start

    if reason := absent():
        pytest.skip(reason)
    host = start(tmp_path_factory.mktemp("reactor"))
    yield host
    host.stop()


@pytest.fixture(scope="session")
def judge(buffalo):
    """Who is in a picture of painted faces, by buffalo_l."""
    from tests.host.reactor import Judge

    return Judge(buffalo)
