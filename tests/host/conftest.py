"""The photographs of the host tests."""

import pytest


@pytest.fixture(scope="session")
def cast():
    """The six people of insightface's group photograph, left to right, and the whole photograph last."""
    from character_likeness.nodes import demo
    from character_likeness.nodes.identity.recognizers import open_recognizer

    group = demo.photograph("insightface", "data", "images", "t1.jpg")
    return [*demo.people(group, open_recognizer("dlib")), group]
