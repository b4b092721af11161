"""What is measured of a model's answers to held-out rows, and its losses on them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.engines.base import Output
from distill.errors import RunError
from distill.parsing import reasoning
from distill.parsing.labels import parse_answer
from distill.run.records import TrainingRow

_BATCH = 8


def losses(spec: dict[str, Any]) -> dict[str, Any]:
    """Return ``losses`` (:func:`completion_losses`) of the rows with labels by id, in a process of its own.

    ``spec``: ``model`` (folder), ``rows``, ``chat``, ``dtype``.

    Raises:
        InputError, RunError: as :func:`distill.models.load_model`.
    """
    labelled = [TrainingRow(**row) for row in spec["rows"] if row["labels"]]
    found = completion_losses(Path(spec["model"]), labelled, spec["chat"], spec["dtype"]) if labelled else []
    return {"losses": {row.id: loss for row, loss in zip(labelled, found, strict=True)}}


def measure(
    rows: Sequence[TrainingRow], outputs: Sequence[Output], losses: Mapping[str, tuple[float, int]]
) -> dict[str, float | None]:
    """Return, for the rows with a closed list of labels (all None where there are none):

    ``loss``: mean loss of a token of the teacher's answer (nats; ``losses`` as :func:`completion_losses`, by row id);
    ``valid_label``: share of answers that are a label of their prompt, or a list of such as Table 12 writes it, and
    nothing else (but reasoning before it), ended by the model itself; ``readable_label``: share in which a label can be
    read, whatever is around it; ``as_teacher``: share that reads as the teacher's, lists in any order.
    """
    asked = [(row, output) for row, output in zip(rows, outputs, strict=True) if row.labels]
    if not asked:
        return dict.fromkeys(("loss", "valid_label", "readable_label", "as_teacher"))
    read = [parse_answer(output.text, row.labels, row.multi_label) for row, output in asked]
    totals, counts = zip(*(losses[row.id] for row, _ in asked), strict=True)
    return {
        "loss": round(sum(totals) / sum(counts), 4),
        "valid_label": _share(output.finish_reason == "stop" and answer_of(output.text) == label
                              for label, (_, output) in zip(read, asked, strict=True)),
        "readable_label": _share(label is not None for label in read),
        "as_teacher": _share(label is not None and _parts(label) == _parts(answer_of(row.completion))
                             for label, (row, _) in zip(read, asked, strict=True)),
    }


def answer_of(text: str) -> str:
    """Return what a model, or the teacher, answered, without its reasoning."""
    return reasoning.split(text).answer.strip()


def _parts(answer: str) -> list[str]:
    """Return what an answer in the form of :func:`parse_answer` consists of, in an order of its own."""
    return sorted(answer.removeprefix("[").removesuffix("]").split(", "))


def completion_losses(model_folder: Path, rows: Sequence[TrainingRow], chat: bool,
                      dtype: str = "auto") -> list[tuple[float, int]]:
    """Return each completion's summed loss (nats) and its number of tokens, end token included.

    Raises:
        RunError: a loss is no finite number.
    """
    import torch

    from distill.engines.transformers.padding import left_pad, positions
    from distill.models import load_model, load_tokenizer
    from distill.models.tokenization import encode_completion, encode_prompt

    tokenizer, model = load_tokenizer(model_folder), load_model(model_folder, dtype)
    encoded = [(encode_prompt(tokenizer, row.prompt, chat),
                encode_completion(tokenizer, row.prompt, row.completion, chat)) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: sum(map(len, encoded[index])))
    losses: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            batch = order[start:start + _BATCH]
            ids, mask = left_pad([encoded[i][0] + encoded[i][1] for i in batch], tokenizer.pad_token_id, model.device)
            longest = max(len(encoded[i][1]) for i in batch)
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False,
                           logits_to_keep=longest + 1).logits[:, :-1].float()
            chosen = logits.log_softmax(-1).gather(-1, ids[:, -longest:, None])[..., 0]
            for place, index in enumerate(batch):
                count = len(encoded[index][1])
                losses[index] = (-chosen[place, -count:].sum().item(), count)
                if not math.isfinite(losses[index][0]):
                    raise RunError(f"The loss of {model_folder} on the held-out row {rows[index].id} is no finite "
                                   "number: its weights are too large for the precision it computes in. Train it anew "
                                   "with a lower learning rate, or in float32.")
    return losses


def _share(truths: Iterable[bool]) -> float:
    listed = list(truths)
    return round(sum(listed) / len(listed), 4)
