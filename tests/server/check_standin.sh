#!/usr/bin/env bash
# Compares the stand-in with a real PgQue: runs the calls of check_standin.sql against each, in a throwaway server of its own, and
# shows where the answers differ, apart from times, durations and other values that cannot be equal.
#
#   PGQUE_SQL=path/to/pgque.sql tests/server/check_standin.sh
#
# Exit status: 0 no difference, 1 differences (a diff: - real, + stand-in), 2 no PGQUE_SQL, or no answers.
set -euo pipefail

if [[ -z ${PGQUE_SQL-} ]]; then
  printf '%s: set PGQUE_SQL to the pgque.sql of the PgQue to compare with\n' "$(basename "$0")" >&2
  exit 2
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
with_postgres=$here/../../scripts/with-postgres
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PGQUE_TEST_DSN

# The transcript of one installation, masked. The password stays out of the argument list, which everybody can read.
transcript() {
  # shellcheck disable=SC2016 # for the inner shell
  PGQUE_SQL=$1 "$with_postgres" bash -c '
    export PGPASSWORD=${PGQUE_TEST_DSN#*://*:}
    PGPASSWORD=${PGPASSWORD%%@*}
    psql=$PGQUE_TEST_PGBIN/psql
    [[ -x $psql ]] || psql=psql
    exec "$psql" -X -q -d "${PGQUE_TEST_DSN/:$PGPASSWORD@/@}"' <"$here/check_standin.sql" 2>&1 |
    sed -E \
      -e '/^LOCATION:/d' \
      -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+[+-][0-9]+/<time>/g' \
      -e 's/(with PID )[0-9]+/\1<pid>/' \
      -e 's/-?[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]+/<duration>/g' \
      -e 's/(cur txid=)[0-9]+/\1<id>/' \
      -e 's/\b[0-9]{3,}:[0-9]{3,}:[0-9,]*/<snapshot>/'
}

transcript "$PGQUE_SQL" >"$work/real" || { tail -n 20 "$work/real" >&2; exit 2; }
transcript "$here/pgque_standin.sql" >"$work/standin" || { tail -n 20 "$work/standin" >&2; exit 2; }
if diff -U 6 --label real --label stand-in "$work/real" "$work/standin"; then
  printf 'No differences in %s lines.\n' "$(wc -l <"$work/real")"
else
  exit 1
fi
