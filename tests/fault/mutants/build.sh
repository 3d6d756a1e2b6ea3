#!/bin/sh
# Builds workers that break their promises: build.sh OUT [NAME...] (all of them) makes OUT/NAME/campaign-worker (variant
# test) of a copy of the sources with NAME.patch applied, which says what is wrong with it and what has to notice. Most of
# its objects are those of BUILD (default: build), which are brought up to date first.
#
# A patch has to fit line by line: with fuzz it may land in another function, and be another mutant than it says.
#
# Migrate a mutant's database with the mutant (`campaign-worker migrate`): migrations are built in, and some change them.
set -eu

die() { echo "mutants: $*" >&2; exit 1; }

[ $# -ge 1 ] || die 'usage: build.sh OUT [NAME...]'
mkdir -p "$1"
out=$(cd "$1" && pwd -P)
shift
patches=$(cd "$(dirname "$0")" && pwd -P)
root=$(cd "$patches/../../.." && pwd -P)
cd "$root"
mkdir -p "${BUILD:-build}"
build=$(cd "${BUILD:-build}" && pwd -P)
unset MAKEFLAGS MFLAGS MAKELEVEL

[ $# -gt 0 ] || set -- $(cd "$patches" && ls ./*.patch | sed 's,^\./,,; s,\.patch$,,')

# program FILE: what runs, without what tells where and when it was compiled.
program() { objcopy --strip-all --remove-section .note.gnu.build-id "$1" "$1.bare" && cksum <"$1.bare" && rm "$1.bare"; }

# What make compares are the times: copies keep them, and what the patch touches is newer.
copy() { # NAME
	rm -rf "${out:?}/$1"
	mkdir -p "$out/$1/src/build/test"
	cp -pR Makefile worker schemas producer "$out/$1/src"
	cp -pR "$build/gen" "$out/$1/src/build"
	cp -pR "$build/test/obj" "$build/test/.packages" "$out/$1/src/build/test"
	rm -rf "$out/$1/src/build/test/obj/tests"
	# The dependencies begin with the object's path.
	find "$out/$1/src/build/test/obj" -name '*.d' -exec sed -i "s,^$given/,build/," {} +
}

make_mutant() { # NAME
	[ -f "$patches/$1.patch" ] || die "$1: there is no such patch"
	copy "$1"
	# As outside of any repository: inside of ours git would leave out what our .gitignore does.
	GIT_CEILING_DIRECTORIES=$out/$1 git -C "$out/$1/src" apply --whitespace=nowarn "$patches/$1.patch" >"$out/$1/log" 2>&1 ||
		{ cat "$out/$1/log" >&2; die "$1: the patch does not apply any more"; }
	make -C "$out/$1/src" BUILD=build DOWNLOADS="$build/downloads" VARIANT=test build/test/campaign-worker >"$out/$1/log" 2>&1 ||
		{ cat "$out/$1/log" >&2; die "$1: does not compile"; }
	if grep -i 'warning:' "$out/$1/log" >&2; then die "$1: the compiler warns"; fi
	mv "$out/$1/src/build/test/campaign-worker" "$out/$1/campaign-worker"
	[ "$(program "$out/$1/campaign-worker")" != "$original" ] || die "$1: is no other program than the original"
	rm -rf "$out/$1/src/build"
	echo "mutants: $1"
}

given=${BUILD:-build}
make BUILD="$given" VARIANT=test all >"$out/log" 2>&1 || { cat "$out/log" >&2; die 'the original does not compile'; }
cp "$build/test/campaign-worker" "$out/original"
original=$(program "$out/original")
rm "$out/original"
for name; do make_mutant "$name"; done
