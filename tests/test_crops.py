"""Face crops: where they lie, what is made up, what their captions say, and what of a dataset gets one."""

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from character_likeness.nodes.errors import InputError, PictureError
from character_likeness.nodes.lora_dataset import survey
from character_likeness.nodes.lora_dataset.crops import (
    BEST_MATCH,
    HEADROOM,
    LARGEST,
    MOST_MADE_UP,
    CropSource,
    add_crops,
    crop_box,
    crop_caption,
    crop_framing,
    cut,
    face_crop,
)
from character_likeness.nodes.lora_dataset.dataset import BODY, Dataset, DatasetItem, Given
from character_likeness.nodes.lora_dataset.faces import FaceReading, open_reader


@pytest.fixture(autouse=True)
def forgotten():
    survey.forget()


def numbered(width, height):
    """A picture in which every pixel is another colour: which one lies where can be read from it."""
    places = np.arange(width * height, dtype=np.uint32).reshape(height, width)
    return np.stack([places & 255, places >> 8 & 255, places >> 16], -1).astype(np.uint8)


def made_up(size, crop):
    width = min(crop[2], size[0]) - max(crop[0], 0)
    height = min(crop[3], size[1]) - max(crop[1], 0)
    return 1 - width * height / (crop[2] - crop[0]) ** 2


@st.composite
def faces(draw, longest=300):
    """(size of a picture, box of a face that lies in it at least in part, margin)."""
    size = draw(st.tuples(st.integers(1, longest), st.integers(1, longest)))
    left, top = (draw(st.floats(-20, length - 0.5)) for length in size)
    width, height = draw(st.floats(0.5, longest)), draw(st.floats(0.5, longest))
    assume(left + width > 0.01 and top + height > 0.01)
    return size, (left, top, left + width, top + height), draw(st.floats(0, 3))


def inside(size, box):
    left, top = max(0, int(np.floor(box[0]))), max(0, int(np.floor(box[1])))
    return left, top, min(size[0], int(np.ceil(box[2]))), min(size[1], int(np.ceil(box[3])))


# --- where a crop lies ---


@given(faces())
def test_a_crop_is_square_contains_the_face_and_is_no_larger_than_its_margin(face):
    size, box, margin = face
    left, top, right, bottom = inside(size, box)
    try:
        crop = crop_box(size, box, margin, 1)
    except PictureError:
        # Only a face that is longer than the picture is wide or high cannot be cut square.
        assert max(right - left, bottom - top) > min(size)
        return
    side = crop[2] - crop[0]
    assert crop[3] - crop[1] == side
    assert crop[0] <= left and crop[1] <= top and crop[2] >= right and crop[3] >= bottom
    assert max(right - left, bottom - top) <= side <= round(max(right - left, bottom - top) * (1 + 2 * margin))
    assert made_up(size, crop) <= MOST_MADE_UP


@given(faces())
def test_nothing_of_the_face_is_mirrored(face):
    size, box, margin = face
    left, top, right, bottom = inside(size, box)
    try:
        crop = crop_box(size, box, margin, 1)
    except PictureError:
        return
    where = np.zeros((size[1], size[0], 3), np.uint8)
    where[top:bottom, left:right] = 1
    assert cut(where, crop)[..., 0].sum() == (right - left) * (bottom - top)


@given(faces(longest=120))
def test_a_crop_is_the_picture_reflected_at_its_borders_pixel_for_pixel(face):
    size, box, margin = face
    picture = numbered(*size)
    try:
        crop, (left, top, right, bottom) = face_crop(picture, box, margin, 1)
    except PictureError:
        return
    # Beyond its own size numpy reflects back and forth; no crop goes so far.
    around = np.pad(picture, ((size[1] - 1,) * 2, (size[0] - 1,) * 2, (0, 0)), mode="reflect")
    top, bottom, left, right = top + size[1] - 1, bottom + size[1] - 1, left + size[0] - 1, right + size[0] - 1
    assert min(left, top) >= 0
    assert np.array_equal(crop, around[top:bottom, left:right])


@given(faces(), st.integers(1, 400))
def test_a_crop_has_the_minimum_or_there_is_none(face, minimum):
    size, box, margin = face
    try:
        crop = crop_box(size, box, margin, minimum)
    except PictureError as error:
        assert "px" in str(error)
    else:
        assert crop[2] - crop[0] >= minimum


def test_in_the_middle_of_a_picture_the_crop_has_its_margin_and_headroom_and_nothing_made_up():
    crop = crop_box((2000, 2000), (900, 900, 1100, 1100), 0.6, 1)
    assert crop == (780, 780 - round(HEADROOM * 200), 1220, 1220 - round(HEADROOM * 200))
    assert np.array_equal(cut(numbered(2000, 2000), crop), numbered(2000, 2000)[crop[1] : crop[3], crop[0] : crop[2]])


def test_the_longer_side_of_a_face_counts():
    tall, wide = crop_box((2000, 2000), (900, 850, 1100, 1150), 0.5, 1), crop_box((2000, 2000), (850, 900, 1150, 1100), 0.5, 1)
    assert tall[2] - tall[0] == wide[2] - wide[0] == 600


def test_a_face_at_the_border_is_cut_there_and_not_continued():
    assert crop_box((1000, 1000), (0, 400, 200, 600), 0.5, 1)[0] == 0
    assert crop_box((1000, 1000), (800, 400, 1000, 600), 0.5, 1)[2] == 1000
    # Beside a face two pixels away from the border the second one may be reflected.
    assert [crop_box((1000, 1000), (left, 400, left + 200, 600), 0.5, 1)[0] for left in (1, 2, 3)] == [0, -1, -2]
    assert [crop_box((1000, 1000), (left, 400, left + 200, 600), 0.5, 1)[2] for left in (799, 798, 797)] == [1000, 1001, 1002]
    # A face beyond the border counts as far as it is in the picture.
    assert crop_box((1000, 1000), (-50, 400, 150, 600), 0.0, 1)[:1] == (0,)


def test_the_margin_shrinks_where_more_than_a_third_would_be_made_up_and_no_more_than_needed():
    size, box = (400, 400), (150, 150, 250, 250)
    crop = crop_box(size, box, 3.0, 1)
    side = crop[2] - crop[0]
    assert made_up(size, crop) <= MOST_MADE_UP < 1 - 400 * 400 / (side + 1) ** 2


def test_where_the_minimum_forbids_to_shrink_the_crop_moves_into_the_picture():
    # Around a face so near to a corner the wanted 700 px would be made up by more than a third, and 690 px are asked for.
    size, box = (1000, 1000), (140, 140, 240, 240)
    free, held = crop_box(size, box, 3.0, 1), crop_box(size, box, 3.0, 690)
    assert free[2] - free[0] < 690 and free[0] < 0
    assert held == (0, 0, 700, 700)


def test_a_smaller_crop_is_refused_with_both_sizes_and_never_enlarged():
    with pytest.raises(PictureError, match="the face is 100 px and its crop would be 220 px, below 512 px"):
        crop_box((2000, 2000), (900, 900, 1000, 1000))
    assert face_crop(numbered(300, 300), (100, 100, 200, 200), 0.6, 220)[0].shape == (220, 220, 3)
    with pytest.raises(PictureError, match="300x300 px does not have 500 px"):
        crop_box((300, 300), (20, 20, 280, 280), 0.6, 500)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_a_picture_of_a_pixel_has_a_crop_or_a_reason(size):
    for margin in (0.0, 0.6, 3.0):
        crop, box = face_crop(numbered(*size), (0, 0, 1, 1), margin, 1)
        assert crop.shape == (box[2] - box[0], box[2] - box[0], 3)
        assert box[:2] == (0, 0)


@pytest.mark.parametrize(
    ("box", "margin", "minimum", "error", "said"),
    [
        ((10, 10, 20, 20), -0.1, 1, InputError, "-0.1"),
        ((10, 10, 20, 20), 3.5, 1, InputError, "3.5"),
        ((10, 10, 20, 20), float("nan"), 1, InputError, "nan"),
        ((10, 10, 20, 20), 0.6, 0, InputError, "0 px"),
        ((200, 10, 220, 20), 0.6, 1, PictureError, "(200, 10, 220, 20)"),
        ((20, 10, 20, 20), 0.6, 1, PictureError, "does not lie"),
        ((float("nan"), 10, 20, 20), 0.6, 1, PictureError, "no box"),
    ],
)
def test_wrong_values_are_named(box, margin, minimum, error, said):
    with pytest.raises(error) as caught:
        crop_box((100, 100), box, margin, minimum)
    assert said in str(caught.value)


# --- captions ---


@pytest.mark.parametrize(
    ("caption", "fitting"),
    [
        ("mira, full body shot, head to toe, standing, red coat, black boots, in a park", "mira, closeup, red coat, in a park"),
        ("mira, full body, jeans, smiling", "mira, closeup, smiling"),
        ("mira, full body, upper body, smiling", "mira, closeup, smiling"),
        ("A full body shot of mira walking in a park, soft light", "A closeup of mira walking in a park, soft light"),
        ("mira sits at a table, an upper body photo", "mira sits at a table, a closeup photo"),
        ("full-length photo of mira from head to toe in a park", "closeup photo of mira in a park"),
        ("mira, cowboy shot, from mid-thigh up, white shirt and jeans", "mira, closeup, white shirt and jeans"),
        ("mira, portrait, head and shoulders, smiling", "mira, closeup, smiling"),
        ("mira, close-up of the face", "mira, closeup"),
        ("mira, standing in a kitchen, 1,000 lights", "mira, closeup, standing in a kitchen, 1,000 lights"),
        ("miranda, smiling", "closeup, miranda, smiling"),
        ("a woman in a park", "closeup, a woman in a park"),
        ("mira", "mira, closeup"),
        ("", ""),
    ],
)
def test_a_crops_caption_has_its_framing_and_the_rest_of_the_pictures(caption, fitting):
    assert crop_caption(caption, "closeup", "mira") == fitting
    assert crop_caption(fitting, "closeup", "mira") == fitting


def test_a_portrait_is_called_one_and_the_trigger_is_never_taken_for_legs():
    assert crop_caption("boots, full body, standing", "portrait", "boots") == "boots, portrait"
    assert crop_caption("realistic_body, jeans, legs", "portrait", "", "legs") == "portrait, realistic_body, legs"


def test_a_crop_with_room_for_both_shoulders_is_a_portrait():
    face = FaceReading((0, 0, 200, 200), 0.9)
    assert crop_framing(face, (0, 0, 440, 440)) == "closeup"
    assert crop_framing(face, (0, 0, 600, 600)) == crop_framing(face, (0, 0, 2000, 2000)) == "portrait"


# --- a dataset ---


class Seer:
    """Reads what it is told: boxes by the picture's brightness, so that a test can lay faces where it wants them."""

    name, note = "a seer", ""

    def __init__(self, **boxes):
        self.boxes = boxes
        self.read_pictures = 0

    def read(self, pixels):
        self.read_pictures += 1
        return tuple(FaceReading(tuple(map(float, box)), 0.9, by=self.name) for box in self.boxes.get(f"grey{pixels[0, 0, 0]}", ()))


def grey(level, width=1600, height=1600):
    return Given(f"grey {level}", np.full((height, width, 3), level, np.uint8))


class Counted:
    """A picture that knows how often it was decoded, and can be damaged."""

    def __init__(self, source, damaged=False):
        self.source, self.damaged, self.decoded = source, damaged, 0
        self.name, self.key = source.name, source.key

    def pixels(self):
        self.decoded += 1
        if self.damaged:
            raise PictureError(f"{self.name} is damaged.")
        return self.source.pixels()


def test_a_crop_is_put_beside_its_picture_with_all_that_is_known_of_that():
    shot = MappingProxyType({"pose": "standing", "clothing": "red coat, black boots", "light": "soft light"})
    item = DatasetItem(
        grey(7), "a", caption="mira, full body, standing, red coat", caption_source="sidecar", framing="full body", shot=shot, likeness=0.4, origin={"seed": 3}
    )
    before = Dataset((item, DatasetItem(grey(8), "b")), trigger="mira")
    after = add_crops(before, Seer(grey7=[(600, 600, 900, 900)]))
    original, other, crop = after.items
    assert (original.source, original.caption, original.framing, other.stem) == (item.source, item.caption, "full body", "b")
    assert original.decisions == ("A face crop was put beside it: a_face.",)
    assert other.decisions == ("No face crop: no face was found.",)
    assert (crop.stem, crop.parent, crop.bucket, crop.framing) == ("a_face", "a", item.bucket, "closeup")
    assert (crop.caption, crop.caption_source, crop.origin) == ("mira, closeup, red coat", "sidecar", {"seed": 3})
    assert dict(crop.shot) == {"clothing": "red coat", "light": "soft light"}
    # The score was that of some face, perhaps of another one.
    assert (crop.likeness, crop.verdict) == (None, "")
    assert crop.crop == crop.source.box == crop_box((1600, 1600), (600, 600, 900, 900))
    assert "300 px, found by a seer" in crop.decisions[0] and "mira, full body, standing, red coat" in crop.decisions[1]
    assert after.notes[-1] == "1 face crop was added, faces found by a seer; none for 1: 1 because no face was found."
    assert before.items[0] is item and len(before) == 2


def test_crops_are_cut_when_asked_for_and_no_picture_is_kept():
    source = Counted(grey(7))
    after = add_crops(Dataset((DatasetItem(source, "a"),)), Seer(grey7=[(600, 600, 900, 900)]))
    assert source.decoded == 1
    crop = after.items[1].source
    assert crop.size == (660, 660) and source.decoded == 1
    assert np.array_equal(crop.pixels(), cut(grey(7).pixels(), crop.box)) and source.decoded == 2
    assert not any(isinstance(value, np.ndarray) for value in vars(crop).values())


def test_a_crops_key_is_that_of_its_picture_and_place():
    one = CropSource(grey(7), (0, 0, 9, 9))
    assert one.key == CropSource(grey(7), (0, 0, 9, 9)).key
    assert len({one.key, CropSource(grey(7), (0, 0, 9, 8)).key, CropSource(grey(8), (0, 0, 9, 9)).key, grey(7).key}) == 4
    assert int(one.key, 16) and len(one.key) == 32


def test_no_crop_shows_what_the_picture_shows_already():
    seer = Seer(grey7=[(400, 450, 1200, 1250)], grey8=[(500, 550, 1050, 1100)])
    after = add_crops(Dataset((DatasetItem(grey(7), "filled"), DatasetItem(grey(8), "room"))), seer)
    assert [item.stem for item in after.items] == ["filled", "room", "room_face"]
    assert "fills the picture" in after.items[0].decisions[0]
    assert "1 because the face fills the picture" in after.notes[-1]


def test_faces_too_small_damaged_pictures_and_buckets_without_faces_are_left_and_said():
    seer = Seer(grey7=[(100, 100, 200, 200)], grey9=[(600, 600, 900, 900)])
    damaged = Counted(grey(9), damaged=True)
    items = (DatasetItem(grey(7), "small"), DatasetItem(damaged, "damaged"), DatasetItem(grey(9), "legs", BODY))
    after = add_crops(Dataset(items), seer)
    assert len(after) == 3 and not after.left_out
    assert "100 px and its crop would be 220 px" in after.items[0].decisions[0]
    assert after.items[1].decisions == ("No face crop: grey 9 is damaged.",)
    assert after.items[2] is items[2] and seer.read_pictures == 1
    assert "1 because no face is expected in body" in after.notes[-1]


def test_crops_are_made_once():
    seer = Seer(grey7=[(600, 600, 900, 900)])
    once = add_crops(Dataset((DatasetItem(grey(7), "a"),)), seer)
    twice = add_crops(once, seer)
    assert [item.stem for item in twice.items] == ["a", "a_face"] and seer.read_pictures == 1
    assert twice.items == once.items


def test_stems_that_are_taken_do_not_confuse_crops_and_their_pictures():
    seer = Seer(grey7=[(600, 600, 900, 900)])
    after = add_crops(Dataset((DatasetItem(grey(7), "a"), DatasetItem(grey(7), "A_face"))), seer)
    assert [(item.stem, item.parent) for item in after.items[2:]] == [("a_face_2", "a"), ("A_face_face", "A_face")]


def test_of_several_faces_the_largest_is_taken_and_that_is_said():
    seer = Seer(grey7=[(600, 600, 900, 900), (100, 100, 350, 350)])
    crop = add_crops(Dataset((DatasetItem(grey(7), "a"),)), seer).items[1]
    assert crop.crop == crop_box((1600, 1600), (600, 600, 900, 900))
    assert "the largest of 2 faces" in crop.decisions[0]


def test_an_interruption_goes_through():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_crops(Dataset((DatasetItem(grey(7), "a"),)), Seer(), tick=stop)


@pytest.mark.parametrize(
    ("options", "said"), [({"which": "every face"}, "every face"), ({"which": BEST_MATCH}, "identity"), ({"margin": 9.0}, "9"), ({"minimum": -1}, "-1")]
)
def test_choices_that_cannot_be_used_are_named_before_a_picture_is_opened(options, said):
    source = Counted(grey(7))
    with pytest.raises(InputError, match=said):
        add_crops(Dataset((DatasetItem(source, "a"),)), Seer(), **options)
    assert source.decoded == 0


# --- real people ---


@pytest.fixture(scope="module")
def reader(dlib_recognizer):
    return open_reader(None, dlib_recognizer)


@pytest.mark.dlib
@pytest.mark.insightface
def test_in_a_group_the_crop_is_of_the_person_who_is_asked_for(group, people, identities, dlib_recognizer, reader):
    dataset = Dataset((DatasetItem(Given("group", group.pixels), "group", caption="mira, full body"),), trigger="mira")
    wanted = range(len(people))
    for number in wanted:
        crop = add_crops(dataset, reader, 0.6, 150, BEST_MATCH, identities[number]).items[1]
        found = dlib_recognizer.faces([type(group)(crop.source.pixels())])[0].faces
        scores = [max(identity.score(np.stack([face.embedding for face in found]))) for identity in identities]
        assert int(np.argmax(scores)) == number
        assert (crop.caption, crop.verdict) == ("mira, closeup", "pass") and crop.likeness > 0.5
    largest = add_crops(dataset, reader, 0.6, 150, LARGEST).items[1]
    assert largest.crop == crop_box(group.size, reader.read(group.pixels)[0].box, 0.6, 150)


@pytest.mark.dlib
@pytest.mark.insightface
def test_the_readers_box_of_the_person_is_taken_and_the_recognizers_where_it_has_none(group, identities, reader):
    dataset = Dataset((DatasetItem(Given("group", group.pixels), "group"),))
    found = reader.read(group.pixels)

    class Wide:
        """Sees the same faces with larger boxes, or none of them."""

        name, note = "wide", ""
        boxes = [tuple(np.add(reading.box, (-8, -9, 8, 9))) for reading in found]

        def read(self, pixels):
            return tuple(FaceReading(box, 0.9, by=self.name) for box in self.boxes)

    for identity in identities:
        own = add_crops(dataset, reader, 0.6, 150, BEST_MATCH, identity).items[1]
        wide = add_crops(dataset, Wide(), 0.6, 150, BEST_MATCH, identity).items[1]
        (number,) = (i for i, reading in enumerate(found) if crop_box(group.size, reading.box, 0.6, 150) == own.crop)
        assert wide.crop == crop_box(group.size, Wide.boxes[number], 0.6, 150) != own.crop and "found by wide" in wide.decisions[0]
    Wide.boxes = [(500, 600, 700, 800)]
    survey.forget()
    assert add_crops(dataset, Wide(), 0.6, 150, BEST_MATCH, identities[-1]).items[1].crop == own.crop


@pytest.mark.dlib
@pytest.mark.insightface
def test_a_picture_of_somebody_else_gets_no_crop(people, identities, reader):
    stranger = DatasetItem(Given("stranger", people[1].pixels), "stranger")
    after = add_crops(Dataset((stranger,)), reader, 0.3, 50, BEST_MATCH, identities[0])
    assert len(after) == 1 and "of person 1: score" in after.items[0].decisions[0]


@pytest.mark.dlib
@pytest.mark.insightface
def test_crops_are_the_same_every_time(group, identities, reader):
    dataset = Dataset((DatasetItem(Given("group", group.pixels), "group", caption="mira"),))
    one = add_crops(dataset, reader, 0.6, 150, BEST_MATCH, identities[0]).items[1]
    survey.forget()
    other = add_crops(dataset, reader, 0.6, 150, BEST_MATCH, identities[0]).items[1]
    assert (one.crop, one.caption, one.decisions, one.source.key) == (other.crop, other.caption, other.decisions, other.source.key)
