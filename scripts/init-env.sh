#!/bin/sh
# Writes .env for docker-compose.media.yml, with secrets that nobody has used before: scripts/init-env.sh [profile ...]
# Profiles: postgres, edge, clamav, monitoring. A .env that is there is never changed; MEDIA_ENV names another file.
set -eu
cd "$(dirname "$0")/.."
file=${MEDIA_ENV:-.env}

fail() { echo "$1" >&2; exit 1; }
command -v openssl > /dev/null || fail "openssl is missing: apt-get install openssl, or brew install openssl."
if [ -e "$file" ] || [ -h "$file" ]; then
  fail "$file is there already, and the stores know its secrets: it was left as it is. To begin anew, move it away."
fi
profiles=
database=
scanner=
for profile; do
  case $profile in
    postgres) database=yes ;;
    clamav) scanner=yes ;;
    edge | monitoring) ;;
    *) fail "There is no profile $profile: choose among postgres, edge, clamav and monitoring." ;;
  esac
  profiles=${profiles:+$profiles,}$profile
done

# Hexadecimal, so that they may stand in addresses as they are.
secret() { openssl rand -hex "$1"; }

umask 077
fresh=$(mktemp "$file.XXXXXX")
trap 'rm -f "$fresh"' EXIT
postgres=$(secret 24)
{
  echo "# Made by scripts/init-env.sh. Whoever reads this may do anything: keep it 0600, and a copy where backups are."
  echo "COMPOSE_PROFILES=$profiles"
  echo "MINIO_ROOT_USER=admin-$(secret 4)"
  echo "MINIO_ROOT_PASSWORD=$(secret 24)"
  echo "MINIO_SECRET_KEY=$(secret 20)"
  echo "MINIO_UPLOAD_SECRET_KEY=$(secret 20)"
  echo "MEDIA_HOOK_TOKEN=$(secret 32)"
  echo "REDIS_PASSWORD=$(secret 24)"
  echo "JWT_SECRET=$(secret 48)"
  echo "MEDIA_URL_SECRETS=$(secret 48)"
  echo "PROCESSOR_TOKEN=$(secret 32)"
  echo "POSTGRES_PASSWORD=$postgres"
  echo "GRAFANA_PASSWORD=$(secret 20)"
  if [ -n "$database" ]; then echo "DATABASE_URL=postgresql://media:$postgres@postgres:5432/media"; fi
  if [ -n "$scanner" ]; then
    echo "CLAMAV_URL=tcp://clamav:3310"
    echo "# As deploy/clamav/clamd.conf has it. What is larger is refused, or with MEDIA_SCAN_POLICY=quarantine stored and withheld."
    echo "MEDIA_SCAN_LIMIT=1G"
    echo "MEDIA_SCAN_DEADLINE=300"
  fi
  echo "# MEDIA_PUBLIC_URL=https://media.example"
  echo "# MEDIA_CORS_ORIGINS=https://app.example"
} > "$fresh"
# A link is made or not made: of two that run at one time, one writes the file, and nothing that came meanwhile is lost.
ln "$fresh" "$file" || fail "$file has come meanwhile: it was left as it is."
echo "$file is written. Next: docker compose -f docker-compose.media.yml up -d"
