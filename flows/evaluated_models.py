"""What is evaluated, and how: runs, models and endpoints by name; settings from a config."""

import datetime
import logging
from pathlib import Path

from pydantic import ValidationError

from distill.config.load import load_config
from distill.config.schema import Evaluate, OpenAIEngine
from distill.errors import InputError
from distill.run.folder import check_mark
from distill.run.markers import is_finished, read_done, require_whole
from distill.training.stages import MODELS
from flows.orchestration.logs import LOGGER
from flows.plan import trained_stages
from flows.report.history.evaluate import Subject
from flows.run import CONFIG, Run, find_config, look_for_run, stored_config

log = logging.getLogger(LOGGER)


def settings_for(config: str | None, overrides: list[str], runs_dir: Path) -> Evaluate:
    """Return how to evaluate: the part ``evaluate`` of a config, or of the newest finished run's.

    Raises:
        InputError: the config cannot be used, or there is no finished run to take it from.
    """
    path = find_config(config) if config else newest_run(runs_dir) / CONFIG
    return load_config(path, overrides, resolved=not config).evaluate


def newest_run(runs_dir: Path) -> Path:
    """Return the run folder whose final model was finished last.

    Raises:
        InputError: no run has a finished model.
    """
    finished: list[tuple[float, Path]] = []
    skipped: list[str] = []
    for run in sorted(path.parent for path in runs_dir.glob(f"*/{CONFIG}")):
        try:  # one that cannot be read stands in nobody's way
            check_mark(run)
            if is_finished(model := final_model(run)):
                finished.append((read_done(model)["finished_at"], run))
        except (InputError, OSError) as error:
            skipped.append(f"{run}: {error}")
            log.warning("%s is left out: %s", run, error)
    if not finished:
        more = f" Left out, because they cannot be read: {' '.join(skipped)}" if skipped else ""
        raise InputError(f"No run in {runs_dir}/ has a finished model. Run one to its end ('distill run CONFIG'), or "
                         f"name both the models to evaluate and the config whose settings are to be used.{more}")
    return max(finished)[1]


def newest(runs_dir: Path) -> Subject:
    """Return the newest finished model. Raises as :func:`newest_run`."""
    run = newest_run(runs_dir)
    require_final_model(run)
    return _of_run(run)


def subject_of(name: str, runs_dir: Path) -> Subject:
    """Return what a name stands for: an endpoint, a run, a model folder, a built-in or a Hub name.

    Raises:
        InputError: it stands for none of these, or the run has no finished model.
    """
    from distill.models import model_fingerprint, resolve_model

    if name.startswith(("http://", "https://")):
        return _of_endpoint(name)
    if folder := look_for_run(name, str(runs_dir)):
        require_final_model(folder)
        return _of_run(folder)
    model = resolve_model(name)
    return Subject(Path(name).name, name, model_fingerprint(model), model)


def require_final_model(run: Path) -> None:
    """Refuse a run whose last stage of training is not finished, or has lost files.

    Raises:
        InputError: it is such a one.
    """
    model = final_model(run)
    if not is_finished(model):
        raise InputError(f"The run {run} has no finished model yet. Go on with it first: distill resume {run.name}.")
    require_whole(model, f"distill resume {run.name}")


def final_model(run: Path) -> Path:
    """Return where a run's last stage of training leaves its model, finished or not."""
    return run / MODELS[trained_stages(Run(stored_config(run), run))[-1]]


def _of_run(run: Path) -> Subject:
    from distill.models import model_fingerprint

    model = final_model(run)
    measured = run / "sentibench" / "distilled"
    return Subject(run.name, str(run), model_fingerprint(model), model,
                   measured=measured if measured.is_dir() else None)


def _of_endpoint(address: str) -> Subject:
    base_url, _, model = address.partition("#")
    if "@" in base_url or "?" in base_url:
        raise InputError("An endpoint's address must hold no user and no password, nor parameters: it is kept in "
                         "results and logs. Put its key into the environment variable SENTIDISTILL_ENDPOINT_KEY.")
    try:
        endpoint = OpenAIEngine(base_urls=[base_url], model=model)
    except ValidationError as error:
        raise InputError(f"The endpoint '{address}' must be an address, and must name its model after a #, like "
                         "http://host:8000/v1#my-model.") from error
    day = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return Subject(model.split("/")[-1], address, f"{address} {day}", endpoint=endpoint)
