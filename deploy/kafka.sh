#!/bin/sh
# A throw-away Apache Kafka: one combined KRaft node (broker and controller) on the loopback interface, or a cluster of
# them, all of its data in one folder. For the demo and the tests; nothing of it is meant for production.
#
#   kafka.sh fetch         the jars (Maven, deploy/kafka/pom.xml) into build/downloads/, once
#   kafka.sh fetched       whether they are there
#   kafka.sh libs          fetches them if need be and prints their folder
#   kafka.sh start DIR     start, wait until it answers, write DIR/env (BROKERS=host:port); started again on the same
#                          folder, it keeps ports and data. PORT: the port wanted (else a free one), HEAP: 384m
#   kafka.sh stop DIR      SIGTERM, then SIGKILL
#   kafka.sh kill DIR      SIGKILL at once
#
# NODES=3 at the first start makes three nodes, in DIR/node-1 to DIR/node-3 (HEAP: 256m), BROKERS lists all of them, and
# topics have three replicas. `start DIR 2`, `stop DIR 2` and `kill DIR 2` are then for the second one alone.
#
# ADVERTISE="port ..." at the first start, one port a node: each node has a second listener, which sends its clients to
# that port of 127.0.0.1, where a proxy is to be; DIR/env lists the listeners as PROXIED=host:port, the proxy's targets.
#
# KAFKA_JAVA_OPTS replaces the options of the JVM below.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
build=${BUILD:-$here/../build}
version=$(sed -n 's,.*<kafka\.version>\(.*\)</kafka\.version>.*,\1,p' "$here/kafka/pom.xml")
libs=$build/downloads/kafka-$version
start_timeout_s=300 # one that ends is noticed at once
stop_timeout_s=20

say() { echo "kafka: $*"; }
die() { echo "kafka: $*" >&2; exit 1; }

# The folder appears under its name only when it is whole: an interrupted fetch is done again. It carries the checksum
# of the pom it was made from.
fetched() { [ "$(cat "$libs/pom.cksum" 2>/dev/null)" = "$(cksum <"$here/kafka/pom.xml")" ]; }

fetch() {
	if fetched; then return; fi
	command -v mvn >/dev/null || die "Maven is needed to fetch Apache Kafka (deploy/deps.sh run)"
	say "fetching Apache Kafka $version (50 MB, kept in build/downloads/)"
	mkdir -p "$build/downloads"
	new=$(mktemp -d "$build/downloads/.kafka.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	# Maven's own store goes with it, so that nothing is left in the home folder.
	(cd "$here/kafka" && mvn -q -B -Dmaven.repo.local="$new/m2" dependency:copy-dependencies \
		-DoutputDirectory="$new/libs" -DincludeScope=runtime >"$new/log" 2>&1) || {
		cat "$new/log" >&2
		die "Maven could not fetch Apache Kafka"
	}
	cksum <"$here/kafka/pom.xml" >"$new/libs/pom.cksum"
	chmod 755 "$new/libs"
	rm -rf "$libs"
	mv "$new/libs" "$libs"
	rm -rf "$new"
	trap - EXIT INT TERM HUP
}

# free_ports N: ports nobody listens on, below the range from which the kernel serves outgoing connections.
free_ports() {
	taken=" $(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed -n 's/^ *[0-9]*: [0-9A-F]*:\([0-9A-F]*\) .*/\1/p' | tr '\n' ' ')"
	for port in ${PORT:-} ${ADVERTISE:-}; do taken="$taken$(printf %04X "$port") "; done
	wanted=$1
	while [ "$wanted" -gt 0 ]; do
		port=$((15000 + $(od -An -N2 -tu2 /dev/urandom) % 17000))
		case $taken in *" $(printf %04X "$port") "*) continue ;; esac
		taken="$taken$(printf %04X "$port") "
		wanted=$((wanted - 1))
		echo "$port"
	done
}

# For each of the nodes that are meant, with $node its number and $dir its folder; ends at the first failure.
each_node() { # FUNCTION ARGUMENT...
	for node in $nodes; do
		dir=$top
		[ "$count" -eq 1 ] || dir=$top/node-$node
		"$@" || return 1
	done
}

# The node's process, if it runs: its working folder tells it from another one that got the same number.
running() {
	pid=$(cat "$dir/pid" 2>/dev/null) && [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$dir" ]
}

nth() { echo "$2" | tr ' ' '\n' | sed -n "$1p"; } # N LIST

# The nodes' ports, three a node, are chosen together: each has to know the others' controllers.
configure() {
	[ -z "${ADVERTISE:-}" ] || [ -n "$(nth "$count" "$ADVERTISE")" ] || die "ADVERTISE: a port for each node"
	ports=$(free_ports $((count * 3)))
	voters=
	for node in $nodes; do
		voters=$voters${voters:+,}$node@127.0.0.1:$(nth $((node * 3 - 1)) "$ports")
	done
	each_node configure_node
}

configure_node() {
	broker_port=$(nth $((node * 3 - 2)) "$ports")
	[ "$count" -gt 1 ] || broker_port=${PORT:-$broker_port}
	listeners=PLAINTEXT://127.0.0.1:$broker_port
	advertised=$listeners
	if [ -n "${ADVERTISE:-}" ]; then
		listeners=$listeners,PROXIED://127.0.0.1:$(nth $((node * 3)) "$ports")
		advertised=$advertised,PROXIED://127.0.0.1:$(nth "$node" "$ADVERTISE")
	fi
	partitions=4
	[ "$count" -eq 1 ] || partitions=8
	cat >"$dir/server.properties" <<-EOT
	process.roles=broker,controller
	node.id=$node
	listeners=$listeners,CONTROLLER://127.0.0.1:$(nth $((node * 3 - 1)) "$ports")
	advertised.listeners=$advertised
	inter.broker.listener.name=PLAINTEXT
	controller.listener.names=CONTROLLER
	listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
	controller.quorum.voters=$voters
	log.dirs=data
	auto.create.topics.enable=false
	# Fifty partitions each by default, which take their time.
	offsets.topic.num.partitions=$partitions
	offsets.topic.replication.factor=$count
	transaction.state.log.num.partitions=$partitions
	transaction.state.log.replication.factor=$count
	transaction.state.log.min.isr=$(((count + 1) / 2))
	# The tests shorten sessions and do not want to wait for members that will not come.
	group.initial.rebalance.delay.ms=0
	group.min.session.timeout.ms=$((count > 1 ? 500 : 1000))
	# After a SIGKILL the node's own old registration keeps it out for this long.
	broker.session.timeout.ms=$((count > 1 ? 2000 : 3000))
	broker.heartbeat.interval.ms=500
	num.network.threads=2
	num.io.threads=4
	log.cleaner.dedupe.buffer.size=4194304
	EOT
	[ "$count" -eq 1 ] || cat >>"$dir/server.properties" <<-EOT
	default.replication.factor=$count
	min.insync.replicas=$(((count + 1) / 2))
	unclean.leader.election.enable=false
	# Leaders, and so coordinators, move back soon after a node came back.
	leader.imbalance.check.interval.seconds=10
	leader.imbalance.per.broker.percentage=0
	# What a dead producer leaves open is aborted soon after its time is over.
	transaction.abort.timed.out.transaction.cleanup.interval.ms=2000
	# A cluster with nothing to do should leave the processor alone.
	metadata.max.idle.interval.ms=5000
	EOT
}

launch() {
	if running; then return; fi
	ln -sfn "$(cd "$libs" && pwd -P)" "$dir/libs"
	rm -rf "$dir/tmp"
	mkdir "$dir/tmp"
	: >"$dir/log"
	options=${KAFKA_JAVA_OPTS:--Xms64m -Xmx${HEAP:-$((count > 1 ? 256 : 384))m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1}
	# A session of its own: Ctrl-C on the terminal is for the caller, who then stops us in order. Relative paths: the
	# folder's name may hold anything.
	(
		cd "$dir"
		export LC_ALL=C.UTF-8
		# shellcheck disable=SC2086 -- several options
		setsid java $options -cp 'libs/*' -Dorg.slf4j.simpleLogger.showDateTime=true \
			-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS -Djava.io.tmpdir=tmp kafka.Kafka server.properties \
			</dev/null >>log 2>&1 &
		echo $! >pid
	)
}

# 0 once it serves, 1 if it ended or took too long.
await() {
	tries=$((start_timeout_s * 10))
	while ! grep -q 'Kafka Server started' "$dir/log"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null || return 1
		sleep 0.1
	done
}

formatted() { [ -f "$dir/data/meta.properties" ]; }

format() { # CLUSTER-ID
	rm -rf "$dir/data"
	ln -sfn "$(cd "$libs" && pwd -P)" "$dir/libs"
	(cd "$dir" && LC_ALL=C.UTF-8 java -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp 'libs/*' \
		kafka.tools.StorageTool format -t "$1" -c server.properties >format.log 2>&1) &
	formatting="$formatting $!"
}

prepare() {
	configure
	formatting=
	each_node format "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | cut -c1-22)"
	for pid in $formatting; do wait "$pid" || :; done
	each_node formatted || { cat "$dir/format.log" >&2; die "could not prepare $dir"; }
}

forget() { rm -rf "$dir/data"; }

# host:port,... of every node's listener of that name
addresses() { # PROPERTY LISTENER
	each_node address "$@" | paste -sd, -
}
address() { sed -n "s#^$1=\(.*,\)*$2://\([^,]*\).*#\2#p" "$dir/server.properties"; }

write_env() {
	echo "BROKERS=$(addresses advertised.listeners PLAINTEXT)" >"$top/env.new"
	proxied=$(addresses listeners PROXIED)
	[ -z "$proxied" ] || echo "PROXIED=$proxied" >>"$top/env.new"
	mv "$top/env.new" "$top/env"
}

start() {
	command -v java >/dev/null || die "Java is needed (deploy/deps.sh run)"
	fetch
	if each_node running; then say "already running in $top"; return; fi
	for attempt in 1 2 3; do
		each_node formatted || prepare
		each_node launch
		if each_node await; then
			[ -n "$one" ] || write_env
			return
		fi
		failed=$dir
		each_node halt 0
		# Somebody may have taken a port between our look and our bind: then, with other ones, again.
		if [ -f "$top/env" ] || [ -n "${PORT:-}" ] || ! grep -q 'Address already in use' "$failed/log"; then break; fi
		each_node forget
	done
	tail -n 40 "$failed/log" >&2
	die "did not start; its log is $failed/log"
}

# halt SECONDS: SIGTERM, and SIGKILL if it takes longer.
halt() {
	running || { rm -f "$dir/pid"; return 0; }
	tries=$(($1 * 20))
	[ "$tries" -eq 0 ] || kill -TERM "$pid" 2>/dev/null || :
	while [ "$tries" -gt 0 ] && running; do
		tries=$((tries - 1))
		sleep 0.05
	done
	if running; then
		kill -KILL "$pid" 2>/dev/null || :
		while running; do sleep 0.02; done
	fi
	rm -f "$dir/pid"
}

# Together: the last one would wait for the others' votes.
stop() {
	halting=
	for node in $nodes; do
		(nodes=$node; each_node halt "$stop_timeout_s") &
		halting="$halting $!"
	done
	for pid in $halting; do wait "$pid"; done
}

usage() { sed -n '5,17s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# The folder, how many nodes live in it, and which of them are meant.
locate() { # DIR [N]
	top=$(cd "$1" && pwd -P)
	one=${2:-}
	if [ "$command" = start ] && [ "${NODES:-1}" -gt 1 ] && [ ! -e "$top/server.properties" ] && [ ! -d "$top/node-1" ]; then
		# shellcheck disable=SC2046 -- several names
		(cd "$top" && mkdir $(seq -f node-%.0f "$NODES"))
	fi
	count=1
	while [ -d "$top/node-$((count + 1))" ]; do count=$((count + 1)); done
	nodes=$(seq -s ' ' "$count")
	[ -z "$one" ] || case " $nodes " in *" $one "*) nodes=$one ;; *) usage ;; esac
	[ -z "$one" ] || [ -f "$top/env" ] || die "there is no cluster in $top yet"
}

command=${1:-}
case $command in
fetch) fetch ;;
fetched) fetched ;;
libs) fetch >&2; (cd "$libs" && pwd -P) ;;
start | stop | kill)
	[ $# -eq 2 ] || [ $# -eq 3 ] || usage
	[ "$command" != start ] || mkdir -p "$2"
	[ -d "$2" ] || exit 0
	locate "$2" "${3:-}"
	case $command in
	start) start ;;
	stop) stop ;;
	kill) each_node halt 0 ;;
	esac
	;;
*) usage ;;
esac
