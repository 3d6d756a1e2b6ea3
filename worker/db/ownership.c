#include "worker/db/ownership.h"

#include <stdio.h>
#include <string.h>

#include "worker/base/failpoint.h"
#include "worker/db/rows.h"
#include "worker/sql/sql.h"

const struct statement ownership_statements[] = {
	{ "fence", "SELECT partition_fence($1::text, $2::text, $3::text, $4::int[], $5::bigint[], $6::bigint[], "
		   "$7::bigint[])" },
	{ "claim", sql_claim },
	{ "unblock", sql_unblock },
	{ "owned", sql_owned },
	{ "resumed", "UPDATE partition_owner SET resume_from = NULL, confirmed_offset = $6::bigint, executed_offset = $6::bigint "
		     "WHERE cluster_id = $1::text AND topic = $2::text AND group_id = $3::text AND partition = $4::int "
		     "AND epoch = $5::bigint RETURNING 1" },
	/* Each order brings a new epoch. */
	{ "orders", "SELECT count(*) FROM partition_owner AS o "
		    "JOIN unnest($4::int[], $5::bigint[]) AS p (partition, epoch) USING (partition) "
		    "WHERE o.cluster_id = $1::text AND o.topic = $2::text AND o.group_id = $3::text AND o.resume_from IS NOT NULL "
		    "AND o.epoch <> p.epoch" },
	{ "refuse_order", sql_refuse_order },
	{ "order_resume", sql_order_resume },
	{ NULL, NULL },
};

/* Adds the parameters that statements on partition_owner begin with: cluster, topic, group. */
static struct params *owner_params(struct session *session, const char *cluster_id, const char *topic)
{
	params_reset(&session->params);
	params_add_text(&session->params, cluster_id);
	params_add_text(&session->params, topic);
	params_add_text(&session->params, session->settings.group);
	return &session->params;
}

static void copy_text(char *copy, size_t size, const struct pg_result *rows, int row, int column)
{
	const char *text = rows_text(rows, row, column, NULL);

	snprintf(copy, size, "%s", text ? text : "");
}

static void read_owned(const struct pg_result *rows, struct claim *claims, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct claim *claim = &claims[i];
		struct owned *owned = &claim->owned;

		*claim = (struct claim){ .partition = claim->partition };
		for (int row = 0; row < rows_count(rows); row++) {
			if (rows_int4(rows, row, 0) != claim->partition)
				continue;
			copy_text(owned->other_group, sizeof owned->other_group, rows, row, 1);
			copy_text(owned->moved_from, sizeof owned->moved_from, rows, row, 2);
			owned->confirmed = rows_int8(rows, row, 3);
			owned->executed = rows_int8(rows, row, 4);
			owned->resume_from = rows_int8(rows, row, 5);
			copy_text(claim->transactional_id, TRANSACTIONAL_ID_SIZE, rows, row, 6);
		}
		claim->refused = owned->other_group[0] || owned->moved_from[0];
	}
}

static void read_epochs(const struct pg_result *rows, struct claim *claims, size_t n)
{
	for (int row = 0; row < rows_count(rows); row++)
		for (size_t i = 0; i < n; i++)
			if (rows_int4(rows, row, 0) == claims[i].partition) {
				claims[i].epoch = rows_int8(rows, row, 1);
				copy_text(claims[i].previous_transactional_id, TRANSACTIONAL_ID_SIZE, rows, row, 2);
			}
}

static void add_partitions(struct params *params, const struct claim *claims, size_t n)
{
	params_array_begin(params, PARAM_INT4);
	for (size_t i = 0; i < n; i++)
		params_array_int4(params, claims[i].partition);
	params_array_end(params);
}

static void add_epochs(struct params *params, const struct fence_partition *partitions, size_t n)
{
	params_array_begin(params, PARAM_INT4);
	for (size_t i = 0; i < n; i++)
		params_array_int4(params, partitions[i].partition);
	params_array_end(params);
	params_array_begin(params, PARAM_INT8);
	for (size_t i = 0; i < n; i++)
		params_array_int8(params, partitions[i].epoch);
	params_array_end(params);
}

static int send_claim(struct session *session, const char *cluster_id, const char *topic, const struct claim *claims, size_t n,
		      struct fault *fault)
{
	struct params *params = owner_params(session, cluster_id, topic);
	char patience[64];

	params_add_text(params, session->settings.transactional_id);
	add_partitions(params, claims, n);
	snprintf(patience, sizeof patience, "SET LOCAL lock_timeout = %d", session->settings.claim_timeout_ms);
	if (connection_send(session->connection, NULL, "BEGIN ISOLATION LEVEL READ COMMITTED", NULL, fault) < 0 ||
	    connection_send(session->connection, NULL, patience, NULL, fault) < 0 ||
	    connection_send(session->connection, "claim", NULL, params, fault) < 0)
		return -1;
	params = owner_params(session, cluster_id, topic);
	add_partitions(params, claims, n);
	if (connection_send(session->connection, "owned", NULL, params, fault) < 0)
		return -1;
	return connection_send(session->connection, NULL, "COMMIT", NULL, fault);
}

/* A claim waited in vain for a row's lock: ends the sessions that may hold it for ever, so that the next try succeeds. */
static void unblock_claim(struct session *session, const char *cluster_id, const char *topic, const struct claim *claims, size_t n,
			  struct fault *fault)
{
	struct params *params = owner_params(session, cluster_id, topic);
	struct pg_result *result;
	struct fault other;

	add_partitions(params, claims, n);
	if (session_run_one(session, "unblock", &result, &other) < 0)
		return;
	if (rows_int8(result, 0, 0) > 0)
		fault_set(fault, FAULT_RETRY, "a session that waits for its client held these partitions: it was ended");
	rows_free(result);
}

int ownership_claim(struct session *session, const char *cluster_id, const char *topic, struct claim *claims, size_t n,
		    struct fault *fault)
{
	struct pg_result *rows = NULL, *owned = NULL;
	int done = -1;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	failpoint("claim-before");
	if (send_claim(session, cluster_id, topic, claims, n, fault) < 0 || connection_sync(session->connection, -1, fault) < 0 ||
	    connection_receive(session->connection, NULL, fault) < 0 || connection_receive(session->connection, NULL, fault) < 0 ||
	    connection_receive(session->connection, &rows, fault) < 0 || connection_receive(session->connection, &owned, fault) < 0) {
		bool locked = strcmp(fault->sqlstate, "55P03") == 0;

		if (locked)
			fault->kind = FAULT_RETRY;
		session_give_up(session, fault);
		if (locked)
			unblock_claim(session, cluster_id, topic, claims, n, fault);
		goto out;
	}
	(void)connection_commit_was_doubtful(session->connection);
	if (connection_receive(session->connection, NULL, fault) < 0 || connection_finish(session->connection, fault) < 0) {
		session_give_up(session, fault);
		goto out;
	}
	if (session_confirm_commit(session, fault) < 0)
		goto out;
	failpoint("claim-after");
	read_owned(owned, claims, n);
	read_epochs(rows, claims, n);
	done = 0;
out:
	rows_free(rows);
	rows_free(owned);
	return done;
}

int ownership_look(struct session *session, const char *cluster_id, const char *topic, struct claim *claims, size_t n,
		   struct fault *fault)
{
	struct pg_result *rows;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	add_partitions(owner_params(session, cluster_id, topic), claims, n);
	if (session_run_one(session, "owned", &rows, fault) < 0)
		return -1;
	read_owned(rows, claims, n);
	rows_free(rows);
	return 0;
}

static int owned_by_somebody_else(const char *topic, int32_t partition, struct fault *fault)
{
	return fault_set(fault, FAULT_FENCED, "partition %d of topic %s is owned by somebody else", partition, topic);
}

int ownership_resumed(struct session *session, const char *cluster_id, const char *topic, const struct claim *claim, int64_t offset,
		      struct fault *fault)
{
	struct params *params = owner_params(session, cluster_id, topic);
	struct pg_result *result;
	int rows;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	params_add_int4(params, claim->partition);
	params_add_int8(params, claim->epoch);
	params_add_int8(params, offset);
	if (session_run_one(session, "resumed", &result, fault) < 0)
		return -1;
	rows = rows_count(result);
	rows_free(result);
	return rows > 0 ? 0 : owned_by_somebody_else(topic, claim->partition, fault);
}

int ownership_refuse_order(struct session *session, const char *cluster_id, const char *topic, const struct claim *claim,
			   const char *why, char *who, size_t who_size, struct fault *fault)
{
	struct params *params = owner_params(session, cluster_id, topic);
	struct pg_result *result;
	int rows;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	params_add_int4(params, claim->partition);
	params_add_int8(params, claim->epoch);
	params_add_text(params, why);
	if (session_run_one(session, "refuse_order", &result, fault) < 0)
		return -1;
	rows = rows_count(result);
	if (rows > 0)
		copy_text(who, who_size, result, 0, 0);
	rows_free(result);
	return rows > 0 ? 0 : owned_by_somebody_else(topic, claim->partition, fault);
}

int ownership_count_orders(struct session *session, const char *cluster_id, const char *topic,
			   const struct fence_partition *partitions, size_t n, int64_t *orders, struct fault *fault)
{
	struct pg_result *result;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	add_epochs(owner_params(session, cluster_id, topic), partitions, n);
	if (session_run_one(session, "orders", &result, fault) < 0)
		return -1;
	*orders = rows_int8(result, 0, 0);
	rows_free(result);
	return 0;
}

int ownership_order_resume(struct session *session, const char *cluster_id, const char *topic, int32_t partition, int64_t from,
			   const char *who, struct fault *fault)
{
	struct params *params = &session->params;
	struct pg_result *result;
	int done;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	params_reset(params);
	params_add_text(params, cluster_id);
	params_add_text(params, topic);
	params_add_int4(params, partition);
	params_add_text(params, session->settings.group);
	params_add_int8(params, from);
	params_add_text(params, who);
	done = session_run_one(session, "order_resume", &result, fault);
	rows_free(result);
	return done;
}

/* ---- the fence ---- */

static void add_offset(struct params *params, int64_t offset)
{
	if (offset == OFFSET_NONE)
		params_array_null(params);
	else
		params_array_int8(params, offset);
}

void ownership_add_fence(struct session *session, const struct fence *fence)
{
	struct params *params = owner_params(session, fence->cluster_id, fence->topic);

	add_epochs(params, fence->partitions, fence->count);
	params_array_begin(params, PARAM_INT8);
	for (size_t i = 0; i < fence->count; i++)
		add_offset(params, fence->partitions[i].start_offset);
	params_array_end(params);
	params_array_begin(params, PARAM_INT8);
	for (size_t i = 0; i < fence->count; i++)
		add_offset(params, fence->partial ? OFFSET_NONE : fence->partitions[i].end_offset);
	params_array_end(params);
}

int ownership_confirm(struct session *session, const struct fence *fence, struct fault *fault)
{
	struct pg_result *result;
	int done;

	if (!connection_is_open(session->connection))
		return session_not_connected(fault);
	ownership_add_fence(session, fence);
	done = session_run_one(session, "fence", &result, fault);
	rows_free(result);
	return done;
}
