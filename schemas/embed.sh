#!/bin/sh
# Prints C sources that hold text files of the tree: embed.sh schemas|sql|migrations, or embed.sh texts HEADER PREFIX FILE...
# Run from the top of the tree.
set -eu

text() { # file: its lines as one C string literal
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/\t"/' -e 's/$/\\n"/' "$1"
}

texts() { # HEADER PREFIX FILE...: each file as PREFIX_name, which HEADER declares
	header=$1 prefix=$2
	shift 2
	echo "#include \"$header\""
	for file; do
		name=${file##*/}
		echo "const char ${prefix}_$(echo "${name%.*}" | tr - _)[] ="
		text "$file"
		echo ';'
	done
}

case ${1-} in
texts)
	shift
	texts "$@"
	;;
schemas)
	texts schemas/duplicate.h schema schemas/avro/*.avsc
	;;
sql)
	texts worker/sql/sql.h sql worker/sql/*.sql
	;;
migrations)
	echo '#include "worker/sql/sql.h"'
	echo 'const struct migration migrations[] = {'
	for file in schemas/sql/[0-9]*.sql; do
		name=$(basename "$file" .sql)
		version=$(echo "$name" | sed 's/-.*//; s/^0*//')
		echo "{ $version, \"$name\","
		text "$file"
		echo '},'
	done
	echo '};'
	echo 'const size_t migration_count = sizeof migrations / sizeof migrations[0];'
	;;
*)
	echo "usage: embed.sh schemas|sql|migrations|texts HEADER PREFIX FILE..." >&2
	exit 2
	;;
esac
