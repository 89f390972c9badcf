# shellcheck shell=bash
# The variables of the scripts that name something. To be sourced.

# Makes the paths in PGQUE_SQL and PGQUE_PG_BIN absolute, because they were written as seen from the caller's directory, and
# checks all variables. Ends the script if one of them names something that is not there: with a default in its place,
# something else would be tested than what the caller believes.
resolve_environment() {
  local program
  if [[ -n ${PGQUE_SQL+set} ]]; then
    [[ -f $PGQUE_SQL && -r $PGQUE_SQL ]] || refuse_variable PGQUE_SQL 'there is no file that can be read'
    PGQUE_SQL=$(realpath -e -- "$PGQUE_SQL")
    export PGQUE_SQL
  fi
  if [[ -n ${PGQUE_PG_BIN+set} ]]; then
    [[ -d $PGQUE_PG_BIN ]] || refuse_variable PGQUE_PG_BIN 'there is no directory'
    for program in initdb pg_ctl postgres; do
      [[ -x $PGQUE_PG_BIN/$program ]] || refuse_variable PGQUE_PG_BIN "there is no program $program in the directory"
    done
    PGQUE_PG_BIN=$(realpath -e -- "$PGQUE_PG_BIN")
    export PGQUE_PG_BIN
  fi
  if [[ -n ${PGQUE_PGBOUNCER+set} ]]; then
    command -v "$PGQUE_PGBOUNCER" >/dev/null || refuse_variable PGQUE_PGBOUNCER 'there is no program'
    # Not the link's target, whose name may mean another program.
    PGQUE_PGBOUNCER=$(realpath -es -- "$(command -v "$PGQUE_PGBOUNCER")")
    export PGQUE_PGBOUNCER
  fi
  case ${PGQUE_NIGHTLY-0} in 0 | 1) ;; *) refuse_variable PGQUE_NIGHTLY 'it is 0 or 1, and not' ;; esac
}

refuse_variable() {  # NAME REASON
  local hint=
  [[ -n ${!1} ]] || hint=', because the variable is empty; unset it for the default'
  printf '%s: %s: %s "%s"%s\n' "$(basename "$0")" "$1" "$2" "${!1}" "$hint" >&2
  exit 1
}
