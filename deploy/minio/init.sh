#!/bin/sh
# The three buckets, the two accounts, notifications and lifecycle of the MinIO at MINIO_ADDRESS, by its own client (mc).
# What is there already is left as it is, so this may run at every start.
set -eu
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export MC_CONFIG_DIR="$work"

# Secrets go through the environment and standard input, since every user of a machine sees the words of a command.
address=${MINIO_ADDRESS#*://}
export MC_HOST_store="${MINIO_ADDRESS%%://*}://$MINIO_ROOT_USER:$MINIO_ROOT_PASSWORD@$address"

mc mb --ignore-existing store/sav3-media store/sav3-thumbnails store/sav3-temp

account() { # name, secret
  mc admin policy create store "$1" "$here/$1.json"
  printf '%s\n%s\n' "$1" "$2" | mc admin user add store
  # It fails where nothing changes, so whether it holds is what counts.
  mc admin policy attach store "$1" --user "$1" > "$work/said" 2>&1 || mc admin user info store "$1" | grep -q "PolicyName: $1" || {
    cat "$work/said" >&2
    exit 1
  }
}
account media-proxy "$MINIO_SECRET_KEY"
account media-uploads "$MINIO_UPLOAD_SECRET_KEY"

mc event add --ignore-existing store/sav3-media arn:minio:sqs::media:webhook --event put,delete
mc event add --ignore-existing store/sav3-temp arn:minio:sqs::media:webhook --event put

# What uploads leave behind is swept by the media proxy; a week after the longest of them could have ended, the store does it.
mc ilm rule ls store/sav3-temp > "$work/rules" 2>&1 || true
grep -q Enabled "$work/rules" || mc ilm rule add store/sav3-temp --expire-days 14
echo "The store is ready."
