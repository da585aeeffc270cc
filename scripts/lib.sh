# shellcheck shell=bash disable=SC2016,SC2034
# Sourced by demo and dev: a KSeF and a Vault (or OpenBao) of their own on free loopback ports, with
# the engine configured, in a scratch directory that goes when they end. Nobody's ~/.vault-token,
# VAULT_* or BAO_* variables or running servers are touched.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=""
# The server's program, its name and version, its command line, and what the command line's
# variables begin with.
binary=""
server=""
cli=vault
CLI=VAULT
server_pid=""
ksef_pid=""
address=""

bold="" dim="" plain=""
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

say() { printf '\n%s# %s%s\n' "$dim" "$*" "$plain"; }

die() {
  echo "$*" >&2
  exit 1
}

# Prints a command as a person types it, then does it.
run() {
  printf '%s$ %s%s\n' "$bold" "$1" "$plain"
  eval "$1"
}

# Prints and does a command that must fail, with an answer that contains the text given.
run_refused() {
  local text=$1 answer
  printf '%s$ %s%s\n' "$bold" "$2" "$plain"
  if answer=$(eval "$2" 2>&1); then
    die "$answer"$'\n'"this should have been refused"
  fi
  echo "$answer"
  grep -qF -- "$text" <<<"$answer" || die "this should have been refused with: $text"
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port nobody listens on, nor on the next one, which Vault takes too.
free_port() {
  local port
  while port=$((10000 + RANDOM % 20000)); listening "$port" || listening "$((port + 1))"; do :; done
  echo "$port"
}

# await NAME PID COMMAND...: until the command succeeds, for half a minute, or until the process has gone.
await() {
  local name=$1 pid=$2 tries
  shift 2
  for tries in {1..150}; do
    "$@" >/dev/null 2>&1 && return
    kill -0 "$pid" 2>/dev/null || die "$name ended before it was ready"
    sleep 0.2
  done
  die "$name was not ready after $((tries / 5)) s"
}

stop() {
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

show_logs() {
  local log
  for log in "$scratch"/*.log; do
    printf '\n== the end of %s\n' "$(basename "$log")"
    tail -n 25 "$log"
  done
}

finish() {
  local status=$?
  trap - EXIT INT TERM
  stop "$server_pid"
  stop "$ksef_pid"
  case $status in
    0 | 130 | 143) ;; # done, or told to stop
    *) show_logs >&2 ;;
  esac
  [ -z "$scratch" ] || rm -rf "$scratch"
  exit "$status"
}

# From here on the working directory is the scratch directory, and ksef-simulator and vault (or bao)
# are on PATH.
prepare() {
  if [ ! -x "$root/bin/vault-plugin-secrets-ksef" ] || [ ! -x "$root/bin/ksef-simulator" ]; then
    die "the plugin and the simulator are not built: make build"
  fi
  binary=$("$root/scripts/server-binary")
  server=$("$binary" version | awk 'NR == 1 { sub(/,$/, "", $2); print $1, $2 }')
  case $server in
    OpenBao*) cli=bao CLI=BAO ;;
  esac

  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  scratch=$(mktemp -d)
  mkdir "$scratch/path" "$scratch/home"
  ln -s "$binary" "$scratch/path/$cli"
  ln -s "$root/bin" "$scratch/bin"
  cd "$scratch" || exit
  unset "${!VAULT_@}" "${!BAO_@}"
  export HOME=$scratch/home PATH=$scratch/path:$root/bin:$PATH
}

start_ksef() {
  local port
  port=$(free_port)
  run "ksef-simulator serve --listen 127.0.0.1:$port >ksef.log 2>&1 &"
  ksef_pid=$!
  KSEF_URL=http://127.0.0.1:$port/v2
  await "the simulator" "$ksef_pid" listening "$port"
}

start_server() {
  local port
  port=$(free_port)
  echo "plugin_directory = \"$root/bin\"" >server.hcl
  run "$cli server -dev -dev-no-store-token -dev-root-token-id=root -dev-listen-address=127.0.0.1:$port -config=server.hcl >server.log 2>&1 &"
  server_pid=$!
  address=http://127.0.0.1:$port
  run "export ${CLI}_ADDR=$address ${CLI}_TOKEN=root"
  await "$server" "$server_pid" "$cli" status
}

mount_engine() {
  local sha256=sha256sum
  command -v sha256sum >/dev/null || sha256="shasum -a 256"
  run "SHA256=\$($sha256 bin/vault-plugin-secrets-ksef | cut -d ' ' -f 1)"
  run "$cli plugin register -sha256=\$SHA256 secret vault-plugin-secrets-ksef"
  run "$cli secrets enable -path=ksef vault-plugin-secrets-ksef"
}

configure_engine() {
  run 'ksef-simulator certificate --nip 5265877635 --key ec --out-cert cert.pem --out-key key.pem'
  run "$cli write ksef/config url=$KSEF_URL nip=5265877635 certificate=@cert.pem private_key=@key.pem"
  run "$cli write ksef/roles/invoices permissions=InvoiceRead,InvoiceWrite ttl=1h max_ttl=24h"
}

start_everything() {
  say "A KSeF to try things on, and $server ($binary)"
  start_ksef
  start_server
  say "The engine is registered under its checksum and mounted"
  mount_engine
  say "The engine gets a certificate that may log in to KSeF, and a role that says which tokens it gives"
  configure_engine
}
