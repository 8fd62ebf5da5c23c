"""Settings of Chain-of-Density that say nothing, or nothing to each other, are refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from catena.errors import SettingsError
from catena.settings import parse_settings


@pytest.mark.parametrize(
    ("density", "sentence"),
    [
        ({"descriptions": {"good": " ", "bad": "x"}}, "the description of 'good' is empty"),
        (
            {"descriptions": {"good": "Fine  words", "bad": "fine words"}},
            "'good' and 'bad' have the same description",
        ),
        ({"template": ""}, "nothing stands for a label: `template` is empty and `soft_tokens` is 0"),
        ({"template": "A text:"}, "`template` has no `{label}`"),
        ({"template": "{label}: {text}"}, "`template` has the slot {text}, but only {label} is filled in"),
        ({"absent": "A text:"}, "`absent` has no `{label}`"),
        ({"adapt": "soft_tokens_only"}, "`adapt` is soft_tokens_only and `soft_tokens` is 0"),
        ({"prior": {"good": 1.5, "bad": 0.5}}, "every share must be above 0 and below 1"),
        ({"sofft_tokens": 1}, "did you mean `method.density.soft_tokens`"),
    ],
)
def test_settings_that_say_nothing_are_one_sentence(density: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        parse_settings({"method": {"name": "density", "density": density}})
    assert sentence in str(error.value)


ALL_GENERATIVE = [{"objective": "generative"}, {"objective": "hybrid", "generative_weight": 1.0}]


@pytest.mark.parametrize("density", ALL_GENERATIVE, ids=["generative", "hybrid"])
def test_weights_of_labels_mean_nothing_where_labels_are_not_told_apart(density: dict[str, Any]) -> None:
    method = {"name": "density", "density": density}
    for training in ({"label_smoothing": 0.1}, {"class_weights": "balanced"}):
        with pytest.raises(SettingsError, match=r"says nothing to `method\.density\.objective` generative"):
            parse_settings({"method": method, "training": training})


@pytest.mark.parametrize("density", ALL_GENERATIVE, ids=["generative", "hybrid"])
def test_a_teacher_teaches_nothing_where_labels_are_not_told_apart(density: dict[str, Any]) -> None:
    method = {"name": "density", "distillation": {"teacher": "models/other"}}
    parse_settings({"method": method})
    method["density"] = density
    with pytest.raises(
        SettingsError, match=r"generative does not tell labels apart .* no use for `distillation\.teacher`"
    ):
        parse_settings({"method": method})
