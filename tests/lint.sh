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
1 worker/fault worker/utf8 worker/clock worker/arena
2 worker/log worker/failpoint
3 worker/command worker/config worker/sql
4 worker/record worker/partition worker/breaker worker/pace worker/kafka worker/watch
5 schemas/codec+schemas/guard+schemas/fingerprint schemas/json
6 worker/intake worker/store+worker/pg+worker/migrate worker/outlet producer/client+producer/pending
7 worker/lane+worker/lane_parts+worker/batch+worker/execute+worker/takeover worker/topics worker/resume
7 producer/tool producer/input
8 producer/send producer/watch producer/apikey worker/check
9 worker/main producer/main
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
		folder = from
		sub(/\/.*/, "", folder)
		if (to ~ /^\.\.\//) sub(/^\.\.\//, "", to); else to = folder "/" to
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
verdict 'librdkafka is included by those who speak Kafka' "$(includes_of 'librdkafka/.*' \
	worker/intake.c worker/outlet.c worker/kafka.c worker/watch.c worker/topics.c worker/check.c producer/client.c)"
verdict 'libpq is included by pg.c' "$(includes_of 'libpq-fe\.h|postgresql/.*' worker/pg.c)"
verdict 'avro-c is included by the codec' "$(includes_of 'avro\.h|avro/.*' schemas/codec.c schemas/guard.c schemas/fingerprint.c)"
verdict 'jansson is included by the schemas' "$(includes_of 'jansson\.h' schemas/json.c schemas/fingerprint.c)"
verdict 'libcrypto is included by those who hash' "$(includes_of 'openssl/.*' worker/command.c worker/outlet.c producer/apikey.c)"
verdict 'headers include no library' "$(sources | grep '\.h$' |
	xargs grep -nE '^#include <(librdkafka/|libpq|avro|jansson|openssl/|cmocka)')"
verdict 'only main.c exits' "$(sources | grep -v -e '/main\.c$' -e '/failpoint\.c$' | xargs grep -nwE '^[^*/]*(exit|_exit) ?\(')"

# --- texts ----------------------------------------------------------------------------------------------------------

ours() { find .ci Makefile README.md worker schemas producer tests deploy -type f ! -name package-lock.json ! -name '*.tar.gz' 2>/dev/null | sort; }

verdict 'nothing is left to do' "$(ours | xargs grep -nwE 'TO''DO|FIX''ME|X''XX|HA''CK')"
verdict 'no blanks at the ends of lines' "$(ours | grep -v '\.md$' | xargs grep -nE '[[:blank:]]+$')"
verdict 'shell scripts parse' "$(for script in $(ours | grep '\.sh$'); do sh -n "$script" 2>&1; done)"
verdict 'functions of at most 80 lines' "$(sources | grep '\.c$' | xargs awk '
	/^[{]$/ { start = FNR }
	/^[}]$/ && start { if (FNR - start > 81) print FILENAME ":" start ": " FNR - start - 1 " lines"; start = 0 }')"

# --- programs -------------------------------------------------------------------------------------------------------

# What is called is what deploy/deps.sh installs. Debian tells what it has without: elsewhere nobody knows.
undeclared_programs() { ours | grep -E '(\.sh|\.py|/run|^Makefile)$' | xargs python3 tests/programs.py 2>&1; }

# The check above, on a script of each kind: what of absent-1 to absent-12 it does not find, or finds beside them.
unfound_programs() {
	folder=$(mktemp -d) || return
	cat >"$folder/a.sh" <<-'END'
	x=$(absent-1 | sed s/absent/x/) && echo "$(absent-2 "$x")" absent
	case $x in absent) absent-3 ;; esac
	echo absent | xargs -n 1 -P "$x" absent-4
	FOO=absent sh -c 'sleep 1; absent-5' # absent
	find . -exec absent-6 {} +
	ours() { env FOO=absent timeout 5 "${ABSENT:-absent-7}"; }
	cat <<-EOT
	absent $(absent-8)
	EOT
	ours absent
	END
	printf 'FOO = absent-10\nBAR = $(shell absent-9 $(absent))\nall: absent\n\t@x=1 $(FOO) $$x absent\n' >"$folder/Makefile"
	printf 'import subprocess, absent_11\nx = ["absent-12", "absent"]\nsubprocess.run(x)\n' >"$folder/a.py"
	python3 tests/programs.py "$folder/a.sh" "$folder/Makefile" "$folder/a.py" | grep -o 'absent[-_0-9]*' >"$folder/found"
	seq 12 | sed 's/^/absent-/; s/-11/_11/' | diff - "$folder/found"
	rm -rf "$folder"
}

if command -v dpkg-query >/dev/null; then
	verdict 'every program that is called is one that deploy/deps.sh installs' "$(undeclared_programs)"
	verdict 'a program that is called and not installed is found' "$(unfound_programs 2>&1)"
fi

# --- documents ------------------------------------------------------------------------------------------------------

undocumented_settings() {
	[ -f README.md ] || { echo 'there is no README.md'; return; }
	"$worker" settings | while read -r line; do grep -qxF -- "$line" README.md || echo "not in README.md: $line"; done
}
undocumented_reasons() {
	[ -f README.md ] || { echo 'there is no README.md'; return; }
	for word in $(sed -n 's/^\t\[REASON_[A-Z_]*\] = { "\([a-z_]*\)".*/\1/p' worker/command.c); do
		grep -q "$word" README.md || echo "$word"
	done
}

verdict "README.md has the table of settings (campaign-worker settings)" "$(undocumented_settings 2>&1)"
verdict 'README.md has every reason' "$(undocumented_reasons 2>&1)"
verdict 'the example of a configuration is current (campaign-worker settings --example)' \
	"$("$worker" settings --example 2>&1 | diff - deploy/campaign-worker.conf.example 2>&1)"
verdict 'a release holds no failpoint' "$(nm "$worker" 2>&1 | grep -w -e failpoint -e 'nm:.*';
	grep -acF CAMPAIGN_FAILPOINT_FILE "$worker" | grep -v '^0$')"

echo "1..$count"
