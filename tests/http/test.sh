#!/usr/bin/env bash
# Asks the program everything that its own document names, with values good and bad, as four callers; then an unmodified client
# of Meilisearch lists tasks and waits for one. The seed is fixed, the number of examples bounded.
#
#   tests/http/test.sh [examples per operation, 10 if absent]
set -euo pipefail
cd "$(dirname "$0")/../.."

examples=${1:-10}
write_token=a-token-that-may-write
read_token=a-token-that-may-read

. testing/install.sh
venv=$PWD/target/http-venv
venv "$venv" tests/http/requirements.txt

cargo build --locked --quiet --bin tasklog
tasklog=${CARGO_TARGET_DIR:-target}/debug/tasklog
unset TASKLOG_STORE TASKLOG_TOKEN TASKLOG_READ_TOKEN TASKLOG_SENSITIVE_TOKEN TASKLOG_LOG

folder=$(mktemp -d)
service=
end() {
  [ -z "$service" ] || kill -KILL "$service" 2>/dev/null || true
  rm -rf "$folder"
}
trap end EXIT

# serve STORE [arguments]: a service on a free port, whose address is then in `url`.
serve() {
  local store=$1 line log
  shift
  # A position that does not come is not waited for for long.
  exec {log}< <(exec "$tasklog" --store "$store" serve --listen 127.0.0.1:0 --min-position-wait-ms 20 "$@" 2>&1)
  service=$!
  url=
  while IFS= read -r line <&"$log"; do
    case $line in
      *listening*url=*) url=${line##*url=} ;;
      *serving*position=*) break ;;
      *) echo "$line" >&2 ;;
    esac
  done
  cat <&"$log" >>"$folder/log" &
}

# A service that lived through it ends as it should.
stop() {
  kill -TERM "$service"
  wait "$service"
  service=
}

# fuzz WHO EXAMPLES PHASES [arguments]
fuzz() {
  local who=$1 count=$2 phases=$3
  shift 3
  printf '\n-- %s, with %s examples of each operation\n' "$who" "$count"
  # It writes down what it found beside its configuration.
  (cd "$folder" && FUZZ_AS=$who SCHEMATHESIS_HOOKS=checks PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 "$venv/bin/st" \
    --config-file schemathesis.toml run openapi.json --url "$url" --max-examples "$count" --phases "$phases" \
    --warnings off "$@")
}

here=$PWD/tests/http
cp "$here/schemathesis.toml" "$folder"
store=sqlite:$folder/tasklog.db
# Some of its commands are rejected, as on any day: 1.
"$tasklog" --store "$store" apply examples/day.ndjson >"$folder/applied" 2>&1 || [ $? = 1 ]

serve "$store"
python3 -c 'import sys, urllib.request as ask; sys.stdout.buffer.write(ask.urlopen(sys.argv[1]).read())' "$url/openapi.json" \
  >"$folder/openapi.json"
fuzz anyone "$examples" coverage,fuzzing
stop
"$tasklog" --store "$store" verify

echo $write_token >"$folder/write"
echo $read_token >"$folder/read"
serve "$store" --token-file "$folder/write" --read-token-file "$folder/read"
fuzz reader "$examples" fuzzing -H "Authorization: Bearer $read_token"
fuzz nobody "$examples" fuzzing
stop

"$tasklog" follow "$store" --into "sqlite:$folder/replica.db" --once
serve "sqlite:$folder/replica.db"
fuzz replica "$examples" fuzzing
stop

printf '\n-- a client of Meilisearch\n'
serve memory: --token-file "$folder/write"
"$venv/bin/python" -B tests/http/meilisearch_tasks.py "$url" $write_token
stop
