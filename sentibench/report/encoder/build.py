"""From the folders of encoder runs to one page that needs nothing else."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import yaml

from distill.config.load import read_yaml, validate
from distill.config.sections.encoder import EncoderConfig
from distill.encoder.stage import RESULT
from distill.encoder.teacher import FOLDER
from distill.errors import InputError
from distill.stage import MARKER
from distill.storage import read_json, write_text
from sentibench.report.encoder import pictures


def build_encoder_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report of some runs, in their order, and return its path.

    Raises:
        InputError: a folder is no run of an encoder student, or none of its seeds is finished.
    """
    from jinja2 import Environment

    sections = [_section(run) for run in runs]
    folder = files("sentibench.report")
    page = Environment(autoescape=True, trim_blocks=True).from_string(
        folder.joinpath("encoder/template.html").read_text(encoding="utf-8")).render(
            sections=sections, style=folder.joinpath("style.css").read_text(encoding="utf-8"),
            rows=[section for section in sections if section["paper"]] + [
                section for section in sections if not section["paper"]])
    write_text(out, page)
    return out


def _section(run: Path) -> dict[str, Any]:
    if not (run / "config.yaml").is_file():
        raise InputError(f"{run} is no run of an encoder student: it holds no config.yaml. Name a folder that "
                         "'distill encoder train' made, such as runs/sst5-after-n.")
    config = validate(read_yaml(run / "config.yaml"), str(run / "config.yaml"), EncoderConfig)
    done = [run / "models" / f"seed{seed}" for seed in config.seeds]
    results = [read_json(folder / RESULT) for folder in done if (folder / MARKER).exists()]
    if not results:
        raise InputError(f"No seed of {run} is finished. Run 'distill encoder train' first.")
    scores = {name: [result["test"][name] for result in results] for name in ("accuracy", "macro_f1")}
    return {
        "name": config.name, "config": config, "paper": paper_row(config), "seeds": len(results),
        "labelled": _labelled(run, config),
        "missing": len(config.seeds) - len(results), "n": results[0]["counts"],
        "cut": sum(results[0]["cut"].values()), "minutes": sum(result["seconds"] for result in results) / 60,
        "scores": {name: _spread(values) for name, values in scores.items()},
        "curves": pictures.curves(results), "confusion": pictures.confusion(results, config.data.names),
        "embeddings": pictures.embeddings(results[0]["dev_in_2d"], config.data.names),
        "config_yaml": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)}


def _labelled(run: Path, config: EncoderConfig) -> dict[str, Any] | None:
    """Return how the teacher's labels came about, where the run was trained on any."""
    marker = run / FOLDER / MARKER
    if config.labels == "gold" or not marker.exists():
        return None
    done = read_json(marker)
    account = next(one for one in done["ledgers"] if one["stage"] == "encoder/labels")
    return {**account, "dropped": ", ".join(f"{count:,} {reason}" for reason, count in account["dropped"].items()),
            **done["details"]}


def paper_row(config: EncoderConfig) -> dict[str, Any] | None:
    """Return the row of the paper's Table 2 that a config asks for, whatever its backbone; None for none."""
    if config.labels != "gold":
        return None
    asked = {"strategy": config.unfreeze.strategy, "prompt": config.prompt, "triplet": config.triplet is not None}
    rows = yaml.safe_load(files("sentibench.paper").joinpath("sst5.yaml").read_text(encoding="utf-8"))
    return next((row for row in rows if row["asked"] == asked), None)


def _spread(values: list[float]) -> str:
    return f"{100 * mean(values):.2f}" + (f" ± {100 * pstdev(values):.2f}" if len(values) > 1 else "")
