"""A held-out training row with what is needed to judge an answer to it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldOutRow:
    """``completion`` is the teacher's answer as it would have been trained on; ``labels`` as in a prompt record."""

    id: str
    family: str
    kind: str
    prompt: str
    completion: str
    labels: tuple[str, ...] = ()
    multi_label: bool = False
