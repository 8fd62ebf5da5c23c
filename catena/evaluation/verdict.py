"""What the figures say, in plain words, for someone who decides and does not read tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

BASELINE_TITLES = {
    "majority": "Always the most frequent class",
    "tfidf": "TF-IDF with logistic regression",
    "backbone": "Backbone before fine-tuning",
    "logistic": "Logistic regression on pixels",
    "nearest": "Nearest training image",
}
METRIC_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "weighted_precision": "Weighted precision",
    "weighted_recall": "Weighted recall",
    "weighted_f1": "Weighted F1",
    "matthews_correlation": "Matthews correlation",
    "roc_auc": "ROC-AUC (macro, one against the rest)",
    "pr_auc": "PR-AUC (macro, one against the rest)",
    "log_loss": "Log loss (nats)",
    "brier": "Brier score (0 to 2)",
    "calibration_error": "Expected calibration error",
}
#: A class below this F1 is named, and so is a mean confidence further than this from the accuracy.
_WEAK_F1 = 0.8
_CALIBRATION_GAP = 0.02
_LENGTHS = ("characters", "tokens", "truncated")

Mood = Literal["good", "mixed", "bad"]


@dataclass(frozen=True)
class Verdict:
    """A headline with its mood, a sentence beneath it, and what to keep an eye on."""

    mood: Mood
    headline: str
    summary: str
    remarks: list[str]


def verdict(metrics: Mapping[str, Any], behaviour: Mapping[str, Any] | None, suspects: int) -> Verdict:
    """Judge the model by `metrics.json`; `suspects` is the number of records with doubtful labels."""
    mood, headline = _headline(metrics)
    low, high = metrics["intervals"]["accuracy"]
    level = f"{metrics['plan']['confidence']:.0%}"
    wrong = metrics["errors"]
    summary = (
        f"On {metrics['records']:,} test records that it has never seen, the model gives "
        f"{metrics['accuracy']:.1%} the right label ({level} interval {low:.1%} to {high:.1%}) "
        f"and {wrong:,} a wrong one. Averaged over the classes, rare ones counting as much as frequent "
        f"ones, its F1 is {metrics['macro_f1']:.3f}."
    )
    return Verdict(mood, headline, summary, _remarks(metrics, behaviour, suspects))


def best_comparison(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The paired test against the strongest baseline: the one the model is least ahead of."""
    comparisons: Sequence[Mapping[str, Any]] = metrics["comparison"]
    lower_is_better = bool(comparisons) and comparisons[0]["metric"] == "calibration_error"
    sign = -1 if lower_is_better else 1
    return min(comparisons, key=lambda one: sign * one["difference"], default=None)


def _headline(metrics: Mapping[str, Any]) -> tuple[Mood, str]:
    best = best_comparison(metrics)
    if best is None:
        return (
            "mixed",
            f"The model is right in {metrics['accuracy']:.1%} of the cases; nothing to compare with.",
        )
    name = BASELINE_TITLES.get(best["baseline"], best["baseline"])
    name = name if name.startswith("TF") else name[0].lower() + name[1:]
    sure = best["p_value"] < 1 - metrics["plan"]["confidence"]
    ahead = best["difference"] > 0
    if best["metric"] == "calibration_error":
        ahead = best["difference"] < 0
    if sure and ahead:
        return "good", f"Fine-tuning pays: clearly better than its strongest baseline, {name}."
    if sure:
        return "bad", f"A simpler model does better: {name}."
    return "mixed", f"Not shown to be better than a simpler model: {name}."


def _remarks(metrics: Mapping[str, Any], behaviour: Mapping[str, Any] | None, suspects: int) -> list[str]:
    remarks = []
    best = best_comparison(metrics)
    if best is not None:
        title = METRIC_TITLES.get(best["metric"], best["metric"])
        remarks.append(
            f"Against {BASELINE_TITLES.get(best['baseline'], best['baseline'])}: "
            f"{title[0].lower()}{title[1:]} {best['difference']:+.3f} "
            f"({best['low']:+.3f} to {best['high']:+.3f}, {_p_value(best['p_value'])} in a paired "
            "bootstrap test)."
        )
    weak = sorted(
        (row for row in metrics["per_class"] if row["records"] and row["f1"] < _WEAK_F1),
        key=lambda row: row["f1"],
    )
    if weak:
        shown = ", ".join(f"{row['label']} ({row['f1']:.2f}, {row['records']} records)" for row in weak[:5])
        more = f" and {len(weak) - 5} more" if len(weak) > 5 else ""
        remarks.append(f"Weakest classes by F1: {shown}{more}.")
    absent = [row["label"] for row in metrics["per_class"] if not row["records"]]
    if absent:
        remarks.append(f"Not in the test part, so not tested: {', '.join(absent[:10])}.")
    for one in _weak_slices(metrics["slices"]):
        remarks.append(
            f"Clearly weaker {_where(one['group'], one['name'])}: {one['accuracy']:.1%} of "
            f"{one['records']:,} right, {one['rest_accuracy']:.1%} elsewhere."
        )
    gap = sum(one["records"] * (one["confidence"] - one["accuracy"]) for one in metrics["reliability"])
    gap /= metrics["records"]
    if abs(gap) > _CALIBRATION_GAP:
        words = "surer than it should be" if gap > 0 else "less sure than it could be"
        remarks.append(f"Its confidence is off by {abs(gap):.1%} on average: it is {words}.")
    if behaviour is not None:
        remarks.append(behaviour_remark(behaviour))
    if suspects:
        remarks.append(
            f"{suspects} test records probably carry a wrong label; see the list before trusting the last "
            "tenth of a percent."
        )
    return remarks


def behaviour_remark(behaviour: Mapping[str, Any]) -> str:
    """Which behaviour tests have not passed, in one sentence."""
    failed = [one["name"] for one in behaviour["results"] if not one["passed"]]
    if not failed:
        return f"All {behaviour['tests']} behaviour tests passed."
    return f"{len(failed)} of {behaviour['tests']} behaviour tests not passed: {'; '.join(failed[:4])}."


def _weak_slices(slices: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Slices to name: at most three, and of the kinds of length (which say the same) the first."""
    worse = [one for one in slices if one["worse"] and one["group"] != "class"]
    lengths = [one for one in worse if one["group"] in _LENGTHS]
    return [*lengths[:1], *(one for one in worse if one["group"] not in _LENGTHS)][:3]


def _where(group: str, name: str) -> str:
    if group == "truncated":
        return "on texts cut off at the longest input" if name == "yes" else "on texts that are not cut off"
    return f"on texts of {name} {group}" if group in _LENGTHS else f"where {group} is {name}"


def _p_value(value: float) -> str:
    return "p < 0.01" if value < 0.01 else f"p = {value:.2f}"
