"""The training of an encoder student, called in a process of its own by :mod:`distill.encoder.stage`.

First the head alone, on embeddings that are computed once; then head and backbone together, in one optimiser whose
state goes on.
"""

import copy
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from distill.config.sections.encoder import EncoderConfig
from distill.encoder.batches import Encoded, computing, encode
from distill.encoder.data import SPLITS, Sentence, load_sentences
from distill.encoder.embeddings import embed, frozen_embeddings, logits_of
from distill.encoder.model import Classifier, load_backbone, most_tokens, save_classifier, task_prompt
from distill.encoder.projection import in_two_dimensions
from distill.encoder.scores import confusion, scores
from distill.encoder.targets import read_rows, training_rows
from distill.encoder.triplets import Triplets, triplet_loss
from distill.encoder.unfreezing import layer_count, layers_of, trained_layers, unfreeze
from distill.errors import RunError
from distill.models import load_tokenizer, model_fingerprint
from distill.runtime import devices
from distill.training.arguments import in_bfloat16
from distill.training.callbacks import Progress
from distill.training.sampling import Arrangement, EpochSampler
from distill.training.worker import prepare_environment

_WINDOW_ROWS = 512  # of SST-5 in batches of 32, 8% is then padding; with 128 rows it is 23%


@dataclass
class Job:
    """One training: a config, a seed, the line of its progress bar, the texts, and the model as it is.

    ``targets``: the probabilities of the classes (train rows × classes); ``texts``: token ids.
    """

    config: EncoderConfig
    seed: int
    bar: int
    sentences: dict[str, list[Sentence]]
    targets: torch.Tensor
    texts: dict[str, Encoded]
    model: Classifier
    bfloat16: bool
    layers: int
    out: Path
    embeddings: dict[str, torch.Tensor] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def labels(self, split: str) -> list[int]:
        """Return the gold classes of a split."""
        return [sentence.label for sentence in self.sentences[split]]


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Train one classifier and write its folder; return its curve and scores as JSON values.

    ``spec``: ``config``, ``backbone`` (folder), ``out``, ``seed``; ``rows``, the file of sentences that
    :func:`distill.encoder.targets.write_rows` wrote (else they are read from the data); ``threads`` of the processor
    and the progress bar's line, ``bar``, where several are trained at once.

    Raises:
        InputError: data or backbone cannot be used.
        RunError: the loss became no number.
    """
    prepare_environment()
    started = time.monotonic()
    config, folder = EncoderConfig.model_validate(spec["config"]), Path(spec["backbone"])
    torch.manual_seed(spec["seed"])
    if "threads" in spec:
        torch.set_num_threads(spec["threads"])
    job, tokenizer = _prepare(config, folder, spec)
    identity = {"backbone": model_fingerprint(folder, pickled=True)}
    if trained_layers(config.unfreeze, job.layers, 0) == 0:
        for split in SPLITS:
            job.embeddings[split] = frozen_embeddings(job.model, job.texts[split], identity, job.bfloat16)
    encoded = time.monotonic()
    before = job.embeddings["dev"] if job.embeddings else embed(job.model, job.texts["dev"], job.bfloat16)
    _run_phases(job)
    job.model.load_state_dict(job.weights)
    kept_frozen = trained_layers(config.unfreeze, job.layers, job.best["epoch"]) == 0
    known = job.embeddings if kept_frozen else {}  # a backbone that is as it came has been asked
    logits = logits_of(job.model, job.texts["test"], job.bfloat16, known.get("test"))
    after = known["dev"] if known else embed(job.model, job.texts["dev"], job.bfloat16)
    save_classifier(job.model, tokenizer, config, Path(spec["out"]), job.bfloat16)
    return {"curve": job.curve, "best_epoch": job.best["epoch"], "dev": job.best["dev"],
            "test": scores(logits, job.labels("test")),
            "confusion": confusion(logits, job.labels("test")),
            "dev_in_2d": {"labels": job.labels("dev"), "before": in_two_dimensions(before),
                          "after": in_two_dimensions(after)},
            "layers": job.layers,
            "cut": {split: job.texts[split].cut for split in SPLITS},
            "counts": {split: len(job.sentences[split]) for split in SPLITS},
            "bfloat16": job.bfloat16, "encoding_seconds": round(encoded - started, 2),
            "seconds": round(time.monotonic() - started, 2)}


def refuse_backbone(spec: dict[str, Any]) -> dict[str, Any]:
    """Load what a training would begin with, but no rows: ``spec`` has ``config`` and ``backbone`` (folder).

    Raises:
        InputError: the backbone cannot be used with this config.
    """
    prepare_environment()
    config, folder = EncoderConfig.model_validate(spec["config"]), Path(spec["backbone"])
    tokenizer, backbone = load_tokenizer(folder), load_backbone(folder)
    encode(tokenizer, ["a text"], task_prompt(config), min(config.max_length, most_tokens(backbone, tokenizer)))
    _count_layers(config, backbone)
    return {}


def _count_layers(config: EncoderConfig, backbone: torch.nn.Module) -> int:
    return len(layers_of(backbone)) if config.unfreeze.strategy == "layerwise" else layer_count(backbone)


def _prepare(config: EncoderConfig, folder: Path, spec: dict[str, Any]) -> tuple[Job, Any]:
    tokenizer, backbone = load_tokenizer(folder), load_backbone(folder)
    if "rows" in spec:
        sentences, targets = read_rows(Path(spec["rows"]))
    else:
        sentences = load_sentences(config.data)
        sentences["train"], targets = training_rows(config, sentences["train"], [], None)
    limit, prompt = min(config.max_length, most_tokens(backbone, tokenizer)), task_prompt(config)
    layers = _count_layers(config, backbone)
    model = Classifier(backbone, config.head, len(config.data.names))
    texts = {split: encode(tokenizer, [sentence.text for sentence in sentences[split]], prompt, limit)
             for split in SPLITS}
    model = model.to(devices.torch_device())
    return Job(config, spec["seed"], spec.get("bar", 0), sentences, torch.tensor(targets), texts, model,
               in_bfloat16(config.dtype), layers, Path(spec["out"])), tokenizer


def _run_phases(job: Job) -> None:
    """Train epoch after epoch: as long as nothing is unfrozen on embeddings, then on texts."""
    config = job.config
    steps = -(-len(job.sentences["train"]) // config.batch_size)
    optimizer = torch.optim.AdamW(
        [{"params": list(job.model.head.parameters()), "lr": config.rates.head},
         {"params": list(job.model.backbone.parameters()), "lr": config.rates.backbone}],
        weight_decay=config.rates.weight_decay, fused=True)  # 24 ms a step instead of 158 (MiniLM, 2 cores)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: config.rates.decay ** max(0, step // steps - config.rates.decay_after + 1))
    frozen = next((epoch for epoch in range(config.epochs) if trained_layers(config.unfreeze, job.layers, epoch)),
                  config.epochs)
    for first, last in ((0, frozen), (frozen, config.epochs)):
        if last > first:
            _Phase(job, first, last, optimizer, scheduler).train()


class _Phase(Trainer):
    """Epochs ``first`` to ``last`` - 1, in all of which either nothing of the backbone is trained, or something is."""

    def __init__(self, job: Job, first: int, last: int, optimizer: Any, scheduler: Any) -> None:
        self.job, self.first = job, first
        self.on_texts = trained_layers(job.config.unfreeze, job.layers, first) > 0
        part = "head and backbone" if self.on_texts else "head"
        self.triplets = Triplets(job.sentences["train"], job.seed)
        lengths = [len(ids) for ids in job.texts["train"].ids]
        size = job.config.batch_size
        self.order = EpochSampler(lengths, Arrangement(size, size, window_rows=_WINDOW_ROWS), job.seed, first)
        super().__init__(
            job.model, TrainingArguments(
                output_dir=str(job.out), num_train_epochs=last - first, per_device_train_batch_size=size,
                save_strategy="no", eval_strategy="no", logging_strategy="epoch", report_to="none", disable_tqdm=True,
                use_cpu=not devices.visible(), seed=job.seed, remove_unused_columns=False,
                max_grad_norm=1.0, dataloader_pin_memory=False),
            train_dataset=_Places(len(lengths)), data_collator=self._collate, optimizers=(optimizer, scheduler),
            callbacks=[_Epochs(self), Progress(f"seed {job.seed}, {part}", job.bar)])
        self.epoch = first
        self.remove_callback(PrinterCallback)

    def _collate(self, places: list[int]) -> dict[str, Any]:
        job = self.job
        labels = job.targets[places]
        if not self.on_texts:
            return {"embeddings": job.embeddings["train"][places], "labels": labels}
        texts, triplets = self._with_triplets(places)
        # Positives and negatives have any length: sorted, each batch is padded to its own longest text.
        order = sorted(range(len(texts)), key=lambda number: len(job.texts["train"].ids[texts[number]]))
        batches = [job.texts["train"].padded([texts[number] for number in order[start:start + len(places)]])
                   for start in range(0, len(order), len(places))]
        return {"batches": batches, "order": torch.tensor(order).argsort(), "labels": labels,
                "triplets": torch.tensor(triplets, dtype=torch.long).reshape(-1, 3)}

    def _with_triplets(self, places: list[int]) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Return the texts to embed, those of ``places`` first, and the triplets as numbers of them."""
        config = self.job.config.triplet
        if config is None:
            return places, []
        if config.in_batch_negatives:
            return places, self.triplets.draw_in(places, self.epoch)
        drawn, count = [self.triplets.draw(place, self.epoch) for place in places], len(places)
        texts = [*places, *(positive for positive, _ in drawn), *(negative for _, negative in drawn)]
        return texts, [(number, count + number, 2 * count + number) for number in range(count)]

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        """Return cross-entropy, and with triplets their loss times its weight.

        Raises:
            RunError: the loss is no finite number.
        """
        labels = inputs["labels"]
        with computing(self.job.bfloat16, labels.device):
            if self.on_texts:
                embeddings = torch.cat([model.embed(**batch) for batch in inputs["batches"]])[inputs["order"]]
            else:
                embeddings = inputs["embeddings"]
            loss = torch.nn.functional.cross_entropy(model(embeddings=embeddings[:len(labels)]).float(), labels)
        if self.on_texts and len(inputs["triplets"]) and (triplet := self.job.config.triplet):
            loss = loss + triplet.weight * triplet_loss(triplet, *embeddings[inputs["triplets"].T])
        if not torch.isfinite(loss):
            raise RunError(f"The loss was {loss.item()} in epoch {self.epoch + 1}: training stopped there. Lower "
                           "rates.head or rates.backbone.")
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        return self.order


class _Places(Dataset[int]):
    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> int:
        return place


class _Epochs(TrainerCallback):
    """Unfreezes where it is due, measures on dev after each epoch, keeps the best weights, and stops."""

    def __init__(self, phase: _Phase) -> None:
        self._phase = phase
        self._started, self._rates = 0.0, list[float]()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set what is trained in this epoch."""
        phase, job = self._phase, self._phase.job
        phase.epoch = phase.first + round(state.epoch or 0)
        unfreeze(job.model.backbone, trained_layers(job.config.unfreeze, job.layers, phase.epoch))
        job.model.backbone_trains = phase.on_texts
        self._rates = [group["lr"] for group in phase.optimizer.param_groups]
        self._started = time.monotonic()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure on dev; the best epoch is the one with the largest sum of accuracy and macro-F1 there."""
        phase, job = self._phase, self._phase.job
        seconds = time.monotonic() - self._started
        logits = logits_of(job.model, job.texts["dev"], job.bfloat16,
                           None if phase.on_texts else job.embeddings["dev"])
        dev = scores(logits, job.labels("dev"))
        count = trained_layers(job.config.unfreeze, job.layers, phase.epoch)
        job.curve.append({"epoch": phase.epoch, "dev": dev, "trained_layers": count, "rates": self._rates,
                          "seconds": round(seconds, 2)})
        if not job.best or sum(dev.values()) > sum(job.best["dev"].values()):
            job.best = {"epoch": phase.epoch, "dev": dev}
            job.weights = copy.deepcopy(job.model.state_dict())
        whole = job.config.unfreeze.strategy == "never" or count > job.layers
        if job.config.patience and whole and phase.epoch - max(job.best["epoch"], _first_whole(job)) >= (
                job.config.patience):
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Note the mean training loss of the epoch, which is logged after its end."""
        if logs and "loss" in logs and self._phase.job.curve:
            self._phase.job.curve[-1]["train_loss"] = round(logs["loss"], 4)


def _first_whole(job: Job) -> int:
    """Return the first epoch in which all that is ever trained is."""
    if job.config.unfreeze.strategy == "never":
        return 0
    return next((epoch for epoch in range(job.config.epochs)
                 if trained_layers(job.config.unfreeze, job.layers, epoch) > job.layers), job.config.epochs)
