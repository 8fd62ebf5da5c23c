"""The report is one safe, self-contained page, and its headline says what the figures say."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from catena.evaluation.figures import curve_charts, curve_groups
from catena.evaluation.metrics import score
from catena.evaluation.predictions import EvaluationPlan, Predictions
from catena.evaluation.report import ReportSource, render_report, write_report
from catena.evaluation.verdict import verdict

ATTACK = "<script>alert('x')</script><img src=x onerror=alert(1)>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, checks that they are balanced, and keeps what could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "action", "background") or name.startswith("on"):
                self.loads.append(f"{tag} {name}={value}")
            if name in ("href", "xlink:href"):
                (self.links if str(value).startswith("#") else self.loads).append(str(value))
            if name == "id":
                self.ids.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def example(names: tuple[str, ...] = ("acq", "earn", "ship"), rival: float = 0.7) -> ReportSource:
    """A source whose baseline is right in a share `rival` of the records."""
    generator = np.random.default_rng(1)
    actual = generator.integers(len(names), size=300)
    logits = generator.normal(size=(300, len(names)))
    logits[np.arange(300), actual] += 3.0
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    array = np.array(names, dtype=object)
    table = pd.DataFrame(
        {
            "id": [f"{number:05d}" for number in range(300)],
            "text": [f"{ATTACK} text {number}" for number in range(300)],
            "label": array[actual],
            "prediction": array[probabilities.argmax(axis=1)],
            "confidence": probabilities.max(axis=1),
            **{f"p:{name}": probabilities[:, number] for number, name in enumerate(names)},
            "baseline:tfidf": array[np.where(generator.random(300) < rival, actual, 0)],
            "baseline:tfidf:confidence": 0.9,
        }
    )
    predictions = Predictions(table, EvaluationPlan(label_names=names, fingerprint="f" * 64, samples=200))
    behaviour = {
        "tests": 1, "passed": 0, "cases": 2, "passed_cases": 1, "pass_rate": 0.5,
        "results": [
            {
                "name": f"t {ATTACK}", "kind": "invariance", "about": ATTACK, "cases": 2, "passed_cases": 1,
                "pass_rate": 0.5, "threshold": 0.9, "passed": False,
                "failures": [{"text": ATTACK, "before": ATTACK, "expected": ATTACK, "found": ATTACK}],
            }
        ],
    }  # fmt: skip
    curve = pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0], "validation_accuracy": [None, 0.9]})
    return ReportSource(
        title=ATTACK,
        predictions=predictions,
        metrics={**score(predictions), "behaviour": behaviour},
        curve=curve,
        made_with={"Parameters": {"data.name": ATTACK}},
    )


def quality() -> dict[str, Any]:
    """What the prepare stage writes, as far as the page shows it."""
    names = {"acq": 100, "earn": 100, "ship": 100}
    part = {
        "records": 300, "augmented": 10, "classes": names, "shares": dict.fromkeys(names, 1 / 3),
        "words": {"p50": 12.0, "p95": 40.0},
    }  # fmt: skip
    return {
        "classes": list(names),
        "parts": {"test": part, "train": part, "validation": part},
        "rejected": {"total": 3, "share": 0.01, "by_reason": {"empty_text": 3}},
        "imbalance": {
            "largest": {"class": "acq", "records": 100},
            "smallest": {"class": "earn", "records": 100},
            "ratio": 1.0,
        },
        "near_duplicates": {"policy": "drop", "threshold": 0.85, "pairs": 2, "between": {"train → test": 2}},
        "augmentation": {
            "changes": {"word_dropout": 10, "synonym": 0},
            "examples": [{"before": ATTACK, "after": f"b {ATTACK}"}],
        },
        "warnings": [f"consider `training.class_weights` {ATTACK}"],
    }


@cache
def full_page() -> str:
    """The page with every section."""
    return render_report(replace(example(), data_quality=quality()))


def test_text_from_data_cannot_become_markup() -> None:
    text = full_page()
    page = Page(text)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert "&lt;script&gt;" in text
    assert "<code>training.class_weights</code>" in text


def test_class_names_cannot_become_markup_or_formulas_in_charts() -> None:
    names = ("<b>x</b>", '$a_b$ & "q"', "p:ship")
    page = Page(render_report(example(names)))
    assert "b" not in page.tags
    assert page.loads == []


def test_the_page_loads_nothing() -> None:
    text = full_page()
    page = Page(text)
    assert page.loads == []
    assert re.findall(r"https?://|@import|url\((?!#)", text) == []


def test_links_and_references_inside_the_page_have_one_target_each() -> None:
    text = full_page()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)


def test_every_chart_says_what_it_shows_and_every_column_has_a_header() -> None:
    text = full_page()
    charts = re.findall(r"<svg[^>]*>", text)
    assert len(charts) == 7
    assert all('role="img"' in chart and re.search(r'aria-label="[^"]{10,}', chart) for chart in charts)
    for table in re.findall(r"<table>.*?</table>", text, flags=re.DOTALL):
        assert table.count("<th scope=") >= 2


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_report(tmp_path / name, replace(example(), data_quality=quality()))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_metrics_share_a_chart_where_they_share_a_scale() -> None:
    curve = pd.DataFrame(
        {
            "step": [1, 2, 3],
            "loss": [5.0, 4.0, 3.0],
            "validation_log_loss": [None, 4.5, 4.0],
            "validation_perplexity": [None, 90.0, 54.6],
            "validation_token_accuracy": [None, 0.2, 0.3],
            "validation_macro_f1": [None, 0.0, 1.0],
            "validation_r2": [None, -0.5, 0.5],
            "validation_bleu": [None, None, None],
        }
    )
    groups = {name: list(columns) for name, _, columns in curve_groups(curve)}
    assert groups == {
        "loss": ["loss", "validation_log_loss"],
        "scores": ["validation_macro_f1", "validation_token_accuracy"],
        "perplexity": ["validation_perplexity"],
        "r2": ["validation_r2"],
    }
    charts = curve_charts(curve)
    assert [re.search(r"Training curve: (.*?) by step", svg)[1] for svg in charts] == [  # type: ignore[index]
        "loss (nats)",
        "validation score",
        "perplexity",
        "R²",
    ]
    assert "curve-perplexity-" in charts[2]


def test_failing_cases_of_images_are_shown_before_and_after() -> None:
    source = example()
    failure = source.metrics["behaviour"]["results"][0]["failures"][0]
    failure["pictures"] = ["data:image/png;base64,AAAA", "data:image/png;base64,BBBB"]
    text = render_report(source)
    before, after = (text.index(f'src="{picture}"') for picture in failure["pictures"])
    assert before < text.index("<span>→</span>", before) < after
    assert '<th scope="col">Image</th><th scope="col">Expected</th>' in text


def test_sections_without_a_source_are_left_out() -> None:
    bare = example()
    metrics = {key: value for key, value in bare.metrics.items() if key != "behaviour"}
    text = render_report(replace(bare, metrics=metrics, curve=None))
    page = Page(text)
    assert {"data", "training", "behaviour"}.isdisjoint(page.ids)
    assert {"rivals", "classes", "slices", "errors", "made"} <= set(page.ids)


@pytest.mark.parametrize(
    ("rival", "mood", "words"),
    [
        (0.6, "good", "Fine-tuning pays: clearly better than its strongest baseline, TF-IDF"),
        (0.93, "mixed", "Not shown to be better than a simpler model: TF-IDF"),
        (1.0, "bad", "A simpler model does better: TF-IDF"),
    ],
)
def test_the_headline_follows_the_paired_test(rival: float, mood: str, words: str) -> None:
    found = verdict(example(rival=rival).metrics, None, suspects=0)
    assert found.mood == mood
    assert found.headline.startswith(words)


def test_the_summary_gives_accuracy_with_its_interval_and_the_errors() -> None:
    metrics = example().metrics
    found = verdict(metrics, metrics["behaviour"], suspects=2)
    low, high = metrics["intervals"]["accuracy"]
    assert (
        f"{metrics['accuracy']:.1%} the right label (95% interval {low:.1%} to {high:.1%})" in found.summary
    )
    assert f"{metrics['errors']} a wrong one" in found.summary
    assert any(remark.startswith("1 of 1 behaviour tests not passed") for remark in found.remarks)
    assert any("2 test records probably carry a wrong label" in remark for remark in found.remarks)
