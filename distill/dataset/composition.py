"""What training rows are made of: how many of each family, kind and source of texts."""

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill.corpus.build import texts_file
from distill.dataset.build import FOLDER
from distill.dataset.pool import OF_POOL
from distill.run.records import TRAIN, read_columns

POOL = "demonstration pool"
_SEVERAL = "text_ids"


def taught_texts(run: Path, stage: str) -> set[str]:
    """Return the ids of the texts whose answers a stage is trained on; none without the file."""
    path = run / FOLDER / f"{stage}.parquet"
    if not path.exists():
        return set()
    several = [_SEVERAL] if _SEVERAL in pq.read_schema(path).names else []
    rows = read_columns(path, ["text_id", "split", *several])
    rows = rows.filter(pc.equal(rows["split"], TRAIN))
    return {*rows["text_id"].to_pylist(), *(one for name in several for some in rows[name].to_pylist() for one in some)}


def composition(run: Path, stage: str) -> list[dict[str, Any]]:
    """Return ``family``, ``kind``, ``source`` and ``rows`` for each that a stage is trained on, sorted.

    Rows for validation and outside ``train.fractions`` are not counted. ``source`` is where the texts came from, of a
    row of several answers the last one; ``POOL`` for rows of the demonstration pool, and empty for others without a
    text of the corpus. Empty without the file.
    """
    path = run / FOLDER / f"{stage}.parquet"
    if not path.exists():
        return []
    rows = read_columns(path, ["family", "kind", "text_id", "split"])
    rows = rows.filter(pc.equal(rows["split"], TRAIN))
    if texts_file(run).exists():
        texts = read_columns(texts_file(run), ["id", "source"]).rename_columns(["text_id", "source"])
        rows = rows.join(texts, "text_id")
        of_pool = pc.starts_with(rows["text_id"], OF_POOL)
        rows = rows.set_column(rows.schema.get_field_index("source"), "source",
                               pc.if_else(of_pool, POOL, rows["source"]))
    keys = [name for name in ("family", "kind", "source") if name in rows.column_names]
    counted = rows.group_by(keys).aggregate([([], "count_all")]).to_pylist()
    return sorted(({"family": row["family"], "kind": row["kind"], "source": row.get("source") or "",
                    "rows": row["count_all"]} for row in counted),
                  key=lambda row: (row["family"], row["kind"], row["source"]))
