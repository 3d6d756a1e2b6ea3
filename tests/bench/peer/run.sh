#!/bin/sh
# Runs the peer until SIGTERM; says `ready` on stderr when it has partitions, and at its end prints how much it did.
# Environment: BROKERS COMMANDS RESULTS GROUP INSTANCE JDBC_URL PGUSER PGPASSWORD, BATCH=500, MODE=rows (or sets, single).
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
build=${BUILD:-$here/../../../build}

# shellcheck disable=SC2086 -- several options
exec java ${PEER_JAVA_OPTS:--Xms512m -Xmx512m -XX:+UseSerialGC} -Dfile.encoding=UTF-8 \
	-Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$build/peer/classes:$build/downloads/peer/*" Peer
