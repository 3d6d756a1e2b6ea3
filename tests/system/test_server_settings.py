"""What somebody sets in PostgreSQL, for the server or for the login, and sessions that somebody ends, while workers are
connected."""

import time

import pytest

from test_database import configure, own_services, own_world, send_steadily, statuses, terminate_backends  # noqa: F401

# ---- guarantees ----


@pytest.fixture
def reset(own_world):  # noqa: F811
    yield own_world
    for name in "synchronous_commit", "fsync", "full_page_writes":
        configure(own_world, name, None)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
@pytest.mark.parametrize("name", ["synchronous_commit", "fsync", "full_page_writes"])
def test_guarantee_that_is_taken_away(reset, name, busy):
    """A worker that is connected finds out within seconds, and gives up as it would at the start."""
    world = reset
    worker = world.worker()
    sent = world.send(world.command())
    world.await_results(1)
    configure(world, name, "off")
    deadline = time.monotonic() + 15
    while busy and worker.alive() and time.monotonic() < deadline:
        sent += send_steadily(world, 0.2)
    assert worker.wait() != 0
    (fatal,) = worker.events("fatal")
    assert name in fatal["msg"] and "may lose commits" in fatal["msg"]
    configure(world, name, None)
    worker.start()
    assert statuses(world.verify(sent).values()) == {201: len(sent)}


def test_failover_that_becomes_unsafe(reset):
    """A synchronous standby appears, and the login commits locally."""
    world = reset
    world.sql("ALTER ROLE %s IN DATABASE %s SET synchronous_commit = local" % (world.services.LOGIN, world.database))
    worker = world.worker()
    sent = world.send(world.command())
    world.await_results(1)
    configure(world, "synchronous_standby_names", "ghost")
    assert worker.wait() != 0
    assert "synchronous_commit is local" in worker.events("fatal")[0]["msg"]
    configure(world, "synchronous_standby_names", None)
    worker.start()
    assert statuses(world.verify(sent).values()) == {201: 1}


# ---- the login's own settings ----


def test_what_the_login_has_set_ends_nothing(world):
    for setting in (
        "idle_session_timeout = '700ms'", "idle_in_transaction_session_timeout = '1ms'", "statement_timeout = '1s'",
        "lock_timeout = '1ms'", "default_transaction_isolation = 'serializable'", "search_path = nowhere",
        "\"DateStyle\" = 'German'", "bytea_output = 'escape'", "client_encoding = 'LATIN1'", "\"TimeZone\" = 'Asia/Tokyo'",
        "\"IntervalStyle\" = 'sql_standard'", "extra_float_digits = 0",
    ):
        world.sql("ALTER ROLE %s IN DATABASE %s SET %s" % (world.services.LOGIN, world.database, setting))
    worker = world.worker()
    sent = world.send(world.command(name="Été"))
    world.await_results(1)
    time.sleep(3)
    sent += world.send(world.command(name="Été"), world.command(apiKeyDigest="demo-key-revoked"))
    assert statuses(world.verify(sent).values()) == {201: 2, 401: 1}
    assert len(worker.events("database_connected")) == 1
    assert not [line for line in worker.events() if line["level"] in ("warn", "error")]


def test_idle_session_that_is_ended(world):
    """An administrator ends it: one line says so, and nobody is alarmed."""
    worker = world.worker()
    sent = world.send(world.command())
    world.await_results(1)
    for round in range(3):
        time.sleep(1.5)  # behind the confirmation
        terminate_backends(world)
        again = worker.wait_for_log("database_connected", count=round + 2)[-1]
        assert "57P01" in again["ended"]
        sent += world.send(world.command())
        world.await_results(round + 2)
    assert statuses(world.verify(sent).values()) == {201: 4}
    assert not [line for line in worker.events() if line["level"] in ("warn", "error")]
