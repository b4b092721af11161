"""Counting tokens in pieces gives what tokenising whole prompts gives, for every tokenizer and any text."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from distill.config.schema import General, IclDist, KnowDist
from distill.models.tokenization import encode_prompt
from distill.prompting import bytelevel
from distill.prompting.candidate import PromptCandidate
from distill.prompting.counting import Encoder, token_counter
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.knowdist import knowdist_candidates
from distill.prompting.length import fit, limits
from distill.prompting.natural_tasks import choose_tasks, general_candidates
from tests.prompting.test_prompting import HOSTILE, make_texts

LLAMA, QWEN = sorted(bytelevel._PATTERNS, key=lambda pattern: "{1,3}" not in pattern)
PIECES = st.lists(st.sampled_from([
    "Sentence", "A", "a", " ", "  ", "\n", "\n\n", "\r\n", "\t", ".", "!!", "'s", "'", "123456", "7", "é", "e\u0301",
    "日本", "🙂", "\u00a0", "\u2028", "\u1160", "<|im_end|>", "</s>", "<tool>", "\U0001d15f"]) | st.text(max_size=5))
TEXTS = PIECES.map("".join)


@pytest.fixture(scope="module")
def smollm(tiny_model):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def trained(*steps, normalizer=None, added=()):
    """A small tokenizer of transformers whose text is cut in ``steps`` before byte-level BPE."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=800, show_progress=False, special_tokens=["</s>", "<|im_end|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    words = [Path(__file__).read_text(), "A\n\nSentence: A\n\nOutput: A \n\n \nA" * 20, "1234567 \n\n7 \r\n\r\n." * 20]
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.add_tokens(list(added))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>",
                                   additional_special_tokens=["<|im_end|>"])


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated")


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
MADE = {
    "llama": lambda: trained(split(LLAMA), BYTES),
    "qwen": lambda: trained(split(QWEN), BYTES, normalizer=normalizers.NFC(), added=["<tool>"]),
    "gpt2": lambda: trained(GPT2),
    "digits": lambda: trained(pre_tokenizers.Digits(individual_digits=True), GPT2),
    "other pattern": lambda: trained(split(r"\n[A-Za-z]+|\S+|\s+"), BYTES),
    "prefix": lambda: trained(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "new line token": lambda: trained(GPT2, added=["\nSentence"]),
    "other form": lambda: trained(GPT2, normalizer=normalizers.NFKC()),
}
ADDING_UP = {"llama", "qwen", "gpt2", "digits"}


@pytest.fixture(scope="module", params=list(MADE))
def made(request):
    return request.param, Encoder(MADE[request.param]()), MADE[request.param]()


def whole(tokenizer, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


@given(head=TEXTS, blocks=st.lists(TEXTS, max_size=4), question=TEXTS, kept=st.integers(0, 4))
def test_pieces_add_up_to_the_whole_for_every_tokenizer_and_text(made, head, blocks, question, kept):
    name, encoder, tokenizer = made
    demonstrations = tuple(f"Sentence: {block}\nOutput: {block}\n\n" for block in blocks)
    candidate = PromptCandidate("icldist", "k", "id", question, f"Sentence: {question}\nOutput:", 1,
                                f"Please {head}\n\n", demonstrations)
    kept = min(kept, len(blocks))
    assert encoder._adds_up == (name in ADDING_UP)
    assert encoder.tokens(candidate, kept, enough=-1) == whole(tokenizer, candidate.prompt(kept))


@given(text=TEXTS)
def test_a_bound_is_never_below_the_count(made, text):
    _, encoder, tokenizer = made
    candidate = PromptCandidate("knowdist", "k", "id", text, f"Text: {text}", 1)
    count = whole(tokenizer, candidate.question)
    assert count <= Encoder.tokens(encoder, candidate, 0, enough=10**6)
    for enough in (count - 1, count, count + 1):
        assert (encoder.tokens(candidate, 0, enough) <= enough) == (count <= enough)


@given(text=TEXTS, head=TEXTS, block=TEXTS)
def test_pieces_that_may_grow_together_are_counted_as_a_whole(made, text, head, block):
    _, encoder, tokenizer = made
    candidate = PromptCandidate("icldist", "k", "id", text, text, 1, head, (block, "Sentence" + block))
    assert encoder.tokens(candidate, 2, enough=-1) == whole(tokenizer, candidate.prompt(2))


# ---------------------------------------------------------------- the prompts' own tokenizers


@pytest.mark.parametrize("prompt_format", ["raw", "chat", "mixed"])
def test_tokens_are_counted_as_the_tokenization_module_encodes(smollm, prompt_format):
    prompts = ["A lovely soup.", "Sentence: cold\nOutput:", HOSTILE, "日本語 🙂\n\n  spaces  "]
    forms = {"raw": [False], "chat": [True], "mixed": [False, True]}[prompt_format]
    expected = [max(len(encode_prompt(smollm, prompt, chat)) for chat in forms) for prompt in prompts]
    counter = token_counter(smollm, prompt_format)
    assert counter(prompts) == expected
    assert counter([]) == []
    assert pickle.loads(pickle.dumps(counter))(prompts) == expected  # as another process gets it


@pytest.fixture(scope="module")
def candidates():
    texts = make_texts(40)
    tasks = choose_tasks(General(), 42).tasks
    some = list(general_candidates(tasks, General(), 42))[:60]
    return [*knowdist_candidates(texts, KnowDist(), 42), *some,
            *icldist_candidates(texts, load_demonstrations(IclDist()), IclDist(), 42)]


def test_every_prompt_that_ships_is_made_of_pieces_that_can_be_counted(smollm, candidates):
    encoder = Encoder(smollm)
    assert len(candidates) == 40 * 2 + 60 + 40
    for candidate in candidates:
        assert encoder._shared(candidate, len(candidate.demonstrations)) is not None
        assert (candidate.head != "") == (candidate.head[-1:] == "\n")


def test_candidates_are_shortened_as_if_every_prompt_were_tokenised_whole(smollm, candidates):
    answers = dict.fromkeys(("knowdist", "icldist", "general"), 20)
    in_pieces = limits(answers, token_counter(smollm, "chat"), 420, token_counter(smollm, "raw"), 400)
    as_whole = limits(answers, lambda prompts: [len(encode_prompt(smollm, item, chat=True)) for item in prompts], 420,
                      lambda prompts: [len(encode_prompt(smollm, item, chat=False)) for item in prompts], 400)
    found = [fit(candidate, in_pieces) for candidate in candidates]
    assert found == [fit(candidate, as_whole) for candidate in candidates]
    assert len({kept for kept, *_ in found}) > 5
    assert any(kept < len(candidate.demonstrations) for candidate, (kept, *_) in zip(candidates, found, strict=True))


def test_one_tokenizer_counts_once_for_both_models_and_only_what_may_be_too_long(smollm, candidates, monkeypatch):
    teacher, student = token_counter(smollm, "chat"), token_counter(smollm, "raw")
    windows = limits({"knowdist": 0, "icldist": 0, "general": 0}, teacher, 2000, student, 1500)
    assert teacher.encoder is student.encoder
    for candidate in candidates:
        fit(candidate, windows)  # now it knows all heads and demonstrations
    asked: list[str] = []
    count = Encoder.count
    monkeypatch.setattr(Encoder, "count", lambda self, texts: asked.extend(texts) or count(self, texts))
    for candidate in candidates:
        fit(candidate, windows)
    assert asked == []  # the texts are short: so many bytes cannot be too many tokens
    long = candidates[0]._replace(question="Text: " + "bad " * 400)
    assert fit(long, windows)[1] == ""
    assert len(asked) == 1
