"""How many short reviews a second a student labels, beside a plain loop over a model of transformers.

    python -m benchmarks.predict [--model smollm2-135m-instruct] [--encoder all-minilm-l6-v2] [--texts 160] [--rounds 2]

The texts are the reviews and tweets of ``data/demo``. The student is asked as ``distill predict`` asks it, all texts as
one block (loading the model is not counted). The plain loops ask with the same prompt, in the same number format and
process: ``generate`` of as many tokens as the longest label has, for one review at a time and for batches of 32 (padded
on the left, sorted by length); for the encoder, a forward pass of each. Targets on 2 cores: 12 reviews a second with
135M weights, 100 with the encoder of 22M, and 3 times as many as one review at a time.

    python -m benchmarks.predict --memory [--rows 2000 200000]

What ``distill predict`` holds at most of CSV files of so many rows, which an encoder of some thousand weights labels:
the command, and the largest of its processes, in which the model is; and the seconds in which the file is read.
"""

import argparse
import contextlib
import csv
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import describe
from distill.prediction.run import Options, open_source
from distill.resources import shipped
from flows.students import find_student
from sentidistill import Model
from tests.support.encoder import tiny_encoder

BATCH = 32


def main() -> None:
    """Measure both kinds of student and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a student for prompts, or none")
    parser.add_argument("--encoder", default="all-minilm-l6-v2", help="the backbone of an encoder, or none")
    parser.add_argument("--texts", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=2, help="the best of which counts")
    parser.add_argument("--memory", action="store_true", help="measure what is held instead")
    parser.add_argument("--rows", type=int, nargs="+", default=[2_000, 200_000], help="of the files; for --memory")
    arguments = parser.parse_args()
    if arguments.memory:
        with tempfile.TemporaryDirectory() as folder:
            memory(arguments.rows, Path(folder))
        return
    texts = short_reviews()[:arguments.texts]
    print(f"{describe()}; {len(texts)} texts of {sum(map(len, texts)) / len(texts):.0f} characters", flush=True)
    if arguments.model != "none":
        show(arguments.model, prompted(arguments.model), texts, arguments.rounds)
    if arguments.encoder != "none":
        with tempfile.TemporaryDirectory() as folder:
            show(f"encoder on {arguments.encoder}", encoder(arguments.encoder, Path(folder)), texts, arguments.rounds)


def short_reviews() -> list[str]:
    """Return the reviews of products, and the tweets, that ship."""
    products = shipped("data/demo/products.jsonl").read_text(encoding="utf-8").splitlines()
    tweets = shipped("data/demo/tweets.txt").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["reviewText"] for line in products] + [line for line in tweets if line.strip()]


def show(name: str, ways: dict[str, Callable[[Sequence[str]], Any]], texts: Sequence[str], rounds: int) -> None:
    """Print how many texts a second each way answers; the first is ours."""
    rates: dict[str, float] = {}
    for _ in range(rounds):
        for way, answer in ways.items():
            begun = time.perf_counter()
            answer(texts)
            rates[way] = max(rates.get(way, 0), len(texts) / (time.perf_counter() - begun))
    ours = next(iter(rates.values()))
    print(f"\n{name}")
    for way, rate in rates.items():
        print(f"  {way:<28} {rate:8.1f} a second   {ours / rate:5.2f}")


def prompted(name: str) -> dict[str, Callable[[Sequence[str]], Any]]:
    """Return the ways to ask a student that is asked with prompts."""
    import torch

    from distill.models import load_model, load_tokenizer

    student = find_student(name, prompt_format="raw")
    asked = student.spec["question"]
    predict = Model(student)
    folder = Path(student.spec["folder"])
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    tokenizer.padding_side = "left"
    longest = max(len(tokenizer(f" {label}")["input_ids"]) for label in asked["labels"])

    def generated(texts: Sequence[str], batch: int) -> None:
        prompts = sorted((asked["before"] + text + asked["after"] for text in texts), key=len)
        with torch.inference_mode():
            for start in range(0, len(prompts), batch):
                inputs = tokenizer(prompts[start:start + batch], return_tensors="pt", padding=True).to(model.device)
                model.generate(**inputs, max_new_tokens=longest, do_sample=False, pad_token_id=tokenizer.pad_token_id)

    return {"distill predict": predict, "generate, one at a time": lambda texts: generated(texts, 1),
            f"generate, batches of {BATCH}": lambda texts: generated(texts, BATCH)}


def trained_encoder(backbone: str, folder: Path) -> None:
    """Train an encoder for a moment."""
    from distill.config.load import validate
    from distill.config.sections.encoder import EncoderConfig
    from distill.encoder.training import train
    from distill.models.resolve import resolve_model

    config = validate({"name": "speed", "data": {"path": str(shipped("data/sentibench/sst5"))}, "epochs": 1,
                       "backbone": {"name": backbone}, "unfreeze": {"strategy": "never"}}, "of this", EncoderConfig)
    train({"config": config.model_dump(mode="json"), "backbone": str(resolve_model(backbone)), "out": str(folder),
           "seed": 1})


def encoder(backbone: str, folder: Path) -> dict[str, Callable[[Sequence[str]], Any]]:
    """Return the ways to ask an encoder."""
    import torch

    from distill.encoder.model import load_classifier
    from distill.runtime import devices

    trained_encoder(backbone, folder)
    predict = Model(find_student(str(folder)))
    model, tokenizer, settings = load_classifier(folder)
    model.to(devices.torch_device()).eval()

    def classified(texts: Sequence[str], batch: int) -> None:
        listed = sorted(texts, key=len)
        with torch.inference_mode():
            for start in range(0, len(listed), batch):
                inputs = tokenizer(listed[start:start + batch], return_tensors="pt", padding=True, truncation=True,
                                   max_length=settings["max_length"])
                model(inputs["input_ids"], inputs["attention_mask"])

    return {"distill predict": predict, "one at a time": lambda texts: classified(texts, 1),
            f"batches of {BATCH}": lambda texts: classified(texts, BATCH)}


def memory(sizes: Sequence[int], folder: Path) -> None:
    """Print what is held at most while files of these sizes are labelled by a tiny encoder."""
    trained_encoder(str(tiny_encoder(folder / "tiny")), folder / "encoder")
    print(describe())
    for size in sizes:
        source = folder / f"{size}.csv"
        with source.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["number", "text"])
            writer.writerows(enumerate(itertools.islice(itertools.cycle(short_reviews()), size)))
        begun = time.perf_counter()
        read = sum(batch.n_rows for batch in open_source(source, Options()).batches())
        reading = time.perf_counter() - begun
        command = subprocess.Popen(
            [sys.executable, "-m", "flows.cli.main", "predict", str(folder / "encoder"), str(source),
             "--out", str(folder / f"{size}.out.csv")], stderr=subprocess.DEVNULL)
        held: dict[int, int] = {}
        while command.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                children = psutil.Process(command.pid).children(recursive=True)
                held |= {one: max(held.get(one, 0), peak_of(one))
                         for one in (command.pid, *(child.pid for child in children))}
            time.sleep(0.05)
        assert not command.returncode and read == size
        others = max(peak for one, peak in held.items() if one != command.pid)
        megabytes = source.stat().st_size / 1e6
        print(f"  {size:>9,} rows, {megabytes:6.1f} MB: the command {held[command.pid] / 1e6:.0f} MB, "
              f"the model's process {others / 1e6:.0f} MB; read in {reading:.2f} s, labelled in "
              f"{time.perf_counter() - begun - reading:.0f} s", flush=True)


def peak_of(process: int) -> int:
    """Return the bytes that a process held at most so far; 0 where it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
