"""Pretrained networks in the form of transformers: a folder with configuration, tokenizer and safetensors."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catena.backbones.base import Backbone, Blueprint, Head
from catena.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

#: Name of transformers' class for each kind of head that a problem may ask for.
HEADS = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "multi-label-classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "sequence-to-sequence": "AutoModelForSeq2SeqLM",
    "causal-language-model": "AutoModelForCausalLM",
    "masked-language-model": "AutoModelForMaskedLM",
}
#: The kind of head that is the network's own, masked or causal; `catena.backbones.language_models` finds it.
LANGUAGE = "language-model"
#: Those whose outputs are scores of a vocabulary's tokens, and which therefore write texts.
WRITERS = ("sequence-to-sequence", "causal-language-model")

#: What transformers calls the problems of these heads.
PROBLEM_TYPES = {
    "sequence-classification": "single_label_classification",
    "multi-label-classification": "multi_label_classification",
    "regression": "regression",
    "image-classification": "single_label_classification",
}

#: The kind of head that gives every token a label; `catena.backbones.tagger` has it.
TOKENS = "token-classification"
#: The same, with learned scores of one label after another.
CHAIN = "token-chain"
#: The kind of head that embeds both texts of a pair; `catena.backbones.towers` has it.
PAIRS = "pair-embedding"
#: The kind of head that says an image's class; `catena.backbones.pixels` has it.
IMAGES = "image-classification"

#: Names that configurations of transformers use for dropout.
DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "seq_classif_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "summary_first_dropout",
    "hidden_dropout",
    "mlp_dropout",
    "dropout_rate",
)
#: Those of them that leave out some of what a token looks at.
IN_ATTENTION = {"attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"}

#: Only local files are read, no code comes with a model, and weights are safetensors.
SAFE = {"local_files_only": True, "trust_remote_code": False}


class Pretrained(Backbone):
    """Any encoder of transformers that has a head of the kind asked for."""

    type = "pretrained"

    def tokenizer(self, folder: Path) -> PreTrainedTokenizerBase:
        if not folder.is_dir():
            raise ModelError(f"There is no tokenizer in {folder}; run `catena fetch` first.")
        from transformers import AutoTokenizer  # the models' classes take seconds to load and are not needed

        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, use_fast=True, **SAFE)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"The tokenizer in {folder} cannot be read: {_line(error)}") from error
        if not tokenizer.is_fast:
            raise ModelError(
                f"The tokenizer in {folder} has no Rust version (tokenizer.json); convert it first."
            )
        if tokenizer.pad_token_id is None:
            if tokenizer.eos_token is None:
                raise ModelError(f"The tokenizer in {folder} has neither a padding nor an end token.")
            tokenizer.pad_token = tokenizer.eos_token
        if (folder / "target_tokenizer.json").is_file():
            from catena.backbones.two_vocabularies import with_target

            return with_target(tokenizer, folder)
        return tokenizer

    def build(
        self,
        folder: Path,
        head: Head,
        *,
        dropout: float | None,
        attention: str,
        pooling: str = "native",
        blueprint: Blueprint | None = None,
    ) -> PreTrainedModel:
        from catena.backbones import both_ways, segments

        config = self._config(folder, attention)
        describe_head(config, head)
        opened = blueprint.settings.bidirectional if blueprint is not None else None
        if opened:
            both_ways.ask(folder, config, head, opened)
        wanted = head.pairs and (blueprint is None or blueprint.settings.segments)
        segments.ask(config, self.tokenizer(folder) if wanted else None)
        network = self._headed(folder, head, config, dropout, pooling)
        segments.tell_apart(network)
        if opened:
            both_ways.open_layers(network)
            both_ways.check(folder, network)
        return network

    def _headed(
        self, folder: Path, head: Head, config: PretrainedConfig, dropout: float | None, pooling: str
    ) -> PreTrainedModel:
        """The network of `folder` in the configuration given, with a new head."""
        if head.kind == IMAGES:
            from catena.backbones.pixels import PixelClassifier

            set_dropout(config, dropout)
            return self._read(PixelClassifier.around, folder, config)
        if config.pad_token_id is None:
            config.pad_token_id = self.tokenizer(folder).pad_token_id
        set_dropout(config, dropout)
        if head.kind in (TOKENS, CHAIN):
            from catena.backbones.tagger import TokenTagger, chain_labels

            chain_labels(config, head.kind == CHAIN)
            return self._read(TokenTagger.around, folder, config)
        if head.kind == PAIRS:
            from catena.backbones.towers import TwoTowers

            return self._read(TwoTowers.around, folder, config)
        if head.kind in (LANGUAGE, "masked-language-model"):
            from catena.backbones.language_models import build_language_model

            return self._read(partial(build_language_model, head), folder, config)
        if head.kind in WRITERS:
            check_writer(folder, config, head)
            read = auto_class(head).from_pretrained
            if head.kind == "causal-language-model":
                from catena.backbones.language_models import with_own_head

                read = partial(with_own_head, auto_class(head))
            return self._read(read, folder, config)
        if pooling == "mean":
            from catena.backbones.pooled import MeanPooledClassifier

            return self._read(MeanPooledClassifier.around, folder, config)
        if reads_forwards(config):
            # its head looks for the last token that is no padding, and the tokenizer says what that is
            config.pad_token_id = self.tokenizer(folder).pad_token_id
        return self._read(auto_class(head).from_pretrained, folder, config, ignore_mismatched_sizes=True)

    def load(self, folder: Path, head: Head, *, attention: str) -> PreTrainedModel:
        from catena.backbones import both_ways, pixels, segments, tagger, towers
        from catena.backbones.pooled import MARK, MeanPooledClassifier

        config = self._config(folder, attention)
        auto: Any
        if head.kind == LANGUAGE:
            from catena.backbones.language_models import own_head

            head = own_head(folder, config)
        if getattr(config, tagger.MARK, None) is not None:
            auto = tagger.TokenTagger
        elif getattr(config, towers.MARK, None) is not None:
            auto = towers.TwoTowers
        elif getattr(config, pixels.MARK, None) is not None:
            auto = pixels.PixelClassifier
        else:
            auto = MeanPooledClassifier if getattr(config, MARK, None) == "mean" else auto_class(head)
        if getattr(config, "catena_smaller", None) is not None:
            from catena.backbones.smaller import read_smaller

            network = read_smaller(folder, config, getattr(auto, "from_config", auto))
        else:
            network = self._read(auto.from_pretrained, folder, config)
        both_ways.open_layers(network)
        segments.tell_apart(network)
        return network.eval()

    def encoder(self, folder: Path, *, attention: str) -> PreTrainedModel:
        from transformers import AutoModel

        return self._read(AutoModel.from_pretrained, folder, self._config(folder, attention)).eval()

    @staticmethod
    def _config(folder: Path, attention: str) -> PretrainedConfig:
        _check(folder)
        import torch
        from transformers import AutoConfig

        quieten()
        try:
            config: PretrainedConfig = AutoConfig.from_pretrained(
                folder, attn_implementation=attention, **SAFE
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder / 'config.json'} cannot be read: {_line(error)}") from error
        parts = [config, *(getattr(config, name, None) for name in config.sub_configs)]
        for part in filter(None, parts):
            # heads build networks of the type named here, and in a shorter one weights do not learn
            part.dtype = torch.float32
        return config

    @staticmethod
    def _read(
        read: Callable[..., Any], folder: Path, config: PretrainedConfig, **options: Any
    ) -> PreTrainedModel:
        import torch
        from safetensors import SafetensorError

        try:
            model: PreTrainedModel = read(
                folder, config=config, use_safetensors=True, dtype=torch.float32, **SAFE, **options
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"The weights in {folder} cannot be read: {_line(error)}") from error
        return model


def quieten() -> None:
    """Keep transformers from reporting what is checked here, in sentences."""
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def describe_head(config: PretrainedConfig, head: Head) -> None:
    """Write into a configuration what the head is for."""
    if head.kind in (*WRITERS, LANGUAGE, "masked-language-model"):
        return
    config.num_labels = len(head.label_names)
    config.id2label = dict(enumerate(head.label_names))
    config.label2id = {name: index for index, name in enumerate(head.label_names)}
    if head.kind in PROBLEM_TYPES:
        config.problem_type = PROBLEM_TYPES[head.kind]
    if head.kind == "sequence-classification" and config.num_labels == 1:
        # A pair's one score is no choice among classes; transformers would not read such a configuration.
        config.problem_type = "regression"


def set_dropout(config: PretrainedConfig, dropout: float | None) -> None:
    """Set every dropout that a network uses, or the others it has where it uses none, if any is asked.

    Where a network's makers chose to have none inside the attention, there stays none: causal language models
    rely on looking at their first token (Xiao et al. 2023, arXiv 2309.17453). One that has no other gets
    dropout before its head alone.
    """
    if dropout is None:
        return
    there = [name for name in DROPOUTS if getattr(config, name, None) is not None]
    used = [name for name in there if getattr(config, name) > 0]
    for name in used or [name for name in there if name not in IN_ATTENTION] or ["classifier_dropout"]:
        setattr(config, name, dropout)


def reads_forwards(config: PretrainedConfig) -> bool:
    """Whether a network is a causal language model: each token sees those before it."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type
    # some encoders have a class for it too, which sees what it is to say next
    return kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and (
        kind not in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES or bool(getattr(config, "is_decoder", False))
    )


def check_writer(folder: Path, config: PretrainedConfig, head: Head) -> None:
    """Raise `ModelError` for a network that cannot write, or not in the way that is asked for."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type
    if head.kind == "sequence-to-sequence":
        fits = kind in known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
        wanted = "one with an encoder and a decoder, such as T5 or BART"
    else:
        fits = reads_forwards(config)
        wanted = "a causal language model, such as Llama or GPT-2"
    if not fits:
        raise ModelError(
            f"The network in {folder} ({kind}) cannot write as this problem needs it; choose {wanted}, or "
            "`backbone.type: transformer` to begin from scratch."
        )


def auto_class(head: Head) -> Any:
    """transformers' class that builds this head on any of its networks."""
    import transformers

    return getattr(transformers, HEADS[head.kind])


def _check(folder: Path) -> None:
    """What transformers would report in a page, in a sentence."""
    if not folder.is_dir():
        raise ModelError(f"There is no backbone in {folder}; run `catena fetch` first.")
    config = folder / "config.json"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{config} is missing; the model folder is incomplete.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{config} is not valid JSON: {error}.") from None
    if "auto_map" in content:
        raise ModelError(
            f"{folder} wants to run code of its own (auto_map in config.json); that is not allowed."
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"{folder} holds no *.safetensors; weights in other forms are not read.")


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + "…"
