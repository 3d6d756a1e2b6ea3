"""Times in the store that no text of the contract has."""

import pytest


@pytest.mark.parametrize("time_, nearest", [
    ("infinity", 253402300799999), ("-infinity", -62135596800000), ("0044-03-15 BC", -62135596800000),
    ("12026-01-01", 253402300799999)])
def test_draft_with_times_out_of_this_world(world, time_, nearest):
    """Somebody changes a draft; its command is delivered again."""
    command = world.command()
    world.send(command)
    world.worker()
    world.await_results(1)
    world.sql("UPDATE campaigns SET created_at = %(t)s, updated_at = %(t)s, started_at = %(t)s, rate_limited_until = %(t)s "
              "WHERE trace_id IS NOT NULL", {"t": time_})
    world.send(command)
    again = world.await_results(2)[-1]
    assert again["success"] and again["draftExisted"]
    data = again["data"]
    assert (data["createdAt"], data["updatedAt"], data["startedAt"], data["rateLimitedUntil"]) == (nearest, nearest, None, None)
    lines = world.program("campaign-producer", "watch", "--from", "beginning", "--count", "2").stdout
    assert ('"createdAt":"%s"' % ("9999-12-31T23:59:59.999Z" if nearest > 0 else "0001-01-01T00:00:00.000Z")) in lines
