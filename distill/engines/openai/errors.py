"""What may go wrong with a request: failures that pass, and requests that a server does not want."""

_REFUSALS = {  # in words of vLLM, SGLang, LMDeploy, OpenAI and Azure
    "prompt_too_long": ("context length", "maximum model length", "max_model_len", "too long", "context window"),
    "content_filter": ("content_filter", "content management policy", "content policy")}


class TransientError(Exception):
    """A failure that may pass. ``reason``: ``unreachable``, ``busy``, ``server_error``, ``bad_answer``, ``timeout``.

    ``wait`` is the number of seconds after which the server wants to be asked again, where it says so.
    """

    def __init__(self, reason: str, detail: str, wait: float | None = None) -> None:
        """``detail`` says what happened, in words for a log."""
        super().__init__(detail)
        self.reason, self.wait = reason, wait


class RejectedError(Exception):
    """The server will not answer this request, however often it is asked; the others it may.

    ``reason``: ``prompt_too_long``, ``content_filter`` or ``refused``.
    """

    def __init__(self, status: int, said: str) -> None:
        """``said`` is the server's message."""
        super().__init__(f"status {status}, {said}")
        self.reason = next((reason for reason, words in _REFUSALS.items() if any(
            word in said.lower() for word in words)), "refused")
