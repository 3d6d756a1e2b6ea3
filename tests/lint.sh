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

# Downward only: a line is a layer and its modules, which may include those of the lines with a smaller number.
layers='
9 worker/base/must
10 worker/base/identity worker/base/fault worker/base/utf8 worker/base/clock worker/base/arena worker/base/offsets worker/base/waiter worker/base/distance worker/base/streams
11 worker/base/log worker/base/failpoint worker/base/properties worker/base/findings
12 worker/base/statistics worker/base/settings worker/base/kafka_log
13 worker/base/arguments worker/base/config_text
14 worker/base/config
20 schemas/types schemas/reason schemas/murmur2 schemas/framing schemas/fingerprint schemas/guard schemas/logical_type
21 schemas/field schemas/id schemas/record
22 schemas/contract schemas/details schemas/digest schemas/headers
23 schemas/command schemas/result schemas/writer_schema schemas/dead_letter
24 schemas/duplicate schemas/decode schemas/encode schemas/json
25 schemas/codec
30 worker/sql/sql worker/kafka/mark
31 worker/operation worker/start worker/breaker worker/setbacks worker/sizing worker/wait worker/control worker/suspect worker/standstill worker/kafka/kafka worker/kafka/inflight worker/kafka/queue worker/kafka/group worker/parking worker/copies worker/kafka/message worker/kafka/limits
32 worker/duplicate worker/kafka/positions worker/kafka/refusals
33 worker/kafka/consumer worker/kafka/publisher worker/kafka/topics worker/kafka/inspection
31 worker/db/params worker/db/rows worker/db/diagnosis worker/db/identifier
32 worker/db/connection worker/db/binding
33 worker/db/guarantees worker/db/pooler
34 worker/db/session worker/db/migrate
35 worker/db/ownership worker/db/rights worker/db/blockers
36 worker/db/execution
40 worker/assignment worker/batch worker/executor
41 worker/ends worker/view worker/lockwait
42 worker/takeover
43 worker/lane
49 worker/check_group worker/check_stable
50 worker/check worker/resume worker/run
60 worker/main
30 producer/campaign
31 producer/error producer/options producer/pending producer/growth
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
			for (j = 2; j <= modules; j++) layer[module[j]] = module[1]
		}
	}
	{
		from = to = $0
		sub(/\.[ch]:.*/, "", from)
		sub(/^[^"]*"/, "", to)
		sub(/\.[ch]".*/, "", to)
		if (!(from in layer)) print from ": not in the layers of tests/lint.sh"
		else if (!(to in layer)) print to ": not in the layers of tests/lint.sh (included by " from ")"
		else if (from != to && layer[to] >= layer[from]) print from " includes " to ", which is not below it"
	}' | sort -u
}

# Rooms that stand side by side do not know each other: a room, and what it may include nothing of.
rooms='
schemas/ worker/([^b]|b[^a]|base[^/])|producer/
worker/base/ worker/([^b]|b[^a]|base[^/])|producer/|schemas/
worker/kafka/ worker/(db|sql)/|worker/[a-z_]*\.h
worker/db/ worker/kafka/|worker/[a-z_]*\.h
worker/(wait|operation|duplicate|start|standstill|breaker|setbacks|parking|sizing)\. worker/(kafka|db)/
worker/(assignment|batch|executor)\. worker/(assignment|batch|executor|takeover|view|lane)\.h
producer/ worker/([^b]|b[^a]|base[^/])
'
strangers() {
	echo "$rooms" | grep . | while read -r room others; do
		sources | grep -E "^$room" | while read -r file; do
			own=${file%.[ch]}.h
			grep -nE "^#include \"($others)" "$file" | grep -vF "\"$own\"" | sed "s|^|$file:|"
		done
	done
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
verdict 'rooms side by side do not include each other' "$(strangers)"
verdict 'librdkafka is included by worker/kafka and the producer'"'"'s client' "$(includes_of 'librdkafka/.*' worker/kafka/*.c \
	producer/connection.c producer/publishing.c producer/subscription.c producer/growth.c)"
verdict 'libpq is included by worker/db/connection.c, diagnosis.c and rows.c' "$(includes_of 'libpq-fe\.h|postgresql/.*' worker/db/connection.c worker/db/diagnosis.c worker/db/rows.c)"
verdict 'avro-c is included by the codec' "$(includes_of 'avro\.h|avro/.*' schemas/writer_schema.c schemas/decode.c schemas/encode.c schemas/guard.c)"
verdict 'jansson is included by the schemas' "$(includes_of 'jansson\.h' schemas/json.c schemas/fingerprint.c schemas/logical_type.c)"
verdict 'libcrypto is included by those who hash' "$(includes_of 'openssl/.*' schemas/digest.c schemas/dead_letter.c producer/texts.c)"
# libcampaign stands on the schemas and worker/base, its tool on its header and worker/base.
library='campaign client connection error growth options pending publishing subscription texts'
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

ours() { find .ci Makefile README.md worker schemas producer tests deploy -type f ! -name package-lock.json ! -name '*.tar.gz' 2>/dev/null | sort; }

verdict 'nothing is left to do' "$(ours | xargs grep -nwE 'TO''DO|FIX''ME|X''XX|HA''CK')"
verdict 'no blanks at the ends of lines' "$(ours | grep -v '\.md$' | xargs grep -nE '[[:blank:]]+$')"
verdict 'shell scripts parse' "$(for script in $(ours | grep '\.sh$'); do sh -n "$script" 2>&1; done)"
function_lengths() {
	sources | grep '\.c$' | xargs awk '
	/^[{]$/ { start = FNR }
	/^[}]$/ && start { print FNR - start - 1, FILENAME ":" start; start = 0 }'
}
long_files() {
	ours | grep -E '\.(c|h|py|sh|sql|pml|java)$' | while read -r file; do
		lines=$(wc -l <"$file")
		if [ "$lines" -gt 600 ] && ! sed 30q "$file" | grep -qi 'longer than 600 lines'; then
			echo "$file: $lines lines, and its head gives no reason (longer than 600 lines: ...)"
		fi
	done
}

verdict 'functions of at most 60 lines' "$(function_lengths | awk '$1 > 60 { print $2 ": " $1 " lines" }')"
verdict 'the median function has at most 15 lines' "$(function_lengths | sort -n |
	awk '{ length_of[NR] = $1 } END { if (length_of[int((NR + 1) / 2)] > 15) print length_of[int((NR + 1) / 2)] " lines" }')"
verdict 'files of at most 600 lines, or a reason in their heads' "$(long_files)"

# --- documents ------------------------------------------------------------------------------------------------------

documents() { find . -name '*.md' ! -path './build/*' ! -path './.git/*' ! -path '*/node_modules/*' | sed 's,^\./,,' | sort; }

undocumented_settings() {
	"$worker" settings | while read -r line; do
		grep -qxF -- "$line" deploy/README.md || echo "not in deploy/README.md: $line"
	done
}

# A line a reason, "word status code retry dead", from each place that says so: the code, whose tables are the source
# (campaign-worker reasons), the table of the contract, and an example of each outcome, which does not say "dead".
reasons_coded() {
	"$worker" reasons | sed -n 's/^| `\([a-z_]*\)` | \([0-9]*\) | `\([A-Z_]*\)` | \([a-z]*\) | \([a-z]*\) |.*/\1 \2 \3 \4 \5/p' | sort
}
reasons_documented() {
	sed -n 's/^| `\([a-z_]*\)` | \([0-9]*\) | `\([A-Z_]*\)` |[^|]*| \([a-z]*\) | \([a-z]*\) |.*/\1 \2 \3 \4 \5/p' schemas/README.md | sort
}
reasons_exemplified() {
	for file in schemas/examples/*.result.json; do
		sed -n 's/.*"code":"\([A-Z_]*\)".*"httpStatus":\([0-9]*\),"reason":"\([a-z_]*\)","retryable":\([a-z]*\),.*/\3 \2 \1 \4/p' "$file"
	done | sed -e 's/ true$/ yes/' -e 's/ false$/ no/' | sort -u
}
coded_alive() { reasons_coded | sed 's/ [a-z]*$//'; }
# The checker of the fault suite lists what is a dead letter; the benchmark's peer has the reasons of rule 0's key, 1 and above.
dead_coded() { reasons_coded | sed -n 's/ .* yes$//p'; }
dead_checked() {
	{
		sed -n 's/^UNREADABLE = //p' tests/system/history.py
		sed -n 's/^DEAD_LETTERED = //p' tests/fault/checker/answers.py
	} | grep -o '"[a-z_]*"' | tr -d '"' | sort
}
messages_coded() { "$worker" reasons | sed -n 's/^| `\([a-z_]*\)` | \([0-9]*\) | `\([A-Z_]*\)` |[^|]*|[^|]*| \(.*\) |$/\1 \2 \3 \4/p'; }
peer_differs() {
	messages_coded >build/lint.first
	sed -n 's/^\t\([A-Z_]*\)(\([0-9]*\), "\([A-Z_]*\)", "\(.*\)")[,;]$/\1 \2 \3 \4/p' tests/bench/peer/src/Reason.java >build/lint.second
	[ -s build/lint.second ] || echo 'Reason.java: nothing is found'
	while read -r word rest; do
		word=$(echo "$word" | tr '[:upper:]' '[:lower:]')
		grep -qxF "$word $rest" build/lint.first || echo "Reason.java: $word $rest"
	done <build/lint.second
	rm -f build/lint.first build/lint.second
}
difference() { # NAME NAME: of two functions' output
	mkdir -p build && "$1" >build/lint.first && "$2" >build/lint.second
	[ -s build/lint.first ] || echo "$1 finds nothing"
	diff build/lint.first build/lint.second | sed -n -e "s/^</$1:/p" -e "s/^>/$2:/p"
	rm -f build/lint.first build/lint.second
}

# What stands in a document's prose, a line each, without what is fenced: "link TARGET", or "path TEXT" for a text in
# backquotes with a slash or the end of a source file, which is not a setting's value, a system's path or one below build/.
references() { # FILE
	awk '
	/^```/ { fenced = !fenced }
	fenced { next }
	{
		line = $0
		while (match(line, /\]\([^) ]+\)/)) {
			print "link " substr(line, RSTART + 2, RLENGTH - 3)
			line = substr(line, RSTART + RLENGTH)
		}
		n = split($0, part, "`")
		for (i = 2; i < n; i += 2)
			if (part[i] ~ /^[A-Za-z0-9_.*-][A-Za-z0-9_.\/*-]*$/ && part[i] !~ /^build\// &&
			    part[i] ~ /\/|\.(c|h|sh|py|sql|md|txt)$/)
				print "path " part[i]
	}' "$1"
}
anchors() { # FILE: those that GitHub makes of its headings
	grep '^#' "$1" | sed -e 's/^#* *//' -e 's/[^A-Za-z0-9 _-]//g' -e 's/ /-/g' | tr '[:upper:]' '[:lower:]'
}
exists() { for found in $1; do [ -e "$found" ] && return 0; done; return 1; } # a pattern
dead_references() {
	for document in $(documents); do
		folder=$(dirname "$document")
		references "$document" | while read -r kind text; do
			target=${text%%#*}
			case $kind:$text in
			link:http:*|link:https:*) continue ;;
			link:*) [ -z "$target" ] || exists "$folder/$target" || echo "$document: no file for the link $text" ;;
			path:*) exists "$text" || exists "$folder/$text" || echo "$document: no file for the path $text" ;;
			esac
			case $kind:$text in
			link:*.md#*|link:\#*)
				[ -f "$folder/${target:-${document##*/}}" ] && anchors "$folder/${target:-${document##*/}}" |
					grep -qx "${text#*#}" || echo "$document: no heading for the link $text" ;;
			esac
		done
	done
}

verdict 'deploy/README.md has the table of settings (campaign-worker settings)' "$(undocumented_settings 2>&1)"
verdict 'schemas/README.md says of every reason what the code says (campaign-worker reasons)' \
	"$(difference reasons_documented reasons_coded 2>&1)"
verdict 'there is an example of every reason, and it says what the code says' "$(difference reasons_exemplified coded_alive 2>&1)"
verdict "the checker's and the peer's reasons are the code's" "$(difference dead_checked dead_coded 2>&1; peer_differs 2>&1)"
verdict 'README.md is at most 10,240 bytes' "$(wc -c <README.md | awk '$1 > 10240 { print $1 }')"
verdict 'every link and every path in a document leads somewhere' "$(dead_references 2>&1)"
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

# A global function is called somewhere in the product (in its own file counts: then it is global because a test calls it as
# well), or it is libcampaign's. The exceptions: without the log's three hooks its rate limit cannot be tested; the examples'
# tests read results by result_from_json; dead letters' headers are written and read by one file, though only tests read them
# so far.
for_tests_alone='
log_set_clock worker/base/log.c
log_set_fd worker/base/log.c
log_dropped worker/base/log.c
dead_letter_read schemas/dead_letter.c
result_from_json schemas/json.c
'
called_by_tests_alone() {
	sources | grep '\.c$' | xargs grep -hv '^ *[/*]' | grep -o '\<[a-z_0-9]*\>' | sort | uniq -c | awk '$1 > 1 { print $2 }' >"$scratch/named"
	sed -n 's/^CAMPAIGN_API .*[ *]\(campaign_[a-z_]*\)(.*/\1/p' producer/campaign.h >>"$scratch/named"
	for source in $(modules .); do
		nm -g --defined-only "$build/obj/${source%.c}.o" | awk '$2 == "T" { print $3 }' | grep -vxF -f "$scratch/named" | sed "s|$| $source|"
	done | sort >"$scratch/alone"
	echo "$for_tests_alone" | grep . | sort | diff - "$scratch/alone" | sed -n -e 's/^> //p' -e 's/^< /no exception any more: /p'
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
verdict 'campaign-producer and libcampaign hold nothing of the worker and need no libpq' \
	"$(worker_symbols_in "$build/campaign-producer" "$build"/lib/libcampaign.so.? "$build/lib/libcampaign.a" 2>&1)"
verdict 'libcampaign exports what its header declares' "$(exported_otherwise 2>&1)"
verdict 'no function of the product is called by tests alone' "$(called_by_tests_alone 2>&1)"

echo "1..$count"
