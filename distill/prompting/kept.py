"""The prompt files as a run used them, kept with its prompts: later stages read answers by what was asked."""

from pathlib import Path
from typing import Any

from distill.config.prompt_files import general_prompts, icldist_prompts, knowdist_prompts
from distill.config.prompt_schema import IclDistPrompts, KnowDistPrompts
from distill.config.schema import Prompts
from distill.prompting.files import FOLDER
from distill.run.storage import read_object, write_json

FILE = "prompt_files.json"


def prompt_files(config: Prompts) -> dict[str, Any]:
    """Return all that the prompt files say, with those of the user, as JSON values.

    Raises:
        InputError: as :func:`distill.config.prompt_files.knowdist_prompts`.
    """
    files = {"knowdist": config.knowdist.prompts(), "icldist": config.icldist.prompts(), "general": general_prompts()}
    return {name: file.model_dump(mode="json") for name, file in files.items()}


def keep_prompt_files(folder: Path, config: Prompts) -> None:
    """Write the prompt files into the folder of a run's prompts."""
    write_json(folder / FILE, prompt_files(config))


def kept_knowdist(run: Path) -> KnowDistPrompts:
    """Return the KnowDist prompts of a run; those that ship where it kept none."""
    found = _kept(run, "knowdist")
    return KnowDistPrompts.model_validate(found) if found else knowdist_prompts()


def kept_icldist(run: Path) -> IclDistPrompts:
    """Return the ICLDist prompts of a run; those that ship where it kept none."""
    found = _kept(run, "icldist")
    return IclDistPrompts.model_validate(found) if found else icldist_prompts()


def _kept(run: Path, family: str) -> dict[str, Any]:
    path = run / FOLDER / FILE
    return read_object(path, knowdist=dict, icldist=dict)[family] if path.is_file() else {}
