#!/bin/sh
# Runs Python with the modules that the tests need: the python3 of PATH if it has them all, else Debian's.
for python in python3 /usr/bin/python3; do
	"$python" -c 'import pytest, xdist, psycopg2, confluent_kafka, avro' 2>/dev/null && exec "$python" "$@"
done
echo 'python3 lacks one of pytest, xdist, psycopg2, confluent_kafka, avro (deploy/deps.sh test)' >&2
exit 127
