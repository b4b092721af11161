"""The model card says what a model was made of and by which licences; nothing in it is made up."""

import json
from pathlib import Path

import pytest
import yaml

from distill.config.load import load_config
from distill.config.schema import FileRows, Rows
from distill.models.licences import UNKNOWN, licence_of
from distill.run.records import Text, TrainingRow, write_records
from distill.run.storage import write_json
from flows.report.card import card_of_form, write_card

CI = Path(__file__).parents[2] / "flows/configs/ci.yaml"


@pytest.mark.parametrize(("name", "expected", "restricted"), [
    ("meta-llama/Llama-3.1-70B-Instruct", "llama3.1", True), ("meta-llama/Llama-3.2-1B-Instruct", "llama3.2", True),
    ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3", True), ("Qwen/Qwen2.5-1.5B-Instruct", "apache-2.0", False),
    ("Qwen/Qwen2.5-3B-Instruct", "qwen-research", True), ("Qwen/Qwen2.5-Math-1.5B-Instruct", "apache-2.0", False),
    ("smollm2-135m-instruct", "apache-2.0", False), ("gpt-4o", "other", True),
    ("openai/gpt-oss-120b", "apache-2.0", False), ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "llama3.3", True),
    ("somebody/some-model", "other", True),
    ("zhang-yice/llama-3-1B-sentiment-distillation-v1", "cc-by-4.0", True)])
def test_licences_that_restrict_use_carry_a_warning(name: str, expected: str, restricted: bool) -> None:
    found = licence_of(name)
    assert (found.id, bool(found.warning)) == (expected, restricted)


def test_what_a_models_own_card_says_is_believed(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert licence_of("somebody/some-model", tmp_path).id == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: [\n---\n")
    assert licence_of("somebody/some-model", tmp_path) == UNKNOWN


@pytest.mark.parametrize(("name", "said", "expected"), [
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "license: mit", "llama3.1"),
    ("Qwen/Qwen2.5-3B-Instruct", "license: other\nlicense_name: qwen-research", "qwen-research"),
    ("/data/deepseek/models/Qwen2.5-3B-Instruct", "license: other", "qwen-research"),
    ("somebody/llama-3.1-tuned", "license: llama3.3", "llama3.3")])
def test_a_known_restriction_stays_whatever_a_models_own_card_leaves_out(
        tmp_path: Path, name: str, said: str, expected: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{said}\n---\n# A model\n")
    found = licence_of(name, tmp_path)
    assert found.id == expected and found.warning


@pytest.mark.parametrize("path", ["/home/claude/models/base", "/runs/gemma-teacher/models/final"])
def test_a_folder_on_the_way_to_a_model_says_nothing_of_its_licence(path: str) -> None:
    assert licence_of(path) == UNKNOWN


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "mine"
    write_records(run / "corpus" / "texts.parquet", Text, [
        Text("t1", "Good.", "hotel", "reviews.csv"), Text("t2", "Bad.", "food", "tweets.txt")])
    write_records(run / "dataset" / "icldist.parquet", TrainingRow, [
        TrainingRow(f"p{i}", "icldist", "sentiment/lw", f"Text {i}", "good", text_id="t1" if i < 2 else "t2",
                    split="train" if i < 3 else "validation") for i in range(4)])
    settings = load_config(CI).train
    write_json(run / "models" / "final" / "lineage.json", {"models": [
        {"stage": "start", "fingerprint": "aaaa"},
        {"stage": "icldist", "fingerprint": "bbbb", "parent": "aaaa", "seed": 42, "hyperparameters": {
            "icldist": settings.icldist.model_dump(), "method": "full", "max_length": 1024, "lora": None}}]})
    return run


def test_the_card_names_data_by_source_settings_results_and_licences(run: Path, tiny_model: Path) -> None:
    config = load_config(CI, ["teacher.model.name=meta-llama/Llama-3.1-70B-Instruct",
                              "student.model.name=meta-llama/Llama-3.2-1B-Instruct"])
    text = write_card(run, config, run / "models" / "final", tiny_model).read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "llama3.2" and front["base_model"] == "meta-llama/Llama-3.2-1B-Instruct"
    assert "| icldist | icldist | sentiment/lw | reviews.csv | 2 |" in text
    assert "| icldist | icldist | sentiment/lw | tweets.txt | 1 |" in text
    assert "| learning rate | 0.001 |" in text and "Not evaluated yet" in text and "`bbbb`" in text
    assert text.count("**Mind:") == 2 and "Built with Llama" in text

    bench = {"models": ["base", "distilled"], "limit": 2, "seeds": [42], "protocol": "released", "tasks": [{
        "task": "irony18", "title": "Irony (Irony18)", "metric": "macro_f1", "n": 2, "scores": {
            "base": {"value": 0.25, "interval_95": [0.125, 0.5]},
            "distilled": {"value": 0.5, "interval_95": [0.25, 0.75]}}}],
        "averages": {"base": {"all": {"value": 0.25}}, "distilled": {"all": {"value": None}}}}
    text = write_card(run, config, run / "models" / "final", tiny_model, json.loads(json.dumps(bench))).read_text()
    assert "| Irony (Irony18) | macro f1 | 25.0 (12.5 to 50.0) | 50.0 (25.0 to 75.0) |" in text
    (index,) = yaml.safe_load(text.split("---")[1])["model-index"]
    assert index["name"] == "mine" and index["results"][0]["metrics"] == [
        {"type": "f1", "value": 50.0, "name": "macro F1"}]
    assert "the first 2 test examples a task" in text and "Not evaluated" not in text


def test_of_a_student_that_was_trained_before_the_card_counts_this_runs_rows_once(run: Path, tmp_path: Path) -> None:
    base = tmp_path / "before"
    lineage = json.loads((run / "models" / "final" / "lineage.json").read_text())["models"]
    write_json(base / "lineage.json", {"models": lineage})
    write_json(run / "models" / "final" / "lineage.json", {"models": [
        *lineage, {**lineage[-1], "fingerprint": "cccc", "parent": "bbbb"}]})
    text = write_card(run, load_config(CI), run / "models" / "final", base).read_text()
    assert text.count("| icldist | icldist | sentiment/lw | reviews.csv | 2 |") == 1
    assert "trained with sentidistill itself (icldist)" in text and "| learning rate | 0.001 |" in text


def test_a_teacher_beside_rows_from_elsewhere_is_not_said_to_have_answered(run: Path, tiny_model: Path) -> None:
    config = load_config(CI, ["teacher.model.name=meta-llama/Llama-3.1-70B-Instruct"])
    rows = Rows(icldist=[FileRows(kind="jsonl", path="x.jsonl")], teacher="gpt-4o")
    text = write_card(run, config.model_copy(update={"rows": rows}), run / "models" / "final", tiny_model).read_text()
    assert "fine-tuned on rows made elsewhere" in text and "Teacher: gpt-4o, OpenAI's terms of use" in text
    assert "70B" not in text


def test_the_card_of_another_form_says_so_and_keeps_the_rest() -> None:
    text = card_of_form("---\nlicense: mit\ntags: [a]\n---\n\n# mine --- it is\n", "gguf")
    assert yaml.safe_load(text.split("---")[1]) == {"license": "mit", "tags": ["a", "gguf"], "library_name": "gguf"}
    assert "as GGUF" in text and text.endswith("# mine --- it is\n")
    for strange in ("# no head", "---\nlicense: [\n---\n", "---\n"):
        assert card_of_form(strange, "onnx") == strange
