"""Every prompt byte for byte, from what ships: the papers' wording, how it is put together, and what is drawn for whom.

A change of a hash is a change of what models are asked: raise VERSION of the stage that builds the prompts with it.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from distill.config.load import load_config
from distill.config.schema import General, IclDist, KnowDist, Prompts
from distill.config.sections.encoder import SST5, TeacherLabels
from distill.encoder.data import Sentence
from distill.encoder.teacher import Unlabelled, demonstration_pool, prompt_for
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.kept import prompt_files
from distill.prompting.knowdist import knowdist_candidates
from distill.prompting.natural_tasks import choose_tasks, general_candidates
from distill.resources import shipped
from distill.run.hashing import content_id, fingerprint
from distill.run.records import Prompt, Text
from distill.teacher_eval.gold import gold_questions
from distill.teacher_eval.rubric import judge_prompt
from sentibench.protocols import PROTOCOLS, build_examples, load_task_data
from sentibench.registry import all_tasks, get_task

CONFIGS = sorted((Path(__file__).parents[2] / "flows/configs").glob("*.yaml"))


def digest(texts: Iterable[str]) -> str:
    """The first 16 digits of the SHA-256 of texts in their order; where one ends counts."""
    found = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()[:16]


def of_records(prompts: Iterable[Prompt]) -> str:
    """With everything that is kept of a prompt: its id, labels, number of demonstrations and seed, too."""
    return digest(repr((one.id, one.text_id, one.family, one.kind, one.prompt, list(one.labels), one.multi_label,
                        one.n_demonstrations, one.seed, one.perspective, one.strategy)) for one in prompts)


@pytest.fixture(scope="module")
def texts() -> list[Text]:
    lines = shipped("data/demo/tweets.txt").read_text(encoding="utf-8").splitlines()
    return [Text(content_id(line), line, "tweet", "demo") for line in lines if line.strip()]


@pytest.mark.parametrize(("switches", "expected"), [
    ({}, "0b3b52c1f081152a"), ({"multi_perspective": False}, "7d393e905990adac"),
    ({"prompts_per_text": 8}, "07f8f33b4c6f1ac1")])
def test_knowdist_prompts_are_pinned(texts, switches, expected):
    assert of_records(one.render() for one in knowdist_candidates(texts, KnowDist(**switches), 42)) == expected


@pytest.mark.parametrize(("switches", "expected"), [
    ({}, "32e6727e9ddaffab"), ({"prompts_per_text": 3, "weights": {"mi": 2, "emotion": 0.5}}, "3722059e7fa4f8bf"),
    ({"min_demonstrations": 0, "max_demonstrations": 2, "label_words": False}, "bbda563dd087e93c")])
def test_icldist_prompts_are_pinned(texts, switches, expected):
    config = IclDist.model_validate(switches)
    candidates = icldist_candidates(texts, load_demonstrations(config), config, 42)
    assert of_records(candidate.render() for candidate in candidates) == expected


def test_what_decides_whether_prompts_on_disk_are_those_of_a_config_is_pinned():
    assert fingerprint(prompt_files(Prompts())) == "4ca82e4640f4a844"


def test_general_prompts_are_pinned():
    config = General()
    found = of_records(one.render() for one in general_candidates(choose_tasks(config, 42).tasks, config, 42))
    assert found == "cd844b296071b1fd"


DRAWN = {
    "ci": "af048ad886f3d10a", "demo": "afe421d51920669c", "finetune-msa": "215bbb225a71b08a",
    "generic-alpaca": "215bbb225a71b08a", "paper-llama-3.2-1b": "215bbb225a71b08a",
    "paper-llama-3.2-3b": "215bbb225a71b08a", "paper-qwen-2.5-1.5b": "215bbb225a71b08a",
    "paper-qwen-2.5-math-1.5b": "215bbb225a71b08a", "real-small": "afe421d51920669c",
    "released-corpus": "215bbb225a71b08a",
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configs_draw_the_same_prompts(texts, path, monkeypatch):
    for variable in ("SENTIDISTILL_DATA", "SENTIDISTILL_SHARED"):
        monkeypatch.setenv(variable, "/nowhere")
    config = load_config(path)
    pool = load_demonstrations(config.prompts.icldist)
    candidates = [*knowdist_candidates(texts, config.prompts.knowdist, config.seed),
              *icldist_candidates(texts, pool, config.prompts.icldist, config.seed)]
    assert of_records(candidate.render() for candidate in candidates) == DRAWN[path.stem]


def test_gold_prompts_are_pinned():
    questions = gold_questions(load_demonstrations(IclDist()), IclDist(), 50, 42)
    assert of_records(one.prompt for one in questions) == "b87848c973cae794"
    assert digest(label for one in questions for label in one.gold) == "73fe4c80403834ed"


def test_the_judges_prompt_is_pinned():
    assert digest([judge_prompt("Analyze this.\n\nText: {Answer} good", "It is {Task} good.")]) == "c605ad696a7c628e"


@pytest.mark.parametrize(("format_name", "expected"), [("basic", "6774df2fd22a2a19"), ("mi", "d6b363a8a4f175df")])
def test_the_prompts_of_an_encoders_teacher_are_pinned(texts, format_name, expected):
    known = [Sentence(text.id, text.text, place % 5) for place, text in enumerate(texts)]
    config = TeacherLabels.model_validate({"model": {"name": "m"}, "format": format_name})
    pool, words = demonstration_pool(config, known, 5), [[word] for word in SST5]
    assert digest(prompt_for(config, words, pool, Unlabelled(one.id, one.text, None)) for one in known) == expected


SENTIBENCH = {
    "released": {
        "imdb": "8eca3422010092cd", "yelp2": "94dd40047d4cecb7", "sst2": "6f948d923d997f24",
        "twitter17": "42d58a47d143d3eb", "irony18": "1992e0ec14ecf5cf", "emotion20": "8467c5f11c999c08",
        "pstance": "3186571e5c7fed60", "mint": "b8fe29b3e8ef32d1", "atsa": "9059ee3d77cf67cb",
        "acsa": "30b1b7e1f8839353", "asqp": "1dbd25fc68b66eb7", "ssa": "7e03153587c1cd8e",
        "sst5": "a2d3d1dd5fdf7685",
    },
    "paper": {
        "imdb": "28d5563fb3558950", "yelp2": "fef0c5b42d392d5b", "sst2": "507b06920cdd2f3b",
        "twitter17": "cc33a9487905c12b", "irony18": "8a4e5e30a209e7f1", "emotion20": "9d655c40de320d26",
        "pstance": "5ce922a549fe3abf", "mint": "2871dc46357a70c5", "atsa": "8217d62fd7cd3b17",
        "acsa": "1b83a385f012fe07", "asqp": "01fad6fd165fc248", "ssa": "45470caf8a75e19c",
        "sst5": "42f7589365843dce",
    },
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", [*all_tasks(), "sst5"])
def test_sentibench_prompts_are_pinned(name, protocol):
    task = get_task(name)
    examples = build_examples(task, load_task_data(task, "shipped:data/sentibench", protocol), protocol, 42)
    assert digest(example.prompt for example in examples) == SENTIBENCH[protocol][name]
