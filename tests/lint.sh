#!/bin/sh
# Rules of the house that a compiler does not check. Speaks TAP; wants build/campaign-worker (release).
set -u

cd "$(dirname "$0")/.." || exit 1
worker=${1:-build/campaign-worker}
count=0

# verdict NAME FINDINGS: ok if there are none.
verdict() {
	count=$((count + 1))
	if [ -z "$2" ]; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		echo "$2" | sed 's/^/# /'
	fi
}

sources() { find worker schemas producer -name '*.[ch]' | sort; }

# --- who includes what ----------------------------------------------------------------------------------------------

# Downward only: a line is a layer and the modules in it, below come those they may build on. Modules joined by + are one
# and may include each other; others of one layer may not.
layers='
10 worker/base/fault worker/base/utf8 worker/base/clock worker/base/arena worker/base/must worker/base/offsets worker/base/waiter worker/base/distance
11 worker/base/log worker/base/failpoint worker/base/properties
12 worker/base/statistics worker/base/settings worker/base/kafka_log
13 worker/base/config worker/base/config_text
19 schemas/types
20 schemas/command
21 schemas/record
22 schemas/codec+schemas/guard+schemas/fingerprint schemas/json
30 worker/sql/sql
31 worker/start worker/breaker worker/sizing worker/wait worker/kafka/kafka worker/kafka/inflight worker/kafka/queue worker/kafka/group
32 worker/kafka/positions
33 worker/kafka/consumer worker/kafka/publisher worker/kafka/topics worker/kafka/inspection
32 worker/db/store+worker/db/pg+worker/db/migrate
40 worker/assignment worker/batch worker/executor
41 worker/takeover
42 worker/lane
50 worker/check worker/resume worker/run
60 worker/main
30 producer/campaign
31 producer/error producer/options producer/pending
32 producer/connection producer/texts
33 producer/publishing producer/subscription
34 producer/client
40 producer/tool producer/input
50 producer/send producer/watch producer/apikey
60 producer/main
'

includes_upward() {
	sources | xargs grep -n '^#include "' | awk -v layers="$layers" '
	BEGIN {
		lines = split(layers, line, "\n")
		for (i = 1; i <= lines; i++) {
			modules = split(line[i], module, " ")
			for (j = 2; j <= modules; j++) {
				files = split(module[j], file, "+")
				for (k = 1; k <= files; k++) { layer[file[k]] = module[1]; family[file[k]] = module[j] }
			}
		}
	}
	{
		split($0, part, ":")
		from = part[1]
		to = $0
		sub(/^[^"]*"/, "", to)
		sub(/".*/, "", to)
		a = from; b = to
		sub(/\.[ch]$/, "", a)
		sub(/\.[ch]$/, "", b)
		if (!(a in layer)) print from ": not in the layers of tests/lint.sh"
		else if (!(b in layer)) print to ": not in the layers of tests/lint.sh (included by " from ")"
		else if (family[a] != family[b] && layer[b] >= layer[a]) print from " includes " to ", which is not below it"
	}' | sort -u
}

# Each library is known to as few files as can be, and to no header of ours.
includes_of() { # PATTERN ALLOWED-FILE...
	pattern=$1
	shift
	for file in $(sources | xargs grep -lE "^#include <($pattern)>"); do
		case " $* " in *" $file "*) ;; *) echo "$file" ;; esac
	done
}

verdict 'modules build on lower ones only' "$(includes_upward)"
verdict 'librdkafka is included by worker/kafka and the producer'"'"'s client' "$(includes_of 'librdkafka/.*' worker/kafka/*.c \
	producer/connection.c producer/publishing.c producer/subscription.c)"
verdict 'libpq is included by pg.c' "$(includes_of 'libpq-fe\.h|postgresql/.*' worker/db/pg.c)"
verdict 'avro-c is included by the codec' "$(includes_of 'avro\.h|avro/.*' schemas/codec.c schemas/guard.c schemas/fingerprint.c)"
verdict 'jansson is included by the schemas' "$(includes_of 'jansson\.h' schemas/json.c schemas/fingerprint.c)"
verdict 'libcrypto is included by those who hash' "$(includes_of 'openssl/.*' schemas/command.c worker/kafka/publisher.c producer/texts.c)"
# libcampaign stands on the schemas and worker/base, its tool on its header and worker/base.
library='campaign client connection error options pending publishing subscription texts'
producer_includes() {
	sources | grep '^producer/' | xargs grep -n '^#include "' | awk -v library="$library" '
	BEGIN { n = split(library, name, " "); for (i = 1; i <= n; i++) ours[name[i]] = 1 }
	{
		from = to = $0
		sub(/^producer\//, "", from)
		sub(/\.[ch]:.*/, "", from)
		sub(/^[^"]*"/, "", to)
		sub(/".*/, "", to)
		below = to ~ /^worker\/base\//
		if (from in ours ? below || to ~ /^(producer|schemas)\// : below || to ~ /^producer\/(campaign|tool|input)\.h$/) next
		print "producer/" from " includes " to
	}'
}
verdict 'the library includes no more than schemas and worker/base, its tool no more than its header and worker/base' "$(producer_includes)"
verdict 'headers include no library' "$(sources | grep '\.h$' |
	xargs grep -nE '^#include <(librdkafka/|libpq|avro|jansson|openssl/|cmocka)')"
verdict 'only main.c and run.c exit' "$(sources | grep -v -e '/main\.c$' -e '/run\.c$' -e '/failpoint\.c$' | xargs grep -nwE '^[^*/]*(exit|_exit) ?\(')"

# --- texts ----------------------------------------------------------------------------------------------------------

ours() { find .ci Makefile README.md worker schemas producer tests deploy -type f ! -name package-lock.json 2>/dev/null | sort; }

verdict 'nothing is left to do' "$(ours | xargs grep -nwE 'TO''DO|FIX''ME|X''XX|HA''CK')"
verdict 'no blanks at the ends of lines' "$(ours | grep -v '\.md$' | xargs grep -nE '[[:blank:]]+$')"
verdict 'shell scripts parse' "$(for script in $(ours | grep '\.sh$'); do sh -n "$script" 2>&1; done)"
verdict 'functions of at most 80 lines' "$(sources | grep '\.c$' | xargs awk '
	/^[{]$/ { start = FNR }
	/^[}]$/ && start { if (FNR - start > 81) print FILENAME ":" start ": " FNR - start - 1 " lines"; start = 0 }')"

# --- documents ------------------------------------------------------------------------------------------------------

undocumented_settings() {
	[ -f README.md ] || { echo 'there is no README.md'; return; }
	"$worker" settings | while read -r line; do grep -qxF -- "$line" README.md || echo "not in README.md: $line"; done
}
undocumented_reasons() {
	[ -f README.md ] || { echo 'there is no README.md'; return; }
	for word in $(sed -n 's/^\t\[REASON_[A-Z_]*\] = { "\([a-z_]*\)".*/\1/p' schemas/command.c); do
		grep -q "$word" README.md || echo "$word"
	done
}

verdict "README.md has the table of settings (campaign-worker settings)" "$(undocumented_settings 2>&1)"
verdict 'README.md has every reason' "$(undocumented_reasons 2>&1)"
verdict 'the example of a configuration is current (campaign-worker settings --example)' \
	"$("$worker" settings --example 2>&1 | diff - deploy/campaign-worker.conf.example 2>&1)"
verdict 'a release holds no failpoint' "$(nm "$worker" 2>&1 | grep -w -e failpoint -e 'nm:.*';
	grep -acF CAMPAIGN_FAILPOINT_FILE "$worker" | grep -v '^0$')"

# --- what is linked -------------------------------------------------------------------------------------------------

build=$(dirname "$worker")

defined() { nm -g --defined-only "$@" 2>/dev/null | awk 'NF == 3 && $2 ~ /[TDBRV]/ { print $3 }' | sort -u; } # global names
modules() { sources | grep '\.c$' | grep -v '/main\.c$' | grep "$@"; } # source files, but for the programs' own
objects() { modules "$@" | sed "s|^\(.*\)\.c$|$build/obj/\1.o|"; }

# Any symbol counts, the local ones too: a linked worker function may have become one.
worker_symbols_in() {
	defined $(objects '^worker/[^b]') $(objects '^worker/b[^/]*$') "$build/obj/gen/sql.o" "$build/obj/gen/migrations.o" >"$scratch/worker"
	[ -s "$scratch/worker" ] || echo "no objects of the worker in $build"
	for file; do
		nm --defined-only "$file" | awk '{ print $3 }' | sort -u | comm -12 "$scratch/worker" - | sed "s|^|$file holds |"
		readelf -d "$file" | grep 'NEEDED.*libpq' | sed "s|^|$file: |"
	done
}

# What the header declares is what both libraries export, no more and no less.
exported_otherwise() {
	sed -n 's/^CAMPAIGN_API .*[ *]\(campaign_[a-z_]*\)(.*/\1/p' producer/campaign.h | sort >"$scratch/declared"
	nm -D --defined-only "$build"/lib/libcampaign.so.? | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort |
		diff "$scratch/declared" - | sed -n 's/^[<>]/shared:&/p'
	defined "$build/lib/libcampaign.a" | diff "$scratch/declared" - | sed -n 's/^[<>]/static:&/p'
}

# A function of the product is called by another of its files, or its own file calls it as well (then it is not static because
# a test calls it), or it is libcampaign's. The exceptions are to be removed by whoever owns them.
for_tests_alone='
codec_add_schema_id (schemas/codec.c)
result_from_json (schemas/json.c)
fault_kind_name (worker/base/fault.c)
log_dropped (worker/base/log.c)
log_set_clock (worker/base/log.c)
log_set_fd (worker/base/log.c)
pg_flush (worker/db/pg.c)
store_execute (worker/db/store.c)
'
called_by_tests_alone() {
	{ objects .; echo "$build/obj/worker/main.o $build/obj/producer/main.o"; } | xargs nm -g --undefined-only |
		awk 'NF == 2 { print $2 }' | sort -u >"$scratch/called"
	sed -n 's/^CAMPAIGN_API .*[ *]\(campaign_[a-z_]*\)(.*/\1/p' producer/campaign.h >"$scratch/exported"
	for source in $(modules .); do
		for name in $(nm -g --defined-only "$build/obj/${source%.c}.o" | awk '$2 == "T" { print $3 }' | sort |
			comm -23 - "$scratch/called" | grep -vxF -f "$scratch/exported"); do
			[ "$(grep -v '^ *[/*]' "$source" | grep -cw "$name")" -gt 1 ] || echo "$name ($source)"
		done
	done | grep -vxF -e "$for_tests_alone"
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
verdict 'campaign-producer and libcampaign hold nothing of the worker and need no libpq' \
	"$(worker_symbols_in "$build/campaign-producer" "$build"/lib/libcampaign.so.? "$build/lib/libcampaign.a" 2>&1)"
verdict 'libcampaign exports what its header declares' "$(exported_otherwise 2>&1)"
verdict 'no function of the product is called by tests alone' "$(called_by_tests_alone 2>&1)"

echo "1..$count"
