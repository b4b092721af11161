"""Labels of a teacher: each text put to it as an ICLDist sentiment prompt (Table 11), its answer as probabilities.

The prompt is the paper's, with the classes of the data (or words for them) as its list of labels. Demonstrations are a
few sentences with gold labels, drawn anew for each text, never the text itself. Where the engine scores labels, the
probabilities are those of the labels given the prompt; else the answer is read and has all of the probability.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config.prompt_files import icldist_prompts
from distill.config.sections.base import semantic_fields
from distill.config.sections.encoder import TeacherLabels, words_by_class
from distill.encoder.data import Sentence
from distill.encoder.labelling import ask
from distill.engines.client import Client
from distill.errors import RunError
from distill.generation.batch_calibration import BatchCalibration
from distill.generation.validity import too_many
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.models.weights import weights_of
from distill.parsing.labels import UNREADABLE
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.parsing.reasoning import TRUNCATED
from distill.prompting.few_shot import LabelPrompt
from distill.resources import default_cache
from distill.run.hashing import derived_rng, fingerprint, hash_order
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage
from distill.run.storage import json_text, write_json, write_text

FOLDER, FILE = "labels", "labels.jsonl"
_TASK = "sentiment"
_SEED = 0
_EXCERPT = 100


@dataclass(frozen=True)
class Unlabelled:
    """A text for the teacher; ``gold`` is its class where that is known, to say how often the teacher agrees."""

    id: str
    text: str
    gold: int | None


def words_of(config: TeacherLabels, names: Sequence[str]) -> list[list[str]]:
    """Return what the classes are called in the prompts, the words of each."""
    return words_by_class(config.verbalizer, list(names))


def demonstration_pool(config: TeacherLabels, sentences: Sequence[Sentence], classes: int) -> list[Sentence]:
    """Return the sentences with gold labels that the teacher may be shown: by hash, equally many of each class."""
    ordered = sorted(sentences, key=lambda one: (hash_order(_SEED, one.id, "teacher pool"), one.id))
    by_class = [[one for one in ordered if one.label == label] for label in range(classes)]
    share = -(-config.pool // classes)
    return [one for some in by_class for one in some[:share]]


def prompt_for(config: TeacherLabels, words: Sequence[Sequence[str]], pool: Sequence[Sentence], text: Unlabelled
               ) -> str:
    """Return one prompt: instruction, demonstrations, question. Nothing inside a text is interpreted.

    A demonstration is answered by the first of its class's ``words``.
    """
    others = [one for one in pool if one.text != text.text]
    rng = derived_rng(_SEED, text.id, "teacher demonstrations")
    shown = rng.sample(others, min(config.demonstrations, len(others)))
    return LabelPrompt(icldist_prompts(), _TASK, config.format, [*itertools.chain(*words)]).prompt(
        ((one.text, [words[one.label][0]]) for one in shown), text.text)


def label_texts(
    config: TeacherLabels, names: Sequence[str], sentences: Sequence[Sentence], texts: Sequence[Unlabelled], run: Path,
    before: Sequence[RowCounts] = (), on_change: OnChange = "stop",
) -> Outcome:
    """Have a teacher label texts, into ``run/labels/labels.jsonl``: a line a text, ``id`` and ``probabilities``.

    Each answer is kept as it comes, for every run that asks the same. Details of the outcome: how often the teacher
    agrees with gold labels, and how often it named each class. ``before``: accounts of how the texts were chosen.

    Raises:
        InputError: the teacher cannot be loaded.
        RunError: more of its answers than ``max_unusable`` name no label.
        ProcessDiedError: its process died, or it did not label some texts for reasons that may pass.
    """
    words = words_of(config, names)
    pool = demonstration_pool(config, sentences, len(names))
    prompts, labels = [prompt_for(config, words, pool, text) for text in texts], [*itertools.chain(*words)]
    weights = weights_of(config.model, config.engine)
    decides = {"model": weights.identity, "engine": semantic_fields(config.engine), "chat": config.chat_template,
               "tokenization": TOKENIZATION, "words": labels, "soft": config.soft, "max_tokens": config.max_tokens}

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        answers = ask(Client(weights, config.engine), config, prompts, labels,
                      default_cache() / "labels" / f"{fingerprint(decides)}.jsonl", folder / "error.log")
        write_json(folder / "prompts.json", prompts)
        write_json(folder / "answers.json", answers)
        account, details = _account(config, names, texts, answers, folder)
        _refuse_unreadable(config, account, answers)
        return [*before, account], details

    inputs = {"teacher": semantic_fields(config), "reader": PARSER_VERSION, "decides": decides,
              "prompts": fingerprint(prompts),
              "gold": fingerprint([[text.id, text.gold] for text in texts])}  # how often it agrees depends on them
    return run_stage(run / FOLDER, inputs, work, on_change, resumable=True, explained=False)


def read_labels(folder: Path) -> dict[str, list[float]]:
    """Return the probabilities of the classes by id of the text; texts without a label are not there."""
    with (folder / FILE).open(encoding="utf-8") as lines:
        return {row["id"]: row["probabilities"] for row in map(json.loads, lines)}


def _account(config: TeacherLabels, names: Sequence[str], texts: Sequence[Unlabelled],
             answers: Sequence[dict[str, Any]], folder: Path) -> tuple[RowCounts, dict[str, Any]]:
    """Write the labels, and say how many texts have none and why."""
    dropped: Counter[str] = Counter()
    found: list[tuple[Unlabelled, list[float]]] = []
    for text, answer in zip(texts, answers, strict=True):
        if "error" in answer:
            dropped[answer["error"]] += 1
        else:
            found.append((text, answer["probabilities"]))
    if config.calibrate and found:
        found = list(zip((text for text, _ in found), calibrated([shares for _, shares in found]), strict=True))
    words = words_of(config, names)
    details = write_labels(folder, names, [(text, by_class(words, shares)) for text, shares in found])
    return RowCounts("encoder/labels", "texts", len(texts), len(found), dropped), details


def by_class(words: Sequence[Sequence[str]], shares: Sequence[float]) -> list[float]:
    """Return the probabilities of the classes from those of all their words, which stand one class after another."""
    left = iter(shares)
    return [sum(itertools.islice(left, len(some))) for some in words]


def write_labels(folder: Path, names: Sequence[str], found: Sequence[tuple[Unlabelled, Sequence[float]]]
                 ) -> dict[str, Any]:
    """Write the probabilities of the classes of each text; return what is said of them all."""
    write_text(folder / FILE, "".join(json_text({
        "id": text.id, "text": text.text, "label": names[_likeliest(shares)],
        "probabilities": [round(share, 6) for share in shares]}, "A label") + "\n" for text, shares in found))
    known = [(text.gold, _likeliest(shares)) for text, shares in found if text.gold is not None]
    said = Counter(names[_likeliest(shares)] for _, shares in found)
    return {"agrees_with_gold": round(sum(gold == label for gold, label in known) / len(known), 4) if known else None,
            "n_with_gold": len(known), "said": {name: said[name] for name in names}}


def _refuse_unreadable(config: TeacherLabels, account: RowCounts, answers: Sequence[dict[str, Any]]) -> None:
    bad = {reason: account.dropped[reason] for reason in (UNREADABLE, TRUNCATED) if account.dropped.get(reason)}
    if not too_many(bad, account.n_in, config.max_unusable):
        return
    said = [repr(one["raw"][:_EXCERPT]) for one in answers if one.get("raw") and one.get("error") in bad][:3]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in bad.items())
    raise RunError(
        f"Of the teacher's {account.n_in:,} answers, {sum(bad.values()):,} name no label ({reasons}); at most "
        f"{config.max_unusable:.0%} may (teacher.max_unusable)."
        + (f" For example {', '.join(said)}." if said else "") + " Raise teacher.max_tokens for one that reasons "
        "first, see whether its chat template fits (teacher.chat_template), or take a more capable one. Its answers "
        "are kept; with teacher.max_unusable=1 the same command goes on as it is.")


def calibrated(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return probabilities divided by their mean over all texts, each row summing to 1 again.

    So a label that the model likes whatever the text says counts for less
    (:mod:`distill.generation.batch_calibration`).
    """
    logprobs = [[math.log(share) if share else -math.inf for share in row] for row in rows]
    calibration = BatchCalibration()
    for row in logprobs:
        calibration.add(None, row)
    return [[math.exp(value) for value in calibration.calibrated(None, row)] for row in logprobs]


def _likeliest(shares: Sequence[float]) -> int:
    return max(range(len(shares)), key=shares.__getitem__)
