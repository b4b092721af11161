"""``distill generate --logprobs``: finished answers get the teacher's distributions over their labels.

Where the config has ``teacher.logprobs.top_k``, the others get the likeliest tokens, too.
"""

import argparse

from distill.config.load import load_config
from distill.errors import InputError
from distill.generation.label_cost import label_cost
from distill.generation.label_logprobs import LABELS
from distill.generation.status import RESPONSES, status
from distill.run.markers import is_finished
from distill.run.row_counts import write_row_counts
from flows.forecast import duration, size
from flows.orchestration.step_runner import run_logged
from flows.run import Run, find_config, folder_of, look_for_run, open_run


def logprobs_command(arguments: argparse.Namespace) -> None:
    """Score the answers of a run by name or folder, or of a config's run.

    Raises:
        InputError: there are no finished answers, none has a distribution, or the engine does not tell it.
    """
    if arguments.on_change != "stop":
        raise InputError("--logprobs leaves the answers as they are, and so takes neither --keep nor --discard.")
    overrides = [*arguments.overrides, "teacher.logprobs.labels=true"]
    found = None if arguments.run else look_for_run(arguments.config)
    if found is None and not _has_run(arguments, overrides):
        raise InputError(f"There is no run of {arguments.config} whose answers could be scored. Name one by its "
                         "folder, or by its name with --run; 'distill generate' has the teacher answer.")
    with open_run(None if found else arguments.config, str(found) if found else arguments.run, overrides) as run:
        top_k = run.config.teacher is not None and run.config.teacher.logprobs.top_k
        if arguments.stage == "knowdist" and not top_k:
            raise InputError("Analyses and rewritings (--stage knowdist) are answered by no label of a list, so that "
                             "they have no distribution. Leave --stage out, or set teacher.logprobs.top_k.")
        stages = [arguments.stage] if arguments.stage else ["icldist", *(["knowdist"] if top_k else [])]
        for stage in stages:
            _refuse_without_answers(run, stage)
        if not top_k:
            _refuse_without_labels(run)
        _tell_cost(run)
        for stage in stages:
            run_logged("generate", run, stage)
        write_row_counts(run.folder)
        markers = LABELS.captured(run.folder / "icldist" / RESPONSES).values()
        print(f"{sum(one.n_out for one in markers):,} of {sum(one.n_in for one in markers):,} answers have the "
              f"teacher's distribution over their labels ({run.folder / 'icldist' / LABELS.name}). The objective "
              "'labels' learns them.")


def _has_run(arguments: argparse.Namespace, overrides: list[str]) -> bool:
    folder = folder_of(load_config(find_config(arguments.config), overrides), arguments.run)
    return look_for_run(str(folder.absolute())) is not None


def _refuse_without_answers(run: Run, stage: str) -> None:
    if run.config.rows:
        raise InputError("This run trains on rows that were made elsewhere ('rows'), which have no distributions.")
    if not is_finished(run.folder / stage):
        now = status(run.folder)[stage]
        left = "" if now["left"] is None else f" ({now['left'] + now['in_progress']:,} of {now['prompts']:,} are open)"
        raise InputError(f"Not all prompts of {run.folder}, stage {stage}, have an answer{left}, and --logprobs "
                         "asks for none. Have them answered first: 'distill generate' without it (with "
                         "teacher.logprobs.labels=true, that keeps the distributions at once).")


def _refuse_without_labels(run: Run) -> None:
    if not label_cost(run.folder / "prompts" / "icldist.parquet", 1).n_prompts:
        raise InputError(f"No prompt of {run.folder} is answered by one label of a list, so that there is nothing to "
                         "score: prompts.icldist.samples was 0, or its tasks are of several labels or tuples.")


def _tell_cost(run: Run) -> None:
    left = status(run.folder)["icldist"]["labels_left"]
    if left:
        time = "" if left["seconds"] is None else f", and about {duration(left['seconds'])} at the pace of the answers"
        print(f"{left['prompts']:,} answers are to be scored: about {size(left['bytes'])} on disk{time}.")
