"""Records given on the command line: texts, or one text for each input of a model."""

from __future__ import annotations

from collections.abc import Sequence

from catena.errors import SettingsError


def given_records(
    texts: Sequence[str], assigned: Sequence[str], roles: Sequence[str]
) -> list[dict[str, str]]:
    """One record for each of `texts`, or the one record that `--set role=text` spells out.

    Raises `SettingsError` where that is not what a model with the inputs `roles` reads.
    """
    how = " ".join(f'--set {role}="…"' for role in roles)
    if texts and assigned:
        raise SettingsError("Give either texts or `--set`, not both.")
    if texts:
        if len(roles) > 1:
            raise SettingsError(
                f"This model reads {' and '.join(roles)} together; give `{how}`, or a file with `--input`."
            )
        if not all(text.strip() for text in texts):
            raise SettingsError("A text is empty; there is nothing to predict from.")
        return [{roles[0]: text} for text in texts]
    record: dict[str, str] = {}
    for one in assigned:
        role, equals, text = one.partition("=")
        if not equals:
            raise SettingsError(f"`--set {one}` has no `=`; this model wants `{how}`.")
        if role not in roles:
            raise SettingsError(f"This model has no input {role!r}; it wants `{how}`.")
        if role in record:
            raise SettingsError(f"`--set {role}=…` is given twice.")
        if not text.strip():
            raise SettingsError(f"`--set {role}=` is empty; this model wants `{how}`.")
        record[role] = text
    missing = [role for role in roles if role not in record]
    if missing:
        raise SettingsError(f"The input {missing[0]!r} is missing; this model wants `{how}`.")
    return [{role: record[role] for role in roles}]
