# Shared by the scripts beside it, which source it: the cache, free ports, starting, waiting for and stopping one server.
#
# Every server script speaks the same commands:
#   prepare              download what is missing into the cache; does nothing the second time
#   start --dir DIR      start a server whose files are all in DIR, wait until it is ready, print `key=value …` on one line
#   run [--dir DIR]      the same, then stay until standard input ends and stop it: a server that cannot outlive its test;
#                        without DIR in a directory of its own, which is removed at the end
#   stop --dir DIR       stop the server of DIR; its data stay, a later start takes them up again on the same ports
#   kill --dir DIR       the same with SIGKILL
# DIR may not be shared by two servers at once; any number of servers may run beside each other in directories of their own.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${OMIUM_CACHE:-$HOME/.cache/omium}
mkdir -p "$cache/ports"

say() { echo "$(basename "$0"): $*" >&2; }
die() { say "$*"; exit 1; }

# Downloads of one artifact are made by one process at a time. `-o`: nothing that is started may inherit the lock.
prepared() { # MARKER
  [ -e "$1" ] && return
  "$here/apt" java
  flock -o "$1.lock" "$0" download || die "could not prepare $1; remove it and run '$0 prepare' again with a network"
}

# Silent when all is well: even a quiet Maven writes control characters.
maven() {
  local said
  said=$(mvn -B -q -ntp "-Dmaven.repo.local=$cache/m2" "$@" </dev/null 2>&1) || { echo "$said" >&2; return 1; }
}

# Takes a free loopback port below the range that outgoing connections use, and keeps it in $port. The lock on the
# port's file is inherited by the server on purpose: a second script cannot take the port while the server lives.
take_port() {
  local fd
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 12000))
    exec {fd}>"$cache/ports/$port"
    if flock -n "$fd" && ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
    exec {fd}>&-
  done
  die "no free loopback port found between 20000 and 32000"
}

alive() { # DIR
  pid=$(cat "$1/pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && grep -qzF -- "$1" "/proc/$pid/cmdline" 2>/dev/null
}

# Starts a daemon that writes $dir/server.log and whose command line names $dir (that is how `alive` knows it).
launch() { # COMMAND…
  : >"$dir/server.log"
  setsid nohup "$@" </dev/null >"$dir/server.log" 2>&1 &
  pid=$!
  echo "$pid" >"$dir/pid"
}

# Follows the log until TEXT appears; ends as soon as the server dies instead of waiting for the deadline.
wait_for() { # TEXT SECONDS
  local line deadline=$((SECONDS + $2)) found=1
  coproc FOLLOW { exec tail --pid="$pid" -n +1 -F "$dir/server.log" 2>/dev/null; }
  local follower=$FOLLOW_PID
  while [ $SECONDS -lt $deadline ] && IFS= read -r -t $((deadline - SECONDS)) -u "${FOLLOW[0]}" line; do
    case $line in *"$1"*) found=0; break ;; esac
  done
  kill "$follower" 2>/dev/null || true
  wait "$follower" 2>/dev/null || true
  if [ $found -ne 0 ]; then
    tail -n 30 "$dir/server.log" >&2
    halt_one KILL
    die "the server did not say '$1' within $2 s; its last lines stand above, the whole log is $dir/server.log"
  fi
}

# A dead process that nobody has reaped still has its pid (in a container whose first process reaps no orphans it keeps
# it for ever): what tells that it has ended is that it holds no memory any more, so its command line is empty.
ended() { # SECONDS
  local deadline=$((SECONDS + $1))
  while [ -n "$(tr -d '\0' 2>/dev/null <"/proc/$pid/cmdline")" ]; do
    [ $SECONDS -lt $deadline ] || return 1
    read -r -t 0.05 <> <(:) || true
  done
}

# Ends what runs in $dir; a script that runs more than one server has a halt of its own.
halt() { halt_one "$1"; } # SIGNAL

# Ends one server and waits for its end, also where it is not our child.
halt_one() { # SIGNAL
  alive "$dir" || { rm -f "$dir/pid"; return 0; }
  kill "-$1" "$pid" 2>/dev/null || true
  if ! ended 30; then
    kill -KILL "$pid" 2>/dev/null || true
    ended 30 || die "process $pid does not end even after SIGKILL"
  fi
  rm -f "$dir/pid"
}

# The scripts call this last: `prepare`, `download`, `launch_server` and `ready_line` are theirs.
serve() { # ARGS…
  local command=${1:-}
  shift || true
  dir=
  scratch=
  while [ $# -gt 0 ]; do
    case $1 in
      --dir) dir=${2:?--dir needs a directory}; shift 2 ;;
      *) die "unknown argument '$1'; usage: $0 prepare | start|run|stop|kill --dir DIR" ;;
    esac
  done
  case $command in
    prepare) prepare; return ;;
    download) download; return ;;
    run) if [ -z "$dir" ]; then scratch=$(mktemp -d); dir=$scratch; fi ;;
    start | stop | kill) [ -n "$dir" ] || die "'$command' needs --dir DIR" ;;
    *) die "usage: $0 prepare | start|run|stop|kill --dir DIR" ;;
  esac
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  case $command in
    stop) halt TERM; return ;;
    kill) halt KILL; return ;;
  esac
  prepare
  [ "$command" != run ] || trap 'halt TERM; [ -z "$scratch" ] || rm -rf "$scratch"' EXIT
  if ! alive "$dir"; then launch_server; fi
  ready_line
  [ "$command" != run ] || cat >/dev/null
}
