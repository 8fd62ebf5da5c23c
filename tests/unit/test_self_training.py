"""Self-training: what is chosen, what it weighs, rounds that end, and rounds that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from catena.errors import SettingsError
from catena.evaluation.figures import curve_charts, round_starts
from catena.evaluation.report import page_environment
from catena.methods import get_method
from catena.problems import get_problem
from catena.settings import MethodSettings, ProblemSettings, SelfTrainingSettings
from catena.training.chain_pretraining import texts_of
from catena.training.finetune import TrainingData
from catena.training.pseudo_labels import WithPseudoLabels, choose, class_counts
from catena.training.self_training import check_method
from catena.training.tokens import TokenTable, write_tokens
from catena.training.weighting import weighted_mean
from tests.tiny_project import environment, write_backbone

CONFIDENCE = np.array([0.99, 0.40, 0.97, 0.95, 0.96, 0.98])
SAID = pd.Series(["a", "a", "a", "b", "a", "b"])


def test_predictions_from_the_threshold_on_are_chosen() -> None:
    assert choose(CONFIDENCE, SAID, threshold=0.95).tolist() == [0, 2, 3, 4, 5]
    assert choose(CONFIDENCE, SAID, threshold=0.999).tolist() == []


def test_of_a_full_class_the_most_confident_are_chosen() -> None:
    assert choose(CONFIDENCE, SAID, threshold=0.95, max_per_class=1).tolist() == [0, 5]
    equal = np.full(6, 0.97)
    assert choose(equal, SAID, threshold=0.95, max_per_class=2).tolist() == [0, 1, 3, 5]


def test_balance_keeps_the_shares_of_the_labelled_records() -> None:
    # 3 of a and 2 of b are confident. Twice as many a: 3 and 1. Twice as many b: 1 and 2.
    assert choose(CONFIDENCE, SAID, threshold=0.95, labelled={"a": 20, "b": 10}).tolist() == [0, 2, 4, 5]
    assert choose(CONFIDENCE, SAID, threshold=0.95, labelled={"a": 10, "b": 20}).tolist() == [0, 3, 5]
    # Three times as many a, and of b, of which two thirds of a record would be the share, one.
    few = pd.Series(["a", "a", "b", "b"])
    assert choose(np.full(4, 0.97), few, threshold=0.95, labelled={"a": 3, "b": 1}).tolist() == [0, 1, 2]
    # Of c there is none at all, and 0 of everything has its share.
    assert choose(CONFIDENCE, SAID, threshold=0.95, labelled={"a": 1, "b": 1, "c": 1}).tolist() == []


def test_a_record_of_several_classes_needs_room_in_each() -> None:
    members = pd.Series(["a", "b", "a", "b"], index=[0, 0, 1, 2])  # record 3 has none
    confidence = np.array([0.99, 0.98, 0.97, 0.96])
    assert choose(confidence, members, threshold=0.9, max_per_class=1).tolist() == [0, 3]


def test_weights_count_record_by_record() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    weights = torch.tensor([1.0, 0.5, 0.5, 1.0, 2.0])

    def mean(labels: torch.Tensor, *, logits: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, labels)

    by_hand = (functional.cross_entropy(logits, labels, reduction="none") * weights).sum() / 5
    assert weighted_mean(mean, labels, weights, logits).item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_weights_of_classes_are_counted_over_the_whole_batch() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    weights, classes = torch.tensor([1.0, 0.5, 0.5, 1.0, 0.0]), torch.tensor([0.2, 3.0, 1.0])

    def mean(labels: torch.Tensor, *, logits: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, labels, weight=classes)

    each = functional.cross_entropy(logits, labels, reduction="none", weight=classes)
    by_hand = (each * weights).sum() / classes[labels].sum()
    assert weighted_mean(mean, labels, weights, logits, classes).item() == pytest.approx(by_hand.item())
    ones = torch.ones(5)
    same = weighted_mean(mean, labels, ones, logits, classes)
    assert same.item() == pytest.approx(mean(labels, logits=logits).item())


def test_weights_of_classes_and_shares_of_every_class_go_together() -> None:
    torch.manual_seed(0)
    logits, weights = torch.randn(5, 3), torch.tensor([1.0, 0.5, 0.5, 1.0, 2.0])
    shares, classes = torch.softmax(torch.randn(5, 3), dim=1), torch.tensor([0.2, 3.0, 1.0])

    def mean(labels: torch.Tensor, *, logits: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, labels, weight=classes)

    each = functional.cross_entropy(logits, shares, reduction="none", weight=classes)
    by_hand = (each * weights).sum() / 5
    assert weighted_mean(mean, shares, weights, logits, classes).item() == pytest.approx(by_hand.item())


def test_pseudo_labelled_records_follow_the_labelled_ones(tmp_path: Path) -> None:
    write_tokens(tmp_path / "train.arrow", [{"input_ids": [[2, 5, 3], [2, 6, 7, 3]], "labels": [1, 0]}])
    write_tokens(tmp_path / "more.arrow", [{"input_ids": [[2, 8, 3], [2, 9, 9, 9, 3], [2, 3]]}])
    labelled, more = TokenTable(tmp_path / "train.arrow"), TokenTable(tmp_path / "more.arrow")
    hard = WithPseudoLabels(labelled, more, np.array([1, 2]), np.array([0, 1]))
    assert [hard[row]["labels"] for row in range(len(hard))] == [1, 0, 0, 1]
    assert [hard[row]["input_ids"].tolist() for row in (1, 2)] == [[2, 6, 7, 3], [2, 9, 9, 9, 3]]
    assert hard.lengths.tolist() == [3, 4, 5, 2]
    assert "weight" not in hard[0]
    soft = WithPseudoLabels(labelled, more, np.array([0]), np.array([[0.25, 0.75]], dtype=np.float32), 0.5)
    assert [soft[row]["labels"].tolist() for row in range(3)] == [[0, 1], [1, 0], [0.25, 0.75]]
    assert soft.labels.tolist() == [1, 0]  # how frequent classes are is said by labelled records alone
    assert [soft[row]["weight"] for row in range(3)] == [1.0, 1.0, 0.5]


def test_records_that_were_collected_are_none_that_were_altered_written_or_pseudo_labelled(
    tmp_path: Path,
) -> None:
    rows = {"input_ids": [[2, 5, 3], [2, 6, 7, 3], [2, 8, 3]], "labels": [1, 0, 1]}
    write_tokens(tmp_path / "more.arrow", [{"input_ids": [[2, 9, 3]]}])
    more = TokenTable(tmp_path / "more.arrow")
    for name, augmented, wanted in (("some", [False, True, False], [0, 2]), ("none", [False] * 3, [0, 1, 2])):
        write_tokens(tmp_path / f"{name}.arrow", [{**rows, "augmented": augmented}])
        table = TokenTable(tmp_path / f"{name}.arrow")
        assert set(table[0]) == {"input_ids", "labels"}
        for records in (table, WithPseudoLabels(table, more, np.array([0]), np.array([0]))):
            ids = [records.collected[row]["input_ids"].tolist() for row in range(len(records.collected))]
            assert ids == [rows["input_ids"][row] for row in wanted]


def test_a_chains_pretraining_reads_texts_without_labels_too(tmp_path: Path) -> None:
    for part, first in (("train", 5), ("validation", 6), ("unlabelled", 7)):
        write_tokens(tmp_path / f"{part}.arrow", [{"input_ids": [[2, first, 3]], "labels": [0]}])
    (tmp_path / "statistics.json").write_text("{}")
    problem = get_problem(ProblemSettings(name="classification"))
    pd.DataFrame({"given": [""]}).to_parquet(tmp_path / "given.parquet")
    texts = texts_of({"topics": TrainingData.load(tmp_path, problem)})
    assert [texts[row]["input_ids"].tolist()[1] for row in range(len(texts))] == [5, 7]


def test_classes_are_counted_by_number_and_by_membership() -> None:
    assert class_counts(np.array([0, 2, 2]), ("a", "b", "c")) == {"a": 1, "b": 0, "c": 2}
    assert class_counts([np.array([1, 1]), np.array([0, 1])], ("a", "b")) == {"a": 1, "b": 2}


def test_methods_with_a_loss_of_their_own_take_no_soft_targets() -> None:
    method = get_method(MethodSettings())
    check_method(method, SelfTrainingSettings(targets="soft", weight=0.5))
    own = type("Own", (type(method),), {"reads_labels": True})(MethodSettings())
    check_method(own, SelfTrainingSettings())
    with pytest.raises(SettingsError, match="has a loss of its own"):
        check_method(own, SelfTrainingSettings(weight=0.5))


def test_the_report_shows_rounds_and_the_pseudo_labels_of_the_one_that_was_kept() -> None:
    by_class = {
        "a<b": {"pseudo_labels": 8, "known": 4, "right": 3},
        "c": dict.fromkeys(("pseudo_labels", "known", "right"), 0),
    }
    learned = {"pseudo_labels": 8, "known": 4, "right": 3, "precision": 0.75, "by_class": by_class}
    rounds = [
        {"round": 0, "validation": {"macro_f1": 0.5}},
        {"round": 1, "validation": {"macro_f1": 0.625}, **learned},
    ]
    template = page_environment().get_template("self_training.html.jinja")
    for best in (0, 1):
        told = {"rounds": rounds, "best_round": best, "unlabelled": 9, "notes": ["see `threshold`"]}
        page = template.render(rounds=told)
        assert "a&lt;b" in page and "<code>threshold</code>" in page
        assert page.count("75.0%") == 2 and "0.625" in page
        assert ("Round 1 was best" in page) == bool(best)
    alone = template.render(rounds={"rounds": rounds[:1], "best_round": 0, "unlabelled": 9, "notes": []})
    assert "Pseudo-labels of round" not in alone


def test_the_curve_is_marked_where_a_round_begins() -> None:
    curve = pd.DataFrame({"step": [1, 2, 3, 4], "round": [0, 0, 1, 1], "loss": [3.0, 2.0, 3.0, 1.0]})
    assert round_starts(curve) == [(2.0, 1)]
    assert round_starts(curve.drop(columns="round")) == []
    assert "round 1" in curve_charts(curve)[0]


# Trains each job in a fork of its own on tokens that tell the class; kills itself (SIGKILL) when step `kill`
# of the whole training has been recorded. Prints one JSON line a job.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from catena.files import sha256_file
from catena.problems import get_problem
from catena.settings import parse_settings
from catena.training.finetune import TrainingData
from catena.training.self_training import resumable, self_train
from catena.training.tokens import write_tokens
from catena.backbones import get_backbone

def part(random, count):
    labels = [int(n) for n in random.integers(0, 3, count)]
    tokens = [[*random.integers(40, 60, 4), *[10 + 10 * n] * 4] for n in labels]
    ids = [[2, *random.permutation(one).tolist(), 3] for one in tokens]
    return ids, labels

def work(backbone, job, answer):
    folder, kill = Path(job["folder"]), job["kill"]
    data = folder / "tokens"
    settings = parse_settings(job["settings"])
    several = settings.problem.name == "multilabel"
    if not data.exists():
        random = np.random.default_rng(1)
        for name, count in (("train", 48), ("validation", 30), ("unlabelled", 60)):
            ids, labels = part(random, count)
            targets = [[int(n == k) for k in range(3)] for n in labels] if several else labels
            told = {} if name == "unlabelled" else {"labels": targets}
            write_tokens(data / f"{name}.arrow", [{"input_ids": ids, **told}])
        texts = [json.dumps(["abc"[n]]) if several else "abc"[n] for n in labels]
        texts = [text if n % 2 else "" for n, text in enumerate(texts)]
        pq.write_table(pa.table({"given": texts}), data / "given.parquet")
        get_backbone("pretrained").tokenizer(backbone).save_pretrained(data / "tokenizer")
        (data / "statistics.json").write_text(json.dumps({"label_names": ["a", "b", "c"]}))

    def row(values):
        if kill and values["step"] == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    tokens = TrainingData.load(data, get_problem(settings.problem))
    where = resumable(folder / "checkpoints")
    result = self_train(settings, tokens, backbone_folder=backbone,
        checkpoints=folder / "checkpoints", target=folder / "model", card=job["card"], on_row=row,
        on_start=lambda device, plan: None)
    answer.write_text(json.dumps({
        "where": where, "weights": sha256_file(folder / "model/model.safetensors"), "curve": result.curve,
        "steps": result.steps, "best_step": result.best_step, "told": result.self_training,
        "card": json.loads((folder / "model/catena.json").read_text())["self_training"],
        "left": (folder / "checkpoints").exists(), "validation": result.validation,
    }))

for number, job in enumerate(json.loads(sys.argv[2])):
    answer = Path(job["folder"]).with_suffix(f".{number}.json")
    child = os.fork()
    if child == 0:
        work(Path(sys.argv[1]), job, answer)
        os._exit(0)
    os.waitpid(child, 0)
    print("answer " + json.dumps(json.loads(answer.read_text()) if answer.exists() else None))
"""
TRAINING = {
    "epochs": 5,
    "batch_size": 8,
    "batch_tokens": 128,
    "learning_rate": 0.01,
    "dropout": 0.1,
    "metric": "log_loss",
    "device": "cpu",
    "precision": "float32",
}


def train(folder: Path, *jobs: tuple[str, dict[str, Any], int, str]) -> list[dict[str, Any] | None]:
    """Run the jobs (folder, self-training settings, step to be killed at or 0, problem) one by one."""
    backbone = folder / "backbone"
    write_backbone(backbone)
    content = [
        {
            "folder": str(folder / name),
            "kill": kill,
            "card": {
                "problem": {"name": problem},
                "label_names": ["a", "b", "c"],
                "backbone": {"name": "tiny", "type": "pretrained"},
                "method": {},
                "tokenization": {"max_length": 32},
                "cleaning": {},
            },
            "settings": {
                "seed": 5,
                "problem": {"name": problem},
                "training": {
                    **TRAINING,
                    "checkpoint_seconds": 0 if name == "killed" else 100,
                    "self_training": rounds,
                },
            },
        }
        for name, rounds, kill, problem in jobs
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(backbone), json.dumps(content)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("answer ")]
    assert len(lines) == len(jobs), done.stderr
    return [json.loads(line.removeprefix("answer ")) for line in lines]


def test_rounds_learn_are_told_and_end_in_the_same_weights_when_killed(tmp_path: Path) -> None:
    rounds = {"rounds": 1, "threshold": 0.5, "weight": 0.5, "epochs": 2, "targets": "soft"}
    kind = "classification"
    alone, killed, resumed, several, none = train(
        tmp_path,
        ("alone", rounds, 0, kind),
        ("killed", rounds, 35, kind),  # the first round has 30 steps
        ("killed", rounds, 0, kind),
        ("several", {"rounds": 1, "threshold": 0.5, "epochs": 1}, 0, "multilabel"),
        ("none", {"threshold": 1.0}, 0, kind),
    )
    assert alone and resumed and several and none
    assert killed is None
    assert resumed["where"] == "round 1, step 4"
    assert {name: value for name, value in resumed.items() if name != "where"} == {
        name: value for name, value in alone.items() if name != "where"
    }
    # The curve goes on from round to round, and the best step is one of the round that was kept.
    steps = [row["step"] for row in alone["curve"]]
    assert steps == sorted(steps)
    assert steps[-1] == alone["steps"]
    assert {row["round"] for row in alone["curve"]} == {0.0, 1.0}
    told = alone["told"]
    assert told == alone["card"]
    best = next(
        row for row in alone["curve"] if row["step"] == alone["best_step"] and "validation_log_loss" in row
    )
    assert best["round"] == told["best_round"]
    assert best["validation_log_loss"] == min(row.get("validation_log_loss", 9) for row in alone["curve"])
    assert not alone["left"]
    # The tokens tell the class, so that what is known of the pseudo-labels is mostly right.
    first = told["rounds"][1]
    assert first["pseudo_labels"] > 20
    assert 0 < first["known"] <= 30
    assert first["precision"] == pytest.approx(first["right"] / first["known"], abs=1e-6)
    assert first["precision"] > 0.6
    assert sum(one["pseudo_labels"] for one in first["by_class"].values()) == first["pseudo_labels"]
    # Sets of classes are learned from too, and compared as sets.
    assert several["told"]["rounds"][1]["pseudo_labels"] > 0
    assert several["told"]["rounds"][1]["right"] > 0
    # Nothing passes: the model of the labelled records is kept, and the reason is told.
    assert none["told"]["best_round"] == 0
    assert "no prediction reaches" in none["told"]["notes"][0]
    assert none["steps"] == 30
