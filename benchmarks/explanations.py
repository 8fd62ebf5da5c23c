"""Are explanations faithful? The words they name are taken away, and what is said must fall.

    python -m benchmarks.explanations --name sst2

The deletion test (Samek et al. 2017, "Evaluating the Visualization of What a Deep Neural Network Has
Learned"; for words Nguyen 2018, "Comparing Automatic and Human Evaluation of Local Explanations"): of each
text a growing share of its words is removed, those with the largest effect first, or the smallest, or at
random (mean of three draws). The steeper the support of the prediction falls for the first against the
others, the better the words were named. Texts are of the validation part, and no longer than `--words`, so
that each word is left out by itself. The model and the data are those of the project at hand. Writes
`benchmarks/results/explanations-NAME.json` and `.svg`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import describe
from catena.explanation import Explanation, explain
from catena.predictor import Predictor
from catena.problems.pieces import without

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
DRAWS = 3
ORDERS = ("largest effect first", "at random", "smallest effect first")


def order(explanation: Explanation, way: str, chance: random.Random) -> list[int]:
    """Numbers of the pieces in the order in which they are removed."""
    effects = np.array([effect or 0.0 for effect in explanation.claims[0].effects])
    if way == "at random":
        return chance.sample(range(len(effects)), len(effects))
    ranked = np.argsort(-effects, kind="stable").tolist()
    return ranked if way == ORDERS[0] else ranked[::-1]


def curves(predictor: Predictor, explanation: Explanation, chance: random.Random) -> dict[str, list[float]]:
    """Support of the prediction with each share of the words removed, the whole text first."""
    record = pd.DataFrame({role: [text] for role, text in explanation.inputs.items()}, dtype="str")
    counts = [round(share * len(explanation.pieces)) for share in SHARES]
    tables, ways = [record], [ORDERS[0]]
    for way in ORDERS:
        for _ in range(DRAWS if way == "at random" else 1):
            ranked = order(explanation, way, chance)
            for count in counts:
                tables.append(without(record, *(explanation.pieces[at] for at in ranked[:count])))
                ways.append(way)
    asked = pd.concat(tables, ignore_index=True)
    table = pd.concat([asked, predictor.predict(asked, clean=False)], axis=1)
    said = {str(name): value for name, value in table.iloc[0].items()}
    support = np.asarray(predictor.problem.claims(said, predictor.label_names)[0].support(table))
    kept = np.array(ways[1:])
    return {
        way: [float(support[0]), *support[1:][kept == way].reshape(-1, len(SHARES)).mean(axis=0).tolist()]
        for way in ORDERS
    }


def summary(found: Sequence[dict[str, list[float]]], seed: int) -> dict[str, Any]:
    """Mean curves, and how much lower the first lies than the random one, with a 95% interval."""
    means = {way: np.mean([one[way] for one in found], axis=0) for way in ORDERS}
    # The area between two curves, over the shares removed (the same for all texts).
    gaps = np.array([np.mean(one[ORDERS[1]][1:]) - np.mean(one[ORDERS[0]][1:]) for one in found])
    drawn = np.random.default_rng(seed).choice(gaps, (2000, len(gaps))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "shares": [0.0, *SHARES],
        "curves": {way: [round(float(value), 4) for value in curve] for way, curve in means.items()},
        "random_minus_largest": {
            "mean": round(float(gaps.mean()), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
        },
    }


def draw(shares: Sequence[float], curves: Mapping[str, Sequence[float]], what: str, path: Path) -> None:
    """What is left (`what`) over the part of the words that is removed, a curve for each way, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for (way, curve), style in zip(curves.items(), ("o-", "s--", "^:", "d-."), strict=False):
        axes.plot([100 * share for share in shares], curve, style, label=way)
    axes.set(xlabel="words removed (%)", ylabel=what, ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Explain some texts, delete their words, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--name", required=True, help="what to call the results, after the data")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "candidate")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "prepared" / "validation.parquet")
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    predictor = Predictor.load(options.model, precision="float32")
    records = pd.read_parquet(options.data)
    length = sum(records[role].str.split().str.len() for role in predictor.problem.input_roles)
    records = records[length <= options.words]
    records = records.sample(min(options.records, len(records)), random_state=options.seed)
    chance = random.Random(options.seed)
    found, words, seconds = [], [], 0.0
    for row in records.to_dict("records"):
        started = time.perf_counter()
        explanation = explain(predictor, {role: row[role] for role in predictor.problem.input_roles})
        seconds += time.perf_counter() - started
        words.append(len(explanation.pieces))
        if explanation.claims:
            found.append(curves(predictor, explanation, chance))
        print(f"progress step={len(words)}/{len(records)}", flush=True)
    result = {
        "what": "support of the prediction while words of validation texts are removed",
        "records": len(found),
        "words_at_most": options.words,
        "words_median": float(np.median(words)),
        "seconds_for_one_explanation": round(seconds / len(words), 2),
        **summary(found, options.seed),
        "machine": describe(),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / f"explanations-{options.name}.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    what = "probability of the predicted class"
    draw(result["shares"], result["curves"], what, target.with_suffix(".svg"))
    print(
        json.dumps({name: result[name] for name in ("records", "curves", "random_minus_largest")}, indent=2)
    )


if __name__ == "__main__":
    main()
