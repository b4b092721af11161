"""Agreement between answers on one text: what most prompts say is kept, whatever words and order they come in."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.load import load_config
from distill.config.prompt_files import icldist_prompts
from distill.config.schema import Filters, IclDist
from distill.config.sections.filters import AgreementFilter
from distill.dataset.agreement import Votes, can_agree
from distill.errors import InputError
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.labels import label_set, meaning
from distill.run.records import Prompt, Text

PROMPTS = icldist_prompts()
STANDARD, NUMBERS, GOOD_BAD = (list(label_set(PROMPTS, name).labels) for name in ("standard", "numbers", "good_bad"))


def asked(key: str, labels: list[str], text: str = "t", kind: str = "sentiment/basic") -> Prompt:
    return Prompt(key, text, "icldist", kind, "Sentence: …\nOutput:", labels, multi_label=kind.startswith("emotion"))


def disagreements(prompts: list[Prompt], answers: dict[str, str], **config: object) -> dict[str, str]:
    votes = Votes(AgreementFilter(**config), PROMPTS)
    for prompt in prompts:
        if can_agree(prompt):
            votes.add(prompt, answers.get(prompt.id))
    return votes.objections()


def test_labels_of_different_words_mean_the_same() -> None:
    same = (("+1", NUMBERS), ("good", GOOD_BAD), ("positive", STANDARD))
    assert [meaning(PROMPTS, label, labels) for label, labels in same] == ["positive"] * 3
    assert meaning(PROMPTS, "ok", GOOD_BAD) == meaning(PROMPTS, "0", NUMBERS) == "neutral"
    assert meaning(PROMPTS, "yes", ["yes", "no"]) == "yes"


def test_the_minority_is_dropped_and_the_majority_kept() -> None:
    prompts = [asked("a", STANDARD), asked("b", NUMBERS, kind="sentiment/lw"),
               asked("c", GOOD_BAD, kind="sentiment/mi")]
    dropped = disagreements(prompts, {"a": "positive", "b": "+1", "c": "bad"})
    assert dropped == {"c": "negative: 1 of 3 prompts on this text"}
    assert disagreements(prompts, {"a": "positive", "b": "+1", "c": "good"}) == {}
    assert set(disagreements(prompts, {"a": "positive", "b": "-1", "c": "ok"})) == {"a", "b", "c"}


def test_prompts_without_a_label_count_against_a_majority_and_one_answer_is_none() -> None:
    prompts = [asked(key, STANDARD) for key in "abcd"]
    assert set(disagreements(prompts, {"a": "positive", "b": "positive"})) == {"a", "b"}
    assert disagreements(prompts[:3], {"a": "positive", "b": "positive"}) == {}
    assert set(disagreements(prompts[:1], {"a": "positive"})) == {"a"}


def test_other_texts_other_tasks_and_lists_of_labels_have_no_say() -> None:
    prompts = [asked("a", STANDARD), asked("b", STANDARD), asked("c", STANDARD, text="other"),
               asked("d", ["anger", "joy"], kind="emotion/basic")]
    said = {"a": "positive", "b": "positive", "c": "negative", "d": "['joy']"}
    assert set(disagreements(prompts, said)) == {"c"}


def test_the_share_and_the_number_that_must_agree_are_thresholds_of_the_config() -> None:
    prompts = [asked(key, STANDARD) for key in "abcde"]
    said = dict.fromkeys("abcd", "positive") | {"e": "negative"}
    assert set(disagreements(prompts, said)) == set(disagreements(prompts, said, share=0.79)) == {"e"}
    assert set(disagreements(prompts, said, share=0.8)) == set("abcde")
    assert set(disagreements(prompts, said, min_prompts=5)) == set("abcde")
    assert disagreements(prompts, dict.fromkeys("abcde", "positive"), share=1) == {}
    assert set(disagreements(prompts[:3], {"a": "positive", "b": "positive"}, share=0.2, min_prompts=3)) == {"a", "b"}
    assert not Filters().agreement.enabled and Filters(agreement={"share": 0.6}).agreement.enabled


@given(st.lists(st.sampled_from(["positive", "negative", "neutral", None]), min_size=1, max_size=9), st.randoms())
def test_what_is_kept_of_a_text_is_one_label_that_more_than_half_gave(votes: list[str | None], random: object) -> None:
    prompts = [asked(str(n), STANDARD) for n in range(len(votes))]
    answers = {str(n): vote for n, vote in enumerate(votes) if vote}
    dropped = disagreements(prompts, answers)
    kept = [answers[key] for key in answers if key not in dropped]
    assert len(set(kept)) <= 1
    assert not kept or (len(kept) >= 2 and 2 * len(kept) > len(votes) and kept == [kept[0]] * votes.count(kept[0]))
    random.shuffle(prompts)  # type: ignore[attr-defined]
    assert disagreements(prompts, answers) == dropped


def test_several_prompts_on_a_text_are_of_one_task_and_of_different_formats() -> None:
    config = IclDist(prompts_per_text=3)
    texts = [Text(f"id{n}", f"The tea was hot, number {n}.", "d", "s") for n in range(40)]
    pool = load_demonstrations(config)
    drafts = list(icldist_candidates(texts, pool, config, 42))
    assert len(drafts) == 120
    for start in range(0, 120, 3):
        group = drafts[start:start + 3]
        assert len({draft.text_id for draft in group}) == 1
        assert len({draft.kind.split("/")[0] for draft in group}) == 1
        assert len({draft.kind for draft in group}) == 3
    once = list(icldist_candidates(texts, pool, IclDist(), 42))
    assert drafts[::3] == once


def test_agreement_without_a_second_opinion_is_refused(tmp_path: Path) -> None:
    demo = Path(__file__).parents[2] / "flows/configs/ci.yaml"
    with pytest.raises(InputError, match=r"off_list is off"):
        load_config(demo, ["filters.agreement=true"])
    with pytest.raises(InputError, match=r"prompts_per_text is 1; set it to 3"):
        load_config(demo, ["filters.agreement=true", "filters.off_list=true"])
    settings = ["filters.agreement=true", "filters.off_list=true", "prompts.icldist.prompts_per_text=3"]
    assert load_config(demo, settings).filters.agreement.enabled
