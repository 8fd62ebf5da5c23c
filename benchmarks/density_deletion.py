"""Are the shares of Chain-of-Density faithful? Words are taken away, and accuracy must fall.

    cp presets/sst2-density.yaml params.yaml      # with `data.train: few.tsv` and `training.epochs: 2`
    python -m benchmarks.few_labels_of_sst2 FOLDER data/raw/sst2 --count 160
    dvc add data/raw/sst2 && catena fetch && dvc repro train
    python -m benchmarks.density_deletion --name sst2 --records 120

The deletion test (Samek et al. 2017; for words Nguyen 2018): of each text a growing part of its words is
removed, those with the largest share in the prediction first, or at random (mean of three draws), or the
smallest first; and for comparison those that occlusion names (`--occlusion`). The steeper accuracy falls for
the first against the random one, the better the words were named. Texts are of the validation part, and no
longer than `--words`. The model must have been trained by `method.name: density`; model and data are those of
the project at hand, whose settings are stored with the result. Writes
`benchmarks/results/density_deletion-NAME.json` and `.svg`; records that are in the file are not asked again.
"""

from __future__ import annotations

import argparse
import json
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.explanations import draw
from benchmarks.machine import describe
from catena.explanation import Explanation, explain
from catena.files import write_json
from catena.predictor import Predictor
from catena.settings import MethodSettings, load_settings
from catena.token_shares import explain_by_shares

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
DRAWS = 3
FIRST, RANDOM, LAST, OCCLUSION = (
    "largest share first",
    "at random",
    "smallest share first",
    "occlusion's first",
)


def orders(explanation: Explanation, occluded: Explanation | None, seed: int) -> list[tuple[str, list[int]]]:
    """Ways to remove the pieces of a text, each with the pieces' numbers in order."""
    effects = np.array([effect or 0.0 for effect in explanation.claims[0].effects])
    falling = np.argsort(-effects, kind="stable").tolist()
    chance = random.Random(seed)
    drawn = [(RANDOM, chance.sample(range(len(effects)), len(effects))) for _ in range(DRAWS)]
    found = [(FIRST, falling), *drawn, (LAST, falling[::-1])]
    if occluded is not None and len(occluded.pieces) == len(explanation.pieces):
        lost = np.array([effect or 0.0 for effect in occluded.claims[0].effects])
        found.append((OCCLUSION, np.argsort(-lost, kind="stable").tolist()))
    return found


def measure(predictor: Predictor, record: dict[str, Any], seed: int, occlusion: bool) -> dict[str, Any]:
    """Whether the prediction is right, and its probability, with each part of the words removed."""
    (role,) = predictor.problem.input_roles
    target = predictor.problem.target_role
    explanation = explain_by_shares(predictor, {role: record[role]}, clean=False)
    occluded = explain(predictor, {role: record[role]}) if occlusion else None
    whole = pd.DataFrame({role: [record[role]]}, dtype="str")
    tables, ways = [whole], [""]
    for way, ranked in orders(explanation, occluded, seed + zlib.crc32(str(record["id"]).encode())):
        for share in SHARES:
            gone = ranked[: round(share * len(ranked))]
            tables.append(predictor.problem.without(whole, *(explanation.pieces[at] for at in gone)))
            ways.append(way)
    answers = predictor.predict(pd.concat(tables, ignore_index=True), clean=False)
    right = (answers["prediction"] == record[target]).to_numpy(dtype=float)
    support = answers[f"p:{explanation.claims[0].name}"].to_numpy()
    names = np.array(ways)

    def curve(values: np.ndarray, way: str) -> list[float]:
        return [float(values[0]), *values[names == way].reshape(-1, len(SHARES)).mean(0).tolist()]

    kinds = [way for way in (FIRST, RANDOM, LAST, OCCLUSION) if way in ways]
    return {way: {"right": curve(right, way), "support": curve(support, way)} for way in kinds}


def summary(found: dict[str, dict[str, Any]], seed: int) -> dict[str, Any]:
    """Mean curves, and how much lower accuracy lies for the largest shares than at random, with a 95%
    interval.
    """
    ways = [way for way in (FIRST, RANDOM, LAST, OCCLUSION) if all(way in one for one in found.values())]
    curves = {
        what: {
            way: np.mean([one[way][what] for one in found.values()], axis=0).round(4).tolist() for way in ways
        }
        for what in ("right", "support")
    }
    gaps = np.array(
        [np.mean(one[RANDOM]["right"][1:]) - np.mean(one[FIRST]["right"][1:]) for one in found.values()]
    )
    drawn = np.random.default_rng(seed).choice(gaps, (2000, len(gaps))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    gap = {"mean": round(float(gaps.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
    return {
        "removed": [0.0, *SHARES],
        "accuracy": curves["right"],
        "support": curves["support"],
        "random_minus_largest_accuracy": gap,
    }


def how_trained(predictor: Predictor, validation: pd.DataFrame) -> dict[str, Any]:
    """The settings that made the model, how many records it learned from, and how good it is."""
    settings = load_settings(ROOT / "params.yaml")
    if MethodSettings.model_validate(predictor.card["method"]) != settings.method:
        raise SystemExit("The model was trained with another `method` than params.yaml has now.")
    said = predictor.predict(validation[list(predictor.problem.input_roles)], clean=False)
    right = said["prediction"].to_numpy() == validation[predictor.problem.target_role].to_numpy()
    return {
        "seed": settings.seed,
        "train": settings.data.train,
        "records": len(pd.read_parquet(ROOT / "data" / "prepared" / "train.parquet", columns=["id"])),
        "backbone": settings.backbone.name,
        "method": settings.method.density.model_dump(),
        "training": settings.training.model_dump(),
        "validation_accuracy": round(float(right.mean()), 4),
    }


def main() -> None:
    """Explain some texts, delete their words, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--name", required=True, help="what to call the results, after the data")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "candidate")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "prepared" / "validation.parquet")
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--words", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--occlusion", action="store_true", help="compare with occlusion, which takes much longer"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    predictor = Predictor.load(options.model, precision="float32")
    (role,) = predictor.problem.input_roles
    whole = pd.read_parquet(options.data)
    records = whole[whole[role].str.split().str.len() <= options.words]
    records = records.sample(min(options.records, len(records)), random_state=options.seed)
    path = options.output / f"density_deletion-{options.name}.json"
    fingerprint = str(predictor.card["fingerprint"])
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    same = stored.get("model") == fingerprint and stored.get("occlusion") == options.occlusion
    found: dict[str, dict[str, Any]] = stored.get("raw", {}) if same else {}
    trained = stored.get("trained") if same else None
    trained = trained or how_trained(predictor, whole)
    options.output.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    for number, record in enumerate(records.to_dict("records"), 1):
        known = str(record["id"]) in found
        if not known:
            found[str(record["id"])] = measure(predictor, record, options.seed, options.occlusion)
        if number == len(records) or (number % 20 == 0 and not known):
            result = {
                "what": "accuracy and support of the prediction while words of validation texts are removed",
                "model": fingerprint,
                "trained": trained,
                "occlusion": options.occlusion,
                "records": len(found),
                **summary(found, options.seed),
                "machine": describe(),
                "raw": found,
            }
            write_json(path, result)
            print(f"progress step={number}/{len(records)}", flush=True)
    draw(result["removed"], result["accuracy"], "accuracy", path.with_suffix(".svg"))
    shown = {
        name: result[name] for name in ("records", "accuracy", "support", "random_minus_largest_accuracy")
    }
    print(json.dumps(shown, indent=2))


if __name__ == "__main__":
    main()
