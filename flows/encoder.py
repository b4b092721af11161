"""Encoder students as a Prefect flow. Markers in the run folder decide what is trained again, not Prefect's cache."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from distill.config.sections.encoder import EncoderConfig
from distill.encoder.stage import spread
from distill.run.stage import OnChange
from distill.run.storage import read_json
from distill.runtime.parallel import most_devices
from distill.runtime.terminal import wrap_errors
from flows.distill import RETRY_SECONDS, try_again
from flows.encoder_run import load_encoder_config, train_run
from flows.orchestration import artifacts
from flows.orchestration.gpus import gpu_slots
from flows.orchestration.logs import within
from flows.orchestration.notify import tell
from flows.run import folder_of


@flow(name="encoder", validate_parameters=False, on_completion=[tell], on_failure=[tell])
@wrap_errors()
def encoder(
    config: str = "after-n",
    run: str | None = None,
    overrides: list[str] | None = None,
    on_change: OnChange = "stop",
) -> dict[str, Any]:
    """Train a small classifier, one a seed, and write its report; finished seeds are not trained again.

    Args:
        config: A config file, or the name of one that ships (baseline, after-n, layerwise, ...).
        run: Name of the run folder under runs/. Default: the config's name.
        overrides: Settings that replace the config's, such as backbone.name=all-minilm-l6-v2.
        on_change: What to do with finished work whose settings have changed: stop and say so, keep it, or discard it.
    """
    read = load_encoder_config(config, overrides or ())
    folder = folder_of(read, run or None)  # a form's field that was emptied says the same as one left out
    done = train(read, folder, on_change)
    artifacts.show_row_counts(folder, read_json(folder / "row_counts.json"))
    page = report(folder)
    artifacts.show_encoder(folder, done, page)
    return {**done, "report": str(page)}


@task(name="train", retries=len(RETRY_SECONDS), retry_delay_seconds=RETRY_SECONDS, retry_jitter_factor=0.3,
      retry_condition_fn=try_again, cache_policy=NO_CACHE)
def train(config: EncoderConfig, folder: Path, on_change: OnChange) -> dict[str, Any]:
    """Train every seed, labelling texts first where a teacher is to; return scores by seed, mean and spread."""
    with wrap_errors(folder / "logs"), within(folder.name, "encoder"), gpu_slots(*_gpus(config)):
        outcomes = train_run(config, folder, on_change)
    return {"seeds": {str(seed): outcome.details for seed, outcome in zip(config.seeds, outcomes, strict=True)},
            "mean and spread": {name: list(values) for name, values in spread(outcomes).items()}}


@task(name="report", cache_policy=NO_CACHE)
def report(folder: Path) -> Path:
    """Write the page on the run."""
    from flows.report.encoder.build import build_encoder_report

    with wrap_errors(folder / "logs"):
        return build_encoder_report([folder], folder / "report" / "report.html")


def _gpus(config: EncoderConfig) -> tuple[int, int]:
    """Return how many GPUs the run holds, and how many it cannot do without: its seeds can share one, where its
    teacher needs all that it is spread over.
    """
    least = 1
    if config.labels != "gold" and config.teacher:
        least = max(1, config.teacher.engine.n_devices)
    return max(least, most_devices(len(config.seeds), config.at_once)), least
