"""The rows of Table 2 (Shishaev, 2025) for real, with a backbone that can be trained here: mean and spread over seeds.

    python -m benchmarks.encoder_rows --data FOLDER [--backbone all-minilm-l6-v2] [--rows baseline,after-n] [--seeds 3]

FOLDER holds SST-5. The rows are the configs that ship, with another backbone, at most ``--epochs`` epochs with a
patience of 2, the backbone unfrozen after ``--unfreeze`` epochs, and learning rates for that backbone; prompt, triplet
loss and strategy are theirs, but for triplets being drawn in the batch (``--in-batch false``: as in the paper, three
times the work). What is finished is not run again. Prints a line a row, as it ends.
"""

import argparse
import time
from pathlib import Path

from benchmarks.machine import describe
from distill.config.load import load_config
from distill.config.sections.encoder import EncoderConfig
from distill.encoder.stage import spread
from flows.encoder_run import find_encoder_config, train_run

ROWS = ("baseline", "after-n", "layerwise", "after-n-prompt", "after-n-prompt-triplet", "after-n-triplet")


def main() -> None:
    """Train the rows and print their scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="all-minilm-l6-v2")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--unfreeze", type=int, default=2)
    parser.add_argument("--head-rate", type=float, default=1e-3)
    parser.add_argument("--backbone-rate", type=float, default=5e-5)
    parser.add_argument("--in-batch", choices=["true", "false"], default="true", help="triplet.in_batch_negatives")
    parser.add_argument("--at-once", type=int, default=3, help="seeds trained at the same time")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    print(f"{arguments.backbone}; {describe()}", flush=True)
    print(f"{'row':<24} {'accuracy':>17} {'macro-F1':>17} {'best epochs':>12} {'minutes':>8}")
    for row in arguments.rows.split(","):
        negatives = [f"triplet.in_batch_negatives={arguments.in_batch}"] if "triplet" in row else []
        config = load_config(find_encoder_config(row), [
            *negatives,
            f"data.path={arguments.data.resolve()}", f"backbone.name={arguments.backbone}", "head.pooling=mean",
            f"epochs={arguments.epochs}", "patience=2", f"unfreeze.epoch={arguments.unfreeze}", "unfreeze.interval=1",
            f"rates.head={arguments.head_rate}", f"rates.backbone={arguments.backbone_rate}",
            f"rates.decay_after={arguments.unfreeze}",
            f"seeds={list(range(1, arguments.seeds + 1))}", f"at_once={arguments.at_once}"], EncoderConfig)
        begun = time.monotonic()
        outcomes = train_run(
            config, arguments.runs / f"{config.name}-{Path(arguments.backbone).name}", "stop")
        accuracy, f1 = (spread(outcomes)[name] for name in ("accuracy", "macro_f1"))
        best = ", ".join(str(outcome.details["best_epoch"] + 1) for outcome in outcomes)
        print(f"{row:<24} {100 * accuracy[0]:>9.2f} ± {100 * accuracy[1]:<5.2f} {100 * f1[0]:>9.2f} ± "
              f"{100 * f1[1]:<5.2f} {best:>12} {(time.monotonic() - begun) / 60:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
