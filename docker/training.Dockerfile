# Workers with GPUs: training, evaluation, and the teacher in process (vLLM). Needs NVIDIA's container toolkit.
# Build in the project's folder: docker build -f docker/training.Dockerfile -t sentidistill-training .
# CUDA's libraries come with torch's wheels, so the image needs no CUDA of its own; the driver is the host's.
FROM python:3.11.13-slim-bookworm

# gcc: Triton compiles its launchers when it first runs. Versions: see flows.Dockerfile.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc git libc6-dev make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home app \
    && mkdir --parents /opt/sentidistill /data \
    && chown app:app /opt/sentidistill /data

USER 10001
WORKDIR /opt/sentidistill

COPY --chown=app:app pyproject.toml constraints.txt Makefile ./
RUN make dependencies EXTRA=gpu DEV= VENV=/opt/sentidistill/.venv UV_NO_CACHE=1
COPY --chown=app:app . .
RUN make install EXTRA=gpu DEV= VENV=/opt/sentidistill/.venv UV_NO_CACHE=1

ENV PATH=/opt/sentidistill/.venv/bin:$PATH \
    SENTIDISTILL_HOME=/data \
    SENTIDISTILL_CACHE=/data/models \
    HF_HOME=/data/huggingface \
    DO_NOT_TRACK=1 \
    VLLM_NO_USAGE_STATS=1

ENTRYPOINT ["distill"]
CMD ["worker", "--pool", "gpu"]
