"""How much memory a training takes, estimated from the model's shape before anything is loaded."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import Train
from distill.models import count_parameters
from distill.run.storage import read_json

_FLOAT32, _BFLOAT16, _ADAM = 4, 2, 8
_NF4 = 0.55  # bytes a weight: 4 bits and what scales them


@dataclass(frozen=True)
class Memory:
    """Bytes on one device."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def standing(self) -> int:
        """What is held whatever the batch."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """Everything at once, at the widest moment."""
        return self.standing + self.activations

    def to_json(self) -> dict[str, int]:
        """Return the numbers as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Sharing:
    """What is shared out among ``world_size`` devices: gradients and moments by ZeRO 2, the weights, too, by ZeRO 3.

    ``aside`` is what DeepSpeed keeps in the machine's memory instead: "optimizer" (moments and float32 weights), and
    "param" (weights).
    """

    world_size: int = 1
    zero_stage: int = 0
    aside: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Batch:
    """A device batch: its ``tokens``, padding among them; for how many of them ``logits`` are held at once.

    ``mask``: the numbers of the attention mask, 0 where there is none; ``one_mask``: all layers have the same one,
    where otherwise each keeps one of its own for the backward pass.
    """

    tokens: int
    logits: int
    mask: int = 0
    one_mask: bool = False


def estimate(config: Train, model: Path, batches: Iterable[Batch], bfloat16: bool, sharing: Sharing = Sharing(),
             teacher: Path | None = None) -> Memory:
    """Estimate a training step on that of the device batches which takes most.

    AdamW in float32 (weights, gradients and two moments: 16 bytes a trained weight), activations and attention masks as
    a Llama-like decoder keeps them for the backward pass, and logits where there is loss. A ``teacher`` beside it adds
    its weights.
    """
    shape = _Shape.of(model)
    parameters = count_parameters(model)
    trained = parameters if config.method == "full" else shape.adapter_weights(config.lora.r)
    frozen = parameters if config.method != "full" else 0
    bytes_each = _NF4 if config.method == "qlora" else _FLOAT32
    copies = _BFLOAT16 if bfloat16 and config.method != "qlora" else 0  # autocast keeps rounded ones for a step
    shares = sharing.world_size if sharing.zero_stage >= 2 else 1
    standing = (frozen * bytes_each + trained * _FLOAT32) / (sharing.world_size if sharing.zero_stage == 3 else 1)
    beside = count_parameters(teacher) * (_BFLOAT16 if bfloat16 else _FLOAT32) if teacher else 0
    return Memory(
        weights=beside + int(0 if "param" in sharing.aside else standing) + parameters * copies,
        gradients=trained * _FLOAT32 // shares,
        optimizer=0 if "optimizer" in sharing.aside else trained * _ADAM // shares,
        activations=max(shape.activations(batch, _BFLOAT16 if bfloat16 else _FLOAT32, config.gradient_checkpointing)
                        for batch in batches))


@dataclass(frozen=True)
class _Shape:
    layers: int
    hidden: int
    inner: int
    queries: int
    keys: int
    vocabulary: int

    @classmethod
    def of(cls, model: Path) -> "_Shape":
        config: dict[str, Any] = read_json(model / "config.json")
        hidden = config.get("hidden_size") or config.get("n_embd") or 0
        heads = config.get("num_attention_heads") or config.get("n_head") or 1
        head = config.get("head_dim") or hidden // heads
        return cls(config.get("num_hidden_layers") or config.get("n_layer") or 0, hidden,
                   config.get("intermediate_size") or 4 * hidden, heads * head,
                   (config.get("num_key_value_heads") or heads) * head,
                   config.get("vocab_size") or 0)

    def adapter_weights(self, rank: int) -> int:
        """Return the weights of adapters on every linear layer of the decoder."""
        h, i, q, k = self.hidden, self.inner, self.queries, self.keys
        return self.layers * rank * (2 * (h + q) + 2 * (h + k) + 3 * (h + i))

    def activations(self, batch: Batch, width: int, checkpointing: bool) -> int:
        # Two norms (in float32), attention's inputs, rotated copies and output, and four tensors of the feed-forward.
        # What goes from layer to layer is float32; in autocast each projection keeps a rounded copy of it of its own.
        inputs = 3 if width == _FLOAT32 else 6
        narrow = inputs * self.hidden + 3 * self.queries + 4 * self.keys + 4 * self.inner
        layer = batch.tokens * (16 * self.hidden + width * narrow)
        kept = batch.tokens * self.hidden * _FLOAT32 * self.layers + layer if checkpointing else layer * self.layers
        masks = batch.mask * width * (1 if batch.one_mask or checkpointing else self.layers)
        return kept + masks + batch.logits * self.vocabulary * _FLOAT32 * 3  # logits, their gradient, and the softmax
