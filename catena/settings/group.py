"""What every group of settings is, and the kinds of values that several groups use."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
OpenFraction = Annotated[float, Field(ge=0.0, lt=1.0)]
SafeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class Group(BaseModel):
    """A group of settings: frozen, closed to unknown keys, and in which numbers are written as numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_written_as_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `true` or `"3"` for a number, and `"yes"` or `1` for `true`, which pydantic would take."""
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        number = bool(kinds & {int, float})
        if isinstance(value, bool) and number and bool not in kinds:
            raise ValueError(f"a number was expected, not {str(value).lower()}")
        if isinstance(value, str) and str not in kinds and (number or bool in kinds):
            wanted = "a number" if number else "true or false"
            raise ValueError(f"{wanted} was expected, not the text {value!r}")
        if isinstance(value, int | float) and not isinstance(value, bool) and bool in kinds and not number:
            raise ValueError(f"true or false was expected, not {value}")
        return value

    def given(self, *names: str) -> list[str]:
        """Those of the settings `names` that are not at their defaults."""
        fields = type(self).model_fields
        return [
            name
            for name in names
            if getattr(self, name) != fields[name].get_default(call_default_factory=True)
        ]


def _kinds(annotation: Any) -> set[Any]:
    """The types that a value may have by its annotation; what is within lists is not looked at."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin is Literal:
        return {type(one) for one in get_args(annotation)}
    if origin in (Union, types.UnionType):
        return set().union(*(_kinds(one) for one in get_args(annotation)))
    return {origin or annotation}
