"""Examples per second of fine-tuning: Catena's engine beside transformers' Trainer, in the same run.

    python -m benchmarks.training_speed --runs 3

Three ways to take the same steps with the same network (the default backbone, learning-rate and
optimiser alike) on the same texts of the prepared data set:

- `trainer`: transformers.Trainer as its text-classification example sets it (float32, every text
  padded to 128 tokens, batch 32);
- `trainer, tuned`: the same Trainer with bfloat16 where the machine has it, batches grouped by
  length and padded to their longest;
- `catena`: the engine.

Each way runs in a process of its own, in turn, several times. Writes
`benchmarks/results/training_speed.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe, spread

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("trainer", "trainer, tuned", "catena")


def measure(way: str, steps: int, max_length: int) -> dict[str, float]:
    """Train `steps` steps; seconds are those of the steps alone, after two to warm up, validation apart."""
    import pandas as pd
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    from catena.backbones import get_backbone
    from catena.methods import get_method
    from catena.problems import get_problem
    from catena.settings import MethodSettings, TokenizationSettings, load_settings
    from catena.training.batches import plan_training
    from catena.training.devices import choose_device
    from catena.training.engine import Engine
    from catena.training.tokens import TokenTable, write_tokens

    settings = load_settings(ROOT / "params.yaml")
    folder = ROOT / "models" / "backbones" / settings.backbone.name
    records = pd.read_parquet(ROOT / "data" / "prepared" / "train.parquet").head(32 * (steps + 8))
    labels = sorted(records["label"].unique())
    problem = get_problem("classification")
    device = choose_device()
    tuned = way != "trainer"
    set_seed(1)
    backbone = get_backbone("pretrained")
    tokenizer = backbone.tokenizer(folder)
    model = backbone.build(
        folder, problem.head(labels), dropout=None, attention=device.attention if way == "catena" else "sdpa"
    )
    features = problem.encode(records, tokenizer, TokenizationSettings(max_length=max_length), labels)
    times: list[float] = []
    seen: list[int] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: object, **__: object) -> None:
            times.append(time.perf_counter())

        def on_step_end(self, *_: object, **__: object) -> None:
            times[-1] = time.perf_counter() - times[-1]

    with tempfile.TemporaryDirectory() as scratch:
        if way == "catena":
            write_tokens(Path(scratch) / "t.arrow", [features])
            table = TokenTable(Path(scratch) / "t.arrow")
            training = settings.training.model_copy(
                update={
                    "checkpoint_seconds": 1e9,
                    "dropout": None,
                    "batch_tokens": 32 * max_length,
                    "max_steps": steps,
                }
            )
            plan = plan_training(
                table.lengths, batch_tokens=32 * max_length, batch_size=32, epochs=1, gradient_accumulation=1,
                max_steps=steps, seed=1,
            )  # fmt: skip
            trainer: Trainer = Engine(
                model, problem, get_method(MethodSettings()), training, plan, table, table,
                folder=Path(scratch), device=device, pad_token_id=tokenizer.pad_token_id, seed=1,
                class_weights=None, on_row=lambda row: None,
            )  # fmt: skip
            trainer.add_callback(Clock())
            trainer.train()
            seen = [len(batch) for batch in plan.batches]
        else:
            rows = [
                {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": label}
                for ids, label in zip(features["input_ids"], features["labels"], strict=True)
            ]

            def collate(batch: list[dict[str, object]]) -> dict[str, torch.Tensor]:
                padding = {"padding": True} if tuned else {"padding": "max_length", "max_length": max_length}
                return dict(tokenizer.pad(batch, return_tensors="pt", **padding))

            trainer = Trainer(
                model=model,
                args=TrainingArguments(
                    output_dir=scratch,
                    max_steps=steps,
                    per_device_train_batch_size=32,
                    learning_rate=settings.training.learning_rate,
                    bf16=tuned and device.precision == "bfloat16",
                    use_cpu=device.kind == "cpu",
                    train_sampling_strategy="group_by_length" if tuned else "random",
                    save_strategy="no",
                    report_to=[],
                    disable_tqdm=True,
                    remove_unused_columns=False,
                ),
                train_dataset=rows,  # type: ignore[arg-type]
                data_collator=collate,
                callbacks=[Clock()],
            )
            trainer.train()
            seen = [32] * steps
    warm = 2
    return {
        "examples_per_second": sum(seen[warm:]) / sum(times[warm:]),
        "seconds_per_step": sum(times[warm:]) / (steps - warm),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments.steps, arguments.max_length)))
        return
    options = ["--steps", arguments.steps, "--max-length", arguments.max_length]
    results: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.runs):
        for way in WAYS:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.training_speed", "--way", way, *map(str, options)],
                capture_output=True, text=True, check=True, cwd=ROOT,
            )  # fmt: skip
            results[way].append(json.loads(done.stdout.splitlines()[-1])["examples_per_second"])
    table = {way: spread(values) for way, values in results.items()}
    output = {"machine": describe(), "max_length": arguments.max_length, "examples_per_second": table}
    target = ROOT / "benchmarks" / "results" / "training_speed.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(output, indent=2) + "\n", encoding="utf-8")
    for way, values in table.items():
        print(f"{way:16} {values['median']:8.1f} examples/s   ({values['min']:.1f} to {values['max']:.1f})")


if __name__ == "__main__":
    main()
