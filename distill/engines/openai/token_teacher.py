"""A teacher behind servers, asked what it would have written at each token of a text that somebody else wrote."""

import atexit
from concurrent.futures import Future

import numpy as np

from distill.config.sections.engines import OpenAIEngine as Config
from distill.engines.openai import top_scores
from distill.engines.openai.backoff import Backoff
from distill.engines.openai.errors import RejectedError, TransientError
from distill.engines.openai.servers import Servers
from distill.engines.openai.usage import CountedRequests
from distill.errors import InputError, RunError
from distill.run.top_logprobs import rest_of

Distributions = tuple[np.ndarray, np.ndarray]
"""At each of n tokens: the ids of the k likeliest (n × k), and their log-probabilities and that of all others together
(n × k + 1)."""
_NEEDS = ("On-policy distillation from a server (train.objective: on_policy) needs one that takes token ids and gives "
          "top_k log-probabilities at each token of a prompt (prompt_logprobs), before temperature, as 'vllm serve' "
          "does (--max-logprobs: 20 unless that is set). Serve the teacher with that, lower the objective's top_k, or "
          "name a model that is loaded beside the student: {kind: on_policy, teacher: {name: FOLDER}}.")


class TokenTeacher:
    """The servers of a config, asked for ``k`` tokens at each place."""

    def __init__(self, config: Config, k: int, backoff: Backoff = Backoff()) -> None:  # noqa: B008
        """Connect.

        Raises:
            InputError: as :class:`Servers`; the config names no tokenizer, or one of fewer than ``k`` tokens.
            ProcessDiedError: no endpoint answers.
        """
        self._servers, self._k, self._backoff = Servers(config, backoff), k, backoff
        atexit.register(self.close)
        size = 0 if self._servers.tokenizer is None else len(self._servers.tokenizer)
        if size < k:
            self.close()
            raise InputError(f"The objective on_policy asks the teacher's server for top_k = {k} tokens, but "
                             + (f"its tokenizer knows {size}. Lower it; 20 is usual." if size else
                                "the engine names no tokenizer, by which its vocabulary is held against the student's. "
                                "Set its 'tokenizer' to the model's, by a name or folder."))

    def check(self) -> None:
        """See that each endpoint says what else tokens might have been, in the tokenizer's vocabulary.

        Raises:
            InputError: one does not.
            ProcessDiedError: none has an answer.
        """
        servers = self._servers
        servers.run(top_scores.check(servers.pool, servers.model, servers.tokenizer, self._k, self._backoff, _NEEDS))

    def refuse_longer(self, tokens: int) -> None:
        """Raise where the servers do not read texts of so many tokens.

        Raises:
            InputError: see above.
        """
        most = self._servers.max_model_len
        if most is not None and tokens + 1 > most:  # a server writes a token, too
            raise InputError(f"Rows have up to {tokens:,} tokens with an answer of the student's (max_tokens of the "
                             f"objective on_policy), but the teacher's server reads no more than {most - 1:,}. Serve "
                             "it with a longer context (--max-model-len), or lower max_tokens or train.max_length.")

    def ask(self, prompt: list[int], answer: list[int]) -> Future[Distributions]:
        """Ask for the distributions at the tokens of an answer; the result raises RunError where there are none."""
        return self._servers.submit(self._asked(prompt, answer))

    def close(self) -> None:
        """Close the connections."""
        self._servers.close()

    async def _asked(self, prompt: list[int], answer: list[int]) -> Distributions:
        servers = self._servers
        try:
            async with servers.reading:
                found = await top_scores.given_likeliest(CountedRequests(servers.pool), servers.model, prompt, answer,
                                                         self._k, _NEEDS)
        except (RejectedError, TransientError) as error:
            raise RunError(f"The teacher's server did not say what else the tokens of an answer of the student's might "
                           f"have been ({error}). See to it and run the same command again: training goes on from its "
                           "last checkpoint.") from None
        ids, logprobs = (np.array([place[part] for place in found]) for part in (0, 1))
        if np.isnan(logprobs).any():
            raise RunError("The teacher's server gives log-probabilities that are no numbers (NaN). See to it and run "
                           "the same command again: training goes on from its last checkpoint.")
        return ids.astype(np.int64), np.concatenate([logprobs, rest_of(logprobs)[:, None]], axis=1).astype(np.float32)
