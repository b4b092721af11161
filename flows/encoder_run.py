"""A run of an encoder student: its config, its folder, the training in it. Shared by the command and the flow."""

from collections.abc import Sequence
from pathlib import Path

from distill.config.load import load_config, save_config
from distill.config.sections.encoder import RUN_FILE, EncoderConfig
from distill.encoder.stage import train_encoder
from distill.errors import InputError
from distill.run.row_counts import write_row_counts
from distill.run.stage import OnChange, Outcome
from flows.run import CONFIG, find_config, held


def load_encoder_config(name: str, overrides: Sequence[str]) -> EncoderConfig:
    """Return an encoder config given as a file, or as the name of one that ships."""
    return load_config(find_encoder_config(name), overrides, EncoderConfig)


def find_encoder_config(name: str) -> Path:
    """Return the path of an encoder config given as a file, or as the name of one that ships.

    Raises:
        InputError: there is neither.
    """
    return find_config(name, "encoder config", "configs/encoder")


def train_run(config: EncoderConfig, folder: Path, on_change: OnChange) -> list[Outcome]:
    """Train what the config says and is not trained yet; keep the config and the account of rows in the folder.

    Raises:
        InputError, RunError: as :func:`distill.encoder.stage.train_encoder`; or the folder is
            another process's, or holds a run of the pipeline.
    """
    if (folder / CONFIG).exists():
        raise InputError(f"{folder} holds a run of the pipeline. Choose another name for this one with --run.")
    with held(folder):
        # Both, so that a run that is killed can be looked at, and with the seeds that it has yet to train.
        if not (folder / RUN_FILE).exists():
            save_config(config, folder / RUN_FILE)
        outcomes = train_encoder(config, folder, on_change, begins=lambda: save_config(config, folder / RUN_FILE))
        write_row_counts(folder)
    return outcomes
