"""Every outcome of the contract, whole: the result event, its headers, its HTTP response byte for byte, and the rows.

What is expected is put together here a second time, from the contract and not from the worker's code. One worker and one
world serve all tests of this file; each uses traceIds of its own and waits for the answers to its own records.
That is why the file is longer than 600 lines.
"""

import datetime
import hashlib
import json
import struct
import time
import uuid

import pytest

from avrocodec import command_codec
from harness import SEED, Reader, Result, digest, wait_until

ACME, BETA = SEED["accountGroupId"], "64f1a2b3c4d5e6f708192a3b"
SPRING, AUTUMN, WINBACK, DELETED = ("65a00000000000000000000%d" % n for n in (1, 2, 3, 4))
BETA_LAUNCH = "65b000000000000000000001"
AUDIENCE_MAX = 15  # of the worker here, for audience_too_large
LOCK_TIMEOUT_MS = 150
POISON, REFUSED = "poisoned name", "23514"  # a name that the database refuses, and how
HOUR_MS = 3600 * 1000

PHRASES = {
    201: "Created", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
    429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
}

# reason: HTTP status, code, message, retryable
REFUSALS = {
    "key_mismatch": (400, "VALIDATION_ERROR", "The command record's key is not its account group.", False),
    "invalid_field": (400, "VALIDATION_ERROR", "Request validation failed.", False),
    "lead_not_in_audience": (400, "VALIDATION_ERROR", "Not every lead belongs to the audience.", False),
    "audience_too_large": (400, "VALIDATION_ERROR", "The audience has more leads than one campaign may select.", False),
    "key_missing": (401, "UNAUTHORIZED", "No API key was given.", False),
    "key_unknown": (401, "UNAUTHORIZED", "The API key is not valid.", False),
    "key_revoked": (401, "UNAUTHORIZED", "The API key has been revoked.", False),
    "permission_missing": (403, "FORBIDDEN", "The API key lacks the permission campaigns:write.", False),
    "account_group_denied": (403, "FORBIDDEN", "The API key has no access to this account group.", False),
    "campaign_not_found": (404, "NOT_FOUND", "The campaign was not found.", False),
    "audience_not_found": (404, "NOT_FOUND", "The audience was not found.", False),
    "draft_deleted": (409, "CONFLICT", "The draft this command created has been deleted since.", False),
    "trace_reused": (409, "CONFLICT", "This traceId was already used for another command.", False),
    "lead_active": (409, "CONFLICT", "A lead is enrolled in an active workflow.", False),
    "audience_populating": (409, "AUDIENCE_NOT_READY", "The audience is still being populated.", True),
    "rate_limited": (429, "RATE_LIMITED", "Rate limit exceeded.", True),
    "result_too_large": (500, "INTERNAL_ERROR", "The result would be larger than the results topic takes; nothing was written.", False),
    "database_error": (500, "INTERNAL_ERROR", "The command could not be processed.", False),
    "expired": (502, "UPSTREAM_ERROR", "The command expired before it could be started; nothing was written.", True),
    "rows_locked": (502, "UPSTREAM_ERROR", "What the command needs could not be had in time; nothing was written.", True),
}


# ---- the world that all share ----

class Shared:
    def __init__(self, world):
        self.world = world
        self.prepare()
        self.worker = world.worker(args=["--audience-leads-max", str(AUDIENCE_MAX), "--lock-timeout-ms", str(LOCK_TIMEOUT_MS),
                                         "--log-level", "debug"])
        self.reader = world.reader()
        self.dead_reader = Reader(world.brokers, world.dead_letters)
        world.closers.append(self.dead_reader.close)
        self.seen, self.answers = 0, {}

    def prepare(self):
        """What the seed lacks: an audience that is too large, a name that the database refuses, further keys, and in Beta
        twins of Acme's resources: the same ids with other things behind them."""
        self.world.sql("""
            INSERT INTO leads (account_group_id, id) SELECT 'ag_acme', 'wide_' || n FROM generate_series(1, 16) AS n;
            INSERT INTO audiences (account_group_id, id, kind, name, lead_count) VALUES ('ag_acme', 'aud_wide', 'list', 'Wide', 16);
            INSERT INTO audience_leads SELECT 'ag_acme', 'aud_wide', 'wide_' || n FROM generate_series(1, 16) AS n;

            CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.name = %s THEN RAISE EXCEPTION 'no such name' USING ERRCODE = %s; END IF;
                RETURN NEW; END $$;
            CREATE TRIGGER refuse_poison BEFORE INSERT ON campaigns FOR EACH ROW EXECUTE FUNCTION refuse_poison();

            INSERT INTO api_keys (key_digest, public_id, permissions, revoked_at) VALUES
                (sha256('nothing-right'), 'key_nothing_right', '{}', now());
            """, POISON, REFUSED)
        self.world.sql("""
            INSERT INTO campaigns (account_group_id, id, name, status, workflow)
                VALUES (%s, %s, 'Twin of Spring', 'running', '{"twin": true}');
            INSERT INTO audiences (account_group_id, id, kind, name, lead_count) VALUES (%s, 'aud_list', 'list', 'Twin', 2);
            INSERT INTO leads (account_group_id, id) SELECT %s, unnest('{lead_01,lead_twin}'::text[]);
            INSERT INTO audience_leads SELECT %s, 'aud_list', unnest('{lead_01,lead_twin}'::text[]);
            INSERT INTO campaign_leads VALUES (%s, %s, 'lead_01', 'enrolled')
            """, BETA, SPRING, BETA, BETA, BETA, BETA, SPRING)

    def add_key(self, key, account_group, interval_us, burst):
        add_key(self.world, key, account_group, interval_us, burst)

    def await_answer(self, place, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while place not in self.answers:
            assert time.monotonic() < deadline, "no answer to %s within %g s" % (place, timeout_s)
            self.reader.poll(0.5)
            for record in self.reader.records[self.seen:]:
                result = Result(record)
                assert result.place not in self.answers, "two answers to one record"
                self.answers[result.place] = result
            self.seen = len(self.reader.records)
        return self.answers[place]

    def answer(self, command, headers=None, key=None):
        place, = self.world.send_raw((command["accountGroupId"] if key is None else key, command_codec.encode(command)), headers=headers)
        return self.await_answer(place)

    def answer_all(self, *commands):
        return [self.await_answer(place) for place in self.world.send(*commands)]

    def row(self, command):
        rows = self.world.sql(
            "SELECT * FROM campaigns WHERE account_group_id = %s AND trace_id = %s", command["accountGroupId"], command["traceId"])
        assert len(rows) <= 1
        return rows[0] if rows else None


def add_key(world, key, account_group, interval_us, burst):
    world.sql("""
        INSERT INTO api_keys (key_digest, public_id, permissions) VALUES (%s, %s, '{campaigns:write}') ON CONFLICT DO NOTHING
        """, digest(key), key.replace("-", "_"))
    world.sql("""
        INSERT INTO api_key_account_groups (account_group_id, key_digest, rate_interval_us, rate_burst) VALUES (%s, %s, %s, %s)
        """, account_group, digest(key), interval_us, burst)


@pytest.fixture(scope="module")
def module_world(services):
    world = services.world()
    try:
        yield Shared(world)
    finally:
        world.close()


@pytest.fixture
def shared(module_world, make_world):
    if module_world.world not in make_world.worlds:
        make_world.worlds.append(module_world.world)  # its worker's log belongs to the report of a test that fails
    assert module_world.worker.alive()
    return module_world


# ---- what is expected ----

def milliseconds(stamp):
    assert stamp.microsecond % 1000 == 0
    return round(stamp.timestamp() * 1000)


def time_text(ms):
    stamp = datetime.datetime.fromtimestamp(ms // 1000, datetime.timezone.utc)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S") + ".%03dZ" % (ms % 1000)


def expected_digest(command):
    """Rule 2 (worker/protocol.txt); the layout is pinned: another one would make every redelivered command a trace_reused."""
    def text(value):
        data = value.encode()
        return struct.pack(">I", len(data)) + data

    def nullable(value, encode):
        return b"\0" if value is None else b"\1" + encode(value)

    def leads(ids):
        ids = sorted(set(ids))
        return struct.pack(">I", len(ids)) + b"".join(map(text, ids))

    parts = (text(command["campaignId"]), text(command["audienceId"]), nullable(command["name"], text),
             nullable(command["leadIds"], leads),
             nullable(command["apiKeyDigest"], lambda key: struct.pack(">I", len(key)) + key))
    return hashlib.sha256(b"".join(parts)).digest()


def check_identity(shared, result, command, key=None):
    """What every result says of the record it answers; the fields that nobody can know are looked at, and then taken over."""
    record, now_ms = result.record, time.time() * 1000
    assert record.key == result["traceId"].encode()
    assert record.topic == shared.world.results
    assert command["issuedAt"] - 60000 < result["command"]["timestamp"] <= result["processedAt"] <= now_ms + 5
    assert result["command"]["topic"] == shared.world.commands
    return {
        "traceId": command["traceId"], "retryAfterSeconds": None, "accountGroupId": command["accountGroupId"],
        "sourceCampaignId": command["campaignId"], "audienceId": command["audienceId"], "draftExisted": False,
        "command": result["command"], "issuedAt": command["issuedAt"], "processedAt": result["processedAt"],
    }


def check_headers(result, *carried):
    want = list(carried) + [("httpStatus", b"%d" % result["httpStatus"])]
    if result["error"]:
        want.append(("code", result["error"]["code"].encode()))
    if result["accountGroupId"] is not None:
        want.append(("accountGroupId", result["accountGroupId"].encode()))
    assert result.record.header_list == want


def check_refused(shared, result, command, reason, details, retry_after_s=None, **other):
    status, code, message, retryable = REFUSALS[reason]
    assert dict(result) == {
        **check_identity(shared, result, command), "success": False, "data": None,
        "error": {"code": code, "message": message, "details": details}, "httpStatus": status, "reason": reason,
        "retryable": retryable, "retryAfterSeconds": retry_after_s, **other,
    }
    check_headers(result)


def check_accepted(shared, result, command, existed=False, **changed):
    """The event, from the rows as they stand now: the draft's, and what it took from its source."""
    row = shared.row(command)
    data = {
        "id": row["id"], "name": row["name"], "description": row["description"], "status": row["status"],
        "selectedLeadCount": row["selected_lead_count"], "includeConversationHistory": row["include_conversation_history"],
        "autoCancelOnMessageReceived": row["auto_cancel_on_message_received"], "outreachLanguage": row["outreach_language"],
        "createdAt": milliseconds(row["created_at"]), "updatedAt": milliseconds(row["updated_at"]),
        "startedAt": row["started_at"] and milliseconds(row["started_at"]),
        "rateLimitedUntil": row["rate_limited_until"] and milliseconds(row["rate_limited_until"]),
    }
    data.update(changed)
    assert dict(result) == {
        **check_identity(shared, result, command), "success": True, "data": data, "error": None, "httpStatus": 201, "reason": None,
        "retryable": False, "draftExisted": existed,
    }
    check_headers(result)
    return row


def check_created(shared, result, command, leads, key="key_full"):
    """A new draft: every column of its row."""
    row = check_accepted(shared, result, command)
    source, = shared.world.sql(
        "SELECT * FROM campaigns WHERE account_group_id = %s AND id = %s", command["accountGroupId"], command["campaignId"])
    assert len(row["id"]) == 24 and set(row["id"]) <= set("0123456789abcdef")
    assert abs(int(row["id"][:8], 16) - time.time()) < 60
    assert bytes(row.pop("command_digest")) == expected_digest(command)
    assert milliseconds(row["created_at"]) == result["processedAt"]
    assert row == {
        "account_group_id": command["accountGroupId"], "id": result["data"]["id"],
        "name": source["name"] if command["name"] is None else command["name"], "description": source["description"],
        "status": "draft", "selected_lead_count": len(leads), "selected_leads": sorted(leads),
        "include_conversation_history": source["include_conversation_history"],
        "auto_cancel_on_message_received": source["auto_cancel_on_message_received"],
        "outreach_language": source["outreach_language"], "workflow": source["workflow"],
        "source_campaign_id": command["campaignId"], "trace_id": command["traceId"], "created_by_key": key,
        "created_at": row["created_at"], "updated_at": row["created_at"], "started_at": None, "rate_limited_until": None,
        "deleted_at": None,
    }


def leads(first, last):
    return ["lead_%02d" % n for n in range(first, last + 1)]


# ---- 201 ----

CREATED = {
    "all leads": ({}, leads(1, 10)),
    "source without description, language and steps": ({"campaignId": AUTUMN, "audienceId": "aud_second"}, leads(9, 15)),
    "source is paused": ({"campaignId": WINBACK}, leads(1, 10)),
    "renamed, subset, duplicates, unsorted": (
        {"name": "  Été \"neuf\"\\ 🍂 ", "leadIds": ["lead_03", "lead_01", "lead_03"]}, ["lead_01", "lead_03"]),
    "name of 255 characters of four bytes": ({"name": "🌱" * 255}, leads(1, 10)),
    "name from right to left, with marks": ({"name": "שלום \u200f!"}, leads(1, 10)),
    "folder: the union of its lists": ({"audienceId": "aud_folder"}, leads(1, 15)),
    "folder, leads of two lists": ({"audienceId": "aud_folder", "leadIds": ["lead_15", "lead_09", "lead_01"]}, ["lead_01", "lead_09", "lead_15"]),
    "empty list": ({"audienceId": "aud_empty"}, []),
    "empty folder": ({"audienceId": "aud_empty_folder"}, []),
    "a finished enrolment is no conflict": ({"audienceId": "aud_busy", "leadIds": ["lead_16", "lead_17", "lead_20"]}, ["lead_16", "lead_17", "lead_20"]),
    "too large as a whole, leads named": ({"audienceId": "aud_wide", "leadIds": ["wide_%d" % n for n in range(1, 17)]},
                                          ["wide_%d" % n for n in range(1, 17)]),
    "deadline ahead": ({"expiresAt": int(time.time() * 1000) + HOUR_MS}, leads(1, 10)),
    "traceId of 64 characters": ({"traceId": (uuid.uuid4().hex * 2)[:62] + "_-"}, leads(1, 10)),
    "another account group": ({"accountGroupId": BETA, "campaignId": BETA_LAUNCH, "audienceId": "aud_beta"}, ["lead_b%d" % n for n in range(1, 6)]),
}


@pytest.mark.parametrize("case", CREATED)
def test_created(shared, case):
    fields, selected = CREATED[case]
    command = shared.world.command(**fields)
    check_created(shared, shared.answer(command), command, selected)


def test_created_by_another_key(shared):
    command = shared.world.command(apiKeyDigest="demo-key-other")
    check_created(shared, shared.answer(command), command, leads(1, 10), "key_other")


# ---- 400: the fields ----

ID_FORM = "is not a well-formed id: 1 to 64 of A-Z a-z 0-9 _ -"
SECRET_FORM = "is not a well-formed id: it begins with sk_, as an API key does"

INVALID = {
    "campaignId empty": ({"campaignId": ""}, "campaignId " + ID_FORM),
    "campaignId too long": ({"campaignId": "c" * 65}, "campaignId " + ID_FORM),
    "campaignId with markup": ({"campaignId": "<b>"}, "campaignId " + ID_FORM),
    "campaignId is a key": ({"campaignId": "sk_live_1"}, "campaignId " + SECRET_FORM),
    "audienceId with a blank": ({"audienceId": "aud list"}, "audienceId " + ID_FORM),
    "audienceId not ASCII": ({"audienceId": "aud_é"}, "audienceId " + ID_FORM),
    "audienceId is a key": ({"audienceId": "sk_1"}, "audienceId " + SECRET_FORM),
    "name empty": ({"name": ""}, "name is empty: 1 to 255 characters, not only white space"),
    "name blank": ({"name": " \u00a0\u2003\u3000"}, "name is blank: 1 to 255 characters, not only white space"),
    **{"name of U+%04X" % ord(c): ({"name": c}, "name is blank: 1 to 255 characters, not only white space")
       for c in "\u115f\u1160\uffa0\u2061\u2064\u206a\ufe0f\u180e\u034f\U000e0100"},
    "name with a noncharacter": ({"name": "a\ufdd0"}, "name has a noncharacter at character 2"),
    "name with a noncharacter of the last plane": ({"name": "\U0010ffff"}, "name has a noncharacter at character 1"),
    "name too long": ({"name": "é" * 256}, "name is too long: 1 to 255 characters"),
    "name with a line break": ({"name": "two\nlines"}, "name has a control character at character 4"),
    "name with C1": ({"name": "a\u0085"}, "name has a control character at character 2"),
    "name with an override": ({"name": "ab\u202egpj"}, "name has a bidirectional-override character at character 3"),
    "name with an isolate": ({"name": "\u2066x"}, "name has a bidirectional-override character at character 1"),
    "leadIds empty": ({"leadIds": []}, "leadIds is empty: 1 to 10000 ids, or null for all of the audience"),
    "leadIds too many": ({"leadIds": ["lead_%d" % n for n in range(10001)]}, "leadIds has 10001 ids: at most 10000"),
    "leadIds one bad": ({"leadIds": ["lead_01", "lead 02"]}, "leadIds[1] " + ID_FORM),
    "leadIds one a key": ({"leadIds": ["sk_x"]}, "leadIds[0] " + SECRET_FORM),
}


def well_formed(value):
    return value if 1 <= len(value) <= 64 and value.isascii() and not value.startswith("sk_") and \
        value.replace("_", "").replace("-", "").isalnum() else None


@pytest.mark.parametrize("case", INVALID)
def test_invalid_field(shared, case):
    fields, details = INVALID[case]
    command = shared.world.command(**fields)
    result = shared.answer(command)
    check_refused(shared, result, command, "invalid_field", details, sourceCampaignId=well_formed(command["campaignId"]),
                  audienceId=well_formed(command["audienceId"]))
    assert shared.row(command) is None


@pytest.mark.parametrize("account_group", ["ag acme", "", "a" * 65])
def test_invalid_account_group(shared, account_group):
    """The record's key is the same malformed text: neither of them is repeated."""
    command = shared.world.command(accountGroupId=account_group)
    check_refused(shared, shared.answer(command), command, "invalid_field", "accountGroupId " + ID_FORM, accountGroupId=None)


def test_ten_thousand_leads(shared):
    """The most a command may name: all are looked up, and none of them is a member."""
    command = shared.world.command(leadIds=["none_%05d" % n for n in range(10000)])
    check_refused(shared, shared.answer(command), command, "lead_not_in_audience",
                  "leadIds not in audience aud_list: none_00000, none_00001, none_00002, none_00003, none_00004 and 9995 more")


# ---- the refusals that look at the database ----

REFUSED_BY_STATE = {
    "no key": ({"apiKeyDigest": None}, "key_missing", "apiKeyDigest is missing"),
    "unknown key": ({"apiKeyDigest": "nobody's"}, "key_unknown", "no API key has this apiKeyDigest"),
    "revoked key": ({"apiKeyDigest": "demo-key-revoked"}, "key_revoked", "API key key_revoked has been revoked"),
    "no permission": ({"apiKeyDigest": "demo-key-readonly"}, "permission_missing", "API key key_readonly lacks campaigns:write"),
    "no grant": ({"apiKeyDigest": "demo-key-nogroup"}, "account_group_denied",
                 "API key key_nogroup has no access to account group ag_acme"),
    "unknown account group": ({"accountGroupId": "ag_nobody"}, "account_group_denied",
                              "API key key_full has no access to account group ag_nobody"),
    "unknown campaign": ({"campaignId": "c_none"}, "campaign_not_found", "no campaign c_none in account group ag_acme"),
    "deleted campaign": ({"campaignId": DELETED}, "campaign_not_found", "no campaign %s in account group ag_acme" % DELETED),
    "unknown audience": ({"audienceId": "aud_none"}, "audience_not_found", "no audience aud_none in account group ag_acme"),
    "list still populating": ({"audienceId": "aud_populating"}, "audience_populating", "audience aud_populating is still being populated"),
    "folder with such a list": ({"audienceId": "aud_populating_folder"}, "audience_populating",
                                "list aud_populating of audience aud_populating_folder is still being populated"),
    "one lead elsewhere": ({"leadIds": ["lead_01", "lead_11"]}, "lead_not_in_audience", "leadIds not in audience aud_list: lead_11"),
    "two leads elsewhere": ({"leadIds": ["lead_01", "lead_11", "nobody"]}, "lead_not_in_audience",
                            "leadIds not in audience aud_list: lead_11 and nobody"),
    "five leads elsewhere": ({"leadIds": leads(11, 15)}, "lead_not_in_audience",
                             "leadIds not in audience aud_list: lead_11, lead_12, lead_13, lead_14 and lead_15"),
    "seven leads elsewhere": ({"leadIds": leads(10, 17)}, "lead_not_in_audience",
                              "leadIds not in audience aud_list: lead_11, lead_12, lead_13, lead_14, lead_15 and 2 more"),
    "leads, and the audience is empty": ({"audienceId": "aud_empty", "leadIds": ["lead_01"]}, "lead_not_in_audience",
                                         "leadIds not in audience aud_empty: lead_01"),
    "all of a large audience": ({"audienceId": "aud_wide"}, "audience_too_large",
                                "audience aud_wide has more than 15 leads; name the leads in leadIds"),
    "lead in a running campaign": ({"audienceId": "aud_busy", "leadIds": ["lead_16", "lead_18"]}, "lead_active",
                                   "lead lead_18 is enrolled in campaign %s (running)" % SPRING),
    "lead in a paused campaign": ({"audienceId": "aud_busy", "leadIds": ["lead_19"]}, "lead_active",
                                  "lead lead_19 is enrolled in campaign %s (paused)" % WINBACK),
    "all leads, two of them busy": ({"audienceId": "aud_busy"}, "lead_active",
                                    "lead lead_18 is enrolled in campaign %s (running)" % SPRING),
    "deadline has passed": ({"expiresAt": 1767225600000}, "expired", "expiresAt 2026-01-01T00:00:00.000Z had passed"),
}


@pytest.mark.parametrize("case", REFUSED_BY_STATE)
def test_refused(shared, case):
    fields, reason, details = REFUSED_BY_STATE[case]
    command = shared.world.command(**fields)
    check_refused(shared, shared.answer(command), command, reason, details)
    assert shared.row(command) is None


def test_database_error_is_isolated(shared):
    """It is answered and dead-lettered; what came with it goes on."""
    before, command, after = shared.world.command(), shared.world.command(name=POISON), shared.world.command()
    results = shared.answer_all(before, command, after)
    check_created(shared, results[0], before, leads(1, 10))
    check_created(shared, results[2], after, leads(1, 10))
    check_refused(shared, results[1], command, "database_error",
                  "the database refused this command (SQLSTATE %s); nothing was written" % REFUSED)
    assert shared.row(command) is None
    letter = shared.dead_reader.wait(1, 20)[-1]
    assert letter.value == command_codec.encode(command) and letter.key == ACME.encode()
    assert letter.header("campaign-dlt-reason") == "database_error" and letter.header("campaign-dlt-answered") == "INTERNAL_ERROR"


def test_rows_stay_locked(shared):
    """Somebody else keeps the grant: this command alone is given up after three tries, those of other grants are not."""
    shared.add_key("key-locked", ACME, 1000, 1000)
    other = shared.world.session()
    with other.cursor() as cursor:
        cursor.execute("SELECT FROM api_key_account_groups WHERE key_digest = %s FOR UPDATE", (digest("key-locked"),))
    stuck, good = shared.world.command(apiKeyDigest="key-locked"), shared.world.command()
    results = shared.answer_all(stuck, good)
    other.rollback()
    check_refused(shared, results[0], stuck, "rows_locked",
                  "rows this command needs stayed locked by another session; nothing was written")
    check_created(shared, results[1], good, leads(1, 10))
    again, = shared.answer_all(stuck)
    check_created(shared, again, stuck, leads(1, 10), "key_locked")


# ---- the same command again ----

def test_same_command_again(shared):
    command = shared.world.command(leadIds=["lead_02", "lead_01"])
    first = shared.answer(command)
    check_created(shared, first, command, leads(1, 2))
    again = shared.answer({**command, "leadIds": ["lead_01", "lead_02", "lead_01"], "issuedAt": command["issuedAt"] + 7})
    check_accepted(shared, again, {**command, "issuedAt": command["issuedAt"] + 7}, existed=True)
    assert again["data"] == first["data"]


def test_same_command_twice_in_one_batch(shared):
    command = shared.world.command()
    results = shared.answer_all(command, command, command)
    check_created(shared, results[0], command, leads(1, 10))
    for result in results[1:]:
        check_accepted(shared, result, command, existed=True)
        assert result["data"] == results[0]["data"]


def test_draft_as_it_now_stands(shared):
    """Whatever became of the draft, and although nothing else of the command holds any more."""
    shared.add_key("key-passing", ACME, 1000, 1000)
    source = "source_" + uuid.uuid4().hex[:8]
    shared.world.sql("INSERT INTO campaigns (account_group_id, id, name, status) VALUES (%s, %s, 'Passing', 'draft')", ACME, source)
    command = shared.world.command(apiKeyDigest="key-passing", campaignId=source)
    first = shared.answer(command)
    shared.world.sql("""
        UPDATE campaigns SET name = 'Neuer Name', description = 'added', status = 'running', selected_lead_count = 7,
            include_conversation_history = true, auto_cancel_on_message_received = true, outreach_language = 'fr',
            updated_at = '2027-01-02T03:04:05.678Z', started_at = '2027-01-02T03:04:05.001Z',
            rate_limited_until = '2027-01-02T03:04:06Z'
        WHERE account_group_id = %s AND trace_id = %s""", ACME, command["traceId"])
    shared.world.sql("UPDATE campaigns SET deleted_at = now() WHERE id = %s", source)
    shared.world.sql("UPDATE api_keys SET revoked_at = now() WHERE public_id = 'key_passing'")
    shared.world.sql("UPDATE audiences SET ready = false WHERE account_group_id = %s AND id = 'aud_list'", ACME)
    try:
        again = shared.answer({**command, "expiresAt": 1})
    finally:
        shared.world.sql("UPDATE audiences SET ready = true WHERE account_group_id = %s AND id = 'aud_list'", ACME)
    row = check_accepted(shared, again, command, existed=True)
    assert again["data"]["id"] == first["data"]["id"] and row["name"] == again["data"]["name"] == "Neuer Name"
    assert again["data"]["startedAt"] == 1798859045001 and again["data"]["rateLimitedUntil"] == 1798859046000


def test_draft_deleted(shared):
    command = shared.world.command()
    shared.answer(command)
    shared.world.sql("UPDATE campaigns SET deleted_at = now() WHERE trace_id = %s", command["traceId"])
    check_refused(shared, shared.answer(command), command, "draft_deleted",
                  "the draft of traceId %s has been deleted" % command["traceId"])
    other = {**command, "name": "another"}  # also of a deleted draft nothing is told
    check_refused(shared, shared.answer(other), other, "trace_reused", "traceId %s belongs to another command" % command["traceId"])


OTHER_FIELDS = {
    "name": {"name": "x"}, "campaignId": {"campaignId": AUTUMN}, "audienceId": {"audienceId": "aud_second"},
    "leadIds": {"leadIds": leads(1, 10)}, "apiKeyDigest": {"apiKeyDigest": "demo-key-other"},
}


@pytest.mark.parametrize("field", OTHER_FIELDS)
def test_trace_reused(shared, field):
    """Another command under the same traceId, of this or of another key, sees nothing of the draft and changes nothing."""
    command = shared.world.command(name="Vertraulich " + field)
    first = shared.answer(command)
    before = shared.row(command)
    fields = {"apiKeyDigest": digest("demo-key-other")} if field == "apiKeyDigest" else OTHER_FIELDS[field]
    other = {**command, **fields}
    result = shared.answer(other)
    check_refused(shared, result, other, "trace_reused", "traceId %s belongs to another command" % command["traceId"])
    assert first["data"]["id"] not in json.dumps(result) and "Vertraulich" not in json.dumps(result)
    assert shared.row(command) == before


@pytest.mark.parametrize("key", ["demo-key-revoked", "nobody's", None, "demo-key-readonly", "demo-key-nogroup"])
def test_who_may_not_write_learns_nothing_of_a_trace(shared, key):
    """The same answer to the traceId of a draft as to one of nothing."""
    command = shared.world.command()
    shared.answer(command)
    reused, fresh = ({**shared.world.command(apiKeyDigest=key), "traceId": trace} for trace in (command["traceId"], uuid.uuid4().hex))
    answers = shared.answer_all(reused, fresh)
    unlike = ("traceId", "command", "issuedAt", "processedAt")
    assert [{k: v for k, v in answer.items() if k not in unlike} for answer in answers][0] == \
        {k: v for k, v in answers[1].items() if k not in unlike}
    assert answers[0]["httpStatus"] in (401, 403)


# ---- one rule goes before the other ----

def test_precedence(shared):
    """Each command breaks two rules; the earlier one answers."""
    world, slow = shared.world, "key-used-up"
    shared.add_key(slow, ACME, HOUR_MS * 1000, 1)
    draft = world.command()
    shared.answer_all(draft, world.command(apiKeyDigest=slow))
    trace = {"traceId": draft["traceId"]}
    pairs = [
        ("invalid_field", {**trace, "name": ""}),                                                   # 1 before 2
        ("draft existed", {**draft, "expiresAt": 1}),                                               # 2 before 3
        ("expired", {"expiresAt": 1, "apiKeyDigest": None}),                                        # 3 before 4
        ("expired", {**trace, "name": "other", "expiresAt": 1}),                                    # 3 before 6
        ("key_revoked", {"apiKeyDigest": digest("nothing-right"), "accountGroupId": BETA}),         # 4 before 5
        ("key_unknown", {**trace, "apiKeyDigest": digest("nobody's")}),                             # 4 before 6
        ("permission_missing", {"apiKeyDigest": digest("demo-key-readonly"), "accountGroupId": BETA}),  # within 5
        ("permission_missing", {**trace, "apiKeyDigest": digest("demo-key-readonly")}),             # 5 before 6
        ("account_group_denied", {**trace, "apiKeyDigest": digest("demo-key-nogroup")}),            # 5 before 6
        ("account_group_denied", {"apiKeyDigest": digest("demo-key-nogroup"), "campaignId": "none"}),  # 5 before 8
        ("trace_reused", {**trace, "apiKeyDigest": digest(slow)}),                                  # 6 before 7
        ("trace_reused", {**trace, "campaignId": "none"}),                                          # 6 before 8
        ("rate_limited", {"apiKeyDigest": digest(slow), "campaignId": "none"}),                     # 7 before 8
        ("campaign_not_found", {"campaignId": "none", "audienceId": "none"}),                       # within 8
        ("campaign_not_found", {"campaignId": "none", "audienceId": "aud_populating"}),             # 8 before 9
        ("audience_not_found", {"audienceId": "none", "leadIds": ["none"]}),                        # 8 before 10
        ("audience_populating", {"audienceId": "aud_populating", "leadIds": ["none"]}),             # 9 before 10
        ("audience_populating", {"audienceId": "aud_populating_folder", "leadIds": ["lead_18"]}),   # 9 before 11
        ("lead_not_in_audience", {"audienceId": "aud_busy", "leadIds": ["lead_18", "lead_01"]}),    # 10 before 11
    ]
    results = shared.answer_all(*(world.command(**fields) for _, fields in pairs))
    assert [result["reason"] or ("draft existed" if result["draftExisted"] else "new draft") for result in results] == \
        [reason for reason, _ in pairs]
    both = world.command(name="")
    check_refused(shared, shared.answer(both, key="ag_other"), both, "key_mismatch",  # 0 before 1
                  "the record key is not the command's accountGroupId")


# ---- account groups ----

def test_one_trace_in_two_account_groups(shared):
    acme = shared.world.command()
    beta = {**acme, "accountGroupId": BETA, "campaignId": BETA_LAUNCH, "audienceId": "aud_beta"}
    results = shared.answer_all(acme, beta)
    check_created(shared, results[0], acme, leads(1, 10))
    check_created(shared, results[1], beta, ["lead_b%d" % n for n in range(1, 6)])
    again = shared.answer_all(beta, acme)
    check_accepted(shared, again[0], beta, existed=True)
    check_accepted(shared, again[1], acme, existed=True)
    assert again[0]["data"]["id"] != again[1]["data"]["id"]


# field: an id of Beta's, that of nobody, and what makes the rest of the command fit
FOREIGN = {
    "campaignId": (BETA_LAUNCH, "65b0000000000000000000ff", {}),
    "audienceId": ("aud_beta", "aud_nope", {}),
    "audienceId, leads of its own": ("aud_beta", "aud_nope", {"leadIds": ["lead_b1"]}),
    "leadIds": ("lead_b1", "lead_zz", {}),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_ids_of_another_account_group(shared, case):
    """Answered as ids that do not exist: nothing differs but the id itself."""
    theirs, nobodys, rest = FOREIGN[case]
    field = case.split(",")[0]

    def command(value):
        return shared.world.command(**{**rest, field: [value, "lead_01"] if field == "leadIds" else value})

    results = shared.answer_all(command(theirs), command(nobodys))
    texts = [json.dumps({k: v for k, v in result.items() if k not in ("traceId", "command", "issuedAt", "processedAt")}, sort_keys=True)
             for result in results]
    assert results[0]["httpStatus"] in (400, 404)
    assert texts[0] == texts[1].replace(nobodys, theirs)


def test_twins_in_another_account_group(shared):
    """Beta has a campaign, an audience and a lead with the ids of Acme's, and enrolled that lead. Neither sees the other's."""
    acme, beta = shared.world.command(), shared.world.command(accountGroupId=BETA)
    twin = shared.world.command(accountGroupId=BETA, leadIds=["lead_twin"])
    results = shared.answer_all(acme, beta, twin)
    check_created(shared, results[0], acme, leads(1, 10))
    assert results[0]["data"]["name"] == "Spring outreach"
    check_refused(shared, results[1], beta, "lead_active", "lead lead_01 is enrolled in campaign %s (running)" % SPRING)
    check_created(shared, results[2], twin, ["lead_twin"])
    assert results[2]["data"]["name"] == "Twin of Spring" and shared.row(twin)["workflow"] == {"twin": True}
    foreign = shared.world.command(accountGroupId=BETA, leadIds=["lead_05"])  # a member of Acme's list of that id only
    check_refused(shared, shared.answer(foreign), foreign, "lead_not_in_audience", "leadIds not in audience aud_list: lead_05")


def test_a_key_of_another_account_group(shared):
    """The partition of one group is no way into another: rule 0."""
    command = shared.world.command()
    shared.answer(command)
    reused = {**command, "name": "through the other's partition"}
    for wrong in (command, reused):
        check_refused(shared, shared.answer(wrong, key=BETA), wrong, "key_mismatch", "the record key is not the command's accountGroupId")
    assert shared.row(command)["name"] == "Spring outreach"


# ---- 429 ----

class Gcra:
    """The rate limit as its definition says, on one (key, account group)."""

    def __init__(self, interval_us, burst):
        self.interval, self.tolerance, self.tat = interval_us, interval_us * (burst - 1), 0

    def admits(self, at_us):
        if self.tat - at_us > self.tolerance:
            return False
        self.tat = max(self.tat, at_us) + self.interval
        return True

    def retry_after_s(self, now_us):
        return max(1, -(-(self.tat - self.tolerance - now_us) // 1000000))


RATES = {  # interval in microseconds: as the details say it
    100000: "10 per second", 500000: "2 per second", 60000000: "1 per minute", 20000000: "3 per minute", 3600000000: "1 per hour",
    2500000: "24 per minute", 7000000: "1 per 7 s",
}


@pytest.mark.parametrize("interval_us", RATES)
def test_rate_limited(shared, interval_us):
    """Commands far above the limit: which are refused, and for how long, is computed again, exactly."""
    key, burst = "key-rate-%d" % interval_us, 3
    shared.add_key(key, ACME, interval_us, burst)
    shared.add_key(key, BETA, interval_us, burst)  # the limit is of the key in one account group
    commands = [shared.world.command(apiKeyDigest=key) for _ in range(8)]
    other = shared.world.command(apiKeyDigest=key, accountGroupId=BETA, campaignId=BETA_LAUNCH, audienceId="aud_beta")
    results = shared.answer_all(*commands, other)
    assert results.pop()["httpStatus"] == 201
    limit = Gcra(interval_us, burst)
    for command, result in zip(commands, results):
        if limit.admits(result["command"]["timestamp"] * 1000):
            check_created(shared, result, command, leads(1, 10), key.replace("-", "_"))
            continue
        wait_s = limit.retry_after_s(result["processedAt"] * 1000)
        check_refused(shared, result, command, "rate_limited",
                      "rate limit of %s, burst %d; retry after %d s" % (RATES[interval_us], burst, wait_s), retry_after_s=wait_s)
    assert [result["httpStatus"] for result in results].count(201) >= burst
    assert 429 in [result["httpStatus"] for result in results]


def test_rate_is_that_of_arrival(world):
    """The worker is away while commands arrive at the sustained rate. When it is back it judges them as of then: no 429; and
    those that came too fast meanwhile are still refused, each as its definition says."""
    steady, hasty = "steady-key", "hasty-key"
    for key in (steady, hasty):
        add_key(world, key, ACME, 50000, 2)
    worker = world.worker()
    worker.wait_for_log("running")
    assert worker.stop() == 0
    commands = {}

    def publish(key, n):
        some = [world.command(apiKeyDigest=key) for _ in range(n)]
        commands.update((place, key) for place in world.send(*some))

    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        publish(steady, 1)
        publish(hasty, 1)
        time.sleep(0.051)
    publish(hasty, 40)
    worker.start()
    limits = {key: Gcra(50000, 2) for key in (steady, hasty)}
    statuses = {key: [] for key in limits}
    for result in sorted(world.await_results(len(commands)), key=lambda result: result.place):
        key = commands[result.place]
        admitted = limits[key].admits(result["command"]["timestamp"] * 1000)
        assert result["httpStatus"] == (201 if admitted else 429)
        assert admitted or result["retryAfterSeconds"] == limits[key].retry_after_s(result["processedAt"] * 1000)
        statuses[key].append(result["httpStatus"])
    assert set(statuses[steady]) == {201} and len(statuses[steady]) > 20
    assert statuses[hasty].count(429) > 30  # those 40
    assert worker.stop() == 0


# ---- headers ----

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

CARRIED = {
    "both": ([("traceparent", PARENT), ("tracestate", b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")], 2),
    "traceparent alone": ([("traceparent", PARENT)], 1),
    "a future version": ([("traceparent", b"cc" + PARENT[2:])], 1),
    "tracestate of 512 bytes": ([("traceparent", PARENT), ("tracestate", b"k=" + b"v" * 510)], 2),
    "tracestate alone": ([("tracestate", b"congo=t61rcWkgMzE")], 0),
    "tracestate too long": ([("traceparent", PARENT), ("tracestate", b"k=" + b"v" * 511)], 1),
    "tracestate not ASCII": ([("traceparent", PARENT), ("tracestate", b"k=\xff")], 1),
    "tracestate empty": ([("traceparent", PARENT), ("tracestate", b"")], 1),
    "tracestate null": ([("traceparent", PARENT), ("tracestate", None)], 1),
    "traceparent in capitals": ([("traceparent", PARENT.upper())], 0),
    "traceparent too short": ([("traceparent", PARENT[:-1]), ("tracestate", b"a=b")], 0),
    "traceparent too long": ([("traceparent", PARENT + b"-00")], 0),
    "version ff": ([("traceparent", b"ff" + PARENT[2:])], 0),
    "trace-id of zeros": ([("traceparent", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01")], 0),
    "parent-id of zeros": ([("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01")], 0),
    "traceparent null": ([("traceparent", None)], 0),
    "other name": ([("Traceparent", PARENT), ("traceId", b"other"), ("httpStatus", b"500"), ("code", b"X")], 0),
}


@pytest.mark.parametrize("case", CARRIED)
def test_trace_context(shared, case):
    """Unchanged, and only if it is what the W3C's syntax says."""
    sent, carried = CARRIED[case]
    for command in (shared.world.command(), shared.world.command(apiKeyDigest=None)):
        result = shared.answer(command, headers=sent)
        check_headers(result, *sent[:carried])
        assert result["traceId"] == command["traceId"]  # header traceId is overruled by the decoded value


# ---- the producer's view: JSON and HTTP ----

def json_text(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def http_text(result):
    """The reference's response."""
    data = result["data"] and dict(result["data"])
    for name in ("createdAt", "updatedAt", "startedAt", "rateLimitedUntil"):
        if data and data[name] is not None:
            data[name] = time_text(data[name])
    body = json_text({"success": result["success"], "data": data, "error": result["error"], "traceId": result["traceId"]}).encode()
    head = ["HTTP/1.1 %d %s" % (result["httpStatus"], PHRASES[result["httpStatus"]]), "Content-Type: application/json",
            "Content-Length: %d" % len(body)]
    if result["retryAfterSeconds"] is not None:
        head.append("Retry-After: %d" % result["retryAfterSeconds"])
    return "\r\n".join(head + ["", ""]).encode() + body


def event_text(result):
    """The event as JSON: all keys in the reference's order, nulls written, times in ISO 8601."""
    event = dict(result)
    if event["data"]:
        event["data"] = {k: time_text(v) if k.endswith("At") and v is not None or k == "rateLimitedUntil" and v is not None else v
                         for k, v in event["data"].items()}
    event["command"] = {**event["command"], "timestamp": time_text(event["command"]["timestamp"])}
    for name in ("issuedAt", "processedAt"):
        event[name] = event[name] and time_text(event[name])
    return json_text(event)


def test_watch_prints_every_answer(shared):
    """All that this file provoked, byte for byte, in each partition's order."""
    shared.answer_all(shared.world.command(), shared.world.command(apiKeyDigest=None))
    results = shared.world.all_results()

    def watch(*args):
        return shared.world.program("campaign-producer", "watch", "--from", "beginning", "--until-end", *args, text=False).stdout

    printed = watch("--http").split(b"\nHTTP/1.1 ")
    printed = [printed[0]] + [b"HTTP/1.1 " + text for text in printed[1:]]
    assert sorted(text.rstrip(b"\n") for text in printed) == sorted(http_text(result) for result in results)

    lines = watch().decode().splitlines()
    by_partition = {}
    for line in lines:
        by_partition.setdefault(json.loads(line)["partition"], []).append(line)
    for partition, some in by_partition.items():
        assert some == ['{"partition":%d,"offset":%d,"result":%s}' % (partition, result.record.offset, event_text(result))
                        for result in results if result.record.partition == partition]
    assert len(lines) == len(results)


def test_send_and_wait_prints_the_response(shared):
    shared.add_key("key-once", ACME, HOUR_MS * 1000, 1)
    for key, status in (("key-once", 201), ("key-once", 429), ("nobody's", 401)):
        trace = uuid.uuid4().hex
        done = shared.world.program(
            "campaign-producer", "send", "--wait", "--http", "--trace-id", trace, "--account-group", ACME, "--campaign", SPRING,
            "--audience", "aud_list", "--traceparent", PARENT.decode(), "--tracestate", "a=b", env={"CAMPAIGN_API_KEY": key},
            check=False, text=False)
        result, = (result for result in shared.world.all_results() if result["traceId"] == trace)
        assert result["httpStatus"] == status
        assert done.returncode == (0 if status == 201 else 1)
        assert done.stdout == http_text(result) + b"\n"
        check_headers(result, ("traceparent", PARENT), ("tracestate", b"a=b"))


def test_nothing_of_a_payload_is_logged(shared):
    """At the most talkative level; the keys' public ids are there, their digests, names and leads are not."""
    command = shared.world.command(name="Geheimnis", leadIds=["lead_07"])
    refused = shared.world.command(name="Geheimnis\n", apiKeyDigest="demo-key-other", audienceId="sk_live_secret")
    shared.answer_all(command, refused)
    wait_until(lambda: shared.worker.events("accepted", traceId=command["traceId"]), 10, "a line in the log")
    text = shared.worker.text()
    assert "key_full" in text
    for secret in ("Geheimnis", "lead_07", "sk_live", digest("demo-key-full").hex(), digest("demo-key-other").hex(), "password"):
        assert secret not in text, secret
    line, = shared.worker.events("accepted", traceId=command["traceId"])
    assert line["key"] == "key_full" and line["topic"] == shared.world.commands and str(line["offset"]).isdigit()


def test_drains(shared):
    """Last: what all of this leaves is a worker that ends in order, and one answer to every record."""
    assert shared.worker.stop() == 0
    shared.world.verify()
    shared.worker.start()
