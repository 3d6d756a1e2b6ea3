/* Where a command lies: commands are keyed by account group, and partitioned as Java's clients do it. */
#ifndef MURMUR2_H
#define MURMUR2_H

#include <stddef.h>
#include <stdint.h>

/* murmur2 as Java's default partitioner computes it (org.apache.kafka.common.utils.Utils.murmur2), made positive. */
uint32_t murmur2_positive(const void *key, size_t len);

#endif
