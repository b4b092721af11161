"""Labels of a run: the distributions over labels that its teacher gave, as probabilities of an encoder's classes."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from distill.config.sections.base import semantic_fields
from distill.config.sections.encoder import RunLabels, words_by_class
from distill.encoder.data import Sentence
from distill.encoder.targets import usable_texts
from distill.encoder.teacher import FOLDER, Unlabelled, write_labels
from distill.errors import InputError
from distill.generation.batch_calibration import BatchCalibration
from distill.generation.label_logprobs import LABELS, labels_digest, read_label_logprobs
from distill.generation.status import RESPONSES
from distill.run.folder import check_mark
from distill.run.hashing import file_digest
from distill.run.records import LabelLogprobs, Text, read_columns, read_records
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage

_STAGE = "icldist"
OTHER_LABELS = "other_labels"
"""Why a distribution is left out: a label of its list means no class, or a class has none of them."""


def labels_of_run(config: RunLabels, names: Sequence[str], splits: Mapping[str, Sequence[Sentence]], run: Path,
                  on_change: OnChange = "stop") -> tuple[list[Unlabelled], Outcome]:
    """Return the texts of a run that have a distribution, and write the probabilities as a teacher's are written.

    The probability of a class is that of all labels that mean it, given that the answer is one of the list; of the
    prompts on one text, it is the mean. Texts are left out by the rules of
    :func:`distill.encoder.targets.usable_texts`.

    Raises:
        InputError: there is no such run, it keeps no distributions for this task, or none has labels that the
            verbalizer knows.
    """
    source = Path(config.run)
    prompts = _prompts(source, config.task)
    found, account = _by_text(config, names, source, prompts)
    lines = {record.id: record.text.strip() for record in read_records(source / "corpus" / "texts.parquet", Text)
             if record.id in found}
    texts, used = usable_texts([lines[key] for key in found if key in lines], splits)
    shares = {lines[key]: value for key, value in found.items() if key in lines}
    if not texts:
        raise InputError(f"No text of {source} is left to learn from: {_reasons(account, used)}.")

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        details = write_labels(folder, names, [(text, shares[text.text]) for text in texts])
        return [account, used, RowCounts("encoder/labels", "texts", len(texts), len(texts))], details

    inputs = {"from_run": {key: value for key, value in semantic_fields(config).items() if key != "run"},
              "names": list(names), "label_logprobs": labels_digest(source / _STAGE / RESPONSES),
              "prompts": file_digest(source / "prompts" / f"{_STAGE}.parquet"), "texts": [text.id for text in texts]}
    return texts, run_stage(run / FOLDER, inputs, work, on_change, explained=False)


def _prompts(source: Path, task: str) -> dict[str, tuple[str, str]]:
    """Return the text's id and the kind of each prompt of a task, by the prompt's id."""
    responses = source / _STAGE / RESPONSES
    if not source.is_dir() or not (source / "prompts" / f"{_STAGE}.parquet").is_file():
        raise InputError(f"{source} is no run whose teacher has answered prompts by labels. Name its folder, such as "
                         "runs/demo, in from_run.run.")
    check_mark(source)
    if not LABELS.captured(responses):
        raise InputError(f"{source} keeps no distributions over labels beside its answers. 'distill generate {source} "
                         "--logprobs' gives them to answers that are there.")
    table = read_columns(source / "prompts" / f"{_STAGE}.parquet", ("id", "text_id", "kind", "family"))
    table = table.filter(pc.equal(table["family"], _STAGE))
    kinds = pc.unique(table["kind"]).to_pylist()
    wanted = [kind for kind in kinds if kind.split("/")[0] == task]
    if not wanted:
        raise InputError(f"{source} has no prompts of the task '{task}' (from_run.task), but of: "
                         f"{', '.join(sorted({kind.split('/')[0] for kind in kinds})) or 'none'}.")
    return {row["id"]: (row["text_id"], row["kind"]) for row in table.to_pylist() if row["kind"] in wanted}


def _by_text(config: RunLabels, names: Sequence[str], source: Path, prompts: Mapping[str, tuple[str, str]]
             ) -> tuple[dict[str, list[float]], RowCounts]:
    """Return the probabilities of the classes by id of the text, and the account of the prompts' distributions."""
    classes = {word: place for place, words in enumerate(words_by_class(config.verbalizer, list(names)))
               for word in words}

    def usable() -> Iterator[LabelLogprobs]:
        for shard in read_label_logprobs(source / _STAGE / RESPONSES):
            yield from (item for item in shard if item.prompt_id in prompts
                        and {classes.get(label, -1) for label in item.labels} == set(range(len(names))))

    calibration = BatchCalibration()
    if config.calibrate:
        for item in usable():
            calibration.add((prompts[item.prompt_id][1], tuple(item.labels)), item.logprobs)
    of_text: defaultdict[str, list[list[float]]] = defaultdict(list)
    n_used = 0
    for item in usable():
        text_id, kind = prompts[item.prompt_id]
        logprobs = calibration.calibrated((kind, tuple(item.labels)), item.logprobs)
        shares = [0.0] * len(names)
        for label, logprob in zip(item.labels, logprobs, strict=True):
            shares[classes[label]] += math.exp(logprob)
        of_text[text_id].append(shares)
        n_used += 1
    told, lists = 0, Counter[tuple[str, ...]]()
    for shard in read_label_logprobs(source / _STAGE / RESPONSES):
        mine = [item for item in shard if item.prompt_id in prompts]
        told += len(mine)
        lists.update(tuple(item.labels) for item in mine)
    if not n_used:
        shown = "; ".join(", ".join(labels) for labels, _ in lists.most_common(4))
        raise InputError(f"No distribution of the task '{config.task}' in {source} is over labels that mean all the "
                         f"classes {', '.join(names)} and nothing else (there are: {shown or 'none'}). Say in "
                         "from_run.verbalizer which labels mean each class, in the order of data.names.")
    dropped = Counter({"no_distribution": len(prompts) - told, OTHER_LABELS: told - n_used})
    return {key: [sum(column) / len(rows) for column in zip(*rows, strict=True)] for key, rows in of_text.items()}, (
        RowCounts("encoder/distributions", "prompts", len(prompts), n_used, +dropped))


def _reasons(*accounts: RowCounts) -> str:
    return ", ".join(f"{count:,} {reason}" for account in accounts for reason, count in account.dropped.items())
