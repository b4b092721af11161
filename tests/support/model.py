"""Small real tokenizers of the kinds that models have, and a tiny Llama to go with one."""

from pathlib import Path
from typing import Any

CORPUS = ["The food was good and the film was bad, but the story is a great one.", "positive negative neutral joy",
          "Sentence: I like it!\nOutput: positive\n\nSentence: 12 of 345 (never)\nOutput: ['joy', 'anger']",
          "user assistant system Today is Knowledge INST /INST"] * 4
_SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CHATML = ("{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
INST = ("<s>{% for message in messages %}{% if message.role == 'user' %}[INST] {{ message.content | trim }} [/INST]"
        "{% else %} {{ message.content | trim }} </s>{% endif %}{% endfor %}")
PARTS = ("{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
         "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
TODAY = "Today is {{ strftime_now('%d %b %Y') }}.\n" + CHATML
THOUGHT = CHATML.replace("{{ message.content }}", "{% if message.role == 'assistant' %}<|im_start|>final\n\n{% endif %}"
                         "{{ message.content }}")
TEMPLATES = {"thought": THOUGHT, "chatml": CHATML, "inst": INST, "parts": PARTS, "today": TODAY}


def byte_level(ends: bool = False) -> Any:
    """BPE over bytes, as Llama 3, Qwen and SmolLM have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=420, special_tokens=_SPECIAL[1:], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    return _wrapped(made, ends, unknown=False)


def sentence_piece(prepend: str, ends: bool = False) -> Any:
    """Unigram with blanks as ``▁``; one is put before a text (``first``), or before every part (``always``)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    made.decoder = decoders.Metaspace(prepend_scheme=prepend)
    made.train_from_iterator(CORPUS, trainers.UnigramTrainer(
        vocab_size=150, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False))
    return _wrapped(made, ends)


def prepended(ends: bool = False) -> Any:
    """BPE with a blank put before a text by the normaliser and bytes for what it does not know, as Llama 2 has."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    learned = Tokenizer(models.BPE(unk_token="<unk>"))
    learned.normalizer = normalizers.Replace(" ", "▁")
    learned.train_from_iterator([" " + word for text in CORPUS for word in text.split()], trainers.BpeTrainer(
        vocab_size=460, special_tokens=[*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))], show_progress=False))
    made = Tokenizer(learned.model)
    made.model.byte_fallback = True
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])
    return _wrapped(made, ends)


def word_piece() -> Any:
    """WordPiece with [CLS] and [SEP], as BERT has."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False))
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                   sep_token="[SEP]", model_max_length=64)


def _wrapped(made: Any, ends: bool, unknown: bool = True) -> Any:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    marks = [(token, made.token_to_id(token)) for token in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing("<s> $A </s>" if ends else "<s> $A", None, marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", chat_template=CHATML,
        extra_special_tokens=["<|im_start|>", "<|im_end|>"], **({"unk_token": "<unk>"} if unknown else {}))


def tiny_llama(folder: Path, tokenizer: Any, **settings: Any) -> Path:
    """Write a Llama of some thousand random weights with a tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256,
        "tie_word_embeddings": True, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, **settings})).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
