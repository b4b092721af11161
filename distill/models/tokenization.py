"""Text to token ids, the same way for the teacher, for training and for evaluation.

User text is data: special tokens that stand in it are tokenised as plain characters, in raw and in chat form. A prompt
has the ids of its whole text, as ``apply_chat_template`` or the tokenizer itself give them, and an answer those that it
has where it stands: tokenizers of the SentencePiece kind begin a text that stands alone with a blank. The one end
token is the last: some tokenizers append it to every text, prompts too.
"""

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from distill.errors import InputError
from distill.models.chat_template import Turn, special_ids, turn_of

VERSION = 2
"""Part of what answers and trained models depend on; raised when a text is given other ids."""
_END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
_REASONING = "<think>"
_PROBES = ("x", "A text, of 2 lines.\n\nOutput:")


def encode_prompt(tokenizer: Any, prompt: str, chat: bool) -> list[int]:
    """Return the token ids of a prompt: as raw text, or as a user turn followed by the start of the answer.

    Raises:
        InputError: ``chat`` is asked of a tokenizer without a chat template, or with one that cannot be used; or the
            tokenizer adds to a text what depends on the text.
    """
    return encode_prompts(tokenizer, [prompt], chat)[0]


def encode_prompts(tokenizer: Any, prompts: Sequence[str], chat: bool) -> list[list[int]]:
    """Return the token ids of prompts, all in one form. Raises as :func:`encode_prompt`."""
    if not chat:
        start = _start_of_text(tokenizer)
        return [[*start, *ids] for ids in _encode(tokenizer, prompts, data=True)]
    turn = turn_of(tokenizer)
    before, after, marks = _parts(tokenizer, turn)
    encoded = _encode(tokenizer, [turn.around(prompt) for prompt in prompts])
    special = special_ids(tokenizer)
    strange = [place for place, (prompt, ids) in enumerate(zip(prompts, encoded, strict=True))
               if _has_unknown(tokenizer, prompt) or sum(token in special for token in ids) != marks]
    # Special tokens in a user's text were read as such: it is tokenised by itself, as the characters that it is.
    apart = _encode(tokenizer, [turn.strip(prompts[place]) for place in strange], data=True)
    for place, ids in zip(strange, apart, strict=True):
        encoded[place] = [*before, *ids, *after]
    return encoded


def encode_completion(tokenizer: Any, prompt: str, completion: str, chat: bool) -> list[int]:
    """Return the token ids that are learned: the answer and the token that ends it. Raises as :func:`encode_pairs`."""
    return encode_pairs(tokenizer, [(prompt, completion)], chat)[0][1]


def encode_pairs(tokenizer: Any, pairs: Sequence[tuple[str, str]], chat: bool) -> list[tuple[list[int], list[int]]]:
    """Return each (prompt, completion) as :func:`encode_prompt` and :func:`encode_completion` would, many times faster.

    Raises:
        InputError: as :func:`encode_prompt`; the chat template does not begin an answer that is given as it begins one
            that is to be made; or the tokenizer has no token that ends a text.
    """
    if not pairs:
        return []
    end = end_token_id(tokenizer, chat)
    if end is None:
        raise InputError(f"The tokenizer of {tokenizer.name_or_path or 'this model'} has no token that ends a text "
                         "(eos_token), so a student would never learn to stop. Set eos_token in its "
                         "tokenizer_config.json.")
    turn = turn_of(tokenizer) if chat else None
    if turn is not None and turn.lead is None:
        raise InputError(f"The chat template of {tokenizer.name_or_path or 'this model'} does not begin an answer that "
                         "is given as it begins one that is to be made (thoughts, for example), so training would "
                         "teach another form than is asked for. Set train.prompt_format to raw.")
    prompts = encode_prompts(tokenizer, [prompt for prompt, _ in pairs], chat)
    texts = [completion.strip() if turn else raw_separator(prompt) + completion.strip()
             for prompt, completion in pairs]
    completions = _continuations(tokenizer, [f"{text}{turn.tail}" if turn else text for text in texts], turn)
    return [(prompt, [*completion, end]) for prompt, completion in zip(prompts, completions, strict=True)]


def encode_continuations(tokenizer: Any, texts: Sequence[str], chat: bool) -> list[list[int]]:
    """Return the ids of texts as they stand behind a prompt: a raw one's last colon, or the start of an answer."""
    return _continuations(tokenizer, texts, turn_of(tokenizer) if chat else None)


def raw_separator(prompt: str) -> str:
    """Return what stands between a raw prompt and its answer: a space after a colon, else a new line."""
    return " " if prompt.rstrip().endswith(":") else "\n"


def end_token_id(tokenizer: Any, chat: bool) -> int | None:
    """Return the id of the token that ends an answer: end of turn in chat form, end of text in raw form.

    Raises:
        InputError: ``chat`` is asked of a tokenizer whose chat template cannot be used.
    """
    end_of_text: int | None = tokenizer.eos_token_id
    if chat:
        end = turn_of(tokenizer).end
        return end_of_text if end is None else end
    # Token by token: copying the whole vocabulary out of the tokenizer takes tens of milliseconds, for every row.
    for token in _END_OF_TEXT:
        number: int | None = tokenizer.convert_tokens_to_ids(token)
        if number is not None and tokenizer.convert_ids_to_tokens(number) == token:
            return number
    return end_of_text


def stop_token_ids(tokenizer: Any) -> list[int]:
    """Return the ids at which generation stops, whichever form the model was trained in."""
    ids = {end_token_id(tokenizer, chat=False), tokenizer.eos_token_id}
    if tokenizer.chat_template:
        with contextlib.suppress(InputError):  # said where a prompt is put as a chat turn
            ids.add(end_token_id(tokenizer, chat=True))
    return sorted(token for token in ids if token is not None)


def _continuations(tokenizer: Any, texts: Sequence[str], turn: Turn | None) -> list[list[int]]:
    """Return the ids of texts behind the start of an answer; without a ``turn``, behind a raw prompt.

    Where the template begins an answer with empty reasoning (Qwen3's), an answer's own takes its place.
    """
    lead = (turn.lead or "") if turn else ""
    own = [text.startswith(_REASONING) for text in texts]
    if turn and lead.lstrip().startswith(_REASONING) and any(own):
        found_of = [iter(_continuations(tokenizer, [text for text, has in zip(texts, own, strict=True) if has is group],
                                        replace(turn, lead="") if group else turn)) for group in (False, True)]
        return [next(found_of[has]) for has in own]
    starts = [f"x{turn.after}" if turn else "x" if text.startswith("\n") else ":" for text in texts]
    known = {start: _encode(tokenizer, [start])[0] for start in set(starts)}
    encoded = _encode(tokenizer, [start + lead + text for start, text in zip(starts, texts, strict=True)])
    leading, special = _encode(tokenizer, [lead])[0], special_ids(tokenizer)
    marks = sum(token in special for token in leading)
    alone, found = [], []
    for place, (start, text, ids) in enumerate(zip(starts, texts, encoded, strict=True)):
        before, answer = ids[:len(known[start])], ids[len(known[start]):]
        found.append(answer)
        if before != known[start] or _has_unknown(tokenizer, text) or (
                sum(token in special for token in answer) != marks):
            alone.append(place)
    for place, ids in zip(alone, _encode(tokenizer, [texts[place] for place in alone], data=True), strict=True):
        found[place] = [*leading, *ids]
    return found


def _has_unknown(tokenizer: Any, text: str) -> bool:
    return tokenizer.unk_token is not None and tokenizer.unk_token in text


def _parts(tokenizer: Any, turn: Turn) -> tuple[list[int], list[int], int]:
    """Return the ids before and after a user's text, and how many special tokens a turn has."""
    before, after = _encode(tokenizer, [turn.before, turn.after])
    special = special_ids(tokenizer)
    return before, after, sum(token in special for token in _encode(tokenizer, [turn.around("x")])[0])


def _start_of_text(tokenizer: Any) -> list[int]:
    """Return the ids that a tokenizer puts before every text; what it puts behind it would end a prompt.

    Raises:
        InputError: what it adds is not the same for every text.
    """
    settings = tuple(getattr(tokenizer, name, None) for name in ("add_bos_token", "add_eos_token"))
    known = _starts.get(tokenizer)
    if known is None or known[0] != settings:
        known = _starts[tokenizer] = settings, _look_at_start(tokenizer)
    return known[1]


_starts: WeakKeyDictionary[Any, tuple[Any, list[int]]] = WeakKeyDictionary()


def _look_at_start(tokenizer: Any) -> list[int]:
    starts = []
    for probe in _PROBES:
        alone = _encode(tokenizer, [probe], data=True)[0]
        whole = list(tokenizer(probe, split_special_tokens=True)["input_ids"])
        places = [place for place in range(len(whole) - len(alone) + 1) if whole[place:place + len(alone)] == alone]
        if not places:
            raise InputError(f"The tokenizer of {tokenizer.name_or_path or 'this model'} changes a text's own tokens "
                             "when it adds its special ones, so prompts cannot be built with it.")
        starts.append(whole[:places[0]])
    if starts[0] != starts[1]:
        raise InputError(f"The tokenizer of {tokenizer.name_or_path or 'this model'} begins texts with tokens that "
                         "depend on the text, so prompts cannot be built with it.")
    return starts[0]


def _encode(tokenizer: Any, texts: Sequence[str], data: bool = False) -> list[list[int]]:
    """Return the ids of texts, without what the tokenizer adds to a text; special tokens in ``data`` are characters."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=data,
                                         return_attention_mask=False, verbose=False)["input_ids"]
    if data and not (special := special_ids(tokenizer)).isdisjoint(itertools.chain.from_iterable(encoded)):
        # Unigram finds a special token among its pieces even where it was told not to look for one.
        return [[part for token in ids for part in (_letters(tokenizer, token) if token in special else [token])]
                for ids in encoded]
    return encoded


def _letters(tokenizer: Any, token: int) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(letter) for letter in tokenizer.convert_ids_to_tokens(token)]


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save a tokenizer so that the same one has the same files, whether or not this process may use the network."""
    settings = getattr(tokenizer, "init_kwargs", {})
    if "local_files_only" in settings:  # how it was loaded here
        settings["local_files_only"] = False
    tokenizer.save_pretrained(folder)
