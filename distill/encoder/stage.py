"""An encoder student as a stage of a run: one model a seed, each done once. Needs no torch itself."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from distill.config.sections.base import semantic_fields
from distill.config.sections.encoder import EncoderConfig
from distill.encoder.data import Sentence, load_sentences
from distill.encoder.run_labels import labels_of_run
from distill.encoder.targets import hold_out, training_rows, unlabelled_texts, write_rows
from distill.encoder.teacher import FILE, Unlabelled, label_texts, read_labels
from distill.errors import InputError
from distill.models import model_fingerprint, resolve_model
from distill.resources import shipped
from distill.run.hashing import file_digest, fingerprint
from distill.run.markers import is_finished, read_done
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, changed_message, changes, run_stage
from distill.run.storage import write_json
from distill.runtime.parallel import DeviceSlot, run_parallel, slots_for
from distill.runtime.process import call_in_process

RESULT = "result.json"
_PLACES = ("name", "runs_dir", "seeds")
VERSION = 5
"""Raised when models are trained in another way."""


def train_encoder(config: EncoderConfig, run: Path, on_change: OnChange = "stop",
                  begins: Callable[[], None] = lambda: None) -> list[Outcome]:
    """Train one classifier a seed into ``run/models/seed<seed>``, beside it ``result.json``: curve, scores, confusion.

    ``begins`` is called before the first is trained, when nothing that is there stands against it.

    Raises:
        InputError: data, teacher or backbone cannot be used, or other settings made what is there.
        RunError: training failed.
    """
    sentences = load_sentences(config.data)
    backbone = resolve_model(config.backbone.name, config.backbone.revision, pickled=True)
    if config.labels != "gold":  # a teacher may work for hours
        call_in_process("distill.encoder.training:refuse_backbone", {
            "config": config.model_dump(mode="json"), "backbone": str(backbone)}, run / "error.log")
    given, labels = _labelled(config, sentences, run, on_change)
    n_given = len(given) + (0 if config.from_run and config.labels == "teacher" else len(sentences["train"]))
    labelled, targets = training_rows(config, sentences["train"], given, labels)
    n_gold = len(sentences["test"])
    if config.data.path:
        sentences["train"] = labelled
    else:
        sentences, targets = hold_out(config, labelled, targets, sentences["test"])
    inputs = {
        **_settings(config), "backbone": model_fingerprint(backbone, pickled=True),
        "data": {"names": config.data.names, **{
            split: fingerprint([[one.id, one.label, one.text] for one in some]) for split, some in sentences.items()}},
        "labelled": labels and file_digest(labels.folder / FILE)}
    _refuse_changes(run, config.seeds, inputs, on_change)
    begins()
    rows = run / "rows.json"
    write_rows(rows, sentences, targets)

    def one(seed: int, slot: DeviceSlot) -> Outcome:
        def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
            result = slot.call("distill.encoder.training:train", {
                "config": config.model_dump(mode="json"), "backbone": str(backbone), "out": str(folder), "seed": seed,
                "rows": str(rows.resolve()), "threads": slot.threads, "bar": slot.number}, folder / "error.log")
            write_json(folder / RESULT, {**result, "config": config.model_dump(mode="json"),
                                         "gold": {"dev": bool(config.data.path), "test": n_gold > 0}})
            trained = result["counts"]["train"]
            held = {f"held_out_{split}": len(sentences[split]) for split in ("dev", *(() if n_gold else ("test",)))}
            held["near_copy_of_held_out"] = len(labelled) - len(sentences["train"]) - sum(held.values())
            dropped = Counter({"no_label": n_given - len(labelled), **({} if config.data.path else held)})
            return [RowCounts(f"encoder/seed{seed}", "rows", n_given, trained, +dropped)], {
                "test": result["test"], "dev": result["dev"], "best_epoch": result["best_epoch"], "cut": result["cut"]}

        return run_stage(model_folder(run, seed), {**inputs, "seed": seed}, work, on_change, explained=False)

    left = [seed for seed in config.seeds if not _stands(model_folder(run, seed), {**inputs, "seed": seed}, on_change)]
    with slots_for(len(left), config.at_once) as slots:
        return run_parallel(one, config.seeds, slots)


def model_folder(run: Path, seed: int) -> Path:
    """Return where the model of a seed is."""
    return run / "models" / f"seed{seed}"


def refuse_mixtures(folders: Sequence[Path]) -> None:
    """Refuse finished models whose settings differ by more than the seed: their mean would say nothing.

    Raises:
        InputError: some do; the message names two, and what differs.
    """
    made = [_but_seed(read_done(folder)["inputs"]) for folder in folders]
    for folder, one in zip(folders, made, strict=True):
        if found := changes(made[0], one):
            raise InputError(f"{folder} was trained with other settings than {folders[0]} ({'; '.join(found[:3])}), so "
                             "that they must not be averaged. 'distill encoder train' with --discard trains those anew "
                             "that differ from its config.")


def _refuse_changes(run: Path, seeds: Sequence[int], inputs: dict[str, Any], on_change: OnChange) -> None:
    """Refuse to go on over models of other settings, and to keep some beside those that will be made with these."""
    if on_change == "discard":
        return
    done = {seed: model_folder(run, seed) for seed in seeds if is_finished(model_folder(run, seed))}
    for seed, folder in done.items():
        marker, now = read_done(folder), {**inputs, "seed": seed}
        known = {marker["fingerprint"], marker.get("kept", {}).get("fingerprint")}
        if on_change == "stop" and fingerprint(now) not in known:
            raise InputError(changed_message(folder, marker["inputs"], now, explained=False))
    refuse_mixtures(list(done.values()))
    if done and len(done) < len(seeds):
        folder = next(iter(done.values()))  # all are alike
        if found := changes(_but_seed(read_done(folder)["inputs"]), inputs):
            raise InputError(f"{folder} was trained with other settings than the seeds that are still to be trained "
                             f"would be ({'; '.join(found[:3])}), so that they must not be averaged. Use --discard to "
                             "train all anew, or --run NAME for a new run.")


def _stands(folder: Path, inputs: dict[str, Any], on_change: OnChange) -> bool:
    """Say whether a finished model will be left as it is, so that no device is needed for it."""
    return is_finished(folder) and (on_change != "discard" or _fits(folder, inputs))


def _fits(folder: Path, inputs: dict[str, Any]) -> bool:
    try:
        marker = read_done(folder)
    except InputError:
        return False
    return fingerprint(inputs) in {marker["fingerprint"], marker.get("kept", {}).get("fingerprint")}


def _but_seed(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key != "seed"}


def _settings(config: EncoderConfig) -> dict[str, Any]:
    """Return what of a config decides the models, with the texts it refers to."""
    left_out = (*_PLACES, "data", "from_run", *(("teacher",) if config.labels == "gold" else ()))
    prompt = file_digest(shipped("prompts/encoder.yaml")) if config.prompt else None
    return {"version": VERSION, "prompt_text": prompt,
            **{key: value for key, value in semantic_fields(config).items() if key not in left_out}}


def _labelled(config: EncoderConfig, sentences: dict[str, list[Sentence]], run: Path, on_change: OnChange
              ) -> tuple[list[Unlabelled], Outcome | None]:
    """Return the texts without gold labels, and the teacher's labels of these and of train, where they are wanted.

    Raises:
        InputError: labels of other texts were kept.
    """
    if config.labels == "gold":
        return [], None
    if config.from_run:
        return labels_of_run(config.from_run, config.data.names, sentences, run, on_change)
    assert config.teacher is not None
    more, account = unlabelled_texts(config, sentences)
    texts = [*(Unlabelled(one.id, one.text, one.label) for one in sentences["train"]), *more]
    before = [account] if config.data.texts else []
    done = label_texts(config.teacher, config.data.names, sentences["train"], texts, run, before, on_change)
    if not set(read_labels(done.folder)) <= {text.id for text in texts} or done.row_counts[-1].n_in != len(texts):
        raise InputError(f"{done.folder} holds labels of other texts than those of the data, and they were to be kept. "
                         "Use --discard to have the teacher label these, or --run NAME for a new run.")
    return more, done


def spread(outcomes: list[Outcome]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation over seeds (0 of one) of the test scores."""
    return {name: mean_and_deviation([outcome.details["test"][name] for outcome in outcomes])
            for name in ("accuracy", "macro_f1")}


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Return the mean of a sample and its standard deviation, 0 of one value."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0
