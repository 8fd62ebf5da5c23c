"""What it saves that a network that answers keeps its weights as they are multiplied.

    python -m benchmarks.rounded_weights

Under autocast PyTorch rounds the weights of linear layers at every call; `catena.backbones.rounded` keeps
them. SmolLM2-135M-Instruct writes 40 tokens after a prompt (greedy, one text), and all-MiniLM-L6-v2 reads one
sentence, each with both kinds of layers in turn, in the precision of this machine. The answers must be the
same to the last bit. The backbones are those in `models/backbones` (`catena fetch`).
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe, spread
from catena.backbones import get_backbone
from catena.backbones.rounded import keep_rounded
from catena.files import write_json
from catena.methods import HeadRequest
from catena.training.devices import Device, choose_device

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "rounded_weights.json"
WRITER, READER = "SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"
TEXT = "A gripping film that takes its time, though in the end it says less than it could have said."
TOKENS = 40

Answer = Callable[[Any, Any], torch.Tensor]


def write(network: Any, asked: Any) -> torch.Tensor:
    written: torch.Tensor = network.generate(
        **asked, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False
    )
    return written


def read(network: Any, asked: Any) -> torch.Tensor:
    outputs: torch.Tensor = network(**asked).last_hidden_state
    return outputs


def measure(network: Any, asked: Any, answer: Answer, device: Device, runs: int) -> dict[str, Any]:
    """Seconds of both kinds of layers, and whether they say the same."""
    kept = copy.deepcopy(network)
    keep_rounded(kept)
    seconds: dict[str, list[float]] = {"rounded at every call": [], "kept rounded": []}
    said: list[torch.Tensor] = []
    for number in range(runs + 1):
        for one, taken in zip((network, kept), seconds.values(), strict=True):
            started = time.perf_counter()
            with torch.inference_mode(), device.autocast:
                said.append(answer(one, asked))
            if number:  # the first makes kernels ready
                taken.append(time.perf_counter() - started)
    same = all(torch.equal(one, said[0]) for one in said)
    return {**{name: spread(taken, 5) for name, taken in seconds.items()}, "same": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--backbones", type=Path, default=ROOT / "models" / "backbones")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    device, source = choose_device(), get_backbone("pretrained")
    found: dict[str, Any] = {"device": str(device), "machine": describe()}
    for title, name, answer, repeats in (
        (f"{TOKENS} tokens written by {WRITER}", WRITER, write, options.runs),
        (f"one sentence read by {READER}", READER, read, 10 * options.runs),
    ):
        folder = options.backbones / name
        if not folder.is_dir():
            raise SystemExit(f"There is no {folder}; run `catena fetch`.")
        if answer is write:
            network = source.build(
                folder, HeadRequest("language-model"), dropout=None, attention=device.attention
            )
        else:
            network = source.encoder(folder, attention=device.attention)
        network = network.to(device.kind).eval()
        asked = source.tokenizer(folder)(TEXT, return_tensors="pt").to(device.kind)
        found[title] = measure(network, asked, answer, device, repeats)
        print(title, found[title], flush=True)
    write_json(RESULTS, found)


if __name__ == "__main__":
    main()
