"""What training rows are made of: how many of each family, kind and source of texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill.corpus.build import texts_file
from distill.dataset.build import FOLDER
from distill.dataset.other_runs import PROMPTS
from distill.dataset.pool import OF_POOL
from distill.run.markers import is_finished, read_done
from distill.run.records import TRAIN, OtherPrompt, read_columns, read_records

POOL = "demonstration pool"
_OF_RUN = "run "
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


def other_prompts(run: Path) -> Iterator[OtherPrompt]:
    """Yield the prompts of other runs whose answers are rows of a run (:mod:`distill.dataset.other_runs`)."""
    path = run / FOLDER / PROMPTS
    return iter(read_records(path, OtherPrompt) if path.is_file() else ())


def other_teachers(run: Path) -> list[str]:
    """Return the teachers of the other runs whose answers are rows of a run, each once, in their order."""
    if not is_finished(run / FOLDER):
        return []
    others = read_done(run / FOLDER)["details"].get("other_runs", [])
    return list(dict.fromkeys(one["teacher"] for one in others if one["rows"]))


def composition(run: Path, stage: str) -> list[dict[str, Any]]:
    """Return ``family``, ``kind``, ``source`` and ``rows`` for each that a stage is trained on, sorted.

    Rows for validation and outside ``train.fractions`` are not counted. ``source`` is where the texts came from, of a
    row of several answers the last one; ``POOL`` for rows of the demonstration pool, ``run NAME`` for those of another
    run, and empty for others without a text of the corpus. Empty without the file.
    """
    path = run / FOLDER / f"{stage}.parquet"
    if not path.exists():
        return []
    rows = read_columns(path, ["id", "family", "kind", "text_id", "split"])
    rows = rows.filter(pc.equal(rows["split"], TRAIN))
    if texts_file(run).exists():
        texts = read_columns(texts_file(run), ["id", "source"]).rename_columns(["text_id", "source"])
        rows = rows.join(texts, "text_id")
        of_pool = pc.starts_with(rows["text_id"], OF_POOL)
        rows = rows.set_column(rows.schema.get_field_index("source"), "source",
                               pc.if_else(of_pool, POOL, rows["source"]))
        if (run / FOLDER / PROMPTS).exists():
            rows = rows.join(read_columns(run / FOLDER / PROMPTS, ["id", "run"]), "id")
            named = pc.binary_join_element_wise(_OF_RUN, rows["run"], "")
            rows = rows.set_column(rows.schema.get_field_index("source"), "source",
                                   pc.if_else(pc.is_valid(rows["run"]), named, rows["source"]))
    keys = [name for name in ("family", "kind", "source") if name in rows.column_names]
    counted = rows.group_by(keys).aggregate([([], "count_all")]).to_pylist()
    return sorted(({"family": row["family"], "kind": row["kind"], "source": row.get("source") or "",
                    "rows": row["count_all"]} for row in counted),
                  key=lambda row: (row["family"], row["kind"], row["source"]))
