"""What a student is trained on: texts with gold labels, with a teacher's, or with both."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from distill.config.sections.encoder import EncoderConfig
from distill.corpus.decontamination.decontaminate import BenchmarkIndex
from distill.corpus.normalize import normal_forms
from distill.corpus.text_arrays import text_array
from distill.encoder.data import SPLITS, Sentence
from distill.encoder.teacher import Unlabelled, read_labels
from distill.encoder.texts import read_texts
from distill.errors import InputError
from distill.run.hashing import content_id, content_rank
from distill.run.records import BenchmarkText
from distill.run.row_counts import RowCounts
from distill.run.stage import Outcome
from distill.run.storage import json_text, write_text

EMPTY: Mapping[str, int] = MappingProxyType({})
_MOST_BITS = 3
"""Of a simhash, in which a near copy of a text may differ."""

log = logging.getLogger("sentidistill.encoder")


def unlabelled_texts(
    config: EncoderConfig, splits: Mapping[str, Sequence[Sentence]]
) -> tuple[list[Unlabelled], RowCounts]:
    """Return the texts of ``data.texts`` that may be trained on, and the account of those left out.

    Raises:
        InputError: a file is missing, is not text, or nothing of it is left.
    """
    if config.data.texts is None:
        return [], RowCounts("encoder/texts", "texts")
    lines, unread = read_texts(Path(config.data.texts), config.data.field)
    found, account = usable_texts(lines, splits, unread)
    if not found:
        raise InputError(f"Of the {account.n_in:,} lines of {config.data.texts} none is left "
                         f"({dict(account.dropped)}): data.texts should hold texts that are in no split, one on each "
                         "line.")
    return found, account


def usable_texts(lines: Sequence[str], splits: Mapping[str, Sequence[Sentence]], unread: Mapping[str, int] = EMPTY
                 ) -> tuple[list[Unlabelled], RowCounts]:
    """Return the texts that may be trained on, and the account of those left out, ``unread`` rows among them.

    Left out are blank lines, texts that stand in dev or test (by the rules of
    :mod:`distill.corpus.decontamination.decontaminate`), and those that stand in train or above.
    """
    known = [BenchmarkText(one.text, "data", split) for split in ("dev", "test") for one in splits[split]]
    tested = (BenchmarkIndex(known, _MOST_BITS).find(text_array(lines)).rules >= 0).tolist() if known else (
        [False] * len(lines))
    seen = set(normal_forms(text_array([one.text for one in splits["train"]])).to_pylist())
    found, dropped = [], Counter[str](unread)
    for line, form, leaks in zip(lines, normal_forms(text_array(lines)).to_pylist(), tested, strict=True):
        reason = ("blank" if not line.strip() else "in_dev_or_test" if leaks
                  else "duplicate" if form in seen else "")
        if reason:
            dropped[reason] += 1
            continue
        seen.add(form)
        found.append(Unlabelled(content_id("texts", line), line.strip(), None))
    return found, RowCounts("encoder/texts", "texts", len(lines) + sum(unread.values()), len(found), dropped)


def hold_out(config: EncoderConfig, rows: Sequence[Sentence], targets: Sequence[Sequence[float]],
             tested: Sequence[Sentence]) -> tuple[dict[str, list[Sentence]], list[list[float]]]:
    """Return rows without gold labels as train, dev and test, and the targets of train.

    A row's split is by a hash of its text; what is nearly the same as one held out is not trained on. ``tested``:
    sentences with gold labels, which are the test where there are any.

    Raises:
        InputError: there are too few; or triplets are asked for, and a class has no example.
    """
    ordered = sorted(range(len(rows)), key=lambda place: content_rank(0, "held out", rows[place].text))
    size = max(1, round(config.data.held_out * len(rows)))
    parts = {"dev": ordered[:size], "test": [] if tested else ordered[size:2 * size]}
    held = {place for some in parts.values() for place in some}
    known = [BenchmarkText(rows[place].text, "data", "held out") for place in held]
    leaks = BenchmarkIndex(known, _MOST_BITS).find(text_array([one.text for one in rows])).rules >= 0
    train = [place for place in range(len(rows)) if place not in held and not leaks[place]]
    if copies := len(rows) - len(held) - len(train):
        log.warning("%s texts are left out of training: near copies of them are held out.", f"{copies:,}")
    if not train or len(held) < size * (1 if tested else 2):
        raise InputError(f"Of {len(rows):,} texts with a label, {len(held):,} are held out, which leaves "
                         f"{len(train):,} to train on. Name more texts.")
    splits = {name: [rows[place] for place in some] for name, some in (("train", train), *parts.items())}
    _refuse_without_triplets(config, splits["train"])
    return {**splits, "test": list(tested) or splits["test"]}, [list(targets[place]) for place in train]


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
    _refuse_without_triplets(config, rows)
    return rows, targets


def _refuse_without_triplets(config: EncoderConfig, rows: Sequence[Sentence]) -> None:
    counts = Counter(row.label for row in rows)
    missing = [f"{label} ({name})" for label, name in enumerate(config.data.names) if not counts[label]]
    if config.triplet and missing:
        raise InputError(f"The teacher labelled no text as {', '.join(missing)}, so that there are no triplets with "
                         "it. Take triplet out, set teacher.calibrate, or train on both labels.")


def _mixed(config: EncoderConfig, gold: list[float] | None, said: list[float] | None) -> list[float] | None:
    if config.labels == "gold" or (config.labels == "both" and said is None):
        return gold
    if config.labels == "teacher" or gold is None:
        return said
    assert said is not None
    share = config.teacher.weight if config.teacher else 1.0
    return [(1 - share) * right + share * theirs for right, theirs in zip(gold, said, strict=True)]
