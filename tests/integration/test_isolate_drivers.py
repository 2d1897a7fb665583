"""The tests of volume plugins and of networks that span hosts, with those drivers in processes of their own; and what their deaths cost."""

import os
import signal

import pytest

from harness import IMAGE, sample, wait_until
from test_isolate import process, running
from test_overlay import (all_meet, create, make_cluster, networks, pings, resolves, sleeper, test_rename_and_connect,  # noqa: F401
                          test_two_hosts)
from test_overlay_more import test_both_families_on_one_host, test_ports_are_published_where_the_container_runs  # noqa: F401
from test_volume_plugins import *  # noqa: F401,F403

del test_the_kit  # noqa: F821: it has no daemon
sample(globals(), {"test_two_hosts", "test_ports_are_published_where_the_container_runs", "test_a_plugin_that_appears_is_a_driver", "test_a_volume_of_a_plugin",
                   "test_answers_that_are_none_leave_nothing", "test_a_plugin_that_dies_and_comes_back", "test_counts_after_the_daemon_was_killed"})


@pytest.fixture
def isolation():
    return {"isolate": "process"}


def kill_process(daemon, plugin):
    """Returns once the next one takes calls."""
    pid = running(daemon, plugin)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: process(daemon, plugin)["State"] == "running" and process(daemon, plugin)["Pid"] != pid, 30, f"the process of {plugin} being back")


# ---- volumes ----

def test_volumes_outlive_the_drivers_process(host, plugin):
    host.docker("run", "-d", "--name", "c1", "--volume-driver", "dirs", "-v", "vol:/m", IMAGE, "sleep", "1000")
    user = host.inspect("c1")["Id"]
    for _ in range(3):
        kill_process(host, "vol-docker")
        host.docker("exec", "c1", "touch", "/m/x")
        assert host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "ls", "/m").out == "x\n"
        assert plugin.ids("vol") == [user]
    host.docker("volume", "create", "-d", "dirs", "other")
    host.docker("rm", "-f", "c1")
    assert plugin.ids("vol") == [] and plugin.mounts() == []
    assert len(plugin.calls("Mount")) == len(plugin.calls("Unmount")) == 4


def test_the_drivers_process_is_killed_within_a_mount(host, plugin):
    """The server has mounted, but nobody heard it: the next process mounts once more, and what is mounted for nobody is taken back."""
    host.docker("volume", "create", "-d", "dirs", "vol")
    host.docker("run", "-d", "--name", "c1", "-v", "vol:/m", IMAGE, "sleep", "1000")
    user = host.inspect("c1")["Id"]
    host.restart()
    assert plugin.ids("vol") == [user]
    plugin.fault("Mount", "after\nonce")
    client = host.popen("docker", "run", "--rm", "-v", "vol:/m", IMAGE, "true")
    wait_until(lambda: len(plugin.ids("vol")) == 2, what="the plugin's mount")
    kill_process(host, "vol-docker")
    assert client.wait() == 0
    wait_until(lambda: plugin.ids("vol") == [user], what="the mount taken back")
    # The server forgets while the process is away: it is told again.
    pid = running(host, "vol-docker")
    os.kill(pid, signal.SIGSTOP)
    plugin.kill()
    plugin.start(forgetful="yes")
    assert plugin.ids("vol") == []
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: plugin.ids("vol") == [user], what="the mount in use made known")
    host.docker("rm", "-f", "c1")
    assert plugin.ids("vol") == [] and plugin.mounts() == []


# ---- networks that span hosts ----

def test_news_of_other_hosts_after_the_drivers_process_died(make_cluster):  # noqa: F811
    """Its eventfd is another one in each process; the daemon's stays."""
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    sleeper(a, "c1")
    sleeper(b, "c2")
    all_meet(cluster, [(a, "c1"), (b, "c2")])
    for round in range(2):
        kill_process(a, "net-overlay")
        assert pings(a, "c1", "c2") and pings(b, "c2", "c1")
        ip = sleeper(b, f"late{round}")
        wait_until(lambda: resolves(a, "c1", f"late{round}") == [ip] and pings(a, "c1", f"late{round}"), 15, "a's containers reaching a new one of b's")
        b.docker("network", "create", "-d", "overlay", f"net{round}")
        wait_until(lambda: f"net{round}" in networks(a), 15, "a knowing b's new network")
        b.docker("rm", "-f", f"late{round}")
        wait_until(lambda: resolves(a, "c1", f"late{round}") == [], 15, "the name going")
        b.docker("network", "rm", f"net{round}")
        wait_until(lambda: f"net{round}" not in networks(a), 15, "the network going")
        peers = {peer["IP"] for peer in a.json("GET", "/networks/ovl")["Peers"]}
        assert peers == {a.address, b.address}
