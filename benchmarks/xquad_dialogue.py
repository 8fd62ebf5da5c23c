"""XQuAD English as dialogues for `generation`: a passage, and questions about it that are answered in turn.

    python -m benchmarks.xquad_dialogue --data FOLDER --output data/raw/xquad-dialogue
    python -m benchmarks.chain --preset presets/xquad-dialogue.yaml --data data/raw/xquad-dialogue

The articles are divided: of each eight, one is the test's and one the validation's, so that no passage of the
test is known. A training dialogue is a passage with all its questions. In the other parts each question is a
dialogue of its own, so that each answer is written without a right one before it. Artetxe et al. 2020
(arXiv 1910.11856) describe the data set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

INSTRUCTION = "Answer with a few words from the passage."
#: Questions of the validation part that are used; it has one checkpoint to choose among few.
VALIDATION = 48


def question(text: str, passage: str | None) -> dict[str, str]:
    asked = text if passage is None else f"{passage}\n\n{text}"
    return {"role": "user", "content": asked}


def dialogues(paragraph: dict[str, Any], together: bool) -> list[list[dict[str, str]]]:
    """One dialogue for all questions of a paragraph, or one for each."""
    passage = paragraph["context"]
    told = {"role": "system", "content": INSTRUCTION}
    pairs = [
        (one["question"], {"role": "assistant", "content": one["answers"][0]["text"]})
        for one in paragraph["qas"]
    ]
    if not together:
        return [[told, question(text, passage), answer] for text, answer in pairs]
    turns = [told]
    for at, (text, answer) in enumerate(pairs):
        turns += [question(text, None if at else passage), answer]
    return [turns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    articles = json.loads((arguments.data / "xquad.en.json").read_text("utf-8"))["data"]
    parts: dict[str, list[list[dict[str, str]]]] = {"train": [], "validation": [], "test": []}
    for at, article in enumerate(articles):
        part = {7: "test", 3: "validation"}.get(at % 8, "train")
        for paragraph in article["paragraphs"]:
            parts[part] += dialogues(paragraph, part == "train")
    parts["validation"] = parts["validation"][:VALIDATION]
    arguments.output.mkdir(parents=True, exist_ok=True)
    for part, records in parts.items():
        with (arguments.output / f"{part}.jsonl").open("w", encoding="utf-8") as stream:
            for messages in records:
                stream.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
        print(f"{part}: {len(records):,} dialogues")


if __name__ == "__main__":
    main()
