"""The most useful records of a file without labels, chosen by what a model says of them, and written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from catena.bulk import write_tables
from catena.data.formats import read_records
from catena.errors import DataError, SettingsError
from catena.labelling.candidates import Candidate, Pool, digest, in_steps, without_near
from catena.labelling.diversity import by_gradients, k_centres
from catena.labelling.known import Known
from catena.settings import DataSettings

if TYPE_CHECKING:
    from catena.predictor import Predictor

Strategy = Literal["entropy", "margin", "least_confidence", "diversity", "mixed"]
STRATEGIES: tuple[Strategy, ...] = ("entropy", "margin", "least_confidence", "diversity", "mixed")
#: Strategies that look at one record by itself; the others compare all candidates.
_BY_THEMSELVES = ("entropy", "margin", "least_confidence")
#: Columns that are written beside the record.
COLUMNS = ("row", "score", "reason")
#: Records predicted at a time, and embedded at a time.
_RECORDS = 2_048
#: Labelled records whose embeddings k-centre greedy begins with, at most.
_MOST_KNOWN = 20_000
#: Similarity from which two texts are not both worth a label, as in the prepare stage.
_NEAR = 0.85


@dataclass(frozen=True)
class Chosen:
    """What was chosen from a file: how many records were `read`, `known` already, unusable (`skipped`),
    considered together (`pooled`), and written (`chosen`)."""

    read: int
    known: int
    skipped: int
    pooled: int
    chosen: int


def check_strategy(predictor: Predictor, strategy: str) -> None:
    """Raise `SettingsError` where the model's problem does not allow the strategy."""
    problem = predictor.problem
    if not problem.asks_for_labels:
        raise SettingsError(
            f"`catena label-next` is not there for the problem {problem.name}; it is for classification, "
            "multilabel, regression, tagging and answering."
        )
    allowed = [name for name in STRATEGIES if _allows(predictor, name)]
    if strategy not in allowed:
        why = "" if "least_confidence" in allowed else ", whose predictions have no confidence"
        raise SettingsError(
            f"`--strategy {strategy}` is not there for the problem {problem.name}{why}; "
            f"choose {' or '.join(allowed)}."
        )


def _allows(predictor: Predictor, strategy: Strategy) -> bool:
    problem, names = predictor.problem, predictor.label_names
    columns = [name for name, _ in problem.output_columns(names)]
    nothing = pd.DataFrame({name: pd.Series([], dtype=np.float64) for name in columns})
    if strategy == "diversity":
        return problem.one_vector
    if strategy == "mixed":
        return problem.one_vector and problem.residuals(nothing, names) is not None
    return problem.doubts(nothing, names, strategy) is not None


def label_next(
    predictor: Predictor,
    source: Path,
    target: Path,
    settings: DataSettings,
    known: Known,
    *,
    count: int,
    strategy: Strategy,
    keep: Sequence[str] = (),
    most: int = 20_000,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda records: None,
) -> Chosen:
    """Write the `count` most useful records of `source` to `target`, the most useful first.

    Columns are the inputs under their own names, that of the label, empty, those in `keep`, and `row`
    (1-based data row in `source`), `score` and `reason` (`chosen_score` and so on, where one of the others
    has that name). `settings` say how `source` is written. Records
    that are `known` are left out with their near duplicates, and no two near duplicates are chosen.
    `diversity` and `mixed` compare at most `most` records, drawn by a hash of their text where the file has
    more; memory grows with that number and with `count`, not with the file. Raises `DataError`, or
    `SettingsError`.
    """
    check_strategy(predictor, strategy)
    problem = predictor.problem
    alone = strategy in _BY_THEMSELVES
    if not alone and count > most:
        raise SettingsError(
            f"`--count` is {count:,}, and only {most:,} records are compared (`--most`); raise that number."
        )
    pool = Pool(10 * count + 1_000 if alone else most)
    counts = {"read": 0, "known": 0, "skipped": 0}
    for shown, clean in _records(predictor, source, settings, keep, counts, on_progress):
        texts = problem.record_texts(clean).tolist()
        keys = [digest(text) for text in texts]
        new = np.array([key not in known.digests for key in keys], dtype=bool)
        counts["known"] += int((~new).sum())
        if not new.any():
            continue
        shown, clean = shown[new], clean[new]
        keys = [key for key, fresh in zip(keys, new, strict=True) if fresh]
        compared = problem.compared_texts(clean).tolist()
        doubts = np.zeros(len(clean))
        reasons = [""] * len(clean)
        if alone:
            said = predictor.predict(clean, clean=False)
            found = problem.doubts(said, predictor.label_names, strategy)
            assert found is not None  # noqa: S101 - the strategy was checked
            doubts, reasons = np.asarray(found, dtype=np.float64), _reasons(predictor, said)
        rows, cells, inputs = shown["row"].tolist(), _dicts(shown), _dicts(clean)
        for at, key in enumerate(keys):
            given = {role: str(text) for role, text in inputs[at].items()}
            one = Candidate(rows[at], cells[at], given, compared[at], float(doubts[at]), reasons[at])
            # Drawn by a hash, not by its place: the same records in any order give the same sample.
            pool.offer(one.score if alone else -float(int.from_bytes(key[:8])), key, one)
    candidates = pool.best()
    search = problem.near_duplicates(_NEAR)
    if not alone:
        # More than are wanted, because near duplicates among them go.
        candidates = _compared(predictor, candidates, known, strategy, count + max(20, count // 2), seed)
    chosen = without_near(candidates, known.compared, search, count)
    if not chosen:
        if not counts["read"]:
            raise DataError(f"{source.name} has no records; name another file.")
        raise DataError(
            f"{source.name} has no record to be labelled: of {counts['read']:,} read, {counts['known']:,} "
            f"are known already, {counts['skipped']:,} cannot be used, and the others are nearly the same as "
            "known ones."
        )
    _write(predictor, chosen, target, settings, keep)
    return Chosen(counts["read"], counts["known"], counts["skipped"], len(candidates), len(chosen))


def _records(
    predictor: Predictor,
    source: Path,
    settings: DataSettings,
    keep: Sequence[str],
    counts: dict[str, int],
    on_progress: Callable[[int], None],
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Records as they stand in the file, and their clean inputs, some at a time."""
    problem = predictor.problem
    roles = list(problem.input_roles)
    for batch in read_records(source, settings, roles, keep=keep, contents=problem.contents):
        counts["read"] += len(batch.records) + len(batch.broken)
        counts["skipped"] += len(batch.broken)
        for part in in_steps(len(batch.records), _RECORDS):
            records = batch.records.iloc[part]
            usable = records.dropna(subset=roles)
            read, reasons = problem.read_inputs(usable)
            usable, read = usable[reasons == ""], read[reasons == ""]
            clean = problem.clean(read, predictor.cleaner)[roles]
            sound = (problem.refusals(clean) == "") & (clean != "").all(axis=1)
            counts["skipped"] += len(records) - int(sound.sum())
            if sound.any():
                yield usable[sound.to_numpy()], clean[sound.to_numpy()]
            on_progress(len(records))


def _reasons(predictor: Predictor, said: pd.DataFrame) -> list[str]:
    """What the model says of each record, in words."""
    shown = predictor.problem.shown
    return [f"says {shown(row)}, confidence {row['confidence']:.3f}" for row in _dicts(said)]


def _dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    names = [str(name) for name in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.itertuples(index=False, name=None)]


def _compared(
    predictor: Predictor, candidates: list[Candidate], known: Known, strategy: Strategy, count: int, seed: int
) -> list[Candidate]:
    """The first `count` candidates in the order of `diversity` or `mixed`."""
    if not candidates:
        return []
    clean = pd.DataFrame([one.inputs for one in candidates]).astype("str")
    vectors = _embedded(predictor, clean)
    if strategy == "diversity":
        learned = known.learned
        if len(learned) > _MOST_KNOWN:
            learned = learned.sample(_MOST_KNOWN, random_state=seed)
        order, distances = k_centres(vectors, count, _embedded(predictor, learned) if len(learned) else None)
        return [
            replace(candidates[at], score=distance, reason="far from what is labelled or chosen before")
            for at, distance in zip(order, distances, strict=True)
        ]
    parts = in_steps(len(clean), _RECORDS)
    said = pd.concat([predictor.predict(clean.iloc[part], clean=False) for part in parts])
    residuals = predictor.problem.residuals(said, predictor.label_names)
    assert residuals is not None  # noqa: S101 - the strategy was checked
    order, norms = by_gradients(residuals, vectors, count, seed)
    reasons = _reasons(predictor, said.iloc[order])
    return [
        replace(candidates[at], score=norm, reason=reason)
        for at, norm, reason in zip(order, norms, reasons, strict=True)
    ]


def _embedded(predictor: Predictor, clean: pd.DataFrame) -> np.ndarray:
    """Embeddings of length 1 `(records, hidden)`."""
    parts = [predictor.embed(clean.iloc[part], clean=False) for part in in_steps(len(clean), _RECORDS)]
    vectors = np.concatenate(parts)
    normalised: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return normalised


def _write(
    predictor: Predictor,
    chosen: Sequence[Candidate],
    target: Path,
    settings: DataSettings,
    keep: Sequence[str],
) -> None:
    problem = predictor.problem
    roles = list(problem.input_roles)
    label = settings.columns.get(problem.target_role, problem.target_role)
    table = pd.DataFrame([one.cells for one in chosen])
    written = table[roles].rename(columns={role: settings.columns[role] for role in roles})
    if label in written:
        raise SettingsError(f"The label's column would be called {label!r}, as an input is; name another.")
    written[label] = ""
    for name in keep:
        if name not in written and name in table:
            written[name] = table[name]
    told = pd.DataFrame(
        [(one.row, round(one.score, 6), one.reason) for one in chosen], columns=COLUMNS, index=written.index
    )
    for name in COLUMNS:
        free = name
        while free in written:
            free = f"chosen_{free}"
        written[free] = told[name]
    with write_tables(target) as write:
        write(written)
