"""The classifier: an encoder, pooled, and a head of two linear layers; saved as a folder of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from distill.config.load import read_yaml
from distill.config.sections.encoder import EncoderConfig, Head
from distill.encoder.settings import SETTINGS, settings_of
from distill.errors import InputError
from distill.models.finite import refuse_spoilt, refuse_to_save
from distill.models.folder import load_tokenizer
from distill.models.quiet import first_line, quiet_transformers
from distill.models.tokenization import save_tokenizer
from distill.models.whole import load_whole
from distill.resources import shipped
from distill.run.storage import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_HEAD = "head.safetensors"


class Classifier(nn.Module):
    """``backbone`` gives embeddings (batch × width), ``head`` classes (batch × classes)."""

    def __init__(self, backbone: "PreTrainedModel", head: Head, classes: int) -> None:
        super().__init__()
        width = backbone.config.hidden_size
        hidden = head.hidden or width
        self.backbone, self.pooling, self.classes = backbone, head.pooling, classes
        self.backbone_trains, self._attention = False, getattr(backbone.config, "_attn_implementation", None)
        self.head = nn.Sequential(nn.Dropout(head.dropout), nn.Linear(width, hidden), nn.ReLU(),
                                  nn.Dropout(head.dropout), nn.Linear(hidden, classes))

    def train(self, mode: bool = True) -> "Classifier":
        """Set the mode; a backbone that is not trained stays as it is used, without dropout."""
        super().train(mode)
        if not self.backbone_trains:
            self.backbone.eval()
        self._choose_attention()
        return self

    def _choose_attention(self) -> None:
        # With dropout, what PyTorch has for CPUs is slower than plain products (MiniLM, 2 cores: an epoch takes 1.11
        # times as long), without it up to 1.17 times as fast.
        plain = self.backbone.training and next(self.backbone.parameters()).device.type == "cpu"
        if self._attention == "sdpa" and plain != (self.backbone.config._attn_implementation == "eager"):
            self.backbone.set_attn_implementation("eager" if plain else "sdpa")

    def embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the pooled embeddings of tokenised texts."""
        states: torch.Tensor = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled: torch.Tensor = (states * mask).sum(1) / mask.sum(1)
        return pooled

    def forward(self, input_ids: torch.Tensor | None = None, attention_mask: torch.Tensor | None = None,
                embeddings: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (batch × classes) of tokenised texts, or of embeddings that were computed before."""
        if embeddings is None:
            assert input_ids is not None and attention_mask is not None
            embeddings = self.embed(input_ids, attention_mask)
        logits: torch.Tensor = self.head(embeddings.to(next(self.head.parameters()).dtype))
        return logits


def load_backbone(folder: Path) -> "PreTrainedModel":
    """Return an encoder in float32.

    Raises:
        InputError: the folder holds no model that transformers knows, or one that is not an encoder; or it is not
            whole (:func:`distill.models.whole.load_whole`).
    """
    from transformers import AutoConfig, AutoModel

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"The backbone in {folder} cannot be loaded ({first_line(error)}). Is the folder complete, "
                         "and its architecture one that transformers knows?") from error
    if getattr(config, "is_encoder_decoder", False) or _is_decoder(config):
        raise InputError(f"The model in {folder} ({config.model_type}) is not an encoder: its tokens see only "
                         "those before them, or it has a decoder. Take an encoder as backbone, such as "
                         "all-minilm-l6-v2 or a RoBERTa.")
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise InputError(f"The model in {folder} ({config.model_type}) is not an encoder of text alone. Take "
                         "one as backbone, such as all-minilm-l6-v2 or a RoBERTa.")
    # Pooling is ours, over the last states: a pooler, which models trained on words in gaps lack, is not used.
    return load_whole(AutoModel, folder, may_lack=("pooler.",), dtype=torch.float32)


def _is_decoder(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    kind = config.model_type
    return bool(getattr(config, "is_decoder", False)) or (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES)


def task_prompt(config: EncoderConfig) -> str:
    """Return the text in which each sentence is put to the model: that of Section 3, or ``{Text}`` alone."""
    return read_yaml(shipped("prompts/encoder.yaml"))["sst5"]["text"] if config.prompt else "{Text}"


def most_tokens(backbone: "PreTrainedModel", tokenizer: Any) -> int:
    """Return how many tokens a backbone takes, special ones included."""
    positions = int(getattr(backbone.config, "max_position_embeddings", 0) or 10**9)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            # Such as RoBERTa's, whose positions are counted from the one after padding's.
            positions = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return min(positions, int(tokenizer.model_max_length))


def save_classifier(model: Classifier, tokenizer: Any, config: EncoderConfig, folder: Path, bfloat16: bool) -> None:
    """Write backbone and tokenizer as transformers does, the head beside them, and how to ask and compute.

    Raises:
        RunError: weights are no finite numbers.
    """
    refuse_to_save(model.named_parameters(), folder)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.backbone.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
    save_file({name: weight.contiguous() for name, weight in model.head.state_dict().items()}, folder / _HEAD)
    write_json(folder / SETTINGS, {"head": config.head.model_dump(), "names": config.data.names,
                                    "prompt": task_prompt(config), "bfloat16": bfloat16,
                                    "max_length": min(config.max_length, most_tokens(model.backbone, tokenizer))})


def load_classifier(folder: Path) -> tuple[Classifier, Any, dict[str, Any]]:
    """Return a saved classifier in evaluation mode, its tokenizer, and its settings.

    Raises:
        InputError: the folder holds none, or not a whole one.
    """
    settings = settings_of(folder)
    if not (folder / _HEAD).is_file():
        raise InputError(f"{folder} holds no whole encoder classifier: {_HEAD} is missing. Copy the folder again, or "
                         "train the model again.")
    model = Classifier(load_backbone(folder), Head(**settings["head"]), len(settings["names"]))
    try:
        model.head.load_state_dict(load_file(folder / _HEAD))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise InputError(f"{folder / _HEAD} is damaged ({str(error).splitlines()[0][:200]}). Copy the folder again, or "
                         "train the model again.") from error
    refuse_spoilt(model.head.named_parameters(), folder / _HEAD)
    return model.eval(), load_tokenizer(folder), settings
