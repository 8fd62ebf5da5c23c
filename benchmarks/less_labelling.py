"""Do few labels go further with unlabelled text, altered copies, or a choice of what to label?

    python -m benchmarks.less_labelling --data FOLDER

Two questions, on SST-2 and Financial PhraseBank (75% agreement), with all-MiniLM-L6-v2, mean-pooled:

`few`: k labels a class (8, 32, 64) and as many for validation, five draws; fine-tuned on them as they are
(`plain`), with four altered copies of each (`augmented`: `preparation.augmentation`), by self-training on
3,000 records whose labels are hidden (`self_training`). Beside them are two learners that fine-tune nothing:
logistic regression on TF-IDF (`tfidf`) and on the backbone's embeddings (`frozen`). Each run passes through
the stages prepare and tokenize, so that unlabelled records which are nearly test records are left out.

`active`: from 20 random labels on, 20 more at a time up to 200 are chosen by each strategy of `catena
label-next`, or at random, five draws. The learner that chooses and is measured is logistic regression on the
frozen embeddings; with `--finetuned 100 200` what it had chosen of SST-2 is fine-tuned on, too.

Every run is written to `benchmarks/results/less_labelling.json` as soon as it is done, and one that is there
is not run again. The figures beside it are drawn from that file. Test parts choose nothing, and what is
nearly a test record is left out of the other parts.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from benchmarks import public_sets
from benchmarks.machine import describe
from catena.data.near_duplicates import Side, find_near_duplicates
from catena.files import write_json
from catena.labelling.diversity import by_gradients, k_centres
from catena.layout import Layout
from catena.model_folder import read_card
from catena.predictor import Predictor
from catena.problems import get_problem
from catena.settings import Settings, parse_settings
from catena.training.embedding import embed_texts
from catena.training.finetune import TrainingData
from catena.training.self_training import self_train
from tasks.prepare import prepare
from tasks.tokenize import tokenize

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
METHODS = ("tfidf", "frozen", "plain", "augmented", "self_training")
#: Entropy and margin choose alike where there are two classes: both order by the distance from ½.
STRATEGIES = ("random", "entropy", "margin", "diversity", "mixed")
UNLABELLED = 3_000
START, STEP = 20, 20


def phrasebank(folder: Path) -> dict[str, pd.DataFrame]:
    """PhraseBank, which has no parts: 800 records for the test and 400 for validation, drawn once."""
    table = public_sets.phrasebank(folder).sample(frac=1.0, random_state=0).reset_index(drop=True)
    return {"test": table[:800], "validation": table[800:1200], "train": table[1200:].reset_index(drop=True)}


DATA: dict[str, Callable[[Path], dict[str, pd.DataFrame]]] = {
    "sst2": public_sets.sst2,
    "phrasebank": phrasebank,
}


def apart(parts: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The same without the records to learn from and to choose by that are nearly test records."""
    threshold = parse_settings({}).preparation.near_duplicate_threshold
    test = Side(parts["test"]["text"].tolist())
    kept = {"test": parts["test"]}
    for part in ("train", "validation"):
        table = parts[part].reset_index(drop=True)
        counts = np.ones(len(table), dtype=bool), np.ones(len(test.texts), dtype=bool)
        near = find_near_duplicates(Side(table["text"].tolist()), test, threshold, *counts).lower
        kept[part] = table.drop(index=near).reset_index(drop=True)
    return kept


def drawn(table: pd.DataFrame, k: int, seed: int) -> pd.DataFrame:
    """`k` records of each class."""
    shuffled = table.sample(frac=1.0, random_state=seed)
    return shuffled.groupby("label", sort=True).head(k)


def scores(actual: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    return {
        "accuracy": round(float(accuracy_score(actual, said)), 5),
        "macro_f1": round(float(f1_score(actual, said, average="macro", zero_division=0.0)), 5),
    }


# -- fine-tuning -----------------------------------------------------------------------------


def settings_for(method: str, seed: int, options: argparse.Namespace) -> Settings:
    """What differs between the methods, and nothing else."""
    augmentation = {"copies": 4, "word_dropout": 0.1, "backoff_swap": 0.05, "character_noise": 0.01}
    values: dict[str, Any] = {
        "seed": seed,
        "data": {"name": "few", "train": "train.csv", "validation": "validation.csv", "test": "test.csv"},
        "preparation": {
            "min_records_per_class": 1,
            "max_rejected_fraction": 0.5,
            "duplicates": "keep",
            "contradictions": "keep",
        },
        "tokenization": {"max_length": 64},
        "backbone": {"name": options.backbone.name, "pooling": "mean"},
        "training": {
            # As many steps with 5 times the records as without copies.
            "epochs": options.epochs / (5 if method == "augmented" else 1),
            "learning_rate": 1e-4,
            "batch_size": 16,
            "dropout": 0.1,
            "evaluations_per_epoch": 1,
            "device": "cpu",
            "self_training": {
                "rounds": 2,
                "threshold": 0.95,
                "max_per_class": 500,
                "balance": "labelled",
                "epochs": 3.0,
            },
        },
    }
    if method == "augmented":
        values["preparation"]["augmentation"] = augmentation
    if method == "self_training":
        values["data"]["unlabelled"] = "unlabelled.csv"
    return parse_settings(values)


def finetuned(
    method: str,
    parts: dict[str, pd.DataFrame],
    seed: int,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Test scores of a network fine-tuned on `parts`, through prepare and tokenize."""
    settings = settings_for(method, seed, options)
    problem = get_problem(settings.problem)
    with tempfile.TemporaryDirectory(prefix="catena-few-") as name:
        layout = Layout(Path(name))
        raw = layout.raw("few")
        raw.mkdir(parents=True)
        for part, table in parts.items():
            table[["text", "label"]].to_csv(raw / f"{part}.csv", index=False)
        layout.backbone(options.backbone.name).parent.mkdir(parents=True)
        layout.backbone(options.backbone.name).symlink_to(options.backbone.resolve())
        prepare(settings, layout)
        tokenize(settings, layout)
        data = TrainingData.load(layout.tokenized, problem)
        result = self_train(
            settings,
            data,
            backbone_folder=layout.backbone(options.backbone.name),
            checkpoints=layout.checkpoints("few"),
            target=layout.candidate,
            card={
                "problem": settings.problem.model_dump(),
                "label_names": list(data.label_names),
                "backbone": settings.backbone.model_dump(),
                "method": settings.method.model_dump(),
                "tokenization": settings.tokenization.model_dump(),
                "cleaning": data.statistics["cleaning"],
                "columns": settings.data.columns,
                "fingerprint": "few",
            },
            on_row=lambda row: None,
            on_start=lambda device, plan: None,
        )
        test = pd.read_parquet(layout.prepared / "test.parquet")
        predictor = Predictor.load(layout.candidate, device="cpu")
        said = predictor.predict(test, clean=False)["prediction"]
        found: dict[str, Any] = {
            **scores(test["label"].tolist(), said.tolist()),
            "steps": result.steps,
            "validation": result.validation,
        }
        if (told := read_card(layout.candidate).get("self_training")) is not None:
            found["self_training"] = told
        return found


def few_run(data: str, k: int, seed: int, method: str, options: argparse.Namespace) -> dict[str, Any]:
    """One cell of the first table."""
    parts = options.parts_of[data]
    train = drawn(parts["train"], k, seed)
    if method in ("tfidf", "frozen"):
        return fixed_features(method, train, parts["test"], options)
    rest = parts["train"].drop(train.index)
    rest = rest.sample(min(options.unlabelled, len(rest)), random_state=seed)
    validation = drawn(parts["validation"], k, seed)
    given = {"train": train, "validation": validation, "test": parts["test"]}
    if method == "self_training":
        given["unlabelled"] = rest  # with its labels, which only tell how many pseudo-labels are right
    return finetuned(method, given, seed, options)


def fixed_features(
    method: str, train: pd.DataFrame, test: pd.DataFrame, options: argparse.Namespace
) -> dict[str, Any]:
    """Logistic regression on features that no label has moved."""
    if method == "tfidf":
        vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
        features, asked = vectorizer.fit_transform(train["text"]), vectorizer.transform(test["text"])
    else:
        features, asked = (embed(table["text"].tolist(), options) for table in (train, test))
    model = LogisticRegression(C=10.0, max_iter=2000).fit(features, train["label"])
    return scores(test["label"].tolist(), model.predict(asked).tolist())


_VECTORS: dict[str, np.ndarray] = {}


def embed(texts: Sequence[str], options: argparse.Namespace) -> np.ndarray:
    """Embeddings of length 1 by the backbone as it is; each text is embedded once."""
    new = [text for text in dict.fromkeys(texts) if text not in _VECTORS]
    if new:
        _VECTORS.update(zip(new, embed_texts(options.backbone, new, 64), strict=True))
    return np.stack([_VECTORS[text] for text in texts])


# -- active learning -------------------------------------------------------------------------


def active_run(data: str, strategy: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Accuracy of logistic regression on frozen embeddings by the number of labels, and what was chosen."""
    parts = options.parts_of[data]
    train, test = parts["train"].drop_duplicates("text"), parts["test"]
    vectors, asked = embed(train["text"].tolist(), options), embed(test["text"].tolist(), options)
    labels = train["label"].to_numpy(dtype=str)
    generator = np.random.default_rng(seed)
    chosen = first_labels(labels, generator)
    curve = []
    while True:
        model = LogisticRegression(C=10.0, max_iter=2000).fit(vectors[chosen], labels[chosen])
        curve.append({"labels": len(chosen), **scores(test["label"].tolist(), model.predict(asked).tolist())})
        if len(chosen) >= options.most:
            break
        left = np.setdiff1d(np.arange(len(labels)), chosen)
        chosen += next_labels(strategy, model, vectors, left, chosen, generator)
    counts = pd.Series(labels[chosen]).value_counts().sort_index()
    return {"curve": curve, "rows": train.index[chosen].tolist(), "classes": counts.to_dict()}


def first_labels(labels: np.ndarray, generator: np.random.Generator) -> list[int]:
    """Records at random, until every class has occurred; only the first of the draws that has all counts."""
    while True:
        chosen = generator.choice(len(labels), START, replace=False)
        if len(set(labels[chosen])) == len(set(labels)):
            return [int(row) for row in chosen]


def next_labels(
    strategy: str,
    model: LogisticRegression,
    vectors: np.ndarray,
    left: np.ndarray,
    chosen: Sequence[int],
    generator: np.random.Generator,
) -> list[int]:
    """The next records to be labelled, by the code that `catena label-next` runs."""
    if strategy == "random":
        return [int(row) for row in generator.choice(left, STEP, replace=False)]
    if strategy == "diversity":
        order, _ = k_centres(vectors[left], STEP, vectors[list(chosen)])
        return [int(left[at]) for at in order]
    problem = get_problem(parse_settings({}).problem)
    names = [str(name) for name in model.classes_]
    chances = model.predict_proba(vectors[left])
    said = pd.DataFrame(chances, columns=[f"p:{name}" for name in names])
    if strategy == "mixed":
        residuals = problem.residuals(said, names)
        assert residuals is not None
        order, _ = by_gradients(residuals, vectors[left], STEP, int(generator.integers(2**31)))
        return [int(left[at]) for at in order]
    doubts = problem.doubts(said, names, strategy)
    assert doubts is not None
    return [int(left[at]) for at in np.argsort(-doubts, kind="stable")[:STEP]]


def active_finetuned(
    data: str, strategy: str, seed: int, labels: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Fine-tuning on what logistic regression had chosen."""
    parts = options.parts_of[data]
    rows = options.results[f"active/{data}/{strategy}/seed{seed}"]["rows"][:labels]
    validation = drawn(parts["validation"], 32, seed)
    given = {"train": parts["train"].loc[rows], "validation": validation, "test": parts["test"]}
    return finetuned("plain", given, seed, options)


# -- all of it -------------------------------------------------------------------------------


def runs(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every run by its name, the quick ones first."""
    seeds = range(options.seeds)
    for data in options.parts_of:
        for strategy in STRATEGIES:
            for seed in seeds:
                yield (
                    f"active/{data}/{strategy}/seed{seed}",
                    lambda d=data, s=strategy, n=seed: active_run(d, s, n, options),
                )
    for method in METHODS:
        for seed in seeds:
            for data in options.parts_of:
                for k in options.k:
                    yield (
                        f"few/{data}/k{k}/{method}/seed{seed}",
                        lambda d=data, k=k, n=seed, m=method: few_run(d, k, n, m, options),
                    )
    if "sst2" in options.parts_of:
        for labels in options.finetuned:
            for seed in range(min(3, options.seeds)):
                for strategy in STRATEGIES:
                    yield (
                        f"active_finetuned/sst2/{strategy}/labels{labels}/seed{seed}",
                        lambda s=strategy, n=seed, k=labels: active_finetuned("sst2", s, n, k, options),
                    )


def main() -> None:
    """Run what has not been run, then print and draw everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=public_sets.FOLDER, help="folder with sst2 and phrasebank"
    )
    parser.add_argument("--backbone", type=Path, default=ROOT / "models" / "backbones" / "all-MiniLM-L6-v2")
    parser.add_argument("--sets", nargs="+", choices=sorted(DATA), default=["sst2", "phrasebank"])
    parser.add_argument("--k", nargs="+", type=int, default=[8, 32, 64])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--unlabelled", type=int, default=UNLABELLED)
    parser.add_argument("--most", type=int, default=200, help="labels at the end of active learning")
    parser.add_argument("--finetuned", nargs="*", type=int, default=[])
    parser.add_argument("--only", default="", help="regular expression of the runs' names, such as ^active/")
    parser.add_argument("--results", type=Path, default=RESULTS / "less_labelling.json")
    options = parser.parse_args()
    path: Path = options.results
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"runs": {}}
    options.results = stored["runs"]
    options.parts_of = {name: apart(DATA[name](options.data)) for name in options.sets}
    wanted = re.compile(options.only)
    waiting = [
        (name, run) for name, run in runs(options) if name not in options.results and wanted.search(name)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, (name, run) in enumerate(waiting, 1):
        started = time.perf_counter()
        found = run()
        options.results[name] = found | {"seconds": round(time.perf_counter() - started, 1)}
        partial = path.with_suffix(".partial")
        write_json(partial, {"machine": describe(), "runs": options.results})
        shutil.move(partial, path)
        print(
            f"progress step={number}/{len(waiting)} {name}: {options.results[name]['seconds']} s", flush=True
        )
    from benchmarks import less_labelling_figures

    print(less_labelling_figures.table(options.results))
    less_labelling_figures.draw(options.results, path.with_suffix(""))


if __name__ == "__main__":
    main()
