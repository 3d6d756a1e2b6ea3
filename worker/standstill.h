/* A partition that stands before a publisher's open transaction: nobody reads behind the last stable offset until that
 * transaction ends. This module decides when that is logged. It asks no server, and its caller hands it the time. */
#ifndef STANDSTILL_H
#define STANDSTILL_H

#include <stdbool.h>
#include <stdint.h>

struct standstill {
	bool open;
	bool logged;
	int64_t offset;    /* the last stable offset that does not move: the transaction's first record */
	int64_t since_ms, log_at_ms;
};

enum standstill_event { STANDSTILL_NOTHING, STANDSTILL_LASTS, STANDSTILL_OVER };

/* What is to be logged now: that a standstill lasts (after half a minute, then ever more rarely), or that one that was logged
 * is over; *standstill still tells its offset and since_ms. next, stable and high as in struct end (worker/kafka/consumer.h). */
enum standstill_event standstill_observe(struct standstill *standstill, int64_t next, int64_t stable, int64_t high, int64_t now_ms);

#endif
