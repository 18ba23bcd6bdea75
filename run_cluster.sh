#!/usr/bin/env bash
# Builds the server and runs a cluster of N on this machine until Ctrl-C. See usage below.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: run_cluster.sh [N] [--clean] [--base-port P] [--release|--debug]

Runs a cluster of N servers (1 to 9, default 3) on this machine until Ctrl-C.
Server I listens for clients on port P+I and for the other servers on P+100+I (P is 7000).
Settings come from cluster.toml; data and logs are kept in data/N/.

  --clean        begin with an empty cluster: remove what an earlier run made in data/N/
  --base-port P  use other ports; the data is kept
  --release      optimized build (default)
  --debug        quick build

Exit codes: 0 stopped by Ctrl-C or TERM, 1 failure, 2 wrong usage, 3 cluster.toml is invalid,
4 and 5 a data directory cannot be used, 6 a port is in use, 7 disk error, 8 disk full.
RAFT_CLUSTER_BINARY=path runs that program and builds nothing.
TEXT
}

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
servers=3
clean=no
base_port=7000
profile=release
binary=${RAFT_CLUSTER_BINARY:-}

pids=()     # pids[I]: the process of server I, as long as it is ours and alive
helpers=()  # the build, or `status`: what else is to be stopped when we stop
stop_seconds=5
generated="# Written by run_cluster.sh at each start; settings are taken from the top-level cluster.toml."

say() { printf '%s\n' "$*"; }
fail() { # fail CODE TEXT…
    printf 'run_cluster.sh: %s\n' "${*:2}" >&2 || true
    exit "$1"
}

# ---- stopping: every way out leads through here ------------------------------------------------

alive() { kill -0 "$1" 2>/dev/null; }

stop_all() {
    local code=$? pid
    trap '' INT TERM HUP PIPE
    trap - EXIT
    set +e
    for pid in "${helpers[@]}"; do kill -TERM -- "-$pid" 2>/dev/null; done
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null; done
    local deadline=$((SECONDS + stop_seconds)) left=("${pids[@]}" "${helpers[@]}") still
    while ((${#left[@]} > 0)); do
        still=()
        for pid in "${left[@]}"; do alive "$pid" && still+=("$pid"); done
        left=("${still[@]}")
        ((${#left[@]} == 0 || SECONDS >= deadline)) && break
        sleep 0.1
    done
    for pid in "${left[@]}"; do kill -KILL -- "-$pid" 2>/dev/null; done
    wait "${pids[@]}" "${helpers[@]}" 2>/dev/null
    exit "$code"
}

trap stop_all EXIT
# A closed stdout (`| head`) arrives as PIPE, or as TERM from the process that prefixes lines.
trap 'exit 0' INT TERM HUP PIPE

# ---- arguments ---------------------------------------------------------------------------------

parse_arguments() {
    local seen=no
    while (($# > 0)); do
        case $1 in
            -h | --help) usage; exit 0 ;;
            --clean) clean=yes ;;
            --release) profile=release ;;
            --debug) profile=debug ;;
            --base-port)
                (($# > 1)) || fail 2 "--base-port needs a port; see --help"
                base_port=$2
                shift ;;
            --base-port=*) base_port=${1#*=} ;;
            -*) fail 2 "unknown option $1; see --help" ;;
            *)
                [[ $seen == no ]] || fail 2 "one N is enough, got also '$1'; see --help"
                seen=yes
                servers=$1 ;;
        esac
        shift
    done
    [[ $servers =~ ^[1-9]$ ]] || fail 2 "N must be a number from 1 to 9, not '$servers'"
    [[ $base_port =~ ^[0-9]{1,5}$ ]] && ((10#$base_port >= 1 && 10#$base_port + 109 <= 65535)) ||
        fail 2 "the base port must be from 1 to 65426, not '$base_port'"
    base_port=$((10#$base_port))
    if ((servers % 2 == 0)); then
        say "note: $servers servers survive no more failures than $((servers - 1)) do"
    fi
}

client_port() { printf '%d' $((base_port + $1)); }
peer_port() { printf '%d' $((base_port + 100 + $1)); }

# ---- preparing ---------------------------------------------------------------------------------

# Runs a command that can be interrupted at once: bash handles signals while it waits for a
# background job, but not while it waits for a command in front.
interruptible() {
    set -m # a process group of its own, so that all of it can be stopped
    "$@" </dev/null &
    set +m
    local pid=$! code=0
    helpers=("$pid")
    wait "$pid" || code=$?
    helpers=()
    return "$code"
}

build() {
    [[ -z $binary ]] || return 0
    command -v cargo >/dev/null || fail 1 "cargo is not installed; see https://rustup.rs"
    local flags=()
    [[ $profile == debug ]] || flags=(--release)
    interruptible cargo build --manifest-path "$root/Cargo.toml" --bin raft-server \
        --target-dir "${CARGO_TARGET_DIR:-$root/target}" "${flags[@]}" || fail 1 "the build failed"
    binary=${CARGO_TARGET_DIR:-$root/target}/$profile/raft-server
}

# A port that somebody answers on is taken. (The server finds out for certain, with exit code 6.)
check_port() {
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then
        fail 6 "port $1 is in use; stop what uses it (an earlier cluster?) or give --base-port"
    fi
}

check_ports() {
    local i port
    for ((i = 1; i <= servers; i++)); do
        check_port "$(client_port "$i")"
        check_port "$(peer_port "$i")"
    done
    # An earlier run on other ports may still use the data.
    [[ -f $file ]] || return 0
    for port in $(sed -n 's/^\(client\|peer\) = .*:\([0-9]*\)"$/\2/p' "$file"); do
        check_port "$port"
    done
}

# Removes what this script made, and nothing else: what it does not know stays, and is named.
remove_old_data() {
    [[ -d $directory ]] || return 0
    if [[ ! -f $file || $(head -n 1 "$file") != "$generated" ]]; then
        fail 4 "$directory was not made by this script; remove it yourself if you mean it"
    fi
    local i
    for ((i = 1; i <= servers; i++)); do rm -rf -- "${directory:?}/$i" "${directory:?}/$i.log"; done
    rm -f -- "$file"
    rmdir -- "$directory" 2>/dev/null || say "kept what is not ours in $directory"
}

new_cluster_id() { printf 'local-%s' "$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')"; }

# Writes data/N/cluster.toml anew, so that settings and ports are those of today; the cluster id
# stays what it was.
write_config() {
    local settings id='' i
    settings=$("$binary" serve --config "$root/cluster.toml" --check-config) ||
        exit $? # it has said why, in one line
    mkdir -p -- "$directory"
    if [[ -f $file ]]; then id=$(sed -n 's/^id = "\(.*\)"$/\1/p;T;q' "$file"); fi
    [[ -n $id ]] || id=$(new_cluster_id)
    {
        say "$generated"
        say "[cluster]"
        say "id = \"$id\""
        say ""
        sed -n '/^\[raft\]$/,/^\[\[server\]\]$/{/^\[\[server\]\]$/d;s/ *#.*//;p;}' <<<"$settings"
        for ((i = 1; i <= servers; i++)); do
            say "[[server]]"
            say "id = $i"
            say "client = \"127.0.0.1:$(client_port "$i")\""
            say "peer = \"127.0.0.1:$(peer_port "$i")\""
            say "data = \"$i\""
            say ""
        done
    } >"$file.new"
    mv -- "$file.new" "$file" # whole or not at all: a lost cluster id would orphan the data
}

init_servers() {
    local i
    for ((i = 1; i <= servers; i++)); do
        [[ -f $directory/$i/identity.json ]] && continue
        "$binary" init --config "$file" --id "$i" >/dev/null || exit $?
    done
}

# ---- running -----------------------------------------------------------------------------------

# Copies a server's lines to its log and, prefixed, to stdout. It outlives every signal so that a
# server can still tell why it stops; it ends when the server has closed its end.
prefix_lines() {
    trap '' INT TERM HUP PIPE
    local i=$1 line prefix="n$1 | " gone=no
    if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
        prefix=$'\e['$((31 + i % 6))"m$prefix"$'\e[0m'
    fi
    while IFS= read -r line || [[ -n $line ]]; do
        printf '%s\n' "$line" >&3
        if [[ $gone == no ]] && ! printf '%s%s\n' "$prefix" "$line" 2>/dev/null; then
            gone=yes # nobody reads any more: stop the cluster, but keep writing the log
            kill -TERM $$ 2>/dev/null
        fi
    done 3>>"$directory/$i.log"
}

start_server() {
    # A process group of its own: Ctrl-C in the terminal reaches this script only, which then sends
    # each server one TERM. (Two signals would make it exit at once.)
    set -m
    "$binary" serve --config "$file" --id "$1" </dev/null > >(prefix_lines "$1") 2>&1 &
    set +m
    pids[$1]=$!
}

# Notices servers that have ended. While the cluster is starting, that is the end of it.
check_servers() {
    local i code
    for i in "${!pids[@]}"; do
        alive "${pids[$i]}" && continue
        code=0
        wait "${pids[$i]}" 2>/dev/null || code=$?
        unset "pids[$i]"
        if [[ $1 == starting ]]; then
            ((code != 0)) || code=1
            fail "$code" "server $i did not start (exit code $code); its last lines are above"
        fi
        say "server $i has ended (exit code $code); the others go on. Bring it back with:"
        say "  $(serve_command "$i")"
    done
}

serve_command() { printf '%q serve --config %q --id %d' "$binary" "$file" "$1"; }

wait_for_leader() {
    local i addresses=() code=0
    for ((i = 1; i <= servers; i++)); do addresses+=("127.0.0.1:$(client_port "$i")"); done
    set -m
    "$binary" status --wait-leader 10 "${addresses[@]}" </dev/null >/dev/null &
    set +m
    helpers=($!)
    while alive "${helpers[0]}"; do
        check_servers starting
        sleep 0.1
    done
    wait "${helpers[0]}" || code=$?
    helpers=()
    check_servers starting
    ((code == 0)) || fail 1 "no leader within 10 s; the servers' lines are above and in $directory"
}

explain() {
    local i
    say ""
    say "The cluster is up. Every server answers every command, leader or not:"
    for ((i = 1; i <= servers; i++)); do
        say "  server $i   nc localhost $(client_port "$i")   (process ${pids[$i]})"
    done
    say "Type, for example:"
    say "  SET color blue"
    say "  GET color"
    say "  INCR visits"
    say "Data and logs are in $directory and are kept; --clean begins anew."
    say "Kill a server and bring it back:"
    say "  kill -9 ${pids[1]}"
    say "  $(serve_command 1)"
    say "Who leads:  $(printf '%q' "$binary") status$(
        for ((i = 1; i <= servers; i++)); do printf ' localhost:%d' "$(client_port "$i")"; done)"
    say "Ctrl-C stops the servers that were started here."
    say ""
}

main() {
    parse_arguments "$@"
    directory=$root/data/$servers
    file=$directory/cluster.toml
    build
    check_ports
    if [[ $clean == yes ]]; then remove_old_data; fi
    write_config
    init_servers
    local i
    for ((i = 1; i <= servers; i++)); do start_server "$i"; done
    wait_for_leader
    explain
    while ((${#pids[@]} > 0)); do
        sleep 0.2
        check_servers running
    done 2>/dev/null # bash's own word about a killed server; check_servers has a better one
    fail 1 "no server is left"
}

main "$@"
