"""Behaviour tests as questions to a model: what a file asks, in the terms of one problem, and what passes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from catena.errors import SettingsError
from catena.evaluation.behaviour import (
    BehaviourSuite,
    BehaviourTest,
    Direction,
    Inputs,
    Invariance,
    MinimumFunctionality,
    Record,
)
from catena.evaluation.metrics import rounded
from catena.evaluation.mistakes import excerpt
from catena.problems import Problem
from catena.problems.claims import Claim, Row

#: A model as behaviour tests see it: records (one column an input) in, predictions out.
Model = Callable[[pd.DataFrame], pd.DataFrame]

#: Failing examples kept of each test.
_EXAMPLES = 5


@dataclass(frozen=True)
class _Case:
    """A record, what it is compared with, and the target it must get, if any."""

    record: Record
    before: Record | None = None
    expected: str | None = None


@dataclass(frozen=True)
class _Question:
    """A test with its cases, and what of a prediction they are about where something must move."""

    test: BehaviourTest
    cases: list[_Case]
    claim: Claim | None


@dataclass(frozen=True)
class Failure:
    """One case that did not pass: what was asked, and what the model said."""

    text: str
    before: str | None
    expected: str
    found: str
    #: Where inputs are pictures: the one before a change, if any, and the one asked about, as data URIs.
    pictures: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "pictures" or value}


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

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "failures": [failure.as_dict() for failure in self.failures]}


class Checklist:
    """The tests of a file, put to models of one problem.

    `test` are the records of the test part; `names` is `data.labels`; files that tests name lie in `folder`.
    Raises `SettingsError`, naming
    `source` and the test, for what makes no sense to the problem, or a label that the model does not know.
    """

    def __init__(
        self,
        suite: BehaviourSuite,
        problem: Problem,
        label_names: Sequence[str],
        test: pd.DataFrame,
        seed: int,
        names: Mapping[str, str] | None = None,
        source: str = "behaviour tests",
        folder: Path = Path(),
    ) -> None:
        self._problem = problem
        self._label_names = tuple(label_names)
        self._names = names
        self._folder = folder
        #: What inputs are called in the file that are not written there themselves.
        self._called: dict[str, str] = {}
        self._inputs = Inputs(problem.input_roles, problem.worded_roles(), problem.as_words, self._read)
        self._evaluation = problem.evaluation()
        every = zip(*(test[role].tolist() for role in problem.input_roles), strict=True)
        records = [words for one in every if (words := self._inputs.in_words(one)) is not None]
        self._questions = []
        for one in suite.tests:
            # Each test draws by its own name: adding one test does not change the others' cases.
            chance = random.Random(f"{seed}:{one.name}")  # noqa: S311
            try:
                self._questions.append(self._question(one, records, chance))
            except (ValueError, SettingsError) as error:
                raise SettingsError(f"{source}: test {one.name!r} {str(error).rstrip('.')}.") from None

    def run(self, model: Model) -> dict[str, Any]:
        """Run all tests with one call of the model, each record once; ready for JSON.

        `tests`, `passed`, `cases`, `passed_cases` and `pass_rate` (over all cases) sum up `results`,
        a list with one row for each test. A test without a single case (no text that its
        perturbations change) has not passed.
        """
        asked = list(
            dict.fromkeys(
                record
                for question in self._questions
                for case in question.cases
                for record in (case.before, case.record)
                if record is not None
            )
        )
        answers = _Answers(self._inputs.roles, asked, model)
        results = [self._judge(question, answers) for question in self._questions]
        total = sum(result.cases for result in results)
        passed_cases = sum(result.passed_cases for result in results)
        outcome: dict[str, Any] = rounded(
            {
                "tests": len(results),
                "passed": sum(result.passed for result in results),
                "cases": total,
                "passed_cases": passed_cases,
                "pass_rate": passed_cases / total if total else 0.0,
                "results": [result.as_dict() for result in results],
            }
        )
        return outcome

    def _read(self, written: Mapping[str, str]) -> Mapping[str, str]:
        read = self._problem.read_written(written, self._folder)
        self._called |= {read[role]: text for role, text in written.items() if read[role] != text}
        return read

    # -- questions --------------------------------------------------------------------------------

    def _question(self, test: BehaviourTest, records: Sequence[Record], chance: random.Random) -> _Question:
        if isinstance(test, MinimumFunctionality):
            asked = test.asked(chance)
            ordered = any(case.better is not None for case in asked)
            cases = [
                _Case(self._inputs.record(case.text), expected=self._expected(case.label, case.text))
                if case.better is None and case.text is not None
                else _Case(
                    self._inputs.completed(case.text, case.better or ""),
                    before=self._inputs.completed(case.text, case.worse or ""),
                )
                for case in asked
            ]
            self._check_tolerance(test, any(case.better is None for case in asked))
            label = None if test.label is None else str(test.label)
            return _Question(test, cases, self._claim(label) if ordered else None)
        self._check_tolerance(test, isinstance(test, Invariance))
        unknown = [role for role in test.inputs if role not in self._inputs.worded]
        if unknown:
            raise ValueError(f"changes the input {unknown[0]!r}, which is none that can be changed")
        if test.records and not records:
            raise ValueError(
                "draws `records` from the test part, none of which is running text whose words can be changed"
            )
        claim = None
        if isinstance(test, Direction):
            claim = self._claim(test.label)
            if claim.odds and test.margin >= 1:
                raise ValueError("has a `margin` of 1 or more, which no probability can move by")
        changes = test.changes(records, self._inputs, chance)
        return _Question(test, [_Case(after, before) for before, after in changes], claim)

    def _check_tolerance(self, test: BehaviourTest, compares: bool) -> None:
        wanted = self._problem.tolerated if compares else None
        if wanted is not None and test.tolerance is None:
            raise ValueError(f"needs a `tolerance`: {wanted}")
        if self._problem.tolerated is None and test.tolerance is not None:
            raise ValueError(f"has a `tolerance`, which says nothing to the problem {self._problem.name}")

    def _expected(self, given: Any, text: Any) -> str:
        inputs = dict(zip(self._inputs.roles, self._inputs.record(text), strict=True))
        try:
            target = self._problem.expected(given, inputs, self._names)
        except ValueError as error:
            raise ValueError(f"expects {str(given)[:60]!r}: {error}") from None
        classes = self._problem.classes(pd.Series([target], dtype="str"))
        self._check_labels([] if classes is None else classes.tolist())
        return target

    def _claim(self, about: str | None) -> Claim:
        """The one claim that a test is about. Raises `ValueError` without the label that it needs."""
        if self._problem.fewest_classes:
            if about is None:
                raise ValueError(f"needs a `label`, one of {', '.join(self._label_names)}")
            self._check_labels([about])
        try:
            (claim, *_) = self._problem.claims(None, self._label_names, about)
        except SettingsError as error:
            raise ValueError(f"cannot be run: {error}") from None
        return claim

    def _check_labels(self, labels: Sequence[str]) -> None:
        for label in labels:
            if label not in self._label_names:
                raise ValueError(
                    f"names the label {label!r}, which the model does not know; its labels are "
                    f"{', '.join(self._label_names)}"
                )

    # -- answers ----------------------------------------------------------------------------------

    def _judge(self, question: _Question, answers: _Answers) -> BehaviourResult:
        test, cases = question.test, question.cases
        found = [self._failure(question, case, answers) for case in cases]
        failures = [failure for failure in found if failure is not None]
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

    def _failure(self, question: _Question, case: _Case, answers: _Answers) -> Failure | None:
        """What went wrong in one case, or nothing."""
        test, after = question.test, answers.row(case.record)
        tolerance = test.tolerance or 0.0
        if case.before is None:
            expected = str(case.expected)
            if self._problem.satisfies(after, expected, tolerance):
                return None
            words = self._problem.shown({**after, "prediction": expected}), self._shown(after)
        elif question.claim is not None and not isinstance(test, Invariance):
            moved = _movement(test, question.claim, *answers.support(question.claim, case))
            if moved is None:
                return None
            words = moved
        else:
            before = answers.row(case.before)
            if self._problem.agrees(before, after, tolerance):
                return None
            words = self._problem.shown(before), self._shown(after)
        shown_before = self._excerpt(case.before) if case.before is not None else None
        asked = [record for record in (case.before, case.record) if record is not None]
        return Failure(self._excerpt(case.record), shown_before, *words, pictures=self._pictures(asked))

    def _pictures(self, records: Sequence[Record]) -> list[str]:
        drawn = [
            self._evaluation.picture(dict(zip(self._inputs.roles, record, strict=True))) for record in records
        ]
        return [picture for picture in drawn if picture is not None]

    def _shown(self, said: Row) -> str:
        sure = f" ({said['confidence']:.0%})" if "confidence" in said else ""
        return f"{self._problem.shown(said)}{sure}"

    def _excerpt(self, record: Record) -> str:
        shown = [self._called.get(text) or self._problem.show([text])[0] for text in record]
        if len(record) == 1:
            return excerpt(shown[0], 300)
        return " · ".join(
            f"{role}: {excerpt(text, 300 // len(record))}"
            for role, text in zip(self._inputs.roles, shown, strict=True)
        )


class _Answers:
    """What a model says to some records."""

    def __init__(self, roles: Sequence[str], records: Sequence[Record], model: Model) -> None:
        columns = zip(*records, strict=True) if records else ([] for _ in roles)
        asked = pd.DataFrame(
            {role: pd.Series(texts, dtype="str") for role, texts in zip(roles, columns, strict=True)}
        )
        said = model(asked).reset_index(drop=True) if records else pd.DataFrame()
        self._table = pd.concat([asked, said], axis=1)
        self._at = {record: at for at, record in enumerate(records)}
        self._rows: list[dict[str, Any]] = self._table.to_dict(orient="records")  # type: ignore[assignment]
        self._support: dict[int, Any] = {}

    def row(self, record: Record) -> dict[str, Any]:
        return self._rows[self._at[record]]

    def support(self, claim: Claim, case: _Case) -> tuple[float, float]:
        """How far the answers before and after a change support a claim."""
        if id(claim) not in self._support:
            self._support[id(claim)] = claim.support(self._table)
        values = self._support[id(claim)]
        before = case.record if case.before is None else case.before
        return float(values[self._at[before]]), float(values[self._at[case.record]])


def _movement(test: BehaviourTest, claim: Claim, before: float, after: float) -> tuple[str, str] | None:
    """What was expected and found where a claim did not move as it must; `None` where it did."""
    found = f"{before:.3f} → {after:.3f}"
    if not isinstance(test, Direction):
        return None if after > before else (f"{claim.measured} higher than for the other", found)
    gain = after - before if test.change == "raise" else before - after
    # A change that must raise may not leave it where it was, even where no margin is asked.
    if gain > 0 and gain >= test.margin:
        return None
    bound = f"by at least {test.margin:.2f}" if test.margin else "at all"
    return f"{claim.measured} {'up' if test.change == 'raise' else 'down'} {bound}", found
