"""Images from files, folders, tables and archives: what is read, and what is refused and why."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from catena.data.cleaning import Cleaner
from catena.data.formats import Batch, read_records
from catena.data.installed import INSTALLED, lay_out
from catena.data.pictures import (
    UnreadableImageError,
    as_text,
    as_uri,
    canonical_png,
    described,
    from_text,
    is_canonical,
    pixels,
)
from catena.data.preparation import prepare
from catena.errors import ChecksumError, DataError, SettingsError
from catena.problems import get_problem
from catena.problems.images import Images
from catena.settings import DataSettings, ImageSettings, ProblemSettings, Settings
from tests.drawn_images import SHAPES, draw, png, write_folder

CHANCE = np.random.default_rng(0)
COLUMNS = {"image": "image", "label": "label"}


def settings(**values: object) -> ImageSettings:
    return ImageSettings.model_validate(values)


def read(path: Path, target: str | None = "label", **data: object) -> tuple[pd.DataFrame, pd.DataFrame]:
    chosen = DataSettings.model_validate({"columns": COLUMNS, **data})
    roles = ("image", "label") if target else ("image",)
    batches: list[Batch] = list(
        read_records(path, chosen, roles, target=target, keep=chosen.keep, contents=Images.contents)
    )
    return tuple(  # type: ignore[return-value]
        pd.concat([getattr(batch, part) for batch in batches], ignore_index=True)
        for part in ("records", "broken")
    )


# -- single pictures ------------------------------------------------------------------------


def test_lossless_files_of_the_same_pixels_become_the_same_text() -> None:
    image = draw("disc", np.random.default_rng(1))
    texts = {
        as_text(canonical_png(png(image, kind), settings(size=20))) for kind in ("PNG", "BMP", "TIFF", "PPM")
    }
    assert len(texts) == 1
    assert np.array_equal(pixels(from_text(texts.pop())), np.asarray(image))


def test_a_canonical_image_is_known_as_one_and_stays_as_it_is() -> None:
    chosen = settings(size=12, colours="grey")
    content = canonical_png(png(draw("cross", np.random.default_rng(2))), chosen)
    assert is_canonical(content, chosen)
    assert canonical_png(content, chosen) == content
    assert not is_canonical(content, settings(size=12))
    assert not is_canonical(content[:-1], chosen)
    assert not is_canonical(content[:50] + bytes([content[50] ^ 1]) + content[51:], chosen)


def test_the_cameras_orientation_is_applied() -> None:
    image = Image.new("RGB", (4, 4), "black")
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise: what is top left belongs top right
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=exif)
    values = pixels(canonical_png(stream.getvalue(), settings(size=4)))
    assert values[0, 3].tolist() == [255, 255, 255]
    assert values[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), [255, 255, 255]),
        (Image.new("1", (4, 4), 1), [255, 255, 255]),
        (Image.new("P", (4, 4), 0), [0, 0, 0]),
        (Image.new("L", (4, 4), 77), [77, 77, 77]),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), [255, 255, 255]),
        (Image.fromarray(np.full((4, 4), 257 * 9, np.uint16)), [9, 9, 9]),
    ],
)
def test_pixels_of_every_usual_kind_become_rgb(image: Image.Image, expected: list[int]) -> None:
    assert pixels(canonical_png(png(image), settings(size=4)))[1, 1].tolist() == expected


def test_sixteen_bits_of_other_formats_become_eight_and_what_is_clear_white() -> None:
    values = np.full((4, 4), 257 * 9, np.uint16)
    netpbm = b"P5 4 4 65535\n" + values.astype(">u2").tobytes()
    assert pixels(canonical_png(netpbm, settings(size=4)))[1, 1].tolist() == [9, 9, 9]
    stream = io.BytesIO()
    values[0, 0] = 257 * 50
    Image.fromarray(values).save(stream, "PNG", transparency=257 * 50)
    seen = pixels(canonical_png(stream.getvalue(), settings(size=4)))
    assert (seen[0, 0].tolist(), seen[1, 1].tolist()) == ([255] * 3, [9] * 3)


def test_grey_is_the_luma_of_itu_r_601() -> None:
    image = Image.new("RGB", (4, 4), (200, 100, 50))
    (value,) = pixels(canonical_png(png(image), settings(size=4, colours="grey")))[0, 0]
    assert value == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def test_an_oblong_image_is_stretched_padded_or_cropped() -> None:
    values = np.zeros((4, 8), np.uint8)
    values[:, 2:6] = 255  # the middle half is white
    content = png(Image.fromarray(values))
    kinds = {
        fit: pixels(canonical_png(content, settings(size=4, fit=fit, colours="grey")))[..., 0]
        for fit in ("stretch", "pad", "crop")
    }
    assert kinds["crop"].min() == 255
    assert kinds["pad"][0].max() == 0
    assert kinds["pad"][2].max() > 200
    assert kinds["stretch"][:, 0].max() < 30
    assert kinds["stretch"][:, 1:3].min() > 200


def test_the_first_of_several_frames_counts() -> None:
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    assert pixels(canonical_png(stream.getvalue(), settings(size=8))).max() == 10


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it has `side` × `side` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


PHOTO = Image.fromarray(np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "not an image"),
        (png(PHOTO)[:2000], "image cut off or damaged"),
        (png(PHOTO, "JPEG")[:1500], "image cut off or damaged"),
        (png(PHOTO, "GIF")[:1500], "image cut off or damaged"),
        (bomb(8000), "too many pixels (more than 50,000,000)"),
        (bomb(60000), "too many pixels (more than 50,000,000)"),
        (bomb(0), "not an image"),
        (png(Image.fromarray(np.full((4, 4), 1.5, np.float32)), "TIFF"), "pixels of an unsupported kind (F)"),
    ],
)
def test_what_cannot_be_used_says_why(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match="^" + reason.replace("(", r"\(").replace(")", r"\)")):
        canonical_png(content, settings())


def test_the_limit_of_pixels_is_a_setting() -> None:
    assert canonical_png(png(PHOTO), settings(max_pixels=64 * 64))
    with pytest.raises(UnreadableImageError, match="more than 4,095"):
        canonical_png(png(PHOTO), settings(max_pixels=64 * 64 - 1))


def test_an_image_is_shown_by_its_name_or_its_size() -> None:
    content = canonical_png(png(PHOTO), settings(size=24))
    assert described(as_uri(content, "a b/ç;,1.png")) == "a b/ç;,1.png"
    assert described(as_text(content)[:60]) == "image of 24 × 24 pixels"
    assert from_text(as_uri(content, "a,b")) == content


def test_a_picture_cut_within_its_header_is_not_an_image() -> None:
    content = canonical_png(png(PHOTO), settings(size=24))
    problem = get_problem("images")
    cut = [as_text(content[:length]) for length in range(8, 24)]
    records, reasons = problem.read_inputs(pd.DataFrame({"image": cut}))
    assert set(reasons) == {"not an image"}
    assert set(records["image"]) <= {"image", *cut}
    assert described(as_text(b"\x89PNG\r\n\x1a\n")) == "image"
    assert described(as_text(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)) == "image"
    with pytest.raises(DataError, match=r"^Record 1: .*: not an image\.$"):
        problem.clean(pd.DataFrame({"image": ["iVBORw0KGgo="]}), Cleaner())
    for given in cut:
        with pytest.raises(UnreadableImageError, match="not an image"):
            pixels(from_text(given))


def test_as_many_pixels_can_be_allowed_as_pillow_opens() -> None:
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    assert settings(max_pixels=most).max_pixels == most
    with pytest.raises(ValueError, match="less than or equal to 178956970"):
        settings(max_pixels=most + 1)


# -- folders and tables ------------------------------------------------------------------------


def test_a_folder_gives_its_pictures_in_order_with_their_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 4, seed=1)
    (tmp_path / "train" / ".DS_Store").write_bytes(b"x")
    records, broken = read(tmp_path / "train", keep=("file",))
    assert broken.empty
    assert records["label"].tolist() == [shape for shape in SHAPES for _ in range(4)]
    assert records["file"].tolist()[:2] == ["cross/000.jpg", "cross/001.png"]
    assert records["row"].tolist() == list(range(1, 13))
    assert from_text(records["image"][1]) == (tmp_path / "train/cross/001.png").read_bytes()


def test_without_labels_every_picture_below_a_folder_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path / "new", 1, seed=1)
    draw("disc", CHANCE).save(tmp_path / "new" / "more.png")
    records, _ = read(tmp_path / "new", target=None)
    assert len(records) == 4


def test_links_and_strays_in_a_folder_are_broken_rows(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 1, seed=1)
    (tmp_path / "secret.png").write_bytes(png(PHOTO))
    (tmp_path / "train/disc/link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "train/disc/round.png").symlink_to("round.png")
    (tmp_path / "train/stray.png").write_bytes(png(PHOTO))
    records, broken = read(tmp_path / "train")
    assert len(records) == 3
    assert dict(zip(broken["text"], broken["reason"], strict=True)) == {
        "disc/link.png": "link out of the data folder",
        "disc/round.png": "cannot be opened",
        "stray.png": "picture in no class's folder",
    }


def not_in_utf8(folder: Path, name: bytes, content: bytes) -> None:
    """A file whose name is Latin-1, as old archives leave them."""
    try:
        (folder / os.fsdecode(name)).write_bytes(content)
    except OSError:
        pytest.skip("the file system wants names in UTF-8")


def test_names_that_are_not_utf_8_are_read_and_rejected_like_others(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 20, seed=1)
    not_in_utf8(tmp_path / "train/disc", b"caf\xe9.png", png(PHOTO))
    not_in_utf8(tmp_path / "train/disc", b"caf\xe8.png", b"text")
    (tmp_path / "train" / os.fsdecode(b"h\xe9art")).mkdir()
    not_in_utf8(tmp_path / "train" / os.fsdecode(b"h\xe9art"), b"1.png", b"")
    chosen = image_settings(data={"keep": ["file"]})
    prepared = prepare(chosen, get_problem(chosen.problem), tmp_path)
    kept = pd.concat(prepared.parts.values())
    assert r"disc/caf\xe9.png" in set(kept["file"])
    prepared.rejected.to_parquet(tmp_path / "rejected.parquet")
    written = pd.read_parquet(tmp_path / "rejected.parquet").set_index("text")
    assert written.loc[r"disc/caf\xe8.png", "reason"] == "not an image"
    assert written.loc[r"h\xe9art/1.png", "label"] == r"h\xe9art"


def test_one_picture_may_be_asked_for_by_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    not_in_utf8(tmp_path, b"caf\xe9.png", png(PHOTO))
    given = get_problem("images").read_argument(str(tmp_path / os.fsdecode(b"caf\xe9.png")))
    assert described(given) == str(tmp_path / r"caf\xe9.png")


def test_a_table_of_large_pictures_is_read_a_few_megabytes_at_a_time(tmp_path: Path) -> None:
    names = [f"{number}.tif" for number in range(5)]
    for name in names:
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(17 << 20)
    (tmp_path / "train.csv").write_text("image,label\n" + "".join(f"{name},a\n" for name in names))
    chosen = DataSettings.model_validate({"columns": COLUMNS})
    batches = read_records(tmp_path / "train.csv", chosen, contents=Images.contents)
    rows = []
    for batch in batches:
        rows.append(batch.records["row"].tolist())
        assert [described(text) for text in batch.records["image"]] == [names[row - 1] for row in rows[-1]]
    # 32 MiB are full with the second of 17.
    assert rows == [[1, 2], [3, 4], [5]]


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(png(PHOTO))
    with pytest.raises(DataError, match="holds pictures but no folders"):
        read(tmp_path / "flat")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        read(tmp_path / "none", format="images")


def test_images_for_a_problem_of_texts_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 1, seed=1)
    with pytest.raises(DataError, match=r"set `problem.name` to images"):
        list(read_records(tmp_path / "train", DataSettings()))


def test_a_table_of_paths_gives_the_files_and_refuses_ways_out(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "out.png").write_bytes(png(PHOTO))
    (tmp_path / "data/in.png").write_bytes(png(PHOTO))
    (tmp_path / "data/link.png").symlink_to(tmp_path / "out.png")
    paths = ["in.png", "../out.png", str(tmp_path / "out.png"), "link.png", "gone.png", as_uri(b"x", "y")]
    rows = "".join(f'"{path}",a\n' for path in paths)
    (tmp_path / "data/train.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    records, broken = read(tmp_path / "data/train.csv", columns={"image": "path", "label": "label"})
    assert records["row"].tolist() == [1, 6]
    assert broken["reason"].tolist() == [
        "path outside the data folder",
        "path outside the data folder",
        "link out of the data folder",
        "no such file",
    ]


# -- arrays ------------------------------------------------------------------------------------


def grey(count: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (count, 6, 6), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["uint8", "int32", "float32", "float64", "rgb", "one channel", "bool"])
def test_arrays_of_usual_kinds_are_read(tmp_path: Path, kind: str) -> None:
    images = grey(5)
    expected = images
    if kind == "rgb":
        expected = images = np.stack([images, images // 2, 255 - images], axis=-1)
    elif kind == "one channel":
        images = images[..., None]
    elif kind == "bool":
        images = images > 127
        expected = images * np.uint8(255)
    elif kind.startswith("float"):
        images = (images / 255).astype(kind)
    else:
        images = images.astype(kind)
    np.savez_compressed(tmp_path / "a.npz", image=images, label=np.array(["a", "bé", "a", "bé", "a"]))
    records, broken = read(tmp_path / "a.npz", keep=("file",))
    assert broken.empty
    assert records["label"].tolist() == ["a", "bé", "a", "bé", "a"]
    assert records["file"][3] == "image[3]"
    found = np.stack([np.asarray(Image.open(io.BytesIO(from_text(text)))) for text in records["image"]])
    assert np.array_equal(found, expected)


def test_files_of_single_arrays_find_their_labels_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "train-images.npy", grey(3))
    np.save(tmp_path / "train-labels.npy", np.array([7, 8, 7]))
    columns = {"image": "images", "label": "labels"}
    records, _ = read(tmp_path / "train-images.npy", columns=columns)
    assert records["label"].tolist() == ["7", "8", "7"]
    (tmp_path / "train-labels.npy").unlink()
    with pytest.raises(DataError, match="there is no file of `labels`"):
        read(tmp_path / "train-images.npy", columns=columns)


def test_values_out_of_range_are_broken_rows(tmp_path: Path) -> None:
    images = grey(4) / 255.0
    images[1, 0, 0] = np.nan
    images[2, 0, 0] = 16.0
    np.savez(tmp_path / "a.npz", image=images, label=np.arange(4))
    records, broken = read(tmp_path / "a.npz")
    assert records["label"].tolist() == ["0", "3"]
    assert broken["text"].tolist() == ["image[1]", "image[2]"]
    assert set(broken["reason"]) == {"fractions outside 0 to 1"}


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"image": np.array([None, "x"], dtype=object), "label": np.arange(2)}, "would have to be unpickled"),
        ({"image": grey(2), "label": np.array(["a", None], dtype=object)}, "would have to be unpickled"),
        ({"image": grey(2), "label": np.arange(3)}, "2 images and 3 of `label`"),
        ({"image": grey(2), "labels": np.arange(2)}, "has no array `label`, only `image`, `labels`"),
        ({"image": np.zeros((2, 3, 8, 8)), "label": np.arange(2)}, "move the channels to the end"),
        ({"image": np.zeros((2, 64)), "label": np.arange(2)}, "is 2 × 64, and images are"),
        ({"image": grey(2).astype("c8"), "label": np.arange(2)}, "are no numbers"),
        ({"image": grey(2), "label": np.array([0.5, 1.0])}, "one whole number or text"),
        ({"image": np.asfortranarray(grey(2)), "label": np.arange(2)}, "stored column by column"),
    ],
)
def test_archives_that_cannot_be_used_are_refused_in_a_sentence(
    tmp_path: Path, arrays: dict[str, np.ndarray], sentence: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=sentence):
        read(tmp_path / "a.npz")


def test_damaged_archives_are_refused_in_a_sentence(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", image=grey(50), label=np.arange(50))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is damaged"):
        read(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"text")
    with pytest.raises(DataError, match="is no NumPy archive"):
        read(tmp_path / "a.npz")
    np.save(tmp_path / "image.npy", grey(50))
    np.save(tmp_path / "label.npy", np.arange(50))
    cut = (tmp_path / "image.npy").read_bytes()[:-10]
    (tmp_path / "image.npy").write_bytes(cut)
    with pytest.raises(DataError, match="is cut off"):
        read(tmp_path / "image.npy")


def test_labels_cut_off_in_their_last_bytes_are_refused_in_a_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", grey(50))
    np.save(tmp_path / "label.npy", np.arange(50))
    whole = (tmp_path / "label.npy").read_bytes()
    for lost in (1, 8, 100):
        (tmp_path / "label.npy").write_bytes(whole[:-lost])
        with pytest.raises(DataError, match=r"^label\.npy is cut off in its array `label`; get"):
            read(tmp_path / "image.npy")


def test_labels_of_no_length_are_refused_in_a_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", grey(3))
    with (tmp_path / "label.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<U0", "fortran_order": False, "shape": (3,)})
    with pytest.raises(DataError, match="must hold one whole number or text for each image"):
        read(tmp_path / "image.npy")


@pytest.mark.parametrize("column", ["a/b", "/", "x" * 300, "a\0b"])
def test_a_column_that_is_no_files_name_has_no_file(tmp_path: Path, column: str) -> None:
    np.save(tmp_path / "image.npy", grey(3))
    with pytest.raises(DataError, match=r"Beside image\.npy there is no file of"):
        read(tmp_path / "image.npy", columns={"image": "image", "label": column})


def test_an_array_that_says_it_is_huge_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, shape in (("image", "(900000000, 1000, 1000)"), ("label", "(900000000,)")):
            stream = io.BytesIO()
            header = {"descr": "|u1", "fortran_order": False, "shape": eval(shape)}  # noqa: S307
            np.lib.format.write_array_header_1_0(stream, header)
            archive.writestr(f"{name}.npy", stream.getvalue())
    with pytest.raises(DataError, match="is cut off"):
        read(tmp_path / "a.npz")


# -- preparation -------------------------------------------------------------------------------


def image_settings(**groups: dict[str, object]) -> Settings:
    values: dict[str, object] = {
        "problem": {"name": "images", "images": {"size": 20}},
        "backbone": {"name": "resnet", "type": "resnet"},
        "data": {"name": "shapes", "train": "train", "columns": COLUMNS},
    }
    for name, group in groups.items():
        values[name] = {**values.get(name, {}), **group}  # type: ignore[dict-item]
    return Settings.model_validate(values)


def test_preparation_rejects_broken_pictures_with_their_names_and_goes_on(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 20, seed=1)
    (tmp_path / "train/disc/bad.png").write_bytes(b"text")
    (tmp_path / "train/disc/cut.png").write_bytes(png(PHOTO)[:3000])
    (tmp_path / "train/disc/bomb.png").write_bytes(bomb(30000))
    copy = (tmp_path / "train/disc/001.png").read_bytes()
    (tmp_path / "train/disc/zcopy.bmp").write_bytes(png(Image.open(io.BytesIO(copy)), "BMP"))
    chosen = image_settings(data={"keep": ["file"]})
    prepared = prepare(chosen, get_problem(chosen.problem), tmp_path)
    reasons = dict(zip(prepared.rejected["text"], prepared.rejected["reason"], strict=True))
    assert reasons["disc/bad.png"] == "not an image"
    assert reasons["disc/cut.png"] == "image cut off or damaged"
    assert reasons["disc/bomb.png"] == "too many pixels (more than 50,000,000)"
    assert "duplicate" in set(prepared.rejected["kind"])
    assert sum(len(part) for part in prepared.parts.values()) + len(prepared.rejected) == 64
    assert prepared.report["parts"]["train"]["words"] == {}
    assert prepared.report["duplicates"]["files"]["train"]["examples"][0]["text"] == "image of 20 × 20 pixels"


def test_a_class_that_only_the_test_has_is_rejected(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 20, seed=1)
    write_folder(tmp_path / "test", 20, seed=2)
    (tmp_path / "test/star").mkdir()
    draw("cross", np.random.default_rng(9)).save(tmp_path / "test/star/1.png")
    chosen = image_settings(data={"test": "test"})
    prepared = prepare(chosen, get_problem(chosen.problem), tmp_path)
    assert prepared.classes == SHAPES
    lost = prepared.rejected[prepared.rejected["kind"] == "class not in the training part"]
    assert lost["label"].tolist() == ["star"]


def test_a_brightened_copy_in_another_part_is_a_near_duplicate(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 20, seed=1)
    write_folder(tmp_path / "test", 5, seed=2)
    image = Image.open(tmp_path / "test/disc/001.png")
    image.resize((40, 40), Image.Resampling.BICUBIC).point(lambda value: value * 0.9 + 9).save(
        tmp_path / "train/disc/copy.jpg", quality=95
    )
    chosen = image_settings(data={"test": "test", "keep": ["file"]})
    prepared = prepare(chosen, get_problem(chosen.problem), tmp_path)
    assert (prepared.rejected["kind"] == "near duplicate").sum() == 1
    assert prepared.report["near_duplicates"]["between"]["train → test"] == 1
    kept = pd.concat(prepared.parts.values())
    assert "disc/copy.jpg" not in set(kept["file"])


def test_augmentation_of_texts_is_refused_for_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 20, seed=1)
    chosen = image_settings(preparation={"augmentation": {"copies": 1, "word_dropout": 0.1}})
    with pytest.raises(SettingsError, match=r"see `problem\.augmentation`"):
        prepare(chosen, get_problem(chosen.problem), tmp_path)


# -- the packaged digits -----------------------------------------------------------------------


def test_the_packaged_digits_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    lay_out(INSTALLED["digits"], tmp_path / "digits")
    with np.load(tmp_path / "digits/digits.npz", allow_pickle=False) as found:
        given = load_digits()
        assert np.array_equal(np.rint(found["images"] / 255 * 16), given.images)
        assert np.array_equal(found["labels"], given.target)
    lay_out(INSTALLED["digits"], tmp_path / "digits")
    (tmp_path / "digits/digits.npz").write_bytes(b"other")
    with pytest.raises(ChecksumError, match="give your own data a name of its own"):
        lay_out(INSTALLED["digits"], tmp_path / "digits")


def test_an_image_problem_wants_a_network_for_images() -> None:
    with pytest.raises(ValueError, match="reads tokens"):
        Settings.model_validate({"problem": {"name": "images"}, "backbone": {"type": "recurrent"}})
    with pytest.raises(ValueError, match="sees images"):
        Settings.model_validate({"backbone": {"type": "resnet"}})
    with pytest.raises(ValueError, match="at least 32"):
        Settings.model_validate(
            {"problem": {"name": "images"}, "backbone": {"type": "resnet", "input_size": 28}}
        )
    assert ProblemSettings(name="images").images.size == 32
