"""``distill generate --logprobs``: finished answers get the teacher's log-probabilities, without being asked again."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from distill.config.load import load_config
from distill.config.schema import Teacher
from distill.errors import InputError
from distill.generation.label_cost import label_cost
from distill.generation.label_logprobs import LABELS
from distill.generation.status import RESPONSES, NodeCounter, status
from distill.generation.top_logprobs import TOP
from distill.run.markers import is_finished
from distill.run.row_counts import write_row_counts
from distill.training.stages import SOURCES, Source
from flows.forecast import asked_of_endpoint, duration, size
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
        top_k = None if run.config.rows else run.teacher.logprobs.top_k
        if arguments.stage == "knowdist" and not top_k:
            raise InputError("Analyses and rewritings (--stage knowdist) are answered by no label of a list, so that "
                             "they have no distribution. Leave --stage out, or have the likeliest tokens kept (--set "
                             "teacher.logprobs.top_k=20).")
        there = {stage for stage, now in status(run.folder).items() if now["prompts"]} if top_k else {"icldist"}
        asked: list[Source] = [stage for stage in SOURCES if stage in there and arguments.stage in (None, stage)]
        _refuse_without_answers(run, asked, needs_labels=not top_k)
        _tell_cost(run, asked)
        for stage in asked:
            run_logged("generate", run, stage)
        write_row_counts(run.folder)
        for stage in asked:
            _tell_kept(run.folder / stage / RESPONSES)


def _tell_kept(responses: Path) -> None:
    for sidecar, what, objective in ((LABELS, "distribution over their labels", "labels"),
                                     (TOP, "likeliest tokens at each token", "logits")):
        markers = sidecar.captured(responses).values()
        if n_in := sum(one.n_in for one in markers):
            n_out = sum(one.n_out for one in markers)
            untold = "" if n_out == n_in else (f" {n_in - n_out:,} could not be told (for want of room behind the "
                                               "prompt, for example); that is learned as by sft.")
            print(f"{n_out:,} of {n_in:,} answers have the teacher's {what} ({sidecar.folder(responses)}). The "
                  f"objective '{objective}' learns them.{untold}")


def _has_run(arguments: argparse.Namespace, overrides: list[str]) -> bool:
    folder = folder_of(load_config(find_config(arguments.config), overrides), arguments.run)
    return look_for_run(str(folder.absolute())) is not None


def _refuse_without_answers(run: Run, stages: Sequence[Source], *, needs_labels: bool) -> None:
    if run.config.rows:
        raise InputError("This run trains on rows that were made elsewhere ('rows'), which have no distributions.")
    for stage in stages:
        if is_finished(run.folder / stage):
            continue
        now = status(run.folder)[stage]
        left = "" if now["left"] is None else f" ({now['left'] + now['in_progress']:,} of {now['prompts']:,} are open)"
        raise InputError(f"Not all prompts of {run.folder} have an answer{left}, and --logprobs asks for none. Have "
                         "them answered first: 'distill generate' without it (with teacher.logprobs.labels=true, that "
                         "keeps the distributions at once).")
    if needs_labels and not label_cost(run.folder / "prompts" / "icldist.parquet", 1).n_prompts:
        raise InputError(f"No prompt of {run.folder} is answered by one label of a list, so that there is nothing to "
                         "score: prompts.icldist.samples was 0, or its tasks are of several labels or tuples.")


def _node_counter(teacher: Teacher) -> NodeCounter | None:
    """Return what counts the tokens of labels; None where no server is asked for each, or nothing is known of them."""
    capabilities = teacher.engine.capabilities
    if not (capabilities.remote and capabilities.reads_tokens):
        return None
    from distill.engines.label_tree import node_counter
    from distill.engines.registry import served_tokenizer

    return node_counter(served_tokenizer(teacher.engine), teacher.chat_template.icldist)


def _tell_cost(run: Run, stages: Sequence[Source]) -> None:
    now = status(run.folder, run.teacher, _node_counter(run.teacher))
    kinds = ("labels_left", *(["top_left"] if run.teacher.logprobs.top_k else []))
    for left in (now[stage][kind] for kind in kinds for stage in stages):
        if not left:
            continue
        time = "" if left["seconds"] is None else f", and about {duration(left['seconds'])} at the pace of the answers"
        print(f"{left['prompts']:,} answers are to be scored: about {size(left['bytes'])} on disk"
              f"{asked_of_endpoint(left)}{time}.")
