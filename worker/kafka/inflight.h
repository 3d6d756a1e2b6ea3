/* Requests in flight of one librdkafka client. When the answer to a transactional request does not come, librdkafka sends the
 * request again, and reports success when the second copy is answered. The first copy may still reach the broker later and
 * act on the next transaction (librdkafka issue 5423; KIP-890). An interceptor detects that a request of a kind is sent while
 * an earlier one of that kind is unanswered. A retry after an answer (CONCURRENT_TRANSACTIONS) does not count. */
#ifndef INFLIGHT_H
#define INFLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/base/fault.h"

struct rd_kafka_conf_s;

/* Kafka protocol ApiKeys (https://kafka.apache.org/protocol#protocol_api_keys). */
enum { API_OFFSET_COMMIT = 8, API_ADD_PARTITIONS_TO_TXN = 24, API_ADD_OFFSETS_TO_TXN = 25, API_END_TXN = 26,
       API_TXN_OFFSET_COMMIT = 28, API_COUNT = 29 };

struct inflight { /* written by the client's broker threads */
	atomic_bool unanswered[API_COUNT], sent_again[API_COUNT];
};

/* Makes the client created from conf report to inflight, which must outlive the client. */
int inflight_install(struct rd_kafka_conf_s *conf, struct inflight *inflight, struct fault *fault) MUST_CHECK;
/* Whether a request of that kind was sent while an earlier one was unanswered, or is unanswered now. */
bool inflight_is_doubtful(const struct inflight *inflight, int api);

#endif
