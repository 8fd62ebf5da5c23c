"""The chain on Chinese titles: a tokenizer and a network from scratch, from `catena fetch` to predictions."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from catena.files import sha256_file
from catena.predictor import Predictor
from tests.tiny_project import run

pytestmark = pytest.mark.end_to_end

#: Words of the two topics, and words that both have; the titles are put together without a single space.
_TOPICS = {
    "财经": "股市 银行 利率 基金 债券 央行 股价 期货 汇率 贷款 保险 证券",
    "体育": "球队 教练 联赛 进球 夺冠 球员 决赛 主场 客场 射门 裁判 冠军",
}
_COMMON = "今日 宣布 可能 上周 再次 专家 表示 最新 消息 北京 上海 首次 记者 大幅 继续 关注"
PARAMS = """\
seed: 3
data:
  name: titles
  format: tsv
  train: train.txt
  test: test.txt
  column_names: [text, label]
  labels:
    "0": 财经
    "1": 体育
preparation:
  near_duplicates: "off"
  validation_fraction: 0.2
problem: {}
tokenization:
  tokenizer: characters
  max_length: 24
backbone:
  name: own
  type: recurrent
  cell: gru
  hidden_size: 16
  embedding_size: 16
method: {}
training:
  epochs: 2
  learning_rate: 0.02
  batch_size: 8
  dropout: 0.2
  device: cpu
  precision: float32
evaluation:
  baselines: [tfidf, backbone]
  bootstrap_samples: 100
registry:
  model: titles
gate:
  floors:
    accuracy: 0.8
  max_latency_ratio: null
"""


def write_titles(path: Path, count: int, seed: int) -> None:
    """Write `count` titles and the numbers of their topics, with no header line."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        topic = list(_TOPICS)[number % 2]
        words = chance.choices(_TOPICS[topic].split(), k=2) + chance.choices(_COMMON.split(), k=3)
        chance.shuffle(words)
        rows.append(f"{''.join(words)}\t{number % 2}\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(rows), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tiny_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose chain `dvc repro` has run to its end, after nothing but `catena fetch`."""
    import shutil

    folder = Path(shutil.copytree(tiny_template, tmp_path_factory.mktemp("chinese") / "project"))
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    write_titles(folder / "data" / "raw" / "titles" / "train.txt", 240, seed=1)
    write_titles(folder / "data" / "raw" / "titles" / "test.txt", 80, seed=2)
    run(folder, "python", "-m", "catena.cli", "fetch")
    done = run(folder, "dvc", "repro")
    (folder / "printed.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    return folder


def test_a_network_from_scratch_learns_chinese_topics_and_becomes_champion(project: Path) -> None:
    metrics = json.loads((project / "reports" / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["accuracy"] >= 0.9
    assert set(metrics["baselines"]) == {"tfidf"}
    registry = json.loads((project / "reports" / "registry.json").read_text(encoding="utf-8"))
    assert str(registry["aliases"]["champion"]) == "1"
    printed = (project / "printed.txt").read_text(encoding="utf-8")
    assert "no backbone baseline: before training, this backbone has learned nothing" in printed
    assert "characters, learned from the training part" in printed
    assert "up to date" in run(project, "dvc", "status").stdout


def test_the_report_shows_chinese_labels_as_text_in_a_font_that_has_them(project: Path) -> None:
    page = (project / "reports" / "evaluation" / "report.html").read_text(encoding="utf-8")
    charts = page[page.index("<svg") :]
    assert ">财经</text>" in charts
    assert '"Noto Sans CJK SC"' in page
    printed = (project / "printed.txt").read_text(encoding="utf-8")
    assert "Glyph" not in printed


def test_the_quality_report_counts_characters_where_there_are_no_spaces(project: Path) -> None:
    report = json.loads((project / "reports" / "data_quality.json").read_text(encoding="utf-8"))
    assert report["parts"]["test"]["words"] == report["parts"]["test"]["characters"]
    assert report["parts"]["test"]["words"]["p50"] == 10.0  # five words of two characters


def test_the_model_folder_predicts_with_nothing_else_at_hand(project: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(project / "models" / "candidate", tmp_path / "elsewhere"))
    predictor = Predictor.load(folder, device="cpu")
    table = predictor.predict(["央行宣布下调利率", "球队再次夺冠", "鿫😀"])
    assert table["prediction"].tolist()[:2] == ["财经", "体育"]
    assert predictor.embed(["央行宣布下调利率"]).shape == (1, 32)
    printed = run(project, "python", "-m", "catena.cli", "predict", "--json", "央行宣布下调利率").stdout
    assert json.loads(printed)["prediction"] == "财经"
    assert "央行宣布下调利率" in printed


def test_another_size_is_noticed_and_the_same_one_ends_in_the_same_weights(project: Path) -> None:
    weights = project / "models" / "candidate" / "model.safetensors"
    before = sha256_file(weights)
    params = project / "params.yaml"
    params.write_text(PARAMS.replace("hidden_size: 16", "hidden_size: 24"), encoding="utf-8")
    assert "params.yaml" in run(project, "dvc", "status", "train").stdout
    params.write_text(PARAMS, encoding="utf-8")
    for stage in ("tasks.tokenize", "tasks.train"):
        run(project, "python", "-m", stage)
    assert sha256_file(weights) == before
