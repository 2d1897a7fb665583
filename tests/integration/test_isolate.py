"""Drivers with processes of their own (isolate = process): what ordinary life is like, and what the death of one costs."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from harness import BUILD, IMAGE, SLOW, Daemon, sample, sanitized, wait_until
from test_layers import *  # noqa: F401,F403
from test_networks import *  # noqa: F401,F403
from test_volumes import *  # noqa: F401,F403

sample(globals(), {"test_a_stack_is_what_umoci_makes_of_it", "test_what_no_layer_may_hold_is_refused_and_leaves_nothing", "test_published_ports", "test_ipv6",
                   "test_localhost_is_both_of_its_addresses", "test_a_port_in_use_is_told_and_nothing_stays", "test_user_defined_networks",
                   "test_flushed_rules_come_back", "test_a_named_volume_outlives_its_containers", "test_bad_mounts_are_refused_and_leave_nothing",
                   "test_an_empty_volume_gets_the_images_content", "test_subpath_of_a_volume", "test_no_mount_appears_on_the_host"})

PLUGINS = ["vol-local", "storage-overlay", "net-bridge", "net-host"]
ISOLATED = {f"plugin.{name}": {"isolate": "process"} for name in PLUGINS}


@pytest.fixture(scope="module")
def shared_daemon(workdir):
    """The tests of volumes and layers run here too, on a daemon whose drivers are elsewhere."""
    d = Daemon(workdir, ISOLATED)
    try:
        d.start()
        yield d
        assert {name: process(d, name)["Starts"] for name in PLUGINS} == {name: 1 for name in PLUGINS}
    finally:
        d.destroy()


@pytest.fixture
def apart(fresh_daemon):
    """A daemon of the test's own with isolated drivers, not started."""
    fresh_daemon.write_ini(ISOLATED)
    return fresh_daemon


def process(daemon, plugin):
    (row,) = [row for row in daemon.json("GET", "/plugins") if row["Name"] == plugin]
    return row.get("Process")


def running(daemon, plugin):
    """The pid, once there is one."""
    return wait_until(lambda: process(daemon, plugin)["State"] == "running" and process(daemon, plugin)["Pid"], timeout=30, what=f"the process of {plugin} running")


def hosts(daemon):
    return list(daemon.plugin_hosts())


def status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def capabilities(pid):
    bits = int(status(pid)["CapEff"], 16)
    assert int(status(pid)["CapBnd"], 16) == bits == int(status(pid)["CapPrm"], 16)
    return bits


# ---- ordinary life ----

def test_each_plugin_has_a_process_and_the_daemon_has_not_loaded_it(apart):
    apart.start()
    assert len({running(apart, name) for name in PLUGINS}) == len(PLUGINS) == len(hosts(apart))
    with open(f"/proc/{apart.process.pid}/maps") as f:
        maps = f.read()
    assert "/net-macvlan.so" in maps and not [name for name in PLUGINS if f"/{name}.so" in maps]
    listed = apart.gantry("plugin", "ls").out
    assert re.search(r"vol-local.*true +running", listed) and re.search(r"net-macvlan.*true +-", listed)
    assert re.search(r"^storage-overlay +storage-overlay ", listed, re.M), "a name is whole, to be used in other commands"
    apart.stop()
    assert hosts(apart) == []


def test_a_process_has_what_its_kind_needs_and_no_more(apart):
    apart.start()
    volume, storage, network = (capabilities(running(apart, name)) for name in ("vol-local", "storage-overlay", "net-bridge"))
    sys_admin, net_admin, sys_ptrace, kill = 1 << 21, 1 << 12, 1 << 19, 1 << 5
    assert not volume & (sys_admin | net_admin | sys_ptrace | kill)
    assert network & sys_admin and network & net_admin and not network & (sys_ptrace | kill)
    assert storage & sys_admin and not storage & (net_admin | sys_ptrace | kill)
    for name in PLUGINS:
        assert status(running(apart, name))["Seccomp"] == "2" and status(running(apart, name))["NoNewPrivs"] == "1"


def test_wrong_words_are_told_with_file_and_line(apart):
    apart.write_ini({"plugin.vol-local": {"isolate": "sometimes"}})
    done = apart.command(os.path.join(BUILD, "bin", "gantryd"), "--config", apart.ini_path, "--check-config", check=False)
    assert done.code == 1 and re.search(r"gantryd.ini:\d+: \[plugin.vol-local\] isolate: sometimes is neither none nor process", done.err), done
    apart.write_ini(ISOLATED)
    done = apart.command(os.path.join(BUILD, "bin", "gantryd"), "--config", apart.ini_path, "--check-config", check=False)
    assert done.code == 0, done
    assert "isolate = process" in apart.command(os.path.join(BUILD, "bin", "gantryd"), "--config", apart.ini_path, "--print-config").out


# ---- death ----

def test_a_death_between_calls_costs_nothing(apart):
    apart.start()
    for plugin in PLUGINS * 2:
        pid = running(apart, plugin)
        os.kill(pid, signal.SIGKILL)
        assert apart.docker("run", "--rm", "-v", "data:/data", IMAGE, "sh", "-c", "echo x >>/data/lines; cat /data/lines").out
        assert running(apart, plugin) != pid
    assert apart.docker("run", "--rm", "-v", "data:/data", IMAGE, "cat", "/data/lines").out == "x\n" * 2 * len(PLUGINS)
    assert apart.log().count("was killed by signal 9 (Killed)") == 2 * len(PLUGINS)
    assert "was killed by signal 9" in apart.gantry("plugin", "ls", "--no-trunc").out
    apart.docker("volume", "rm", "data")
    assert not apart.audit()


def test_a_hang_ends_at_the_deadline_and_nothing_else_waits(apart):
    apart.start()
    apart.docker("run", "-d", "--name", "witness", IMAGE, "sleep", "1000")
    pid = running(apart, "vol-local")
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    results = []
    hung = threading.Thread(target=lambda: results.append(apart.api("POST", "/volumes/create", {"Name": "late"}, timeout=120)))
    hung.start()
    apart.docker("exec", "witness", "true")
    apart.docker("run", "--rm", IMAGE, "true")
    hung.join()
    assert results[0].status == 500 and b"did not return in time" in results[0].body, results[0].body
    assert time.monotonic() - begun > 29
    assert running(apart, "vol-local") != pid
    apart.docker("run", "--rm", "-v", "data:/data", IMAGE, "true")
    assert apart.json("GET", "/volumes")["Volumes"][0]["Name"] == "data" and len(apart.json("GET", "/volumes")["Volumes"]) == 1


def test_nothing_is_lost_when_processes_die_under_load(apart):
    """Each kind's process is killed again and again while containers and volumes come and go. Errors are allowed; losses are not."""
    apart.start()
    for name in ("kept", "other"):
        apart.docker("run", "--rm", "-v", name + ":/data", IMAGE, "sh", "-c", f"echo {name} >/data/file")
    apart.docker("run", "-d", "--name", "witness", "-v", "kept:/data", IMAGE, "sleep", "1000")
    over = threading.Event()
    done = []

    def work(number):
        while not over.is_set():
            name = f"w{number}"
            code = apart.docker("run", "--rm", "--name", name, "-v", f"v{number}:/data", IMAGE, "cat", "/etc/passwd", check=False).code
            apart.docker("rm", "-fv", name, check=False)
            apart.docker("volume", "rm", "-f", f"v{number}", check=False)
            done.append(code)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    kills = 0
    while kills < (8 if sanitized() else 40):
        for pid in hosts(apart):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        time.sleep(1.2)  # one that ends within a second of its start rests before the next
    over.set()
    for worker in workers:
        worker.join()
    assert apart.process.poll() is None
    for plugin in PLUGINS:
        running(apart, plugin)
    assert apart.state("witness") == "running"
    assert apart.docker("exec", "witness", "cat", "/data/file").out == "kept\n"
    assert apart.docker("run", "--rm", "-v", "other:/data", IMAGE, "cat", "/data/file").out == "other\n"
    apart.docker("rm", "-f", "witness")
    for volume in apart.docker("volume", "ls", "-q").out.split():
        apart.docker("volume", "rm", volume)
    for container in apart.docker("ps", "-aq").out.split():
        apart.docker("rm", "-f", container)
    assert not apart.audit()
    assert 0 in done


def serve(daemon, name, port):
    """A container that answers on a published port with its name."""
    daemon.docker("run", "-d", "--name", name, "--network", "lan", "-p", f"127.0.0.1:{port}:80", IMAGE, "sh", "-c",
                  f"mkdir /www; echo {name} >/www/index.html; exec httpd -f -p 80 -h /www")
    wait_until(lambda: fetch(daemon, port) == name + "\n", what=f"{name} answering")


def fetch(daemon, port):
    return daemon.command("curl", "-s", "--max-time", "2", f"http://127.0.0.1:{port}/", check=False).out


def test_a_network_process_comes_back_to_what_there_is(apart):
    """Links and connections of running containers stay; what the driver knew is told to the next process, and half-made things are swept."""
    apart.start()
    apart.docker("network", "create", "lan")
    serve(apart, "one", 8081)
    serve(apart, "two", 8082)
    apart.docker("exec", "-d", "one", "sh", "-c", "while ping -c 1 -W 2 two >/dev/null; do echo >>/tmp/pings; sleep 0.02; done; touch /tmp/lost")
    links = set(apart.links())
    rules = apart.nft()
    for _ in range(2):
        os.kill(running(apart, "net-bridge"), signal.SIGKILL)
        wait_until(lambda: process(apart, "net-bridge")["State"] == "running", what="the process being back")
        assert set(apart.links()) == links
        assert fetch(apart, 8081) == "one\n" and fetch(apart, 8082) == "two\n"
    assert sorted(re.sub(r"handle \d+|packets \d+ bytes \d+", "", apart.nft()).splitlines()) == sorted(
        re.sub(r"handle \d+|packets \d+ bytes \d+", "", rules).splitlines())
    before = apart.docker("exec", "one", "wc", "-l", "/tmp/pings").out
    wait_until(lambda: apart.docker("exec", "one", "wc", "-l", "/tmp/pings").out != before, what="another ping")
    assert apart.docker("exec", "one", "ls", "/tmp").out.split() == ["pings"]
    # what goes meanwhile does not come back
    pid = running(apart, "net-bridge")
    os.kill(pid, signal.SIGSTOP)
    removing = apart.popen(shutil.which("docker"), "rm", "-f", "two")
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)
    removing.communicate(timeout=60 * SLOW)
    wait_until(lambda: process(apart, "net-bridge")["State"] == "running", what="the process being back")
    apart.docker("rm", "-f", "two", check=False)
    wait_until(lambda: len(apart.links()) == len(links) - 1, what="the link of the removed container going")
    assert "8082" not in apart.nft() and fetch(apart, 8081) == "one\n"
    serve(apart, "three", 8082)
    apart.docker("rm", "-f", "one", "three")
    apart.docker("network", "rm", "lan")
    assert not apart.audit()


def crash_until_it_rests(daemon, plugin):
    """Kills the process whenever it is back, until it is left alone for seconds."""
    for _ in range(30):
        seen = process(daemon, plugin)
        if seen["State"] == "running":
            os.kill(seen["Pid"], signal.SIGKILL)
        elif seen["State"].startswith("waiting"):
            said = daemon.docker("run", "--rm", IMAGE, "true", check=False)
            if "times in a row" in said.err:
                return said.err
        time.sleep(0.2)
    raise AssertionError("it never rested")


def test_a_container_that_cannot_be_removed_is_told_to_those_who_wait(apart):
    apart.start()
    waiting = apart.popen(shutil.which("docker"), "run", "-i", "--rm", "--name", "c1", IMAGE, "cat", stdin=subprocess.PIPE)
    wait_until(lambda: apart.docker("ps", "-q").out, what="the container running")
    said = crash_until_it_rests(apart, "storage-overlay")
    assert re.search(r"driver overlay: its process was killed by signal 9 \(Killed\), \d+ times in a row; it is started again in \d+ s", said), said
    waiting.communicate(timeout=30 * SLOW)
    assert apart.state("c1") in ("dead", "removing") or apart.docker("ps", "-aq").out == ""
    running(apart, "storage-overlay")
    apart.docker("rm", "-f", "c1", check=False)
    assert not apart.audit()


# ---- the daemon's end ----

def test_no_process_outlives_a_killed_daemon(apart):
    apart.start()
    before = hosts(apart)
    assert len(before) == len(PLUGINS)
    os.kill(before[0], signal.SIGSTOP)
    apart.kill9()
    wait_until(lambda: not hosts(apart), what="the processes of plugins going")
    apart.start()
    assert len(hosts(apart)) == len(PLUGINS) and not set(hosts(apart)) & set(before)
    apart.docker("run", "--rm", "-v", "data:/data", IMAGE, "true")
    apart.docker("volume", "rm", "data")


def test_an_orderly_stop_ends_them_with_their_drivers_closed(apart):
    apart.start()
    apart.docker("run", "-d", "--name", "c1", "-v", "data:/data", IMAGE, "sleep", "1000")
    apart.stop()
    assert hosts(apart) == [] and "the process of a plugin is gone" not in apart.log()
    apart.start()
    assert apart.state("c1") == "running"
    apart.docker("rm", "-f", "c1")
    apart.docker("volume", "rm", "data")
