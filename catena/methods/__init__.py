"""Which weights move. A new method is one module here and one line in `METHODS`."""

from __future__ import annotations

from catena.methods.base import HeadRequest, Method, Surroundings
from catena.methods.chain import Chain
from catena.methods.full import Full
from catena.methods.top_layers import TopLayers
from catena.settings import MethodSettings

METHODS: dict[str, type[Method]] = {method.name: method for method in (Full, TopLayers, Chain)}

__all__ = ["METHODS", "HeadRequest", "Method", "Surroundings", "get_method"]


def get_method(settings: MethodSettings) -> Method:
    """The method that `method` in `params.yaml` describes."""
    return METHODS[settings.name](settings)
