"""Prompts: a language model is asked in words, untrained (`prompt`) or trained as it is asked (`pattern`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from catena.errors import ModelError, SettingsError
from catena.methods.base import Head, HeadRequest, Method, Read, Surroundings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from catena.methods.prompt_asking import Asker
    from catena.methods.prompt_examples import Example

_MEMORY = "prompt.json"
_VECTORS = "prompt_vectors.safetensors"
#: The slots that each problem's records fill.
_SLOTS = {
    "classification": ("text",),
    "tagging": ("text", "word"),
    "answering": ("question", "context"),
}


class Prompt(Method):
    """Nothing is trained: a language model is asked in words (Brown et al. 2020, arXiv 2005.14165), with
    examples where `method.prompt.shots` says so."""

    name: ClassVar[str] = "prompt"
    heads = frozenset({"sequence-classification", "token-classification"})

    @property
    def trains(self) -> bool:
        return False

    @classmethod
    def example(cls, problem: str) -> dict[str, object]:
        slots = " ".join(f"{{{slot}}}" for slot in _SLOTS.get(problem, ("text",)))
        words = {"one": "first", "two": "second"} | ({"O": "other"} if problem == "tagging" else {})
        template = {"pattern": slots + " {label}", "verbalizer": {} if problem == "answering" else words}
        return {"prompt": {"template": template}}

    def check(self, problem: str, head: Head) -> None:
        if problem not in _SLOTS:
            raise SettingsError(
                f"`method.name` {self.name} does not fit the problem {problem}; it is for "
                f"{', '.join(_SLOTS)}."
            )
        settings = self.settings.prompt
        template = settings.template
        if template is None:
            raise SettingsError(f"`method.name` {self.name} needs a template: `method.prompt.template`.")
        given = set(template.slots) - {"mask", "label"}
        if given != set(_SLOTS[problem]):
            wanted = ", ".join(f"{{{slot}}}" for slot in _SLOTS[problem])
            has = ", ".join(f"{{{slot}}}" for slot in sorted(given))
            raise SettingsError(
                f"A template for {problem} has the slots {wanted} beside what is to be said; "
                f"`method.prompt.template` has {has}."
            )
        if problem == "answering":
            self._check_answering()
            return
        labels = self._labels(problem, head)
        if missing := [label for label in labels if label not in template.words]:
            raise SettingsError(
                f"`method.prompt.template.verbalizer` has no word for {missing[0]!r}; it needs one for each "
                f"of {', '.join(labels[:10])}."
            )
        if unknown := [label for label in template.words if label not in labels]:
            raise SettingsError(
                f"`method.prompt.template.verbalizer` has words for {unknown[0]!r}, which is no label of the "
                f"data ({', '.join(labels[:10])})."
            )

    def _check_answering(self) -> None:
        settings = self.settings.prompt
        template = settings.template
        if template is not None and (template.masked or template.words):
            raise SettingsError(
                "Answers are written by a causal language model: the template for answering ends in {label} "
                "and has no verbalizer."
            )
        if settings.normalization != "none" or settings.calibration != "none":
            raise SettingsError(
                "`method.prompt.normalization` and `calibration` compare labels, and answering has none; "
                "leave them at none."
            )

    @staticmethod
    def _labels(problem: str, head: Head) -> list[str]:
        if problem == "answering":
            return []
        if problem == "tagging":
            return ["O", *dict.fromkeys(tag[2:] for tag in head.label_names if tag.startswith("B-"))]
        return list(head.label_names)

    def head(self, wanted: Head) -> Head:
        return HeadRequest("language-model")

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        """Around the frozen network, what asks it; examples are drawn and calibration is measured here."""
        from catena.methods.prompt_asking import Memory

        if not self.trains and around.backbone is not None and not any(around.backbone.glob("*.safetensors")):
            raise SettingsError(
                f"`method.name` {self.name} trains nothing, and a network from scratch has learned nothing, "
                "so what it says would be noise; take a pretrained language model, or `method.name: pattern`."
            )
        model = model.requires_grad_(self.trains).eval()
        asked = self._around(model, around, Memory())
        asked.asker.prepare(self._examples(asked.asker, around))
        return asked

    def _around(self, model: PreTrainedModel, around: Surroundings, memory: Any) -> Any:
        from catena.methods.prompt_answering import PromptAnswerer
        from catena.methods.prompt_asking import Asker
        from catena.methods.prompt_network import PromptClassifier, PromptTagger

        settings = self.settings.prompt
        template = settings.template
        if template is None:
            raise SettingsError(f"`method.name` {self.name} needs a template: `method.prompt.template`.")
        masked = type(model).__name__.endswith("MaskedLM")
        if masked and not template.masked:
            raise SettingsError(
                f"The backbone is a masked language model ({model.config.model_type}), and the template has "
                "no slot {mask} for it to fill in; put one where the label's word stands."
            )
        if template.masked and not masked:
            raise SettingsError(
                f"The template has a {{mask}}, but the backbone ({model.config.model_type}) is a causal "
                "language model, which goes on and fills in nothing; end the template in {label}."
            )
        labels = self._labels(around.problem, around.head)
        asker = Asker(model, around.tokenizer, settings, labels, _SLOTS[around.problem], memory)
        if around.problem == "tagging":
            return PromptTagger(model, asker, around.head.label_names)
        return (PromptAnswerer if around.problem == "answering" else PromptClassifier)(model, asker)

    def _examples(self, asker: Asker, around: Surroundings) -> list[Example]:
        """The examples to show, or the pool in which similar ones are sought."""
        from catena.methods.prompt_answering import answer_examples
        from catena.methods.prompt_examples import check_number, draw
        from catena.methods.prompt_network import label_of, text_examples, word_examples

        settings = self.settings.prompt
        if not settings.shots or around.training is None:
            return []
        check_number(around.training, settings.shots)
        chance = np.random.default_rng([around.seed, settings.shots])
        similar = settings.choice == "similar"
        count = settings.pool if similar else settings.shots
        if around.problem == "classification":
            labels = [label_of(around.training[row]) for row in range(len(around.training))]
            chosen = draw(labels, count, settings.choice == "balanced", chance)
            return text_examples(asker, [around.training[row] for row in chosen])
        # words and windows are examples, so records are drawn first, and of what they hold again
        rows = draw([0] * len(around.training), max(count, settings.pool), False, chance)
        records = [around.training[row] for row in rows]
        if around.problem == "answering":
            if "shape_ids" not in records[0]:
                raise SettingsError("`problem.hints` must be on, so that questions are told from passages.")
            found = answer_examples(asker, records)
        else:
            found = word_examples(asker, records, around.head.label_names)
        chosen = draw([one.label for one in found], count, settings.choice == "balanced", chance)
        return [found[row] for row in chosen]

    # -- stored ------------------------------------------------------------------------------

    def save(self, model: PreTrainedModel, folder: Path) -> None:
        from catena.methods.prompt_asking import memory_as_json

        asked: Any = model
        asked.network.save_pretrained(folder)
        memory = asked.asker.memory
        text = json.dumps(memory_as_json(memory), ensure_ascii=False)
        (folder / _MEMORY).write_text(text + "\n", encoding="utf-8")
        if memory.vectors is not None:
            from safetensors.numpy import save_file

            save_file({"vectors": np.ascontiguousarray(memory.vectors)}, folder / _VECTORS)

    def load(self, folder: Path, read: Read, around: Surroundings) -> PreTrainedModel:
        from catena.methods.prompt_asking import memory_from_json

        try:
            content = json.loads((folder / _MEMORY).read_text(encoding="utf-8"))
            memory = memory_from_json(content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{folder / _MEMORY} cannot be read: {error!r:.100}.") from error
        if (folder / _VECTORS).is_file():
            from safetensors import SafetensorError
            from safetensors.numpy import load_file

            try:
                memory.vectors = load_file(folder / _VECTORS)["vectors"]
            except (OSError, KeyError, SafetensorError) as error:
                raise ModelError(f"{folder / _VECTORS} cannot be read: {error!r:.100}.") from error
        network = read(folder, self.head(around.head)).requires_grad_(False)
        found: PreTrainedModel = self._around(network, around, memory)
        return found

    def notes(self, model: PreTrainedModel) -> dict[str, object]:
        """How many prompts were too long, and what was left out of them."""
        asked: Any = model
        overflow = asked.asker.layout.overflow
        shown = f"{overflow.prompts:,} prompts on the validation part"
        if overflow.examples_dropped or overflow.texts_shortened:
            shown += (
                f"; to fit, {overflow.examples_dropped:,} examples were left out and "
                f"{overflow.texts_shortened:,} records shortened"
            )
        return {"prompts": shown}


class Pattern(Prompt):
    """Every weight of a language model moves while it is asked as by `prompt`: pattern-exploiting training
    (Schick and Schütze 2021, arXiv 2001.07676; Gao et al. 2021, arXiv 2012.15723), for few labels.

    The words of the labels are what the network learns to say, so it begins with all that it knows.
    """

    name: ClassVar[str] = "pattern"
    heads = frozenset({"sequence-classification"})

    @property
    def trains(self) -> bool:
        return True

    def check(self, problem: str, head: Head) -> None:
        if problem != "classification":
            raise SettingsError(
                f"`method.name` pattern does not fit the problem {problem}; it is for classification."
            )
        super().check(problem, head)
        if self.settings.prompt.calibration != "none" or self.settings.prompt.normalization == "pmi":
            raise SettingsError(
                "`method.name` pattern learns how often each word is to be said; leave "
                "`method.prompt.calibration` at none and `normalization` at none or length."
            )
        if self.settings.prompt.similarity == "embedding" and self.settings.prompt.choice == "similar":
            raise SettingsError(
                "`method.prompt.similarity: embedding` would change while `pattern` trains; take bm25."
            )

    def prepare(self, model: PreTrainedModel, around: Surroundings) -> PreTrainedModel:
        return super().prepare(model, around).train()
