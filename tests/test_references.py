"""Reference pictures: split, labelled, sized and prepared once. No ComfyUI: the VAE only counts."""

import gc

import pytest

torch = pytest.importorskip("torch")

from character_likeness.nodes.errors import InputError  # noqa: E402
from character_likeness.nodes.scene import references  # noqa: E402
from character_likeness.nodes.scene.references import averaged, fits, gather, resized, vision_size  # noqa: E402
from character_likeness.nodes.tensors import TensorMemory, content_key, token  # noqa: E402

pytestmark = pytest.mark.torch


class Model:
    pass


class Vae:
    """Encodes a picture as its mean colour, and counts."""

    def __init__(self):
        self.first_stage_model, self.encoded = Model(), []

    def encode(self, pixels):
        self.encoded.append((pixels.shape[2], pixels.shape[1]))
        return pixels.mean((1, 2)).reshape(1, 3, 1, 1, 1)


def picture(width=640, height=480, seed=0, channels=3):
    return torch.rand((1, height, width, channels), generator=torch.Generator().manual_seed(seed))


def of(vae, *images, policy="scene", megapixels=1.0, **options):
    return gather([("face", list(images))], "Mira", policy, megapixels, vae, **options)


def test_frames_of_batches_are_references_of_their_own_in_order_of_the_roles():
    batch = torch.cat([picture(seed=1), picture(seed=2)])
    gathered = gather([("face", [batch]), ("pose", [picture(300, 900, 3)])], " Mira \n Vane ", "scene", 1.0, Vae())
    assert [(label.index, label.role, label.character) for label in gathered.labels] == [
        (1, "face", "Mira Vane"),
        (2, "face", "Mira Vane"),
        (3, "pose", "Mira Vane"),
    ]
    assert torch.equal(gathered.pictures[1].pixels, batch[1:2])


def test_pictures_of_an_earlier_character_are_counted_first():
    first = of(Vae(), picture())
    both = gather([("face", [picture(seed=9)])], "Tomas", "scene", 1.0, Vae(), first)
    assert both.character == "Mira and Tomas" and [label.index for label in both.labels] == [1, 2]


def test_no_picture_is_an_error_with_what_to_do():
    with pytest.raises(InputError, match="connect at least one to face"):
        gather([], "", "scene", 1.0, Vae())


@pytest.mark.parametrize("size", [(640, 480), (4000, 6000), (100, 100), (1920, 1080), (333, 1000), (37, 41)])
def test_scene_encodes_about_a_megapixel_in_multiples_of_32_at_the_pictures_own_aspect(size):
    (only,) = of(Vae(), picture(*size)).pictures
    width, height = only.latent_size(None)
    assert width % 32 == 0 and height % 32 == 0
    assert width * height == pytest.approx(1024 * 1024, rel=0.06)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.06)
    assert only.latent_size((512, 512)) == (width, height)


def test_pixel_lock_encodes_at_the_size_of_the_target_where_the_aspect_is_the_same():
    gathered = of(Vae(), picture(640, 480), picture(480, 640), policy="pixel lock")
    assert [one.latent_size((1024, 768)) for one in gathered.pictures] == [(1024, 768), (896, 1184)]
    (told,) = gathered.unlocked((1024, 768))
    assert "Picture 2 (face) is 480x640, of another aspect than 1024x768" in told
    assert of(Vae(), picture()).unlocked((512, 512)) == []


def test_pixel_lock_under_match_source_takes_what_is_left_of_the_matched_aspect():
    """3 % off, as match source leaves it where nothing nearer is a multiple of 32."""
    target = (448, 576)
    gathered = of(Vae(), picture(1080, 1350), picture(480, 640), picture(640, 480), policy="pixel lock")
    assert [one.latent_size(target) == target for one in gathered.pictures] == [False, False, False]
    matched = gathered.matching((1080, 1350))
    assert [one.latent_size(target) == target for one in matched.pictures] == [True, False, False]
    first, second = matched.unlocked(target)
    assert first.endswith("of another aspect than 448x576: it is not locked to its pixels but encoded at its own aspect.") and "Picture 3" in second
    assert gathered.unlocked(target)[0].endswith("`match source` takes over the aspect of Picture 1.")
    assert of(Vae(), picture(1080, 1350)).matching((1080, 1350)).pictures[0].latent_size(target) != target


def test_custom_megapixels_sets_the_area():
    (only,) = of(Vae(), picture(1000, 1000), policy="custom megapixels", megapixels=0.25).pictures
    assert only.latent_size(None) == (512, 512)


def test_each_picture_is_encoded_once_however_often_and_by_whomever_it_is_asked_for():
    vae = Vae()
    for _ in range(3):
        for one in of(vae, picture(seed=11), picture(seed=12), picture(seed=11)).pictures:
            one.latent()
            one.latent((512, 512))
    assert len(vae.encoded) == 2


def test_another_vae_or_size_encodes_anew():
    vae, other = Vae(), Vae()
    of(vae, picture(seed=21)).pictures[0].latent()
    of(other, picture(seed=21)).pictures[0].latent()
    of(vae, picture(seed=21), policy="custom megapixels", megapixels=0.5).pictures[0].latent()
    assert len(vae.encoded) == 2 and len(other.encoded) == 1


def test_what_the_text_encoder_sees_is_the_hosts_area_resize_to_384_squared():
    (only,) = of(Vae(), picture(1920, 1080, seed=31)).pictures
    seen = only.vision()
    assert (seen.shape[2], seen.shape[1]) == vision_size((1920, 1080)) == (512, 288)
    expected = torch.nn.functional.interpolate(only.pixels.movedim(-1, 1), size=(288, 512), mode="area").movedim(1, -1)
    assert torch.equal(seen, expected)
    assert only.vision() is seen


def test_resizing_keeps_the_range_and_an_equal_size_the_picture():
    pixels = (picture(64, 64) > 0.5).float()
    assert resized(pixels, (64, 64)) is pixels
    for size in ((32, 32), (200, 150)):
        out = resized(pixels, size)
        assert (out.shape[2], out.shape[1]) == size and out.min() >= 0 and out.max() <= 1
    assert averaged(pixels, (1, 1)).mean() == pytest.approx(pixels.mean().item())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_and_alpha_become_rgb(channels):
    (only,) = of(Vae(), picture(64, 64, channels=channels)).pictures
    assert only.pixels.shape == (1, 64, 64, 3)


def test_the_key_is_of_the_content_and_shape_alone():
    one = picture(seed=41)
    assert content_key(one) == content_key(one.clone())
    assert content_key(one) != content_key(one + 1e-7) and content_key(one) != content_key(one.reshape(1, 640, 480, 3))
    assert content_key(one.flip(1).flip(1)) == content_key(one)


def test_a_token_is_never_given_again():
    seen = set()
    for _ in range(50):
        model = Model()
        seen.add(token(model))
        assert token(model) in seen
        del model
        gc.collect()
    assert len(seen) == 50


def test_the_memory_drops_the_least_recently_used_beyond_its_limit():
    memory = TensorMemory(4 * 100)
    for name in "abc":
        memory.keep((name,), torch.zeros(40))
    assert [memory.look((name,)) is not None for name in "abc"] == [False, True, True]
    memory.look(("b",))
    memory.keep(("d",), torch.zeros(40))
    assert [memory.look((name,)) is not None for name in "bcd"] == [True, False, True]
    memory.keep(("huge",), torch.zeros(1000))
    assert memory.look(("huge",)) is not None and memory.look(("b",)) is None


def test_the_memory_does_not_keep_the_whole_of_which_it_holds_a_part():
    memory, whole = TensorMemory(10**6), torch.zeros(1000, 10)
    memory.keep(("part",), whole[:1])
    assert memory.look(("part",)).untyped_storage().nbytes() == 40
    memory.keep(("part",), whole[:2])
    assert memory._size == 80
    memory.clear()
    assert memory.look(("part",)) is None


def test_the_report_counts_tokens():
    (row,) = of(Vae(), picture(1024, 1024)).report()
    assert row["tokens"] == 4096 and row["encoded_at"] == [1024, 1024]


def test_sizes_fit_within_two_percent():
    assert fits((1000, 1000), (1024, 1024)) and fits((1019, 1000), (512, 512)) and not fits((1030, 1000), (512, 512))
    assert references.ASPECT_SLACK == 0.02
