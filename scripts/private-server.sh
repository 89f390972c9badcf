# shellcheck shell=bash
# For scripts that start a server of their own and run a command with it. To be sourced.

# PostgreSQL and PgBouncer refuse to run as root. Who they are then; empty for the caller itself.
server_user=
if [[ $(id -u) == 0 ]]; then
  if id -u postgres >/dev/null 2>&1; then server_user=postgres; else server_user=nobody; fi
fi

# Becomes the command, as that user. In / because the other user may not be able to read the current directory.
exec_as_server_user() {
  cd /
  if [[ -n $server_user ]]; then
    export HOME=/
    exec setpriv --reuid="$server_user" --regid="$(id -g "$server_user")" --clear-groups -- "$@"
  fi
  exec "$@"
}
as_server_user() { (exec_as_server_user "$@"); }

# Sets directory to a new private one that this user can reach, with a path short enough for sockets (sun_path).
make_server_directory() {  # NAME
  local base
  directory=
  for base in "${TMPDIR:-/tmp}" /tmp; do
    [[ -z $directory ]] || rm -rf "$directory"
    directory=$(mktemp -d "$base/$1.XXXXXX")
    directory=$(cd "$directory" && pwd -P)
    [[ -z $server_user ]] || chown "$server_user" "$directory"
    if ((${#directory} <= 80)) && as_server_user test -w "$directory"; then break; fi
  done
}

child=
signalled=
# shellcheck disable=SC2317,SC2329 # reached through the traps
on_signal() {
  signalled=$1
  # Ctrl-C in a terminal reaches the command without our help; sending it twice could look like a second, impatient Ctrl-C.
  if [[ -n $child && ! ($1 == INT && -t 0) ]]; then kill -s "$1" "$child" 2>/dev/null || true; fi
  # Before the command runs there is nothing to wait for.
  [[ -n $child ]] || exit $((128 + $(kill -l "$1")))
}
# Calls a function at the script's end, whatever ends it.
clean_up_by() {  # FUNCTION
  # shellcheck disable=SC2064 # now
  trap "trap '' INT TERM HUP; $1" EXIT
  trap 'on_signal INT' INT
  trap 'on_signal TERM' TERM
  trap 'on_signal HUP' HUP
}

# Runs the command, passes signals on to it, and exits as it did. In the background, because a signal for this script
# would otherwise be looked at only once the command has ended. Bash lets background commands ignore SIGINT and read
# nothing; the subshell and the redirection undo both.
run_and_exit() {
  local status
  (
    trap - INT QUIT TERM HUP EXIT
    exec "$@"
  ) <&0 &
  child=$!
  while :; do
    signalled=
    status=0
    wait "$child" || status=$?
    # wait also returns when a trap ran; then the command is still on its way out.
    if [[ -z $signalled ]] || ! kill -0 "$child" 2>/dev/null; then break; fi
  done
  exit "$status"
}
