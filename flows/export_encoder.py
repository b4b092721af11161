"""An encoder student for ONNX Runtime, compared by its logits on sentences that ship."""

from pathlib import Path
from typing import Any

from distill import __version__
from distill.config.load import read_yaml
from distill.config.sections.encoder import RUN_FILE
from distill.encoder.data import shipped_sentences
from distill.errors import InputError
from distill.export.folder import exported_folder, refuse_taken, write_record
from distill.run.storage import write_text
from distill.runtime.process import call_in_process
from flows.report.card import CARD, plain_card


def export_encoder(encoder: Path, form: str, out: Path | None, overwrite: bool, log: Path) -> tuple[Path, str]:
    """Write a classifier for ONNX Runtime; return its folder, and what the comparison says.

    Raises:
        InputError: the form is another one, the classifier is exported already, or ``out`` is taken.
        RunError: the two do not say the same; nothing is written.
    """
    if form != "onnx":
        raise InputError(f"{encoder} is an encoder, which can be exported to onnx only.")
    if (encoder / "model.onnx").is_file():
        raise InputError(f"{encoder} is an encoder in ONNX already. Name the folder that it was made from.")
    run = encoder.resolve().parent.parent
    of_run = (run / RUN_FILE).is_file()
    out = out or Path(f"{run.name if of_run else encoder.resolve().name}-onnx")
    refuse_taken(out, overwrite)
    with exported_folder(out, overwrite) as temporary:
        found: dict[str, Any] = call_in_process("distill.encoder.onnx:export", {
            "model": str(encoder.resolve()), "out": str(temporary.resolve()), "texts": shipped_sentences()}, log)
        backbone = str(read_yaml(run / RUN_FILE)["backbone"]["name"]) if of_run else ""
        write_text(temporary / CARD, plain_card(out.name, encoder, backbone, "text-classification"))
        write_record(temporary, form="onnx", of=out.name, sentidistill=__version__)
    return out, (f"It says the same of {found['texts']:,} texts as PyTorch does in float32; logits differ by at most "
                 f"{found['difference']:.1g}.")
