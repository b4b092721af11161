"""The order of training rows, and how they are shared out among device batches, so that little is padding.

The optimiser's batches stay as random as they can: a global batch of the paper's size (128) is drawn at random and
only arranged inside, where the order cannot matter; smaller ones are cut from a sorted window of about as many rows.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import Sampler

WINDOW_ROWS = 128


@dataclass(frozen=True)
class Arrangement:
    """How rows become batches.

    ``device_batch_size`` rows make a device batch, and consecutive device batches go to consecutive processes.
    ``group_by_length`` puts rows of like length together; ``packing`` gives every device batch of a global batch
    about as many tokens as the others, because what is packed needs no padding. ``window_rows`` is about how many rows
    are sorted at once, to cut small global batches from them.
    """

    global_batch_size: int
    device_batch_size: int
    world_size: int = 1
    group_by_length: bool = True
    packing: bool = False
    window_rows: int = WINDOW_ROWS


class EpochSampler(Sampler[int]):
    """Yields row indices, differently each epoch, but always the same for one seed and epoch (so training resumes).

    With several processes, an epoch's last device batches are filled up with the index ``len(lengths)``, which
    stands for a row without loss: each process then has equally many batches, and no row is trained on twice.

    Who iterates counts epochs from 0; where that is in the middle of a training, ``first`` is how many came before.
    """

    def __init__(self, lengths: Sequence[int], arrangement: Arrangement, seed: int, first: int = 0) -> None:
        self.lengths, self.arrangement, self.seed, self.first, self.epoch = lengths, arrangement, seed, first, first

    def __len__(self) -> int:
        return filled(len(self.lengths), self.arrangement)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from ``first``."""
        self.epoch = self.first + epoch

    def __iter__(self) -> Iterator[int]:
        yield from self._rows()
        yield from [len(self.lengths)] * (len(self) - len(self.lengths))

    def _rows(self) -> Iterator[int]:
        generator = random.Random(f"{self.seed}/{self.epoch}")
        order = list(range(len(self.lengths)))
        generator.shuffle(order)
        size = self.arrangement.global_batch_size
        window = math.ceil(self.arrangement.window_rows / size) * size if self.arrangement.group_by_length else size
        short: list[int] = []
        for start in range(0, len(order), window):
            rows = order[start:start + window]
            if self.arrangement.group_by_length:
                rows.sort(key=lambda row: self.lengths[row], reverse=True)
            batches = [rows[i:i + size] for i in range(0, len(rows), size)]
            if len(batches[-1]) < size:  # an incomplete batch must be the epoch's last
                short = batches.pop()
            generator.shuffle(batches)
            for batch in batches:
                yield from self._arranged(batch)
        yield from short

    def _arranged(self, batch: list[int]) -> list[int]:
        if not self.arrangement.packing:
            return batch
        rows = sorted(batch, key=lambda row: (-self.lengths[row], row))
        count = math.ceil(len(rows) / self.arrangement.device_batch_size)
        turns = [[rows[i] for i in range(start, min(start + count, len(rows)))] for start in range(0, len(rows), count)]
        shares: list[list[int]] = [[] for _ in range(count)]
        for number, turn in enumerate(turns):  # there and back again, as teams are chosen
            for place, row in enumerate(turn):
                shares[place if number % 2 == 0 else count - 1 - place].append(row)
        return [row for share in shares for row in share]


class InOrder(Sampler[int]):
    """Yields 0 to ``count`` - 1, then ``count`` (the row without loss) until each process has equally many batches."""

    def __init__(self, count: int, arrangement: Arrangement) -> None:
        self.count, self.total = count, filled(count, arrangement)

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        yield from range(self.count)
        yield from [self.count] * (self.total - self.count)


def filled(count: int, arrangement: Arrangement) -> int:
    """Return ``count`` rows rounded up to whole device batches of all processes; as it is for a single process."""
    if arrangement.world_size == 1:
        return count
    together = arrangement.device_batch_size * arrangement.world_size
    return math.ceil(count / together) * together


def padding_share(lengths: Sequence[int], order: Sequence[int], device_batch_size: int) -> float:
    """Return which share of what is computed would be padding, if rows in this order were padded to their batches."""
    padded = sum(max(batch) * len(batch) for batch in (
        [lengths[row] for row in order[i:i + device_batch_size]] for i in range(0, len(order), device_batch_size)))
    return 1 - sum(lengths[row] for row in order) / padded if padded else 0.0
