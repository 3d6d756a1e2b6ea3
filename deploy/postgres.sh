#!/bin/sh
# A throw-away PostgreSQL cluster in a folder, for the demo and the tests. It disturbs no other cluster: its own data,
# its own port, its own socket folder. Every guarantee that the worker needs stays on (fsync, full_page_writes).
#
#   postgres.sh start DIR               creates the cluster if there is none, starts it, writes DIR/env and prints it
#   postgres.sh stop DIR [immediate]    stops it; the data stay
#   postgres.sh restart DIR [immediate] stops and starts it again on the same port
#   postgres.sh remove DIR              stops it and removes the data, the socket folder and DIR/env
#
# PORT: the TCP port; a free one is chosen where it is unset. As root the server runs as user postgres (or nobody).
# DIR/env is read by `. DIR/env`: PGHOST (socket folder), PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGDATA, and two
# conninfos: DATABASE (by the socket) and DATABASE_TCP (127.0.0.1, SCRAM password). By the socket everybody who can open
# its folder is trusted: that is whoever started it, and root.
set -eu
umask 077

die() {
	echo "postgres.sh: $*" >&2
	exit 1
}

# The newest of Debian's installed versions, or what PATH has; at least 15.
find_binaries() {
	bin=
	best=0
	for folder in /usr/lib/postgresql/*/bin; do
		version=$(basename "$(dirname "$folder")")
		case $version in *[!0-9]* | '') continue ;; esac
		if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && [ "$version" -ge 15 ] && [ "$version" -gt "$best" ]; then
			best=$version
			bin=$folder
		fi
	done
	if [ -z "$bin" ] && command -v pg_ctl >/dev/null && command -v initdb >/dev/null; then
		bin=$(dirname "$(command -v pg_ctl)")
		best=$("$bin/pg_ctl" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
		[ "$best" -ge 15 ] || die "PostgreSQL 15 or newer is needed, PATH has $best"
	fi
	[ -n "$bin" ] || die "no PostgreSQL server found (on Debian: apt-get install postgresql)"
}

# PostgreSQL refuses to run as root.
find_user() {
	user=
	[ "$(id -u)" = 0 ] || return 0
	for user in postgres nobody; do
		id -u "$user" >/dev/null 2>&1 && return 0
	done
	die "root may not run PostgreSQL, and there is neither a user postgres nor a user nobody"
}

as_user() {
	if [ -z "$user" ]; then
		(cd / && "$@")
	elif command -v runuser >/dev/null; then
		(cd / && runuser -u "$user" -- "$@")
	else
		(cd / && su -s /bin/sh "$user" -c '"$0" "$@"' -- "$@")
	fi
}

give() { # folder: to the user that runs the server
	[ -z "$user" ] || chown "$user" "$1"
}

running() {
	[ -n "$PGDATA" ] && [ -e "$PGDATA/PG_VERSION" ] && as_user "$bin/pg_ctl" -D "$PGDATA" status >/dev/null 2>&1
}

random_hex() { # bytes
	od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

create_cluster() {
	mkdir "$dir/data"
	give "$dir/data"
	PGDATA=$dir/data
	# A folder below somebody's closed home cannot be reached by another user: the data then live in the temporary folder.
	if ! as_user test -w "$dir/data"; then
		rmdir -- "$dir/data"
		PGDATA=$(mktemp -d /tmp/campaign-pgdata.XXXXXX)
		give "$PGDATA"
	fi
	PGPASSWORD=$(random_hex 16)
	secret=$(mktemp /tmp/campaign-pgpass.XXXXXX)
	printf '%s\n' "$PGPASSWORD" >"$secret"
	give "$secret"
	if ! output=$(as_user "$bin/initdb" -D "$PGDATA" -U postgres -E UTF8 --locale=C --auth-local=trust \
		--auth-host=scram-sha-256 --pwfile="$secret" 2>&1); then
		rm -f "$secret"
		die "initdb failed: $output"
	fi
	rm -f "$secret"
	echo "include 'throwaway.conf'" >>"$PGDATA/postgresql.conf"
	PGHOST=
	PGPORT=
}

configure() { # port
	if [ -z "$PGHOST" ] || [ ! -d "$PGHOST" ]; then
		PGHOST=$(mktemp -d /tmp/campaign-pg.XXXXXX) # short: a socket's path has at most 107 bytes
	fi
	give "$PGHOST"
	cat >"$PGDATA/throwaway.conf" <<-END
		port = $1
		listen_addresses = '127.0.0.1'
		unix_socket_directories = '$PGHOST'
		log_min_messages = warning
		max_connections = 100
		max_prepared_transactions = 2
	END
	give "$PGDATA/throwaway.conf"
	write_env # also before a start that fails: remove must know what there is
}

try_start() {
	as_user "$bin/pg_ctl" -D "$PGDATA" -l "$PGDATA/server.log" -w -t 300 start >/dev/null 2>&1
}

port_taken() {
	tail -n 5 "$PGDATA/server.log" | grep -q 'could not create any TCP/IP sockets'
}

start_server() {
	if [ -n "${PORT:-$PGPORT}" ]; then
		PGPORT=${PORT:-$PGPORT}
		configure "$PGPORT"
		try_start && return 0
		[ -z "${PORT-}" ] && [ "$command" = start ] && port_taken || fail_start
	fi
	tries=0
	while [ $tries -lt 20 ]; do
		tries=$((tries + 1))
		PGPORT=$((20000 + 0x$(random_hex 2) % 12000)) # below the ports that the kernel hands out
		configure "$PGPORT"
		try_start && return 0
		port_taken || break
	done
	fail_start
}

fail_start() {
	tail -n 20 "$PGDATA/server.log" >&2 || true
	die "PostgreSQL did not start on port $PGPORT"
}

quote() {
	printf "'"
	printf '%s' "$1" | sed "s/'/'\\\\''/g"
	printf "'\n"
}

write_env() {
	{
		for name in PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGDATA; do
			eval "value=\$$name"
			printf 'export %s=' "$name"
			quote "$value"
		done
		echo "DATABASE='host=$PGHOST port=$PGPORT user=postgres dbname=postgres'"
		echo "DATABASE_TCP='postgresql://postgres:$PGPASSWORD@127.0.0.1:$PGPORT/postgres'"
	} >"$dir/env.new"
	mv "$dir/env.new" "$dir/env"
}

start() {
	[ -n "$PGDATA" ] && [ -e "$PGDATA/PG_VERSION" ] || create_cluster
	running || start_server
	cat "$dir/env"
}

stop() { # mode
	running || return 0
	as_user "$bin/pg_ctl" -D "$PGDATA" -m "$1" -w -t 30 stop >/dev/null 2>&1 ||
		as_user "$bin/pg_ctl" -D "$PGDATA" -m immediate -w -t 30 stop >/dev/null ||
		die "PostgreSQL in $PGDATA did not stop"
}

remove() {
	stop immediate
	[ -z "$PGDATA" ] || rm -rf -- "$PGDATA"
	[ -z "$PGHOST" ] || rm -rf -- "$PGHOST"
	rm -f -- "$dir/env"
}

usage() {
	sed -n '5,8s/^# *//p' "$0" >&2
	exit 2
}

command=${1-}
[ $# -ge 2 ] && [ $# -le 3 ] && [ -n "$2" ] || usage
mode=${3:-fast}
case $mode in fast | immediate) ;; *) usage ;; esac
if [ "$command" = start ]; then
	(umask 022 && mkdir -p -- "$2")
elif [ ! -d "$2" ]; then
	[ "$command" = restart ] && die "there is no folder $2"
	exit 0
fi
dir=$(cd -- "$2" && pwd -P)
# Only DIR/env says what is ours: the caller's own PG* variables mean another server.
unset PGHOST PGPORT PGPASSWORD PGDATA PGSERVICE PGOPTIONS PGHOSTADDR PGPASSFILE
PGHOST='' PGPORT='' PGPASSWORD='' PGDATA=''
[ ! -f "$dir/env" ] || . "$dir/env"
PGUSER=postgres PGDATABASE=postgres
find_binaries
find_user
case $command in
start) start ;;
stop) stop "$mode" ;;
restart) stop "$mode" && start >/dev/null ;;
remove) remove ;;
*) usage ;;
esac
