"""params.yaml is read whole and exactly, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from catena.errors import SettingsError
from catena.settings import Settings, known_parameters, load_settings, parse_settings, walk_parameters

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("file", [ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=str)
def test_the_projects_own_settings_are_valid(file: Path) -> None:
    assert load_settings(file).data.name


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    assert load_settings(tmp_path / "params.yaml") == Settings()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"learning_rat": 1}}, "unknown .*`training.learning_rat`; .*`training.learning_rate`"),
        ({"trainin": {}}, "unknown parameter `trainin`; did you mean `training`"),
        ({"learning_rate": 1e-4}, "did you mean `training.learning_rate`"),
        ({"training": {"epochs": -1}}, "`training.epochs`: input should be greater than 0, not -1"),
        ({"training": {"epochs": "many"}}, "`training.epochs`: a number was expected, not the text 'many'"),
        ({"training": {"max_steps": "30"}}, "`training.max_steps`: a number was expected, not the text '30'"),
        ({"training": {"max_steps": True}}, "`training.max_steps`: a number was expected, not true"),
        ({"training": {"dropout": False}}, "`training.dropout`: a number was expected, not false"),
        ({"problem": {"crf": "yes"}}, "`problem.crf`: true or false was expected, not the text 'yes'"),
        ({"problem": {"crf": 1}}, "`problem.crf`: true or false was expected, not 1"),
        ({"training": {"dropout": 1.0}}, "`training.dropout`: input should be less than 1"),
        ({"seed": 1.5}, "`seed`: input should be a valid integer"),
        ({"seed": [1]}, "`seed`: input should be a valid integer"),
        ({"method": {"name": "ful"}}, "`method.name`: input should be 'full'.*, not 'ful'"),
        ({"data": {"name": "../etc"}}, "`data.name`"),
        ({"data": {"source": "somewhere"}}, "must be `package:<key>` or `hub:<owner>/<dataset>`"),
        ({"data": {"source": "hub:a/b"}}, "`revision` is required with a `hub:` source"),
        ({"backbone": {"source": "hub:a/b"}}, "`revision` is required with a `hub:` source"),
        ({"training": {"class_weights": {"a": 0}}}, "class weights must be above 0"),
        ({"method": {"distillation": {"tail": "t"}}}, "is that of a `distillation.teacher`; name one"),
        ({"method": {"name": "density", "density": {"objective": "generative"},
                     "distillation": {"teacher": "t"}}}, "generative does not tell labels apart"),
        ({"method": {"name": "lora", "store": "adapter"}, "backbone": {"keep_layers": [1]}},
         "set `store` to merged"),
        ({"method": {"distillation": {"teacher": "t"}}, "data": {"unlabelled": "u.csv"}},
         "is asked about labelled records alone"),
        ({"method": {"name": "unchanged", "start": "m"}, "data": {"unlabelled": "u.csv"}},
         "trains nothing, so it has no use for `data.unlabelled`"),
        (["seed"], "a mapping of settings was expected, not list"),
        ("seed", "a mapping of settings was expected, not str"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_sentence(values: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_settings(values)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: [1\n", r"params\.yaml, line \d"),
        (b"seed: \xff\xfe\n", "cannot be read as UTF-8"),
        (b"a: 1\na: 2\n", "duplicate key"),
    ],
)
def test_a_file_that_is_no_yaml_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no .*params\.yaml"):
        load_settings(tmp_path / "params.yaml")


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("training:\n  learning_rate: 1e-4\n")
    assert load_settings(tmp_path / "params.yaml").training.learning_rate == 1e-4


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().training.epochs = 3.0  # type: ignore[misc]


def test_every_parameter_is_documented() -> None:
    undocumented = [
        name for name, field in walk_parameters() if not (field.description or "").strip().endswith(".")
    ]
    assert not undocumented
    assert len(known_parameters()) > 80
