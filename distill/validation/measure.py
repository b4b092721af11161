"""What is measured of a model's answers to held-out rows, and its losses on them."""

from collections.abc import Iterable, Sequence

from distill.engines.base import Output
from distill.parsing import reasoning
from distill.parsing.labels import parse_answer
from distill.run.records import TrainingRow


def measure(rows: Sequence[TrainingRow], outputs: Sequence[Output]) -> dict[str, float | None]:
    """Return, for the rows with a closed list of labels (all None where there are none):

    ``loss``: mean of :func:`loss_of` (None where no row has one);
    ``valid_label``: share of answers that are a label of their prompt, or a list of such as Table 12 writes it, and
    nothing else (but reasoning before it), ended by the model itself; ``readable_label``: share in which a label can be
    read, whatever is around it; ``as_teacher``: share that reads as the teacher's, lists in any order.
    """
    asked = [(row, output) for row, output in zip(rows, outputs, strict=True) if row.labels]
    if not asked:
        return dict.fromkeys(("loss", "valid_label", "readable_label", "as_teacher"))
    read = [parse_answer(output.text, row.labels, row.multi_label) for row, output in asked]
    losses = [loss for _, output in asked if (loss := loss_of(output)) is not None]
    return {
        "loss": round(sum(losses) / len(losses), 4) if losses else None,
        "valid_label": _share(output.finish_reason == "stop" and answer_of(output.text) == label
                              for label, (_, output) in zip(read, asked, strict=True)),
        "readable_label": _share(label is not None for label in read),
        "as_teacher": _share(label is not None and _parts(label) == _parts(answer_of(row.completion))
                             for label, (row, _) in zip(read, asked, strict=True)),
    }


def loss_of(output: Output) -> float | None:
    """Return the negative log-probability (nats) of the teacher's answer as a whole, its end included.

    It is the one label that the request names. None where it was not asked for or could not be scored.
    """
    return -output.label_logprobs[0] if output.label_logprobs else None


def answer_of(text: str) -> str:
    """Return what a model, or the teacher, answered, without its reasoning."""
    return reasoning.split(text).answer.strip()


def _parts(answer: str) -> list[str]:
    """Return what an answer in the form of :func:`parse_answer` consists of, in an order of its own."""
    return sorted(answer.removeprefix("[").removesuffix("]").split(", "))


def _share(truths: Iterable[bool]) -> float:
    listed = list(truths)
    return round(sum(listed) / len(listed), 4)
