"""A model is loaded whole or not at all: every weight that its config asks for, with its shape, and finite.

transformers fills what a file lacks with random weights and says so in a log only; vLLM checks some models itself.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.models.files import refuse_damaged, weight_files
from distill.models.finite import refuse_spoilt, refuse_spoilt_files
from distill.models.quiet import first_line, quiet_transformers

log = logging.getLogger(__name__)
_NAMED = 3
_BUFFERS = re.compile(r"(^|\.)(inv_freq|position_ids|token_type_ids|(attn|attention)\.(masked_)?bias)$")
"""Tables that older versions saved and that every version computes anew."""
_OTHER_USES = re.compile(r"vision|visual|image|audio|multi_modal|mtp|pooler")
"""Parts beside the language model that a model of text alone leaves out."""


def load_whole(kind: Any, folder: Path, may_lack: Sequence[str] = (), **options: Any) -> Any:
    """Return ``kind.from_pretrained(folder, **options)``, if all weights were in the folder.

    ``kind`` is one of transformers' Auto classes. ``may_lack``: beginnings of names of weights that are not used.
    A weight that the model has no place for is refused as well, but for a head or tower of another use.

    Raises:
        InputError: files are missing or damaged; weights are missing, left over, of another shape, or not finite; or
            transformers does not know the architecture. Errors of memory pass through.
    """
    import torch

    if "gguf_file" not in options:
        refuse_damaged(folder)
    try:
        with quiet_transformers():
            model, found = kind.from_pretrained(folder, local_files_only=True, ignore_mismatched_sizes=True,
                                                output_loading_info=True, **options)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of transformers, safetensors, torch and pickle, which share no class
        if "allocate memory" in str(error):  # torch, of a machine's own
            raise MemoryError(str(error)) from error
        raise _cannot_load(folder, error) from error
    _refuse_gaps(model, found, folder, may_lack)
    _refuse_two_heads(model, folder)
    if "gguf_file" in options or not _is_elsewhere(model):
        refuse_spoilt(model.named_parameters(), folder)
    else:
        refuse_spoilt_files(folder)
    return model


def refuse_incomplete(folder: Path) -> None:
    """Refuse a folder whose weights are not those of its config, without loading it: for engines that load themselves.

    Names and shapes are compared on a model without data, values are read from the files (once for each file). Of an
    architecture that transformers does not know, and of weights in fewer bits, only files and values are checked.

    Raises:
        InputError: as :func:`load_whole`.
    """
    refuse_damaged(folder)
    found = _without_data(folder)
    if found is None:
        log.warning("The weights in %s are in fewer bits, or of an architecture that transformers does not know: files "
                    "and values were checked, names and shapes were not.", folder)
    else:
        model, information, names = found
        _refuse_gaps(model, information, folder)
        for one, other in getattr(model, "all_tied_weights_keys", {}).items():
            if one in names and other in names and not _equal_in_files(folder, one, other):
                raise _two_heads(folder, one, other)
    refuse_spoilt_files(folder)


def _without_data(folder: Path) -> tuple[Any, dict[str, Any], set[str]] | None:
    """Return a model on the device ``meta`` with the folder's tensors put in, what was found, and their names."""
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
        kind = AutoModelForCausalLM._model_mapping[type(config)]
    except Exception:  # an architecture of vLLM's own, or none: vLLM says so better
        return None
    if getattr(config, "quantization_config", None):
        return None
    tensors = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensors[name] = torch.empty(file.get_slice(name).get_shape(), device="meta")
    try:
        with quiet_transformers():
            model, information = kind.from_pretrained(
                None, config=config, state_dict=tensors, device_map={"": "meta"}, dtype=torch.float32,
                ignore_mismatched_sizes=True, output_loading_info=True)
    except Exception as error:
        raise _cannot_load(folder, error) from error
    return model, information, set(tensors)


def _refuse_gaps(model: Any, found: dict[str, Any], folder: Path, may_lack: Sequence[str] = ()) -> None:
    missing = [name for name in sorted(found["missing_keys"])
               if not name.startswith(tuple(may_lack)) and not _BUFFERS.search(name)]
    other = sorted(found["mismatched_keys"])
    left_over = [name for name in sorted(found["unexpected_keys"]) if _belongs(model, name)]
    said = []
    if missing:
        said.append(f"{len(missing)} are missing and would be random ({_some(missing)})")
    if other:
        name, in_file, asked = other[0]
        said.append(f"{len(other)} have another shape (such as {name}, {list(in_file)} where the config asks for "
                    f"{list(asked)})")
    if left_over:
        said.append(f"{len(left_over)} have no place in the model ({_some(left_over)})")
    said += [first_line(message) for message in found.get("error_msgs") or ()]
    if said:
        raise InputError(f"The weights in {folder} are not those of its config.json ({model.config.model_type}): "
                         f"{'; '.join(said)}. Copy the whole model again, from where it was saved with "
                         "save_pretrained of transformers; or config.json is another model's.")


def _belongs(model: Any, name: str) -> bool:
    """Say whether a weight without a place is one of the network itself, such as a layer or bias too many.

    A head beside the network (of another task), and a tower for images or the like, are not used and do no harm.
    """
    if _BUFFERS.search(name):
        return False
    base, prefix = getattr(model, model.base_model_prefix, model), f"{model.base_model_prefix}."
    depth, at, part = max((_reach(model, name), _reach(base, name.removeprefix(prefix))), key=lambda found: found[0])
    if depth == 0 and not name.startswith(prefix) and at is model:
        return False
    return at not in (model, base) or not _OTHER_USES.search(part)


def _reach(module: Any, name: str) -> tuple[int, Any, str]:
    """Return how many modules of a weight's name there are, the last of them, and the part that it lacks."""
    depth = 0
    for part in name.split("."):
        inside = module._modules.get(part)
        if inside is None:
            break
        module, depth = inside, depth + 1
    return depth, module, part


def _refuse_two_heads(model: Any, folder: Path) -> None:
    """Refuse a model whose config says that the embeddings are the output head, with a head that is something else."""
    ways = model.get_input_embeddings(), model.get_output_embeddings()
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False) or None in ways:
        return
    one, other = (getattr(module, "weight", None) for module in ways)
    if one is not None and other is not None and one is not other:
        raise _two_heads(folder, "the output head", "the embeddings")


def _two_heads(folder: Path, one: str, other: str) -> InputError:
    return InputError(f"The config.json in {folder} says that {one} and {other} are the same weights "
                      "(tie_word_embeddings), but the files hold different ones. Set tie_word_embeddings to false "
                      "there if the model was trained so; or config.json is another model's.")


def _equal_in_files(folder: Path, one: str, other: str) -> bool:
    import torch
    from safetensors import safe_open

    found = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            found.update({name: file.get_tensor(name) for name in {one, other} & set(file.keys())})
    return torch.equal(found[one], found[other])


def _is_elsewhere(model: Any) -> bool:
    """Say whether weights are not here as numbers: in fewer bits, or shared out among processes by ZeRO-3."""
    return bool(getattr(model, "is_quantized", False)) or any(hasattr(one, "ds_id") for one in model.parameters())


def _cannot_load(folder: Path, error: Exception) -> InputError:
    return InputError(f"The model in {folder} cannot be loaded ({first_line(error)}). Is the folder complete, and its "
                      "architecture one that transformers knows?")


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_NAMED]) + (", …" if len(listed) > _NAMED else "")
