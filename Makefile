# The whole project in a few words; `make` alone lists them. Works with GNU make 3.81 and any Python from 3.11.
# PYTHON=... picks an interpreter, ARGS=... goes to media-proxy serve or to pytest.

.DEFAULT_GOAL := help
.PHONY: help serve test test-slow test-stack bench-images bench-overload bench-hits bench-uploads bench-catalogue bench-video bench-processor bench-migrate bench-codecs docs check fmt clean

# The newest Python that runs here makes .venv ready for $(1); when it is ready already, this takes a moment.
define ready
@for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11 python3; do \
  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then exec "$$python" scripts/install.py $(1); fi; \
done; echo "media-proxy needs Python 3.11 or newer: apt-get install python3, or brew install python." >&2; exit 1
endef

help:
	@echo "make serve      start the media proxy on http://127.0.0.1:10020, with its data in ./media-data"
	@echo "make test       run the tests"
	@echo "make test-slow  run the tests that take longer"
	@echo "make test-stack run what deploy/ ships as plain processes, and tests on it"
	@echo "make bench-images    measure what renditions cost, beside vipsthumbnail"
	@echo "make bench-overload  measure what is left of the service under 16 times what it can do"
	@echo "make bench-hits      measure warm hits of two processes, from memory and from Redis, beside nginx"
	@echo "make bench-uploads   measure small pieces of a resumable upload, and many uploads at once"
	@echo "make bench-catalogue measure pages of a catalogue with a million records, on SQLite and PostgreSQL"
	@echo "make bench-video     measure stills of a film of 1 GiB in MinIO, beside ffmpeg on the same film"
	@echo "make bench-processor measure what it costs to have pictures made by a processor"
	@echo "make bench-migrate   measure how long objects take from one store to another, beside mc and rclone"
	@echo "make bench-codecs    measure the codecs: CPU time and bytes at equal quality"
	@echo "make docs       build the docs as a site, in build/site; what is not in order there stops it"
	@echo "make check      lint, see that the code is formatted, check types"
	@echo "make fmt        format the code, and mend what the linter can"
	@echo "make clean      remove what was installed and cached; ./media-data stays"

serve:
	$(call ready,serve)
	@exec .venv/bin/media-proxy serve $(ARGS)

test:
	$(call ready,test)
	@exec .venv/bin/python -m pytest $(ARGS)

test-slow:
	$(call ready,slow)
	@exec .venv/bin/python -m pytest -m slow -n 0 $(ARGS)

test-stack:
	$(call ready,test)
	@exec .venv/bin/python -m pytest -m "stack and not slow" -n 0 $(ARGS)

bench-images bench-overload bench-hits bench-uploads bench-catalogue bench-video bench-processor bench-migrate:
	$(call ready,check)
	@exec .venv/bin/python -m benchmarks.$(@:bench-%=%) $(ARGS)

docs:
	$(call ready,docs)
	@.venv/bin/python -m properdocs build --quiet --strict
	@echo "build/site/index.html"

check:
	$(call ready,check)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

fmt:
	$(call ready,check)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench-codecs:
	$(call ready,bench)
	@exec .venv/bin/python -m benchmarks.codecs $(ARGS)

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/screenshots
	find proxy processors tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
