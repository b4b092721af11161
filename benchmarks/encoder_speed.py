"""How fast is an encoder student trained, against plain ``transformers.Trainer``, and how fast does it answer?

    python -m benchmarks.encoder_speed --data FOLDER [--backbone all-minilm-l6-v2] [--steps 60]

FOLDER holds SST-5 (train.txt, dev.txt, test.txt). Measured are: one epoch of head and backbone over the train split
without the prompt; the time to encode it for a frozen backbone, and an epoch of the head on that; sentences a second of
inference on the test split, in PyTorch and in ONNX Runtime, and how many labels differ between the two; and, over
``--steps`` of the same batches of 32, plain Trainer with ``AutoModelForSequenceClassification`` and its defaults. Each
in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from distill.config.load import validate
from distill.config.sections.encoder import EncoderConfig
from distill.models import resolve_model

_BATCH = 32


def main() -> None:
    """Measure, or be one of those that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="all-minilm-l6-v2")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--one", choices=["ours", "frozen", "plain", "inference"])
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(PARTS[arguments.one](arguments, Path(folder))))
        return
    print(f"{arguments.backbone}; {describe()}", flush=True)
    found = {}
    for one in ("plain", "ours", "frozen", "inference"):
        command = [sys.executable, "-m", "benchmarks.encoder_speed", "--one", one, "--data", str(arguments.data),
                   "--backbone", arguments.backbone, "--steps", str(arguments.steps)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[one] = json.loads(done.stdout.splitlines()[-1])
        print(f"{one:>10}: {', '.join(f'{name} {value:,.2f}' for name, value in found[one].items())}", flush=True)
    ratio = found["plain"]["seconds an epoch"] / found["ours"]["seconds an epoch"]
    print(f"plain Trainer takes {ratio:.2f} times as long for an epoch as ours")


def _config(arguments: argparse.Namespace, epochs: int, **unfreeze: Any) -> EncoderConfig:
    return validate({"name": "speed", "data": {"path": str(arguments.data)}, "backbone": {"name": arguments.backbone},
                     "epochs": epochs, "batch_size": _BATCH, "unfreeze": unfreeze}, "the benchmark", EncoderConfig)


def _train(arguments: argparse.Namespace, folder: Path, config: EncoderConfig) -> dict[str, Any]:
    from distill.encoder.training import train

    return train({"config": config.model_dump(mode="json"), "backbone": str(resolve_model(arguments.backbone)),
                  "out": str(folder / "out"), "seed": 1})


def _ours(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    result = _train(arguments, folder, _config(arguments, 1, strategy="after_n", epoch=0))
    return {"seconds an epoch": result["curve"][0]["seconds"], "dev accuracy": result["dev"]["accuracy"]}


def _frozen(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    from distill.encoder import embeddings

    vars(embeddings)["default_cache"] = lambda: folder  # nothing is cached yet
    result = _train(arguments, folder, _config(arguments, 5, strategy="never"))
    return {"seconds to encode all splits": result["encoding_seconds"],
            "seconds an epoch": sorted(epoch["seconds"] for epoch in result["curve"])[2]}


def _plain(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from distill.config.sections.encoder import EncoderData
    from distill.encoder.data import load_sentences
    from distill.training.callbacks import StepClock

    where, rows = resolve_model(arguments.backbone), load_sentences(EncoderData(path=str(arguments.data)))["train"]
    tokenizer, clock = AutoTokenizer.from_pretrained(where), StepClock()
    data = Dataset.from_list([{**tokenizer(row.text, truncation=True, max_length=256), "labels": row.label}
                              for row in rows])
    model = AutoModelForSequenceClassification.from_pretrained(where, num_labels=5)
    trainer = Trainer(model, TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=_BATCH, max_steps=arguments.steps, report_to="none",
        save_strategy="no", use_cpu=not torch.cuda.is_available()), train_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer), callbacks=[clock])
    trainer.train()
    return {"seconds an epoch": clock.seconds / arguments.steps * -(-len(rows) // _BATCH)}


def _inference(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    from distill.config.sections.encoder import EncoderData
    from distill.encoder.batches import encode
    from distill.encoder.data import load_sentences
    from distill.encoder.embeddings import classes_of, logits_of
    from distill.encoder.model import Classifier, load_backbone, save_classifier, task_prompt
    from distill.encoder.onnx import OnnxClassifier, export
    from distill.models import load_tokenizer

    where, config = resolve_model(arguments.backbone), _config(arguments, 1)
    model, tokenizer = Classifier(load_backbone(where), config.head, 5), load_tokenizer(where)
    texts = [row.text for row in load_sentences(EncoderData(path=str(arguments.data)))["test"]]
    prompt = task_prompt(config)
    save_classifier(model, tokenizer, config, folder / "torch", bfloat16=False)
    export({"model": str(folder / "torch"), "out": str(folder / "onnx"), "texts": texts[:10]})
    exported = OnnxClassifier(folder / "onnx")
    found, labels = {}, {}
    for name, ask in (("float32", lambda texts: logits_of(model, texts, False)),
                      ("bfloat16", lambda texts: logits_of(model, texts, True)), ("ONNX", exported.logits_of)):
        ask(encode(tokenizer, texts[:64], prompt, 256))
        begun = time.monotonic()
        labels[name] = classes_of(ask(encode(tokenizer, texts, prompt, 256)))
        found[f"sentences a second in {name}"] = len(texts) / (time.monotonic() - begun)
        begun = time.monotonic()
        for text in texts[:200]:
            ask(encode(tokenizer, [text], prompt, 256))
        found[f"milliseconds for one alone in {name}"] = (time.monotonic() - begun) / 200 * 1000
    same = sum(one == other for one, other in zip(labels["float32"], labels["ONNX"], strict=True))
    return {**found, "labels that ONNX says otherwise": len(texts) - same}


PARTS = {"ours": _ours, "frozen": _frozen, "plain": _plain, "inference": _inference}

if __name__ == "__main__":
    main()
