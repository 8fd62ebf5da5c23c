"""Training a chain: resumed bit for bit, extended without touching what is there, held near its start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.tiny_project import environment, write_backbone

# Imports once, then trains each job in a fork of its own on random tokens; a job kills itself (SIGKILL) when
# step `kill` has been recorded, or when that many lines of the pretraining were printed. Prints one JSON line
# a job: its signal, and the error, or the weights' hash, the curve, and its predictions of a few texts.
SCRIPT = """
import builtins, gc, json, os, signal, sys
from pathlib import Path
import numpy as np
import pandas as pd
from catena.chain_predictor import ChainPredictor
from catena.errors import CatenaError
from catena.backbones import get_backbone
from catena.files import sha256_file
from catena.model_folder import read_card
from catena.problems import get_problem
from catena.settings import parse_settings
from catena.training.chain import train_chain
from catena.training.finetune import TrainingData
from catena.training.tokens import write_tokens
# what every job would import for itself
import sklearn.metrics
from transformers.models.bert import modeling_bert
gc.freeze()

LABELS = {"topics": ["a", "b", "c"], "tags": ["x"], "sizes": ["long", "short"],
          "shade": ["bright", "dark"], "side": ["left", "right", "same"]}
WORDS = ["wheat bank vessel", "port the of said", "dollar yen", "crew oats maize bushel tanker"]

def pictures(count, seed):
    return [np.random.default_rng([seed, at]).integers(0, 256, 64).astype(np.uint8) for at in range(count)]

def write_pictures(folder, tail):
    for part, n in (("train", 16), ("validation", 8)):
        images = pictures(n, len(part))
        labels = [int(one.mean() < 127) if tail == "shade" else at % 3 for at, one in enumerate(images)]
        features = {"pixels": images, "n_tokens": [1] * n, "labels": labels}
        write_tokens(folder / f"{part}.arrow", [features])
    (folder / "statistics.json").write_text(json.dumps({"label_names": LABELS[tail], "cleaning": {}}))

def as_records():
    from PIL import Image
    from catena.data.pictures import as_text, to_png
    images = [Image.fromarray(one.reshape(8, 8)) for one in pictures(4, 99)]
    return pd.DataFrame({"image": [as_text(to_png(one)) for one in images]})

def write(folder, tail, tokenizer):
    random = np.random.default_rng(len(tail))
    for part, n in (("train", 16), ("validation", 8)):
        ids = [[2, *random.integers(5, 60, random.integers(2, 14)).tolist(), 3] for _ in range(n)]
        labels = {
            "topics": [max(r) % 3 for r in ids],
            "tags": [[-100, *(i % 3 for i in r[1:-1]), -100] for r in ids],
            "sizes": [int(len(r) < 9) for r in ids],
        }[tail]
        write_tokens(folder / f"{part}.arrow", [{"input_ids": ids, "labels": labels}])
    tokenizer.save_pretrained(folder / "tokenizer")
    known = {"label_names": LABELS[tail], "max_length": 32, "cleaning": {}}
    (folder / "statistics.json").write_text(json.dumps(known))

def work(backbone, job, answer):
    folder, kill = Path(job["folder"]), job.get("kill")
    settings = parse_settings(job["settings"])
    data = {}
    for name in settings.problem.tails:
        place = folder.parent / f"tokens-{name}"
        problem = get_problem(settings.tail(name).problem)
        if problem.name == "images" and not place.exists():
            write_pictures(place, name)
        elif not place.exists():
            write(place, name, get_backbone("pretrained").tokenizer(backbone))
        data[name] = TrainingData.load(place, problem)
    if job.get("backbone"):
        backbone = Path(job["backbone"])

    def row(values):
        if kill and values["step"] == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    if job.get("kill_pretraining"):
        from catena.training import chain_pretraining
        saved = chain_pretraining.save_checkpoint
        def save(folder, step, **rest):
            saved(folder, step, **rest)
            if step == job["kill_pretraining"]:
                os.kill(os.getpid(), signal.SIGKILL)
        chain_pretraining.save_checkpoint = save

    tails = {
        name: {"problem": settings.tail(name).problem.model_dump(), "label_names": LABELS[name],
               "tokenization": {"max_length": 32}, "cleaning": {}, "columns": {"text": "text"}}
        for name in data
    }
    card = {"tails": tails, "backbone": settings.backbone.model_dump(),
            "method": settings.method.model_dump(), "fingerprint": "0" * 16}
    try:
        result = train_chain(settings, data, backbone_folder=backbone, checkpoints=folder / "checkpoints",
            target=folder / "model", card=card, on_row=row, on_start=lambda device, plan: None)
    except CatenaError as error:
        answer.write_text(json.dumps({"error": str(error)}))
        return
    chain = ChainPredictor(folder / "model", read_card(folder / "model"), "cpu", "float32")
    asked = as_records() if "shade" in data else WORDS
    said = chain.predict(asked)
    if "shade" in data:  # of texts, tests/unit/test_chain_predictor.py says it
        for name, one in chain.tails.items():
            for column, values in one.predict(asked).items():
                if values.dtype.kind == "f":
                    np.testing.assert_allclose(values, said[f"{name}.{column}"], atol=1e-6)
                else:
                    assert values.tolist() == said[f"{name}.{column}"].tolist()
    answer.write_text(json.dumps({
        "weights": sha256_file(folder / "model/model.safetensors"), "best": result.best_step,
        "curve": result.curve, "trainable": result.trainable, "said": said.astype(object).to_dict("list")}))

for number, job in enumerate(json.loads(sys.argv[2])):
    answer = Path(job["folder"]).with_suffix(f".{number}.json")
    child = os.fork()
    if child == 0:
        work(Path(sys.argv[1]), job, answer)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    result = json.loads(answer.read_text()) if answer.exists() else None
    print(json.dumps({"signal": os.WTERMSIG(status), "status": os.waitstatus_to_exitcode(status),
                      "result": result}))
"""
TAILS: dict[str, Any] = {
    "topics": {"data": {"train": "t.csv"}},
    "tags": {"data": {"train": "t.csv"}, "problem": {"name": "tagging"}},
}
MORE = {**TAILS, "sizes": {"data": {"train": "t.csv"}}}
CHAIN = {"links": [{"after": 1, "kind": "bottleneck", "size": 4}], "tail_size": 8, "weighting": "uncertainty"}
TRAINING = {
    "epochs": 2,
    "batch_size": 8,
    "batch_tokens": 128,
    "learning_rate": 0.01,
    "dropout": 0.1,
    "checkpoint_seconds": 1000,
    "weight_averaging": 0.9,
    "device": "cpu",
    "precision": "float32",
}


def settings(tails: dict[str, Any] = TAILS, **chain: Any) -> dict[str, Any]:
    return {
        "seed": 3,
        "data": {"name": "pair"},
        "problem": {"tails": tails},
        "tokenization": {"max_length": 32},
        "backbone": {"name": "tiny", "source": "folder:backbone", "pooling": "mean"},
        "method": {"name": "chain", "chain": {**CHAIN, **chain}},
        "training": TRAINING,
    }


def _pictures() -> dict[str, Any]:
    problem = {"name": "images", "images": {"size": 8, "colours": "grey"}}
    whole = settings({name: {"data": {"train": "x.npz"}, "problem": problem} for name in ("shade", "side")})
    whole["backbone"] = {
        "type": "resnet", "name": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1],
        "input_size": 16,
    }  # fmt: skip
    return whole


PICTURES = _pictures()
PRETRAINED = settings(pretraining={"steps": 5, "learning_rate": 0.001})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All trainings of this module, in one process and a fork each."""
    folder = tmp_path_factory.mktemp("chains")
    write_backbone(folder / "backbone")

    def job(name: str, chosen: dict[str, Any], **more: Any) -> dict[str, Any]:
        if " " in name:  # a checkpoint after every step, for those that are killed
            chosen = {**chosen, "training": {**TRAINING, "checkpoint_seconds": 0}}
        return {"name": name, "folder": str(folder / name.partition(" ")[0]), "settings": chosen, **more}

    base = str(folder / "alone" / "model")
    jobs = [
        job("alone", settings()),
        job("killed first", settings(), kill=3),
        job("killed again", settings(), kill=6),
        job("killed at-last", settings()),
        job("pretrained", PRETRAINED),
        job("halfway first", PRETRAINED, kill_pretraining=3),
        job("halfway second", PRETRAINED, kill=4),
        job("halfway at-last", PRETRAINED),
        job("frozen", settings(backbone_rate=0.0)),
        job("pulled", settings(l2_sp=100.0)),
        job("kept", settings(MORE), backbone=base),
        job("replayed", settings(MORE, earlier="replay"), backbone=base),
        job("nothing-new", settings(), backbone=base),
        job("pictures", PICTURES),
        job("replayed-pretrained", settings(MORE, earlier="replay", pretraining={"steps": 2}), backbone=base),
        job("nothing-pulled", settings(backbone_rate=0.0, l2_sp=1.0)),
        job("kept-pretrained", settings(MORE, pretraining={"steps": 2}), backbone=base),
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "backbone"), json.dumps(jobs)],
        cwd=Path(__file__).resolve().parents[2], env=environment(), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(jobs), done.stderr
    found = {one["name"]: {**line, "folder": one["folder"]} for one, line in zip(jobs, lines, strict=True)}
    failed = [name for name, one in found.items() if one["status"] > 0]
    assert not failed, (failed, done.stderr[-3000:])
    return found


def weights(one: dict[str, Any]) -> dict[str, np.ndarray]:
    loaded: dict[str, np.ndarray] = load_file(Path(one["folder"]) / "model" / "model.safetensors")
    return loaded


def distance(one: dict[str, Any], other: Path) -> float:
    """Squared distance of the backbone's weights from those in the folder `other`."""
    ours, theirs = weights(one), load_file(other / "model.safetensors")
    return sum(float(((ours[name] - theirs[name]) ** 2).sum()) for name in theirs if name in ours)


def test_a_chain_killed_twice_ends_in_the_same_weights(trained: dict[str, Any]) -> None:
    assert [trained[name]["signal"] for name in ("killed first", "killed again")] == [9, 9]
    whole, resumed = trained["alone"]["result"], trained["killed at-last"]["result"]
    assert resumed["weights"] == whole["weights"]
    assert resumed["curve"] == whole["curve"]


def test_a_chain_killed_in_its_pretraining_or_after_it_ends_in_the_same_weights(
    trained: dict[str, Any],
) -> None:
    assert [trained[name]["signal"] for name in ("halfway first", "halfway second")] == [9, 9]
    whole, resumed = trained["pretrained"]["result"], trained["halfway at-last"]["result"]
    assert resumed["weights"] == whole["weights"]
    assert whole["weights"] != trained["alone"]["result"]["weights"]


def test_validation_measures_every_tail_and_their_mean(trained: dict[str, Any]) -> None:
    rows = [row for row in trained["alone"]["result"]["curve"] if "validation_mean_score" in row]
    assert rows
    for row in rows:
        mean = (row["validation_topics.macro_f1"] + row["validation_tags.entity_f1"]) / 2
        assert row["validation_mean_score"] == pytest.approx(mean)


def test_a_frozen_backbone_is_the_one_it_was(trained: dict[str, Any]) -> None:
    backbone = Path(trained["frozen"]["folder"]).parent / "backbone"
    assert distance(trained["frozen"], backbone) == 0.0
    assert distance(trained["alone"], backbone) > 0.0
    assert trained["frozen"]["result"]["trainable"] < trained["alone"]["result"]["trainable"]


def test_l2_sp_holds_the_backbone_near_its_start(trained: dict[str, Any]) -> None:
    backbone = Path(trained["pulled"]["folder"]).parent / "backbone"
    assert distance(trained["pulled"], backbone) < 0.1 * distance(trained["alone"], backbone)


def test_a_tail_added_later_leaves_the_answers_of_earlier_ones_as_they_were_bit_for_bit(
    trained: dict[str, Any],
) -> None:
    before, after = trained["alone"]["result"], trained["kept"]["result"]
    assert before["said"].keys() < after["said"].keys()
    assert {name: after["said"][name] for name in before["said"]} == before["said"]
    old, new = weights(trained["alone"]), weights(trained["kept"])
    same = [name for name in old if name != "chain.uncertainty"]
    assert all(np.array_equal(old[name], new[name]) for name in same)
    measured = {name for row in after["curve"] for name in row if name.startswith("validation_")}
    assert measured == {
        "validation_mean_score", "validation_sizes.accuracy", "validation_sizes.macro_f1",
        "validation_sizes.log_loss",
    }  # fmt: skip


def test_replay_trains_on_with_all_tails(trained: dict[str, Any]) -> None:
    old, new = weights(trained["alone"]), weights(trained["replayed"])
    assert not np.array_equal(
        old["chain.tails.topics.classifier.weight"], new["chain.tails.topics.classifier.weight"]
    )
    names = {name for row in trained["replayed"]["result"]["curve"] for name in row}
    assert {"validation_topics.accuracy", "validation_tags.entity_f1", "validation_sizes.accuracy"} <= names


def test_tails_of_images_are_trained_and_loaded_like_others(trained: dict[str, Any]) -> None:
    done = trained["pictures"]["result"]
    assert set(done["said"]["side.prediction"]) <= {"left", "right", "same"}
    assert np.asarray(done["said"]["shade.p:dark"]) + done["said"]["shade.p:bright"] == pytest.approx(1.0)
    assert any("validation_shade.accuracy" in row for row in done["curve"])


def test_a_chain_that_is_kept_needs_a_new_tail_and_no_pretraining(trained: dict[str, Any]) -> None:
    assert "nothing would be trained; add a tail" in trained["nothing-new"]["result"]["error"]
    assert "without links, and that of" in trained["replayed-pretrained"]["result"]["error"]
    assert "here none of them moves" in trained["nothing-pulled"]["result"]["error"]
    assert "would change the backbone under tails" in trained["kept-pretrained"]["result"]["error"]
