"""Runs behaviour tests against a model and counts what passes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from catena.evaluation.behaviour import BehaviourSuite, Direction, Invariance, MinimumFunctionality
from catena.evaluation.metrics import rounded
from catena.evaluation.mistakes import excerpt

#: A model as behaviour tests see it: texts in, `prediction`, `confidence` and `p:<label>` out.
Model = Callable[[Sequence[str]], pd.DataFrame]

#: Failing examples kept of each test.
_EXAMPLES = 5


@dataclass(frozen=True)
class _Case:
    """A text, what it is compared with (if anything), and the label it is about."""

    text: str
    before: str | None
    label: str | None


@dataclass(frozen=True)
class Failure:
    """One case that did not pass: what was asked, and what the model said."""

    text: str
    before: str | None
    expected: str
    found: str


@dataclass(frozen=True)
class BehaviourResult:
    """One test's outcome; it has passed when `pass_rate` reaches `threshold`."""

    name: str
    kind: str
    about: str
    cases: int
    passed_cases: int
    pass_rate: float
    threshold: float
    passed: bool
    failures: list[Failure]


def run_behaviour(
    suite: BehaviourSuite, model: Model, test_texts: Sequence[str], seed: int
) -> dict[str, Any]:
    """Run all tests with one call of the model, each text once; ready for JSON.

    `tests`, `passed`, `cases`, `passed_cases` and `pass_rate` (over all cases) sum up `results`,
    a list with one row for each test. A test without a single case (no text that its
    perturbations change) has not passed.
    """
    # Each test draws by its own name: adding one test does not change the others' cases.
    cases = [
        _cases(test, test_texts, random.Random(f"{seed}:{test.name}"))  # noqa: S311
        for test in suite.tests
    ]
    texts = list(
        dict.fromkeys(
            text for some in cases for case in some for text in (case.before, case.text) if text is not None
        )
    )
    said = model(texts).set_axis(pd.Index(texts, dtype=object)) if texts else pd.DataFrame()
    answers: dict[str, dict[str, Any]] = said.to_dict(orient="index")  # type: ignore[assignment]
    results = [_judge(test, some, answers) for test, some in zip(suite.tests, cases, strict=True)]
    total = sum(result.cases for result in results)
    passed_cases = sum(result.passed_cases for result in results)
    outcome: dict[str, Any] = rounded(
        {
            "tests": len(results),
            "passed": sum(result.passed for result in results),
            "cases": total,
            "passed_cases": passed_cases,
            "pass_rate": passed_cases / total if total else 0.0,
            "results": [asdict(result) for result in results],
        }
    )
    return outcome


def _cases(
    test: MinimumFunctionality | Invariance | Direction, test_texts: Sequence[str], chance: random.Random
) -> list[_Case]:
    if isinstance(test, MinimumFunctionality):
        return [_Case(text, None, label) for text, label in test.labelled(chance)]
    label = test.label if isinstance(test, Direction) else None
    return [_Case(after, before, label) for before, after in test.changes(test_texts, chance)]


def _judge(
    test: MinimumFunctionality | Invariance | Direction,
    cases: Sequence[_Case],
    answers: dict[str, dict[str, Any]],
) -> BehaviourResult:
    failures = []
    for case in cases:
        after = answers[case.text]
        before = answers[case.before] if case.before is not None else after
        failure = _failure(test, case, before, after)
        if failure is not None:
            failures.append(failure)
    rate = (len(cases) - len(failures)) / len(cases) if cases else 0.0
    return BehaviourResult(
        name=test.name,
        kind=test.kind,
        about=test.about,
        cases=len(cases),
        passed_cases=len(cases) - len(failures),
        pass_rate=rate,
        threshold=test.threshold,
        passed=bool(cases) and rate >= test.threshold,
        failures=failures[:_EXAMPLES],
    )


def _failure(
    test: MinimumFunctionality | Invariance | Direction,
    case: _Case,
    before: dict[str, Any],
    after: dict[str, Any],
) -> Failure | None:
    """What went wrong in one case, or nothing."""
    if isinstance(test, Direction):
        moved = after[f"p:{test.label}"] - before[f"p:{test.label}"]
        gain = moved if test.change == "raise" else -moved
        # A change that must raise may not leave it where it was, even where no margin is asked.
        if gain > 0 and gain >= test.margin:
            return None
        bound = f"by at least {test.margin:.2f}" if test.margin else "at all"
        expected = f"probability of {test.label} {'up' if test.change == 'raise' else 'down'} {bound}"
        found = f"{before[f'p:{test.label}']:.3f} → {after[f'p:{test.label}']:.3f}"
    else:
        wanted = case.label if isinstance(test, MinimumFunctionality) else before["prediction"]
        if after["prediction"] == wanted:
            return None
        expected = str(wanted)
        found = f"{after['prediction']} ({after['confidence']:.0%})"
    before_text = excerpt(case.before, 300) if case.before is not None else None
    return Failure(text=excerpt(case.text, 300), before=before_text, expected=expected, found=found)
