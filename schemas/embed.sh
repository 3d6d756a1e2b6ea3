#!/bin/sh
# Prints C sources that hold text files of the tree: embed.sh schemas|sql|migrations. Run from the top of the tree.
set -eu

text() { # file: its lines as one C string literal
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/\t"/' -e 's/$/\\n"/' "$1"
}

case ${1-} in
schemas)
	echo '#include "schemas/codec.h"'
	for name in command result; do
		echo "const char ${name}_schema_json[] ="
		text "schemas/avro/duplicate-campaign-$name.avsc"
		echo ';'
	done
	;;
sql)
	echo '#include "worker/sql/sql.h"'
	for file in worker/sql/*.sql; do
		name=$(basename "$file" .sql | tr - _)
		echo "const char sql_$name[] ="
		text "$file"
		echo ';'
	done
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
	echo "usage: embed.sh schemas|sql|migrations" >&2
	exit 2
	;;
esac
