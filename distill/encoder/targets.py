"""What a student is trained on: texts with gold labels, with a teacher's, or with both."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.config.sections.encoder import EncoderConfig
from distill.corpus.decontamination.decontaminate import BenchmarkIndex
from distill.corpus.normalize import normal_forms
from distill.corpus.text_arrays import text_array
from distill.encoder.data import SPLITS, Sentence
from distill.encoder.teacher import Unlabelled, read_labels
from distill.errors import InputError
from distill.run.hashing import content_id
from distill.run.records import BenchmarkText
from distill.run.row_counts import RowCounts
from distill.run.stage import Outcome
from distill.run.storage import json_text, read_lines, write_text

_MOST_BITS = 3
"""Of a simhash, in which a near copy of a text may differ."""


def unlabelled_texts(
    config: EncoderConfig, splits: Mapping[str, Sequence[Sentence]]
) -> tuple[list[Unlabelled], RowCounts]:
    """Return the texts of ``data.texts`` that may be trained on, and the account of those left out.

    Left out are blank lines, texts that stand in dev or test (by the rules of
    :mod:`distill.corpus.decontamination.decontaminate`), and those that stand in train or above.

    Raises:
        InputError: the file is missing, is not text, or nothing of it is left.
    """
    account = RowCounts("encoder/texts", "texts")
    if config.data.texts is None:
        return [], account
    path = Path(config.data.texts)
    lines = read_lines(path, "data.texts names a file with a text on each line.")
    index = BenchmarkIndex([BenchmarkText(one.text, "data", split) for split in ("dev", "test")
                            for one in splits[split]], _MOST_BITS)
    tested = index.find(text_array(lines)).rules >= 0
    seen = set(normal_forms(text_array([one.text for one in splits["train"]])).to_pylist())
    found, dropped = [], Counter[str]()
    for line, form, leaks in zip(lines, normal_forms(text_array(lines)).to_pylist(), tested.tolist(), strict=True):
        reason = ("blank" if not line.strip() else "in_dev_or_test" if leaks
                  else "duplicate" if form in seen else "")
        if reason:
            dropped[reason] += 1
            continue
        seen.add(form)
        found.append(Unlabelled(content_id("texts", line), line.strip(), None))
    if not found:
        raise InputError(f"Of the {len(lines):,} lines of {path} none is left ({dict(dropped)}): data.texts should "
                         "hold texts that are in no split, one on each line.")
    return found, RowCounts(account.stage, account.unit, len(lines), len(found), dropped)


def write_rows(path: Path, splits: Mapping[str, Sequence[Sentence]], targets: Sequence[Sequence[float]]) -> None:
    """Keep what all seeds are trained and measured on, so that each has the same, whatever becomes of its sources."""
    write_text(path, json_text({"targets": targets, **{
        split: [[one.id, one.text, one.label] for one in rows] for split, rows in splits.items()}}, path))


def read_rows(path: Path) -> tuple[dict[str, list[Sentence]], list[list[float]]]:
    """Return what :func:`write_rows` kept: sentences by split, and the targets of train."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    return {split: [Sentence(*row) for row in kept[split]] for split in SPLITS}, kept["targets"]


def training_rows(config: EncoderConfig, sentences: Sequence[Sentence], more: Sequence[Unlabelled],
                  labels: Outcome | None) -> tuple[list[Sentence], list[list[float]]]:
    """Return the sentences to train on and the probabilities of their classes; a row's label is its likeliest class.

    With ``gold``, all of it is on the gold label. With ``teacher``, it is the teacher's. With ``both``,
    ``teacher.weight`` of it is the teacher's, on texts that have a gold label, and all of it on others. Texts that the
    teacher has no label for keep their gold one with ``both``, and are left out with ``teacher``.

    Raises:
        InputError: nothing is left to train on; or triplets are asked for, and a class has no example.
    """
    classes = len(config.data.names)
    said = read_labels(labels.folder) if labels and config.labels != "gold" else {}
    rows, targets = [], []
    for one in [*sentences, *(Sentence(text.id, text.text, -1) for text in more)]:
        gold = [float(label == one.label) for label in range(classes)] if one.label >= 0 else None
        target = _mixed(config, gold, said.get(one.id))
        if target is not None:
            rows.append(Sentence(one.id, one.text, max(range(classes), key=target.__getitem__)))
            targets.append(target)
    if not rows:
        raise InputError("The teacher gave no text a label, so that there is nothing to train on. What it said instead "
                         "is counted in the run's labels/_done.json; try another teacher or teacher.verbalizer.")
    counts = Counter(row.label for row in rows)
    missing = [f"{label} ({name})" for label, name in enumerate(config.data.names) if not counts[label]]
    if config.triplet and missing:
        raise InputError(f"The teacher labelled no text as {', '.join(missing)}, so that there are no triplets with "
                         "it. Take triplet out, set teacher.calibrate, or train on both labels.")
    return rows, targets


def _mixed(config: EncoderConfig, gold: list[float] | None, said: list[float] | None) -> list[float] | None:
    if config.labels == "gold" or (config.labels == "both" and said is None):
        return gold
    if config.labels == "teacher" or gold is None:
        return said
    assert config.teacher is not None and said is not None
    share = config.teacher.weight
    return [(1 - share) * right + share * theirs for right, theirs in zip(gold, said, strict=True)]
