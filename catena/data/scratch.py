"""The folder of a backbone that is made from scratch: one file, always the same, and no weights."""

from __future__ import annotations

from pathlib import Path

from catena.errors import ModelError
from catena.files import complete_folder, write_json

SCRATCH_FILE = "scratch.json"
#: It stands for having nothing. What the weights depend on is in params.yaml, which DVC compares itself.
_CONTENT = {
    "source": "scratch",
    "weights": "drawn from `seed` when training starts",
    "sizes": "`backbone` in params.yaml",
    "tokenizer": "learned from the training part by the tokenize stage",
}


def lay_down(target: Path) -> None:
    """Make the folder, so that stages and DVC find one as for any backbone.

    Raises `ModelError` where the folder holds a pretrained model.
    """
    if target.is_dir() and any(path.name != SCRATCH_FILE for path in target.iterdir()):
        raise ModelError(
            f"{target} holds a pretrained model, but `backbone.source` is scratch; "
            "choose another `backbone.name`."
        )
    with complete_folder(target) as partial:
        write_json(partial / SCRATCH_FILE, _CONTENT)


def has_weights(folder: Path) -> bool:
    """Whether a backbone's folder holds anything that was learned before."""
    return not (folder / SCRATCH_FILE).is_file()
