"""General tasks: sentiment tasks stay out, outputs stay unread, malformed files are named."""

import json
from collections import Counter
from pathlib import Path

import pytest

from distill.config.schema import General
from distill.errors import InputError
from distill.prompting.natural_tasks import choose_tasks, general_candidates, load_task
from tests.prompting.test_prompting import HOSTILE


def write_task(path: Path, **fields) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    examples = [{"input": f"example {i}", "output": f"shown {i}", "explanation": ""} for i in range(5)]
    instances = [{"id": str(i), "input": f"input {i}", "output": ["SECRET"]} for i in range(30)]
    task = {"Categories": ["Text Transformation"], "Definition": ["Turn it around."], "Positive Examples": examples,
            "Instances": instances, **fields}
    path.write_text(json.dumps(task), encoding="utf-8-sig")
    return path


def test_of_the_shared_tasks_sentiment_and_translation_are_left_out(shared_dir):
    folder = shared_dir / "natural_tasks"
    chosen = choose_tasks(General(path=str(folder)), 42)
    translations = {f"translation_en-{code}.json": "file name says 'translation'" for code in ("de", "es", "fr")}
    assert chosen.left_out == {"sentiment.json": "category says 'sentiment'", **translations}
    assert {task.name for task in chosen.tasks} == {path.stem for path in folder.glob("*.json")} - {
        Path(name).stem for name in chosen.left_out}


@pytest.mark.parametrize(("fields", "out"), [
    ({"Input_language": ["English"], "Output_language": ["Hindi"]}, "it is in Hindi"),
    ({"Input_language": ["Spanish", "English"]}, "it is in Spanish"),
    ({"Instruction_language": ["Farsi"]}, "it is in Farsi"),
    ({"Input_language": ["english "], "Output_language": "English"}, None),
    ({"Categories": ["Program Execution"]}, "its category is Program Execution"),
    ({"Categories": ["Textual Entailment", "Text to Code"]}, "its category is Text to Code"),
    ({"Categories": ["Textual Entailment"], "Input_language": ["English"]}, None)])
def test_a_task_is_english_language_understanding_or_left_out_with_the_reason(tmp_path, fields, out):
    write_task(tmp_path / "one.json", **fields)
    write_task(tmp_path / "other.json")
    write_task(tmp_path / "task1353_hind_translation_en_hi.json")
    assert choose_tasks(General(path=str(tmp_path)), 1).left_out == {
        **({"one.json": out} if out else {}), "task1353_hind_translation_en_hi.json": "file name says 'translation'"}
    anything = General(path=str(tmp_path), languages=[], left_out_categories=[])
    assert choose_tasks(anything, 1).left_out == {}


@pytest.mark.parametrize(("categories", "out"), [
    (["Text Matching"], False), (["Text Transformation", "Text Matching"], False), ([], True),
    (["Text Transformation"], True)])
def test_a_file_name_says_the_kind_of_a_task_only_where_its_categories_do_not(tmp_path, categories, out):
    write_task(tmp_path / "task1288_glue_mrpc_paraphrasing.json", Categories=categories)
    write_task(tmp_path / "other.json")
    left_out = choose_tasks(General(path=str(tmp_path)), 1).left_out
    assert left_out == ({"task1288_glue_mrpc_paraphrasing.json": "file name says 'paraphrasing'"} if out else {})


@pytest.mark.parametrize(("name", "fields", "out"), [
    ("task475_yelp_polarity_classification", {}, True),
    ("plain", {"Categories": ["Stance Detection"]}, True),
    ("plain", {"Definition": "Say whether the sentence is ironic."}, True),
    ("plain", {"Definition": ["Find the author's emotions."]}, True),
    ("plain", {"Definition": "For instance, in this circumstance, count the words."}, False),
    ("plain", {"Instances": []}, True),
])
def test_sentiment_tasks_are_known_by_category_name_or_definition(tmp_path, name, fields, out):
    write_task(tmp_path / f"{name}.json", **fields)
    write_task(tmp_path / "other.json")
    assert (f"{name}.json" in choose_tasks(General(path=str(tmp_path)), 1).left_out) == out


def test_the_outputs_of_instances_are_never_in_a_prompt(tmp_path):
    task = load_task(write_task(tmp_path / "turn.json"))
    assert "SECRET" not in repr(task)
    counts = set()
    for candidate in general_candidates([task], General(), 42):
        prompt = candidate.render()
        counts.add(prompt.n_demonstrations)
        assert prompt.prompt.startswith("Definition: Turn it around.\n\n")
        assert prompt.prompt.endswith(f"Input: {candidate.text}\nOutput:")
        assert prompt.family == "general" and prompt.kind == "turn" and prompt.labels == []
    assert counts == {0, 1, 2, 3, 4}


def test_general_prompts_are_balanced_over_tasks(tmp_path):
    names = ["one", "two", "three"]
    tasks = [load_task(write_task(tmp_path / f"{name}.json")) for name in names]
    candidates = list(general_candidates(tasks, General(), 42))
    assert len(candidates) == 90
    assert Counter(candidate.kind for candidate in candidates[:12]) == dict.fromkeys(names, 4)


def test_at_most_max_tasks_are_chosen_whatever_else_is_in_the_folder(tmp_path):
    for i in range(6):
        write_task(tmp_path / f"task{i}.json")
    chosen = choose_tasks(General(path=str(tmp_path), max_tasks=2), 42)
    assert len(chosen.tasks) == 2
    assert [task.name for task in chosen.tasks] == [
        task.name for task in choose_tasks(General(path=str(tmp_path), max_tasks=2), 42).tasks]


@pytest.mark.parametrize("fields", [
    {"Definition": None}, {"Instances": [{"output": "x"}]}, {"Instances": [{"input": 3}]},
    {"Instances": {"input": "x"}}, {"Positive Examples": [{"input": "x", "output": []}]},
    {"Instances": [{"input": "\ud800"}]}])
def test_a_malformed_task_file_is_one_error_with_its_name(tmp_path, fields):
    path = write_task(tmp_path / "broken.json", **fields)
    with pytest.raises(InputError, match=r"broken\.json is not a Super-NaturalInstructions task file"):
        load_task(path)


def test_a_missing_or_useless_task_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no Super-NaturalInstructions task files"):
        choose_tasks(General(path=str(tmp_path / "nowhere")), 1)
    write_task(tmp_path / "sentiment.json")
    with pytest.raises(InputError, match="left out as sentiment tasks"):
        choose_tasks(General(path=str(tmp_path)), 1)


def test_hostile_definitions_and_inputs_are_copied_as_they_stand(tmp_path):
    path = write_task(tmp_path / "copy.json", Definition=[HOSTILE], Instances=[{"input": HOSTILE}])
    (candidate,) = general_candidates([load_task(path)], General(), 1)
    assert candidate.render().prompt.count(HOSTILE) == 2
