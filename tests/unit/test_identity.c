/* The names of lanes in Kafka (identity.h): no two lanes have one transactional.id. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "worker/base/identity.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Parts of which one lane's name could be read as another's. */
static const char *const names[] = { "g", "g.g", "g.0", "0", "1", "g/0", "g/", "/", "%", "%2F", "g%2F0", "g.campaign-worker",
				     "g.campaign-worker/0", "g.campaign-worker/0/1", "campaign-worker/g", "0/0", "check" };
static const char *const roles[] = { "0", "1", "10", "check" };

static char ids[COUNT(names) * COUNT(names) * COUNT(roles)][TRANSACTIONAL_ID_SIZE];

static void test_no_two_lanes_have_one_name(void **state)
{
	size_t n = 0;

	(void)state;
	for (size_t group = 0; group < COUNT(names); group++)
		for (size_t instance = 0; instance < COUNT(names); instance++)
			for (size_t role = 0; role < COUNT(roles); role++)
				identity_transactional_id(ids[n++], names[group], names[instance], roles[role]);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(ids[i], ids[j]) == 0)
				fail_msg("twice: %s", ids[i]);
}

/* A worker of an earlier version must not be fenced by one of this version with another name. */
static void test_no_former_name_is_a_present_one(void **state)
{
	char former[TRANSACTIONAL_ID_SIZE];

	(void)state;
	for (size_t group = 0; group < COUNT(names); group++)
		for (size_t instance = 0; instance < COUNT(names); instance++)
			for (int lane = 0; lane < 2; lane++) {
				identity_former_transactional_id(former, names[group], names[instance], lane);
				for (size_t i = 0; i < COUNT(ids); i++)
					if (strcmp(ids[i], former) == 0)
						fail_msg("also a present one: %s", former);
			}
}

static void test_names_begin_with_the_group(void **state)
{
	char id[TRANSACTIONAL_ID_SIZE], client_id[CLIENT_ID_SIZE];

	(void)state;
	identity_transactional_id(id, "campaign-duplicator", "worker-0.example", "1");
	assert_string_equal(id, "campaign-duplicator.campaign-worker/worker-0.example/1"); /* acls.sh grants the prefix */
	identity_client_id(client_id, "worker-0.example", "1");
	assert_string_equal(identity_client_of(id, "campaign-duplicator"), client_id);
	assert_true(identity_is_worker(client_id));
	assert_false(identity_is_worker("console-consumer") || identity_is_worker("campaign-worker"));
	identity_former_transactional_id(id, "campaign-duplicator", "worker-0.example", 1);
	assert_string_equal(id, "campaign-duplicator.worker-0.example.1");
	assert_string_equal(identity_client_of(id, "campaign-duplicator"), "worker-0.example.1");
	assert_null(identity_client_of("short", "campaign-duplicator"));
}

static void test_the_longest_name_fits(void **state)
{
	char id[TRANSACTIONAL_ID_SIZE], group[121], instance[101];

	(void)state;
	memset(group, 'g', 120);
	memset(instance, '/', 100);
	group[120] = instance[100] = '\0';
	identity_transactional_id(id, group, instance, "2147483647");
	assert_int_equal(strlen(id), 120 + strlen(".campaign-worker/") + 3 * 100 + strlen("/2147483647"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_two_lanes_have_one_name), /* fills ids */
		cmocka_unit_test(test_no_former_name_is_a_present_one),
		cmocka_unit_test(test_names_begin_with_the_group),
		cmocka_unit_test(test_the_longest_name_fits),
	};

	return cmocka_run_group_tests_name("identity", tests, NULL, NULL);
}
