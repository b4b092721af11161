"""What the tests of encoder students share: a tiny encoder with random weights, and a small data set."""

import random
from pathlib import Path
from typing import Any

from distill.config.load import validate
from distill.config.sections.encoder import EncoderConfig

WORDS = {0: "awful dreadful horrible", 1: "bad weak poor", 2: "plain usual there", 3: "good nice fine",
         4: "great superb brilliant"}
_OTHERS = "the film plot actor scene was is a story music and in of"


def tiny_encoder(folder: Path, layers: int = 2) -> Path:
    """Write a BERT of some thousand weights with a vocabulary of words."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({*" ".join(WORDS.values()).split(), *_OTHERS.split()})
    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                            sep_token="[SEP]", model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=layers, num_attention_heads=2,
                         intermediate_size=64, max_position_embeddings=32)).save_pretrained(folder)
    return folder


def config_of(place: Path, **more: Any) -> EncoderConfig:
    """Return a config for ``tiny`` and ``data`` of a folder, with rates at which so small a model learns."""
    return validate({"name": "x", "data": {"path": str(place / "data")}, "backbone": {"name": str(place / "tiny")},
                     "epochs": 5, "batch_size": 8, "rates": {"head": 1e-2, "backbone": 1e-2}, "dtype": "float32",
                     "unfreeze": {"strategy": "after_n", "epoch": 2}, **more}, "a test", EncoderConfig)


def trained(place: Path, out: Path, seed: int = 1, **more: Any) -> dict[str, Any]:
    """Train one seed in this process and return what is known of it."""
    from distill.encoder.training import train

    return train({"config": config_of(place, **more).model_dump(mode="json"), "backbone": str(place / "tiny"),
                  "out": str(out), "seed": seed})


def small_data(folder: Path, train: int = 200, others: int = 40) -> Path:
    """Write sentences of which one word tells the class, as SST-5's files have them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    for split, count in (("train", train), ("dev", others), ("test", others)):
        lines = []
        for number in range(count):
            label = number % 5
            words = [*rng.choices(_OTHERS.split(), k=rng.randint(3, 9)), rng.choice(WORDS[label].split())]
            rng.shuffle(words)
            lines.append(f"{label} {' '.join(words)}")
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
