"""Explanations of images: patches covered one by one, and the heat map of what is lost without them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from catena.backbones import Blueprint, get_backbone
from catena.cli import app
from catena.data.pictures import as_text, as_uri, canonical_png, from_text, pixels
from catena.explanation import explain
from catena.explanation_pictures import heat_picture
from catena.model_folder import write_card
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.problems.patches import Patch, covered, heat_map, patches
from catena.settings import BackboneSettings, ProblemSettings
from tests.drawn_images import SHAPES, draw, png
from tests.tiny_model import tiny_card

SETTINGS = {"name": "images", "images": {"size": 16}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder with an untrained ResNet."""
    problem = get_problem(ProblemSettings.model_validate(SETTINGS))
    sizes = BackboneSettings.model_validate({"type": "resnet", "hidden_sizes": [8], "depths": [1]})
    torch.manual_seed(4)
    model = get_backbone("resnet").build(
        Path("nowhere"), problem.head(SHAPES), dropout=None, attention="eager",
        blueprint=Blueprint.of(sizes, None),
    )  # fmt: skip
    target = tmp_path_factory.mktemp("images") / "model"
    target.mkdir()
    model.save_pretrained(target)
    card = tiny_card(SHAPES, fingerprint="0")
    changes = {
        "problem": SETTINGS,
        "backbone": {"type": "resnet"},
        "columns": {"image": "image", "label": "label"},
    }
    write_card(target, card | changes)
    return target


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "frame.png"
    draw("frame", np.random.default_rng(1)).save(path)
    return path


@pytest.mark.parametrize(("size", "most"), [(8, 255), (16, 255), (32, 63), (224, 255), (1, 7), (3, 7)])
def test_patches_reach_every_pixel_and_are_no_more_than_asked(size: int, most: int) -> None:
    found = patches("image", size, most)
    assert 1 <= len(found) <= most
    assert len(set(found)) == len(found)
    seen = np.zeros((size, size), dtype=bool)
    for one in found:
        assert one.top + one.side <= size and one.left + one.side <= size
        seen[one.top : one.top + one.side, one.left : one.left + one.side] = True
    assert seen.all()


def test_a_covered_patch_has_the_mean_colour_and_the_rest_stays(predictor: Predictor) -> None:
    values = np.zeros((16, 16, 3), dtype=np.uint8)
    values[:8] = (200, 100, 40)  # so the mean is half of it
    given = as_text(png(Image.fromarray(values)))
    after = pixels(from_text(covered(given, [Patch("image", 6, 2, 4)])))
    expected = values.copy()
    expected[6:10, 2:6] = (100, 50, 20)
    np.testing.assert_array_equal(after, expected)
    grey = as_text(png(Image.fromarray(np.full((4, 4), 9, dtype=np.uint8))))
    assert pixels(from_text(covered(grey, [Patch("image", 0, 0, 1)]))).shape == (4, 4, 1)


def test_a_pixel_of_the_heat_map_is_the_mean_of_the_patches_over_it() -> None:
    found = [Patch("image", 0, 0, 2), Patch("image", 0, 1, 2), Patch("image", 1, 0, 2)]
    expected = [[1.0, 2.0, 3.0], [-2.0, -1 / 3, 3.0], [-5.0, -5.0, 0.0]]
    np.testing.assert_allclose(heat_map(found, [1.0, 3.0, -5.0], 3), expected)


def test_the_effect_of_a_patch_is_what_the_log_odds_lose_when_it_is_covered(
    predictor: Predictor, picture: Path
) -> None:
    explanation = explain(predictor, {"image": as_uri(picture.read_bytes(), "x")}, most_predictions=20)
    read = as_text(canonical_png(picture.read_bytes(), predictor.problem.settings.images))
    assert explanation.inputs["image"] == read
    assert len(explanation.pieces) == 16 and explanation.called == ("patch", "patches")
    table = predictor.predict(
        pd.DataFrame({"image": [read, *(covered(read, [one]) for one in explanation.pieces)]})
    )
    chances = table[f"p:{explanation.prediction}"].to_numpy()
    odds = np.log(chances / (1 - chances))
    np.testing.assert_allclose(explanation.claims[0].effects, odds[0] - odds[1:], atol=1e-4)
    assert np.ptp(odds) > 0


def test_the_picture_shows_the_image_and_colours_what_speaks_for_and_against(
    predictor: Predictor, picture: Path
) -> None:
    explanation = explain(predictor, {"image": as_uri(picture.read_bytes(), "x")})
    (claim,) = explanation.claims
    shown = np.asarray(Image.open(io.BytesIO(heat_picture(explanation, claim)))).astype(int)
    assert shown.shape == (256, 256 + 16 + 256, 3)
    read = pixels(from_text(explanation.inputs["image"]))
    np.testing.assert_array_equal(shown[::16, :256:16], read)
    heat = heat_map(explanation.pieces, claim.shares(), 16)
    top, left = np.unravel_index(np.abs(heat).argmax(), heat.shape)
    red, _, blue = shown[16 * top, 272 + 16 * left]
    assert (blue > red) == (heat[top, left] > 0)


def test_the_command_takes_a_file_and_writes_page_picture_and_json(
    folder: Path, picture: Path, tmp_path: Path
) -> None:
    page, drawn = tmp_path / "page.html", tmp_path / "heat.png"
    arguments = ["explain", "--model", str(folder), str(picture), "--most", "20"]
    done = CliRunner().invoke(app, [*arguments, "--html", str(page), "--png", str(drawn)])
    assert done.exit_code == 0, done.output
    assert "rows 1–4, columns" in done.stdout or "rows 5–8, columns" in done.stdout
    assert "lost without it (log-odds)" in done.stdout
    text = page.read_text(encoding="utf-8")
    assert 'src="data:image/png;base64,' in text and "Each patch was left out" in text
    assert Image.open(drawn).width > Image.open(drawn).height >= 256
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    (claim,) = told["claims"]
    assert len(claim["patches"]) == 16
    assert claim["patches"][5].keys() == {"input", "top", "left", "height", "width", "effect"}
    lost = CliRunner().invoke(app, ["explain", "--model", str(folder), str(tmp_path / "gone.png")])
    assert lost.exit_code == 2 and "There is no image file" in lost.stderr
