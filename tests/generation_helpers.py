"""What the tests of teacher generation share: prompts, where they are written, and what stands in the folder."""

from collections.abc import Sequence
from pathlib import Path

from distill.hashing import content_id, derived_seed
from distill.records import Prompt, Response, write_records


def prompts_of(count: int, family: str = "knowdist") -> list[Prompt]:
    return [Prompt(content_id(family, str(n)), f"t{n}", family, f"kind/{n % 3}", f"Say something about number {n}.",
                   seed=derived_seed(42, str(n), "teacher")) for n in range(count)]


def written(folder: Path, prompts: Sequence[Prompt], stage: str = "knowdist") -> Path:
    path = folder / "prompts" / f"{stage}.parquet"
    write_records(path, Prompt, prompts)
    return path


def files(run: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted((run / "knowdist" / "responses").iterdir())}


def slice_of(*ids: str) -> list[Response]:
    return [Response(item, "é\u2028", "stop", 1, 1) for item in ids]
