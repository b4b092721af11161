"""A server that says, as ``vllm serve`` does, which tokens a model held likeliest at each token of a prompt."""

import json
import threading
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from distill.models import load_tokenizer
from tests.support.endpoint import Reply, Server


class TokenServer(Server):
    """The model in a folder, in float32, which reads prompts of token ids and writes one token."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._tokenizer, self._one = load_tokenizer(folder), threading.Lock()

    def take(self, body: dict[str, Any], authorization: str) -> Reply | None:
        fault = super().take(body, authorization)
        return fault or (200, json.dumps({"choices": [self._told(body)]}).encode(), {})

    @torch.no_grad()
    def _told(self, body: dict[str, Any]) -> dict[str, Any]:
        k = body["prompt_logprobs"]
        with self._one:
            top = self._model(torch.tensor([body["prompt"]])).logits[0].log_softmax(-1).topk(k)
        ids, values = top.indices.tolist(), top.values.tolist()
        places = [{str(token): {"logprob": value, "rank": rank, "decoded_token": self._tokenizer.decode([token])}
                   for rank, (token, value) in enumerate(zip(*place, strict=True), 1)}
                  for place in zip(ids[:-1], values[:-1], strict=True)]
        written = {f"token_id:{token}": value for token, value in zip(ids[-1], values[-1], strict=True)}
        return {"text": "", "finish_reason": "length", "prompt_logprobs": [None, *places],
                "logprobs": {"tokens": [f"token_id:{ids[-1][0]}"], "top_logprobs": [written]}}
