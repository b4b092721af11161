"""Does a tokenizer fit the model beside it, and does it tokenise text at all?

transformers makes an empty tokenizer of a folder whose vocabulary is missing, and any tokenizer may lie in any folder:
all goes on, with nonsense.
"""

import unicodedata
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.storage import read_json

_WORDS = ("the", "a", "is", "and", "of", "good", "bad", "great", "food", "film", "story", "happy", "positive",
          "не", "и", "хорошо", "плохо", "el", "la", "de", "bueno", "le", "et", "bon", "der", "und", "gut", "的", "不",
          "好", "我", "の", "です", "良い", "좋은", "이", "في", "و", "جيد", "है", "और", "अच्छा", "ดี", "ไม่")
_SENTENCES = (
    "The food was good, but we waited for an hour and nobody said sorry.",
    "Еда была вкусной, но мы ждали целый час, и никто не извинился.",
    "La comida estaba buena, pero esperamos una hora y nadie pidió perdón.",
    "食物很好吃，但是我们等了一个小时，没有人道歉。",
    "料理は美味しかったが、一時間も待たされた。",
    "음식은 맛있었지만 한 시간이나 기다렸고 아무도 사과하지 않았다.",
    "كان الطعام جيدا لكننا انتظرنا ساعة ولم يعتذر أحد.",
    "खाना अच्छा था लेकिन हमने एक घंटे इंतज़ार किया।",
    "อาหารอร่อยแต่เรารอนานหนึ่งชั่วโมง",
)
_LARGE = 5000
"""A vocabulary of so many tokens has words or parts of words in it, not letters alone."""
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")


def refuse_misfit(tokenizer: Any, folder: Path) -> None:
    """Refuse a tokenizer that cannot be the one the model in ``folder`` was trained with, or that is damaged.

    Where there is no config.json (a tokenizer alone, of a model behind an endpoint), only the second is looked at.
    A tokenizer of another model whose ids all are in range cannot be told from the files.

    Raises:
        InputError: it has ids that the model has no embedding for, or hardly any of those it has; the config's special
            ids are unknown to it; no ordinary word or sentence comes back from it.
    """
    rows = embeddings_of(folder)
    if rows is not None:
        _refuse_other_vocabulary(tokenizer, folder, rows)
    _refuse_nonsense(tokenizer, folder)


def embeddings_of(folder: Path) -> int | None:
    """Return how many tokens the config says the model has; None where it does not say."""
    config = _config(folder)
    inner = config.get("text_config")
    rows = config.get("vocab_size", inner.get("vocab_size") if isinstance(inner, dict) else None)
    return rows if isinstance(rows, int) else None


def _config(folder: Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        return {}
    found = read_json(folder / "config.json")
    return found if isinstance(found, dict) else {}


def _refuse_other_vocabulary(tokenizer: Any, folder: Path, rows: int) -> None:
    again = "Copy the tokenizer of this model into the folder (tokenizer.json, tokenizer_config.json)."
    highest = max([tokenizer.vocab_size - 1, *(i for i, token in tokenizer.added_tokens_decoder.items()
                                               if i >= tokenizer.vocab_size and _is_used(tokenizer, i, token))])
    if highest >= rows:
        raise InputError(f"The tokenizer in {folder} has ids up to {highest}, but the model has embeddings for {rows} "
                         f"tokens (vocab_size of config.json): it is another model's. {again}")
    if rows >= _LARGE and 2 * (highest + 1) < rows:
        raise InputError(f"The tokenizer in {folder} has {highest + 1} tokens, but the model has embeddings for {rows} "
                         f"(vocab_size of config.json): it is another model's, or its vocabulary is cut off. {again}")
    for name in _SPECIAL:
        given = _config(folder).get(name)
        ids = [i for i in (given if isinstance(given, list) else [given]) if isinstance(i, int) and 0 <= i < rows]
        if ids and all(tokenizer.convert_ids_to_tokens(i) is None for i in ids):
            raise InputError(f"The config.json in {folder} gives {given} as {name}, which the tokenizer beside it does "
                             f"not have (it has {highest + 1} tokens): it is another model's. {again}")


def _is_used(tokenizer: Any, number: int, token: Any) -> bool:
    """Say whether an added token can come into a prompt; special ones for images and the like cannot."""
    return not token.special or number in _ids_of_roles(tokenizer) or token.content in str(tokenizer.chat_template)


def _ids_of_roles(tokenizer: Any) -> set[int | None]:
    return {getattr(tokenizer, name) for name in (*_SPECIAL, "unk_token_id", "cls_token_id", "sep_token_id")}


def _refuse_nonsense(tokenizer: Any, folder: Path) -> None:
    again = ("Files of its vocabulary are missing or damaged (tokenizer.json; or vocab.txt; or vocab.json and "
             "merges.txt; or tokenizer.model). Copy the tokenizer again.")
    if not any(_comes_back(tokenizer, _ids(tokenizer, word), word) for word in _WORDS):
        raise InputError(f"The tokenizer in {folder} turns ordinary words into unknown tokens or into nothing (of "
                         f"{len(_WORDS)} common words of ten languages none comes back). {again}")
    if tokenizer.vocab_size < _LARGE:
        return
    encoded = [(_ids(tokenizer, sentence), sentence) for sentence in _SENTENCES]
    whole = [(ids, sentence) for ids, sentence in encoded if _comes_back(tokenizer, ids, sentence)]
    if not whole:
        raise InputError(f"The tokenizer in {folder} has {tokenizer.vocab_size} tokens, but no ordinary sentence comes "
                         f"back from it. {again}")
    if all(len(ids) > len(sentence.replace(" ", "")) for ids, sentence in whole):
        raise InputError(f"The tokenizer in {folder} has {tokenizer.vocab_size} tokens, but cuts text into single "
                         f"letters or bytes, as if it had lost its merges. {again}")


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _comes_back(tokenizer: Any, ids: list[int], text: str) -> bool:
    known = [i for i in ids if i != tokenizer.unk_token_id]
    return bool(known) and _letters(tokenizer.decode(known)) == _letters(text)


def _letters(text: str) -> str:
    """Return the letters of a text without case and accents, which many tokenizers take away."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in plain if letter.isalnum())
