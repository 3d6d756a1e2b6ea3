/* libcampaign's client where it needs a broker. */
#include "component.h"

#include "producer/campaign.h"

static void test_a_client_subscribes_once(void **state)
{
	struct cluster cluster = cluster_new();
	struct campaign_options options = { .brokers = rd_kafka_mock_cluster_bootstraps(cluster.mock), .results = RESULTS };
	struct campaign_client *client;
	struct campaign_error error;

	(void)state;
	cluster_topic(&cluster, RESULTS, 2, 1);
	client = campaign_client_new(&options, &error);
	assert_non_null(client);
	assert_int_equal(campaign_client_subscribe(client, CAMPAIGN_FROM_TIME, -1, &error), -1);
	assert_int_equal(error.kind, CAMPAIGN_ERROR_FATAL);
	assert_int_equal(campaign_client_subscribe(client, CAMPAIGN_FROM_NOW, 0, &error), 0);
	assert_int_equal(campaign_client_subscribe(client, CAMPAIGN_FROM_BEGINNING, 0, &error), -1);
	assert_int_equal(error.kind, CAMPAIGN_ERROR_FATAL);
	assert_string_equal(error.message, "the client has subscribed before");
	campaign_client_free(client);
	cluster_free(&cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_client_subscribes_once),
	};

	return cmocka_run_group_tests_name("library_client", tests, NULL, NULL);
}
