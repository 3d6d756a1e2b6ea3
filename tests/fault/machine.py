"""How long a round that is not quiet yet is waited for, and which samples of recovery are too long: by what the machine gives
(control.py in tests/system), so that no verdict is the clock's."""

import collections
import contextlib
import time

import confluent_kafka
import psycopg2

# Where the control's stretch is 1:
IDLE_S = 60    # so long a round may stand still
WHOLE_S = 600  # so long it may go on


class Patience:
    """How long a round is waited for that is not quiet yet. While it makes progress it is waited for; when it has stood still
    for IDLE_S, and no fault has disturbed it meanwhile, it is stuck. The whole has a bound as well. Both grow with the
    stretch."""

    def __init__(self, begin_s):
        self.begin_s = self.moved_s = begin_s
        self.best, self.stuck = {}, False

    def look(self, now_s, progress, last_fault_s=0, stretch=1):
        """progress: numbers by name, of which one grows as long as work is done. Why the round is given up, or None."""
        if self.best and any(value > self.best.get(name, -1) for name, value in progress.items()):
            self.moved_s = now_s
        self.best.update({name: max(value, self.best.get(name, value)) for name, value in progress.items()})
        still_s, whole_s = now_s - max(self.moved_s, last_fault_s), now_s - self.begin_s
        self.stuck = still_s > IDLE_S * stretch
        if self.stuck:
            return "no progress for %.0f s" % still_s
        if whole_s > WHOLE_S * stretch:
            return "still at work after %.0f s, where %.0f s are the most" % (whole_s, WHOLE_S * stretch)
        return None


# --- the end of a round -----------------------------------------------------------------------------------------------

Settled = collections.namedtuple("Settled", "quiet_ms last_fault_ms progress_ms stretch restless given_up stuck")


def settle(world, last_fault_ms, stretch=lambda: 1, hopeless=lambda: None):
    """Waits until nothing is on its way in that world (harness.World, with a history.Quiet) or it is given up. last_fault_ms(),
    stretch(): as they are now; hopeless(): why waiting is in vain, or None."""
    patience = Patience(time.time())
    while True:
        restless = world.collector.patiently(world.quiet.faults)
        fault_ms, now_s = last_fault_ms(), time.time()  # looking may have taken long
        stretched = stretch()
        in_vain = hopeless()
        if in_vain:
            return Settled(None, fault_ms, patience.moved_s * 1000, stretched, [in_vain, *restless], in_vain, True)
        given_up = patience.look(now_s, progress_of(world), fault_ms / 1000, stretched)
        if not restless:
            return Settled(now_s * 1000, fault_ms, patience.moved_s * 1000, stretched, restless, None, False)
        if given_up:
            return Settled(None, fault_ms, patience.moved_s * 1000, stretched, restless, given_up, patience.stuck)
        time.sleep(0.2)


def blame(settled, violations):
    """What of the checker's violations counts: of a round whose workers were still at work, what they had not done yet says
    nothing."""
    return ["C9: not judged: " + settled.given_up] if settled.given_up and not settled.stuck else list(violations)


def progress_of(world):
    """The commands that are answered, as Kafka and PostgreSQL know of them."""
    found = {}
    with contextlib.suppress(confluent_kafka.KafkaException):
        places = [confluent_kafka.TopicPartition(world.commands, p) for p in range(world.partitions)]
        found.update({("committed", place.partition): place.offset for place in world.quiet.plain.committed(places, timeout=20)})
    with contextlib.suppress(psycopg2.Error):
        rows = world.sql("SELECT partition, coalesce(confirmed_offset, -1) AS at FROM partition_owner")
        found.update({("confirmed", row["partition"]): row["at"] for row in rows})
    return found


# --- samples of recovery ----------------------------------------------------------------------------------------------


def beyond(samples):
    """Of [seconds, control in ms, allowed seconds], those that took too long."""
    return [sample for sample in samples if sample[0] > sample[2]]


def is_recovery_well(samples):
    """One in a hundred may be beyond its allowance, and one in any case: of a handful the longest is no p99. None may be
    beyond twice of it."""
    return bool(samples) and len(beyond(samples)) <= max(1, len(samples) // 100) and all(
        seconds <= 2 * allowed_s for seconds, _, allowed_s in samples)
