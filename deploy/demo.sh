#!/bin/sh
# A throw-away PostgreSQL, a throw-away Apache Kafka, a worker, and a command for every outcome that can be provoked.
#
#   demo.sh        runs it and leaves nothing behind but what was built and downloaded; exit status 0 if every outcome
#                  was the expected one
#   KEEP=1 demo.sh leaves it running and says how to talk to it
#   demo.sh stop   ends that
#
# DEPS=0: installs nothing. Everything lives in build/demo/, on free ports of the loopback interface.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"
build=${BUILD:-build}
state=$build/demo
result_timeout_s=20

say() { printf '\n== %s\n' "$*"; }

# --- start and stop -------------------------------------------------------------------------------------------------

# The worker's process, if it runs: its command tells it from another one that got the same number.
worker_running() {
	worker=$(cat "$state/worker.pid" 2>/dev/null) && [ -n "$worker" ] &&
		grep -qz 'campaign-worker$' "/proc/$worker/cmdline" 2>/dev/null
}

# end_process PID: SIGTERM, and SIGKILL if that takes too long. One that was forked a moment ago is still this script and
# may lose the signal on its way to another program.
end_process() {
	[ "$(readlink "/proc/$1/cwd" 2>/dev/null)" = "$root" ] || return 0 # gone, or another one that got its number
	tries=40
	while [ "$tries" -gt 0 ] && grep -qzF "$0" "/proc/$1/cmdline" 2>/dev/null; do
		sleep 0.05
		tries=$((tries - 1))
	done
	kill -TERM "$1" 2>/dev/null || return 0
	tries=300
	while kill -0 "$1" 2>/dev/null && ! grep -q '^State:[^a-z]*Z' "/proc/$1/status" 2>/dev/null; do
		[ "$tries" -gt 0 ] || { kill -KILL "$1" 2>/dev/null || :; return 0; }
		sleep 0.05
		tries=$((tries - 1))
	done
}

stop_all() {
	[ -d "$state" ] || return 0
	# What was started last may not have been noted yet: $!.
	for process in ${watcher:-} ${launched:-} ${!:-}; do end_process "$process"; done
	if worker_running; then end_process "$worker"; fi
	sh deploy/kafka.sh stop "$state/kafka" || :
	sh deploy/postgres.sh remove "$state/postgres" || :
	rm -rf "$state"
}

finish() {
	status=$?
	trap - EXIT
	trap '' INT TERM HUP # make passes them on once more
	# A server that is just starting cannot be stopped before it has said who it is.
	[ -z "${starting:-}" ] || wait "$starting" || :
	if [ "$status" -ne 0 ] && [ -s "$state/worker.log" ]; then
		echo "-- the end of the worker's log" >&2
		tail -n 15 "$state/worker.log" >&2
	fi
	if [ "$status" -eq 0 ] && [ "${KEEP:-}" = 1 ]; then
		hints
	else
		stop_all
	fi
	exit "$status"
}

# The caller's own settings are about other servers.
forget_environment() {
	for name in $(env | sed -n 's/^\(CAMPAIGN_[A-Z0-9_]*\|PG[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
}

start_servers() {
	sh deploy/kafka.sh fetch
	mkdir -p "$state"
	sh deploy/kafka.sh start "$root/$state/kafka" >"$state/kafka.out" 2>&1 &
	starting=$!
	sh deploy/postgres.sh start "$state/postgres" >/dev/null
	wait "$starting" || { cat "$state/kafka.out" >&2; exit 1; }
	starting=
	. "$state/kafka/env"
	. "$state/postgres/env"
	export CAMPAIGN_BROKERS="$BROKERS"
	echo "PostgreSQL on port $PGPORT, Apache Kafka on $BROKERS"
}

prepare() {
	say 'campaign-worker topics'
	"$build/campaign-worker" topics
	say 'campaign-worker migrate'
	psql -qX -v ON_ERROR_STOP=1 -c 'CREATE DATABASE campaigns'
	PGDATABASE=campaigns
	# The owner migrates; the worker's login has the worker's role and nothing else.
	CAMPAIGN_DATABASE="host=$PGHOST port=$PGPORT user=$PGUSER dbname=$PGDATABASE" "$build/campaign-worker" migrate
	psql -qX -v ON_ERROR_STOP=1 -f schemas/sql/seed.sql
	psql -qX -v ON_ERROR_STOP=1 -c 'CREATE ROLE demo_worker LOGIN IN ROLE campaign_worker'
	export CAMPAIGN_DATABASE="host=$PGHOST port=$PGPORT user=demo_worker dbname=$PGDATABASE"
	export CAMPAIGN_INSTANCE=demo
}

start_worker() {
	say 'campaign-worker run'
	# A session of its own: Ctrl-C is for this script, which then stops it in order.
	setsid "$build/campaign-worker" run >"$state/worker.log" 2>&1 </dev/null &
	launched=$!
	echo "$launched" >"$state/worker.pid"
	echo "its log: $state/worker.log"
	"$build/campaign-producer" watch --from beginning >"$state/results.jsonl" 2>"$state/watch.log" &
	watcher=$!
}

# --- the commands ---------------------------------------------------------------------------------------------------

digest() { printf %s "$1" | sha256sum | cut -c1-64; }

# outcome TITLE STATUS REASON TRACE KEY CAMPAIGN AUDIENCE [MORE]: one line of JSON for the producer, and what has to come
# of it for the table. KEY -: none. STATUS and REASON as in schemas/README.md; REASON -: none.
outcome() {
	printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$state/expected"
	key=
	[ "$5" = - ] || key=",\"apiKeyDigest\":\"$(digest "$5")\""
	printf '{"traceId":"%s","accountGroupId":"ag_acme","campaignId":"%s","audienceId":"%s"%s%s}\n' "$4" "$6" "$7" "$key" \
		"${8:+,$8}" >>"$state/commands.jsonl"
}

# What stands in schemas/sql/seed.sql.
write_commands() {
	spring=65a000000000000000000001
	full=demo-key-full
	three='"leadIds":["lead_01","lead_02","lead_03"]'
	outcome 'All leads of a list' 201 - demo-all "$full" $spring aud_list
	outcome 'Three leads, a new name' 201 - demo-subset "$full" $spring aud_list "$three,\"name\":\"Spring, second wave\""
	outcome 'All leads of a folder' 201 - demo-folder "$full" $spring aud_folder
	outcome 'The first command again' 201 - demo-all "$full" $spring aud_list
	outcome 'Its traceId, other fields' 409 trace_reused demo-all "$full" $spring aud_list "$three"
	outcome 'A name of blanks' 400 invalid_field demo-name "$full" $spring aud_list '"name":"   "'
	outcome 'A lead of another audience' 400 lead_not_in_audience demo-lead "$full" $spring aud_list '"leadIds":["lead_01","lead_12"]'
	outcome 'No API key' 401 key_missing demo-nokey - $spring aud_list
	outcome 'An API key nobody knows' 401 key_unknown demo-badkey no-such-key $spring aud_list
	outcome 'A revoked API key' 401 key_revoked demo-revoked demo-key-revoked $spring aud_list
	outcome 'A key without campaigns:write' 403 permission_missing demo-readonly demo-key-readonly $spring aud_list
	outcome 'A key of other account groups' 403 account_group_denied demo-nogroup demo-key-nogroup $spring aud_list
	outcome 'A campaign that is not there' 404 campaign_not_found demo-nocampaign "$full" 65a0000000000000000000ff aud_list
	outcome "Another account group's campaign" 404 campaign_not_found demo-theirs "$full" 65b000000000000000000001 aud_list
	outcome 'An audience that is not there' 404 audience_not_found demo-noaudience "$full" $spring aud_none
	outcome 'A lead in a running campaign' 409 lead_active demo-busy "$full" $spring aud_busy '"leadIds":["lead_16","lead_18"]'
	outcome 'An audience still populating' 409 audience_populating demo-populating "$full" $spring aud_populating
	outcome 'A slow key: first of two' 201 - demo-slow-1 demo-key-slow $spring aud_list
	outcome 'A slow key: second of two' 201 - demo-slow-2 demo-key-slow $spring aud_list
	outcome 'A slow key: one too many' 429 rate_limited demo-slow-3 demo-key-slow $spring aud_list
	outcome 'A deadline that has passed' 502 expired demo-expired "$full" $spring aud_list '"expiresAt":"2026-01-01T00:00:00.000Z"'
	outcome 'A draft, deleted afterwards' 201 - demo-deleted "$full" $spring aud_list
}

send() {
	"$build/campaign-producer" send "$state/commands.jsonl" >"$state/send.log" 2>&1 || { cat "$state/send.log" >&2; return 1; }
	: >"$state/commands.jsonl"
}

# Bytes that are no Avro, by Kafka's own console producer: ours writes none. The header says who awaits the answer.
send_bytes() {
	printf '%s\t%s\t%s\t%s\n' 'Bytes that do not decode' 400 undecodable demo-bytes >>"$state/expected"
	printf 'traceId:demo-bytes\tag_acme\tno Avro at all\n' |
		java -XX:TieredStopAtLevel=1 -Xmx64m -cp "$(sh deploy/kafka.sh libs)/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
			kafka.tools.ConsoleProducer --bootstrap-server "$BROKERS" --topic campaigns.duplicate.commands.v1 \
			--property parse.key=true --property parse.headers=true >"$state/bytes.log" 2>&1 ||
		{ cat "$state/bytes.log" >&2; return 1; }
}

await_results() {
	wanted=$(wc -l <"$state/expected")
	tries=$((result_timeout_s * 20))
	while [ "$(wc -l <"$state/results.jsonl")" -lt "$wanted" ]; do
		tries=$((tries - 1))
		if [ "$tries" -eq 0 ] || ! worker_running || ! kill -0 "$watcher" 2>/dev/null; then
			echo "$(wc -l <"$state/results.jsonl") of $wanted results came" >&2
			cat "$state/watch.log" >&2
			return
		fi
		sleep 0.05
	done
}

publish() {
	say 'campaign-producer send'
	: >"$state/expected"
	: >"$state/commands.jsonl"
	write_commands
	send
	send_bytes
	await_results
	psql -qX -v ON_ERROR_STOP=1 -c "UPDATE campaigns SET deleted_at = now() WHERE trace_id = 'demo-deleted'"
	outcome 'That command again' 409 draft_deleted demo-deleted "$full" $spring aud_list
	send
	await_results
	echo "$wanted commands sent"
}

# --- the table ------------------------------------------------------------------------------------------------------

# Commands of one traceId are matched with their results in the order they stand in the topic. As delimiter and quote two
# characters that JSON text cannot hold: each line of JSON is one column.
compare() {
	(cd "$state" && psql -qX -v ON_ERROR_STOP=1 -d postgres) <<-'EOT'
	CREATE TABLE sent (n int GENERATED ALWAYS AS IDENTITY, title text, status int, reason text, trace text);
	CREATE TABLE line (watched jsonb);
	\copy sent (title, status, reason, trace) FROM 'expected'
	\copy line FROM 'results.jsonl' WITH (FORMAT csv, QUOTE e'\x01', DELIMITER e'\x02')
	CREATE VIEW got AS
	SELECT j, j->>'traceId' AS trace, j->'data' AS data, (j->>'httpStatus')::int AS status, coalesce(j->>'reason', '-') AS reason,
		row_number() OVER (PARTITION BY j->>'traceId' ORDER BY (j->'command'->>'offset')::bigint) AS nth
	FROM line, LATERAL (SELECT watched->'result' AS j) r;
	CREATE VIEW compared AS
	SELECT n, title, (got.status, got.reason) IS NOT DISTINCT FROM (s.status, s.reason) AS ok,
		CASE WHEN j IS NULL THEN 'no result'
			ELSE concat_ws(' ', got.status, j#>>'{error,code}', nullif(got.reason, '-')) END AS result,
		CASE WHEN got.status = 201 THEN format('%s "%s", %s leads%s', data->>'id', data->>'name', data->>'selectedLeadCount',
				CASE WHEN (j->>'draftExisted')::bool THEN ' (it existed)' ELSE '' END)
			ELSE j#>>'{error,details}' END AS said,
		concat_ws(' ', s.status, nullif(s.reason, '-')) AS wanted
	FROM (SELECT *, row_number() OVER (PARTITION BY trace ORDER BY n) AS nth FROM sent) s
	LEFT JOIN got USING (trace, nth);
	EOT
}

# What was sent, and beside it what came of it. The last column is broken between words.
print_table() {
	width=$( (stty size </dev/tty | cut -d ' ' -f 2) 2>/dev/null) || width=
	psql -qXAt -F "$(printf '\t')" -d postgres -c "SELECT n, title, result, said, CASE WHEN ok THEN '' ELSE wanted END
		FROM compared ORDER BY n" | awk -F '\t' -v width="${width:-140}" '
	function row(n, title, result, text) { printf "%3s  %-32s  %-42s  %s\n", n, title, result, text }
	BEGIN {
		room = width - 83 > 40 ? width - 83 : 40
		row("#", "command", "result", "draft, or details")
		row("--", "-------------------------------", "-----------------------------------------", "-----------------")
	}
	{
		rest = $4
		if ($5 != "") rest = "UNEXPECTED (wanted " $5 ") " rest
		n = $1; title = $2; result = $3
		while (length(rest) > room) {
			cut = room
			while (cut > 1 && substr(rest, cut, 1) != " ") cut--
			if (cut == 1) cut = room
			row(n, title, result, substr(rest, 1, cut - (substr(rest, cut, 1) == " ")))
			rest = substr(rest, cut + 1)
			n = title = result = ""
		}
		row(n, title, result, rest)
	}'
}

# Against what the database holds as well: a draft for each 201, and no other.
verdict() {
	unexpected=$(psql -qXAt -d postgres -c 'SELECT count(*) FROM compared WHERE NOT ok')
	drafts=$(psql -qXAt -c 'SELECT count(*) FROM campaigns WHERE trace_id IS NOT NULL')
	wanted=$(psql -qXAt -d postgres -c "SELECT count(DISTINCT trace) FROM sent WHERE status = 201")
	echo
	if [ "$unexpected" -ne 0 ] || [ "$drafts" -ne "$wanted" ]; then
		echo "demo: $unexpected unexpected results; $drafts drafts in the database, $wanted wanted" >&2
		return 1
	fi
	echo "Every outcome was the expected one. Drafts in the database: $drafts."
}

hints() {
	kill "$watcher" 2>/dev/null || :
	cat >"$state/env" <<-EOT
	export PGHOST='$PGHOST' PGPORT='$PGPORT' PGUSER='$PGUSER' PGDATABASE='$PGDATABASE'
	export CAMPAIGN_BROKERS='$CAMPAIGN_BROKERS' CAMPAIGN_API_KEY='demo-key-full'
	EOT
	cat <<-EOT

	It is still running. In a shell:
	  . $state/env
	  $build/campaign-producer watch --from beginning
	  echo '{"accountGroupId":"ag_acme","campaignId":"$spring","audienceId":"aud_list"}' | $build/campaign-producer send --wait -
	  kcat -b \$CAMPAIGN_BROKERS -C -t campaigns.duplicate.dead-letters.v1 -e -f '%k %h\n'
	  psql -c 'SELECT id, name, selected_lead_count, trace_id FROM campaigns'
	  tail -f $state/worker.log
	The keys and ids there are: schemas/sql/seed.sql. It ends with:
	  make demo-stop
	EOT
}

case ${1:-} in
'') ;;
stop)
	stop_all
	exit
	;;
*)
	sed -n '4,7s/^# *//p' "$0" >&2
	exit 2
	;;
esac

sh deploy/deps.sh build run
make -s all
forget_environment
stop_all # an earlier one that was kept
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
say 'a throw-away PostgreSQL and Apache Kafka'
start_servers
prepare
start_worker
publish
compare
say 'what was sent, and what came of it'
print_table
verdict
