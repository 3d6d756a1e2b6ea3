"""What a cell's workers are given to do, all of it from one seed: an outside state, changes of it without end, and commands
whose verdicts hang on it.

Without changes the fence is untested: only if a verdict that a stopped worker has reached is not the one that its heir
reaches, a draft of the one can contradict the answer of the other.
"""

import hashlib
import json
import threading
import time

import confluent_kafka
import psycopg2

from avrocodec import command_codec

GROUPS = ["team_%d" % i for i in range(8)]  # murmur2 spreads them over all of four partitions
LEADS = ["lead_%02d" % i for i in range(24)]
BUSY = LEADS[:3]  # enrolled in a running campaign now and then
FLIP_PAUSE_S = (0.02, 0.35)
BURST_PAUSE_S = (0.05, 0.8)


def digest(key):
    return hashlib.sha256(key.encode()).digest()


class Population:
    """The outside state as it begins, and what may change in it."""

    def __init__(self, seed):
        self.keys = {name: "sk_planted_%s_%s" % (hashlib.sha256(seed.encode()).hexdigest()[:12], name)
                     for name in ("full", "flip", "readonly", "slow", "elsewhere", "nobody")}
        self.workflow_secret = "planted-workflow-" + hashlib.sha256(seed.encode()).hexdigest()[12:24]
        self.secrets = [*self.keys.values(), self.workflow_secret, *(digest(key).hex() for key in self.keys.values())]

    def fill(self, execute):
        """execute(sql, values)"""
        for name in ("full", "flip", "readonly", "slow", "elsewhere"):
            rights = ["campaigns:read"] if name == "readonly" else ["campaigns:read", "campaigns:write"]
            execute("INSERT INTO api_keys (key_digest, public_id, permissions) VALUES (%s, %s, %s)",
                    (digest(self.keys[name]), "fault_" + name, rights))
        execute("INSERT INTO account_groups (id, name) VALUES ('ag_elsewhere', 'Another tenant')", ())
        for group in GROUPS:
            self.fill_group(execute, group)
        self.grant(execute, "ag_elsewhere", "elsewhere", 1, 1000000)
        execute("INSERT INTO campaigns (account_group_id, id, name, status) VALUES ('ag_elsewhere', 'c_theirs', 'Theirs', 'running')", ())

    def grant(self, execute, group, name, interval_us, burst):
        execute("INSERT INTO api_key_account_groups (account_group_id, key_digest, rate_interval_us, rate_burst) VALUES "
                "(%s, %s, %s, %s)", (group, digest(self.keys[name]), interval_us, burst))

    def fill_group(self, execute, group):
        execute("INSERT INTO account_groups (id, name) VALUES (%s, %s)", (group, "Group " + group))
        for name in ("full", "flip", "readonly"):
            self.grant(execute, group, name, 1, 1000000)
        self.grant(execute, group, "slow", 2000000, 3)
        workflow = json.dumps({"steps": [{"kind": "message", "template": self.workflow_secret}]})
        for campaign, status in (("c_0", "running"), ("c_1", "draft"), ("c_flip", "completed"), ("c_busy", "running")):
            execute("INSERT INTO campaigns (account_group_id, id, name, status, workflow) VALUES (%s, %s, %s, %s, %s)",
                    (group, campaign, "Source " + campaign, status, workflow))
        for audience, kind, parent in (("a_folder", "folder", None), ("a_list", "list", None), ("a_flip", "list", None),
                                       ("a_part1", "list", "a_folder"), ("a_part2", "list", "a_folder")):
            execute("INSERT INTO audiences (account_group_id, id, kind, parent_id, name, lead_count) VALUES (%s, %s, %s, %s, %s, %s)",
                    (group, audience, kind, parent, audience, 0 if kind == "folder" else 12))
        for lead in LEADS:
            execute("INSERT INTO leads (account_group_id, id) VALUES (%s, %s)", (group, lead))
        for audience, members in (("a_list", LEADS), ("a_flip", LEADS[6:18]), ("a_part1", LEADS[3:12]), ("a_part2", LEADS[9:20])):
            for lead in members:
                execute("INSERT INTO audience_leads (account_group_id, audience_id, lead_id) VALUES (%s, %s, %s)",
                        (group, audience, lead))
        for lead in BUSY:
            execute("INSERT INTO campaign_leads (account_group_id, campaign_id, lead_id, state) VALUES (%s, 'c_busy', %s, 'finished')",
                    (group, lead))


# What changes: its weight and a statement; %(ag)s is one account group or any of them ('%').
FLIPS = [
    (8, "UPDATE audiences SET ready = NOT ready WHERE id = 'a_flip' AND account_group_id LIKE %(ag)s"),
    (2, "UPDATE audiences SET ready = NOT ready WHERE id = 'a_part2' AND account_group_id LIKE %(ag)s"),
    (4, "UPDATE campaign_leads SET state = CASE state WHEN 'enrolled' THEN 'finished' ELSE 'enrolled' END "
        "WHERE lead_id = %(lead)s AND account_group_id LIKE %(ag)s"),
    (2, "UPDATE campaigns SET status = CASE status WHEN 'running' THEN 'completed' ELSE 'running' END "
        "WHERE id = 'c_busy' AND account_group_id LIKE %(ag)s"),
    (3, "UPDATE campaigns SET deleted_at = CASE WHEN deleted_at IS NULL THEN clock_timestamp() END "
        "WHERE id = 'c_flip' AND account_group_id LIKE %(ag)s"),
    (3, "UPDATE api_keys SET revoked_at = CASE WHEN revoked_at IS NULL THEN clock_timestamp() END WHERE public_id = 'fault_flip'"),
    (1, "UPDATE api_keys SET permissions = CASE WHEN cardinality(permissions) = 1 THEN '{campaigns:read,campaigns:write}'::text[] "
        "ELSE '{campaigns:read}' END WHERE public_id = 'fault_flip'"),
    (2, "WITH gone AS (DELETE FROM audience_leads WHERE audience_id = 'a_list' AND lead_id = %(member)s AND account_group_id = %(one)s "
        "RETURNING 1) INSERT INTO audience_leads (account_group_id, audience_id, lead_id) "
        "SELECT %(one)s, 'a_list', %(member)s WHERE NOT EXISTS (SELECT FROM gone)"),
    (1, "UPDATE campaigns SET deleted_at = clock_timestamp() WHERE account_group_id = %(one)s AND id = (SELECT id FROM campaigns "
        "WHERE account_group_id = %(one)s AND trace_id IS NOT NULL AND deleted_at IS NULL ORDER BY created_at DESC LIMIT 1)"),
]


class Flipper(threading.Thread):
    """Changes the outside state, one change at a time, each known to have happened or not before the next is sent."""

    def __init__(self, connect, rng, log):
        """connect(): a new session (psycopg2, not in autocommit); log(dict): a line of changes.jsonl."""
        super().__init__(daemon=True)
        self.connect, self.rng, self.log = connect, rng, log
        self.ending = threading.Event()
        self.session, self.number = None, 0

    def run(self):
        while not self.ending.wait(self.rng.uniform(*FLIP_PAUSE_S)):
            one = self.rng.choice(GROUPS)
            values = {"one": one, "ag": self.rng.choice(["team_%", one]), "lead": self.rng.choice(BUSY),
                      "member": self.rng.choice(LEADS[20:])}
            _, text = self.rng.choices(FLIPS, [weight for weight, _ in FLIPS])[0]
            self.change(text, values)
        if self.session:
            self.session.close()

    def change(self, text, values):
        self.number += 1
        sent_ms, pid = time.time() * 1000, None
        try:
            self.session = self.session or self.connect()
            pid = self.session.get_backend_pid()
            with self.session.cursor() as cursor:
                cursor.execute("SELECT set_config('fault.change', %s, true)", (str(self.number),))
                cursor.execute(text, values)
            self.session.commit()
        except psycopg2.Error:
            self.make_sure(pid)
        self.log({"id": self.number, "sent_ms": sent_ms, "known_ms": time.time() * 1000, "what": text % values})

    def make_sure(self, pid):
        """The change may still land while its server process lives. The audit rows tell later whether it did."""
        if self.session is not None:
            self.session.close()
        self.session = None
        while True:
            try:
                self.session = self.connect()
                with self.session.cursor() as cursor:
                    cursor.execute("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid = %s", (pid,))
                    alive = cursor.fetchone()[0]
                self.session.rollback()
                if pid is None or alive == 0:
                    return
            except psycopg2.Error:
                if self.session is not None:
                    self.session.close()
                self.session = None
            time.sleep(0.05)


class Plan:
    """The commands of a round: (kind, key, value, headers), made one by one."""

    def __init__(self, rng, population, round_name):
        self.rng, self.population, self.name = rng, population, round_name
        self.number, self.past = 0, []

    def trace(self):
        self.number += 1
        return "%s-%d" % (self.name, self.number)

    def command(self, **fields):
        rng = self.rng
        command = {
            "traceId": self.trace(), "accountGroupId": rng.choice(GROUPS), "campaignId": rng.choice(["c_0", "c_1"]),
            "name": rng.choice([None, "Named %d" % self.number]), "audienceId": "a_flip",
            "leadIds": rng.sample(LEADS[6:18], rng.randint(1, 6)), "apiKeyDigest": digest(self.population.keys["full"]),
            "issuedAt": int(time.time() * 1000), "expiresAt": None,
        }
        command.update(fields)
        return command

    def key(self, name):
        return digest(self.population.keys[name])

    def good(self):
        return self.command()

    def whole(self):
        return self.command(audienceId=self.rng.choice(["a_flip", "a_folder"]), leadIds=None)

    def busy(self):
        return self.command(audienceId="a_list", leadIds=[self.rng.choice(BUSY), *self.rng.sample(LEADS[6:18], 2)])

    def member(self):
        return self.command(audienceId="a_list", leadIds=self.rng.sample(LEADS[18:], 3))

    def flip_key(self):
        return self.command(apiKeyDigest=self.key("flip"))

    def flip_source(self):
        return self.command(campaignId="c_flip")

    def slow(self):
        return self.command(apiKeyDigest=self.key("slow"), accountGroupId=self.rng.choice(GROUPS[:2]))

    def refused(self):
        return self.command(**self.rng.choice([
            {"apiKeyDigest": None}, {"apiKeyDigest": self.key("nobody")}, {"apiKeyDigest": self.key("readonly")},
            {"apiKeyDigest": self.key("elsewhere")}, {"campaignId": "c_theirs"}, {"campaignId": "c_none"},
            {"audienceId": "a_none"}, {"leadIds": ["lead_00", "lead_99"]}, {"name": "  "}, {"name": "x" * 256},
            {"campaignId": self.population.keys["full"]}, {"leadIds": []}, {"audienceId": "not well-formed"},
        ]))

    def expiring(self):
        return self.command(expiresAt=int(time.time() * 1000) + self.rng.choice([-1, 200, 2000, 60000]))

    def again(self):
        return dict(self.rng.choice(self.past[-40:]))

    def copy(self):
        """Right behind the other one, as of a publisher who is not sure whether it published."""
        return dict(self.past[-1])

    def other_body(self):
        return dict(self.rng.choice(self.past[-40:]), name="Another body %d" % self.number, issuedAt=1)

    def other_group(self):
        return dict(self.rng.choice(self.past[-40:]), accountGroupId=self.rng.choice(GROUPS))

    KINDS = {"good": 30, "whole": 8, "busy": 12, "member": 5, "flip_key": 8, "flip_source": 8, "slow": 5, "refused": 6,
             "expiring": 4, "again": 6, "copy": 10, "other_body": 3, "other_group": 2, "bytes": 5}

    def record(self):
        """The next one: kind, key, value, headers, command (None if the bytes are nobody's)."""
        kind = self.rng.choices(list(self.KINDS), list(self.KINDS.values()))[0]
        if kind == "bytes":
            return (kind, *self.bad_bytes(), None)
        if kind in ("again", "copy", "other_body", "other_group") and not self.past:
            kind = "good"
        command = getattr(self, kind)()
        self.past.append(command)
        return kind, command["accountGroupId"].encode(), command_codec.encode(command), [], command

    def sure(self):
        """The record of a command that no change refuses."""
        command = self.command(audienceId="a_list")
        return "good", command["accountGroupId"].encode(), command_codec.encode(command), [], command

    def bad_bytes(self):
        rng, good = self.rng, command_codec.encode(self.command())
        key = rng.choice(GROUPS).encode()
        value = rng.choice([None, b"", good[:rng.randint(1, len(good) - 1)], good + b"\0", b"\0\0\0\x12\x67" + good, good[2:], rng.randbytes(40)])
        if rng.random() < 0.2:
            value, key = good, b"ag_mismatch"  # a whole command under another group's key
        headers = [("traceId", self.trace().encode())] if rng.random() < 0.5 else []
        return key, value, headers


class Generator(threading.Thread):
    """Publishes a round's commands in bursts, and logs those that were acknowledged."""

    def __init__(self, make_producer, topic, plan, log):
        """log(dict): a line of acked.jsonl."""
        super().__init__(daemon=True)
        self.make_producer, self.topic, self.plan, self.log = make_producer, topic, plan, log
        self.producer = make_producer()
        self.ending = threading.Event()
        self.acknowledged = 0

    def run(self):
        rng = self.plan.rng
        while not self.ending.wait(rng.uniform(*BURST_PAUSE_S)):
            for _ in range(rng.choice([1, 2, 3, 5, 8, 13])):
                self.send(*self.plan.record())
            self.producer.poll(0)
        self.producer.flush(60)

    def send(self, kind, key, value, headers, command):
        entry = {
            "sha256": None if value is None else hashlib.sha256(value).hexdigest(), "sent_ms": time.time() * 1000, "kind": kind,
            "traceId": command["traceId"] if command else None, "accountGroupId": command["accountGroupId"] if command else None,
        }

        def delivered(error, message):
            # Without an offset the client only supposes that the broker has it already, of an earlier try.
            if error is None and message.offset() is not None:
                self.acknowledged += 1
                self.log({**entry, "partition": message.partition(), "offset": message.offset(), "acked_ms": time.time() * 1000})

        try:
            self.producer.produce(self.topic, value, key, headers=headers, on_delivery=delivered)
        except confluent_kafka.KafkaException:  # a crash of brokers may end a producer for good (its sequence is lost)
            self.producer = self.make_producer()
