"""What are a teacher's labels worth to an encoder student: gold labels, the teacher's, and both, side by side.

    python -m benchmarks.encoder_labels --data FOLDER [--teacher smollm2-135m-instruct] [--rows 1500] [--seeds 3]

FOLDER holds SST-5. The first ``--rows`` of its train split (in an order by hash) are labelled by the teacher through
ICLDist's sentiment prompt with the words terrible, bad, okay, good, great; dev and test are whole. Students are trained
on the same rows with each kind of label, by the configs ``--configs``; a line each, with the share of gold labels that
the teacher agrees with. What is finished is not run again.
"""

import argparse
import json
import time
from pathlib import Path

from benchmarks.machine import describe
from distill.config.load import load_config
from distill.config.sections.encoder import EncoderConfig, EncoderData
from distill.encoder.data import SPLITS, read_split
from distill.encoder.stage import spread
from distill.run.hashing import hash_order
from distill.run.storage import read_json, write_text
from flows.encoder_run import find_encoder_config, train_run

KINDS: tuple[tuple[str, list[str]], ...] = (
    ("gold", []), ("teacher", []), ("teacher, calibrated", ["teacher.calibrate=true"]),
    ("both", ["teacher.calibrate=true"]))


def main() -> None:
    """Train with each kind of label and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="all-minilm-l6-v2")
    parser.add_argument("--teacher", default="smollm2-135m-instruct")
    parser.add_argument("--dtype", default="auto", help="of the teacher")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--configs", default="baseline,after-n")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    print(f"{arguments.teacher} to {arguments.backbone}, {arguments.rows} rows; {describe()}", flush=True)
    data = _part(arguments.data, arguments.rows, arguments.runs / f"sst5-{arguments.rows}")
    print(f"{'config':<10} {'labels':<20} {'accuracy':>15} {'macro-F1':>15} {'agrees':>7} {'minutes':>8}")
    for name in arguments.configs.split(","):
        for kind, more in KINDS:
            config = load_config(find_encoder_config(name), [
                f"data.path={data.resolve()}", f"backbone.name={arguments.backbone}", "head.pooling=mean", "epochs=10",
                "patience=2", "unfreeze.epoch=2", "rates.head=1e-3", "rates.backbone=5e-5", "rates.decay_after=2",
                f"labels={kind.partition(',')[0]}", f"teacher.model.name={arguments.teacher}",
                "teacher.verbalizer=[terrible,bad,okay,good,great]",
                f"teacher.engine={json.dumps({'kind': 'transformers', 'dtype': arguments.dtype})}",
                f"seeds={list(range(1, arguments.seeds + 1))}", f"at_once={arguments.seeds}", *more], EncoderConfig)
            begun, run = time.monotonic(), arguments.runs / f"labels-{name}-{kind.replace(', ', '-')}"
            outcomes = train_run(config, run, "stop")
            accuracy, f1 = (spread(outcomes)[score] for score in ("accuracy", "macro_f1"))
            marker = run / "labels" / "_done.json"
            agrees = f"{100 * read_json(marker)['details']['agrees_with_gold']:.1f}%" if marker.exists() else ""
            print(f"{name:<10} {kind:<20} {100 * accuracy[0]:>7.2f} ± {100 * accuracy[1]:<5.2f} "
                  f"{100 * f1[0]:>7.2f} ± {100 * f1[1]:<5.2f} {agrees:>7} {(time.monotonic() - begun) / 60:>8.1f}",
                  flush=True)


def _part(source: Path, count: int, folder: Path) -> Path:
    for split in SPLITS:
        rows = read_split(EncoderData(path=str(source)), split)
        if split == "train":
            rows = sorted(rows, key=lambda one: (hash_order(0, one.id, "part"), one.id))[:count]
        write_text(folder / f"{split}.txt", "".join(f"{one.label} {one.text}\n" for one in rows))
    return folder


if __name__ == "__main__":
    main()
