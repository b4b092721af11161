"""The texts that stay, from one file to another in the order of their ids, with bounded memory."""

import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa

from distill.corpus.source_parts import BATCH
from distill.run.external_sort import MOST_BUCKETS, Buckets
from distill.run.records import RecordWriter, Text, arrow_schema, open_parquet

_BYTES_IN_MEMORY = 256 << 20


def write_sorted(source: Path, keep: np.ndarray, target: Path, memory: int = _BYTES_IN_MEMORY) -> tuple[
        Counter[str], Counter[str]]:
    """Write the texts where ``keep`` is true, sorted by id; return how many there are by domain and by source.

    Where they are more than ``memory`` bytes, they are dealt out to files by the beginning of their ids, and each
    file is sorted by itself.
    """
    by_domain: Counter[str] = Counter()
    by_source: Counter[str] = Counter()
    n_files = min(1 + _text_bytes(source) // memory, MOST_BUCKETS)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".sorting-") as folder, \
            RecordWriter(target, Text) as writer, \
            closing(Buckets(Path(folder), arrow_schema(Text), n_files, pending=memory // 8)) as buckets:
        _deal(source, keep, buckets)
        for number in range(n_files):
            table = buckets.sorted(number)
            for counter, column in ((by_domain, "domain"), (by_source, "source")):
                for entry in table[column].value_counts().to_pylist():
                    counter[entry["values"]] += entry["counts"]
            writer.write_table(table)
    return by_domain, by_source


def _text_bytes(path: Path) -> int:
    with open_parquet(path) as parquet:
        return sum(parquet.metadata.row_group(n).total_byte_size for n in range(parquet.metadata.num_row_groups))


def _deal(source: Path, keep: np.ndarray, buckets: Buckets) -> None:
    at = 0
    with open_parquet(source) as parquet:
        for batch in parquet.iter_batches(batch_size=BATCH):
            table = pa.Table.from_batches([batch]).filter(pa.array(keep[at:at + len(batch)]))
            at += len(batch)
            # The order of the hexadecimal ids is that of their beginnings, then their own.
            buckets.add(table, np.array([int(text_id[:16], 16) for text_id in table["id"].to_pylist()], np.uint64))
