"""A run of an encoder student: its config, its folder, the training in it. Shared by the command and the flow."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from distill.config.load import load_config, save_config
from distill.config.sections.encoder import EncoderConfig
from distill.encoder.stage import train_encoder
from distill.errors import InputError
from distill.ledger import write_run_ledger
from distill.stage import OnChange, Outcome
from distill.storage import run_lock
from flows.run import CONFIG

FOLDER = "configs/encoder"


def load_encoder_config(name: str, overrides: Sequence[str]) -> EncoderConfig:
    """Return an encoder config given as a file, or as the name of one that ships."""
    return load_config(find_encoder_config(name), overrides, EncoderConfig)


def find_encoder_config(name: str) -> Path:
    """Return the path of an encoder config given as a file, or as the name of one that ships.

    Raises:
        InputError: there is neither.
    """
    if Path(name).exists():
        return Path(name)
    shipped = {path.stem: path for path in sorted((Path(str(files("flows"))) / FOLDER).glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    raise InputError(f"There is no encoder config {name}. Give the path of one, or the name of one that ships: "
                     f"{', '.join(shipped)}.")


def encoder_folder(config: EncoderConfig, run: str | None) -> Path:
    """Return the folder of a run."""
    return Path(config.runs_dir) / (run or config.name)


def train_run(config: EncoderConfig, folder: Path, on_change: OnChange) -> list[Outcome]:
    """Train what the config says and is not trained yet; keep the config and the account of rows in the folder.

    Raises:
        InputError, RunError: as :func:`distill.encoder.stage.train_encoder`; or another process holds the folder.
    """
    with run_lock(folder):
        if not (folder / CONFIG).exists():
            save_config(config, folder / CONFIG)  # so that a run that is killed can be looked at
        outcomes = train_encoder(config, folder, on_change)
        save_config(config, folder / CONFIG)
        write_run_ledger(folder)
    return outcomes
