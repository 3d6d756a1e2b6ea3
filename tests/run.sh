#!/bin/sh
# Every test suite, and at the end one line that counts: N passed, N failed, N skipped.
#
#   SUITES="unit component"   only these: lint warnings unit unit-asan component component-asan store asyncapi fault-tools
#                             bench-tools model system operation demo fault teeth
#   DEPS=0                    installs nothing
#   CI=true                   a suite that cannot run fails instead of being skipped
#
# Every log is kept in build/logs/; those of failed suites are printed.
set -u

cd "$(dirname "$0")/.." || exit 1
all='lint warnings unit unit-asan component component-asan store asyncapi fault-tools bench-tools model system operation demo fault teeth'
suites=${SUITES:-$all}
logs=build/logs
beside=' component component-asan ' # these mostly wait: they run beside those behind them, and are waited for before system
jobs=2
at_once=4 # pytests, each with servers of its own: most tests wait for most of their time
passed=0 failed=0 skipped=0
waited_for='' waiting=''

for suite in $suites; do
	case " $all " in *" $suite "*) ;; *) echo "no such suite: $suite (there are: $all)" >&2; exit 2 ;; esac
done

# What a suite leaves running when it is cut short: servers, where each script tolerates that there is nothing to stop, and
# workers and programs, which are known by their logs. Without the folder no test that has not ended yet starts another one.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/campaign-test.XXXXXX") || exit 1
chmod 755 "$scratch"
cleanup() {
	for process in $waited_for; do kill -KILL "$process"; done
	for folder in "$scratch"/*/kafka*; do sh deploy/kafka.sh kill "$folder"; done
	for folder in "$scratch"/*/postgres*; do sh deploy/postgres.sh remove "$folder"; done
	rm -rf "$scratch"
	for log in /proc/[0-9]*/fd/1; do
		process=${log#/proc/}
		case $(readlink "$log") in "$scratch"/*/tests/* | "$PWD/$logs"/component*/*.out) kill -KILL "${process%%/*}" ;; esac
	done
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- counting -------------------------------------------------------------------------------------------------------

# A suite runs as suite_NAME in a subshell of its own, with its output in $log. It calls report and cannot_run, which
# write to $counts; what it returns is a failure by itself if nothing else failed.
report() { echo "$1 $2 $3" >>"$counts"; } # PASSED FAILED SKIPPED

cannot_run() {
	echo "cannot run: $*"
	echo "$*" >"$counts.why"
	if [ "${CI:-}" = true ]; then report 0 1 0; else report 0 0 1; fi
}

number() { n=$(grep -cE "$@") || :; echo "${n:-0}"; }

# A program's output in the Test Anything Protocol: what it planned and did not report has failed, and so has a program
# that ended badly although every test passed (a sanitizer's report, a crash behind the last test).
count_tap() { # FILE STATUS
	left=$(number '^(not )?ok .*# SKIP' "$1") # cmocka 1.1 says "not ok" there
	bad=$(($(number '^not ok ' "$1") - $(number '^not ok .*# SKIP' "$1")))
	good=$(($(number '^(not )?ok ' "$1") - bad - left))
	planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$1" | awk '{ n += $1 } END { print n + 0 }')
	missing=$((planned - bad - good - left))
	[ "$missing" -le 0 ] || bad=$((bad + missing))
	[ "$2" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
	[ $((bad + good + left)) -gt 0 ] || bad=1
	report "$good" "$bad" "$left"
}

count_pytest() { # FILE STATUS
	line=$(grep -E '[0-9]+ (passed|failed|skipped|error)' "$1" | tail -n 1)
	word() { echo "$line" | sed -n "s/^\(.*[^0-9]\)\{0,1\}\([0-9][0-9]*\) $1.*/\2/p" | grep . || echo 0; }
	good=$(word passed) left=$(word skipped) bad=$(($(word failed) + $(word error)))
	[ "$2" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
	[ "${CI:-}" != true ] || { bad=$((bad + left)) left=0; }
	report "$good" "$bad" "$left"
}

run_suite() {
	suite=$1 log=$PWD/$logs/$1.log counts=$scratch/$1.counts
	: >"$counts"
	start=$(date +%s%N)
	("suite_$(echo "$suite" | tr - _)") >"$log" 2>&1 </dev/null
	echo "$? $((($(date +%s%N) - start) / 100000000))" >"$scratch/$suite.end"
}

say_suite() {
	log=$PWD/$logs/$1.log counts=$scratch/$1.counts
	read -r status seconds <"$scratch/$1.end" || status=1 seconds=0
	set -- $(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$counts")
	if [ "$status" -ne 0 ] && [ "$2" -eq 0 ]; then set -- "$1" 1 "$3"; fi
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
	verdict="ok $1"
	[ "$3" -eq 0 ] || verdict="ok $1, SKIPPED $3"
	[ "$2" -eq 0 ] || verdict="FAILED $2 of $(($1 + $2 + $3))"
	[ ! -s "$counts.why" ] || verdict="$verdict (cannot run: $(cat "$counts.why"))"
	echo "$verdict  $((seconds / 10)).$((seconds % 10)) s"
	[ "$2" -eq 0 ] || { echo "--- $log"; cat "$log"; echo '---'; }
}

begin_beside() {
	run_suite "$1" &
	waited_for="$waited_for $!" waiting="$waiting $1"
}

end_beside() {
	for process in $waited_for; do wait "$process"; done
	for suite in $waiting; do
		printf '%-16s' "$suite"
		say_suite "$suite"
	done
	waited_for='' waiting=''
}

# --- the suites -----------------------------------------------------------------------------------------------------

build() { flock "$scratch/build" make -s -j"$jobs" "$@"; }

# Programs on cmocka, $jobs at a time, each with a log of its own. They share nothing: no port, no file.
run_programs() { # FOLDER
	out=$PWD/$logs/$suite
	rm -rf "$out"
	mkdir -p "$out"
	find "$1" -maxdepth 1 -type f -name 'test_*' -perm -u+x | sort >"$out/list"
	[ -s "$out/list" ] || { cannot_run "there are no programs in $1"; return; }
	export CMOCKA_MESSAGE_OUTPUT=TAP
	tr '\n' '\0' <"$out/list" | xargs -0 -n 1 -P "$jobs" sh -c '
		timeout -k 5 900 "$2" >"$1/${2##*/}.out" 2>&1
		echo $? >"$1/${2##*/}.status"' - "$out"
	while read -r program; do
		name=${program##*/}
		echo "# $name (exit $(cat "$out/$name.status"))"
		cat "$out/$name.out"
		count_tap "$out/$name.out" "$(cat "$out/$name.status")"
	done <"$out/list"
}

sanitizers() {
	# avro-c keeps pointers at unaligned addresses, where the leak checker would not look by itself.
	export LSAN_OPTIONS=use_unaligned=1 UBSAN_OPTIONS=print_stacktrace=1
}

suite_lint() {
	build all || return
	sh tests/lint.sh >"$scratch/lint"
	status=$?
	cat "$scratch/lint"
	count_tap "$scratch/lint" "$status"
}

# Not in the folders of the other suites: those keep the user's compiler and flags.
suite_warnings() {
	for compiler in gcc clang; do
		command -v "$compiler" >/dev/null || { cannot_run "there is no $compiler"; continue; }
		out=build/warnings-$compiler
		if build BUILD="$out" DOWNLOADS=build/downloads VARIANT=test CC="$compiler" CFLAGS=-Werror all unit-programs component-programs store-programs \
			fuzz-object "$out/test/bench-tool" "$out/test/archive-worker"; then report 1 0 0; else report 0 1 0; fi
	done
}

suite_unit() { build unit-programs && run_programs build/tests/unit; }
suite_unit_asan() { sanitizers; build VARIANT=asan unit-programs && run_programs build/asan/tests/unit; }
suite_component() { build VARIANT=test component-programs && jobs=6 run_programs build/test/tests/component; }
suite_component_asan() { sanitizers; build VARIANT=asan component-programs && jobs=6 run_programs build/asan/tests/component; }

suite_store() {
	build VARIANT=test all store-programs || return
	sh deploy/postgres.sh start "$scratch/store/postgres" >/dev/null || { cannot_run "PostgreSQL does not start"; return; }
	(
		. "$scratch/store/postgres/env"
		export CAMPAIGN_TEST_DATABASE="$DATABASE"
		jobs=1 # they share the server
		run_programs build/test/tests/store
	)
	sh deploy/postgres.sh remove "$scratch/store/postgres"
}

suite_asyncapi() {
	command -v npm >/dev/null || { cannot_run "there is no npm"; return; }
	sh tests/asyncapi/run.sh build/asyncapi >"$scratch/asyncapi"
	status=$?
	cat "$scratch/asyncapi"
	count_tap "$scratch/asyncapi" "$status"
}

run_pytest() {
	sh tests/python.sh -c '' || { cannot_run "python3 lacks one of pytest, xdist, psycopg2, confluent_kafka, avro"; return 0; }
	mkdir -p "$scratch/$suite"
	CAMPAIGN_TEST_DIR=$scratch/$suite PYTHONDONTWRITEBYTECODE=1 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 \
		sh tests/python.sh -m pytest -p no:cacheprovider -p xdist --tb=short -v --durations=10 "$@" >"$scratch/pytest"
	status=$?
	cat "$scratch/pytest"
	count_pytest "$scratch/pytest" "$status"
	rm -rf "$logs/$suite"
	[ "$status" -eq 0 ] || cp -r "$scratch/$suite/tests" "$logs/$suite" 2>/dev/null || : # the workers' whole logs
}

suite_system() {
	build all && build VARIANT=test all || return
	sh deploy/kafka.sh fetch || { cannot_run "Apache Kafka cannot be fetched"; return; }
	run_pytest -n "$at_once" --dist loadfile tests/system --ignore=tests/system/test_demo.py
}

# A second operation, which the product does not have.
suite_operation() {
	build all && build VARIANT=test all build/test/archive-worker || return
	sh deploy/kafka.sh fetch || { cannot_run "Apache Kafka cannot be fetched"; return; }
	run_pytest tests/operation
}

suite_demo() {
	build all || return
	run_pytest tests/system/test_demo.py
}

# The fault suite's own tools: the history checker, the proxy, and what they make of a clock. And what plants bugs.
suite_fault_tools() {
	build VARIANT=test build/test/fault-proxy || return
	run_pytest tests/fault/checker tests/fault/test_machine.py tests/fault/test_proxy.py tests/mutation
}

# The benchmark's own tools, with little work: what they measure is right, and what is wrong is noticed.
suite_bench_tools() {
	build all build/bench-tool || return
	sh deploy/kafka.sh fetch || { cannot_run "Apache Kafka cannot be fetched"; return; }
	run_pytest tests/bench/test_bench.py
}

run_tap() { # COMMAND...
	"$@" >"$scratch/tap"
	status=$?
	cat "$scratch/tap"
	count_tap "$scratch/tap" "$status"
}

suite_model() {
	command -v spin >/dev/null || { cannot_run "there is no spin"; return; }
	run_tap sh tests/model/run.sh
}

prepare_fault() {
	build all && build VARIANT=test all build/test/fault-proxy || return
	sh deploy/kafka.sh fetch || { cannot_run "Apache Kafka cannot be fetched"; return 1; }
}

# One pass; `make fault` makes two. What it leaves behind when a promise was broken is kept.
suite_fault() {
	prepare_fault || return
	run_pytest tests/fault/test_found.py
	mkdir -p "$scratch/fault"
	SEED=${SEED:-1} SEEDS=1 CAMPAIGN_TEST_DIR=$scratch/fault run_tap sh tests/python.sh tests/fault/fault.py
	rm -rf "$logs/$suite"
	[ "$status" -eq 0 ] || cp -r "$scratch/fault/tests" "$logs/$suite" 2>/dev/null || :
}

suite_teeth() {
	prepare_fault || return
	mkdir "$scratch/teeth"
	CAMPAIGN_TEST_DIR=$scratch/teeth run_tap sh tests/python.sh tests/fault/teeth.py
}

# --------------------------------------------------------------------------------------------------------------------

sh deploy/deps.sh build run test || echo 'run.sh: something is missing; what needs it cannot run' >&2
mkdir -p "$logs"
for name in $suites; do
	case $beside in *" $name "*) begin_beside "$name"; continue ;; esac
	[ "$name" != system ] || end_beside
	printf '%-16s' "$name"
	run_suite "$name"
	say_suite "$name"
done
end_beside
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
