"""What a round leaves behind, as files for the history checker (checker/check_history.py says what each holds)."""

import base64
import collections
import contextlib
import decimal
import json
import threading
import time
import uuid

import confluent_kafka
import psycopg2
import psycopg2.extras

import harness
import machine

TIMEOUT_S = 60
STATE = ["account_groups", "api_keys", "api_key_account_groups", "campaigns", "audiences", "audience_leads", "campaign_leads"]


class Lines:
    """A file of JSON lines that several threads write."""

    def __init__(self, path):
        self.lock, self.file = threading.Lock(), open(path, "w")

    def __call__(self, entry):
        with self.lock:
            if not self.file.closed:  # a sample may come late
                self.file.write(json.dumps(entry) + "\n")

    def flush(self):
        with self.lock:
            self.file.flush()

    def close(self):
        with self.lock:
            self.file.close()


def write_lines(path, entries):
    with open(path, "w") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in entries)


def plain(value):
    """A column's value as JSON has it."""
    if isinstance(value, memoryview):
        return value.tobytes().hex()
    if isinstance(value, decimal.Decimal):
        return float(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def record_line(record):
    encode = lambda data: None if data is None else base64.b64encode(data).decode()  # noqa: E731
    return {
        "partition": record.partition, "offset": record.offset, "timestamp": record.timestamp_ms,
        "key": None if record.key is None else record.key.decode(errors="replace"), "value": encode(record.value),
        "headers": [[name, encode(value)] for name, value in record.header_list],
    }


class Collector:
    def __init__(self, cell):
        self.cell = cell
        self.ends = {}  # by topic and isolation level: partition -> offset, up to which earlier rounds have read
        self.audit_id = 0
        self.unreadable = collections.Counter()  # by partition: offsets that hold no command, control records and aborted ones

    # While the round goes on

    def begin(self, folder):
        self.folder, self.begin_ms = folder, time.time() * 1000
        self.unreadable.clear()
        self.kept, self.restored = [], None
        self.log_acked, self.log_change, self.log_fault, self.log_lost_change = (
            Lines(folder / name) for name in ("acked.jsonl", "changes.jsonl", "faults.jsonl", "lost_changes.jsonl"))
        self.log_sample = Lines(folder / "workers.jsonl")
        self.round_begin = dict(self.ends.get((self.cell.commands, "read_committed"), {}))
        state = self.patiently(lambda: {table: self.rows(
            "SELECT * FROM %s%s" % (table, " WHERE trace_id IS NULL" if table == "campaigns" else "")) for table in STATE})
        self.audit_id = self.patiently(lambda: self.rows("SELECT coalesce(max(id), 0) AS id FROM fault_audit"))[0]["id"]
        (folder / "state.json").write_text(json.dumps(state))

    def keep_commands(self):
        """Before they are deleted."""
        self.kept += self.patiently(lambda: self.read(self.cell.commands, "read_committed"))

    def note_restore(self, restore):
        """restore() puts an older state of the database in its place, while no worker runs, and returns a line of faults.jsonl.
        Keeps what is lost with it, how far the topics and the group were by then, and the older state. checker/restored.py tells
        what comes of it."""
        offsets = self.patiently(self.offsets)
        for log in self.log_acked, self.log_lost_change:
            log.flush()
        self.patiently(lambda: self.write_rows("lost_"))
        self.log_fault(restore())
        owned = {str(row["partition"]): row for row in self.patiently(lambda: self.rows(
            "SELECT partition, confirmed_offset, executed_offset FROM partition_owner WHERE topic = %s", (self.cell.commands,)))}
        self.restored = {
            "ends": {kind: {partition: place["high"] for partition, place in places.items()} for kind, places in offsets.items()},
            "committed": {partition: place["committed"] for partition, place in offsets["commands"].items()},
            **{name: {partition: row[name + "_offset"] or 0 for partition, row in owned.items()} for name in ("confirmed", "executed")},
        }

    def note_unreadable(self, partition, count):
        self.unreadable[partition] += count

    def rows(self, text, values=None):
        with contextlib.closing(self.cell.services.postgres.connect(self.cell.database)) as session:
            with session.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
                cursor.execute(text, values)
                return [{column: plain(value) for column, value in row.items()} for row in cursor.fetchall()]

    @staticmethod
    def patiently(ask):
        """A fault of the whole ground may be going on: asks until it is answered."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                return ask()
            except (psycopg2.Error, confluent_kafka.KafkaException):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    # When it is over

    def finish(self, plan, settled):
        cell, folder = self.cell, self.folder
        for log in (self.log_acked, self.log_change, self.log_fault, self.log_sample, self.log_lost_change):
            log.close()
        with open(folder / "faults.jsonl", "a") as file:
            for entry in cell.ground.faults():
                if entry["until_ms"] >= self.begin_ms:
                    file.write(json.dumps(entry) + "\n")
        for name, topic, isolation in (
                ("commands", cell.commands, "read_committed"), ("results", cell.results, "read_committed"),
                ("results_raw", cell.results, "read_uncommitted"), ("dead_letters", cell.dead_letters, "read_committed")):
            records = self.patiently(lambda: self.read(topic, isolation))
            write_lines(folder / (name + ".jsonl"), map(record_line, self.kept + records if name == "commands" else records))
        self.patiently(self.write_rows)
        (folder / "offsets.json").write_text(json.dumps(self.patiently(self.offsets)))
        (folder / "meta.json").write_text(json.dumps({
            "seed": plan["seed"], "cell": cell.name, "round": plan["round"], "group": cell.group, "commands": cell.commands,
            "results": cell.results, "dead_letters": cell.dead_letters, "database": cell.database,
            "secrets": cell.population.secrets, "restored": self.restored,
            "last_fault_ms": settled.last_fault_ms, "progress_ms": settled.progress_ms, "quiet_ms": settled.quiet_ms,
            "restless": settled.restless, "quiet_limit_s": machine.IDLE_S * settled.stretch,
            "log_files": sorted("logs/" + path.name for path in (folder / "logs").glob("*.log")), "plan": plan,
        }))

    def read(self, topic, isolation):
        """All records since the last round, up to the present end."""
        ends = self.ends.setdefault((topic, isolation), {})
        consumer = confluent_kafka.Consumer({
            "bootstrap.servers": self.cell.brokers, "group.id": "collector-" + uuid.uuid4().hex, "isolation.level": isolation,
            "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 50, "auto.offset.reset": "error",
        })
        try:
            records, reached = [], {}
            partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
            consumer.assign([confluent_kafka.TopicPartition(topic, p, ends.get(p, 0)) for p in partitions])
            deadline = time.monotonic() + TIMEOUT_S
            while len(reached) < len(partitions):
                message = consumer.poll(0.5)
                if time.monotonic() > deadline:
                    raise AssertionError("no end of %s within %d s" % (topic, TIMEOUT_S))
                if message is None:
                    continue
                if message.error() is None:
                    records.append(harness.Record(message))
                elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    reached[message.partition()] = message.offset()
                elif not (message.error().retriable() or message.error().code() < 0):
                    raise confluent_kafka.KafkaException(message.error())
            ends.update(reached)
            return records
        finally:
            consumer.close()

    def write_rows(self, prefix=""):
        rows = self.rows("""
            SELECT id, extract(epoch FROM at) * 1000 AS at_ms, txid, change, application, table_name AS table, op, old, new
            FROM fault_audit WHERE id > %s ORDER BY id""", (self.audit_id,))
        traces = {row["new"]["trace_id"] for row in rows if row["table"] == "campaigns" and row["new"]}
        with open(self.folder / "acked.jsonl") as acked:
            traces |= {json.loads(line)["traceId"] for line in acked}
        drafts = self.rows("""
            SELECT account_group_id, id, name, description, status, selected_lead_count, selected_leads, include_conversation_history,
                auto_cancel_on_message_received, outreach_language, source_campaign_id, trace_id, command_digest, created_by_key,
                extract(epoch FROM created_at) * 1000 AS created_at_ms, extract(epoch FROM updated_at) * 1000 AS updated_at_ms,
                extract(epoch FROM started_at) * 1000 AS started_at_ms, extract(epoch FROM deleted_at) * 1000 AS deleted_at_ms
            FROM campaigns WHERE trace_id = ANY (%s)""", (list(traces - {None}),))
        sessions = self.rows("""
            SELECT application_name, state, wait_event, extract(epoch FROM clock_timestamp() - xact_start) AS age_s
            FROM pg_stat_activity
            WHERE datname = %s AND application_name LIKE 'campaign-worker%%' AND xact_start < clock_timestamp() - interval '1 s'""",
            (self.cell.database,))
        for name, lines in (("audit", rows), ("drafts", drafts), ("sessions", sessions)):
            write_lines(self.folder / (prefix + name + ".jsonl"), lines)

    def offsets(self):
        cell = self.cell
        found = {"commands": {}, "results": {}, "dead_letters": {}}
        for client in (cell.quiet.plain, cell.quiet.careful):
            for topic in (cell.commands, cell.results, cell.dead_letters):
                client.list_topics(topic, timeout=20)  # leaders may have moved
        places = [confluent_kafka.TopicPartition(cell.commands, p) for p in range(cell.partitions)]
        for place in cell.quiet.plain.committed(places, timeout=20):
            low, high = cell.quiet.plain.get_watermark_offsets(place, timeout=20)
            found["commands"][str(place.partition)] = {
                "committed": place.offset, "low": low, "high": high, "round_begin": self.round_begin.get(place.partition, 0),
                "unreadable": self.unreadable[place.partition]}
        for kind, topic in (("results", cell.results), ("dead_letters", cell.dead_letters)):
            for p in range(2 if kind == "results" else 1):
                place = confluent_kafka.TopicPartition(topic, p)
                found[kind][str(p)] = {
                    "high": cell.quiet.plain.get_watermark_offsets(place, timeout=20)[1],
                    "stable": cell.quiet.careful.get_watermark_offsets(place, timeout=20)[1]}
        return found
