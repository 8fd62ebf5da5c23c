"""A causal language model whose next token depends on the last one alone, by a table that anyone can read.

A Llama with one layer that adds nothing: embeddings are unit vectors, and the output layer holds the table's
logarithms. What it says of a text can be worked out by hand.
"""

from __future__ import annotations

from typing import Any

#: The next token's probabilities, by the last token. `good` and `bad` are labels, `a` and `b` words.
WORDS = ("[PAD]", "[END]", "good", "bad", "a", "b")
TABLE = {
    "good": {"a": 0.8, "b": 0.2},
    "bad": {"a": 0.3, "b": 0.7},
    "a": {"a": 0.1, "b": 0.4, "[END]": 0.5},
    "b": {"a": 0.6, "b": 0.2, "[END]": 0.2},
}


def bigram_tokenizer() -> Any:
    """A token for each word, and nothing around a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[END]")


def bigram_network() -> Any:
    """The language model of `TABLE`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = len(WORDS)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=32,
        rms_norm_eps=0.0,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        attn_implementation="eager",
    )
    with torch.random.fork_rng():
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, 8))
        table = torch.full((size, size), 1e-6)
        for last, following in TABLE.items():
            for word, chance in following.items():
                table[WORDS.index(last), WORDS.index(word)] = chance
        # the norm makes a unit vector of 8 numbers 8 ** 0.5 long
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, :size] = table.log().T / 8**0.5
    return model.eval()
