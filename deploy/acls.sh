#!/bin/sh
# The access rights in Kafka, as commands for its kafka-acls.sh:
#
#   deploy/acls.sh --bootstrap-server broker:9093 --command-config admin.properties          prints them
#   deploy/acls.sh --bootstrap-server broker:9093 --command-config admin.properties | sh -e  gives the rights
#
# Who may write commands can act as any API key whose digest it has seen: gateways and nobody else. Results hold every
# account group's campaign names: named subscribers, no wildcard. Dead letters hold what was published, digests included:
# operators only. A topic without any ACL is open where allow.everyone.if.no.acl.found is set; it should not be.
#
# Principals (several: blanks between) and names are taken from the environment:
set -eu

GATEWAYS=${GATEWAYS:-User:campaign-gateway}          # publish commands, await their results
WORKERS=${WORKERS:-User:campaign-worker}
SUBSCRIBERS=${SUBSCRIBERS:-}                         # read results only, each in a group NAME or NAME.*
OPERATORS=${OPERATORS:-User:campaign-operator}       # make topics, read dead letters
COMMANDS=${COMMANDS:-campaigns.duplicate.commands.v1}
RESULTS=${RESULTS:-campaigns.duplicate.results.v1}
DEAD_LETTERS=${DEAD_LETTERS:-campaigns.duplicate.dead-letters.v1}
GROUP=${GROUP:-campaign-duplicator}                  # the worker's setting group

case ${1:-} in --bootstrap-server*) ;; *) sed -n '4,5s/^# *//p' "$0" >&2; exit 2 ;; esac

quote() { printf " '%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }

connection=
for word; do connection="$connection$(quote "$word")"; done

allow() { # PRINCIPALS OPTION...
	[ -n "$1" ] || return 0
	printf '%s' "${KAFKA_ACLS:-kafka-acls.sh}$connection --add"
	for principal in $1; do printf ' --allow-principal'; quote "$principal"; done
	shift
	for word; do quote "$word"; done
	echo
}

allow "$GATEWAYS" --operation Write --operation Describe --topic "$COMMANDS"
allow "$GATEWAYS" --operation Read --operation Describe --topic "$RESULTS"
# Their producer is idempotent without being transactional. Since Kafka 2.8 it needs no more than Write on the topic.
allow "$GATEWAYS" --operation IdempotentWrite --cluster

allow "$WORKERS" --operation Read --operation Describe --operation DescribeConfigs --topic "$COMMANDS"
allow "$WORKERS" --operation Write --operation Describe --operation DescribeConfigs --topic "$RESULTS" --topic "$DEAD_LETTERS"
allow "$WORKERS" --operation Read --operation Describe --group "$GROUP"
# <group>.campaign-worker/<instance>/<lane>, of earlier versions <group>.<instance>.<lane>; also those of workers that are gone, whose transactions a successor ends.
allow "$WORKERS" --operation Write --operation Describe --transactional-id "$GROUP." --resource-pattern-type prefixed

for subscriber in $SUBSCRIBERS; do
	allow "$subscriber" --operation Read --operation Describe --topic "$RESULTS"
	allow "$subscriber" --operation Read --group "${subscriber#*:}"
	# A prefix without the delimiter would take in the groups of another one whose name is longer.
	allow "$subscriber" --operation Read --group "${subscriber#*:}." --resource-pattern-type prefixed
done

for topic in "$COMMANDS" "$RESULTS" "$DEAD_LETTERS"; do
	allow "$OPERATORS" --operation Create --operation Describe --operation DescribeConfigs --topic "$topic"
done
allow "$OPERATORS" --operation Read --topic "$DEAD_LETTERS"
allow "$OPERATORS" --operation Describe --group "$GROUP"
