"""The settings of parameter-efficient methods: what is inserted, where, and of which size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from catena.settings.group import Group, OpenFraction

#: The methods that read a setting.
_READERS = {
    "targets": ("lora", "adalora", "ia3", "bottleneck"),
    "rank": ("lora", "adalora"),
    "alpha": ("lora", "adalora"),
    "dropout": ("lora", "adalora"),
    "rank_stabilized": ("lora",),
    "dora": ("lora",),
    "initial_rank": ("adalora",),
    "full_rank_share": ("adalora",),
    "final_rank_share": ("adalora",),
    "interval": ("adalora",),
    "orthogonality": ("adalora",),
    "bottleneck": ("bottleneck",),
    "virtual_tokens": ("prefix_tuning", "prompt_tuning"),
}


class PeftSettings(Group):
    """Sizes and places of what is trained in place of the network's own weights."""

    targets: Literal["attention", "all_linear"] | tuple[str, ...] | None = Field(
        None,
        description="`lora`, `adalora`, `ia3`, `bottleneck`: the layers that are adapted: linear ones of the "
        "`attention`, `all_linear` ones below the head, or names (or ends of names) of layers. Nothing leaves"
        " the choice to the method: `lora` and `adalora` take the attention, `ia3` keys, values and what "
        "the feed-forward part ends in, `bottleneck` what attention and feed-forward part end in.",
    )
    rank: int = Field(
        8,
        ge=1,
        le=4096,
        description="`lora`: rank of each update; `adalora`: their mean rank in the end.",
    )
    alpha: float | None = Field(
        None,
        gt=0.0,
        description="`lora`, `adalora`: an update counts `alpha / rank`, or `alpha / initial_rank`; by "
        "default twice `rank`.",
    )
    dropout: OpenFraction = Field(0.0, description="`lora`, `adalora`: dropout on what an update reads.")
    rank_stabilized: bool = Field(
        False,
        description="`lora`: an update counts `alpha / √rank` (Kalajdzievski 2023), for high ranks.",
    )
    dora: bool = Field(
        False, description="`lora`: length and direction of weights apart (DoRA, Liu et al. 2024)."
    )
    initial_rank: int | None = Field(
        None, ge=1, le=4096, description="`adalora`: rank in the beginning; by default 1.5 × `rank`."
    )
    full_rank_share: OpenFraction = Field(
        0.1, description="`adalora`: share of the steps before ranks begin to fall."
    )
    final_rank_share: OpenFraction = Field(
        0.3, description="`adalora`: share of the steps after which ranks stay as they are, from the end."
    )
    interval: int = Field(10, ge=1, description="`adalora`: steps between two decisions about ranks.")
    orthogonality: float = Field(
        0.1, ge=0.0, le=100.0, description="`adalora`: weight of the orthogonal regulariser in the loss."
    )
    bottleneck: int = Field(64, ge=1, le=65_536, description="`bottleneck`: width of each adapter.")
    virtual_tokens: int = Field(
        20,
        ge=1,
        le=1024,
        description="`prefix_tuning`, `prompt_tuning`: how many learned places stand before each text.",
    )

    def unread(self, method: str) -> list[str]:
        """Settings that were given and say nothing to `method`."""
        return self.given(*(name for name, readers in _READERS.items() if method not in readers))
