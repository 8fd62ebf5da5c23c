"""Settings of networks made from scratch: defaults by type, and one sentence for what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from catena.data.fetch import fetch_backbone
from catena.data.scratch import SCRATCH_FILE
from catena.errors import ModelError, SettingsError
from catena.layout import Layout
from catena.settings import parse_settings
from catena.training.finetune import fingerprint
from tests.tiny_project import run

LEARNED = {"tokenizer": "characters"}


def settings(backbone: dict[str, Any], tokenization: dict[str, Any] | None = None) -> Any:
    return parse_settings({"backbone": backbone, "tokenization": tokenization or LEARNED})


def test_a_type_made_from_scratch_needs_no_source_and_gets_its_own_sizes() -> None:
    backbone = settings({"name": "own", "type": "recurrent", "cell": "gru"}).backbone
    assert (backbone.source, backbone.cell, backbone.hidden_size) == ("scratch", "gru", 128)
    assert (backbone.heads, backbone.filters) == (None, None)


@pytest.mark.parametrize(
    ("backbone", "tokenization", "message"),
    [
        ({"type": "transformer", "heads": 3}, LEARNED, r"`hidden_size` \(256\) must be a multiple of"),
        ({"type": "recurrent", "heads": 2}, LEARNED, "`heads` is a size of transformer, and `type`"),
        ({"type": "pretrained", "layers": 2}, {}, "`layers` is a size of transformer"),
        ({"type": "recurrent", "source": "folder:x"}, LEARNED, "`source` folder:x do not"),
        ({"source": "scratch"}, {}, "`type` pretrained and `source` scratch do not go together"),
        ({"type": "transformer"}, {}, "transformer is made from scratch and has no tokenizer"),
        ({}, LEARNED, "pretrained weights know only the tokens of their own tokenizer"),
        ({"type": "recurrent"}, {"tokenizer": "bpe", "vocabulary_size": 100}, "must be at least 261 for bpe"),
        ({"type": "convolutional", "kernel_sizes": []}, LEARNED, "`backbone.kernel_sizes`"),
    ],
)  # fmt: skip
def test_sizes_and_sources_that_do_not_fit_get_one_sentence(
    backbone: dict[str, Any], tokenization: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        parse_settings({"backbone": backbone, "tokenization": tokenization})
    assert str(caught.value).startswith("params.yaml: `")


def test_a_bad_size_ends_a_stage_with_status_2_and_nothing_but_the_sentence(tiny_project: Path) -> None:
    params = tiny_project / "params.yaml"
    text = params.read_text(encoding="utf-8")
    text = text.replace("name: tiny\n  source: folder:backbone", "name: own\n  type: transformer\n  heads: 3")
    text = text.replace("max_length: 32", "max_length: 32\n  tokenizer: characters")
    params.write_text(text, encoding="utf-8")
    done = run(tiny_project, "python", "-m", "tasks.tokenize", check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "tokenize: params.yaml: `backbone`: `hidden_size` (256) must be a multiple of `heads` (3)."
    ]


@pytest.mark.parametrize(
    ("size", "value"), [("layers", 3), ("hidden_size", 128), ("heads", 8), ("intermediate_size", 64)]
)
def test_every_size_is_part_of_the_fingerprint(size: str, value: int) -> None:
    plain = settings({"name": "own", "type": "transformer"})
    other = settings({"name": "own", "type": "transformer", size: value})
    assert fingerprint(plain, "d", "w") != fingerprint(other, "d", "w")


def test_fetching_a_backbone_from_scratch_lays_down_the_same_file_every_time(tmp_path: Path) -> None:
    chosen = settings({"name": "own", "type": "convolutional"})
    folder = fetch_backbone(chosen, Layout(tmp_path))
    assert [path.name for path in folder.iterdir()] == [SCRATCH_FILE]
    first = (folder / SCRATCH_FILE).read_bytes()
    larger = settings({"name": "own", "type": "convolutional", "filters": 7})
    assert (fetch_backbone(larger, Layout(tmp_path)) / SCRATCH_FILE).read_bytes() == first


def test_weights_that_somebody_fetched_are_not_replaced_by_nothing(tmp_path: Path) -> None:
    folder = Layout(tmp_path).backbone("own")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"holds a pretrained model.*choose another `backbone\.name`"):
        fetch_backbone(settings({"name": "own", "type": "recurrent"}), Layout(tmp_path))
    assert (folder / "model.safetensors").read_bytes() == b"weights"
