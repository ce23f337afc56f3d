#!/bin/sh
# media-proxy health with the arguments given here (docs/operations.md).
set -eu
bin=$(dirname "$0")/../.venv/bin/media-proxy
[ -x "$bin" ] || bin=media-proxy
exec "$bin" health "$@"
