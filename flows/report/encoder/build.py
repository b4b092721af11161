"""From the folders of encoder runs to one page that needs nothing else."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from distill.config.load import read_yaml, validate
from distill.config.sections.encoder import RUN_FILE, SST5, EncoderConfig
from distill.encoder.stage import RESULT, mean_and_deviation, model_folder, refuse_mixtures
from distill.encoder.teacher import FOLDER
from distill.errors import InputError, RunError
from distill.run.markers import is_finished, require_whole
from distill.run.storage import read_object, write_text
from flows.report.encoder import pictures

_COUNTS = {"train": 8544, "dev": 1101, "test": 2210}


def build_encoder_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the report of some runs, in their order, and return its path.

    Raises:
        InputError: a folder is no run of an encoder student, or none of its seeds is finished.
    """
    from jinja2 import Environment

    try:
        sections = [_section(run) for run in runs]
        _side_by_side(sections)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, StopIteration) as error:
        raise RunError(f"A file in {', '.join(map(str, runs))} does not hold what the report is made of "
                       f"({type(error).__name__}: {error}): something else has changed it, or another version "
                       "wrote it, or this is a defect of sentidistill. Train anew with --discard."
                       ) from error
    folder = files("flows.report")
    page = Environment(autoescape=True, trim_blocks=True).from_string(
        folder.joinpath("encoder/template.html").read_text(encoding="utf-8")).render(
            sections=sections, style=folder.joinpath("style.css").read_text(encoding="utf-8"),
            rows=[section for section in sections if section["paper"]] + [
                section for section in sections if not section["paper"]])
    write_text(out, page)
    return out


def _section(run: Path) -> dict[str, Any]:
    if not (run / RUN_FILE).is_file():
        raise InputError(f"{run} is no run of an encoder student: it holds no {RUN_FILE}. Name a folder that "
                         "'distill encoder train' made, such as runs/sst5-after-n.")
    config = validate(read_yaml(run / RUN_FILE), str(run / RUN_FILE), EncoderConfig)
    wanted = [model_folder(run, seed) for seed in config.seeds]
    done = [folder for folder in wanted if is_finished(folder)]
    for folder in done:
        require_whole(folder, "distill encoder train")
    results = [read_object(folder / RESULT, test=dict, dev_in_2d=dict, counts=dict, cut=dict, seconds=(int, float))
               for folder in done]
    if not results:
        raise InputError(f"No seed of {run} is finished. Run 'distill encoder train' first.")
    refuse_mixtures(done)
    # Models that were kept were made with the settings that stand beside them, not with those asked for later.
    config = validate(results[0].get("config", config.model_dump()), str(done[0] / RESULT), EncoderConfig)
    scores = {name: [result["test"][name] for result in results] for name in ("accuracy", "macro_f1")}
    gold = results[0].get("gold", {"dev": True, "test": True})
    return {
        "name": config.name, "config": config, "paper": paper_row(config, results[0]["counts"]), "seeds": len(results),
        "labelled": _labelled(run, config), "labeller": config.teacher.model.name if config.teacher else
        f"The teacher of {config.from_run.run}" if config.from_run else "", "gold": gold,
        "no_gold": " and ".join(split for split, has in gold.items() if not has),
        "missing": len(wanted) - len(done), "n": results[0]["counts"],
        "cut": sum(results[0]["cut"].values()), "minutes": sum(result["seconds"] for result in results) / 60,
        "scores": {name: _spread(values) for name, values in scores.items()},
        "curves": pictures.curves(results), "confusion": pictures.confusion(results, config.data.names),
        "dev_in_2d": results[0]["dev_in_2d"],
        "config_yaml": yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)}


def _labelled(run: Path, config: EncoderConfig) -> dict[str, Any] | None:
    """Return how the teacher's labels came about, where the run was trained on any."""
    if config.labels == "gold" or not is_finished(run / FOLDER):
        return None
    done = require_whole(run / FOLDER, "distill encoder train")
    account = next(one for one in done["row_counts"] if one["stage"] == "encoder/labels")
    return {**account, "dropped": ", ".join(f"{count:,} {reason}" for reason, count in account["dropped"].items()),
            **done["details"]}


def _side_by_side(sections: Sequence[dict[str, Any]]) -> None:
    """Draw each run's embeddings; those with the triplet loss beside those of the same training without it."""
    for section in sections:
        panels = [("before training", section["dev_in_2d"]["before"])]
        if section["config"].triplet:
            panels += [("without the triplet loss", other["dev_in_2d"]["after"]) for other in sections
                       if _but_triplet(other) == _but_triplet(section) and not other["config"].triplet][:1]
            panels.append(("with the triplet loss", section["dev_in_2d"]["after"]))
        else:
            panels.append(("after training", section["dev_in_2d"]["after"]))
        section["embeddings"] = pictures.embeddings(panels, section["dev_in_2d"]["labels"],
                                                    section["config"].data.names)


def _but_triplet(section: dict[str, Any]) -> list[Any]:
    config: EncoderConfig = section["config"]
    return [config.data, config.backbone, config.prompt, config.unfreeze.strategy, config.labels]


def paper_row(config: EncoderConfig, counts: Mapping[str, int]) -> dict[str, Any] | None:
    """Return the row of the paper's Table 2 that a run on SST-5 is one of, whatever its backbone; None for none."""
    if config.labels != "gold" or tuple(config.data.names) != SST5 or dict(counts) != _COUNTS:
        return None
    asked = {"strategy": config.unfreeze.strategy, "prompt": config.prompt, "triplet": config.triplet is not None}
    rows = yaml.safe_load(files("sentibench.paper").joinpath("sst5.yaml").read_text(encoding="utf-8"))
    return next((row for row in rows if row["asked"] == asked), None)


def _spread(values: list[float]) -> str:
    middle, around = mean_and_deviation(values)
    return f"{100 * middle:.2f}" + (f" ± {100 * around:.2f}" if len(values) > 1 else "")
