"""SentiBench: our runner against a loop as in the authors' scripts, on the same prompts, model and cores.

    python -m benchmarks.sentibench_speed [--data-dir DIR] [--examples 48] [--model smollm2-135m-instruct]

The loop: plain ``transformers`` with left padding in test order, ``generate`` with 2 new tokens and batches of 4 for
classification (1 for IMDb and Yelp2), with 150 new tokens and batches of 16 for tuples. Ours: the embedded engine as
``sentibench run`` uses it. Model loading is left out on both sides. Both sides are timed task by task, one after the
other, and must give the same answers; what differs is printed.
"""

import argparse
import time
from typing import Any

from benchmarks.machine import describe, matrix_rate

LABEL_BATCH, LONG_BATCH, TUPLE_BATCH = 4, 1, 16
LONG = ("imdb", "yelp2")


def main() -> None:
    """Measure every task and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="shipped:data/sentibench")
    parser.add_argument("--examples", type=int, default=48)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tasks", default="all")
    arguments = parser.parse_args()
    machine, rate = describe(), matrix_rate()

    from distill.config.schema import TransformersEngine
    from distill.engines import open_engine
    from distill.models import count_parameters, load_model, load_tokenizer, resolve_model
    from sentibench.answering import ask
    from sentibench.protocols import build_examples, load_task_data
    from sentibench.registry import select_tasks

    folder = resolve_model(arguments.model)
    tokenizer, model = load_tokenizer(folder), load_model(folder, "float32")
    tokenizer.padding_side = "left"
    body = count_parameters(folder) - model.get_input_embeddings().weight.numel()
    print(f"{arguments.model}, float32, {arguments.examples} examples a task\n{machine}\n"
          f"float32 matrix rate {rate:.0f} GFLOP/s", flush=True)
    print(f"{'task':10} {'n':>4} {'tokens':>7} {'loop s':>8} {'ours s':>8} {'ratio':>6} {'of matrix rate':>15} "
          f"{'same':>9}")
    totals: dict[str, list[float]] = {}
    with open_engine(TransformersEngine(dtype="float32"), folder) as engine:
        for task in select_tasks(arguments.tasks):
            data = load_task_data(task, arguments.data_dir, "released")
            examples = build_examples(task, data, "released", 42, arguments.examples)
            prompts = [example.prompt for example in examples]
            started = time.perf_counter()
            theirs = _labels(model, tokenizer, task, prompts) if task.answer == "label" else _tuples(
                model, tokenizer, task, prompts)
            middle = time.perf_counter()
            answers, _ = ask(engine, task, examples)
            ended = time.perf_counter()
            ours = [answer.value for answer in answers]
            n_tokens = sum(map(len, tokenizer(prompts)["input_ids"]))
            loop, our = middle - started, ended - middle
            share = 2 * body * n_tokens / our / 1e9 / rate
            same = sum(a == b for a, b in zip(theirs, ours, strict=True))
            shown = f"{share:15.0%}" if task.answer == "label" else f"{'':15}"
            print(f"{task.name:10} {len(prompts):4} {n_tokens:7,} {loop:8.1f} {our:8.1f} {loop / our:6.1f} {shown} "
                  f"{same:4}/{len(ours)}", flush=True)
            total = totals.setdefault(task.answer, [0.0, 0.0])
            total[0] += loop
            total[1] += our
    for kind, (loop, our) in totals.items():
        print(f"{kind}: loop {loop:.1f} s, ours {our:.1f} s, ratio {loop / our:.2f}")


def _labels(model: Any, tokenizer: Any, task: Any, prompts: list[str]) -> list[str]:
    import torch

    first = [tokenizer(f" {label}", add_special_tokens=False)["input_ids"][0] for label in task.labels]
    size = LONG_BATCH if task.name in LONG else LABEL_BATCH
    found = []
    for start in range(0, len(prompts), size):
        batch = tokenizer(prompts[start:start + size], padding=True, return_tensors="pt")
        with torch.no_grad():
            output = model.generate(**batch, max_new_tokens=2, do_sample=False, output_scores=True,
                                    return_dict_in_generate=True, pad_token_id=tokenizer.pad_token_id)
        found += [task.labels[int(row[first].argmax())] for row in output.scores[0]]
    return found


def _tuples(model: Any, tokenizer: Any, task: Any, prompts: list[str]) -> list[Any]:
    import torch

    from sentibench.parsing import first_line
    from sentibench.scoring import read_answer

    found = []
    for start in range(0, len(prompts), TUPLE_BATCH):
        batch = tokenizer(prompts[start:start + TUPLE_BATCH], padding=True, return_tensors="pt")
        with torch.no_grad():
            output = model.generate(**batch, max_new_tokens=150, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        texts = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1]:], skip_special_tokens=True)
        found += [read_answer(task, first_line(text)).value for text in texts]
    return found


if __name__ == "__main__":
    main()
