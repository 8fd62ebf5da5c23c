"""Problems that know their files at a look: how `catena init` recognises one is one line here.

What none of them recognises is taken for one text and one target a record (`catena.data.inspect`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from catena.data.inspect_answering import answering_params, inspect_answering
from catena.data.inspect_generation import generation_params, inspect_generation
from catena.data.inspect_images import image_params, inspect_images
from catena.data.inspect_ranking import inspect_ranking, ranking_params
from catena.data.inspect_tagging import inspect_tagging, tagging_params
from catena.data.inspect_translation import inspect_translation, translation_params
from catena.data.inspection import Inspection, Wanted


@dataclass(frozen=True)
class Recognition:
    """How one problem's files are recognised, and what its `params.yaml` has otherwise.

    `inspect` looks at a file or folder: `None` where it is not this problem's. Where `Wanted.problem`
    names the problem it may say with a `DataError` what is missing instead. `params` changes the groups of
    a `params.yaml` for one class a text (`problem` is written already, from `Inspection.problem_settings`).
    """

    inspect: Callable[[Path, Wanted], Inspection | None]
    params: Callable[[CommentedMap, Inspection], None]


#: Asked in this order.
RECOGNISED: dict[str, Recognition] = {
    "images": Recognition(inspect_images, image_params),
    "translation": Recognition(inspect_translation, translation_params),
    "tagging": Recognition(inspect_tagging, tagging_params),
    "ranking": Recognition(inspect_ranking, ranking_params),
    "answering": Recognition(inspect_answering, answering_params),
    "generation": Recognition(inspect_generation, generation_params),
}
