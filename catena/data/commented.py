"""Mappings of `params.yaml` whose entries say their reasons at the line's end."""

from __future__ import annotations

from typing import Any

from ruamel.yaml.comments import CommentedMap


def group(**values: tuple[Any, str]) -> CommentedMap:
    """A mapping of each name to its value, with a comment where there is one."""
    made = CommentedMap({key: value for key, (value, _) in values.items()})
    for key, (_, comment) in values.items():
        if comment:
            made.yaml_add_eol_comment(comment, key)
    return made
