#include "worker/kafka/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "worker/base/clock.h"
#include "worker/base/must.h"
#include "worker/kafka/mark.h"

bool group_is_member(const struct rd_kafka_consumer_group_metadata_s *metadata)
{
	const char *id = rd_kafka_consumer_group_metadata_member_id(metadata);

	return id && *id && rd_kafka_consumer_group_metadata_generation_id(metadata) >= 0;
}

static struct group_member *copy_members(const struct rd_kafka_group_info *group)
{
	struct group_member *members = must(calloc((size_t)group->member_cnt + 1, sizeof *members));

	for (int i = 0; i < group->member_cnt; i++) {
		snprintf(members[i].client_id, sizeof members[i].client_id, "%s", group->members[i].client_id);
		snprintf(members[i].host, sizeof members[i].host, "%s", group->members[i].client_host);
	}
	return members;
}

/* DescribeGroups says of a group of the consumer protocol (KIP-848) that it is dead, and ListGroups lists it. */
static int read_group(const struct rd_kafka_group_info *group, struct group_member **members, size_t *n, struct fault *fault)
{
	if (group->err)
		return fault_set(fault, FAULT_RETRY, "members of group %s: %s", group->group, rd_kafka_err2str(group->err));
	if (strcmp(group->state, "Dead") == 0)
		return fault_set(fault, FAULT_WAIT, "group %s is one of the consumer protocol (KIP-848), by which no campaign-worker joins: "
				 "another consumer is in it, or was the last one; kafka-consumer-groups.sh --describe --members names it",
				 group->group);
	*members = copy_members(group);
	*n = (size_t)group->member_cnt;
	return 0;
}

/* The Admin API's DescribeConsumerGroups is not used: when a coordinator is lost in the midst of it, librdkafka aborts the
 * process (assertion in rd_kafka_enq_once_del_source_return; librdkafka issues 3663 and 4605, open). rd_kafka_list_groups
 * asks every broker. */
int group_list_members(struct rd_kafka_s *rk, const char *name, struct group_member **members, size_t *n, int timeout_ms,
		       struct fault *fault)
{
	const struct rd_kafka_group_list *list = NULL;
	rd_kafka_resp_err_t err = rd_kafka_list_groups(rk, name, &list, timeout_ms);
	int done = 0;

	*members = NULL;
	*n = 0;
	if (list && list->group_cnt == 1) /* another broker's missing answer is no matter: only the coordinator has the group */
		done = read_group(&list->groups[0], members, n, fault);
	else if (err)
		done = fault_set(fault, FAULT_RETRY, "members of group %s: %s", name, rd_kafka_err2str(err));
	if (list)
		rd_kafka_group_list_destroy(list);
	return done;
}

int group_find_member(struct rd_kafka_s *rk, const char *name, const char *client_id, bool *found, int timeout_ms,
		      struct fault *fault)
{
	struct group_member *members;
	size_t n;

	if (group_list_members(rk, name, &members, &n, timeout_ms, fault) < 0)
		return -1;
	if (n == 0) {
		free(members);
		return fault_set(fault, FAULT_RETRY, "group %s has no member, and we are one: its coordinator is moving", name);
	}
	*found = false;
	for (size_t i = 0; i < n; i++)
		*found |= strcmp(members[i].client_id, client_id) == 0;
	free(members);
	return 0;
}

struct commit {
	bool done;
	rd_kafka_resp_err_t err;
};

static void on_commit(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list, void *opaque)
{
	struct commit *commit = opaque;

	(void)rk;
	commit->done = true;
	commit->err = err;
	for (int i = 0; list && i < list->cnt && !commit->err; i++)
		commit->err = list->elems[i].err;
}

/* Commits with a deadline, which rd_kafka_commit does not have. */
static void commit_offsets(rd_kafka_t *rk, const char *topic, const struct start *starts, size_t n, int timeout_ms,
			   struct commit *commit)
{
	int64_t deadline = clock_monotonic_ms() + timeout_ms;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);

	for (size_t i = 0; i < n; i++) {
		rd_kafka_topic_partition_t *offset = rd_kafka_topic_partition_list_add(list, topic, starts[i].partition);

		offset->offset = starts[i].offset;
		mark_set(offset);
	}
	commit->err = rd_kafka_commit_queue(rk, list, queue, on_commit, commit);
	commit->done = commit->err != RD_KAFKA_RESP_ERR_NO_ERROR;
	while (!commit->done && clock_monotonic_ms() < deadline)
		rd_kafka_queue_poll_callback(queue, 50);
	rd_kafka_queue_destroy(queue);
	rd_kafka_topic_partition_list_destroy(list);
}

int group_commit(struct rd_kafka_s *rk, const char *topic, const struct start *starts, size_t n, int timeout_ms, struct fault *fault)
{
	struct commit commit = { 0 };

	commit_offsets(rk, topic, starts, n, timeout_ms, &commit);
	if (!commit.done)
		return fault_set(fault, FAULT_REBUILD, "the group coordinator gave no single answer to an offset commit: joining anew");
	switch (commit.err) {
	case RD_KAFKA_RESP_ERR_NO_ERROR:
		return 0;
	case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
	case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
	case RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS:
	case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
	case RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST:
		return fault_set(fault, FAULT_FENCED, "the group has moved on: %s", rd_kafka_err2str(commit.err));
	case RD_KAFKA_RESP_ERR__TIMED_OUT:
	case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
	case RD_KAFKA_RESP_ERR__TRANSPORT:
		return fault_set(fault, FAULT_REBUILD, "offset commit: %s: joining anew", rd_kafka_err2str(commit.err));
	default:
		return fault_set(fault, FAULT_WAIT, "offset commit of group on %s: %s", topic, rd_kafka_err2str(commit.err));
	}
}
