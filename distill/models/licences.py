"""Licences of models that are often teachers or students, and what they ask of models made with them.

What stands here was read in the licences; it is no legal advice, and a licence may have changed since.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from distill.config.yaml_text import parse_yaml
from distill.errors import InputError
from distill.run.storage import read_text


@dataclass(frozen=True)
class Licence:
    """``id`` as the Hub names it; ``warning`` says what it asks of, or forbids to, models made with the model."""

    id: str
    name: str
    warning: str = ""


_LLAMA_3 = ("a model made with it or with its answers must bear a name that begins with 'Llama', show 'Built with "
            "Llama', and come with the licence and its use policy; firms with over 700 million monthly users need "
            "Meta's permission")
_KNOWN = (
    (r"zhang-yice/.*sentiment-distillation", Licence("cc-by-4.0", "CC BY 4.0, by its model card",
                                                     "the licence of the model it was made from holds, too")),
    (r"deepseek-r1-distill-llama-70b", Licence("llama3.3", "MIT License, on Llama 3.3 Community License", _LLAMA_3)),
    (r"deepseek-r1-distill-llama", Licence("llama3.1", "MIT License, on Llama 3.1 Community License", _LLAMA_3)),
    (r"deepseek", Licence("mit", "MIT License")),
    (r"gpt-oss", Licence("apache-2.0", "Apache License 2.0")),
    (r"llama-?3\.1", Licence("llama3.1", "Llama 3.1 Community License", _LLAMA_3)),
    (r"llama-?3\.2", Licence("llama3.2", "Llama 3.2 Community License", _LLAMA_3)),
    (r"llama-?3\.3", Licence("llama3.3", "Llama 3.3 Community License", _LLAMA_3)),
    (r"llama-?3(?!\.)", Licence("llama3", "Llama 3 Community License",
                                     "its answers must not be used to improve other large language models than Llama "
                                     "3 and what is made of it")),
    (r"llama-?2", Licence("llama2", "Llama 2 Community License",
                          "its answers must not be used to improve other large language models than Llama 2 and what "
                          "is made of it")),
    (r"qwen2\.5-3b", Licence("qwen-research", "Qwen Research License", "no commercial use")),
    (r"qwen2\.5-(math-)?72b", Licence("qwen", "Qwen License",
                                      "products with over 100 million monthly users need Alibaba's permission; a model "
                                      "made with it or its answers must say 'Built with Qwen' or 'Improved using "
                                      "Qwen'")),
    (r"qwen(2\.5|3)", Licence("apache-2.0", "Apache License 2.0")),
    (r"smollm", Licence("apache-2.0", "Apache License 2.0")),
    (r"gemma", Licence("gemma", "Gemma Terms of Use", "models made with it or with its answers are bound by the same "
                                                      "terms, which must be passed on")),
    (r"(^|/)(gpt-|chatgpt|o[134](-|$))", Licence(
        "other", "OpenAI's terms of use", "answers must not be used to develop models that compete with OpenAI")),
    (r"claude", Licence("other", "Anthropic's terms of service", "answers must not be used to train models that "
                                                                 "compete with Anthropic without its permission")),
    (r"gemini", Licence("other", "Google's Gemini API terms", "answers must not be used to develop models that "
                                                              "compete with Google's")),
    (r"phi-[234]", Licence("mit", "MIT License")),
    (r"mi[sx]tral", Licence("apache-2.0", "Apache License 2.0", "some Mistral models are under the Mistral Research "
                                                               "License instead: no commercial use")),
    (r"^random-tiny$", Licence("apache-2.0", "random weights of ours")),
)
UNKNOWN = Licence("other", "not known here", "look it up before you publish or sell anything made with it")


def licence_of(name: str, folder: Path | None = None) -> Licence:
    """Return the licence of a model: as its folder's README.md says, else by its name, else :data:`UNKNOWN`.

    What is known of a name and restricts use stays, whatever a README.md without a restriction says: those of models
    made from others often name their own part only. Of a path the last two parts are the name.
    """
    short = "/".join(name.lower().rstrip("/").split("/")[-2:])
    known = next((licence for pattern, licence in _KNOWN if re.search(pattern, short)), None)
    said = _said(folder) if folder else ""
    if not said or (known and known.id == said):
        return known or UNKNOWN
    same = next((licence for _, licence in _KNOWN if licence.id == said and said != "other"), None)
    if known and known.warning and not (same and same.warning):
        return known
    return same or Licence(said, said, "" if said in ("apache-2.0", "mit", "bsd-3-clause") else UNKNOWN.warning)


_MOST_BYTES = 1 << 22


def _said(folder: Path) -> str:
    try:
        text = read_text(folder / "README.md", _MOST_BYTES)
        head = parse_yaml(text.split("---")[1], "Its head") if text.startswith("---") else {}
    except (InputError, OSError, IndexError):
        return ""
    if not isinstance(head, dict):
        return ""
    licence = str(head.get("license", ""))
    return str(head.get("license_name", licence)) if licence == "other" else licence
