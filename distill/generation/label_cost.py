"""What distributions over labels take, reckoned from the prompts before any is computed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from distill.run.records import open_parquet, read_tables

# Least squares over files of 100 and 2,000 prompts with 2 to 77 labels, compressed as they are written.
_BYTES_A_PROMPT, _BYTES_A_LABEL, _BYTES_A_SHARD = 12.0, 5.8, 2_250.0  # the last with its marker
_COLUMNS, _TUPLES = ("family", "labels", "multi_label"), "tuple_schema"


@dataclass(frozen=True)
class LabelCost:
    """How many prompts of a stage have a distribution over labels, and what the files of these take on disk.

    ``n_labels`` are those of all the prompts together, ``n_nodes`` the nodes of their trees of tokens
    (:mod:`distill.engines.label_tree`) but for the roots.
    """

    n_prompts: int = 0
    n_labels: int = 0
    n_shards: int = 0
    n_nodes: int = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of all the files, about."""
        if not self.n_prompts:
            return 0
        return round(_BYTES_A_PROMPT * self.n_prompts + _BYTES_A_LABEL * self.n_labels + _BYTES_A_SHARD * self.n_shards)


def label_cost(prompts: Path, n_shards: int, nodes: Callable[[tuple[str, ...]], int] | None = None) -> LabelCost:
    """Return what the distributions of all prompts of a file take, which :func:`has_distribution` tells of each.

    The file is read some rows at a time. ``nodes`` says how many nodes a prompt's labels have; without it each label
    counts as one, of which there are no fewer.

    Raises:
        RunError: the file cannot be read.
    """
    with open_parquet(prompts) as file:
        has_tuples = _TUPLES in file.schema_arrow.names  # runs of earlier versions had no such tasks
    n_prompts = total = n_nodes = 0
    for table in read_tables(prompts, [*_COLUMNS, *([_TUPLES] if has_tuples else [])]):
        n_labels = pc.list_value_length(table["labels"])
        one_label = pc.and_(pc.and_(pc.equal(table["family"], "icldist"), pc.greater(n_labels, 0)),
                            pc.invert(table["multi_label"]))
        if has_tuples:
            one_label = pc.and_(one_label, pc.equal(table[_TUPLES], ""))
        counts: Sequence[int] = pc.filter(n_labels, one_label).to_pylist()
        n_prompts, total = n_prompts + len(counts), total + sum(counts)
        if nodes:
            sets = Counter(map(tuple, table["labels"].filter(one_label).to_pylist()))
            n_nodes += sum(nodes(labels) * count for labels, count in sets.items())
    return LabelCost(n_prompts, total, n_shards, n_nodes if nodes else total)
