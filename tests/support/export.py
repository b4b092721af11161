"""What the tests of exports share: a tiny student of random weights, and LoRA adapters of one."""

import json
from pathlib import Path
from typing import Any

from distill.models.quiet import quiet_transformers
from tests.support.model import byte_level, tiny_llama


def tiny_student(folder: Path, tokenizer: Any = None, layers: int = 2) -> Path:
    """Write a Llama of random weights that holds the prompts of SentiBench, and that vLLM takes (head size 32)."""
    return tiny_llama(folder, tokenizer or byte_level(), hidden_size=32, num_attention_heads=1, head_dim=32,
                      max_position_embeddings=4096, num_hidden_layers=layers, initializer_range=0.4)


def tiny_adapters(folder: Path, base: Path) -> Path:
    """Write LoRA adapters of a student, of random weights and without its tokenizer."""
    import torch
    from peft import LoraConfig, get_peft_model

    from distill.models import load_model

    torch.manual_seed(1)
    model = get_peft_model(load_model(base, "float32", "cpu"), LoraConfig(
        r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False))
    with quiet_transformers():
        model.save_pretrained(folder)
    settings = folder / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": str(base)}))
    return folder
