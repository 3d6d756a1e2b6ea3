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
10 worker/base/fault worker/base/utf8 worker/base/clock worker/base/arena worker/base/must worker/base/offsets worker/base/waiter
11 worker/base/log worker/base/failpoint
11 worker/base/findings
12 worker/base/config worker/base/statistics
20 schemas/types schemas/reason schemas/murmur2 schemas/framing schemas/fingerprint schemas/guard
21 schemas/field schemas/id schemas/record
22 schemas/contract schemas/details schemas/digest schemas/dead_letter
23 schemas/command schemas/result schemas/writer_schema
24 schemas/duplicate schemas/decode schemas/encode schemas/json
25 schemas/codec
30 worker/sql/sql
31 worker/operation worker/start worker/breaker worker/sizing worker/wait worker/kafka/kafka worker/kafka/inflight worker/kafka/queue worker/kafka/group
32 worker/duplicate worker/kafka/positions
33 worker/kafka/consumer worker/kafka/publisher worker/kafka/topics worker/kafka/inspection
31 worker/db/params worker/db/rows
32 worker/db/connection worker/db/binding
33 worker/db/guarantees worker/db/migrate
34 worker/db/session
35 worker/db/ownership worker/db/rights
36 worker/db/execution
40 worker/assignment worker/batch worker/executor
41 worker/takeover worker/view
42 worker/lane
50 worker/check worker/resume worker/run
60 worker/main
40 producer/client+producer/pending
41 producer/tool producer/input
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
verdict 'librdkafka is included by worker/kafka and the producer'"'"'s client' "$(includes_of 'librdkafka/.*' worker/kafka/*.c producer/client.c)"
verdict 'libpq is included by worker/db/connection.c and rows.c' "$(includes_of 'libpq-fe\.h|postgresql/.*' worker/db/connection.c worker/db/rows.c)"
verdict 'avro-c is included by the codec' "$(includes_of 'avro\.h|avro/.*' schemas/writer_schema.c schemas/decode.c schemas/encode.c schemas/guard.c)"
verdict 'jansson is included by the schemas' "$(includes_of 'jansson\.h' schemas/json.c schemas/fingerprint.c)"
verdict 'libcrypto is included by those who hash' "$(includes_of 'openssl/.*' schemas/digest.c schemas/dead_letter.c producer/apikey.c)"
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

echo "1..$count"
