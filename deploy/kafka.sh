#!/bin/sh
# A throw-away Apache Kafka: one combined KRaft node (broker and controller) on the loopback interface, all of its data
# in one folder. For the demo and the tests; nothing of it is meant for production.
#
#   kafka.sh fetch         the jars (Maven, deploy/kafka/pom.xml) into build/downloads/, once
#   kafka.sh fetched       whether they are there
#   kafka.sh libs          fetches them if need be and prints their folder
#   kafka.sh start DIR     start, wait until it answers, write DIR/env (BROKERS=host:port); started again on the same
#                          folder, it keeps ports and data. PORT: the port wanted (else a free one), HEAP: 384m
#   kafka.sh stop DIR      SIGTERM, then SIGKILL
#   kafka.sh kill DIR      SIGKILL at once
#
# KAFKA_JAVA_OPTS replaces the options of the JVM below.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
build=${BUILD:-$here/../build}
version=$(sed -n 's,.*<kafka\.version>\(.*\)</kafka\.version>.*,\1,p' "$here/kafka/pom.xml")
libs=$build/downloads/kafka-$version
start_timeout_s=60
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

# A port nobody listens on, below the range from which the kernel serves outgoing connections.
free_port() {
	taken=" $(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed -n 's/^ *[0-9]*: [0-9A-F]*:\([0-9A-F]*\) .*/\1/p' | tr '\n' ' ')"
	while :; do
		port=$((15000 + $(od -An -N2 -tu2 /dev/urandom) % 17000))
		case $taken in *" $(printf %04X "$port") "*) ;; *) break ;; esac
	done
	echo "$port"
}

# The node's process, if it runs: its working folder tells it from another one that got the same number.
running() {
	pid=$(cat "$dir/pid" 2>/dev/null) && [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$dir" ]
}

configure() {
	broker_port=${PORT:-$(free_port)}
	controller_port=$(free_port)
	while [ "$controller_port" = "$broker_port" ]; do controller_port=$(free_port); done
	cat >"$dir/server.properties" <<-EOT
	process.roles=broker,controller
	node.id=1
	listeners=PLAINTEXT://127.0.0.1:$broker_port,CONTROLLER://127.0.0.1:$controller_port
	advertised.listeners=PLAINTEXT://127.0.0.1:$broker_port
	controller.listener.names=CONTROLLER
	listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
	controller.quorum.voters=1@127.0.0.1:$controller_port
	log.dirs=data
	auto.create.topics.enable=false
	# Fifty partitions each by default, which take their time.
	offsets.topic.num.partitions=4
	offsets.topic.replication.factor=1
	transaction.state.log.num.partitions=4
	transaction.state.log.replication.factor=1
	transaction.state.log.min.isr=1
	# The tests shorten sessions and do not want to wait for members that will not come.
	group.initial.rebalance.delay.ms=0
	group.min.session.timeout.ms=1000
	# After a SIGKILL the node's own old registration keeps it out for this long.
	broker.session.timeout.ms=3000
	broker.heartbeat.interval.ms=500
	num.network.threads=2
	num.io.threads=4
	log.cleaner.dedupe.buffer.size=4194304
	EOT
}

launch() {
	rm -f "$dir/ended"
	: >"$dir/log"
	options=${KAFKA_JAVA_OPTS:--Xms64m -Xmx${HEAP:-384m} -XX:+UseSerialGC -XX:TieredStopAtLevel=1}
	# A session of its own: Ctrl-C on the terminal is for the caller, who then stops us in order. Relative paths: the
	# folder's name may hold anything.
	(
		cd "$dir"
		export LC_ALL=C.UTF-8
		# shellcheck disable=SC2086 -- several options
		setsid java $options -cp 'libs/*' -Dorg.slf4j.simpleLogger.showDateTime=true \
			-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS kafka.Kafka server.properties \
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

format() {
	(cd "$dir" && LC_ALL=C.UTF-8 java -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp 'libs/*' \
		kafka.tools.StorageTool format -t "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n' | cut -c1-22)" \
		-c server.properties >format.log 2>&1) || { cat "$dir/format.log" >&2; die "could not prepare $dir"; }
}

start() {
	command -v java >/dev/null || die "Java is needed (deploy/deps.sh run)"
	fetch
	if running; then say "already running in $dir"; return; fi
	ln -sfn "$(cd "$libs" && pwd -P)" "$dir/libs"
	for attempt in 1 2 3; do
		if [ ! -f "$dir/data/meta.properties" ]; then
			configure
			format
		fi
		launch
		if await; then
			echo "BROKERS=$(sed -n 's,^advertised.listeners=PLAINTEXT://,,p' "$dir/server.properties")" >"$dir/env"
			return
		fi
		halt 0
		# Somebody may have taken the port between our look and our bind: then, with other ones, again.
		if [ -f "$dir/env" ] || [ -n "${PORT:-}" ] || ! grep -q 'Address already in use' "$dir/log"; then break; fi
		rm -rf "$dir/data"
	done
	tail -n 40 "$dir/log" >&2
	die "did not start; its log is $dir/log"
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

usage() { sed -n '5,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }

command=${1:-}
case $command in
fetch) fetch ;;
fetched) fetched ;;
libs) fetch >&2; (cd "$libs" && pwd -P) ;;
start | stop | kill)
	[ $# -eq 2 ] || usage
	[ "$command" != start ] || mkdir -p "$2"
	[ -d "$2" ] || exit 0
	dir=$(cd "$2" && pwd -P)
	case $command in
	start) start ;;
	stop) halt "$stop_timeout_s" ;;
	kill) halt 0 ;;
	esac
	;;
*) usage ;;
esac
