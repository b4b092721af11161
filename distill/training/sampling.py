"""The order of training rows: rows of similar length share a device batch, so that little is padding.

The optimiser's batches stay as random as they can: a global batch of the paper's size (128) is drawn at random and
only sorted inside, where the order cannot matter; smaller ones are cut from a sorted window of about as many rows.
"""

import math
import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

WINDOW_ROWS = 128


class LengthGroupedSampler(Sampler[int]):
    """Yields row indices, differently each epoch, but always the same for one seed and epoch (so training resumes)."""

    def __init__(self, lengths: Sequence[int], global_batch_size: int, seed: int) -> None:
        self.lengths, self.global_batch_size, self.seed, self.epoch = lengths, global_batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; accelerate calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        generator.shuffle(order)
        size = self.global_batch_size
        window = math.ceil(WINDOW_ROWS / size) * size
        short: list[int] = []
        for start in range(0, len(order), window):
            rows = sorted(order[start:start + window], key=lambda row: self.lengths[row], reverse=True)
            batches = [rows[i:i + size] for i in range(0, len(rows), size)]
            if len(batches[-1]) < size:  # an incomplete batch must be the epoch's last
                short = batches.pop()
            generator.shuffle(batches)
            for batch in batches:
                yield from batch
        yield from short
