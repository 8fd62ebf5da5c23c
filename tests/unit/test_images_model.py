"""Image networks and what is done to pixels on the way: augmentation, scaling, normalisation, resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from catena.backbones import Blueprint, get_backbone
from catena.backbones.pixels import MARK, pixels_of
from catena.data.hub import copy_backbone
from catena.data.pictures import as_text, as_uri, canonical_png
from catena.errors import DataError, ModelError
from catena.evaluation.baselines import BaselineData
from catena.evaluation.images import backbone as backbone_baseline
from catena.evaluation.images import logistic, nearest
from catena.methods import Surroundings, get_method
from catena.problems import HeadSpec, get_problem
from catena.problems.image_augmentation import altered
from catena.settings import BackboneSettings, ImageAugmentationSettings, MethodSettings, ProblemSettings
from catena.training.batches import plan_training
from catena.training.devices import choose_device
from catena.training.engine import Engine
from catena.training.tokens import TokenTable, write_tokens
from tests.drawn_images import SHAPES, draw, png

HEAD = HeadSpec("image-classification", SHAPES)
SIZES = {"type": "resnet", "hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "input_size": 16}


def problem(size: int = 16, **augmentation: object):
    return get_problem(
        ProblemSettings.model_validate(
            {"name": "images", "images": {"size": size}, "augmentation": augmentation}
        )
    )


def resnet(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    blueprint = Blueprint.of(BackboneSettings.model_validate(SIZES), None)
    return get_backbone("resnet").build(
        Path("nowhere"), HEAD, dropout=None, attention="eager", blueprint=blueprint
    )


def records(count: int, size: int = 16, seed: int = 0) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    chosen = problem(size).settings.images
    labels = [SHAPES[number % 3] for number in range(count)]
    images = [as_text(canonical_png(png(draw(label, chance)), chosen)) for label in labels]
    return pd.DataFrame({"image": images, "label": labels})


# -- features and augmentation -----------------------------------------------------------------


def test_pixels_survive_encoding_storing_and_collating(tmp_path: Path) -> None:
    images = problem(6)
    table = records(5, size=6)
    write_tokens(tmp_path / "a.arrow", [images.encode(table, None, None, SHAPES)])
    stored = TokenTable(tmp_path / "a.arrow")
    batch = images.collate([stored[row] for row in (3, 1)], 0)
    assert batch["labels"].tolist() == [0, 1]
    first = canonical_png(_bytes(table["image"][3]), images.settings.images)
    with Image.open(_stream(first)) as image:
        expected = np.asarray(image).transpose(2, 0, 1) / 255
    assert batch["pixel_values"].shape == (2, 3, 6, 6)
    assert np.allclose(batch["pixel_values"][0].numpy(), expected)
    assert stored.lengths.tolist() == [1] * 5


def test_without_augmentation_an_image_stays_as_it_is() -> None:
    images = torch.rand(3, 3, 8, 8)
    assert torch.equal(altered(images, ImageAugmentationSettings()), images)


def test_mirroring_turns_about_half_of_the_images_left_to_right() -> None:
    images = torch.rand(200, 1, 4, 4)
    torch.manual_seed(0)
    seen = altered(images, ImageAugmentationSettings(flip=True))
    same = torch.isclose(seen, images, atol=1e-5).flatten(1).all(1)
    mirrored = torch.isclose(seen, images.flip(3), atol=1e-5).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 70 < int(mirrored.sum()) < 130


def test_a_shift_moves_the_centre_of_mass_by_as_much_as_is_allowed() -> None:
    images = torch.zeros(500, 1, 20, 20)
    images[:, :, 9:11, 9:11] = 1.0
    torch.manual_seed(0)
    seen = altered(images, ImageAugmentationSettings(shift=0.2))[:, 0]
    place = torch.arange(20.0)
    centre = (seen.sum(1) * place).sum(1) / seen.sum((1, 2))
    moved = centre - 9.5
    assert moved.abs().max() <= 4.01  # 0.2 of 20
    assert moved.max() > 3.5
    assert moved.min() < -3.5


def test_a_rotation_turns_by_at_most_its_degrees_and_a_scale_by_its_share() -> None:
    images = torch.zeros(300, 1, 41, 41)
    images[:, :, 20, 35] = 1.0  # 15 to the right of the middle
    rows, columns = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(41.0) - 20, indexing="ij")
    torch.manual_seed(0)
    seen = altered(images, ImageAugmentationSettings(rotation=30))[:, 0]
    mass = seen.sum((1, 2))
    angle = torch.atan2((seen * rows).sum((1, 2)) / mass, (seen * columns).sum((1, 2)) / mass)
    assert 28 < math.degrees(angle.abs().max()) < 31
    seen = altered(images, ImageAugmentationSettings(scale=0.3))[:, 0]
    distance = (seen * columns).sum((1, 2)) / seen.sum((1, 2))
    assert 19 < distance.max() < 19.8
    assert 10.3 < distance.min() < 11


def test_light_and_squares_stay_within_0_to_1() -> None:
    images = torch.rand(50, 3, 10, 10)
    torch.manual_seed(0)
    seen = altered(images, ImageAugmentationSettings(brightness=0.5, contrast=0.9, erase=0.5))
    assert seen.min() >= 0.0
    assert seen.max() <= 1.0
    grey = (seen == 0.5).all(1).flatten(1).float().mean(1)
    assert 0.05 < grey.mean() <= 0.25  # a square of half the side; less where it stands at the border


def test_the_same_random_state_gives_the_same_images() -> None:
    images = torch.rand(4, 3, 8, 8)
    chosen = ImageAugmentationSettings(flip=True, rotation=9, shift=0.1, contrast=0.1, erase=0.2)
    state = torch.get_rng_state()
    first = altered(images, chosen)
    torch.set_rng_state(state)
    assert torch.equal(altered(images, chosen), first)


# -- networks ----------------------------------------------------------------------------------


def test_a_resnet_comes_back_from_its_folder_with_what_it_does_to_pixels(tmp_path: Path) -> None:
    model = resnet().eval()
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin"))
    again = get_backbone("resnet").load(tmp_path, HEAD, attention="eager")
    images = torch.rand(2, 1, 9, 9)
    with torch.no_grad():
        assert torch.equal(again(images).logits, model(images).logits)
        assert again.vectors(images).shape == (2, 16)
    assert getattr(again.config, MARK)["size"] == [16, 16]
    assert again.config.id2label[2] == "frame"


def vit(folder: Path, **preprocessor: object) -> Path:
    """A tiny pretrained network for images of 24 × 24 pixels and 5 classes."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=24, patch_size=8, num_labels=5,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def test_a_pretrained_network_sees_pixels_as_transformers_own_processor_gives_them(tmp_path: Path) -> None:
    from transformers import ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    folder = vit(tmp_path, size={"height": 24, "width": 24}, image_mean=mean, image_std=std)
    theirs = ViTImageProcessorPil(size={"height": 24, "width": 24}, image_mean=mean, image_std=std)
    image = draw("disc", np.random.default_rng(0), side=24)
    inputs = theirs(image, return_tensors="pt")["pixel_values"]
    model = get_backbone("pretrained").build(folder, HEAD, dropout=None, attention="eager").eval()
    ours = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    assert torch.allclose(model.normalised(ours), inputs, atol=1e-5)
    reference = ViTForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = reference.vit(pixel_values=inputs).last_hidden_state
        assert torch.allclose(model.base_model(pixel_values=inputs).last_hidden_state, hidden, atol=1e-5)
        assert model(ours).logits.shape == (1, 3)  # a new head, for the classes at hand
        assert model(torch.rand(2, 1, 8, 8)).logits.shape == (2, 3)  # of any size, and grey


def test_what_the_preprocessor_says_is_read_in_all_its_ways(tmp_path: Path) -> None:
    from transformers import ConvNextConfig, ViTConfig

    def written(config: object, **values: object) -> dict[str, list[float]]:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
        return pixels_of(tmp_path, config)

    free = ConvNextConfig()
    assert written(free, size=160)["size"] == [160, 160]
    assert written(free, size={"shortest_edge": 200})["size"] == [200, 200]
    cropped = {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 192}}
    assert written(free, **cropped, do_center_crop=True)["size"] == [224, 192]
    assert written(ViTConfig(image_size=32))["size"] == [32, 32]
    assert written(free, do_normalize=False)["mean"] == [0, 0, 0]
    # EfficientNet: x / 127.5 - 1, then (x - 0.5) / 0.25
    scaled = written(free, rescale_factor=1 / 127.5, rescale_offset=True, image_mean=0.5, image_std=0.25)
    assert np.isclose((0.9 - scaled["mean"][0]) / scaled["std"][0], ((0.9 * 2 - 1) - 0.5) / 0.25)
    with pytest.raises(ValueError, match="2 values for 3 channels"):
        written(free, image_mean=[0.5, 0.5])
    (tmp_path / "preprocessor_config.json").write_text("[")
    with pytest.raises(ValueError, match="not a JSON object"):
        pixels_of(tmp_path, free)


def test_what_a_network_does_to_pixels_is_fetched_with_it(tmp_path: Path) -> None:
    folder = vit(tmp_path / "there", image_mean=0.25)
    copy_backbone(folder, tmp_path / "here")
    network = get_backbone("pretrained").build(tmp_path / "here", HEAD, dropout=None, attention="eager")
    assert getattr(network.config, MARK)["mean"] == [0.25] * 3


def test_a_network_for_texts_is_refused_in_a_sentence(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=9, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"it is a bert, which does not see images; set `backbone.type`"):
        get_backbone("pretrained").build(tmp_path, HEAD, dropout=None, attention="eager")


def test_a_network_for_other_images_loses_nothing_but_its_head(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = vit(tmp_path)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "vit." in name and name.endswith("weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="the network lacks vit"):
        get_backbone("pretrained").build(folder, HEAD, dropout=None, attention="eager")


@pytest.mark.parametrize("layers", [0, 1])
def test_only_the_top_layers_of_a_pretrained_network_may_move(tmp_path: Path, layers: int) -> None:
    model = get_backbone("pretrained").build(vit(tmp_path), HEAD, dropout=None, attention="eager")
    settings = MethodSettings(name="top_layers", layers=layers)
    moved = get_method(settings).prepare(model, Surroundings("images", HEAD))
    names = {name for name, weight in moved.named_parameters() if weight.requires_grad}
    assert any("classifier" in name for name in names)
    assert sum("layer" in name and "classifier" not in name for name in names) == (16 if layers else 0)


# -- training ----------------------------------------------------------------------------------


class _KilledError(Exception):
    pass


def train(folder: Path, data: Path, stop_at: int | None = None) -> tuple[dict[str, torch.Tensor], Engine]:
    """Train a ResNet with all augmentations; `stop_at` kills it after that step."""
    from catena.settings import TrainingSettings

    settings = TrainingSettings(
        epochs=8, batch_size=16, learning_rate=0.01, device="cpu",
        checkpoint_seconds=120.0 if stop_at is None else 0.0,
        precision="float32", metric="accuracy",
    )  # fmt: skip
    images = problem(
        16, flip=True, rotation=10, scale=0.1, shift=0.1, brightness=0.1, contrast=0.1, erase=0.2
    )
    table = TokenTable(data / "train.arrow")
    plan = plan_training(
        table.lengths, batch_tokens=2048, batch_size=16, epochs=8, gradient_accumulation=1, max_steps=None,
        seed=3,
    )  # fmt: skip
    model = resnet()

    def on_row(row: dict[str, float]) -> None:
        if stop_at is not None and "loss" in row and row["step"] == stop_at + 1:
            raise _KilledError

    engine = Engine(
        model, images, get_method(MethodSettings()), settings, plan, table,
        TokenTable(data / "validation.arrow"), folder=folder,
        device=choose_device("cpu", "float32", "auto"), pad_token_id=0, seed=3, class_weights=None,
        on_row=on_row,
    )  # fmt: skip
    engine.fit()
    return {name: value.clone() for name, value in model.state_dict().items()}, engine


def test_training_learns_shapes_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    images = problem(16)
    for part, count, seed in (("train", 120, 1), ("validation", 45, 2)):
        features = images.encode(records(count, seed=seed), None, None, SHAPES)
        write_tokens(tmp_path / f"{part}.arrow", [features])
    whole, engine = train(tmp_path / "whole", tmp_path)
    accuracy = max(row["validation_accuracy"] for row in engine.curve if "validation_accuracy" in row)
    assert accuracy > 0.75
    with pytest.raises(_KilledError):
        train(tmp_path / "parts", tmp_path, stop_at=21)
    parts, _ = train(tmp_path / "parts", tmp_path)
    assert whole.keys() == parts.keys()
    assert any("running_mean" in name for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


# -- rivals and inputs -------------------------------------------------------------------------


def test_the_rivals_agree_with_scikit_learn_by_hand() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    train, test = records(90, seed=1), records(30, seed=2)
    data = BaselineData(train, test, Path("none"), 0, 0, columns=("image", "label"))

    def vectors(table: pd.DataFrame) -> np.ndarray:
        return np.stack(
            [np.asarray(Image.open(_stream(_bytes(text)))).ravel() / 255 for text in table["image"]]
        )

    expected = KNeighborsClassifier(1).fit(vectors(train), train["label"]).predict(vectors(test))
    assert nearest(data)[0].tolist() == expected.tolist()
    said, sure = logistic(data)
    assert sure is not None
    assert (sure >= 1 / 3).all()
    assert (said == test["label"]).mean() > 0.5


def test_the_untouched_network_is_a_rival(tmp_path: Path) -> None:
    train, test = records(60, size=24, seed=1), records(30, size=24, seed=2)
    data = BaselineData(train, test, vit(tmp_path), 0, 0, columns=("image", "label"))
    said, sure = backbone_baseline(data)
    assert sure is not None
    assert set(said) <= set(SHAPES)
    assert (said == test["label"]).mean() > 0.4


def test_predicting_takes_any_picture_and_names_the_one_that_is_none(tmp_path: Path) -> None:
    images = problem(16)
    image = draw("disc", np.random.default_rng(5))
    path = tmp_path / "a picture.png"
    image.save(path)
    given = [images.read_argument(str(path)), as_text(png(image, "BMP")), as_uri(png(image), "x")]
    cleaned = images.clean(pd.DataFrame({"image": pd.Series(given, dtype="str")}), None)
    assert cleaned["image"].nunique() == 1
    assert images.clean(cleaned, None)["image"].tolist() == cleaned["image"].tolist()
    with pytest.raises(DataError, match=r"Record 2: nothing\.png: not an image"):
        images.clean(pd.DataFrame({"image": [given[0], as_uri(b"none", "nothing.png")]}), None)
    with pytest.raises(DataError, match="There is no image file"):
        images.read_argument(str(tmp_path / "gone.png"))


def _bytes(text: str) -> bytes:
    from catena.data.pictures import from_text

    return from_text(text)


def _stream(content: bytes):
    import io

    return io.BytesIO(content)
