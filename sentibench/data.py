"""The released data: 12 folders of ``train.json``, ``val.json`` and ``test.json``, checked while they are read.

Lines of SST-5's layout are read in :mod:`sentibench.lines_data`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distill.config.task_lines import example_lines
from distill.corpus.readers.rows import is_unicode
from distill.errors import InputError
from distill.prompting.labels import python_list
from distill.prompting.tuples import tuples_text
from distill.resources import locate
from distill.run.hashing import content_id, file_digest, fingerprint
from distill.run.records import BenchmarkText
from distill.run.storage import read_json, read_text
from sentibench.gold import TUPLE_READERS, GoldError, Graph, Tuples, ssa_graphs
from sentibench.lines_data import lines_id, lines_path, lines_split, on_hub
from sentibench.registry import known_tasks, select_tasks
from sentibench.task import Task

SPLITS = ("train", "val", "test")
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Item:
    """One example of a data set.

    ``gold`` is a label in the prompt's spelling, or the tuples of the answer (of several labels, tuples of one);
    ``graphs`` are the gold opinions of structured sentiment analysis; ``target`` is empty where the task has none.
    ``form``: how tuples are written, as the authors do, or as labels or tuples are distilled.
    """

    id: str
    sentence: str
    target: str
    gold: str | Tuples
    graphs: tuple[Graph, ...] = ()

    form: Literal["tuples", "labels", "lists"] = "tuples"

    @property
    def label_text(self) -> str:
        """The gold answer as a demonstration shows it."""
        if isinstance(self.gold, str):
            return self.gold
        if self.form == "labels":
            return python_list([label for label, in self.gold])
        return tuples_text(self.gold) if self.form == "lists" else repr(list(self.gold))

    @property
    def tuples(self) -> Tuples:
        """The gold tuples: none where the answer is a label."""
        return () if isinstance(self.gold, str) else self.gold


def data_folder(data_dir: Path | str) -> Path:
    """Return the data folder; ``shipped:data/sentibench`` is the small authored one.

    Raises:
        InputError: there is no such folder.
    """
    if on_hub(data_dir):
        raise InputError(f"{data_dir} is a data set on the Hub, from which only sst5 can be read. The other tasks "
                         "need a folder in the layout of the released data.")
    folder = locate(str(data_dir))
    if not folder.is_dir():
        raise InputError(f"There is no data folder {folder}. SentiBench looks there for {_layout()}. Give the folder "
                         "that holds sc/, multifaced/ and absa/, as the authors released it.")
    return folder


def _layout() -> str:
    return "sc/imdb/test.json, multifaced/irony18/test.json, absa/opener/test.json and so on"


def split_path(task: Task, data_dir: Path | str, split: str) -> Path:
    """Return where a split of a task lies, whether or not it exists."""
    return data_folder(data_dir) / task.folder / f"{split}.json"


def has_split(task: Task, data_dir: Path | str, split: str) -> bool:
    """Say whether there is a file of this split. The released ATSA and ACSA data have no ``val.json``."""
    if task.file:
        return split in task.splits
    if task.layout == "lines":
        return on_hub(data_dir) or lines_path(task, data_dir, split).is_file()
    if on_hub(data_dir):
        return False
    return split_path(task, data_dir, split).is_file()


def tasks_here(data_dir: Path | str) -> list[str]:
    """Return the names of the tasks whose own folders lie in a data folder, whichever are asked for."""
    if on_hub(data_dir):
        return []
    folder = data_folder(data_dir)
    return [task.name for task in known_tasks().values()
            if (folder / task.folder / ("test.txt" if task.layout == "lines" else "test.json")).is_file()]


def load_split(task: Task, data_dir: Path | str, split: str) -> list[Item]:
    """Return the examples of one split in the order of its file.

    Raises:
        InputError: the file is missing, is not whole JSON, or an example is not as the task needs it; the
            message names file, example (counted from 0) and field.
    """
    if task.file:
        return _own_split(task, split)
    if task.layout == "lines":
        return [_item(task, {"sentence": one.text, "label": str(one.label)})
                for one in lines_split(task, data_dir, split)]
    path = split_path(task, data_dir, split)
    if not path.is_file():
        there = sorted(item.name for item in path.parent.iterdir()) if path.parent.is_dir() else []
        found = f"its folder holds {', '.join(there)}" if there else "its folder does not exist or is empty"
        raise InputError(f"The task '{task.name}' ({task.dataset}) needs the file {path}, which is missing ({found}). "
                         f"The data folder must have the layout of the released data ({_layout()}).")
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path} should hold a JSON list of examples, and holds "
                         f"{'an empty list' if rows == [] else type(rows).__name__}. Is it the right file?")
    items = []
    for number, row in enumerate(rows):
        try:
            items.append(_item(task, row))
        except GoldError as error:
            raise InputError(f"{path}, example {number} (counted from 0), cannot be used for the task '{task.name}': "
                             f"{error}. Mend or remove that example.") from error
    return items


def _own_split(task: Task, split: str) -> list[Item]:
    """Return the demonstrations of a user's own task (``train``), or its test examples, written as in distillation."""
    rows: Iterable[tuple[str, Any]] = task.shown
    if split != "train":
        lines = read_text(Path(task.file), MOST_BYTES, f"The task file {task.own} names it under 'test'.")
        rows = [(text, answer[0] if task.answer == "label" else answer)
                for _, text, answer in example_lines(task, task.file, lines)]
    items = []
    for sentence, answer in rows:
        gold = answer if isinstance(answer, str) else tuple(
            (one,) if isinstance(one, str) else tuple(one) for one in answer)
        items.append(Item(content_id(task.name, sentence, "", str(gold)), sentence, "", gold,
                          form="labels" if task.answer == "labels" else "lists"))
    if not items:
        raise InputError(f"{task.file} holds no test example. Add lines, or take the key 'test' out of {task.own}.")
    return items


def _item(task: Task, row: Any) -> Item:
    if not isinstance(row, dict):
        raise GoldError("it is not a JSON object")
    sentence = _text(row, "sentence")
    target = _text(row, "target") if task.target else ""
    gold: str | Tuples
    if task.gold == "label":
        gold = _label(task, row)
    else:
        gold = TUPLE_READERS[task.gold](row, task.labels)
    graphs = ssa_graphs(row, task.labels) if task.gold == "ssa" else ()
    parts = gold if isinstance(gold, str) else "".join(part for one in gold for part in one if isinstance(part, str))
    if not is_unicode(sentence + target + parts):
        raise GoldError("it holds half a character (a lone surrogate), which is no text")
    return Item(content_id(task.name, sentence, target, str(gold)), sentence, target, gold, graphs)


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        state = "is missing" if key not in row else f"is {value!r:.40}, not a text"
        raise GoldError(f"its field '{key}' {state}")
    return value


def _label(task: Task, row: dict[str, Any]) -> str:
    value = row.get("label")
    if not isinstance(value, str):
        raise GoldError(f"its field 'label' {'is missing' if 'label' not in row else f'is {value!r:.40}, not a text'}")
    label = task.label_map.get(value, value)
    if label not in task.labels:
        allowed = list(task.label_map or task.labels)
        raise GoldError(f"its label '{value:.80}' is not one of {allowed}")
    return label


def benchmark_texts(
    data_dir: Path | str, tasks: Sequence[str] | str = "all", splits: Sequence[str] = SPLITS
) -> Iterator[BenchmarkText]:
    """Yield every text an evaluation can use, test examples and demonstration pools: what a corpus must not hold.

    A ``val.json`` that is not there is passed over, as it is in the evaluation; and so are the demonstrations of a task
    of a user's own: teacher and student are shown these on purpose.

    Raises:
        InputError: as :func:`load_split`.
    """
    for task in select_tasks(tasks):
        for split in splits:
            if not (task.shown and split == "train") and (split != "val" or has_split(task, data_dir, split)):
                for item in load_split(task, data_dir, split):
                    yield BenchmarkText(item.sentence, task.name, split)


def data_id(data_dir: Path | str, tasks: Sequence[str] | str = "all") -> str:
    """Return a digest of the content of the tasks' files: the same data give the same, wherever they lie."""
    return fingerprint({
        **{f"{task.folder}/{split}": lines_id(task, data_dir, split) if task.layout == "lines" else
           file_digest(split_path(task, data_dir, split))
           for task in select_tasks(tasks) if not task.file for split in SPLITS if has_split(task, data_dir, split)},
        **{task.name: file_digest(Path(task.file)) for task in select_tasks(tasks) if task.file}})
