#!/bin/sh
# Builds the benchmark's peer into ${BUILD:-build}/peer: its jars by Maven, once, into downloads/ beside it, then its
# classes. Does nothing when both are up to date.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
build=${BUILD:-$here/../../../build}
schemas=$here/../../../schemas/avro
jars=$build/downloads/peer
classes=$build/peer/classes

# The folder appears under its name only when it is whole, and carries the checksum of the pom it was made from.
fetch() {
	if [ "$(cat "$jars/pom.cksum" 2>/dev/null)" = "$(cksum <"$here/pom.xml")" ]; then return; fi
	command -v mvn >/dev/null || { echo "peer: Maven is needed to fetch its jars (deploy/deps.sh run)" >&2; exit 1; }
	mkdir -p "$build/downloads"
	new=$(mktemp -d "$build/downloads/.peer.XXXXXX")
	trap 'rm -rf "$new"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	(cd "$here" && mvn -q -B -Dmaven.repo.local="$new/m2" dependency:copy-dependencies -DoutputDirectory="$new/jars" \
		-DincludeScope=runtime >"$new/log" 2>&1) || { cat "$new/log" >&2; exit 1; }
	cksum <"$here/pom.xml" >"$new/jars/pom.cksum"
	chmod 755 "$new/jars"
	rm -rf "$jars"
	mv "$new/jars" "$jars"
	rm -rf "$new"
	trap - EXIT INT TERM HUP
}

fetch
[ -e "$classes" ] && [ -z "$(find "$here/src" "$here/pom.xml" "$schemas" -newer "$classes")" ] && exit
command -v javac >/dev/null || { echo "peer: a JDK is needed (deploy/deps.sh run)" >&2; exit 1; }
rm -rf "$classes" "$classes.new"
mkdir -p "$classes.new"
javac -encoding UTF-8 -Xlint:all -cp "$jars/*" -d "$classes.new" "$here"/src/*.java
cp "$schemas"/*.avsc "$classes.new"
mv "$classes.new" "$classes"
