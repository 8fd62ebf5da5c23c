"""The benchmark of explanations: what it writes under the name that it is given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import explanations
from tests.tiny_model import build_tiny_model

TEXTS = ["wheat and maize for the gulf port", "the bank said the dollar rate fell", "too long " * 40]


def test_the_deletion_test_is_written_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_tiny_model(tmp_path / "model", seed=3)
    data = tmp_path / "validation.parquet"
    pd.DataFrame({"text": TEXTS, "label": ["grain", "money", "ship"]}).to_parquet(data)
    paths = ["--model", str(model), "--data", str(data), "--output", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", ["explanations", "--name", "tiny", *paths])
    explanations.main()
    found = json.loads((tmp_path / "results" / "explanations-tiny.json").read_text())
    assert found["records"] == 2  # the third has more than 60 words
    assert found["words_median"] == 7.0
    curves = found["curves"]
    beginnings = {curve[0] for curve in curves.values()}
    assert len(beginnings) == 1, "with no word removed, all say the same"
    assert all(len(curve) == len(found["shares"]) for curve in curves.values())
    largest, smallest = (curves[way][2] for way in (explanations.ORDERS[0], explanations.ORDERS[2]))
    assert 0 < largest <= smallest < 1
    assert (tmp_path / "results" / "explanations-tiny.svg").read_text().startswith("<?xml")
    with pytest.raises(SystemExit):
        monkeypatch.setattr(sys, "argv", ["explanations", *paths])
        explanations.main()
