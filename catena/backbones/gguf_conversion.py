"""A causal language model in GGUF form → configuration, tokenizer and safetensors.

`python -m catena.backbones.gguf_conversion MODEL.gguf FOLDER`: fetching runs it in a process of its own,
once, because it needs torch and a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def convert(source: Path, target: Path) -> None:
    """Write the model and the tokenizer of `source`, its chat template included, into `target`.

    Quantized weights are multiplied out and kept as float16, which is finer than the four or eight bits
    they come from.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from catena.backbones.pretrained import SAFE, quieten

    quieten()
    given: dict[str, Any] = {"gguf_file": source.name, **SAFE}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **given)
    model = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **given)
    config = model.config.to_dict()
    # What says that it was quantized would keep transformers from storing it as it is now.
    for name in ("quantization_config", "_model_name_or_path", "dtype"):
        config.pop(name, None)
    plain = type(model)(type(model.config).from_dict(config))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.to(torch.float16).save_pretrained(target)
    tokenizer.save_pretrained(target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
