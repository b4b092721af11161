"""A perspective and a task of a user's own: one entry, or one file, and nothing of the package is touched."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.config import prompt_files
from distill.config.load import load_config, validate
from distill.config.prompt_files import icldist_prompts, knowdist_prompts
from distill.config.schema import Filters, IclDist, KnowDist, Prompts
from distill.dataset.composition import composition
from distill.dataset.filters import filters_of
from distill.errors import InputError
from distill.prompting.build import build_prompts
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.files import read_prompts
from distill.prompting.icldist import icldist_candidates
from distill.prompting.kept import kept_icldist, kept_knowdist
from distill.prompting.knowdist import knowdist_candidates
from distill.prompting.labels import meaning
from distill.run.records import Text, TrainingRow, write_records
from distill.teacher_eval.gold import gold_questions, read_answers, score_gold
from distill.teacher_eval.judge import choose_analyses, judged_perspectives, score_verdicts
from distill.teacher_eval.rubric import judge_prompt
from flows.report.teacher_eval import gold_table, judge_table
from flows.run import open_run
from flows.steps import collect
from tests.prompting.test_prompting import PERSPECTIVES, make_texts
from tests.prompting.test_stage import word_limits
from tests.support.teacher_eval import answered, output, verdict_of, verdicts

ROOT = Path(__file__).parents[2]
ASPECT = {"perspectives": {"aspect": {
    "weight": 3, "rubric": "An aspect that the text does not name is a hallucination.",
    "analyze": {"instruction": "List the aspects of {product} in the text."}}}}
URGENCY = {
    "name": "urgency", "instruction": "How urgent is it? One of {Labels}.",
    "minimized_instruction": "Do as in the examples.", "demonstrations": "urgency.jsonl",
    "label_sets": {"standard": ["urgent", "can wait"], "short": ["U", "W"]}}
SHOWN = {"Fix it now!": "urgent", "It burns!": "urgent", "Whenever you like.": "can wait"}


def own(path: Path, values: Any) -> str:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return str(path)


def task(folder: Path) -> str:
    """Write a task into a folder and return its YAML file."""
    (folder / "urgency.jsonl").write_text("".join(json.dumps({"text": text, "label": label}) + "\n"
                                                  for text, label in SHOWN.items()))
    return own(folder / "urgency.yaml", URGENCY)


def build(folder: Path, **families: Any) -> Path:
    """Have the real stage write the prompts of a run; return the run's folder."""
    texts = [*make_texts(60), Text("own", "fix it  NOW!", "any", "any")]
    write_records(folder / "texts.parquet", Text, texts)
    config = Prompts.model_validate({
        **{name: {"samples": 0} for name in ("knowdist", "icldist", "general")}, **families})
    build_prompts(config, folder / "texts.parquet", 42, folder / "run", word_limits(), {})
    return folder / "run"


def test_a_perspective_of_a_users_own_file_is_asked_judged_and_shown(tmp_path: Path) -> None:
    file = own(tmp_path / "aspect.yaml", ASPECT)
    run = build(tmp_path, knowdist={"samples": 100, "perspectives": file})
    asked = [one for one in read_prompts(run, "knowdist") if one.perspective == "aspect"]
    assert 10 < len(asked) < 60 and {one.kind for one in asked} == {"analyze/aspect"}
    assert all(one.prompt.startswith("List the aspects of {product} in the text.\n\nText: ") for one in asked)
    # The judge marks it, is told more about it, and the report has its row.
    perspectives = judged_perspectives(kept_knowdist(run))
    assert list(perspectives) == [*judged_perspectives(knowdist_prompts()), "aspect"]
    answered(run, kinds=("analyze/aspect", "analyze/target"))
    chosen = choose_analyses(run / "prompts/knowdist.parquet", run / "knowdist/responses", perspectives, 3, 42)
    assert [one.perspective for one in chosen] == ["target"] * 3 + ["aspect"] * 3
    told = judge_prompt(chosen[-1].task, chosen[-1].answer, perspectives["aspect"])
    assert "An aspect that the text does not name is a hallucination.\n" in told
    rows = score_verdicts(verdicts("aspect", output(verdict_of(1, 2, 3, 4, 5))), perspectives, 42)
    names = {"teacher": {"model": {"name": "t"}}, "teacher_eval": {"judge": {"model": {"name": "j"}}}}
    assert next(cells[0] for _, cells in judge_table(rows, names).rows) == "Aspect"
    rows = [TrainingRow("x", "knowdist", "analyze/aspect", "p", "c")]
    write_records(run / "dataset/knowdist.parquet", TrainingRow, rows)
    (run / "prompts/knowdist.parquet").unlink()
    assert composition(run, "knowdist") == [
        {"family": "knowdist", "kind": "analyze/aspect", "source": "", "rows": 1}]


def test_the_prompts_that_ship_stay_the_same_beside_a_users_own_task(tmp_path: Path) -> None:
    config = IclDist.model_validate({"tasks": [task(tmp_path)], "weights": {"urgency": 0}})
    assert list(icldist_candidates(make_texts(50), load_demonstrations(config), config, 42)) == list(
        icldist_candidates(make_texts(50), load_demonstrations(IclDist()), IclDist(), 42))
    without = KnowDist.model_validate({"weights": {"aspect": 0}, "perspectives": own(tmp_path / "aspect.yaml", ASPECT)})
    assert list(knowdist_candidates(make_texts(50), without, 42)) == list(
        knowdist_candidates(make_texts(50), KnowDist(), 42))


def test_a_task_of_a_users_own_file_is_asked_with_its_labels_and_its_answers_are_read_against_them(
        tmp_path: Path) -> None:
    run = build(tmp_path, icldist={"samples": 60, "tasks": [task(tmp_path)], "prompts_per_text": 3})
    asked = [one for one in read_prompts(run, "icldist") if one.kind.startswith("urgency/")]
    assert {one.kind for one in asked} == {"urgency/basic", "urgency/lw", "urgency/mi"}
    assert {tuple(one.labels) for one in asked} == {("urgent", "can wait"), ("U", "W")}
    shown = {block.split("\n")[0] for one in asked for block in one.prompt.split("Sentence: ")[1:-1]}
    assert shown == {"Fix it now!", "Whenever you like.", "It burns!"}
    for one in asked:
        *examples, question = one.prompt.split("Sentence: ")[1:]
        assert {block.split("Output: ")[1].strip() for block in examples} <= set(one.labels)
        assert one.n_demonstrations == len(examples) <= 3
        assert one.text_id != "own" or not any("Fix it now!" in block for block in examples), question
    basic = next(one for one in asked if one.kind == "urgency/basic")
    assert basic.prompt.startswith("How urgent is it? One of ['urgent', 'can wait'].\n\nSentence: ")
    # Filters read answers against the list, and prompts in other words are told to mean the same.
    from distill.dataset.answers import verdict
    from distill.run.records import Response
    filters = filters_of(Filters())
    for said, reason in (("can wait", ""), ("positive", "off_list")):
        assert verdict(filters, basic, Response(basic.id, said, "stop", 1, 1))[0] == reason
    assert meaning(kept_icldist(run), "W", ["U", "W"]) == "can wait"


def test_the_teacher_is_asked_the_known_labels_of_a_users_own_task(tmp_path: Path) -> None:
    config = IclDist.model_validate({"tasks": [task(tmp_path)]})
    questions = [one for one in gold_questions(load_demonstrations(config), config, 50, 42) if one.task == "urgency"]
    assert sorted(one.gold for one in questions) == [["can wait"], ["urgent"], ["urgent"]]
    assert all(one.prompt.prompt.count(f"Sentence: {one.text}\n") == 1 for one in questions)
    scores = score_gold(questions, read_answers(questions, [output(one.gold[0]) for one in questions]), 42)
    assert scores["urgency"]["value"] == 1
    about = {"prompts": {"icldist": {"min_demonstrations": 1, "max_demonstrations": 2}},
             "teacher": {"model": {"name": "t"}}}
    ((_, cells),) = gold_table(scores, about).rows
    assert cells[0] == "Urgency (accuracy)" and cells[1] == "100.00" and cells[-1] == "–"


@pytest.mark.parametrize(("values", "message"), [
    ({"perspectives": {"a b": ASPECT["perspectives"]["aspect"]}}, "perspectives.a b: String should match"),
    ({"perspectives": {"a": {"weight": 1}}}, "perspectives.a: a perspective needs an instruction"),
    ({"perspectives": {"analyze": {"analyze": {"instruction": "x"}}}}, "'analyze' is called like a method"),
    ({"perspectives": {"a": {"analyze": {"instruction": "x\n\nText: y"}}}}, "by which the text is found"),
    ({"tasks": {}}, r"tasks: there is no such key \(there are: perspectives\)"),
    ({"perspectives": {"a": {"rubrik": "x"}}}, r"perspectives\.a\.rubrik: .* the nearest is 'rubric'"),
    ({"perspectives": {"a": {"analyze": {"instruction": "x", "tabel": 3}}}}, r"analyze\.tabel: .* nearest is 'table'"),
    ([1], "valid dictionary"),
])
def test_a_file_that_is_none_of_perspectives_is_refused_with_the_key(
        tmp_path: Path, values: Any, message: str) -> None:
    file = own(tmp_path / "own.yaml", values)
    with pytest.raises(InputError, match=rf"The prompt file .*own\.yaml cannot be used: .*{message}"):
        validate({"samples": 1, "perspectives": file}, "a test", KnowDist)


def test_a_prompt_file_is_meant_from_the_configs_folder_and_one_that_is_missing_is_told_at_once(
        tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "flows/configs/ci.yaml").read_text())
    values["prompts"]["knowdist"]["perspectives"] = "aspect.yaml"
    config = own(tmp_path / "c.yaml", values)
    with pytest.raises(InputError, match=r"There is no file .*aspect\.yaml"), open_run(config, str(tmp_path / "run")):
        pass
    file = own(tmp_path / "aspect.yaml", ASPECT)
    assert load_config(Path(config)).prompts.knowdist.perspectives == file


def test_a_wrong_weight_names_the_nearest_of_the_users_own(tmp_path: Path) -> None:
    file = own(tmp_path / "aspect.yaml", ASPECT)
    (tmp_path / "c.yaml").write_text((ROOT / "flows/configs/ci.yaml").read_text())
    overrides = [f"prompts.knowdist.perspectives={file}", "prompts.knowdist.weights.aspekt=2"]
    with pytest.raises(InputError, match=r"prompts\.knowdist: weights names 'aspekt'.*did you mean 'aspect'\?"):
        load_config(tmp_path / "c.yaml", overrides)


def test_a_runs_own_config_can_be_read_when_its_prompt_file_is_gone(tmp_path: Path) -> None:
    settings = {"perspectives": str(tmp_path / "gone.yaml"), "weights": {"aspect": 2}}
    config = KnowDist.model_validate(settings)
    with pytest.raises(InputError, match=r"gone\.yaml"):
        config.prompts()


def test_a_run_of_before_the_key_had_its_name_is_read(tmp_path: Path) -> None:
    file = own(tmp_path / "aspect.yaml", ASPECT)
    assert KnowDist.model_validate({"file": file}).perspectives == file
    assert KnowDist.model_validate({"file": None, "samples": 3}).perspectives is None


def test_a_run_of_before_icldist_had_tasks_alone_is_read_unless_it_had_a_file_of_prompts() -> None:
    assert validate({"file": None, "samples": 3}, "a test", IclDist) == IclDist(samples=3)
    with pytest.raises(InputError, match=r"describe each .* in a task file .* name these in prompts\.icldist\.tasks"):
        validate({"file": "urgency.yaml"}, "a test", IclDist)


@pytest.fixture
def shipped_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The prompts that ship in a folder of their own, from which they are read."""
    shutil.copytree(ROOT / "prompts", tmp_path / "prompts")
    monkeypatch.setattr(prompt_files, "shipped", tmp_path.joinpath)
    for cached in (icldist_prompts, prompt_files._shipped_knowdist):
        cached.cache_clear()
    yield tmp_path / "prompts/tasks"
    for cached in (icldist_prompts, prompt_files._shipped_knowdist):
        cached.cache_clear()


def test_a_perspective_that_ships_is_a_file_in_a_folder(shipped_copy: Path) -> None:
    before = KnowDist().prompts()
    own(shipped_copy.parent / "perspectives/aspect.yaml", ASPECT)
    prompt_files._shipped_knowdist.cache_clear()
    assert KnowDist().prompts().perspectives.keys() == {*before.perspectives, "aspect"}
    assert KnowDist().kinds()["analyze"] == dict.fromkeys(PERSPECTIVES, 1) | {"aspect": 3}


def test_a_task_that_ships_is_a_file_in_a_folder(shipped_copy: Path) -> None:
    before = icldist_prompts()
    task(shipped_copy)
    icldist_prompts.cache_clear()
    config = IclDist()
    assert list(config.prompts().tasks) == ["sentiment", "emotion", "urgency"]
    assert dict(list(config.prompts().tasks.items())[:2]) == before.tasks
    found = list(icldist_candidates(make_texts(90), load_demonstrations(config), config, 42))
    asked = [one for one in found if one.kind.startswith("urgency/")]
    assert 20 < len(asked) < 40 and {one.labels for one in asked} == {("urgent", "can wait"), ("U", "W")}
    (shipped_copy / "urgency.yaml").unlink()
    (shipped_copy / "sentiment.yaml").unlink()
    icldist_prompts.cache_clear()
    assert list(IclDist().prompts().tasks) == ["emotion"] and "standard" not in IclDist().prompts().label_sets


def test_a_task_of_a_users_own_may_be_shown_with_the_common_demonstrations(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "prompts/tasks/emotion.yaml").read_text())
    values |= {"name": "moods", "instruction": "Which moods of {Labels}?"}
    with pytest.raises(InputError, match=r"has a label set 'ekman', and so has the task 'emotion'.*the key 'paper'"):
        IclDist.model_validate({"tasks": [own(tmp_path / "moods.yaml", values)]})
    del values["paper"]
    config = IclDist.model_validate({"tasks": [own(tmp_path / "moods.yaml", values)], "weights": {
        "sentiment": 0, "emotion": 0}})
    pool = load_demonstrations(config)
    asked = list(icldist_candidates(make_texts(60), pool, config, 42))
    assert {one.kind for one in asked} == {"moods/basic", "moods/lt", "moods/mi"} and len(pool) == 55
    assert {len(one.labels) for one in asked} == {6, 7, 28}
    shown = {block.split("\n")[0].removeprefix("Sentence: ") for one in asked for block in one.demonstrations}
    assert shown <= {one.text for one in pool}


def test_common_demonstrations_show_every_label_of_a_users_own_task_and_those_of_other_labels_are_left_out(
        tmp_path: Path) -> None:
    def config(sets: dict[str, Any]) -> IclDist:
        values = {"name": "mine", "instruction": "Say {Labels}.", "label_sets": sets}
        return IclDist.model_validate({"tasks": [own(tmp_path / "mine.yaml", values)], "max_demonstrations": 55,
                                       "weights": {"sentiment": 0, "emotion": 0}})

    standard = {"column": "sentiment", "labels": ["positive", "negative"]}
    two = config({"s": standard, "w": {"column": "sentiment", "labels": ["+", "-"]}})
    pool = load_demonstrations(two)
    neutral = {one.text for one in pool if one.answers["sentiment"] == ("neutral",)}
    asked = list(icldist_candidates(make_texts(30), pool, two, 42))
    shown = {block.split("\n")[0].removeprefix("Sentence: ") for one in asked for block in one.demonstrations}
    assert neutral and shown == {one.text for one in pool} - neutral
    assert not neutral & {one.text for one in gold_questions(pool, two, 55, 42) if one.task == "mine"}
    for sets, said in (
            ({"s": {**standard, "labels": ["plus", "minus"]}}, "'plus' .*'sentiment', which has negative, neu"),
            ({"s": standard, "w": {"column": "emotions", "labels": ["a", "b"]}}, "'a' of 'mine.w'.* be 'positive' in"),
            ({"s": standard, "t": {"column": "emotions", "labels": ["anger", "joys"], "strategy": "lt"}}, "'joys' of"),
            ({"s": {**standard, "names": ["positive", "positive"]}}, "shows the label 'positive' of 'mine.s'")):
        with pytest.raises(InputError, match=said):
            load_demonstrations(config(sets))
    with open_run(str(ROOT / "flows/configs/ci.yaml"), str(tmp_path / "run"), [
            f"prompts.icldist.tasks=[{tmp_path / 'mine.yaml'}]"]) as run, pytest.raises(InputError, match=said):
        collect(run)
    assert not (run.folder / "corpus").exists()


def test_the_content_of_a_prompt_file_decides_and_not_where_it_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = own(tmp_path / "a/aspect.yaml", ASPECT)
    run = build(tmp_path, knowdist={"samples": 10, "perspectives": first})
    before = (run / "prompts/_done.json").read_text()
    moved = own(tmp_path / "b/other-name.yaml", ASPECT)
    build(tmp_path, knowdist={"samples": 10, "perspectives": moved})
    assert (run / "prompts/_done.json").read_text() == before
    changed = json.loads(json.dumps(ASPECT))
    changed["perspectives"]["aspect"]["analyze"]["instruction"] = "Other words."
    with pytest.raises(InputError, match="prompt_files"):
        build(tmp_path, knowdist={"samples": 10, "perspectives": own(tmp_path / "b/other-name.yaml", changed)})


def test_many_perspectives_are_drawn_as_their_weights_say() -> None:
    from collections import Counter

    from distill.prompting.sampling import PromptRng, SystematicSampler

    groups = {method: {str(n): 1 for n in range(6)} for method in ("analyze", "rewrite")}
    sampler = SystematicSampler(groups, 2, once=True)
    drawn = [sampler.draw(PromptRng(1, str(n), "x")) for n in range(2400)]
    assert all(sorted(method for method, _ in one) == ["analyze", "rewrite"] for one in drawn)
    counts = Counter(key for one in drawn for key in one)
    assert len(counts) == 12 and all(abs(count - 400) < 5 * 400**.5 for count in counts.values())
