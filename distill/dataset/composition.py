"""What training rows are made of: how many of each family, kind and source of texts."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from distill.corpus.build import texts_file
from distill.dataset.build import FOLDER
from distill.run.records import read_columns


def composition(run: Path, stage: str, without: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return ``family``, ``kind``, ``source`` and ``rows`` for each that a stage's training rows hold, sorted.

    Rows whose ids are in ``without`` are not counted.

    ``source`` is where the texts came from, and empty for rows without a text of the corpus. Empty without the file.
    """
    path = run / FOLDER / f"{stage}.parquet"
    if not path.exists():
        return []
    rows = read_columns(path, ["id", "family", "kind"])
    rows = rows.filter(pc.invert(pc.is_in(rows["id"], pa.array(list(without), pa.string()))))
    prompts = run / "prompts" / f"{stage}.parquet"
    if prompts.exists():
        texts = read_columns(texts_file(run), ["id", "source"]).rename_columns(["text_id", "source"])
        asked = read_columns(prompts, ["id", "text_id"]).join(texts, "text_id")
        rows = rows.join(asked.select(["id", "source"]), "id")
    keys = [name for name in ("family", "kind", "source") if name in rows.column_names]
    counted = rows.group_by(keys).aggregate([([], "count_all")]).to_pylist()
    return sorted(({"family": row["family"], "kind": row["kind"], "source": row.get("source") or "",
                    "rows": row["count_all"]} for row in counted),
                  key=lambda row: (row["family"], row["kind"], row["source"]))
