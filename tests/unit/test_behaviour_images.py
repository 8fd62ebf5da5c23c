"""Behaviour tests of images: changes of pixels, pictures by their paths, and what is refused."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from catena.data.pictures import as_text, canonical_png, from_text, is_canonical, pixels
from catena.errors import SettingsError
from catena.evaluation.behaviour import load_behaviour
from catena.evaluation.checklist import Checklist
from catena.evaluation.picture_changes import PicturePerturbation
from catena.problems import get_problem
from catena.settings import ImageSettings, ProblemSettings, load_settings
from tests.drawn_images import draw, png

REPOSITORY = Path(__file__).resolve().parents[2]
GREY = ProblemSettings.model_validate({"name": "images", "images": {"size": 4, "colours": "grey"}})


def text_of(values: Any) -> str:
    return as_text(png(Image.fromarray(np.asarray(values, dtype=np.uint8))))


def changed(text: str, change: Any, seed: int = 0) -> str:
    return PicturePerturbation.model_validate(change).apply(text, random.Random(seed))


def flat(value: int) -> np.ndarray:
    return np.full((4, 4), value, dtype=np.uint8)


def by_brightness(records: pd.DataFrame) -> pd.DataFrame:
    """`light` where the mean is above 99; the chance of it is the mean as a share of white."""
    share = np.array([pixels(from_text(text)).mean() / 255 for text in records["image"]])
    said = np.where(share > 99 / 255, "light", "dark")
    return pd.DataFrame(
        {"prediction": said, "confidence": 0.9, "p:light": share, "p:dark": 1 - share}, index=records.index
    )


def results(folder: Path, content: str, images: list[str] | None = None) -> list[dict[str, Any]]:
    path = folder / "tests.yaml"
    path.write_text(f"tests:\n{content}", encoding="utf-8")
    problem = get_problem(GREY)
    suite = load_behaviour(path, problem.target_role, problem.perturbation())
    test = pd.DataFrame({"image": images or []}, dtype="str")
    checklist = Checklist(suite, problem, ("dark", "light"), test, 1, None, "tests.yaml", folder)
    found: list[dict[str, Any]] = checklist.run(by_brightness)["results"]
    return found


def test_brightness_and_contrast_are_shares_of_what_is_there() -> None:
    given = text_of([[100, 200], [50, 0]])
    np.testing.assert_array_equal(
        pixels(from_text(changed(given, {"brightness": -0.1})))[..., 0], [[90, 180], [45, 0]]
    )
    # Pillow rounds the mean of 87.5 to 88; each pixel's distance from it doubles, within 0 to 255.
    np.testing.assert_array_equal(
        pixels(from_text(changed(given, {"contrast": 1.0})))[..., 0], [[112, 255], [12, 0]]
    )


def test_a_shift_moves_every_pixel_one_way_and_repeats_the_edge() -> None:
    given = np.arange(16, dtype=np.uint8).reshape(4, 4)
    after = [pixels(from_text(changed(text_of(given), {"shift": 1}, seed))) for seed in range(40)]
    right = np.concatenate([given[:, :1], given[:, :-1]], axis=1)
    left = np.concatenate([given[:, 1:], given[:, -1:]], axis=1)
    down = np.concatenate([given[:1], given[:-1]])
    up = np.concatenate([given[1:], given[-1:]])
    assert {one.tobytes() for one in after} == {one.tobytes() for one in (right, left, down, up)}


def test_noise_has_the_deviation_asked_for_and_is_the_same_for_the_same_seed() -> None:
    given = text_of(np.full((100, 100), 128))
    once = changed(given, {"noise": 0.05})
    assert once == changed(given, {"noise": 0.05}) != changed(given, {"noise": 0.05}, seed=1)
    values = pixels(from_text(once)).astype(float)
    assert values.std() == pytest.approx(0.05 * 255, rel=0.05)
    assert values.mean() == pytest.approx(128, abs=0.5)


def test_mirror_and_jpeg_give_what_pillow_gives() -> None:
    image = draw("cross", np.random.default_rng(3))
    given = text_of(image)
    np.testing.assert_array_equal(pixels(from_text(changed(given, "mirror"))), np.asarray(image)[:, ::-1])
    stream = io.BytesIO(png(image, "JPEG"))  # of Pillow's usual quality, 75
    expected = np.asarray(Image.open(stream))
    np.testing.assert_array_equal(pixels(from_text(changed(given, {"jpeg": 75}))), expected)


@pytest.mark.parametrize("colours", ["grey", "rgb"])
@pytest.mark.parametrize(
    "change",
    ["mirror", {"brightness": 0.3}, {"contrast": -0.5}, {"shift": 2}, {"noise": 0.1}, {"jpeg": 30}],
)
def test_a_changed_image_is_as_prepared_ones_are(colours: Any, change: Any) -> None:
    settings = ImageSettings(size=12, colours=colours)
    given = as_text(canonical_png(png(draw("disc", np.random.default_rng(1))), settings))
    after = changed(given, change)
    assert after != given
    assert is_canonical(from_text(after), settings)


def test_an_image_that_a_change_leaves_as_it_is_makes_no_case(tmp_path: Path) -> None:
    content = "  - {name: t, kind: invariance, records: 5, perturbations: [mirror, brightness: 0.5]}\n"
    (found,) = results(tmp_path, content, [text_of(flat(0)), text_of(flat(10))])
    assert (found["cases"], found["passed_cases"]) == (1, 1)  # black stays black, and both are symmetric


def test_pictures_by_path_must_get_their_label_and_records_keep_theirs(tmp_path: Path) -> None:
    (tmp_path / "light").mkdir()
    for number, value in enumerate((180, 20)):
        Image.fromarray(np.full((9, 9, 3), value, dtype=np.uint8)).save(tmp_path / "light" / f"{number}.png")
    content = """
  - {name: known, kind: minimum_functionality, label: light,
     templates: ["light/{n}.png"], slots: {n: ["0", "1"]}}
  - {name: own, kind: minimum_functionality, cases: [{text: light/1.png, label: dark}]}
  - {name: order, kind: minimum_functionality, label: light,
     cases: [{better: light/0.png, worse: light/1.png}]}
  - {name: stays, kind: invariance, records: 9, perturbations: [brightness: 0.1]}
  - {name: pair, kind: invariance, pairs: [[light/0.png, light/1.png]]}
  - {name: lighter, kind: direction, label: light, change: raise,
     texts: [light/0.png], perturbations: [brightness: 0.2]}
"""
    images = [text_of(flat(value)) for value in (50, 95, 150)]
    known, own, order, stays, pair, lighter = results(tmp_path, content, images)
    assert (known["passed_cases"], known["cases"]) == (1, 2)
    (failure,) = known["failures"]
    assert (failure["text"], failure["expected"], failure["found"]) == ("light/1.png", "light", "dark (90%)")
    assert own["passed"] and order["passed"] and lighter["passed"]
    assert (stays["passed_cases"], stays["cases"]) == (2, 3)  # 95 becomes 104
    (moved,) = stays["failures"]
    assert (moved["before"], moved["text"]) == ("image of 4 × 4 pixels", "image of 4 × 4 pixels")
    shown = [pixels(from_text(picture)).mean() for picture in moved["pictures"]]
    assert shown == [95, 104]
    assert not pair["passed"] and pair["failures"][0]["before"] == "light/0.png"


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("records: 1, perturbations: [typo]", "`typo` of pictures; choose one of mirror, `bright"),
        ("records: 1, perturbations: [append: words]", "there is no perturbation `append` of pictures"),
        ("records: 1, perturbations: [brightness]", "perturbation `brightness` of pictures; choose one"),
        ("records: 1, perturbations: [{shift: 1, noise: 0.1}]", "a perturbation has exactly one entry"),
        ("records: 1, perturbations: [jpeg: 100]", "`perturbations.0.jpeg`: input should be less"),
        ("records: 1, perturbations: [shift: ]", "`shift` needs an amount"),
        ("texts: [absent.png], perturbations: [mirror]", "absent.png': no such file."),
        ("texts: [tests.yaml], perturbations: [mirror]", ": not an image."),
        ("texts: [cut.png], perturbations: [mirror]", ": image cut off or damaged."),
        ("texts: [../x.png], perturbations: [mirror]", ": path outside the folder of the tests."),
        ("texts: [/etc/hosts], perturbations: [mirror]", ": path outside the folder of the tests."),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, entry: str, sentence: str) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    (tmp_path / "cut.png").write_bytes(png(Image.fromarray(noisy))[:-200])
    with pytest.raises(SettingsError) as raised:
        results(tmp_path, f"  - {{name: t, kind: invariance, {entry}}}\n", [text_of(flat(9))])
    assert str(raised.value).startswith("tests.yaml: test ")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_changes_of_pictures_are_none_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "tests.yaml"
    path.write_text("tests:\n  - {name: t, kind: invariance, texts: [a], perturbations: [mirror]}\n")
    problem = get_problem("classification")
    with pytest.raises(SettingsError, match="no perturbation `mirror`; choose one of lowercase"):
        load_behaviour(path, problem.target_role, problem.perturbation())


def test_the_example_of_the_digits_fits_them() -> None:
    settings = load_settings(REPOSITORY / "presets" / "digits.yaml")
    assert settings.evaluation.behaviour == "behaviour/digits.yaml"
    problem = get_problem(settings.problem)
    path = REPOSITORY / settings.evaluation.behaviour
    suite = load_behaviour(path, problem.target_role, problem.perturbation())
    chance = np.random.default_rng(0)
    test = pd.DataFrame({"image": [text_of(chance.integers(0, 256, (8, 8))) for _ in range(5)]})
    labels = tuple(str(number) for number in range(10))
    found = Checklist(suite, problem, labels, test, 42, None, "digits.yaml", path.parent).run(
        lambda records: pd.DataFrame({"prediction": "3", "confidence": 1.0}, index=records.index)
    )
    assert found["tests"] == found["passed"] >= 3
