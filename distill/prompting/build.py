"""The stage that turns a corpus into the teacher's prompts, as a stream: memory does not grow with either."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.config.schema import Prompts
from distill.config.sections.base import semantic_fields
from distill.errors import InputError
from distill.prompting.decontaminate import Benchmark
from distill.prompting.files import FOLDER
from distill.prompting.kept import keep_prompt_files, prompt_files
from distill.prompting.length import Limits
from distill.prompting.natural_tasks import task_files
from distill.prompting.writer import USUAL_SIZES, PromptWriter, Sizes, wanted_prompts
from distill.resources import locate
from distill.run.hashing import file_digest, fingerprint
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage
from distill.run.storage import changed_meanwhile

VERSION = 4
"""Raised when prompts are built in another way, so that no prompts of the old way are reused."""


def build_prompts(
    config: Prompts, texts: Path, seed: int, run: Path, limits: Limits,
    inputs_extra: Mapping[str, Any], on_change: OnChange = "stop", sizes: Sizes = USUAL_SIZES,
    benchmark: Benchmark | None = None,
) -> Outcome:
    """Write ``run/prompts``: knowdist.parquet, icldist.parquet (ICLDist and general tasks) and dropped.parquet.

    ``texts`` is a Parquet file of Text records. The prompts are sorted by the hash of their ids; they do not depend on
    the order of the texts, the number of processes, or ``sizes``. ``inputs_extra`` names what else decides the result,
    such as the tokenizers behind ``limits``. What of the demonstrations and natural tasks stands in ``benchmark`` is
    not used, and has an account of its own. There is one account a family: candidates looked at, prompts kept, drops by
    reason. The details say, for each family, how many prompts were asked for and built, how many of each kind, the
    mean number of demonstrations, how many were shortened, and which natural tasks were left out and why.

    Raises:
        InputError: bad demonstration pool or task files; no prompt of a family could be built, or none is asked for.
        RunError: the texts cannot be read, or a process that built prompts died.
    """
    if not wanted_prompts(config):
        raise InputError("No prompts are asked for: the samples of prompts.knowdist, prompts.icldist and "
                         "prompts.general are all 0. Raise one of them.")
    inputs = {
        "version": VERSION, "prompts": semantic_fields(config), "seed": seed, "limits": limits.to_json(),
        "texts": file_digest(texts) if texts.is_file() else "missing",
        **_data_digests(config),
        "benchmark": [benchmark.id, benchmark.max_distance] if benchmark else None, **inputs_extra}

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        made = PromptWriter(config, texts, seed, limits, folder, sizes, benchmark).run()
        for name, digest in _data_digests(config).items():
            if digest != inputs[name]:  # what the marker says must be what was read
                raise changed_meanwhile({"natural_tasks": config.general.path,
                                         "demonstrations": config.icldist.demonstrations,
                                         "prompt_files": "a file of prompts or tasks of your own"}[name])
        keep_prompt_files(folder, config)
        return made

    return run_stage(run / FOLDER, inputs, work, on_change)


def _data_digests(config: Prompts) -> dict[str, str]:
    digests: dict[str, str] = {"prompt_files": fingerprint(prompt_files(config))}
    if config.icldist.samples:
        pool = locate(config.icldist.demonstrations)
        digests["demonstrations"] = file_digest(pool) if pool.is_file() else "missing"
    if config.general.enabled and config.general.samples:
        digests["natural_tasks"] = fingerprint({path.name: file_digest(path) for path in task_files(config.general)})
    return digests
