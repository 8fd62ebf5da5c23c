"""A tiny causal language model (an untrained Llama or GPT-2) and a tokenizer with a chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from catena.settings import TokenizationSettings

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXTS = ["what is the colour of the sky? blue, they say.", "and of grass? green. two words: no, one."] * 3


def tiny_tokenizer(template: str | None = TEMPLATE) -> Any:
    """A learned tokenizer of bytes, with the tokens of a chat template where it has one."""
    from catena.training.tokenizer import learn_tokenizer

    settings = TokenizationSettings(tokenizer="bpe", vocabulary_size=320, max_length=128)
    tokenizer = learn_tokenizer(_TEXTS, settings, begins=False)
    if template is not None:
        tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "bos_token": "<|im_start|>"})
        tokenizer.chat_template = template
    return tokenizer


def tiny_network(tokenizer: Any, kind: str = "llama", attention: str = "eager") -> Any:
    """An untrained network that reads the tokens of `tokenizer`."""
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    common = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config: Any
    if kind == "llama":
        config = LlamaConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=256,
            **common,
        )
    else:
        config = GPT2Config(
            n_embd=32,
            n_layer=2,
            n_head=2,
            n_positions=256,
            resid_pdrop=0,
            embd_pdrop=0,
            **common,
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
        # Untrained networks say nearly the same everywhere; larger weights make a leak between records show.
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(4.0)
    return model


def write_language_backbone(folder: Path) -> None:
    """Network and tokenizer as a backbone's folder."""
    tokenizer = tiny_tokenizer()
    tiny_network(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
