"""A run: its config and its folder; how it is opened, named and found again."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar, get_args

from distill.config.load import load_config, read_yaml, save_config, validate
from distill.config.schema import Config, Corpus, Rows, Teacher
from distill.config.sections.base import semantic_fields
from distill.config.sections.encoder import RUN_FILE, EncoderConfig
from distill.errors import InputError
from distill.plugins import code_may_be_gone
from distill.run.folder import check_mark, check_path, claim, folder_named, refuse_links
from distill.run.markers import MARKER
from distill.run.stage import OnChange, changed_message
from distill.run.storage import run_lock

CONFIG = "config.yaml"
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One run: the resolved config, the folder everything is written to, and what to do with changed work.

    With ``retry_failed``, prompts that the teacher failed at are asked again.
    """

    config: Config
    folder: Path
    on_change: OnChange = "stop"
    retry_failed: bool = False

    @property
    def corpus(self) -> Corpus:
        """The config's part of this name. Raises InputError where there is none."""
        return _given(self.config.corpus, "corpus")

    @property
    def teacher(self) -> Teacher:
        """The config's part of this name. Raises InputError where there is none."""
        return _given(self.config.teacher, "teacher")

    @property
    def rows(self) -> Rows:
        """The config's part of this name. Raises InputError where there is none."""
        return _given(self.config.rows, "rows")


def _given(part: T | None, name: str) -> T:
    if part is None:
        raise InputError(f"The config has no '{name}', which this step needs. Add it, or leave the step out.")
    return part


def find_run(run: str, runs_dir: str = "runs") -> Path:
    """Return the folder of a run given as a name under ``runs_dir`` or as a path.

    Raises:
        InputError: there is no such run, it bears no mark of ours, or it is one of an encoder student.
    """
    if found := look_for_run(run, runs_dir):
        return found
    known = sorted(path.parent.name for path in Path(runs_dir).glob(f"*/{CONFIG}"))
    listed = f"Runs in {runs_dir}/: {', '.join(known)}." if known else f"There are no runs in {runs_dir}/ yet."
    raise InputError(f"There is no run '{run}', as a path or as a name under {runs_dir}/. {listed}")


def look_for_run(run: str, runs_dir: str = "runs") -> Path | None:
    """Return as :func:`find_run`, but None where there is no such run. Raises as that for all else."""
    path = check_path(run, "RUN")
    for folder in (*([] if "/" in run else [Path(runs_dir) / run]), path if path.name else path.resolve()):
        if (folder / CONFIG).is_file() or (folder / RUN_FILE).is_file():
            check_mark(folder)
            refuse_encoder_run(folder)
            return folder
    return None


def folder_of(config: Config | EncoderConfig, run: str | None) -> Path:
    """Return where a config's run is kept: ``run`` as a path where it has a slash, else a name under ``runs_dir``."""
    return folder_named(run, config.name, config.runs_dir)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make and mark a run's folder where there is none, and hold it against other processes.

    Raises:
        InputError: it is in use, or is none of ours (:mod:`distill.run.folder`).
    """
    claim(folder)
    refuse_links(folder)
    with run_lock(folder):
        yield


def refuse_encoder_run(folder: Path) -> None:
    """Refuse the folder of an encoder student where a run of the pipeline is meant.

    Raises:
        InputError: it is one.
    """
    if (folder / RUN_FILE).is_file():
        raise InputError(f"{folder} is a run of an encoder student, not of the pipeline. 'distill encoder train' goes "
                         "on with it, 'distill encoder evaluate' scores its models, 'distill encoder report' shows it; "
                         "another run needs a folder of its own (--run).")


def stored_config(folder: Path) -> Config:
    """Return the config a run was made with."""
    with code_may_be_gone():
        return validate(read_yaml(folder / CONFIG), str(folder / CONFIG))


def find_config(config: str, kind: str = "config", ours: str = "configs") -> Path:
    """Return the path of a config given as a file, or as the name of one that ships in the folder ``ours`` (``demo``).

    Raises:
        InputError: there is neither.
    """
    if os.path.isfile(config):  # as a path, it may be too long
        return Path(config)
    shipped = {path.stem: path for path in sorted((Path(str(files("flows"))) / ours).glob("*.yaml"))}
    name = Path(config).name.removesuffix(".yaml")
    if name in shipped and Path(config).parent in (Path(), Path("flows") / ours):
        return shipped[name]
    if os.path.exists(config):
        return Path(config)  # reading it says what is wrong with it
    raise InputError(f"There is no {kind} file {config}. Give the path of one, or the name of one that ships: "
                     f"{', '.join(shipped)}.")


@contextmanager
def open_run(
    config: str | None = None,
    run: str | None = None,
    overrides: Sequence[str] = (),
    on_change: OnChange = "stop",
    retry_failed: bool = False,
) -> Iterator[Run]:
    """Hold a run: a new one from a config file, or (without ``config``) the one that stands in folder ``run``.

    The folder is locked against other processes until the context ends.

    Raises:
        InputError: neither is given, either does not exist, the folder is none of ours, the run is in use, or its
            config has changed and ``on_change`` is ``stop``.
    """
    if config is None and run is None:
        raise InputError("Name a config to run, or a run to go on with.")
    if on_change not in get_args(OnChange):
        raise InputError(f"on_change is '{on_change}', but can only be one of: {', '.join(get_args(OnChange))}.")
    if config is None:
        folder = find_run(str(run))
        resolved = stored_config(folder)
        if overrides:
            resolved = load_config(folder / CONFIG, overrides, resolved=True)
    else:
        resolved = load_config(find_config(config), overrides)
        resolved.prompts.read_files()
        folder = folder_of(resolved, run)
    refuse_encoder_run(folder)
    with held(folder):
        _remember(resolved, folder, on_change)
        yield Run(resolved, folder, on_change, retry_failed)


def _finished_work(folder: Path) -> Iterator[Path]:
    """Yield what would be lost or wrongly reused under another config: markers of stages and of shards."""
    yield from folder.rglob(MARKER)
    yield from folder.glob("*/responses/*.json")


def _remember(config: Config, folder: Path, on_change: OnChange) -> None:
    path = folder / CONFIG
    if path.exists():
        stored = stored_config(folder)
        if stored == config:
            return
        if on_change == "stop" and any(_finished_work(folder)):
            with code_may_be_gone():
                before = semantic_fields(stored)
            if before != (now := semantic_fields(config)):
                raise InputError(changed_message(folder, before, now))
    save_config(config, path)
