"""Which rows are trained on, which are kept for validation, and which ``train.fractions`` leave out."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from distill.config.schema import Train
from distill.run.hashing import hash_order
from distill.run.records import (
    OUTSIDE,
    SPLITS,
    TRAIN,
    VALIDATION,
    RecordWriter,
    TokenizedRow,
    open_parquet,
    read_columns,
)

VALIDATION_MAX = 2000  # more would cost time and say no more
_VALIDATION_HASH, _FRACTION_HASH = "held_out_for_eval", "outside_fraction"  # other words would choose other rows
_BATCH = 4096


def split_inputs(train: Train, seed: int) -> dict[str, Any]:
    """Return what decides the split, for the fingerprint of a stage."""
    return {"seed": seed, "eval_fraction": train.eval_fraction, "fractions": train.fractions.model_dump(mode="json"),
            "unified": train.stages == ["unified"]}


def unsplit_file(folder: Path, source: str) -> Path:
    """Return where a source's rows (:class:`TokenizedRow`) wait for :func:`split_rows`."""
    return folder / f"{source}.unsplit.parquet"


def split_rows(folder: Path, sources: Mapping[str, type[TokenizedRow]], train: Train, seed: int, by_text: bool = False
               ) -> dict[str, dict[str, int]]:
    """Write the waiting rows of each source with their split to ``SOURCE.parquet``; return how many are in each.

    ``sources`` says of what kind the waiting rows of each are.

    Of each source (knowdist, icldist) ``train.fractions`` are used, and of those ``train.eval_fraction`` (at most
    2,000, none of a single row) are for validation: of each stage of training by itself, so that ``unified`` draws
    from both together. All are chosen by hash: of a larger share, a smaller one is a part. ``by_text``: all rows of a
    text are for validation, of every source, or none is; of each source some row is left to train on. Where texts have
    rows in both sources, those of the one may then be more than its share, and more than 2,000.
    """
    texts: dict[str, str] = {}
    used: dict[str, frozenset[str]] = {}
    for source in sources:
        found = read_columns(unsplit_file(folder, source), ["id", "text_id"])
        ids = found["id"].to_pylist()
        used[source] = chosen_ids(ids, getattr(train.fractions, source), seed, _FRACTION_HASH)
        if by_text:
            texts |= dict(zip(ids, found["text_id"].to_pylist(), strict=True))
    together = frozenset[str]().union(*used.values())
    groups = [together] if train.stages == ["unified"] else list(used.values())
    if by_text:
        held = _held_out_texts([{key: texts[key] or key for key in group} for group in groups], train, seed)
        validation = frozenset(key for key in together if (texts[key] or key) in held)
    else:
        validation = frozenset[str]().union(*(
            chosen_ids(group, train.eval_fraction, seed, _VALIDATION_HASH, VALIDATION_MAX)
            for group in groups if len(group) > 1))
    return {source: _write(folder, source, together, validation, kind) for source, kind in sources.items()}


def validation_order(seed: int, row_id: str) -> tuple[int, str]:
    """Return the key by which rows are chosen for validation, smallest first."""
    return hash_order(seed, row_id, _VALIDATION_HASH), row_id


def chosen_ids(ids: Iterable[str], fraction: float, seed: int, purpose: str, at_most: int | None = None
               ) -> frozenset[str]:
    """Return a share of the ids, those whose hashes are smallest; at least one, unless the share is 0."""
    if fraction == 1 and at_most is None:
        return frozenset(ids)
    ordered = sorted(ids, key=lambda item: (hash_order(seed, item, purpose), item))
    wanted = max(1, round(fraction * len(ordered))) if fraction else 0
    return frozenset(ordered[:wanted if at_most is None else min(at_most, wanted)])


def _held_out_texts(groups: Sequence[Mapping[str, str]], train: Train, seed: int) -> set[str]:
    """Return the texts that are for validation: enough for each group, one order of texts for all.

    ``groups``: the texts of rows, by the rows' ids. No group's texts are all held out.
    """
    def order(text: str) -> tuple[int, str]:
        return validation_order(seed, text)

    held: set[str] = set()
    for texts in groups:
        wanted = min(VALIDATION_MAX, max(1, round(train.eval_fraction * len(texts)))) if train.eval_fraction else 0
        for text, count in sorted(Counter(texts.values()).items(), key=lambda item: order(item[0])):
            if wanted <= 0:
                break
            held.add(text)
            wanted -= count
    for texts in groups:
        if texts and held.issuperset(texts.values()):
            held.remove(max(texts.values(), key=order))
    return held


def _write(folder: Path, source: str, used: Collection[str], validation: Collection[str],
           kind: type[TokenizedRow]) -> dict[str, int]:
    waiting, counts = unsplit_file(folder, source), Counter(dict.fromkeys(SPLITS, 0))
    with open_parquet(waiting) as parquet, RecordWriter(folder / f"{source}.parquet", kind) as rows:
        place = parquet.schema_arrow.names.index("split")
        for batch in parquet.iter_batches(_BATCH):
            table = pa.Table.from_batches([batch])
            splits = [VALIDATION if key in validation else TRAIN if key in used else OUTSIDE
                      for key in table["id"].to_pylist()]
            counts.update(splits)
            rows.write_table(table.set_column(place, "split", pa.array(splits, pa.string())))
    waiting.unlink()
    return dict(counts)
