#include "worker/kafka/inflight.h"

#include <librdkafka/rdkafka.h>

#include "worker/base/failpoint.h"

static bool is_watched(int16_t api)
{
	return api == API_OFFSET_COMMIT || (api >= API_ADD_PARTITIONS_TO_TXN && api <= API_END_TXN) ||
	       api == API_TXN_OFFSET_COMMIT;
}

static rd_kafka_resp_err_t on_request_sent(rd_kafka_t *rk, int sockfd, const char *brokername, int32_t brokerid,
					   int16_t api, int16_t api_version, int32_t corrid, size_t size, void *opaque)
{
	struct inflight *inflight = opaque;

	(void)rk, (void)sockfd, (void)brokername, (void)brokerid, (void)api_version, (void)corrid, (void)size;
	if (!is_watched(api))
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	if (atomic_exchange(&inflight->unanswered[api], true))
		atomic_store(&inflight->sent_again[api], true);
	if (api == API_END_TXN)
		failpoint("endtxn-sent");
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Most answers cause two calls, one on arrival and one on processing, hence a flag and no count. librdkafka sends the next
 * request of a kind, or the same one again, only after both. A broken connection and a time-out cause a call with an error:
 * they are no answers. */
static rd_kafka_resp_err_t on_response_received(rd_kafka_t *rk, int sockfd, const char *brokername, int32_t brokerid,
						int16_t api, int16_t api_version, int32_t corrid, size_t size, int64_t rtt,
						rd_kafka_resp_err_t err, void *opaque)
{
	struct inflight *inflight = opaque;

	(void)rk, (void)sockfd, (void)brokername, (void)brokerid, (void)api_version, (void)corrid, (void)size, (void)rtt;
	if (is_watched(api) && err == RD_KAFKA_RESP_ERR_NO_ERROR)
		atomic_store(&inflight->unanswered[api], false);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *rk, const rd_kafka_conf_t *conf, void *opaque, char *errstr, size_t size)
{
	(void)conf, (void)errstr, (void)size;
	rd_kafka_interceptor_add_on_request_sent(rk, "campaign-inflight", on_request_sent, opaque);
	rd_kafka_interceptor_add_on_response_received(rk, "campaign-inflight", on_response_received, opaque);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

int inflight_install(struct rd_kafka_conf_s *conf, struct inflight *inflight, struct fault *fault)
{
	for (int i = 0; i < API_COUNT; i++) {
		atomic_store(&inflight->unanswered[i], false);
		atomic_store(&inflight->sent_again[i], false);
	}
	if (rd_kafka_conf_interceptor_add_on_new(conf, "campaign-inflight", on_new, inflight) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return fault_set(fault, FAULT_FATAL, "cannot install the observer of requests in the Kafka client");
	return 0;
}

bool inflight_is_doubtful(const struct inflight *inflight, int api)
{
	return atomic_load(&inflight->sent_again[api]) || atomic_load(&inflight->unanswered[api]);
}
