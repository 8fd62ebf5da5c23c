"""What `catena compress` and `catena export` write is used like any model; bad input gets a sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from catena.backbones import Blueprint, get_backbone
from catena.cli import app
from catena.compression.folder import compress_folder
from catena.compression.onnx import export_onnx
from catena.errors import CatenaError, DataError, ModelError, SettingsError, StorageError
from catena.model_folder import CARD, read_card, write_card
from catena.predictor import Predictor
from catena.problems import HeadSpec
from catena.settings import BackboneSettings, CompressionSettings
from tests.tiny_language_model import tiny_network, tiny_tokenizer
from tests.tiny_model import LABELS, build_tiny_chain, build_tiny_model, build_tiny_ranker, tiny_card
from tests.tiny_project import write_records

INT8 = CompressionSettings(quantize="int8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "model", seed=1)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_records(folder / "records.csv", count=30, seed=5)
    pd.read_csv(folder / "records.csv").to_parquet(folder / "records.parquet")
    return folder / "records.parquet"


@pytest.fixture(scope="module")
def exported(model: Path, records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "onnx"
    done = export_onnx(model, target, records, tolerance=1e-4)
    assert done.records == 30
    assert done.difference < 1e-4
    assert done.agreement == 1.0
    return target


def changed(model: Path, target: Path, **values: object) -> Path:
    """A copy of the model folder whose card says something else."""
    shutil.copytree(model, target)
    card = {name: value for name, value in read_card(target).items() if name not in ("format", "files")}
    write_card(target, card | values)
    return target


def test_a_compressed_folder_is_a_model_like_any_other(model: Path, records: Path, tmp_path: Path) -> None:
    target = tmp_path / "small"
    words = ["--model", model, "--output", target, "--records", records, "--quantize", "int8"]
    words += ["--prune-heads", "0.5", "--prune-layers", "1"]
    done = CliRunner().invoke(app, ["compress", *map(str, words)])
    assert done.exit_code == 0, done.output
    assert "Layers cut out: " in done.output and "Heads cut out: 1 of 2" in done.output
    assert "accuracy (30 records)" in done.output
    card = read_card(target)
    assert card["compression"]["int8"] is True
    assert len(card["compression"]["steps"]) == 3
    assert card["compression"]["of"]["fingerprint"] == read_card(model)["fingerprint"] != card["fingerprint"]
    predictor = Predictor.load(target)
    assert predictor.device.precision == "float32"
    said = predictor.predict(["wheat harvest", "tanker in the gulf"])
    np.testing.assert_allclose(said[[f"p:{name}" for name in LABELS]].sum(axis=1), 1.0)
    assert sum(file["bytes"] for file in card["files"].values()) < 25_000


def test_rounding_alone_needs_no_records_and_hardly_changes_a_prediction(
    model: Path, records: Path, tmp_path: Path
) -> None:
    done = compress_folder(model, tmp_path / "small", INT8)
    assert done.after.weights == done.before.weights
    assert done.after.bytes < 0.5 * done.before.bytes
    texts = pd.read_parquet(records)["text"].tolist()
    columns = [f"p:{name}" for name in LABELS]
    before, after = (Predictor.load(folder).predict(texts)[columns] for folder in (model, tmp_path / "small"))
    np.testing.assert_allclose(before, after, atol=0.01)


def test_the_exported_network_needs_only_onnxruntime_and_tokenizers(
    exported: Path, model: Path, records: Path
) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    described = json.loads((exported / "export.json").read_text())
    tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
    tokenizer.enable_truncation(described["max_length"])
    tokenizer.enable_padding(pad_id=described["pad_token_id"])
    session = onnxruntime.InferenceSession(str(exported / "model.onnx"))
    texts = [*pd.read_parquet(records)["text"].head(9), "wheat " * 60, "ship"]
    predictor = Predictor.load(model, precision="float32")
    wanted = predictor.predict(texts)
    for batch in (texts, texts[:1]):  # any number of any length
        tokens = tokenizer.encode_batch(batch)
        given = {
            "input_ids": np.array([one.ids for one in tokens]),
            "attention_mask": np.array([one.attention_mask for one in tokens]),
        }
        (logits,) = session.run(None, {name: given[name] for name in described["inputs"]})
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        expected = wanted[[f"p:{name}" for name in described["label_names"]]].to_numpy()[: len(batch)]
        np.testing.assert_allclose(chances, expected, atol=1e-5)


def test_too_large_a_difference_stops_the_export(
    model: Path, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: Path
) -> None:
    from catena.compression import onnx

    # what the exporter wrote is another model's
    other = build_tiny_model(tmp_path / "other", seed=2)
    monkeypatch.setattr(
        onnx, "_export", lambda network, names, batches, file: shutil.copy(exported / "model.onnx", file)
    )
    with pytest.raises(ModelError, match=r"differs from PyTorch's by up to .*, more than 0.001"):
        export_onnx(other, tmp_path / "onnx", records)
    assert not (tmp_path / "onnx").exists()
    done = export_onnx(model, tmp_path / "int8", records, quantize=True, agreement=0.0)
    assert 0 < done.difference < 0.05
    assert done.bytes < (exported / "model.onnx").stat().st_size
    with pytest.raises(ModelError, match=r"After rounding only .*% of the records are predicted as before"):
        export_onnx(model, tmp_path / "strict", records, quantize=True, agreement=1.0 + 1e-9)


def test_scores_of_pairs_are_compared_as_numbers(tmp_path: Path) -> None:
    from catena.compression.onnx import _agreement

    predictor = Predictor.load(build_tiny_ranker(tmp_path / "ranker"), device="cpu", precision="float32")
    pairs = pd.DataFrame({"query": ["wheat"] * 4, "item": ["ship", "wheat harvest", "bank", "the dollar"]})
    table, features = predictor.read(pairs, clean=False)
    logits = np.asarray(predictor._outputs(table, features))
    # R²: a shift by a share of the standard deviation costs that share squared of the variance
    for gap, wanted in ((1e-5, 1.0), (0.3, 0.91), (1.5, 0.0)):
        outputs = dict(enumerate(logits + gap * logits.std()))
        assert _agreement(predictor, table, features, outputs) == pytest.approx(wanted, abs=0.02)


def test_models_that_cannot_be_compressed_or_exported_get_a_sentence(
    model: Path, records: Path, tmp_path: Path
) -> None:
    compress_folder(model, tmp_path / "small", INT8)
    with pytest.raises(ModelError, match="in eight bits already"):
        compress_folder(tmp_path / "small", tmp_path / "smaller", INT8)
    with pytest.raises(ModelError, match="prune the model before, and quantise last"):
        compress_folder(tmp_path / "small", tmp_path / "smaller", CompressionSettings(prune_heads=0.5))
    with pytest.raises(ModelError, match="in a form of Catena's own; export the model before"):
        export_onnx(tmp_path / "small", tmp_path / "onnx", records)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small"]


def test_a_recurrent_network_is_not_exported(model: Path, records: Path, tmp_path: Path) -> None:
    sizes = BackboneSettings(name="x", type="recurrent", hidden_size=8, embedding_size=8)
    head = HeadSpec("sequence-classification", LABELS)
    lstm = get_backbone("recurrent").build(
        tmp_path, head, dropout=0.0, attention="eager", blueprint=Blueprint(sizes, 300)
    )
    folder = changed(model, tmp_path / "lstm", backbone=sizes.model_dump())
    lstm.save_pretrained(folder)
    write_card(folder, {name: value for name, value in read_card(folder).items() if name != "files"})
    with pytest.raises(ModelError, match="A recurrent network reads each text exactly as far as it goes"):
        export_onnx(folder, tmp_path / "onnx", records)


def test_a_model_that_writes_is_not_exported(tmp_path: Path, records: Path) -> None:
    folder = tmp_path / "writer"
    tokenizer = tiny_tokenizer()
    tiny_network(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = tiny_card((), "f") | {"problem": {"name": "generation"}}
    write_card(folder, card | {"columns": {"dialogue": "dialogue"}})
    with pytest.raises(SettingsError, match="writes token by token"):
        export_onnx(folder, tmp_path / "onnx", records)


def test_a_model_that_asks_a_language_model_about_labels_is_not_exported(
    records: Path, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer()
    for name in ("density", "prompt", "pattern"):
        method = {"name": name, "prompt": {"template": {"pattern": "{text} {label}"}}}
        folder = tmp_path / name
        tiny_network(tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_card(folder, tiny_card(LABELS, "f") | {"method": method})
        words = ["export", "--model", folder, "--output", tmp_path / "o", "--records", records]
        failure = CliRunner().invoke(app, [*map(str, words)])
        assert failure.exit_code == CatenaError.exit_code
        assert f"A model of the method {name} asks a language model" in failure.stderr
    assert not (tmp_path / "o").exists()


def test_records_that_do_not_fit_get_a_sentence(model: Path, records: Path, tmp_path: Path) -> None:
    cut = CompressionSettings(prune_heads=0.5)
    table = pd.read_parquet(records)
    table.drop(columns="label").to_parquet(tmp_path / "unlabelled.parquet")
    table.head(0).to_parquet(tmp_path / "empty.parquet")
    table.assign(label="unheard").to_parquet(tmp_path / "other.parquet")
    (tmp_path / "damaged.parquet").write_bytes(records.read_bytes()[:200])
    for name, message in (
        ("absent", "There is no .*absent.parquet"),
        ("unlabelled", "holds no prepared records with the columns text, label"),
        ("empty", "holds no records"),
        ("other", "'unheard' is not among the model's 3 labels"),
        ("damaged", "holds no prepared records"),
    ):
        with pytest.raises(DataError, match=message):
            compress_folder(model, tmp_path / "small", cut, tmp_path / f"{name}.parquet")
    assert not (tmp_path / "small").exists()


def test_targets_in_use_stay_as_they_are(model: Path, records: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for write in (
        lambda target: compress_folder(model, target, INT8),
        lambda target: export_onnx(model, target, records),
    ):
        with pytest.raises(SettingsError, match=r"holds 'thesis.txt', which would be deleted"):
            write(tmp_path / "mine")
        with pytest.raises(SettingsError, match="which it is made from"):
            write(model / "inside")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert not (model / "inside").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Nothing is to be done"),
        (["--prune-heads", "1"], "`--prune-heads`: input should be less than 1"),
        (["--prune-layers", "2"], "of which one must stay"),
        (["--prune-layers", "1"], "needs labelled records to measure on"),
    ],
)
def test_the_command_line_says_what_is_wrong_with_its_options(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)  # no project here, and so no validation part
    words = ["compress", "--model", str(model), "--output", "small", *options]
    failure = CliRunner().invoke(app, words)
    assert failure.exit_code == CatenaError.exit_code
    assert message in failure.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 16 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_in_a_sentence_and_leaves_nothing(model: Path, small_disk: Path) -> None:
    with pytest.raises(StorageError, match="The disk is full while writing"):
        compress_folder(model, small_disk / "small", INT8)
    assert not list(small_disk.iterdir())


def test_only_what_is_stored_as_a_whole_network_is_made_smaller(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catena.compression.steps import check_plain
    from catena.methods import get_method
    from catena.settings import MethodSettings

    for name, store in (("full", "merged"), ("lora", "merged"), ("unchanged", "merged")):
        check_plain(get_method(MethodSettings.model_construct(name=name, store=store)))
    for name, store, message in (
        ("lora", "adapter", "the method lora with `store` adapter is stored in a form of its own"),
        ("prefix_tuning", "merged", "the method prefix_tuning is stored in a form of its own"),
        ("density", "merged", "the method density is stored in a form of its own"),
        ("pattern", "merged", "the method pattern is stored in a form of its own"),
    ):
        with pytest.raises(SettingsError, match=message):
            check_plain(
                get_method(
                    MethodSettings.model_construct(**{**dict(MethodSettings()), "name": name, "store": store})
                )
            )
    chain = build_tiny_chain(tmp_path / "chain")
    for command, message in (
        (["compress", "--quantize", "int8"], "the method chain is stored in a form of its own"),
        (["export", "--records", str(records)], "A chain answers several questions at once"),
    ):
        failure = CliRunner().invoke(app, [*command, "--model", str(chain), "--output", str(tmp_path / "o")])
        assert failure.exit_code == CatenaError.exit_code
        assert message in failure.stderr
    assert not (tmp_path / "o").exists()


def test_weights_that_adapters_were_merged_into_are_made_smaller(
    model: Path, records: Path, tmp_path: Path
) -> None:
    merged = changed(model, tmp_path / "merged", method={"name": "lora"})
    compress_folder(merged, tmp_path / "small", INT8, records)
    said, wanted = (Predictor.load(folder).predict(["wheat"]) for folder in (tmp_path / "small", merged))
    assert said["confidence"][0] == pytest.approx(wanted["confidence"][0], abs=0.01)


def test_the_card_names_every_file(model: Path, tmp_path: Path) -> None:
    compress_folder(model, tmp_path / "small", INT8)
    there = {path.name for path in (tmp_path / "small").iterdir()}
    assert there == {*read_card(tmp_path / "small")["files"], CARD}
