#!/bin/sh
# Backs up objects and records: media-proxy backup with the arguments given here (docs/backup.md).
set -eu
bin=$(dirname "$0")/../.venv/bin/media-proxy
[ -x "$bin" ] || bin=media-proxy
exec "$bin" backup "$@"
