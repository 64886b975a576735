"""A character's identity: the template of one or more references, its self-calibration, and its file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from character_likeness.nodes.errors import IdentityError, InputError, NoFaceError
from character_likeness.nodes.identity import identity as module
from character_likeness.nodes.identity.identity import COMBINE, build_identity, combined_score, identity_report, load_identity, save_identity
from character_likeness.nodes.identity.recognizers import Part, Recognizer, RecognizerInfo, Thresholds, open_recognizer
from character_likeness.nodes.pictures import Picture

dlib = pytest.mark.dlib
insightface = pytest.mark.insightface


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and text.endswith(".")
    return text


def bare(metric):
    """A recognizer without models: enough to score embeddings."""
    part = Part("none", "none", True)
    return Recognizer(RecognizerInfo("bare", part, part, metric, 6, Thresholds(0.3, 0.4, 0.5, "none")))


@pytest.fixture(scope="module")
def portrait_of(face_packs):
    """A picture of one of the eight painted people; `likeness` is about the cosine to their plain face."""

    def make(person, side=160, likeness=1.0, seed=0, size=(240, 300)):
        pixels = face_packs.background(size[1], size[0], "photo", seed=seed)
        face_packs.paint(pixels, person, 40, 50, side, likeness=likeness)
        return Picture(pixels)

    return make


@pytest.fixture(scope="module")
def her(portrait_of, buffalo):
    return build_identity([portrait_of(1), portrait_of(1, likeness=0.9, seed=1), portrait_of(1, likeness=0.8, seed=2)], buffalo, "her")


# --- templates ---

embeddings = arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(6)), elements=st.floats(-1, 1, width=32).filter(lambda v: v == 0 or abs(v) > 1e-3))
ways = st.sampled_from(COMBINE)
metrics = st.sampled_from(["cosine", "euclidean"])


@given(embeddings, st.randoms(use_true_random=False), ways, metrics)
def test_the_order_of_the_references_does_not_matter(references, random, combine, metric):
    order = list(range(len(references)))
    random.shuffle(order)
    probe = np.float32([[0.3, -0.2, 0.5, 0.1, -0.9, 0.4]])
    scores = [combined_score(bare(metric), combine, some, probe) for some in (references, references[order])]
    np.testing.assert_allclose(*scores, atol=2e-3 if np.linalg.norm(references.mean(0)) < 1e-3 else 1e-4)


@given(embeddings, ways, metrics, st.integers(2, 3))
def test_giving_every_reference_several_times_changes_nothing(references, combine, metric, times):
    probe = np.float32([[0.3, -0.2, 0.5, 0.1, -0.9, 0.4]])
    if combine == "mean" and np.linalg.norm(references.mean(0)) < 1e-3:
        return  # the direction of nothing
    scores = [combined_score(bare(metric), combine, some, probe) for some in (references, np.repeat(references, times, axis=0))]
    np.testing.assert_allclose(*scores, atol=1e-4)


@given(arrays.arrays(np.float32, 6, elements=st.floats(-1, 1, width=32)).filter(lambda v: np.linalg.norm(v) > 0.01), ways, metrics, st.integers(1, 5))
def test_a_reference_scores_itself_one(embedding, combine, metric, times):
    assert combined_score(bare(metric), combine, np.stack([embedding] * times), embedding[None])[0] == pytest.approx(1, abs=1e-5)


@given(embeddings, metrics)
def test_max_is_the_best_score_with_any_single_reference(references, metric):
    probes = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    recognizer = bare(metric)
    alone = np.stack([combined_score(recognizer, "mean", reference[None], probes) for reference in references])
    np.testing.assert_allclose(combined_score(recognizer, "max", references, probes), alone.max(0), atol=1e-6)


@given(arrays.arrays(np.float32, 6, elements=st.floats(-100, 100, width=32)), metrics)
def test_one_wrong_reference_does_not_pull_the_median_away(wrong, metric):
    right = np.float32([0.3, -0.2, 0.5, 0.1, -0.9, 0.4])
    references = np.stack([right, right, wrong])
    assert combined_score(bare(metric), "median", references, right[None])[0] == pytest.approx(1, abs=1e-5)


def test_with_arcface_a_poor_reference_weighs_less_in_the_mean():
    clear, poor = np.float32([20, 0, 0, 0, 0, 0]), np.float32([0, 5, 0, 0, 0, 0])
    scores = combined_score(bare("cosine"), "mean", np.stack([clear, poor]), np.stack([clear, poor]))
    assert scores[0] > 0.9 and scores[1] < 0.3


# --- building ---


@dlib
def test_references_of_one_person_agree_and_another_person_is_named(people, variants, dlib_recognizer):
    pictures = [*variants[0].values(), people[3]]
    identity = build_identity(pictures, dlib_recognizer, "her")
    agreements = [reference.agreement for reference in identity.references]
    assert min(agreements[:-1]) > dlib_recognizer.info.thresholds.strict and agreements[-1] < dlib_recognizer.info.thresholds.loose
    (warning,) = identity.warnings
    assert warning.startswith("Picture 7 does not look like the others")
    assert identity.best.index != 6


@dlib
@pytest.mark.parametrize("combine", COMBINE)
def test_several_references_keep_others_out_as_well_as_one(people, variants, identities, dlib_recognizer, combine):
    identity = build_identity(list(variants[3].values()), dlib_recognizer, combine=combine)
    scores = identity.score(np.concatenate([other.embeddings for other in identities]))
    assert scores[3] > 0.8 and np.delete(scores, 3).max() < dlib_recognizer.info.thresholds.standard


@dlib
def test_references_of_different_people_are_called_a_disagreement(people, dlib_recognizer):
    identity = build_identity(people[:3], dlib_recognizer)
    assert len(identity.warnings) == 4 and "disagree" in identity.warnings[-1]


@insightface
@pytest.mark.parametrize("combine", COMBINE)
def test_each_reference_is_scored_against_the_others_without_itself(portrait_of, buffalo, combine):
    pictures = [portrait_of(2, likeness=likeness, seed=i) for i, likeness in enumerate((1.0, 0.9, 0.7))] + [portrait_of(5)]
    identity = build_identity(pictures, buffalo, combine=combine)
    for i, reference in enumerate(identity.references):
        others = build_identity(pictures[:i] + pictures[i + 1 :], buffalo, combine=combine)
        assert reference.agreement == pytest.approx(others.score(reference.face.embedding[None])[0], abs=1e-6)
    told = identity_report(identity)["self_calibration"]
    assert told["lowest"] == round(min(reference.agreement for reference in identity.references), 4)


@insightface
def test_a_single_reference_has_nothing_to_agree_with_and_scores_itself_one(portrait_of, buffalo):
    identity = build_identity([portrait_of(2)], buffalo)
    assert identity.references[0].agreement is None and identity.warnings == ()
    assert identity.score(identity.embeddings)[0] == pytest.approx(1, abs=1e-6)
    assert identity_report(identity)["self_calibration"] is None


@insightface
def test_a_picture_without_a_face_is_left_out_and_said(portrait_of, buffalo, face_packs):
    pictures = [Picture(face_packs.background(200, 200)), portrait_of(1), Picture(face_packs.background(16, 16)), portrait_of(1, seed=3)]
    identity = build_identity(pictures, buffalo)
    assert [reference.index for reference in identity.references] == [1, 3] and identity.faceless == (0, 2)
    assert identity.warnings == ("Picture 1 shows no face and was left out.", "Picture 3 shows no face and was left out.")
    assert identity_report(identity)["without_face"] == [0, 2]


@insightface
@pytest.mark.parametrize("count, words", [(1, "The reference picture shows no face"), (3, "None of the 3 reference pictures shows a face")])
def test_without_any_face_there_is_no_identity(buffalo, face_packs, count, words):
    with pytest.raises(NoFaceError) as error:
        build_identity([Picture(face_packs.background(200 + i, 200)) for i in range(count)], buffalo)
    assert one_sentence(error).startswith(words)


@insightface
def test_no_picture_and_an_unknown_way_to_combine_are_refused(face_packs):
    with pytest.raises(InputError, match="at least one reference"):
        build_identity([], bare("cosine"))
    with pytest.raises(InputError, match="choose mean, max, median") as error:
        build_identity([Picture(face_packs.background(20, 20))], bare("cosine"), combine="sum")
    one_sentence(error)


@insightface
def test_of_two_faces_the_largest_is_taken_and_said(buffalo, face_packs):
    pixels = face_packs.background(500, 300)
    face_packs.paint(pixels, 4, 20, 20, 120)
    truth = face_packs.paint(pixels, 2, 250, 60, 180)
    identity = build_identity([Picture(pixels)], buffalo)
    (reference,) = identity.references
    np.testing.assert_allclose(reference.face.box, truth, atol=4)
    assert reference.flags == ("2 faces, the largest was taken",)


@dlib
def test_the_largest_face_of_the_group_is_taken_and_the_count_said(group, dlib_recognizer):
    (reference,) = build_identity([group], dlib_recognizer).references
    assert reference.flags[0] == "6 faces, the largest was taken"


@insightface
def test_the_portrait_holds_the_best_reference_around_its_face(buffalo, face_packs):
    pixels = face_packs.background(1000, 900, "photo", seed=4)
    face_packs.paint(pixels, 4, 400, 300, 150)
    small = face_packs.background(200, 200)
    face_packs.paint(small, 4, 60, 60, 60)
    identity = build_identity([Picture(small), Picture(pixels)], buffalo)
    assert identity.best.index == 1
    height, width = identity.portrait.shape[:2]
    assert 500 < width < 700 and 500 < height < 700  # the face and 1.5 of its sides around
    found = buffalo.faces([Picture(identity.portrait)])[0].faces
    assert len(found) == 1 and identity.score(found[0].embedding[None])[0] > 0.95
    middle = (found[0].box[0] + found[0].box[2]) / 2
    assert middle == pytest.approx(width / 2, abs=3)


@insightface
def test_the_portrait_of_a_face_at_the_edge_ends_with_the_picture_and_a_huge_one_is_made_smaller(buffalo, face_packs):
    corner = face_packs.background(400, 300)
    face_packs.paint(corner, 3, 0, 0, 100)
    portrait = build_identity([Picture(corner)], buffalo).portrait
    assert np.array_equal(portrait, corner[: portrait.shape[0], : portrait.shape[1]]) and portrait.shape[0] < 300
    portrait = build_identity([Picture(face_packs.painted_face(3, 1600))], buffalo).portrait
    assert max(portrait.shape) == module.PORTRAIT_SIDE


@insightface
def test_a_large_sharp_picture_of_somebody_else_does_not_stand_for_the_person(portrait_of, buffalo):
    pictures = [portrait_of(1, 100, seed=i) for i in range(3)] + [portrait_of(6, 230, size=(300, 300))]
    identity = build_identity(pictures, buffalo)
    assert identity.references[3].flags == () and all(reference.flags for reference in identity.references[:3])
    assert identity.best.index < 3
    (face,) = buffalo.faces([Picture(identity.portrait)])[0].faces
    assert identity.score(face.embedding[None])[0] > 0.9


@insightface
def test_small_blurred_and_turned_references_are_flagged(buffalo, face_packs, portrait_of):
    import cv2

    small = build_identity([portrait_of(1, 60)], buffalo).references[0]
    assert [flag for flag in small.flags if flag.startswith("small face (6")]
    blurred = build_identity([Picture(cv2.GaussianBlur(portrait_of(1, 170).pixels, (0, 0), 5))], buffalo).references[0]
    assert "blurred" in blurred.flags
    assert build_identity([portrait_of(1, 170)], buffalo).references[0].flags == ()


@dlib
def test_a_turned_reference_is_flagged(people, dlib_recognizer):
    flags = [build_identity([person], dlib_recognizer).references[0].flags for person in people]
    assert any("turned away" in flag for flag in flags[1]) and not any("turned away" in flag for flag in flags[0])


@dlib
def test_good_sharpness_is_where_blur_begins_to_cost_the_score(people, identities, dlib_recognizer):
    """Portraits (face about 110 px) softened by a Gaussian of 0 to 4 pixels, scored against the sharp ones."""
    import cv2

    good, poor = [], []
    for person, identity in zip(people, identities):
        for sigma in (0, 1, 2, 4):
            pixels = cv2.GaussianBlur(person.pixels, (0, 0), sigma) if sigma else person.pixels
            for face in dlib_recognizer.faces([Picture(pixels)])[0].faces[:1]:
                (good if face.sharpness >= module.GOOD_SHARPNESS else poor).append(identity.score(face.embedding[None])[0])
    assert len(good) >= 12 and len(poor) >= 6
    assert min(good) > 0.65 and np.mean(good) > 0.85
    assert max(poor) < 0.75


@insightface
@pytest.mark.parametrize("name, kept", [("  Ann  Lee ", "Ann Lee"), ("李小龍", "李小龍"), ("two\nlines\t", "two lines"), (" \n", "character")])
def test_a_name_is_kept_on_one_line(portrait_of, buffalo, name, kept):
    assert build_identity([portrait_of(1)], buffalo, name).name == kept


@insightface
def test_the_report_is_json_and_tells_each_reference(her):
    report = json.loads(json.dumps(identity_report(her)))
    assert [reference["index"] for reference in report["references"]] == [0, 1, 2]
    assert [reference["best"] for reference in report["references"]].count(True) == 1
    assert report["recognizer"]["licence"] == her.recognizer.info.licence and len(report["recognizer"]["file_hash"]) == 64
    assert report["thresholds"]["standard"] == 0.4


# --- files ---


def opener(models_dir):
    return lambda name: open_recognizer(name, models_dir)


@insightface
@pytest.mark.parametrize("combine", COMBINE)
def test_a_loaded_identity_scores_bit_for_bit_as_the_saved_one(her, portrait_of, buffalo, models_dir, tmp_path, combine):
    saved = replace(her, combine=combine, name="李小龍", warnings=("Picture 9 shows no face and was left out.",))
    loaded = load_identity(save_identity(saved, tmp_path, "her"), opener(models_dir))
    probes = np.stack([buffalo.faces([portrait_of(person)])[0].faces[0].embedding for person in range(8)])
    assert np.array_equal(loaded.score(probes), saved.score(probes))
    assert (loaded.name, loaded.combine, loaded.warnings) == (saved.name, combine, saved.warnings)
    assert np.array_equal(loaded.portrait, saved.portrait)
    assert loaded.best.index == saved.best.index and loaded.recognizer is buffalo
    for ours, theirs in zip(loaded.references, saved.references):
        assert (ours.index, ours.flags, ours.agreement) == (theirs.index, theirs.flags, theirs.agreement)
        assert ours.face.confidence == theirs.face.confidence and ours.face.yaw == theirs.face.yaw
        np.testing.assert_allclose(ours.face.box, theirs.face.box, rtol=1e-6)
        assert np.array_equal(ours.face.keypoints, theirs.face.keypoints)


@dlib
def test_a_dlib_identity_comes_back_too(identities, people, dlib_recognizer, tmp_path):
    loaded = load_identity(save_identity(identities[2], tmp_path, "him"), open_recognizer)
    assert np.array_equal(loaded.score(identities[3].embeddings), identities[2].score(identities[3].embeddings))
    assert loaded.references[0].face.keypoints.shape == (3, 2)


@insightface
def test_saving_makes_sub_folders_keeps_what_is_there_and_numbers(her, models_dir, tmp_path):
    first = save_identity(her, tmp_path, "shoot 1/her")
    content = first.read_bytes()
    second = save_identity(her, tmp_path, "shoot 1\\her.safetensors")
    assert first == tmp_path / "shoot 1" / "her.safetensors" and second.name == "her_00002.safetensors"
    assert first.read_bytes() == content
    assert load_identity(second, opener(models_dir)).name == "her"
    assert save_identity(her, tmp_path, "v1.2").name == "v1.2.safetensors"


@insightface
@pytest.mark.parametrize("name", ["../her", "..", "/etc/her", "C:\\her", "a/../../her", "nul", "", "her\0"])
def test_saving_never_leaves_its_folder(her, tmp_path, name):
    folder = tmp_path / "identities"
    folder.mkdir()
    with pytest.raises(InputError):
        save_identity(her, folder, name)
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())


@insightface
@pytest.mark.parametrize("name", ["out/her", "out/new/her"])
def test_a_link_that_leads_out_of_the_folder_is_refused_and_nothing_is_made_behind_it(her, tmp_path, name):
    folder, outside = tmp_path / "identities", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "out").symlink_to(outside, target_is_directory=True)
    with pytest.raises(InputError, match="leads out of the folder"):
        save_identity(her, folder, name)
    assert list(outside.iterdir()) == []


@insightface
def test_a_linked_folder_itself_may_be_saved_to(her, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert save_identity(her, tmp_path / "link", "a/her").exists()


@insightface
def test_a_folder_that_cannot_be_written_is_one_sentence(her, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(IdentityError, match="cannot be saved") as error:
        save_identity(her, tmp_path, "file/her")
    one_sentence(error)
    with pytest.raises(IdentityError, match="cannot be saved"):
        save_identity(her, tmp_path, "n" * 300)


def refused(path, models_dir, recognizer=None):
    with pytest.raises(IdentityError) as error:
        load_identity(path, opener(models_dir), recognizer)
    text = one_sentence(error)
    assert path.name in text
    return text


@insightface
def test_a_truncated_file_is_one_sentence_wherever_it_ends(her, models_dir, tmp_path):
    path = save_identity(her, tmp_path, "her")
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, 1000, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert "damaged" in refused(path, models_dir)


@insightface
def test_what_is_no_identity_is_one_sentence(models_dir, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "her.safetensors"
    for content in (np.random.default_rng(0).bytes(5000), b"{}", b"\xff" * 64, b"\x89PNG\r\n\x1a\n" + b"0" * 100):
        path.write_bytes(content)
        assert "damaged or not an identity" in refused(path, models_dir)
    save_file({"lora.weight": np.zeros((4, 4), np.float32)}, path, metadata={"format": "pt"})
    assert "not an identity made by Likeness" in refused(path, models_dir)
    save_file({"lora.weight": np.zeros((4, 4), np.float32)}, path)
    assert "not an identity made by Likeness" in refused(path, models_dir)
    assert "does not exist" in refused(tmp_path / "gone.safetensors", models_dir)
    refused(tmp_path, models_dir)


@pytest.fixture
def tampered(her, tmp_path):
    """Writes her file with changed tensors or changed words."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = save_identity(her, tmp_path, "her")
    with safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}

    def write(tensor=None, value=None, words=None, **outer):
        changed = {**tensors, **({tensor: np.ascontiguousarray(value(tensors[tensor]))} if tensor else {})}
        about = json.loads(metadata["identity"])
        if words:
            words(about)
        save_file(changed, path, {**metadata, "identity": json.dumps(about), **outer})
        return path

    return write


def poisoned(tensor):
    return np.where(np.arange(tensor.size).reshape(tensor.shape) == 1, np.nan, tensor).astype(tensor.dtype)


@insightface
@pytest.mark.parametrize(
    "tensor, value",
    [
        ("embeddings", lambda t: t[:2]),
        ("embeddings", lambda t: t[:, :100]),
        ("embeddings", lambda t: t[:, :0]),
        ("embeddings", lambda t: t[0]),
        ("embeddings", lambda t: t.astype(np.float64)),
        ("embeddings", poisoned),
        ("boxes", lambda t: t[:, :3]),
        ("boxes", poisoned),
        ("keypoints", lambda t: t[:, :4]),
        ("keypoints", poisoned),
        ("portrait", lambda t: t[..., 0]),
        ("portrait", lambda t: t[..., :2]),
        ("portrait", lambda t: t[:0]),
        ("portrait", lambda t: t.astype(np.float32)),
    ],
)
def test_tampered_tensors_are_one_sentence(tampered, models_dir, tensor, value):
    assert "damaged" in refused(tampered(tensor, value), models_dir)


@insightface
@pytest.mark.parametrize(
    "words",
    [
        lambda about: about.pop("references"),
        lambda about: about["references"].pop(),
        lambda about: about.update(references=[]),
        lambda about: about.update(references="abc"),
        lambda about: about.update(combine="sum"),
        lambda about: about.update(recognizer=None),
        lambda about: about["references"][0].update(confidence="high"),
        lambda about: about["references"][0].update(agreement=[]),
        lambda about: about["references"][0].update(flags=None),
        lambda about: about.pop("name"),
    ],
)
def test_tampered_words_are_one_sentence(tampered, models_dir, words):
    assert "damaged" in refused(tampered(words=words), models_dir)


@insightface
def test_a_file_of_a_newer_version_says_to_update(tampered, models_dir):
    assert "update the pack" in refused(tampered(version="2"), models_dir)


@insightface
def test_a_file_of_another_recognizer_is_refused_with_both_names(her, models_dir, tmp_path):
    path = save_identity(her, tmp_path, "her")
    text = refused(path, models_dir, open_recognizer("antelopev2", models_dir))
    assert "buffalo_l" in text and "antelopev2" in text and "build it again" in text


@insightface
def test_a_file_made_with_other_files_of_the_same_pack_is_refused(tampered, models_dir, her):
    path = tampered(words=lambda about: about["recognizer"].update(fingerprint="0" * 64))
    assert "another version of its files" in refused(path, models_dir)
    assert load_identity(tampered(), opener(models_dir), her.recognizer).name == "her"
