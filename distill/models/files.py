"""The files in which a model's weights are, and whether they are all there."""

from pathlib import Path

from distill.errors import InputError
from distill.models.hub import PICKLED
from distill.run.storage import read_json

_INDEX, _SINGLE, _ADAPTER = "model.safetensors.index.json", "model.safetensors", "adapter_config.json"


def weight_files(folder: Path) -> list[Path]:
    """Return a model folder's safetensors files: those its index names, else ``model.safetensors``, else all.

    Raises:
        InputError: the index is damaged.
    """
    if (folder / _INDEX).is_file():
        return [folder / name for name in sorted(set(_weight_map(folder).values()))]
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    return sorted(folder.glob("*.safetensors"))


def refuse_damaged(folder: Path) -> None:
    """Refuse a folder whose weights cannot be what they were: by the index and the files' headers.

    Raises:
        InputError: a file that the index names, or a tensor in it, is missing; a file is cut off or damaged; or it is
            not clear which weights count: the folder holds one file and several, or LoRA adapters.
    """
    from safetensors import SafetensorError, safe_open

    if (folder / _ADAPTER).is_file():
        raise InputError(f"{folder} holds LoRA adapters ({_ADAPTER}), which some engines add to the weights and others "
                         "leave out. Merge them into the model (merge_and_unload of peft, then save_pretrained) and "
                         "name the folder of the merged model.")
    if (folder / _INDEX).is_file() and (folder / _SINGLE).is_file():
        raise InputError(f"{folder} holds {_SINGLE} and {_INDEX}, of which engines take this or that. Remove the one "
                         "that is not the model.")
    files = weight_files(folder)
    if missing := [path.name for path in files if not path.is_file()]:
        raise InputError(f"{len(missing)} of {len(files)} files of weights that {folder / _INDEX} names are missing, "
                         f"such as {missing[0]}. Copy the whole model again.")
    names: set[tuple[str, str]] = set()
    for path in files:
        try:
            with safe_open(path, framework="np") as file:
                names |= {(name, path.name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is damaged or cut off ({error}). Copy that file again.") from error
    if (folder / _INDEX).is_file() and (absent := sorted(set(_weight_map(folder).items()) - names)):
        name, file_name = absent[0]
        raise InputError(f"{folder / _INDEX} names {len(absent)} weights that are not where it says, such as {name} in "
                         f"{file_name}. Copy the whole model again.")
    if not files and not (folder / PICKLED).is_file():
        raise InputError(f"The model in {folder} cannot be loaded: the folder holds no weights (*.safetensors). Was it "
                         "moved, or is it still being written?")


def _weight_map(folder: Path) -> dict[str, str]:
    found = read_json(folder / _INDEX)
    entries = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(entries, dict) or not entries or not all(
            isinstance(name, str) and name and "/" not in name and "\\" not in name for name in entries.values()):
        raise InputError(f"{folder / _INDEX} is damaged: it has no weight_map from weights to files of this folder. "
                         "Copy the whole model again.")
    return entries
