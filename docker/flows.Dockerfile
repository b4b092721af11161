# The Prefect server, and workers without a GPU: everything that `make install EXTRA=cpu` installs, and nothing else.
# Build in the project's folder: docker build -f docker/flows.Dockerfile -t sentidistill-flows .
FROM python:3.11.13-slim-bookworm

# Debian's security updates replace versions, so that a pinned one could soon not be installed.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home app \
    && mkdir --parents /opt/sentidistill /data \
    && chown app:app /opt/sentidistill /data

USER 10001
WORKDIR /opt/sentidistill

# What changes seldom comes first: a change of the code does not install three gigabytes again.
COPY --chown=app:app pyproject.toml constraints.txt Makefile ./
RUN make dependencies EXTRA=cpu DEV= VENV=/opt/sentidistill/.venv UV_NO_CACHE=1
COPY --chown=app:app . .
RUN make install EXTRA=cpu DEV= VENV=/opt/sentidistill/.venv UV_NO_CACHE=1

# Runs, evaluations and models are kept in /data, a volume.
ENV PATH=/opt/sentidistill/.venv/bin:$PATH \
    SENTIDISTILL_HOME=/data \
    SENTIDISTILL_CACHE=/data/models \
    HF_HOME=/data/huggingface \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    VLLM_NO_USAGE_STATS=1

ENTRYPOINT ["distill"]
CMD ["--help"]
