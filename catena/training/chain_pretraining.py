"""Continued pretraining of a chain's backbone on the tails' own texts, labelled or not, without their labels.

After Gururangan et al. 2020 (arXiv 2004.10964), who found that training on with the task's texts helps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers import DataCollatorForLanguageModeling, get_scheduler

from catena.errors import ModelError, SettingsError
from catena.files import complete_folder
from catena.settings import Settings
from catena.training.batches import PAD_TO, plan_training
from catena.training.chain_plan import JoinedTable
from catena.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from catena.training.devices import Device

if TYPE_CHECKING:
    from catena.training.finetune import TrainingData

_WARMUP = 0.1
_FINISHED = "finished"


def pretrained_body(
    settings: Settings,
    body: Any,
    data: Mapping[str, TrainingData],
    folder: Path,
    checkpoints: Path,
    device: Device,
    tokenizer: Any,
) -> None:
    """Give `body` the weights that the pretraining ends with; what is done already is not done again.

    Every step draws from a random state of its own, so that a training that was interrupted ends in the
    same weights. Raises `SettingsError` where the backbone cannot be trained so, or reads no text.
    """
    if tokenizer is None:
        raise SettingsError("`method.chain.pretraining` is for texts, and these tails see images.")
    kept = checkpoints / "pretraining"
    if not (kept / _FINISHED).is_dir():
        network = _language_model(settings, folder, device, tokenizer)
        network.base_model.load_state_dict(body.state_dict(), strict=False)
        _train(settings, network, data, kept, device, tokenizer)
        present = body.state_dict()
        state = {name: value for name, value in network.base_model.state_dict().items() if name in present}
        with complete_folder(kept / _FINISHED) as partial:
            tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
            save_file(tensors, partial / "model.safetensors")
    body.load_state_dict(load_file(kept / _FINISHED / "model.safetensors"), strict=False)


def texts_of(data: Mapping[str, TrainingData]) -> JoinedTable:
    """The training texts of all tails, and after them those without labels (`data.unlabelled`)."""
    tables = {name: one.training for name, one in data.items()}
    tables |= {f"{name}, unlabelled": one.unlabelled.training for name, one in data.items() if one.unlabelled}
    return JoinedTable(tables)


def _language_model(settings: Settings, folder: Path, device: Device, tokenizer: Any) -> Any:
    import transformers
    from transformers.models.auto import modeling_auto as known

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    masks = (
        config.model_type in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES and tokenizer.mask_token_id is not None
    )
    says = config.model_type in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    wanted = settings.method.chain.pretraining.objective
    objective = ("masked" if masks else "causal") if wanted == "auto" else wanted
    if not (masks if objective == "masked" else says):
        raise SettingsError(
            f"`method.chain.pretraining.objective` is {wanted}, which the backbone ({config.model_type}) "
            "cannot do."
        )
    if objective == "causal" and masks:
        # an encoder that sees the whole text would only copy what it is to say
        config.is_decoder = True
    auto = transformers.AutoModelForMaskedLM if objective == "masked" else transformers.AutoModelForCausalLM
    torch.manual_seed(settings.seed)
    try:
        network, report = auto.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            attn_implementation=device.attention,
            use_safetensors=True,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, RuntimeError) as error:
        line = str(error).splitlines()[0][:200]
        raise ModelError(f"The backbone in {folder} cannot be pretrained further: {line}") from None
    inside = f"{network.base_model_prefix}."
    if any(not name.startswith(inside) for name in report["missing_keys"]):
        print(
            "pretraining: the backbone was stored without its language-model head, so one is made up and "
            "learned with the rest; give it enough steps, or choose a backbone that has its own",
            flush=True,
        )
    network.catena_masks = objective == "masked"
    return network.to(device.torch_device)


def _train(
    settings: Settings,
    network: Any,
    data: Mapping[str, TrainingData],
    folder: Path,
    device: Device,
    tokenizer: Any,
) -> None:
    chosen, training = settings.method.chain.pretraining, settings.training
    table = texts_of(data)
    lengths = [length for part in table.tables.values() for length in part.lengths.tolist()]
    once = len(_plan(settings, lengths, 1.0))
    batches = _plan(settings, lengths, -(-chosen.steps // once))[: chosen.steps]
    collate = DataCollatorForLanguageModeling(
        tokenizer,
        mlm=network.catena_masks,
        mlm_probability=chosen.masked_share,
        pad_to_multiple_of=PAD_TO,
    )
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=chosen.learning_rate, weight_decay=training.weight_decay)
    schedule = get_scheduler("linear", optimizer, round(_WARMUP * len(batches)), len(batches))
    start = 0
    parts: dict[str, Any] = {
        "model": network, "optimizer": optimizer, "schedule": schedule, "scaler": None
    }  # fmt: skip
    if (checkpoint := latest_checkpoint(folder)) is not None:
        start = int(load_checkpoint(checkpoint, **parts)["step"])
    network.train()
    saved = printed = time.monotonic()
    for step, rows in enumerate(batches[start:], start=start):
        torch.manual_seed(settings.seed * 1_000_003 + step)
        batch = collate([{"input_ids": table[row]["input_ids"].tolist()} for row in rows])
        with device.autocast:
            loss = network(**{name: values.to(device.torch_device) for name, values in batch.items()}).loss
        if not torch.isfinite(loss):
            raise ModelError(
                f"The pretraining diverged at step {step + 1}; lower "
                "`method.chain.pretraining.learning_rate`."
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, training.gradient_clipping or float("inf"))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        now = time.monotonic()
        if now - printed >= 1.0 or step + 1 == len(batches):
            print(f"pretraining {step + 1}/{len(batches)} loss={float(loss.detach()):.4g}", flush=True)
            printed = now
        if now - saved >= training.checkpoint_seconds and step + 1 < len(batches):
            save_checkpoint(folder, step + 1, **parts, state={"step": step + 1}, texts={})
            saved = time.monotonic()


def _plan(settings: Settings, lengths: list[int], epochs: float) -> list[list[int]]:
    return plan_training(
        lengths,
        batch_tokens=settings.training.batch_tokens,
        batch_size=settings.training.batch_size,
        epochs=epochs,
        gradient_accumulation=1,
        max_steps=None,
        seed=settings.seed,
    ).batches
