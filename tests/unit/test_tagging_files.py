"""Files with entities: CoNLL columns and JSON Lines, good and bad."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from catena.data.formats import read_records
from catena.data.preparation import Prepared, prepare
from catena.errors import CatenaError, DataError, SettingsError
from catena.problems import get_problem
from catena.problems.spans import from_canonical
from catena.settings import DataSettings, ProblemSettings, parse_settings
from tests.real_data import real_data

NAMES = ["Anna", "Bert", "Carla", "David", "Emma", "Frank"]
CITIES = ["Oslo", "Bern", "Lima", "Kiel", "Riga"]
VERBS = ["visits", "leaves", "likes", "misses", "sees", "paints"]

SMALL = """-DOCSTART- -X- -X- O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
call NN I-NP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""


def settings(name: str, **more: object) -> DataSettings:
    values = {"name": "x", "train": name, "columns": {"text": "1", "entities": "last"}, **more}
    return DataSettings.model_validate(values)


def sentences(count: int) -> list[str]:
    """`count` different sentences of three or four words, in IOB2."""
    lines = []
    for number in range(count):
        name, verb = NAMES[number % 6], VERBS[number // 6 % 6]
        city = CITIES[number % 5]
        lines.append(f"{name} B-PER\n{verb} O\n{city} B-LOC\nno O\n{number} O\n")
    return lines


def run(
    folder: Path,
    content: str | bytes,
    name: str = "train.conll",
    problem: dict[str, object] | None = None,
    **groups: dict[str, object],
) -> Prepared:
    """Prepare one file of records."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    columns = (
        {"text": "1", "entities": "last"} if "conll" in name else {"text": "text", "entities": "entities"}
    )
    values = {
        "data": {"name": "x", "train": name, "columns": columns, **groups.pop("data", {})},
        "problem": {"name": "tagging", **(problem or {})},
        "preparation": {"near_duplicates": "off", **groups.pop("preparation", {})},
        **groups,
    }
    chosen = parse_settings(values, "params.yaml")
    return prepare(chosen, get_problem(chosen.problem), folder)


def test_a_conll_file_becomes_texts_and_tags(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text(SMALL)
    (batch,) = read_records(tmp_path / "x.conll", settings("x.conll"))
    assert batch.records["text"].tolist() == ["EU rejects German call", "Peter Blackburn"]
    assert [json.loads(tags) for tags in batch.records["entities"]] == [
        ["I-ORG", "O", "I-MISC", "O"],
        ["I-PER", "I-PER"],
    ]
    assert batch.records["row"].tolist() == [3, 8]
    assert batch.broken.empty


def test_columns_have_names_or_numbers(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text(SMALL)
    named = settings(
        "x.conll",
        column_names=("token", "pos", "chunk", "ner"),
        columns={"text": "token", "entities": "chunk"},
    )
    (batch,) = read_records(tmp_path / "x.conll", named)
    assert json.loads(batch.records["entities"][1]) == ["I-NP", "I-NP"]
    for column in ("3", "-2"):
        numbered = settings("x.conll", columns={"text": "first", "entities": column})
        (other,) = read_records(tmp_path / "x.conll", numbered)
        pd.testing.assert_frame_equal(batch.records, other.records)
    with pytest.raises(DataError, match="no column '7'"):
        list(read_records(tmp_path / "x.conll", settings("x.conll", columns={"text": "1", "entities": "7"})))


def test_gzipped_tab_separated_and_commented_files_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "plain.conll").write_text(SMALL)
    commented = "# sentence 1\n" + SMALL.replace("\n\nPeter", "\n\n# sentence 2\nPeter").replace(" ", "\t")
    (tmp_path / "x.conll.gz").write_bytes(gzip.compress(commented.encode()))
    (plain,) = read_records(tmp_path / "plain.conll", settings("plain.conll"))
    (other,) = read_records(tmp_path / "x.conll.gz", settings("x.conll.gz"))
    columns = ["text", "entities"]
    pd.testing.assert_frame_equal(plain.records[columns], other.records[columns])


def test_a_hash_may_be_a_token(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text("He O\npaid O\n\n# O\n5 O\n")
    (batch,) = read_records(tmp_path / "x.conll", settings("x.conll"))
    assert batch.records["text"].tolist() == ["He paid", "# 5"]


def test_a_batch_at_a_time_gives_all_sentences_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catena.data.conll._SENTENCES", 7)
    (tmp_path / "x.conll").write_text("\n".join(sentences(30)))
    batches = list(read_records(tmp_path / "x.conll", settings("x.conll")))
    assert [len(batch.records) for batch in batches] == [7, 7, 7, 7, 2]
    assert pd.concat([batch.records for batch in batches])["row"].tolist() == [1 + 6 * at for at in range(30)]


def test_conll_and_json_lines_give_the_same_records(tmp_path: Path) -> None:
    conll = run(tmp_path / "conll", "\n".join(sentences(60)))
    spans, tokens, iob1 = [], [], []
    for sentence in sentences(60):
        words, tags = zip(*(line.split() for line in sentence.splitlines()), strict=True)
        text = " ".join(words)
        entities = [
            {"start": text.index(word), "end": text.index(word) + len(word), "label": tag[2:]}
            for word, tag in zip(words, tags, strict=True)
            if tag != "O"
        ]
        spans.append(json.dumps({"text": text, "entities": entities[::-1]}))
        tokens.append(json.dumps({"tokens": words, "tags": [tag.replace("B-", "S-") for tag in tags]}))
        iob1.append(sentence.replace("B-", "I-"))
    columns = {"text": "tokens", "entities": "tags"}
    others = [
        run(tmp_path / "spans", "\n".join(spans), "train.jsonl"),
        run(tmp_path / "tokens", "\n".join(tokens), "train.jsonl", data={"columns": columns}),
        run(tmp_path / "iob1", "\n".join(iob1), problem={"tag_scheme": "IOB1"}),
    ]
    for other in others:
        assert other.classes == ("LOC", "PER")
        for part, records in conll.parts.items():
            for column in ("id", "text", "entities"):
                assert other.parts[part][column].tolist() == records[column].tolist()
    first = conll.parts["train"].iloc[0]
    person, place = json.loads(first["entities"])
    assert first["text"][person[0] : person[1]] in NAMES
    assert first["text"][place[0] : place[1]] in CITIES
    assert (person[2], place[2]) == ("PER", "LOC")


def test_lists_in_parquet_are_read_like_lists_in_json(tmp_path: Path) -> None:
    rows = [
        {
            "tokens": [line.split()[0] for line in one.splitlines()],
            "tags": [line.split()[1] for line in one.splitlines()],
        }
        for one in sentences(60)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    columns = {"text": "tokens", "entities": "tags"}
    values = {
        "data": {"name": "x", "train": "train.parquet", "columns": columns},
        "problem": {"name": "tagging"},
        "preparation": {"near_duplicates": "off"},
    }
    chosen = parse_settings(values, "params.yaml")
    prepared = prepare(chosen, get_problem(chosen.problem), tmp_path)
    conll = run(tmp_path / "conll", "\n".join(sentences(60)))
    for part, records in conll.parts.items():
        assert prepared.parts[part]["entities"].tolist() == records["entities"].tolist()
        assert prepared.parts[part]["text"].tolist() == records["text"].tolist()


@pytest.mark.parametrize(
    ("name", "sentences", "counts"),
    [
        ("eng.train", 14_041, {"LOC": 7140, "MISC": 3438, "ORG": 6321, "PER": 6600}),
        ("eng.testa", 3_250, {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842}),
        ("eng.testb", 3_453, {"LOC": 1668, "MISC": 702, "ORG": 1661, "PER": 1617}),
    ],
)
@pytest.mark.parametrize("scheme", ["auto", "IOB1"])
def test_conll_2003_holds_the_entities_that_its_authors_counted(
    name: str, sentences: int, counts: dict[str, int], scheme: str
) -> None:
    file = real_data(f"conll2003/{name}")
    problem = get_problem(ProblemSettings.model_validate({"name": "tagging", "tag_scheme": scheme}))
    found: Counter[str] = Counter()
    records = 0
    for batch in read_records(file, settings(name, format="conll"), ("text", "entities"), target="entities"):
        composed, reasons = problem.compose(batch.records)
        assert (reasons == "").all()
        records += len(composed)
        found.update(label for target in composed["entities"] for _, _, label in from_canonical(target))
    assert (records, found) == (sentences, counts)


def documents(*sentences: str) -> str:
    """A file of one document for each argument, its sentences divided by `|`, its words as `word/tag`.

    As in the files of CoNLL-2003, no line says that the first one begins.
    """
    lines: list[str] = []
    for at, document in enumerate(sentences):
        lines += ["-DOCSTART- O", ""] if at else []
        for sentence in document.split("|"):
            lines += [word.replace("/", " ") for word in sentence.split()] + [""]
    return "\n".join(lines)


def read_documents(path: Path, content: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Composed records, and the rows that are none."""
    path.write_text(content)
    chosen = settings(path.name, format="conll", conll_unit="document")
    (batch,) = read_records(path, chosen, ("text", "entities"), target="entities")
    composed, reasons = get_problem(ProblemSettings.model_validate({"name": "tagging"})).compose(
        batch.records
    )
    assert (reasons == "").all()
    return composed, batch.broken


def test_a_document_is_one_record_with_a_line_for_each_sentence(tmp_path: Path) -> None:
    content = documents("Anna/I-PER met/O Bert/I-PER|Carl/I-PER slept/O", "In/O Oslo/I-LOC")
    records, broken = read_documents(tmp_path / "x.conll", content)
    assert broken.empty
    assert records["text"].tolist() == ["Anna met Bert\nCarl slept", "In Oslo"]
    assert records["row"].tolist() == [1, 10]
    # Bert and Carl are two persons, though no B says so: an entity ends where its sentence does
    assert [from_canonical(target) for target in records["entities"]] == [
        [(0, 4, "PER"), (9, 13, "PER"), (14, 18, "PER")],
        [(3, 7, "LOC")],
    ]


def test_a_broken_sentence_leaves_its_document_and_the_rest_of_it_stays(tmp_path: Path) -> None:
    content = documents("Anna/I-PER met/O|Carl slept/O|In/O Oslo/I-LOC", "Bert/I-PER left/O")
    records, broken = read_documents(tmp_path / "x.conll", content)
    assert records["text"].tolist() == ["Anna met\nIn Oslo", "Bert left"]
    assert broken["row"].tolist() == [4]
    assert broken["reason"].tolist() == ["1 columns instead of 2 (line 4)"]


def test_documents_that_are_not_marked_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"x\.conll does not say where documents begin.*set `data.conll_unit` to sentence"
    ):
        read_documents(tmp_path / "x.conll", "Anna I-PER\nmet O\n")


def test_documents_of_conll_2003_are_as_many_as_its_authors_counted(tmp_path: Path) -> None:
    file = real_data("conll2003/eng.testa")
    records, broken = read_documents(tmp_path / "eng.testa", file.read_text())
    assert (len(records), len(broken)) == (216, 0)
    assert records["text"].str.count("\n").add(1).sum() == 3_250
    found = Counter(label for target in records["entities"] for _, _, label in from_canonical(target))
    assert found == {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842}


def test_labels_get_readable_names(tmp_path: Path) -> None:
    prepared = run(tmp_path, "\n".join(sentences(60)), data={"labels": {"PER": "person", "LOC": "place"}})
    assert prepared.classes == ("person", "place")


def test_classes_are_counted_once_for_each_record(tmp_path: Path) -> None:
    two = "Anna B-PER\nmet O\nBert B-PER\nhere O\n{} O\n"
    prepared = run(tmp_path, "\n".join([two.format(at) for at in range(40)] + sentences(20)))
    counts = prepared.report["parts"]
    assert sum(counts[part]["classes"]["PER"] for part in counts) == 60
    assert sum(counts[part]["classes"]["LOC"] for part in counts) == 20


def test_cleaning_moves_the_spans_along(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": f"{name}  &amp;  Sons {at} ", "entities": [[0, len(name) + 13, "ORG"]]})
        for at, name in enumerate(NAMES * 10)
    ]
    prepared = run(tmp_path, "\n".join(lines), "train.jsonl", preparation={"unescape_html": True})
    for text, target in prepared.parts["train"][["text", "entities"]].itertuples(index=False):
        ((start, end, _),) = json.loads(target)
        assert text[start:end].split(" ")[1:] == ["&", "Sons"]


GOOD = "\n".join(sentences(60)) + "\n"
REJECTED = [
    ("Anna B-PER\nsleeps\n\n", "1 columns instead of 2"),
    ("Anna NNP B-PER\nsleeps O\n\n", "3 columns instead of 2"),
    ("Anna PER\nsleeps O\n\n", "unknown tag 'PER'"),
    ("Anna Q-PER\nsleeps O\n\n", "unknown tag 'Q-PER'"),
    ("Anna B-\nsleeps O\n\n", "tag 'B-' without a label"),
    ("Anna B-PER\nsleeps O\nin S-LOC\n\n", "an entity of label 'PER' is never ended with E"),
]


@pytest.mark.parametrize(("sentence", "reason"), REJECTED)
def test_a_bad_sentence_is_rejected_with_its_line_and_the_rest_kept(
    tmp_path: Path, sentence: str, reason: str
) -> None:
    prepared = run(tmp_path, GOOD + "\n" + sentence)
    (rejected,) = prepared.rejected.to_dict("records")
    assert rejected["kind"].startswith(reason)
    assert rejected["row"] == GOOD.count("\n") + 2
    assert sum(map(len, prepared.parts.values())) == 60


def test_a_file_cut_off_in_a_sentence_loses_that_sentence(tmp_path: Path) -> None:
    prepared = run(tmp_path, GOOD + "\nAnna B-PER\nsle")
    (rejected,) = prepared.rejected.to_dict("records")
    assert "the file seems cut off" in rejected["reason"]
    assert rejected["kind"] == "1 columns instead of 2"
    tag = run(tmp_path / "tag", GOOD + "\nAnna B-PER\nsleeps O\nin O\nOslo B-")
    assert tag.rejected["reason"].tolist() == ["tag 'B-' without a label"]


LINES = [
    ({"text": "In Oslo", "entities": [[3, 9, "LOC"]]}, "entity outside its text"),
    ({"text": "In Oslo", "entities": [[0, 7, "LOC"], [3, 7, "LOC"]]}, "overlapping entities"),
    ({"text": "In Oslo", "entities": [[3, 7, ""]]}, "entity without a label"),
    ({"text": "In Oslo", "entities": {"LOC": "Oslo"}}, "entities are not a list of start, end and label"),
    ({"text": "In Oslo", "entities": "Oslo"}, "entities are not valid JSON"),
    (
        {"text": "In Oslo", "entities": [[4, 7, "LOC"]]},
        "entity begins or ends inside a word (`problem.words: tokenizer` ends them at punctuation)",
    ),
    ({"text": "In Oslo"}, "missing entities"),
    ({"text": ["In", "Oslo"], "entities": ["O"]}, "tokens and tags of different length"),
    (
        {"text": ["In", "Oslo now"], "entities": ["O", "B-LOC"]},
        "`text` holds no tokens, an empty one, or one with a space in it",
    ),
    ({"text": [], "entities": []}, "`text` holds no tokens, an empty one, or one with a space in it"),
]


@pytest.mark.parametrize(("line", "reason"), LINES)
def test_a_bad_line_is_rejected_with_its_reason_and_the_rest_kept(
    tmp_path: Path, line: dict[str, object], reason: str
) -> None:
    good = [
        json.dumps({"text": f"{name} is in {CITIES[at % 5]} {at}", "entities": [[0, len(name), "PER"]]})
        for at, name in enumerate(NAMES * 5)
    ]
    prepared = run(tmp_path, "\n".join([*good, json.dumps(line)]), "train.jsonl")
    assert prepared.rejected[["row", "reason"]].values.tolist() == [[31, reason]]
    assert sum(map(len, prepared.parts.values())) == 30


def test_too_many_bad_sentences_stop_the_run_with_the_commonest_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"60 of 60 rows .*unknown tag 'PER'"):
        run(tmp_path, GOOD.replace("B-", ""))


def test_another_scheme_than_the_one_given_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which IOB2 marks with B"):
        run(tmp_path, GOOD.replace("B-", "I-"), problem={"tag_scheme": "IOB2"})


def test_a_file_without_entities_has_no_class_to_learn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no class at all; at least one class is needed"):
        run(tmp_path, GOOD.replace("B-PER", "O").replace("B-LOC", "O"))


def test_one_label_is_enough(tmp_path: Path) -> None:
    assert run(tmp_path, GOOD.replace("B-LOC", "O")).classes == ("PER",)


def test_another_encoding_is_named_with_its_line(tmp_path: Path) -> None:
    content = GOOD.replace("Bern", "Bärn").encode("latin-1")
    with pytest.raises(DataError, match=r"line 9: byte 0xe4 is not utf-8 text; .*data.encoding"):
        run(tmp_path, content)
    assert run(tmp_path, content, data={"encoding": "latin-1"}).classes == ("LOC", "PER")


def test_a_gzip_file_that_breaks_off_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(GOOD.encode())
    with pytest.raises(DataError, match="cut off or damaged"):
        run(tmp_path, whole[: len(whole) // 2], "train.conll.gz")


def test_a_missing_role_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"names no column for `entities`"):
        run(tmp_path, GOOD, data={"columns": {"text": "1"}})


def test_a_role_that_is_not_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a column for `label`, which tagging does not read; it reads text, ent"
    ):
        run(tmp_path, GOOD, data={"columns": {"text": "1", "entities": "last", "label": "2"}})


def test_an_entity_of_a_kind_that_only_the_test_has_costs_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "test.conll").write_text("Anna B-PER\nsaw O\nAcme B-ORG\n\nBert B-PER\nwent O\n7777 O\n")
    more = {"data": {"test": "test.conll"}, "preparation": {"max_rejected_fraction": 0.5}}
    prepared = run(tmp_path, "\n".join(sentences(30)), **more)
    assert prepared.classes == ("LOC", "PER")
    (row,) = prepared.rejected.to_dict("records")
    assert (row["source"], row["row"], row["reason"]) == (
        "test.conll",
        1,
        "class 'ORG' does not occur in the training part",
    )
    assert len(prepared.parts["test"]) == 1


def test_a_tag_scheme_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"tag_scheme.*IOB1.*IOB2.*BIOES"):
        run(tmp_path, GOOD, problem={"tag_scheme": "IOBES"})


def test_augmentation_is_refused_because_entities_point_into_the_text(tmp_path: Path) -> None:
    with pytest.raises(CatenaError, match="Augmentation is not there for tagging"):
        run(tmp_path, GOOD, preparation={"augmentation": {"copies": 1, "word_dropout": 0.1}})


def test_documents_begin_and_comments_are_left_out_wherever_they_stand(tmp_path: Path) -> None:
    lines = [
        "# sent_id = 2", "EU NNP I-NP I-ORG", "-DOCSTART- -X- -X- O", "German JJ I-NP I-MISC", "",
        "# # SYM O", "call NN I-NP O",
    ]  # fmt: skip
    path = tmp_path / "a.conll"
    path.write_text("\n".join(lines) + "\n")
    (batch,) = read_records(
        path, settings(path.name, format="conll"), ("text", "entities"), target="entities"
    )
    assert not len(batch.broken)
    assert batch.records["text"].tolist() == ["EU", "German", "# call"]
