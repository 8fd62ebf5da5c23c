"""Which weights move. A new method is one module here and one line in `METHODS`."""

from __future__ import annotations

from catena.methods.base import Method
from catena.methods.full import Full
from catena.methods.top_layers import TopLayers

METHODS: dict[str, type[Method]] = {method.name: method for method in (Full, TopLayers)}

__all__ = ["METHODS", "Method", "get_method"]


def get_method(name: str) -> Method:
    """The method called `name` in `params.yaml`."""
    return METHODS[name]()
