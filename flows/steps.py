"""The steps of the pipeline, in order: plain functions of a :class:`flows.run.Run`.

The command line, the Prefect flow and Python call these same functions. Each returns a
:class:`distill.run.stage.Outcome`; each looks up what the steps before it left in the run folder, so that it can also
be called alone. Heavy modules are imported inside, because workers and ``--help`` must start fast.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.config.schema import LogitsObjective, OnPolicyObjective, TeacherSampling
from distill.errors import InputError
from distill.models import Weights, weights_of
from distill.run.folder import claim_stage, remove
from distill.run.hashing import fingerprint
from distill.run.markers import is_finished, read_done, require_whole
from distill.run.records import FAMILIES, BenchmarkText
from distill.run.stage import Outcome
from distill.run.storage import read_object
from distill.training.stages import MODELS, Source, Stage, sources_of
from distill.validation.predict import Predictor
from flows.forecast import tell_forecast
from flows.orchestration.logs import LOGGER
from flows.plan import STAGES, command_for, planned, trained_stages, untrained_models
from flows.run import Run
from flows.stale import refuse_stale
from flows.teacher import teacher_window

if TYPE_CHECKING:
    from distill.config.schema import TeacherEngine
    from distill.dataset.other_runs import OtherRun
    from distill.prompting.decontaminate import Benchmark

log = logging.getLogger(LOGGER)


def collect(run: Run) -> Outcome:
    """Sources to clean texts: collect, clean, decontaminate for the benchmark, remove near-duplicates."""
    from distill.corpus.build import build_corpus
    from distill.prompting.demonstrations import load_demonstrations

    # What is wrong with them is said before hours of work.
    if run.config.prompts.icldist.samples and not is_finished(run.folder / "corpus"):
        load_demonstrations(run.config.prompts.icldist)
    _other_runs(run)
    texts, benchmark_id = _benchmark(run)
    return build_corpus(run.corpus, run.config.seed, run.folder, benchmark_texts=texts,
                        benchmark_id=benchmark_id, on_change=run.on_change)


def _benchmark(run: Run) -> tuple[Callable[[], Iterable[BenchmarkText]], str]:
    """Return what the corpus and the prompts must not hold, and its id; nothing where that is not asked for."""
    from sentibench.data import benchmark_texts, data_id, tasks_here
    from sentibench.registry import known_tasks, select_tasks

    evaluate = run.config.evaluate
    selected = select_tasks(evaluate.tasks)
    if not run.corpus.decontaminate.enabled:
        return tuple, ""
    # Every task whose data are there, whichever are evaluated now: a later evaluation must find the corpus clean.
    asked, here = {task.name for task in selected}, tasks_here(evaluate.data_dir)
    tasks = [name for name in known_tasks() if name in asked or name in here]
    tasks += [task.ref for task in selected if task.own]
    return lambda: benchmark_texts(evaluate.data_dir, tasks), data_id(evaluate.data_dir, tasks)


def prompts(run: Run) -> Outcome:
    """Texts to prompts that fit both the teacher and the student."""
    from distill.corpus.build import texts_file
    from distill.dataset.label_targets import refuse_unfit
    from distill.dataset.other_runs import refuse_other_vocabularies
    from distill.models import context_length, load_tokenizer, model_fingerprint
    from distill.models.same_vocabulary import refuse_other_family
    from distill.prompting.build import build_prompts
    from distill.prompting.length import limits, token_counter

    _needs(run, "corpus", "distill collect")
    config, student = run.config, student_base_folder(run)
    if "labels" in config.train.objective_kinds.values():
        refuse_unfit(student)
    teacher = teacher_window(run, student)
    refuse_other_vocabularies(_other_runs(run), _objectives_of_rows(run), student)
    if any(isinstance(one, LogitsObjective) and not one.across_vocabularies
           for one in map(config.train.objective_of, config.train.stages)):
        refuse_other_family(teacher.tokenizer, load_tokenizer(student), "logits")
    for stage in config.train.stages:
        _asked_in_training(run, stage, student)
    windows = limits(
        {family: getattr(run.teacher.sampling, family).max_tokens for family in FAMILIES},
        teacher=token_counter(teacher.tokenizer, teacher.form), teacher_context=teacher.context,
        student=token_counter(load_tokenizer(student), config.train.prompt_format),
        student_max_length=min(config.train.max_length, context_length(student)))
    return build_prompts(
        config.prompts, texts_file(run.folder), config.seed, run.folder, windows,
        {"corpus": _fingerprint(run, "corpus"), "teacher": teacher.identity,
         "student": model_fingerprint(student), "chat_template": run.teacher.chat_template.model_dump(),
         "prompt_format": config.train.prompt_format}, run.on_change, benchmark=_no_benchmark_texts(run))


def _other_runs(run: Run) -> "list[OtherRun]":
    """Return the runs whose answers become rows, too. What is wrong with them is said before hours of work."""
    from distill.dataset.other_runs import open_other_runs

    return open_other_runs(run.config.dataset.other_runs, _objectives_of_rows(run), run.folder)


def _objectives_of_rows(run: Run) -> dict[str, Any]:
    return {stage: run.config.train.objective_of_rows(stage) for stage in STAGES}


def _no_benchmark_texts(run: Run) -> "Benchmark | None":
    """Return what prompts, and rows of the demonstration pool, must not hold; None where that is not asked for."""
    from distill.prompting.decontaminate import Benchmark

    texts, benchmark_id = _benchmark(run)
    return Benchmark(texts, benchmark_id, run.corpus.decontaminate.max_distance) if benchmark_id else None


def generate(run: Run, stage: Source) -> Outcome:
    """Prompts to the teacher's answers, in shards. ``stage``: knowdist or icldist."""
    from distill.generation.run import generate as generate_stage

    _needs(run, "prompts", "distill prompts")
    teacher = run.teacher
    return generate_stage(
        stage, run.folder / "prompts" / f"{stage}.parquet", teacher, teacher_weights(run), run.folder,
        run.config.seed, run.on_change, retry_failed=run.retry_failed,
        show=lambda forecast, beyond: tell_forecast(forecast, beyond, teacher))


def teacher_weights(run: Run) -> Weights:
    """Return what the teacher answers with."""
    return weights_of(run.teacher.model, run.teacher.engine)


def teacher_eval(run: Run, stage: str) -> Outcome:
    """What the teacher is worth. ``stage``: gold (its labels against known ones) or judge (its analyses marked)."""
    from distill.teacher_eval.stage import check_gold, judge_analyses

    config = run.config
    if stage == "gold":
        return check_gold(config.teacher_eval.gold, run.teacher, teacher_weights(run), config.prompts.icldist,
                          run.folder, config.seed, run.on_change)
    judge = config.teacher_eval.judge
    if judge is None:
        raise InputError("teacher_eval.judge names no model that could judge. Set teacher_eval.judge.model.name.")
    _needs(run, "knowdist", "distill generate")
    return judge_analyses(judge, weights_of(judge.model, judge.engine), run.folder, config.seed, run.on_change)


def dataset(run: Run) -> Outcome:
    """Answers to training rows: the filters, and the last check of lengths. Or rows made elsewhere."""
    from distill.dataset.build import build_dataset

    if run.config.rows:
        return _rows_from_elsewhere(run)
    for stage in STAGES:
        _needs(run, stage, "distill generate")
    # What failed may have been answered now: rows are made again; models say that they were trained on others.
    on_change = "discard" if run.retry_failed else run.on_change
    return build_dataset(
        run.config.filters, run.config.train, student_base_folder(run), run.folder, run.config.seed,
        parents={stage: _fingerprint(run, stage) for stage in ("prompts", *STAGES)}, on_change=on_change,
        dataset=run.config.dataset, icldist=run.config.prompts.icldist, benchmark=_no_benchmark_texts(run))


def _rows_from_elsewhere(run: Run) -> Outcome:
    from distill.dataset.import_rows import Benchmarks, import_rows
    from sentibench.data import benchmark_texts, data_id, tasks_here
    from sentibench.protocols import texts_id
    from sentibench.registry import select_tasks
    from sentibench.training_rows import tasks_of, training_rows

    config, where = run.config, run.config.evaluate.data_dir
    asked = [task for source in (*run.rows.knowdist, *run.rows.icldist) if source.kind == "sentibench"
             for task in tasks_of(source)]
    own = [task for task in (*select_tasks(config.evaluate.tasks), *asked) if task.own]
    tasks = list(dict.fromkeys([*tasks_here(where), *(task.ref for task in (*own, *asked))]))
    return import_rows(
        run.rows, config.train, student_base_folder(run), run.folder, config.seed, on_change=run.on_change,
        benchmarks=Benchmarks(
            all=lambda: benchmark_texts(where, tasks), test=lambda: benchmark_texts(where, tasks, ("test",)),
            rows=lambda source: training_rows(source, where, config.evaluate.protocol, config.seed),
            labels={task.name: task.labels for task in asked if task.answer == "label"},
            id=fingerprint([data_id(where, tasks), config.evaluate.protocol, texts_id(asked) if asked else ""])))


def train(run: Run, stage: Stage) -> Outcome:
    """Fine-tune the student: ``knowdist`` from the base student, ``icldist`` from that; ``unified`` on both's rows."""
    from distill.training.stages import train_stage
    from distill.training.student import prepare_student

    _needs(run, "dataset", "distill generate")
    _discard_untrained(run)
    from flows.report.card import write_card

    out = run.folder / MODELS[stage]
    if stage == "icldist" and "knowdist" in trained_stages(run):
        _needs(run, MODELS["knowdist"], "distill train")
        start = run.folder / MODELS["knowdist"]
    else:
        start = prepare_student(run.config.student, run.folder)
    outcome = train_stage(
        stage, run.config.train, [run.folder / "dataset" / f"{source}.parquet" for source in sources_of(stage)], start,
        out, run.config.seed if run.config.train.seed is None else run.config.train.seed,
        parents=_fingerprint(run, "dataset"), on_change=run.on_change, teacher=_asked_in_training(run, stage, start))
    write_card(run.folder, run.config, out, student_base_folder(run), _scores_of(run, outcome))
    return outcome


def _asked_in_training(run: Run, stage: str, student: Path) -> "Path | TeacherEngine | None":
    """Return the model that a stage's objective asks for its distributions: its folder, or what it is behind.

    Raises:
        InputError: its vocabulary is not the student's; or the objective is not for such a student.
    """
    from distill.engines.registry import served_tokenizer
    from distill.models import load_tokenizer, resolve_model
    from distill.models.experts import refuse_router_loss
    from distill.models.same_vocabulary import refuse_other_tokens

    objective = run.config.train.objective_of(stage)
    refuse_router_loss(student, objective.kind)
    if not isinstance(objective, OnPolicyObjective):
        return None
    served = run.config.served_teacher(stage)
    if served is not None:
        refuse_other_tokens(served_tokenizer(served), load_tokenizer(student), objective.kind)
        return served
    asked = objective.teacher or run.teacher.model
    teacher = resolve_model(asked.name, asked.revision)
    refuse_other_tokens(load_tokenizer(teacher), load_tokenizer(student), objective.kind)
    return teacher


def _scores_of(run: Run, trained: Outcome) -> dict[str, Any] | None:
    """Return the scores in the run's report, where they are those of a model as it was trained.

    A damaged report, which is made of what is in the run and always written anew, stands in nobody's way.
    """
    results = run.folder / "report" / "results.json"
    if not results.exists():
        return None
    try:
        bench: dict[str, Any] = read_object(results, sentibench=dict)["sentibench"]
    except (InputError, OSError) as error:
        log.warning("The model's card shows no scores until 'distill report' has written them anew: %s", error)
        return None
    weights = bench.get("weights")
    current = isinstance(weights, dict) and weights.get("distilled") == trained.details["fingerprint"]
    return bench if current else None


def gate(run: Run, stage: str) -> Outcome:
    """Put held-out rows to the student after a stage, and end the run where it answers too badly."""
    from distill.validation.gate import pass_gate

    _needs(run, MODELS[stage], "distill train")
    stages = trained_stages(run)
    return pass_gate(run.config.train.gate, _predictor(run), stage, run.folder / MODELS[stage],
                     stages[stages.index(stage) + 1:], run.folder, run.config.seed)


def validate(run: Run) -> Outcome:
    """Put held-out rows to the student before, between and after the stages of training."""
    from distill.validation.stage import validate_models

    stages = trained_stages(run)
    models = {"base": student_base_folder(run)}
    for stage in stages:
        _needs(run, MODELS[stage], "distill train")
        models["distilled" if stage == stages[-1] else "stage1"] = run.folder / MODELS[stage]
    return validate_models(
        run.config.evaluate.validation, _predictor(run), models,
        [source for stage in stages for source in sources_of(stage)], run.folder, run.config.seed, run.on_change)


def calibrate(run: Run) -> Outcome:
    """A temperature for the student's probabilities in each task, fitted on held-out rows."""
    from distill.prediction.calibration_stage import calibrate_student
    from distill.prediction.question import question_of
    from distill.prompting.kept import kept_icldist

    model = MODELS[trained_stages(run)[-1]]
    _needs(run, model, "distill train")
    prompts = kept_icldist(run.folder)
    tasks = [name for name, task in prompts.tasks.items() if not task.multi_label and task.tuple_schema is None]
    if run.config.train.keep_reasoning:
        tasks = []  # its labels are written behind reasoning, and have no probabilities
    chat = run.config.train.prompt_format != "raw"  # as predict asks by default
    return calibrate_student({name: question_of(prompts, name, (), 0, chat) for name in tasks}, run.folder / model,
                             run.config.evaluate.engine, run.folder, run.on_change)


def _predictor(run: Run) -> Predictor:
    """Return how held-out rows are asked; answers may be as long as the teacher's were."""
    sampling = run.config.teacher.sampling if run.config.teacher else TeacherSampling()
    return Predictor(run.config.evaluate.engine, run.config.train.prompt_format == "chat",
                     {family: getattr(sampling, family).max_tokens for family in FAMILIES})


def evaluate(run: Run) -> Outcome:
    """Base student, distilled student and teacher on SentiBench."""
    from flows.evaluation import evaluate_models

    distilled = MODELS[trained_stages(run)[-1]]
    _needs(run, distilled, "distill train")
    models: dict[str, Path | None] = {"base": student_base_folder(run), "distilled": run.folder / distilled}
    config = run.config.evaluate
    if "teacher" in config.models:
        engine = run.config.teacher_evaluation_engine
        config = config.model_copy(update={"teacher_engine": engine})
        models["teacher"] = None if engine.capabilities.remote else teacher_folder(run)
    return evaluate_models(config, {name: models[name] for name in config.models}, run.folder, run.on_change)


def report(run: Run) -> dict[str, Any]:
    """Everything in the run folder to report.html, report.md and results.json. Always written anew."""
    from flows.report.build import build_report
    from flows.report.card import write_card

    for stage in planned(run):
        # Asked for by a command of its own; what runs of an earlier version do not have.
        if not stage.startswith(("teacher_eval/", "calibration")) or (run.folder / stage).exists():
            _needs(run, stage, command_for(stage))
    refuse_stale(run, student_base_folder(run))
    built = build_report(run.folder, run.config, planned(run))
    bench = read_object(Path(built["json"]), sentibench=dict)["sentibench"]
    card = write_card(run.folder, run.config, run.folder / MODELS[trained_stages(run)[-1]], student_base_folder(run),
                      bench)
    return {**built, "card": str(card)}


def _discard_untrained(run: Run) -> None:
    """Delete the model of a stage that is left out now, where what has changed is to be discarded."""
    for model in untrained_models(run):
        if run.on_change == "discard":
            claim_stage(run.folder / model)
            remove(run.folder / model)


def teacher_folder(run: Run) -> Path:
    """Return the teacher's weights on this machine."""
    from distill.models import resolve_model

    return resolve_model(run.teacher.model.name, run.teacher.model.revision)


def student_base_folder(run: Run) -> Path:
    """Return the student's weights before any training."""
    from distill.training.student import prepare_student

    return prepare_student(run.config.student, run.folder)


def _needs(run: Run, stage: str, command: str) -> None:
    """Refuse to build on a stage that is not finished, or that has lost files since.

    Raises:
        InputError: it is; the message names the ``command`` that makes it.
    """
    if is_finished(run.folder / stage):
        require_whole(run.folder / stage, command)
    else:
        raise InputError(f"The run {run.folder} has no finished '{stage}' stage, which this step builds on. "
                         f"Run '{command}' with the same config first, or 'distill run' for the whole way.")


def _fingerprint(run: Run, stage: str) -> str:
    return str(read_done(run.folder / stage)["fingerprint"])
