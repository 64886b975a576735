"""The drawn characters of thumbnails and demonstrations must be people to a real recognizer."""

import numpy as np
import pytest

from character_likeness.nodes.identity import scoring
from character_likeness.nodes.identity.identity import build_identity
from character_likeness.nodes.identity.recognizers import open_recognizer
from character_likeness.nodes.pictures import Picture
from tests.tiny.drawn_faces import EDDA, MIRA, TOMAS, portrait

pytestmark = pytest.mark.dlib


def test_a_drawn_character_passes_in_other_clothes_light_and_place_and_others_do_not():
    recognizer = open_recognizer("dlib")
    mira = build_identity([Picture(portrait(MIRA))], recognizer, "Mira")
    own = portrait(MIRA, background="#d9c9a8", clothes="#9a3b3b", x=30, scale=0.8, light=0.85)
    pictures = [Picture(np.ascontiguousarray(p)) for p in (own, portrait(TOMAS), portrait(EDDA))]
    verdicts = scoring.judge(scoring.measure(pictures, [mira]), [mira], scoring.Rules(0.5, "standard"))
    assert [verdict.verdict for verdict in verdicts] == ["pass", "reject", "reject"]
    assert verdicts[0].score > 0.8
