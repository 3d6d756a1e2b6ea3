#!/bin/sh
# Installs the Debian packages that are missing, saying first what it will do, and builds librdkafka (librdkafka.sh says why).
#
#   deps.sh PURPOSE...     build: compile; run: the demo's Kafka and PostgreSQL; test: the test suites; bench: what the
#                          benchmark needs beside them
#
# What counts is that the tool is there, not where it came from: a JDK or a node from elsewhere is as good.
# DEPS=0 installs nothing: it names what is missing and fails if that is anything.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
missing=

have() { command -v "$1" >/dev/null 2>&1; }
library() { pkg-config --exists "$1" 2>/dev/null; }

# need PACKAGE PROBE...: the package is missing unless the probe succeeds.
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
}

c_headers() { echo '#include <stdio.h>' | "${CC:-cc}" -E - 2>/dev/null; }
server() {
	for initdb in /usr/lib/postgresql/*/bin/initdb "$(command -v initdb)"; do
		[ ! -x "$initdb" ] || [ "$("$initdb" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')" -lt 15 ] || return 0
	done
	return 1
}
newer_than() { # TOOL OPTION MAJOR
	have "$1" && [ "$("$1" "$2" 2>&1 | sed -n '1s/[^0-9]*\([0-9]*\).*/\1/p')" -ge "$3" ]
}
# The python3 of PATH if it has all of them, as tests/run.sh chooses it; Debian's otherwise.
python() { python3 -c 'import pytest, psycopg2, confluent_kafka, avro' || /usr/bin/python3 -c "import $1"; }

build() {
	need gcc have "${CC:-cc}"
	need libc6-dev c_headers
	need make have make
	need pkg-config have pkg-config
	need libavro-dev library avro-c
	need libpq-dev library libpq
	need libjansson-dev library jansson
	need libssl-dev library libcrypto
	need zlib1g-dev library zlib
	need libzstd-dev library libzstd
	need liblz4-dev library liblz4
	need libsasl2-dev library libsasl2
}

run() {
	need postgresql server
	need postgresql-client have psql
	need default-jre-headless newer_than java -version 11
	"$here/kafka.sh" fetched || need maven have mvn
}

tests() {
	need libcmocka-dev library cmocka
	need gcc have gcc
	need clang have clang
	need default-jdk-headless newer_than javac -version 11
	need python3-pytest python pytest
	need python3-psycopg2 python psycopg2
	need python3-confluent-kafka python confluent_kafka
	need python3-avro python avro
	need spin have spin
	need libfaketime sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
	need nodejs newer_than node --version 18
	need npm have npm
}

bench() {
	need maven have mvn
	need default-jdk-headless newer_than javac -version 17
}

# Debian's postgresql makes a cluster and starts it. Nobody here wants that one: for the time of the installation the
# switch that the package offers is off.
without_cluster() {
	conf=/etc/postgresql-common/createcluster.conf
	apt postgresql-common
	$sudo cp -p "$conf" "$conf.campaign"
	trap '$sudo mv -f "$conf.campaign" "$conf"' EXIT
	trap 'exit 130' INT TERM HUP
	echo 'create_main_cluster = false' | $sudo tee -a "$conf" >/dev/null
}

apt() {
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 install -y \
		--no-install-recommends "$@"
}

install() {
	sudo=
	if [ "$(id -u)" != 0 ]; then
		have sudo || { echo "deps: sudo is not there; as root: apt-get install$missing" >&2; exit 1; }
		sudo=sudo
	fi
	echo "deps: installing with ${sudo:+sudo }apt-get:$missing"
	$sudo apt-get -qq -o DPkg::Lock::Timeout=300 update
	case " $missing " in *" postgresql "*) without_cluster ;; esac
	# shellcheck disable=SC2086 -- several packages
	apt $missing
}

look() {
	missing=
	for purpose; do
		case $purpose in
		build) build ;;
		run) run ;;
		test) tests ;;
		bench) bench ;;
		*) sed -n '4,5s/^# *//p' "$0" >&2; exit 2 ;;
		esac
	done
}

# librdkafka is built, wherever Debian's source can be had; otherwise one that pkg-config finds will do.
complete() {
	case " $* " in *" build "*) ;; *) return 0 ;; esac
	if [ "${DEPS:-1}" != 0 ] && have apt-get; then
		sh "$here/librdkafka.sh" fetch
	elif ! sh "$here/librdkafka.sh" fetched && ! { library 'rdkafka >= 2.8' && library 'rdkafka < 2.10'; }; then
		echo "deps: missing: librdkafka 2.8 (deploy/librdkafka.sh fetch builds it)" >&2
		exit 1
	fi
}

[ $# -gt 0 ] || set -- ''
look "$@"
if [ -z "$missing" ]; then
	complete "$@"
	exit
fi
if [ "${DEPS:-1}" = 0 ]; then
	echo "deps: missing:$missing (DEPS=0: not installed)" >&2
	exit 1
fi
if ! have apt-get; then
	echo "deps: missing:$missing (Debian's names; there is no apt-get here)" >&2
	exit 1
fi
install
look "$@"
[ -z "$missing" ] || { echo "deps: still missing after the installation:$missing" >&2; exit 1; }
complete "$@"
