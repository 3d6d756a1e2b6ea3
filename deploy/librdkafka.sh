#!/bin/sh
# The librdkafka that this project is built with and proven on: the source that Debian 13 ships, 2.8.0, taken with apt, which
# checks its signature, and built into build/downloads/ for this project alone. Nothing of the system is replaced; the Makefile
# lets pkg-config find it there, and it is linked statically.
#
#   librdkafka.sh fetch    build it, once
#   librdkafka.sh fetched  whether it is there
#
# Why not another: Debian 12's 2.0.2 waits for short timers by spinning, which took a fifth of the worker's CPU, and stops
# fetching for a second whenever enough is fetched. With 2.14.2 a lane can hang for ever when the broker that coordinates its
# group dies: brokers are dropped with the metadata since 2.10, and what waits for one is not looked at again
# (tests/component/test_publisher.c, test_group_coordinator_moves). 2.8.0 as it is can crash when a topic is made anew: mended here
# as upstream did (commit dc48bedd1, in 2.10).
set -eu

here=$(cd "$(dirname "$0")" && pwd -P)
downloads=${BUILD:-$here/../build}/downloads
release=trixie
version=2.8.0

say() { echo "librdkafka: $*"; }
die() { echo "librdkafka: $*" >&2; exit 1; }

# apt with a list of its own, of that release's sources and nothing else.
sources() {
	apt-get -qq -o Dir::Etc::sourcelist="$new/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$new/lists" \
		-o APT::Sandbox::User= "$@"
}

# Debian's mirror, as this machine's apt knows it.
mirror() { apt-get "$@" indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1; }

fetch() {
	mirror=$(mirror)
	if [ -z "$mirror" ]; then # its lists may have been removed, as images do
		mkdir -p "$new/system/partial"
		apt-get -qq -o Dir::State::lists="$new/system" -o APT::Sandbox::User= update
		mirror=$(mirror -o Dir::State::lists="$new/system")
	fi
	[ -n "$mirror" ] || die "apt knows no mirror of Debian: librdkafka $version is wanted, from its own source"
	say "fetching the source of $release (librdkafka, 5 MB)"
	mkdir -p "$new/lists/partial" "$new/tree"
	echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$new/sources.list"
	sources update
	(cd "$new" && sources source --download-only librdkafka)
	[ -e "$new/librdkafka_$version.orig.tar.gz" ] || die "$release has another version than $version"
	tar -xzf "$new"/librdkafka_*.orig.tar.gz -C "$new/tree" --strip-components=1
}

mend() {
	file=$new/tree/src/rdkafka_topic.c
	sed -i 's/else if (leader_epoch < rktp->rktp_leader_epoch)/else if (rktp \&\& leader_epoch < rktp->rktp_leader_epoch)/' "$file"
	grep -q 'else if (rktp && leader_epoch < rktp->rktp_leader_epoch)' "$file" || die "the source is not the one that was to be mended"
}

# Without curl, as Debian 12 does. configure asks for a C++ compiler, though the C library alone is built: any compiler will do.
build() {
	say "building it for this project alone (half a minute; kept in build/downloads/)"
	(unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS CPPFLAGS LDFLAGS LDLIBS && cd "$new/tree" &&
		CXX="${CC:-cc}" ./configure --no-download --prefix="$new/made" --libdir="$new/made/lib" --disable-curl && make -j2 -C src &&
		make -C src install) >"$new/log" 2>&1 || {
		tail -n 30 "$new/log" >&2
		die "could not be built"
	}
}

# What is needed to link it statically, under the name that everybody asks for, in a folder that may be moved.
keep() {
	mkdir -p "$new/librdkafka/lib/pkgconfig"
	mv "$new/made/include" "$new/librdkafka/"
	mv "$new/made/lib/librdkafka.a" "$new/librdkafka/lib/"
	sed 's,^prefix=.*,prefix=${pcfiledir}/../..,; s,^libdir=.*,libdir=${prefix}/lib,; s,^includedir=.*,includedir=${prefix}/include,
		s,${pc_sysrootdir},,' "$new/made/lib/pkgconfig/rdkafka-static.pc" >"$new/librdkafka/lib/pkgconfig/rdkafka.pc"
	cksum <"$0" >"$new/librdkafka/cksum"
	kept=$(mktemp -d "$downloads/.librdkafka.XXXXXX")
	cp -R "$new/librdkafka" "$kept/"
	rm -rf "$downloads/librdkafka"
	mv "$kept/librdkafka" "$downloads/"
	rmdir "$kept"
}

fetched() { [ "$(cat "$downloads/librdkafka/cksum" 2>/dev/null)" = "$(cksum <"$0")" ]; }

case ${1:-} in
fetched) fetched ;;
fetch)
	if fetched; then exit 0; fi
	mkdir -p "$downloads"
	exec 9>"$downloads/.librdkafka.lock"
	flock 9
	if fetched; then exit 0; fi
	new=$(mktemp -d) # not in build/: configure takes no path with blanks
	trap 'rm -rf "$new"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	fetch
	mend
	build
	keep
	;;
*) sed -n '/^#   lib/s/^# *//p' "$0" >&2; exit 2 ;;
esac
