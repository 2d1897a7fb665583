"""A few rounds of the crash harness (tests/crash; `make crash` is the long run)."""

import os
import sys

import pytest

from harness import REPO, sanitized

sys.path.insert(0, os.path.join(REPO, "tests", "crash"))

from rounds import GROUP, arena  # noqa: E402

SECONDS = 20


@pytest.mark.skipif(sanitized(), reason="sanitizer builds have `make crash`: at their pace few rounds fit into the time of a test")
def test_rounds_of_a_random_workload_with_deaths_of_the_daemon():
    with arena(7, isolated=False) as rounds:
        rounds.choice = rounds.OF_THE_DAEMON  # those of shims have tests of their own and the long run
        assert rounds.run(2 * GROUP, SECONDS) > 0
        assert rounds.steps > 0


@pytest.mark.skipif(sanitized(), reason="sanitizer builds have `make crash-hosts`")
def test_nothing_is_lost_when_drivers_processes_die_under_load():
    """`make crash-hosts` kills a hundred."""
    with arena(7, isolated=True) as rounds:
        rounds.run(2, 60, kills=6)
        assert sum(rounds.killed.values()) >= 6 and rounds.steps > 0
