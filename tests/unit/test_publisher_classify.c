/* What a transactional call's error asks for: fatal before abort before retry, and whatever is open ends the producer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>

#include "tests/fault_kind.h"
#include "worker/kafka/publisher.h"

#define ERR(name) RD_KAFKA_RESP_ERR_##name

struct row {
	bool fatal, requires_abort, retriable;
	int code;
	enum fault_kind kind;
};

static const struct row rows[] = {
	/* Fatal wins over whatever else is set. */
	{ true, false, false, ERR(_FENCED), FAULT_REBUILD },
	{ true, true, true, ERR(PRODUCER_FENCED), FAULT_REBUILD },
	{ true, true, false, ERR(ILLEGAL_GENERATION), FAULT_REBUILD },
	{ true, false, false, ERR(INVALID_TXN_STATE), FAULT_REBUILD },
	{ true, false, false, ERR(TRANSACTIONAL_ID_AUTHORIZATION_FAILED), FAULT_REBUILD },
	{ false, true, false, ERR(_FENCED), FAULT_REBUILD }, /* librdkafka's answer to AddOffsetsToTxn with PRODUCER_FENCED */
	{ false, true, false, ERR(INVALID_PRODUCER_EPOCH), FAULT_REBUILD },
	/* Abortable: the group's own reasons are told apart, also where the retriable flag is set too. */
	{ false, true, false, ERR(ILLEGAL_GENERATION), FAULT_FENCED },
	{ false, true, false, ERR(UNKNOWN_MEMBER_ID), FAULT_FENCED },
	{ false, true, false, ERR(FENCED_INSTANCE_ID), FAULT_FENCED },
	{ false, true, false, ERR(REBALANCE_IN_PROGRESS), FAULT_FENCED },
	{ false, true, true, ERR(ILLEGAL_GENERATION), FAULT_FENCED },
	{ false, true, false, ERR(TOPIC_AUTHORIZATION_FAILED), FAULT_ABORT },
	{ false, true, false, ERR(GROUP_AUTHORIZATION_FAILED), FAULT_ABORT },
	{ false, true, false, ERR(MSG_SIZE_TOO_LARGE), FAULT_ABORT },
	{ false, true, true, ERR(_TIMED_OUT), FAULT_ABORT },
	{ false, true, false, ERR(_MSG_TIMED_OUT), FAULT_ABORT },
	/* A time-out leaves the outcome open although librdkafka would try again. */
	{ false, false, true, ERR(_TIMED_OUT), FAULT_REBUILD },
	{ false, false, true, ERR(REQUEST_TIMED_OUT), FAULT_REBUILD },
	{ false, false, false, ERR(_TIMED_OUT), FAULT_REBUILD },
	/* The rest may be tried again, if librdkafka says so. */
	{ false, false, true, ERR(_TRANSPORT), FAULT_RETRY },
	{ false, false, true, ERR(COORDINATOR_LOAD_IN_PROGRESS), FAULT_RETRY },
	{ false, false, true, ERR(CONCURRENT_TRANSACTIONS), FAULT_RETRY },
	{ false, false, false, ERR(_STATE), FAULT_REBUILD },
	{ false, false, false, ERR(UNKNOWN), FAULT_REBUILD },
};

static void test_classify(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct row *row = &rows[i];
		enum fault_kind kind = publisher_classify(row->fatal, row->requires_abort, row->retriable, row->code);

		if (kind != row->kind)
			fail_msg("row %zu, %s: %s", i, rd_kafka_err2name((rd_kafka_resp_err_t)row->code), fault_kind_name(kind));
	}
}

/* Nothing but success may be taken for success, and nothing ends the process. */
static void test_every_code_is_classified(void **state)
{
	(void)state;
	for (int code = RD_KAFKA_RESP_ERR__BEGIN; code < RD_KAFKA_RESP_ERR_END_ALL; code++)
		for (int flags = 0; flags < 8; flags++) {
			enum fault_kind kind = publisher_classify(flags & 1, flags & 2, flags & 4, code);

			assert_true(kind == FAULT_REBUILD || kind == FAULT_ABORT || kind == FAULT_FENCED || kind == FAULT_RETRY);
			assert_true(!(flags & 1) || kind == FAULT_REBUILD);
			assert_true(kind != FAULT_RETRY || flags == 4);
			assert_true(kind != FAULT_FENCED || (flags & 2));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_classify),
		cmocka_unit_test(test_every_code_is_classified),
	};

	return cmocka_run_group_tests_name("publisher_classify", tests, NULL, NULL);
}
