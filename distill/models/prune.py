"""Depth pruning: a student made of some of a base model's layers."""

from pathlib import Path

from distill.errors import InputError
from distill.models.cache import atomic_folder
from distill.models.folder import load_model, load_tokenizer
from distill.models.quiet import quiet_transformers
from distill.models.tokenization import save_tokenizer


def kept_layers(total: int, layers: int) -> list[int]:
    """Return which of ``total`` layers to keep: ``layers`` of them, evenly spaced, first and last among them.

    Raises:
        InputError: fewer than 2, or more than there are.
    """
    import numpy as np

    if not 2 <= layers <= total:
        raise InputError(f"student.layers is {layers}, but the base model has {total} layers: "
                         f"choose from 2 to {total}.")
    return [int(index) for index in np.rint(np.linspace(0, total - 1, layers))]


def depth_prune(folder: Path, layers: int, out: Path) -> Path:
    """Write to ``out`` the model in ``folder`` with only ``layers`` of its layers, and its tokenizer; return ``out``.

    The kept layers' weights, and the embeddings, are the base model's, in float32.

    Raises:
        InputError: ``layers`` is out of range, or the model's layers are not where decoders have them.
    """
    from torch.nn import ModuleList

    model = load_model(folder, "float32", device="cpu")
    decoder = model.base_model
    if not isinstance(getattr(decoder, "layers", None), ModuleList):
        raise InputError(f"The model in {folder} ({type(model).__name__}) cannot be depth-pruned: it has no list of "
                         "decoder layers under 'model.layers'. Use a Llama- or Qwen-like model, or kind: pretrained.")
    kept = kept_layers(len(decoder.layers), layers)
    decoder.layers = ModuleList([decoder.layers[index] for index in kept])
    for position, layer in enumerate(decoder.layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):  # the key of the layer's place in the cache
                module.layer_idx = position
    model.config.num_hidden_layers = layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[index] for index in kept]
    with atomic_folder(out) as temporary, quiet_transformers():
        model.save_pretrained(temporary)
        save_tokenizer(load_tokenizer(folder), temporary)
    return out
