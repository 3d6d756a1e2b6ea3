#!/bin/sh
# Installs the Debian packages that are missing, saying first what it will do, and builds librdkafka (librdkafka.sh says why).
#
#   deps.sh PURPOSE...     build: compile; run: the demo's Kafka and PostgreSQL; test: the test suites; bench, mutants: what
#                          the benchmark and the planted bugs need beside them
#   deps.sh programs       prints every program that is called here, and its package
#
# What counts is that the tool is there, not where it came from: a JDK or a node from elsewhere is as good.
# DEPS=0 installs nothing: it names what is missing and fails if that is anything.
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
missing=

# Every program that a script, Makefile or test here calls, and the package that brings it; Debian's Essential packages are
# not named. given: whoever has come so far has it. A line: PURPOSE PACKAGE PROBE..., where a probe is a program, one of a
# version at least (java=11), a library of pkg-config's or a Python module. tests/programs.py finds what is called and
# not here.
programs='
given git git
given make make
given apt apt-get
given dpkg dpkg dpkg-query
given mawk awk
build gcc cc
build binutils objcopy
build pkg-config pkg-config
build libavro-dev library:avro-c
build libpq-dev library:libpq
build libjansson-dev library:jansson
build libssl-dev library:libcrypto
build zlib1g-dev library:zlib
build libzstd-dev library:libzstd
build liblz4-dev library:liblz4
build libsasl2-dev library:libsasl2
run postgresql-client psql
run default-jre-headless java=11
fetch maven mvn
test libcmocka-dev library:cmocka
test gcc gcc
test clang clang
test binutils nm readelf
test mount mount umount
test default-jdk-headless javac=11
test python3 python3
test python3-pytest python:pytest
test python3-pytest-xdist python:xdist
test python3-psycopg2 python:psycopg2
test python3-confluent-kafka python:confluent_kafka
test python3-avro python:avro
test spin spin
test nodejs node=18
test npm npm
bench default-jdk-headless javac=17
mutants python3-pip pip3
'

have() { command -v "$1" >/dev/null 2>&1; }

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
pooler() { PATH=$PATH:/usr/sbin command -v pgbouncer; }
newer_than() { # TOOL MAJOR
	have "$1" && [ "$("$1" --version 2>&1 | sed -n '1s/[^0-9]*\([0-9]*\).*/\1/p')" -ge "$2" ]
}
# The python3 of PATH if it has all of them, as tests/run.sh chooses it; Debian's otherwise.
python() { python3 -c 'import pytest, xdist, psycopg2, confluent_kafka, avro' || /usr/bin/python3 -c "import $1"; }

probe() { # PROBE of the table
	case $1 in
	library:*) pkg-config --exists "${1#*:}" ;;
	python:*) python "${1#*:}" ;;
	*=*) newer_than "${1%=*}" "${1#*=}" ;;
	cc) have "${CC:-cc}" ;;
	*) have "$1" ;;
	esac
}

# lines PURPOSE: of the table, PACKAGE PROBE each.
lines() { echo "$programs" | awk -v purpose="$1" '$1 == purpose || purpose == "" { for (i = 3; i <= NF; i++) print $2, $i }'; }

need_all() { # PURPOSE
	while read -r package probe; do need "$package" probe "$probe"; done <<-END
	$(lines "$1")
	END
}

build() {
	need_all build
	need libc6-dev c_headers
}

run() {
	need postgresql server
	need_all run
	"$here/kafka.sh" fetched || need_all fetch
}

tests() {
	need_all test
	need pgbouncer pooler
	need libfaketime sh -c 'ls /usr/lib/*/faketime/libfaketimeMT.so.1'
}

bench() {
	need_all fetch
	need_all bench
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
		mutants) need_all mutants ;;
		*) sed -n '4,6s/^# *//p' "$0" >&2; exit 2 ;;
		esac
	done
}

# librdkafka is built, wherever Debian's source can be had; otherwise one that pkg-config finds will do.
complete() {
	case " $* " in *" build "*) ;; *) return 0 ;; esac
	if [ "${DEPS:-1}" != 0 ] && have apt-get; then
		sh "$here/librdkafka.sh" fetch
	elif ! sh "$here/librdkafka.sh" fetched && ! pkg-config --exists 'rdkafka >= 2.8' 'rdkafka < 2.10' 2>/dev/null; then
		echo "deps: missing: librdkafka 2.8 (deploy/librdkafka.sh fetch builds it)" >&2
		exit 1
	fi
}

[ $# -gt 0 ] || set -- ''
if [ "$*" = programs ]; then
	lines '' | awk '{ sub(/=.*/, "", $2); print $2, $1 }' | sort -u
	exit
fi
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
