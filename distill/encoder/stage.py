"""An encoder student as a stage of a run: one model a seed, each done once. Needs no torch itself."""

from collections import Counter
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

from distill.abreast import Seat, run_abreast, seats_for
from distill.config.sections.base import decisive
from distill.config.sections.encoder import EncoderConfig
from distill.encoder.data import Sentence, load_sentences
from distill.encoder.targets import unlabelled_texts
from distill.encoder.teacher import Unlabelled, label_texts
from distill.hashing import fingerprint
from distill.ledger import Ledger
from distill.models import model_fingerprint, resolve_model
from distill.stage import OnChange, Outcome, run_stage
from distill.storage import write_json

RESULT = "result.json"
_PLACES = ("name", "runs_dir", "seeds")
VERSION = 2
"""Raised when models are trained in another way."""


def train_encoder(config: EncoderConfig, run: Path, on_change: OnChange = "stop") -> list[Outcome]:
    """Train one classifier a seed into ``run/models/seed<seed>``, beside it ``result.json``: curve, scores, confusion.

    Raises:
        InputError: data or backbone cannot be used, or other settings made what is there.
        RunError: training failed.
    """
    sentences = load_sentences(config.data)
    more, texts = unlabelled_texts(config, sentences)
    labels = None if config.labels == "gold" else _teacher_labels(
        config, sentences["train"], more, texts, run, on_change)
    backbone = resolve_model(config.backbone.name, config.backbone.revision)
    left_out = (*_PLACES, *(("teacher",) if labels is None else ()))
    settings = {key: value for key, value in decisive(config).items() if key not in left_out}
    inputs = {"version": VERSION, **settings, "backbone": model_fingerprint(backbone),
              "data": {"names": config.data.names, **{
                  split: fingerprint([[one.label, one.text] for one in some]) for split, some in sentences.items()}},
              "labelled": labels and labels.fingerprint}

    def one(seed: int, seat: Seat) -> Outcome:
        def work(folder: Path) -> tuple[list[Ledger], dict[str, Any]]:
            result = seat.call("distill.encoder.training:train", {
                "config": config.model_dump(mode="json"), "backbone": str(backbone), "out": str(folder), "seed": seed,
                "labels": labels and str(labels.folder), "threads": seat.threads, "bar": seat.number,
            }, folder / "error.log")
            write_json(folder / RESULT, result)
            rows, given = result["counts"]["train"], len(sentences["train"]) + len(more)
            ledger = Ledger(f"encoder/seed{seed}", "rows", given, rows,
                            Counter({"no_label": given - rows} if given > rows else {}))
            return [ledger], {"test": result["test"], "dev": result["dev"], "best_epoch": result["best_epoch"],
                              "cut": result["cut"]}

        return run_stage(run / "models" / f"seed{seed}", {**inputs, "seed": seed}, work, on_change)

    return run_abreast(one, config.seeds, seats_for(len(config.seeds), config.at_once))


def _teacher_labels(config: EncoderConfig, sentences: list[Sentence], more: list[Unlabelled], account: Ledger,
                    run: Path, on_change: OnChange) -> Outcome:
    assert config.teacher is not None
    texts = [*(Unlabelled(one.id, one.text, one.label) for one in sentences), *more]
    before = [account] if config.data.texts else []
    return label_texts(config.teacher, config.data.names, sentences, texts, run, before, on_change)


def spread(outcomes: list[Outcome]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation over seeds of the test scores."""
    return {name: (mean(values), pstdev(values)) for name in ("accuracy", "macro_f1")
            if (values := [outcome.details["test"][name] for outcome in outcomes])}
