"""SentiBench: our runner against a loop as in the authors' scripts, on the same prompts, model and cores.

    python -m benchmarks.sentibench_speed [--data-dir DIR] [--examples 48] [--model smollm2-135m-instruct]

The loop: plain ``transformers`` with left padding in test order, ``generate`` with 2 new tokens and batches of 4 for
classification (1 for IMDb and Yelp2), with 150 new tokens and batches of 16 for tuples. Ours: the embedded engine as
``sentibench run`` uses it. Model loading is left out on both sides. Both sides are timed task by task, one after the
other; how many answers are the same is printed.

``of rate`` is the share of the machine's float32 matrix rate (torch's ``linear`` in one layer's size) that our labels
reach: two operations for each weight and prompt token, and those of causal attention; padding and the output layer do
not count. ``useful`` counts each prompt token as often as it stands in prompts, ``done`` those that all prompts of a
task begin with once, as they are computed. An answer that neither side can read counts as the same. Exits with 1 if
fewer than 98 in 100 answers are.
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
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tasks", default="all")
    arguments = parser.parse_args()
    machine, rate = describe(), matrix_rate()

    from distill.config.schema import TransformersEngine
    from distill.engines import open_engine
    from distill.engines.transformers.decoding import shared_prefix
    from distill.models import count_parameters, load_model, load_tokenizer, resolve_model
    from sentibench.answering import Method, Trace, ask, read
    from sentibench.protocols import build_examples, load_task_data
    from sentibench.registry import select_tasks

    folder = resolve_model(arguments.model)
    tokenizer, model = load_tokenizer(folder), load_model(folder, "float32")
    tokenizer.padding_side = "left"
    body = count_parameters(folder) - model.get_input_embeddings().weight.numel()
    config = model.config
    per_pair = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim  # scores, then values
    print(f"{arguments.model}, float32, {arguments.examples} examples a task\n{machine}\n"
          f"float32 matrix rate {rate:.0f} GFLOP/s", flush=True)
    print(f"{'task':10} {'n':>4} {'tokens':>7} {'loop s':>8} {'ours s':>8} {'ratio':>6} {'useful':>7} {'done':>6} "
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
            traces: dict[int, Trace] = {}
            ask(engine, task, prompts, Method(), traces.__setitem__)
            ended = time.perf_counter()
            ours = [read(task, traces[place]).value for place in range(len(prompts))]
            lengths = [len(ids) for ids in tokenizer(prompts)["input_ids"]]
            shared = shared_prefix(tokenizer(prompts)["input_ids"])
            useful = sum(2 * body * length + per_pair * length**2 for length in lengths)
            work = useful - (len(lengths) - 1) * (2 * body * shared + per_pair * shared**2)
            loop, our = middle - started, ended - middle
            same = sum(a == b for a, b in zip(theirs, ours, strict=True))
            shares = [f"{one / our / 1e9 / rate:.0%}" for one in (useful, work)]
            shown = "{:>7} {:>6}".format(*(shares if task.answer == "label" else ("", "")))
            print(f"{task.name:10} {len(prompts):4} {sum(lengths):7,} {loop:8.1f} {our:8.1f} {loop / our:6.1f} {shown} "
                  f"{same:4}/{len(ours)}", flush=True)
            total = totals.setdefault(task.answer, [0.0] * 6)
            for place, value in enumerate((loop, our, useful, work, same, len(ours))):
                total[place] += value
    rate = max(rate, matrix_rate())
    print(f"float32 matrix rate, the better of before and after: {rate:.0f} GFLOP/s")
    for kind, (loop, our, useful, work, _, _) in totals.items():
        part = f", {useful / our / 1e9 / rate:.0%} (done: {work / our / 1e9 / rate:.0%}) of the matrix rate"
        print(f"{kind}: loop {loop:.1f} s, ours {our:.1f} s, ratio {loop / our:.2f}{part if kind == 'label' else ''}")
    same, asked = (sum(total[place] for total in totals.values()) for place in (4, 5))
    if same < 0.98 * asked:
        raise SystemExit(f"Only {same:.0f} of {asked:.0f} answers are the same.")


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
