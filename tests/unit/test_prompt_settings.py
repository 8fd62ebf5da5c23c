"""Templates and prompts that cannot work are refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catena.errors import SettingsError
from catena.methods import get_method
from catena.problems import HeadSpec
from catena.settings import load_settings, parse_settings

GOOD: dict[str, Any] = {
    "pattern": "Review: {text}\nSentiment: {label}",
    "verbalizer": {"bad": "negative", "good": ["positive", "great"]},
}


def settings(template: object, name: str = "prompt", **prompt: object) -> Any:
    return parse_settings({"method": {"name": name, "prompt": {"template": template, **prompt}}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pattern": "Sentiment: {label}"}, "no slot {text}"),
        ({"pattern": "{txt}: {label}"}, "unknown slot {txt}; there are {text}"),
        ({"pattern": "{}: {label}"}, "unknown slot {}"),
        ({"pattern": "{text} {text} {label}"}, "slot {text} more than once"),
        ({"pattern": "{text} is good"}, "one slot for what the network says"),
        ({"pattern": "{text} {mask} {label}"}, "it has 2"),
        ({"pattern": "{label} is said of {text}"}, "{label} must stand at its end"),
        ({"pattern": "{text} {label} "}, "{label} must stand at its end"),
        ({"verbalizer": {"bad": "no", "good": "no"}}, "the word 'no' for both 'bad' and 'good'"),
        ({"verbalizer": {"bad": "no", "good": ["yes", "no "]}}, "for both 'bad' and 'good'"),
        ({"verbalizer": {"bad": " ", "good": "yes"}}, "'bad' is white space"),
        ({"verbalizer": {"bad": "", "good": "yes"}}, "at least 1 character"),
        ({"patern": "x"}, "unknown parameter `method.prompt.template.patern`"),
    ],
)
def test_a_bad_template_is_refused_in_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(GOOD | change)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_prompts_need_and_what_excludes_each_other() -> None:
    with pytest.raises(SettingsError, match="`name` prompt needs a template"):
        parse_settings({"method": {"name": "prompt"}})
    with pytest.raises(SettingsError, match="take away the same thing"):
        settings(GOOD, normalization="pmi", calibration="contextual")
    with pytest.raises(SettingsError, match="`chat` is for causal language models"):
        settings(GOOD | {"pattern": "{text} It was {mask}."}, chat=True)
    with pytest.raises(SettingsError, match=r"named as `templates/<name>\.yaml`"):
        settings("sentiment.yaml")


@pytest.mark.parametrize(
    ("problem", "template", "name", "message"),
    [
        ("ranking", {}, "prompt", "does not fit the problem ranking"),
        ("tagging", {}, "pattern", "pattern does not fit the problem tagging"),
        ("tagging", {}, "prompt", "has the slots {text}, {word}"),
        ("classification", {"pattern": "{text} {question} {label}"}, "prompt", "has {question}, {text}"),
        ("classification", {"verbalizer": {"bad": "no"}}, "prompt", "has no word for 'good'"),
        (
            "classification",
            {"verbalizer": {"bad": "no", "good": "yes", "odd": "so"}},
            "prompt",
            "words for 'odd', which is no label",
        ),
        ("answering", {"pattern": "{context} {question} {label}"}, "prompt", "has no verbalizer"),
        ("answering", {"pattern": "{context} {question} {mask}", "verbalizer": {}}, "prompt", "causal"),
    ],
)
def test_what_does_not_fit_the_problem_is_refused(
    problem: str, template: dict[str, Any], name: str, message: str
) -> None:
    method = get_method(settings(GOOD | template, name).method)
    with pytest.raises(SettingsError) as caught:
        method.check(problem, HeadSpec("sequence-classification", ("bad", "good")))
    assert message in str(caught.value)


def test_training_needs_no_calibration() -> None:
    method = get_method(settings(GOOD, "pattern", calibration="contextual").method)
    with pytest.raises(SettingsError, match="learns how often each word is to be said"):
        method.check("classification", HeadSpec("sequence-classification", ("bad", "good")))


def test_a_template_in_a_file_is_read_whole_and_changes_the_settings(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    params = tmp_path / "params.yaml"
    params.write_text("method: {name: prompt, prompt: {template: templates/mine.yaml}}")
    with pytest.raises(SettingsError, match=r"templates/mine.yaml is not there"):
        load_settings(params)
    file = tmp_path / "templates" / "mine.yaml"
    file.write_text('pattern: "{text} It is {label}"\nverbalizer: {bad: "no", good: "yes"}')
    first = load_settings(params)
    assert first.method.prompt.template is not None
    assert first.method.prompt.template.words == {"bad": ("no",), "good": ("yes",)}
    file.write_text('pattern: "{text} It was {label}"\nverbalizer: {bad: "no", good: "yes"}')
    assert load_settings(params) != first
    for content, message in (("pattern: [", "mine.yaml, line"), ("- a", "a mapping was expected")):
        file.write_text(content)
        with pytest.raises(SettingsError, match=message):
            load_settings(params)
    file.write_bytes(b"pattern: \xff")
    with pytest.raises(SettingsError, match="cannot be read as UTF-8"):
        load_settings(params)
    (tmp_path / "secret.yaml").write_text("pattern: x")
    params.write_text("method: {name: prompt, prompt: {template: templates/../secret.yaml}}")
    with pytest.raises(SettingsError, match="lies outside of templates"):
        load_settings(params)
