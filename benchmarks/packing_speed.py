"""What packing does to the training speed of a language model: rows shared by records, or one row for each.

    python -m benchmarks.packing_speed

A Llama of four layers from scratch trains on records of 16 to 512 tokens (log-normal, median 80, as short
dialogues have) in batches of 4,096 tokens: sorted by length and padded, or packed into rows of 512. Processor
time is measured, so that other work on the machine hardly matters; the two take turns. Writes
`benchmarks/results/packing_speed.json`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.machine import describe, spread
from catena.problems import get_problem
from catena.training.batches import plan_training
from catena.training.devices import choose_device
from catena.training.inputs import network_inputs

WIDTH = 512
BATCH_TOKENS = 4096
STEPS = 4
ROUNDS = 3
RECORDS = 1500


def main() -> None:
    torch.set_num_threads(1)
    problem, device = get_problem("generation"), choose_device()
    chance = np.random.default_rng(0)
    lengths = np.clip(np.exp(chance.normal(np.log(80), 0.8, RECORDS)), 16, WIDTH).astype(int)
    given = [chance.integers(5, 4000, size - 8).tolist() for size in lengths]
    records = [{"input_ids": ids, "learned": [1] * len(ids), "labels": [7] * 8} for ids in given]
    config = LlamaConfig(
        vocab_size=4000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=768
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation=device.attention)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    plans = {
        name: plan_training(
            lengths, batch_tokens=BATCH_TOKENS, batch_size=64, epochs=1, gradient_accumulation=1,
            max_steps=None, seed=1, packed=packed,
        )
        for name, packed in (("padded", None), ("packed", WIDTH))
    }  # fmt: skip

    def step(name: str, at: int) -> int:
        rows = [records[row] for row in plans[name].batches[at]]
        batch = problem.pack(rows, 0, WIDTH) if name == "packed" else problem.collate(rows, 0)
        with device.autocast:
            logits = model(**network_inputs(model, batch)).logits
        problem.loss(logits, batch["labels"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        return sum(len(row["input_ids"]) + len(row["labels"]) for row in rows)

    speeds: dict[str, list[float]] = {name: [] for name in plans}
    for name in plans:
        step(name, 0)
    for turn in range(ROUNDS):
        for name, found in speeds.items():
            started = time.process_time()
            tokens = sum(step(name, 1 + turn * STEPS + at) for at in range(STEPS))
            found.append(tokens / (time.process_time() - started))
    result: dict[str, Any] = {
        "machine": describe(),
        "device": str(device),
        "batches of an epoch": {name: len(plan.batches) for name, plan in plans.items()},
        "share of a full batch that is no padding": {
            name: round(float(lengths.sum()) / (len(plan.batches) * BATCH_TOKENS), 3)
            for name, plan in plans.items()
        },
        "tokens of records a second of processor time": {
            name: spread(found, 0) for name, found in speeds.items()
        },
    }
    target = Path(__file__).parent / "results" / "packing_speed.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
