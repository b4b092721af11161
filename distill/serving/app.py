"""The HTTP interface of a student: /predict, /health, /metrics, and a page that describes them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distill import __version__
from distill.prediction.run import Options
from distill.prediction.student import Prediction, Student
from distill.runtime.terminal import explain
from distill.serving.auth import is_right
from distill.serving.batcher import Batcher, QueueFullError
from distill.serving.body import Bodies, Refusal
from distill.serving.limits import Limits
from distill.serving.metrics import CONTENT_TYPE, Metrics
from distill.serving.model import ModelFailedError
from distill.serving.schema import (
    PredictAnswer,
    PredictRequest,
    Problem,
    WrongRequestError,
    answer_of,
    read_request,
    too_long,
)

log = logging.getLogger("sentidistill.serving")
_PATHS = ("/predict", "/health", "/metrics")
_GONE = 499
"""What nginx calls the status of a request whose client went away before it was answered."""
Answer = TypeVar("Answer")


def build_app(student: Student, batcher: Batcher, limits: Limits, metrics: Metrics, token: str | None,
              is_stopping: Callable[[], bool]) -> FastAPI:
    """Return the application; ``batcher`` runs while it does. With a ``token``, all but /health and the page asks for
    it.
    """
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(batcher.run())
        yield
        running.cancel()
        await asyncio.wait([running])

    app: FastAPI = FastAPIOffline(
        redoc_url=None, title="sentidistill", version=__version__, lifespan=lifespan,
        description=f"The student `{student.name}`. Texts of requests that wait together are answered together.")
    bodies = Bodies(limits)

    async def authorised(request: Request) -> None:  # not a plain function, which would get a thread
        if token is not None and not is_right(request.headers.get("authorization"), token):
            raise WrongRequestError(401, "This needs the server's token: Authorization: Bearer TOKEN.")

    asks_token: Any = [Depends(authorised)]
    if token is not None:
        asks_token.append(Depends(HTTPBearer(auto_error=False)))  # the page's button

    @app.post("/predict", response_model=PredictAnswer, response_model_exclude_unset=True, dependencies=asks_token,
              summary="Label a text, or a list of them", openapi_extra={"requestBody": {"required": True, "content": {
                  "application/json": {"schema": PredictRequest.model_json_schema()}}}},
              responses={status: {"model": Problem, "description": text} for status, text in _REFUSALS.items()})
    async def predict(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().casefold()
        if kind != "application/json":  # what a page of any site can have a browser send is of other types
            raise WrongRequestError(415, "Send JSON, with the header Content-Type: application/json.")
        async with bodies.body_of(request) as body:
            asked = read_request(body, limits)
            texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
            predictions = await _unless_gone(request, _predicted(texts, batcher, limits))
        for one in predictions:
            if one.problem:
                metrics.problems.labels(one.problem.partition(":")[0]).inc()
        return JSONResponse(answer_of(predictions, Options(probabilities=asked.probabilities).columns(student)))

    @app.get("/health", summary="Whether texts are answered now (200) or not (503)",
             responses={200: {"content": {"application/json": {"example": {"status": "ready", "texts_waiting": 0}}}}})
    async def health() -> Response:
        status = "stopping" if is_stopping() else "ready" if batcher.is_ready else "model is not ready"
        return JSONResponse({"status": status, "texts_waiting": batcher.n_waiting}, 200 if status == "ready" else 503)

    @app.get("/metrics", summary="Counts for Prometheus", dependencies=asks_token, response_class=Response)
    async def prometheus() -> Response:
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return RedirectResponse("/docs")

    _handle_errors(app)
    app.add_middleware(_Measured, metrics=metrics, is_stopping=is_stopping)
    return app


_REFUSALS = {
    400: "The body is no JSON", 401: "The token is missing or wrong", 408: "The body came too slowly",
    413: "The body is too large", 415: "The body is of another type", 422: "The request is not as described",
    429: "Too many texts wait; Retry-After says for how long", 500: "The model failed at these texts",
    503: "The texts were not answered in time"}


async def _predicted(texts: Sequence[str], batcher: Batcher, limits: Limits) -> list[Prediction]:
    refused = [too_long(text, limits) for text in texts]
    asked = [text for text, no in zip(texts, refused, strict=True) if no is None]
    found = iter(await batcher.predict(asked) if asked else [])
    return [no or next(found) for no in refused]


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what work comes to; it is cancelled when the client goes away.

    Raises:
        ClientDisconnect: it went.
    """
    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait({working, leaving})


def _handle_errors(app: FastAPI) -> None:
    """Have each error answered by a paragraph, in the form of FastAPI's own."""
    def on(kind: type[Exception], answer: Callable[[Any], Response]) -> None:
        async def handler(_: Request, error: Exception) -> Response:
            return answer(error)

        app.add_exception_handler(kind, handler)

    def wrong(error: WrongRequestError) -> Response:
        headers = {401: {"www-authenticate": "Bearer"}, 429: {"retry-after": "1"}}.get(error.status)
        return Refusal(error.status, str(error), headers)

    def unforeseen(error: Exception) -> Response:
        log.error(explain(error))
        return Refusal(500, "The server failed at this in a way that was not foreseen.")

    on(WrongRequestError, wrong)
    on(RequestValidationError, lambda error: Refusal(422, str(error)))
    on(HTTPException, lambda error: Refusal(error.status_code, f"{error.detail}. There are POST /predict, GET /health, "
                                            "GET /metrics and GET /docs.", error.headers))
    on(QueueFullError, lambda error: Refusal(429, "So many texts wait that these would not be answered in time. Try "
                                             f"again in {error.retry_after} seconds.",
                                             {"retry-after": str(error.retry_after)}))
    on(TimeoutError, lambda _: Refusal(503, "The texts were not answered in time. Send fewer at once, or try again.",
                                       {"retry-after": "1"}))
    on(ModelFailedError, lambda error: Refusal(500, f"The model failed at these texts, and is loaded again: {error}"))
    on(ClientDisconnect, lambda _: Response(status_code=_GONE))
    on(Exception, unforeseen)


class _Measured:
    """Counts requests and their seconds; lets clients know of connections that take no more of them."""

    def __init__(self, app: ASGIApp, metrics: Metrics, is_stopping: Callable[[], bool]) -> None:
        self._app, self._metrics, self._is_stopping = app, metrics, is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in _PATHS else "other"
        begun, status = time.monotonic(), "none"

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                if self._is_stopping():
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:
            status = "500"  # which is sent further out
            raise
        finally:
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.monotonic() - begun)
