"""What a training objective is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Objective(Protocol):
    """What training makes small."""

    @property
    def columns(self) -> Sequence[str]:
        """What it needs of the rows beside their tokens: columns of the dataset's Parquet files, such as ``family``.

        They may be ones that a stage before has added, such as a teacher's distributions.
        """
        ...

    def loss(self, model: "torch.nn.Module", batch: Mapping[str, Any]) -> "torch.Tensor":
        """Return the loss of a device batch, summed over the tokens that are learned: a number, with its gradient.

        The trainer divides it by their number over the whole global batch, whatever the devices and accumulation.

        ``batch`` holds ``input_ids`` and ``labels`` (batch × time, -100 where nothing is learned), ``attention_mask``
        where rows are padded or ``position_ids`` where they are packed into one, and each of ``columns`` as a list
        with a value of each row, which is None for a row without loss. Behind an answer that is not its row's last
        stands the end token among the labels, though the row goes on
        (:class:`distill.run.records.ManyAnswersRow`). ``model`` may be wrapped (DDP, DeepSpeed,
        peft): call it, with use_cache=False; :func:`.completion.completion_logits` does that at little cost.
        """
        ...
