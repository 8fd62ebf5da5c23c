"""Tag schemes: which words an entity has, said by one tag for each word.

IOB1, IOB2 and BIOES (Ramshaw and Marcus 1995, Tjong Kim Sang and Veenstra 1999); BILOU and BMES are BIOES
with other letters.
"""

from __future__ import annotations

from collections.abc import Sequence

#: The first word of an entity, one past its last, and its label.
TaggedWords = tuple[int, int, str]

_LETTERS = {
    "B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S",
}  # fmt: skip
OUTSIDE = ("O", "")


def read_tags(tags: Sequence[str], scheme: str = "auto") -> list[TaggedWords]:
    """The entities that the tags of one sentence name, in their order.

    With `auto`, a sentence whose tags mark last or single words must be right in BIOES; any other is
    read as both IOB1 and IOB2 are: an entity begins at a B and wherever the label changes. Raises
    `ValueError` with the reason for tags that are none, or wrong in the scheme given.
    """
    parts = [_parts(tag) for tag in tags]
    if scheme == "auto":
        scheme = "BIOES" if any(letter in "ES" for letter, _ in parts) else "IOB"
    if scheme == "BIOES":
        _check_bioes(tags, parts)
    elif scheme in ("IOB1", "IOB2"):
        _check_iob(tags, parts, scheme)
    entities: list[TaggedWords] = []
    before = OUTSIDE
    for at, (letter, label) in enumerate(parts):
        if letter != "O":
            if letter in "BS" or before[0] in "OES" or label != before[1]:
                entities.append((at, at + 1, label))
            else:
                entities[-1] = (entities[-1][0], at + 1, label)
        before = letter, label
    return entities


def tag_names(labels: Sequence[str]) -> tuple[str, ...]:
    """The IOB2 tags for entities with these labels: O, then B and I of each."""
    return ("O", *(f"{letter}-{label}" for label in labels for letter in "BI"))


def _parts(tag: str) -> tuple[str, str]:
    if tag == "O":
        return OUTSIDE
    letter = _LETTERS.get(tag[:1])
    if letter is None or tag[1:2] != "-":
        known = "O, or B, I, E or S with a hyphen and a label"
        raise ValueError(f"unknown tag {tag[:40]!r}: it must be {known}")
    if not tag[2:].strip():
        raise ValueError(f"tag {tag[:40]!r} without a label")
    return letter, tag[2:]


def _check_iob(tags: Sequence[str], parts: Sequence[tuple[str, str]], scheme: str) -> None:
    before = OUTSIDE
    for tag, (letter, label) in zip(tags, parts, strict=True):
        if letter in "ES":
            raise ValueError(f"tag {tag!r} is none of {scheme}")
        inside = before[1] == label
        if scheme == "IOB2" and letter == "I" and not inside:
            raise ValueError(f"{tag!r} begins an entity, which IOB2 marks with B")
        if scheme == "IOB1" and letter == "B" and not inside:
            raise ValueError(f"{tag!r} follows no entity of its label, which IOB1 marks with I")
        before = letter, label


def _check_bioes(tags: Sequence[str], parts: Sequence[tuple[str, str]]) -> None:
    open_label = ""
    for tag, (letter, label) in zip(tags, parts, strict=True):
        if letter in "IE" and label != open_label:
            raise ValueError(f"{tag!r} goes on with an entity that no B began")
        if letter in "BSO" and open_label:
            raise ValueError(f"an entity of label {open_label!r} is never ended with E")
        open_label = label if letter in "BI" else ""
    if open_label:
        raise ValueError(f"an entity of label {open_label!r} is never ended with E")
