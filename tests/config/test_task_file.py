"""A task file describes a task once: the teacher is asked, the student evaluated and used with the same words."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config.load import load_config, save_config
from distill.config.prompt_files import icldist_prompts
from distill.config.schema import IclDist
from distill.config.task_file import load_task, with_tasks
from distill.config.task_lines import example_lines
from distill.config.task_schema import TaskFile
from distill.errors import InputError
from distill.models.tokenization import raw_separator
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.labels import meaning
from distill.run.records import Text
from flows.cli.main import main
from flows.run import CONFIG, stored_config
from flows.students import find_task
from sentibench.data import benchmark_texts
from sentibench.protocols import build_examples, load_task_data
from sentibench.registry import select_tasks

LABELS = ["закохана", "задоволена", "розлючена"]
TASK: dict[str, Any] = {
    "name": "guests", "instruction": ["Наскільки задоволена гостя? Одне з {Labels}.", "Which of {Labels} is she?"],
    "label_sets": {"words": LABELS, "grades": ["A", "B", "C"]}, "demonstrations": "shown.jsonl", "test": "test.jsonl"}


def write(folder: Path, **changes: Any) -> Path:
    """Write a whole task into a folder and return its YAML file."""
    folder.mkdir(exist_ok=True)
    values = {key: value for key, value in {**TASK, **changes}.items() if value is not None}
    (folder / "guests.yaml").write_text(yaml.safe_dump(values, allow_unicode=True, sort_keys=False), encoding="utf-8")
    shown = [{"text": f"Відгук {at}", "label": LABELS[at % 3]} for at in range(6)]
    lines(folder / "shown.jsonl", shown)
    lines(folder / "test.jsonl", [{"text": "Привид у кімнаті!", "label": LABELS[2]}])
    return folder / "guests.yaml"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("task")


def lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def asked(path: Path, **more: Any) -> list[Any]:
    config = IclDist.model_validate({"tasks": [str(path)], "weights": {"sentiment": 0, "emotion": 0},
                                     "max_demonstrations": 4, **more})
    texts = [Text(str(at), f"Кімната {at} замала", "any", "any") for at in range(60)]
    return list(icldist_candidates(texts, load_demonstrations(config), config, 42))


def test_the_teacher_is_asked_in_every_wording_and_label_set_and_shown_the_tasks_own_demonstrations(
        tmp_path: Path) -> None:
    found = asked(write(tmp_path))
    assert {one.kind for one in found} == {f"guests/{name}" for name in ("basic", "basic2", "lw", "mi")}
    assert {one.labels for one in found} == {tuple(LABELS), ("A", "B", "C")}
    for one in found:
        assert "Відгук" in "".join(one.demonstrations)
        assert all(block.split("Output: ")[1].strip() in one.labels for block in one.demonstrations)
        shown = "[" + ", ".join(f"'{label}'" for label in one.labels) + "]"
        assert (shown in one.head) == (one.strategy != "mi")
    assert not [one for one in asked(tmp_path / "guests.yaml", label_words=False, minimized_instructions=False)
                if one.strategy in ("lw", "mi")]


def test_label_words_mean_the_standard_label_in_the_same_place(tmp_path: Path) -> None:
    prompts = IclDist.model_validate({"tasks": [str(write(tmp_path))]}).prompts()
    assert [meaning(prompts, word, ("A", "B", "C")) for word in "ABC"] == LABELS


def test_the_student_is_evaluated_and_used_with_the_words_of_its_training(tmp_path: Path) -> None:
    path = write(tmp_path)
    task = select_tasks([str(path)])[0]
    data = load_task_data(task, "nowhere", "released")
    (example,) = build_examples(task, data, "released", 42)
    trained = next(one for one in asked(path) if one.strategy == "basic")
    assert example.prompt.startswith(trained.head) and example.item.label_text == LABELS[2]
    assert example.prompt.endswith("Sentence: Привид у кімнаті!\nOutput:")
    blocks = [f"Sentence: {one.sentence}\nOutput: {one.label_text}\n\n" for one in data.pool]
    assert sum(block in example.prompt for block in blocks) == 4
    prompts, name, pool = find_task(str(path), None, path.parent)
    assert name == "guests" and [one.text for one in pool] == [one.sentence for one in data.pool]
    assert prompts == IclDist.model_validate({"tasks": [str(path)]}).prompts()


def test_test_examples_leave_the_corpus_and_demonstrations_may_be_shown(tmp_path: Path) -> None:
    texts = [one.text for one in benchmark_texts("nowhere", [str(write(tmp_path))])]
    assert texts == ["Привид у кімнаті!"]


def test_paths_are_meant_from_the_file_they_stand_in(tmp_path: Path) -> None:
    write(tmp_path / "tasks")
    config = tmp_path / "mine.yaml"
    config.write_text("name: mine\nprompts: {icldist: {tasks: [tasks/guests.yaml]}}\n"
                      "corpus: {sources: [{kind: text, path: texts.txt}]}\n"
                      "teacher: {model: {name: random-tiny}, engine: {kind: transformers}}\n"
                      "student: {model: {name: random-tiny}}\n")
    read = load_config(config, [])
    assert "guests" in read.prompts.icldist.prompts().tasks
    # A run's own config is read when the files have gone, or have been changed since.
    save_config(read, tmp_path / CONFIG)
    for file, content in (("shown.jsonl", "?"), ("guests.yaml", "?")):
        (tmp_path / "tasks" / file).write_text(content)
        assert stored_config(tmp_path).prompts.icldist.tasks == [str(tmp_path / "tasks/guests.yaml")]
        with pytest.raises(InputError, match=file):
            load_config(config, [])


def test_the_tasks_that_ship_stay_the_same_beside_one_of_a_users_own(tmp_path: Path) -> None:
    prompts, ours = IclDist.model_validate({"tasks": [str(write(tmp_path))]}).prompts(), icldist_prompts()
    assert {name: prompts.tasks[name] for name in ours.tasks} == ours.tasks
    assert {name: prompts.label_sets[name] for name in ours.label_sets} == ours.label_sets


@pytest.mark.parametrize(("changes", "said"), [
    ({"instruction": "How is it?"}, r"instruction 1 needs \{Labels\} once"),
    ({"instruction": "One of {Labels} for {Text}"}, "no other word in braces"),
    ({"label_sets": {"one": ["happy", "Happy "]}}, "blanks around it"),
    ({"label_sets": {"one": ["very happy", "Veryhappy"]}}, "differ in case and blanks alone"),
    ({"label_sets": {"one": LABELS, "two": ["A", "B"]}}, "'two' has 2 labels"),
    ({"label_sets": {"one": ["only"]}}, "two labels, or more"),
    ({"label_sets": {"one": {"labels": LABELS, "column": "mood"}}}, "'one' names a column .* take one of the two out"),
    ({"label_sets": {"one": {"labels": LABELS, "names": LABELS}}}, "label_sets.one: names, and strategy: lt, are for"),
    ({"label_sets": {"one": {"labels": LABELS, "colum": "mood"}}}, "no such key; the nearest is 'column'"),
    ({"label_sets": {"one": "happy"}}, "label_sets.one.labels: "),
    ({"demonstrations": None}, "'demonstrations' is missing"),
    ({"label_sets": {"one": [*LABELS, "ніяка"]}}, "No demonstration .* shows the label 'ніяка'"),
    ({"label_sets": {"one": ["a", "b", "c"]}}, "line 1: 'закохана' is none of the labels"),
    ({"answer": "label", "lables": 1}, "lables"), ({"name": "a/b"}, "name"), ({"label_sets": None}, "label_sets"),
    ({"demonstrations": "nothing.jsonl"}, "names it under 'demonstrations'"),
    ({"answer": "labels"}, "line 1: its 'labels'")])
def test_a_mistake_in_a_task_file_is_one_paragraph_that_says_where(
        changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        load_task(write(tmp_path, **changes))


@pytest.mark.parametrize(("layout", "fits"), [
    (("{Text} is {Answer}", "{Text} is"), False), (("{Text}\n{Answer}", "{Text}"), False),
    (("{Text}：{Answer}", "{Text}："), False), (("Label: {Answer} of {Text}", "{Text} is:"), False),
    (("{Text} is:  {Answer}", "{Text} is:"), False), (("", "{Text}\nLabel:"), False),
    (("{Text}\nIs: {Answer}", ""), False), (("{Text} is: {Answer}!\n", "And {Text} is: \n"), True)])
def test_a_question_leads_to_the_answer_as_demonstrations_do_and_training_does(
        layout: tuple[str, str], fits: bool, tmp_path: Path) -> None:
    task = load_task(write(tmp_path, demonstration=layout[0], question=layout[1]))
    if fits:
        used = with_tasks(icldist_prompts(), [task]).layout_of("guests")
        lead = used.question + raw_separator(used.question)
        assert used.demonstration.partition("{Answer}")[0].endswith(lead.partition("{Text}")[2])
    else:
        with pytest.raises(InputError, match=r"guests\.yaml does not lead to the answer in one way"):
            with_tasks(icldist_prompts(), [task])


@pytest.mark.parametrize(("rows", "said"), [
    ([{"text": "x", "label": LABELS[0]}] * 2, "line 2, has the same text as line 1"),
    ([["x"]], "line 1, is not an object"), ([{"text": " ", "label": LABELS[0]}], "non-empty 'text'"),
    ([{"text": "x", "label": 3}], "its 'label' is 3"), ([], "holds 0 demonstrations")])
def test_a_mistake_in_the_demonstrations_names_the_line(rows: list[Any], said: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    lines(tmp_path / "shown.jsonl", rows)
    with pytest.raises(InputError, match=said):
        load_task(path)


ANYTHING = st.recursive(st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=9) | st.sampled_from(LABELS),
                        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
                            st.sampled_from(["labels", "column", "strategy", "names", "one"]), inner, max_size=3))


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from([*TaskFile.model_fields, "data"]), ANYTHING, min_size=1, max_size=3))
def test_any_value_of_any_key_is_taken_or_refused_in_one_paragraph(place: Path, changes: dict[str, Any]) -> None:
    path = write(place)
    path.write_text(json.dumps({**TASK, **changes}))
    try:
        task = load_task(path)
        prompts = with_tasks(icldist_prompts(), [task])
    except InputError as error:
        assert "\n" not in str(error) and str(place) in str(error) and len(str(error)) < 1500
    else:
        assert prompts.tasks[task.described.name].multi_label == (task.described.answer == "labels")


@given(st.text())
def test_any_text_as_demonstrations_is_read_or_named_by_line(text: str) -> None:
    task = TaskFile.model_validate(TASK)
    try:
        assert all(labels[0] in LABELS for _, _, labels in example_lines(task, "it", text))
    except InputError as error:
        assert str(error).startswith("it, line ")


def test_a_new_task_is_whole_and_a_mistake_is_found_before_a_run(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    main(["task", "new", "hotel"])
    main(["task", "check", "hotel.yaml"])
    assert "Sentence: We would come back tomorrow.\nOutput:" in capsys.readouterr().out
    for name, said in (("hotel", "is there already"), ("../hotel", "cannot be called")):
        with pytest.raises(SystemExit, match="2"):
            main(["task", "new", name])
        assert said in capsys.readouterr().err
    shown = (tmp_path / "hotel-demonstrations.jsonl").read_text()
    (tmp_path / "hotel-test.jsonl").write_text(shown.upper().replace("TEXT", "text").replace("LABEL", "label").lower())
    with pytest.raises(SystemExit, match="2"):
        main(["task", "check", "hotel.yaml"])
    assert "is a demonstration as well" in capsys.readouterr().err
