#!/bin/sh
# Searches the protocol (protocol.pml, and copies.pml for what shares an outcome) with spin: the whole must keep its promises under every fault, and must lose one as
# soon as a rule is left out. Speaks TAP, a line for each configuration.
#
#   LONG=1        larger configurations as well, and the shortest counterexamples
#   ONLY=regex    only configurations whose line below matches
#   MEMORY=3000   MB for one search; JOBS=2 at once
#   BUILD=build   works in $BUILD/model; a counterexample of each failure is left there as NUMBER.txt
#
# A line that does not say "hash compaction" was searched exhaustively.
set -u

here=$(cd "$(dirname "$0")" && pwd -P)

# --- configurations: what is expected, a name, what is defined --------------------------------------------------------
# breaks N: promise N is broken (protocol.pml, PROMISES); with LONG=1 the shortest way to it is shown. finds N: the same, where
# the search for the shortest way takes too long. holds: no promise is broken and nobody is stuck, in any state. hash: the same by
# hash compaction, where memory does not suffice. rests: once there are no more faults, everybody comes to rest (weak fairness).
# Definitions that begin with "copies" are copies.pml's.

short='
breaks 4  | no fence                                            | FENCE=0 REBALANCE COMMANDS=1
breaks 1  | no fence and no unique traces                       | UNIQUE=0 FENCE=0 REBALANCE COMMANDS=1
breaks 4  | rule 1: no check behind the claim                   | CHECK=0 REBALANCE COMMANDS=1
breaks 4  | rule 1: the check before the claim                  | CHECK=2 REBALANCE COMMANDS=1
breaks 4  | rule 1: a check that asks for no membership         | MEMBERSHIP=0 REBALANCE EMPTY BARE COMMANDS=1
breaks 2  | rule 1: a check for an assignment that was replaced | SAME_ASSIGNMENT=0 REBALANCE COMMANDS=1
breaks 2  | rule 1: no joining anew after a check in doubt      | REJOIN=0 LATE_CHECK REBALANCE COMMANDS=1
breaks 4  | rule 2: no claim after a COMMIT in doubt            | RECLAIM=0 CUT COMMANDS=1
breaks 4  | rule 2: a claim without a new epoch                 | NEW_EPOCH=0 CUT COMMANDS=1
breaks 4  | rule 3: claim and look in one old snapshot          | OWN_CLAIM=0 REBALANCE COMMANDS=1
breaks 4  | rule 3: a fence FOR KEY SHARE, no claim waits for it | LOCK=0 REBALANCE COMMANDS=1
breaks 2  | rule 4: offsets without group metadata              | METADATA=0 REBALANCE COMMANDS=1
breaks 2  | rule 4: group metadata taken when sending           | METADATA=2 REBALANCE COMMANDS=1
breaks 2  | rule 4: pending offsets are not waited for          | STABLE=0 REBALANCE COMMANDS=1
breaks 2  | rule 5: no new epoch after an EndTxn in doubt       | RENEW=0 LATE OVERLAP=0
breaks 8  | rule 5: the same, a result lost                     | RENEW=0 LATE OVERLAP=0
breaks 32 | rule 5: starts over, and the Kafka transaction is not resolved | RESOLVE=0 LATE COMMANDS=1
breaks 4  | rule 5: the same, a draft behind its error          | RESOLVE=0 LATE OVERLAP=0
breaks 8  | ahead: the fence confirms the start of its own batch | AHEAD_START=0 ABORT
breaks 8  | ahead: published although the batch before it is not | AHEAD_ORDER=0 ABORT
breaks 4  | ahead: no claim when only the Kafka transaction failed | AHEAD_CLAIM=0 ABORT
breaks 2  | ahead: a revoke in between drops nothing            | AHEAD_DROP=0 REBALANCE COMMANDS=1
breaks 2  | offsets set back without confirmed_offset           | CONFIRM=0 RESET COMMANDS=1
breaks 16 | Kafka first                                         | DATABASE_FIRST=0 CRASH COMMANDS=1
breaks 4  | a failed command refused although its draft is there | LOOK=0 FAIL CRASH COMMANDS=1
breaks 8  | rule 7: no halt, and somebody else commits           | EXECUTED=2 MARK=0 STRANGER REBALANCE COMMANDS=1
breaks 8  | rule 7: an offset inside of the last batch counts as ours | MARK=0 STRANGER REBALANCE COMMANDS=1
breaks 16 | rule 7: no halt, and the database is an older one   | EXECUTED=2 RESTORE COMMANDS=1
breaks 64 | rule 7: a start is recorded behind the group commit | RECORD=2 FRESH CRASH COMMANDS=1
finds 16  | rule 7: the first part of a batch writes its end    | LAST_PART=0 RESTORE SPLIT
breaks 8  | rule 7: resumes from executed_offset, a batch is lost | GO_BACK=0 STRANGER REBALANCE COMMANDS=1
breaks 2  | rule 8: a topic that was moved is begun             | SAME_CLUSTER=0 MOVED COMMANDS=1
breaks 64 | rule 9: no commit behind control records            | BEHIND=0 RETENTION COMMANDS=1
breaks 64 | rule 9: the group first                             | BEHIND=2 RETENTION CRASH COMMANDS=1
breaks 4  | copies: of another digest                           | copies SAME_DIGEST=0
breaks 64 | copies: rate_limited for another timestamp          | copies OWN_TIME=0
breaks 2  | beyond the rules: an empty group takes an OffsetCommit without a generation | BARE=2 EMPTY REBALANCE COMMANDS=1
holds     | 1 command: crashes, rebalances, cuts                | COMMANDS=1 CRASH REBALANCE CUT LATE_CLAIM FAIL
holds     | 1 command: crashes, rebalances, late requests       | COMMANDS=1 CRASH REBALANCE LATE FENCED ABORT
holds     | 1 command: crashes, rebalances, an empty group      | COMMANDS=1 CRASH REBALANCE EMPTY BARE LATE_CHECK RESET FAIL
holds     | 2 commands: no fault                                |
holds     | 2 commands: crashes, split batches, failures        | CRASH SPLIT FAIL
holds     | 2 commands: rebalances, split batches, failures     | REBALANCE SPLIT FAIL
holds     | 2 commands: rebalances, an empty group, resets      | REBALANCE EMPTY BARE RESET
holds     | 2 commands: rebalances, late checks                 | REBALANCE LATE_CHECK
holds     | 2 commands: rebalances, late claims                 | REBALANCE LATE_CLAIM
holds     | 2 commands: fenced producers, aborts                | FENCED ABORT
holds     | 2 commands: late requests, aborts                   | LATE ABORT
holds     | 2 commands: cuts, aborts                            | CUT ABORT
holds     | 2 commands, none ahead: aborts, no claim after them | OVERLAP=0 AHEAD_CLAIM=0 ABORT
holds     | 3 commands: split batches, failures                 | COMMANDS=3 SPLIT FAIL
holds     | 1 command, executed_offset: crashes, rebalances     | EXECUTED COMMANDS=1 CRASH REBALANCE
holds     | 2 commands, executed_offset: split batches, aborts  | EXECUTED SPLIT ABORT
holds     | 1 command: never claimed, crashes, rebalances       | FRESH COMMANDS=1 CRASH REBALANCE
holds     | 1 command: somebody else commits, rebalances        | STRANGER COMMANDS=1 REBALANCE
holds     | 1 command: an older database, crashes               | RESTORE COMMANDS=1 CRASH
holds     | 1 command: another cluster, crashes                 | MOVED COMMANDS=1 CRASH
holds     | 1 command: retention, crashes, rebalances           | RETENTION COMMANDS=1 CRASH REBALANCE
holds     | 3 records of one trace, copies                      | copies
holds     | 3 records of one trace, none shares                 | copies SHARE=0
rests     | 1 command: crashes, rebalances                      | COMMANDS=1 CRASH REBALANCE
rests     | 1 command: cuts, late claims                        | COMMANDS=1 CUT LATE_CLAIM
'

most='REBALANCE EMPTY BARE FAIL ABORT FENCED LATE LATE_CHECK LATE_CLAIM RESET'
long="
rests     | 1 command: crashes, rebalances, fenced producers    | COMMANDS=1 CRASH REBALANCE FENCED
rests     | 2 commands: cuts, aborts                            | CUT ABORT
holds     | 1 command: every fault                              | COMMANDS=1 CRASH CUT SPLIT $most
holds     | 2 commands: crashes, rebalances                     | CRASH REBALANCE
holds     | 2 commands: rebalances, fenced producers, aborts    | REBALANCE FENCED ABORT
holds     | 2 commands: rebalances, late requests, aborts       | REBALANCE LATE ABORT
holds     | 2 commands: rebalances, an empty group, late checks, resets | REBALANCE EMPTY BARE LATE_CHECK RESET
holds     | 2 commands: crashes, rebalances, late requests      | CRASH REBALANCE LATE
holds     | 2 commands: crashes, rebalances, fenced producers   | CRASH REBALANCE FENCED ABORT
holds     | 2 commands: crashes, cuts                           | CRASH CUT
holds     | 2 commands: rebalances, cuts                        | REBALANCE CUT
holds     | 2 commands: cuts, late requests                     | CUT LATE
holds     | 2 commands: cuts, split batches, late claims, failures, aborts | CUT SPLIT LATE_CLAIM FAIL ABORT
holds     | 2 commands, executed_offset: crashes                | EXECUTED CRASH
holds     | 2 commands, executed_offset: rebalances             | EXECUTED REBALANCE
holds     | 1 command: somebody else commits, crashes           | STRANGER COMMANDS=1 CRASH REBALANCE
holds     | 2 commands: somebody else commits                   | STRANGER
holds     | 2 commands: an older database, split batches        | RESTORE SPLIT
holds     | 2 commands: retention, rebalances                   | RETENTION REBALANCE
holds     | 5 records of one trace, copies                      | copies RECORDS=5
holds     | 3 commands: aborts                                  | COMMANDS=3 ABORT
holds     | 3 commands: rebalances                              | COMMANDS=3 REBALANCE
holds     | 3 commands: cuts                                    | COMMANDS=3 CUT
holds     | 2 commands: crashes, rebalances, cuts               | CRASH REBALANCE CUT
hash      | 2 commands: every fault but crashes and cuts        | $most
"

build=${BUILD:-build}
case $build in /*) ;; *) build=$PWD/$build ;; esac
out=$build/model
memory=${MEMORY:-3000}
optimize=-O0 shortest= # most of the short searches take less time than a compiler that optimizes
[ -z "${LONG:-}" ] || optimize=-O2 shortest=-DBFS
jobs=${JOBS:-2}

# --- one configuration ------------------------------------------------------------------------------------------------

# The steps of a counterexample, one a line: who, behind which label, and what changes by it.
readable() {
	awk '
	function flush() {
		if (changes != "") printf "%-13s %-15s%s\n", who, label[who], changes
		changes = ""
	}
	FNR == NR { if (match($0, /^[a-z_]+:/)) labels[FNR] = substr($0, 1, RLENGTH - 1); next }
	/^ *[0-9]+:\tproc/ {
		process = $3
		name = process < 3 ? (process == 0 ? "servers" : "surroundings") : (process < 5 ? "worker " process - 3 : "session " process - 5)
		line = $0; sub(/.*\.pml:/, "", line); line += 0
		at = name in label ? label[name] : ""
		if (process ~ /^[34]$/ && line > worker)
			for (k = line; k > worker; k--)
				if (k in labels) { at = labels[k]; break }
		if (name != who || at != label[name]) flush()
		who = name; label[name] = at
		next
	}
	/trail ends/ { exit }
	/Error: assertion/ { flush(); print who ": a promise is broken"; next }
	/^\t\t?[a-z_]+(\[[0-9]+\])? = / && $1 != "i" && $1 != "j" {
		if (value[$1] != $3 && !($3 ~ /^(0|NONE)$/ && value[$1] == "")) changes = changes " " $1 "=" $3
		value[$1] = $3
	}
	END { flush() }
	' worker="$(grep -n 'proctype Worker' "$here/$model" | cut -d: -f1)" "$here/$model" "$1"
}

search() { # FOLDER "SPIN FLAGS" COMPILER-FLAGS...
	(
		cd "$1" || exit
		rm -f "$model.trail"
		# shellcheck disable=SC2086 -- several definitions
		spin -a $2 "$model" >spin.out 2>&1 || { cat spin.out; exit; }
		shift 2
		"${CC:-cc}" -w -DVECTORSZ=512 -DMEMLIM="$memory" "$@" -o pan pan.c 2>&1 && ./pan -E ${options:-} -m2000000 -w23
	) >"$1/pan.out" 2>&1
}

field() { sed -n "$1" "$2" | head -n 1; }

run_one() { # NUMBER
	number=$1 folder=$out/$1 flags=
	mkdir -p "$folder"
	IFS='|' read -r expected name definitions <"$folder.configuration"
	model=protocol.pml
	case $definitions in ' copies'*) model=copies.pml definitions=${definitions#' copies'} ;; esac
	cp "$here/$model" "$folder/"
	name=$(echo "$name" | sed 's/^ *//; s/ *$//')
	case $expected in
	breaks* | finds*) promise=$(number_of "$expected") definitions="$definitions PROMISES=$promise" ;;
	rests*) definitions="$definitions RESTS" ;;
	esac
	for definition in $definitions; do flags="$flags -D$definition"; done
	case $expected in
	breaks*) search "$folder" "$flags" -O0 -DSAFETY -DCOLLAPSE $shortest ;;
	finds*) search "$folder" "$flags" -O0 -DSAFETY -DCOLLAPSE ;;
	holds*) search "$folder" "$flags" "$optimize" -DSAFETY -DCOLLAPSE ;;
	hash*) search "$folder" "$flags" "$optimize" -DSAFETY -DHC4 ;;
	rests*) options='-a -f' search "$folder" "$flags" "$optimize" -DCOLLAPSE -DNFAIR=3 ;;
	esac
	report "$folder/pan.out" >"$folder.verdict"
	if [ -f "$folder/$model.trail" ]; then
		# shellcheck disable=SC2086 -- several definitions
		(cd "$folder" && spin -t -p -g $flags "$model") >"$folder/trail" 2>&1
		readable "$folder/trail" >"$folder.txt"
	fi
	rm -rf "$folder"
	mv "$folder.verdict" "$folder.line"
}

number_of() { echo "$1" | tr -cd 0-9; }

report() { # PAN.OUT
	errors=$(field 's/.*errors: \([0-9]*\).*/\1/p' "$1")
	states=$(field 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$1" | awk '{ printf "%.0f", $1 }')
	depth=$(field 's/.*depth reached \([0-9]*\).*/\1/p' "$1")
	seconds=$(field 's/.*elapsed time \([0-9.e+]*\).*/\1/p' "$1")
	broken=$(field 's/^pan:1: assertion violated.*&\([0-9]*\)).*/\1/p' "$1")
	outcome=holds
	if [ -z "$errors" ]; then
		outcome='does not run'
	elif [ "$errors" -gt 0 ]; then
		outcome="breaks $(promise_name "${broken:-0}")"
	elif grep -qE 'Search not completed|max search depth too small' "$1"; then
		outcome='not searched to its end'
	fi
	wanted=holds must='must hold'
	case $expected in
	breaks* | finds*) wanted="breaks $(promise_name "$promise")" must='must fail' ;;
	hash*) how=', hash compaction' ;;
	rests*) must='must come to rest' ;;
	esac
	verdict=ok
	[ "$outcome" = "$wanted" ] || verdict='not ok'
	echo "$verdict $number - $must: $name ($outcome), ${states:-0} states, depth ${depth:-0}, ${seconds:-0} s${how:-}"
	[ "$verdict" = ok ] || { echo "# expected: $wanted"; [ -n "$errors" ] || sed 's/^/# /' "$1"; }
}

promise_name() {
	case $1 in
	1) echo I1 ;; 2) echo I2 ;; 4) echo I3 ;; 8) echo I4 ;;
	16) echo 'what must be so at rest' ;; 32) echo 'liveness: a worker is stuck' ;;
	64) echo 'what halts and what is rated' ;; *) echo "something else: $1" ;;
	esac
}

if [ "${1:-}" = one ]; then
	run_one "$2"
	exit
fi

# --- all of them ------------------------------------------------------------------------------------------------------

for tool in spin "${CC:-cc}"; do
	command -v "$tool" >/dev/null || { echo "model: there is no $tool (Debian: apt-get install spin gcc)" >&2; exit 2; }
done
rm -rf "$out"
mkdir -p "$out"
list=$short
[ -z "${LONG:-}" ] || list=$short$long
count=0
while read -r line; do
	[ -n "$line" ] || continue
	echo "$line" | grep -qE -- "${ONLY:-.}" || continue
	count=$((count + 1))
	echo "$line" >"$out/$count.configuration"
done <<END
$list
END
echo "1..$count"
seq "$count" | BUILD=$build MEMORY=$memory xargs -P "$jobs" -n 1 sh "$here/run.sh" one &
searches=$!
trap 'kill "$searches" 2>/dev/null; exit 130' INT TERM HUP
failed=0 number=0
while [ "$number" -lt "$count" ]; do
	number=$((number + 1))
	until [ -f "$out/$number.line" ] || ! kill -0 "$searches" 2>/dev/null; do sleep 0.2; done
	[ -f "$out/$number.line" ] || echo "not ok $number - the search was ended" >"$out/$number.line"
	cat "$out/$number.line"
	! grep -q '^not ok' "$out/$number.line" || failed=$((failed + 1))
done
echo "# $((count - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
