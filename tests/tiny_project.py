"""A complete Catena project small enough to run in seconds: real stages, 240 records, a tiny BERT."""

from __future__ import annotations

import csv
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_CODE = (
    "catena", "tasks", "flows", "behaviour",
    "dvc.yaml", "prefect.yaml", "pyproject.toml", ".gitignore", ".dvcignore",
)  # fmt: skip
_TOPICS = {
    "grain": "wheat maize barley harvest bushel crop farmers acreage silo drought seed tonnes flour oats",
    "money": "bank dollar yen rate treasury currency liquidity bundesbank deposit pound swap coin loan",
    "ship": "vessel port cargo seamen tanker gulf freight dock hull canal crew anchor tug harbour berth",
}
_COMMON = (
    "the of said in a and to was on for would that it company after this year week month officials today "
    "reported sources told market new last from about with more than some prices expected government plan "
    "talks agreement support early late june april october north south west east first second third"
)
_MAKE_STORE = """
from pathlib import Path
from catena.layout import Layout
from catena.registry.store import connect
connect(Layout(Path.cwd())).search_experiments()
"""
PARAMS = """\
seed: 7
data:
  name: tiny
  format: csv
  train: train.csv
  test: test.csv
preparation:
  validation_fraction: 0.2
problem:
  name: classification
tokenization:
  max_length: 32
backbone:
  name: tiny
  source: folder:backbone
method:
  name: full
training:
  epochs: 1
  learning_rate: 0.005  # large, because the network is tiny
  batch_size: 8
  batch_tokens: 256
  dropout: 0.0
  device: cpu
  precision: float32
evaluation:
  baselines: [tfidf]
  bootstrap_samples: 100
registry:
  model: tiny
gate:
  floors:
    accuracy: 0.2
  max_latency_ratio: null
"""


def environment() -> dict[str, str]:
    """The variables of a process in a tiny project: the tests' interpreter first, no servers configured."""
    unwanted = ("PREFECT_", "MLFLOW_", "DVC_", "CATENA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "COLUMNS": "100",
        "OMP_NUM_THREADS": "1",
    }


def run(
    project: Path,
    *command: str | Path,
    check: bool = True,
    timeout: float = 300,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run `command` in `project`; `variables` are added to the environment.

    `python` is the tests' interpreter. With `check`, a failure raises with all that was printed.
    """
    words = [sys.executable if word == "python" else str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=project,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def build_tiny_project(folder: Path) -> Path:
    """Make a project in `folder`: code as it is in the work tree, data under DVC, all committed to Git.

    Its MLflow store is there and empty, for making one takes longer than most stages here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CODE:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy2(REPOSITORY / ".dvc" / name, folder / ".dvc" / name)
    shutil.copytree(REPOSITORY / ".dvc" / "plots", folder / ".dvc" / "plots")
    (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
    write_records(folder / "data" / "raw" / "tiny" / "train.csv", count=180, seed=1)
    write_records(folder / "data" / "raw" / "tiny" / "test.csv", count=60, seed=2)
    write_backbone(folder / "backbone")
    shutil.copytree(folder / "backbone", folder / "models" / "backbones" / "tiny")
    run(folder, "python", "-c", _MAKE_STORE)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "Tiny")
    run(folder, "git", "config", "user.email", "tiny@example.com")
    run(folder, "dvc", "add", "-q", "data/raw/tiny")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "A tiny project")
    return folder


def write_records(path: Path, count: int, seed: int) -> None:
    """Write `count` records (`text`, `label`), evenly over the three topics and all different."""
    chance = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for number in range(count):
            label = list(_TOPICS)[number % len(_TOPICS)]
            words = chance.choices(_TOPICS[label].split(), k=5) + chance.choices(_COMMON.split(), k=9)
            chance.shuffle(words)
            writer.writerow([" ".join(words), label])


def write_backbone(folder: Path) -> None:
    """Write an untrained two-layer BERT (24 wide) with a WordPiece vocabulary of the topics' words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    from transformers.utils import logging

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    topical = [word for words in _TOPICS.values() for word in words.split()]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *_COMMON.split(), *topical]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    logging.disable_progress_bar()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
        )
        model = BertModel(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


if __name__ == "__main__":
    print(build_tiny_project(Path(sys.argv[1])))
