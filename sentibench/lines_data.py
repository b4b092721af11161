"""SST-5's layout: ``train.txt``, ``dev.txt``, ``test.txt`` with a label and a text a line, or a data set on the Hub."""

from pathlib import Path

from distill.config.sections.encoder import EncoderData
from distill.encoder.data import HUB, Sentence, read_split
from distill.errors import InputError
from distill.resources import locate
from distill.run.hashing import fingerprint
from sentibench.task import Task

_FILES = {"train": "train", "val": "dev", "test": "test"}


def on_hub(data_dir: Path | str) -> bool:
    """Say whether a data folder is none, but the name of a data set on the Hub."""
    return str(data_dir).startswith(HUB)


def lines_path(task: Task, data_dir: Path | str, split: str) -> Path:
    """Return where a split lies: in the task's folder of the data folder, or in the data folder itself."""
    folder = locate(str(data_dir))
    inside = folder / task.folder
    return (inside if inside.is_dir() else folder) / f"{_FILES[split]}.txt"


def lines_split(task: Task, data_dir: Path | str, split: str) -> list[Sentence]:
    """Return the sentences of a split.

    Raises:
        InputError: it is missing, or holds a line that is no label and text.
    """
    if on_hub(data_dir):
        return read_split(_data(task, str(data_dir)), _FILES[split])
    path = lines_path(task, data_dir, split)
    if not path.is_file():
        raise InputError(f"The task '{task.name}' ({task.dataset}) needs the file {path}, which is missing. Give the "
                         f"folder that holds train.txt, dev.txt and test.txt, or one in which that folder is called "
                         f"{task.folder}; or hub:SetFit/sst5.")
    return read_split(_data(task, str(path.parent)), _FILES[split])


def lines_id(task: Task, data_dir: Path | str, split: str) -> str:
    """Return a digest of a split's content, wherever it lies."""
    return fingerprint([[one.label, one.text] for one in lines_split(task, data_dir, split)])


def _data(task: Task, path: str) -> EncoderData:
    return EncoderData(path=path, names=list(task.labels))
