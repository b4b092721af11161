"""What the tests of encoder students share: a tiny encoder with random weights, and a small data set."""

import random
from pathlib import Path

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
