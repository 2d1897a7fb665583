"""gantry plugin reload, disable and enable, with containers at work all the while; Docker's own commands for it; and what a death in between costs."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from harness import BUILD, IMAGE, sanitized, wait_until
import test_macvlan
from test_cni import cni  # noqa: F401
from test_isolate import fetch, process, running, serve
from test_overlay import all_meet, create, make_cluster, networks, pings, resolves, sleeper  # noqa: F401
from test_storage_btrfs import btrfs, disk  # noqa: F401
from test_volume_plugins import host, place, plugin  # noqa: F401

METRICS = "127.0.0.1:9323"
IN_USE = ["net-bridge", "vol-local", "storage-overlay", "net-host"]


class Plugins:
    """A plugin directory of the daemon's own, in which files can be replaced."""

    def __init__(self, daemon, isolated):
        self.daemon, self.isolated = daemon, isolated
        self.dir = os.path.join(daemon.dir, "plugins")
        shutil.copytree(os.path.join(BUILD, "plugins"), self.dir)
        self.configure({})

    def configure(self, settings):
        sections = {f"plugin.{name}": {"isolate": "process"} for name in IN_USE} if self.isolated else {}
        for section, keys in settings.items():
            sections.setdefault(section, {}).update(keys)
        self.daemon.write_ini({"daemon": {"plugin_dir": self.dir, "metrics_addr": METRICS}, **sections})

    def path(self, name):
        return os.path.join(self.dir, name + ".so")

    def put(self, name, content):
        """As install(1) and mv(1) do it: a new file under the old name."""
        with open(self.path(name) + ".new", "wb") as f:
            f.write(content)
        os.rename(self.path(name) + ".new", self.path(name))

    def upgrade(self, name, version):
        """Another version of the same driver."""
        with open(os.path.join(BUILD, "plugins", name + ".so"), "rb") as f:
            content = f.read()
        assert content.count(b"\x000.1.0\x00") >= 1 and len(version) == 5
        self.put(name, content.replace(b"\x000.1.0\x00", b"\0" + version.encode() + b"\0"))

    def version(self, name):
        return json.loads(self.daemon.gantry("plugin", "inspect", name).out)[0]["Config"]["Version"]


@pytest.fixture(params=["in the daemon", "isolated"])
def plugins(request, fresh_daemon):
    """Not started."""
    return Plugins(fresh_daemon, request.param == "isolated")


@pytest.fixture
def one(fresh_daemon):
    """Its drivers are in the daemon. Not started."""
    return Plugins(fresh_daemon, False)


class Work:
    """Things that go on in threads until they are told to end; the first that fails is told."""

    def __init__(self, *jobs):
        self.over, self.failures, self.rounds = threading.Event(), [], [0] * len(jobs)
        self.threads = [threading.Thread(target=self.go_on, args=(number, job)) for number, job in enumerate(jobs)]

    def go_on(self, number, job):
        while not self.over.is_set():
            try:
                job()
            except Exception as e:  # pylint: disable=broad-except
                self.failures.append(e)
                return
            self.rounds[number] += 1

    def more(self):
        """Until each job has been done once more, and a half."""
        before = list(self.rounds)
        wait_until(lambda: self.failures or all(now > then + 1 for now, then in zip(self.rounds, before)), 60, "all jobs going on")
        assert not self.failures, self.failures[0]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.over.set()
        for thread in self.threads:
            thread.join()


def audited(d):
    d.remove_everything()
    d.docker("image", "prune", "-f")
    return [leak for leak in d.audit() if "gantry-plugin-host" not in leak]  # whose files are below the daemon's directory


# ---- reload ----

def test_each_kind_is_reloaded_while_containers_work(plugins):
    """Traffic between containers and from outside, writes into volumes, commits, and containers that come and go: nothing fails, nothing is lost."""
    d = plugins.daemon
    d.start()
    d.docker("network", "create", "lan")
    serve(d, "one", 8081)
    serve(d, "two", 8082)
    d.docker("exec", "-d", "one", "sh", "-c", "while ping -c 1 -W 2 two >/dev/null; do echo >>/tmp/pings; sleep 0.02; done; touch /tmp/lost")
    d.docker("run", "-d", "--name", "writer", "-v", "data:/data", IMAGE, "sh", "-c", "n=0; while echo $n >>/data/lines; do n=$((n+1)); sleep 0.02; done")
    before = {name: d.inspect(name)["State"]["Pid"] for name in ("one", "two", "writer")}

    def come_and_go():
        assert d.docker("run", "--rm", "--network", "lan", "-v", "other:/m", IMAGE, "sh", "-c", "wget -qO- http://two/; echo x >/m/file").out == "two\n"

    def commit():
        d.docker("commit", "writer", "snapshot")
        assert d.docker("run", "--rm", "snapshot", "echo", "there").out == "there\n"
        d.docker("image", "rm", "snapshot")

    def outside():
        assert fetch(d, 8081) == "one\n" and fetch(d, 8082) == "two\n"
        time.sleep(0.05)

    with Work(come_and_go, commit, outside) as work:
        for version in ("0.1.7", "0.1.8"):
            for name in IN_USE:
                plugins.upgrade(name, version)
                assert plugins.version(name) != version
                d.gantry("plugin", "reload", "--timeout", "60", name)
                assert plugins.version(name) == version
                work.more()
    for name in IN_USE:
        d.gantry("plugin", "reload", name)  # the same file once more
    assert {name: d.inspect(name)["State"]["Pid"] for name in before} == before
    assert d.docker("exec", "one", "ls", "/tmp").out.split() == ["pings"]
    lines = [int(line) for line in d.docker("exec", "writer", "cat", "/data/lines").out.split()]
    assert lines == list(range(len(lines)))
    assert not re.search("SEGV|core dumped", d.log())
    if plugins.isolated:
        assert sorted(d.plugin_hosts().values()) == sorted(IN_USE) and "was killed" not in d.log()
    assert 'gantry_driver_reloads_total{kind="network",driver="bridge"} 3\n' in d.command("curl", "-s", f"http://{METRICS}/metrics").out
    d.restart()
    outside()
    assert plugins.version("net-bridge") == "0.1.8"
    assert not audited(d)


def test_settings_are_taken_into_use(plugins):
    d = plugins.daemon
    d.start()
    d.docker("run", "-d", "--name", "before", IMAGE, "sleep", "1000")
    plugins.configure({"plugin.net-bridge": {"mtu": 1400}})
    d.gantry("plugin", "reload", "net-bridge")
    d.docker("network", "create", "small")
    def mtu(network, name):
        return d.docker("run", "--rm", "--network", network, "--name", name, IMAGE, "cat", "/sys/class/net/eth0/mtu").out.strip()
    assert mtu("small", "c1") == "1400"
    assert d.docker("exec", "before", "cat", "/sys/class/net/eth0/mtu").out.strip() == "1500"
    assert "mtu=1400" in d.json("GET", "/plugins/net-bridge/json")["Settings"]["Env"]
    # what is wrong is told with file and line, and nothing changes
    plugins.configure({"plugin.net-bridge": {"mtu": 12}})
    done = d.gantry("plugin", "reload", "net-bridge", check=False)
    assert done.code == 1 and re.search(r"plugin net-bridge goes on as it was: .*gantryd.ini:\d+: \[plugin.net-bridge\] mtu: 12 is out of range 68 to 65535",
                                        done.err), done
    plugins.configure({"no-such-section": {"a": "b"}})
    done = d.gantry("plugin", "reload", "net-bridge", check=False)
    assert done.code == 1 and re.search(r"gantryd.ini:\d+: unknown section \[no-such-section\]", done.err), done
    assert mtu("small", "c2") == "1400"
    assert not audited(d)


def test_a_broken_upgrade_is_refused_and_the_old_one_goes_on(plugins):
    d = plugins.daemon
    d.start()
    d.docker("network", "create", "lan")
    serve(d, "one", 8081)
    d.docker("run", "-d", "--name", "writer", "-v", "data:/data", IMAGE, "sleep", "1000")
    for name in ("net-bridge", "vol-local", "storage-overlay"):
        plugins.put(name, b"no shared object")
        done = d.gantry("plugin", "reload", name, check=False)
        assert done.code == 1 and f"plugin {name} goes on as it was: plugin {plugins.path(name)}: loading" in done.err, done
        assert plugins.version(name) == "0.1.0"
        os.chmod(plugins.path(name), 0o666)
        done = d.gantry("plugin", "reload", name, check=False)
        assert done.code == 1 and "writable by everyone" in done.err, done
        plugins.upgrade(name, "0.1.7")
    # A new one that does not open leads back to the old one, which is told what it knew.
    plugins.configure({"plugin.storage-overlay": {"metacopy": "yes", "redirect_dir": "off"}})
    done = d.gantry("plugin", "reload", "storage-overlay", check=False)
    assert done.code == 1 and "plugin storage-overlay goes on as it was: driver overlay: [plugin.storage-overlay] metacopy = yes needs redirect_dir = on" in done.err, done
    assert plugins.version("storage-overlay") == "0.1.0"
    assert fetch(d, 8081) == "one\n"
    d.docker("run", "--rm", "--network", "lan", "-v", "data:/data", IMAGE, "wget", "-qO-", "http://one/")
    d.docker("commit", "writer", "snapshot")
    plugins.configure({})
    for name in ("net-bridge", "vol-local", "storage-overlay"):
        d.gantry("plugin", "reload", name)
        assert plugins.version(name) == "0.1.7"
    assert fetch(d, 8081) == "one\n"
    assert not audited(d)


def test_a_plugin_moves_into_a_process_and_out_of_it(one):
    d = one.daemon
    d.start()
    d.docker("network", "create", "lan")
    serve(d, "one", 8081)
    for isolated in (True, False, True):
        one.isolated = isolated
        one.configure({})
        for name in IN_USE:
            d.gantry("plugin", "reload", name)
        assert sorted(d.plugin_hosts().values()) == (sorted(IN_USE) if isolated else [])
        assert fetch(d, 8081) == "one\n"
        assert d.docker("run", "--rm", "--network", "lan", "-v", "data:/m", IMAGE, "wget", "-qO-", "http://one/").out == "one\n"
    # One whose processes end again and again is mended by a new file.
    one.upgrade("vol-local", "0.1.7")
    os.kill(running(d, "vol-local"), signal.SIGKILL)
    d.gantry("plugin", "reload", "vol-local")
    assert one.version("vol-local") == "0.1.7" and process(d, "vol-local")["Starts"] == 1
    assert not audited(d)


def test_a_call_that_does_not_end_is_told_and_nothing_changes(one, tmp_path):
    """A driver made of the template, one of whose calls waits for a file."""
    d = one.daemon
    gate = tmp_path / "gate"
    subprocess.run([os.path.join(BUILD, "bin", "gantry"), "plugin", "new", "volume", "waiter"], cwd=tmp_path, check=True, capture_output=True)
    source = tmp_path / "waiter" / "driver.c"
    source.write_text(source.read_text().replace("if (mkdirat(", f'while (strcmp(name, "stuck") == 0 && access("{gate}", F_OK) < 0)\n\t\tusleep(10000);\n\tif (mkdirat(', 1))
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-g", "-O1", "-fPIC", "-shared", "-I", os.path.join(os.path.dirname(__file__), "..", "..", "sdk"), "-o",
                    one.path("waiter"), source], check=True)
    d.start()
    stuck = threading.Thread(target=d.api, args=("POST", "/volumes/create", {"Name": "stuck", "Driver": "waiter"}))
    stuck.start()
    try:
        response = wait_until(lambda: (lambda r: r if r.status != 200 else None)(d.api("POST", "/plugins/waiter/reload?timeout=1")), what="the call under way")
        assert response.status == 409, response.body
        assert re.search("plugin waiter goes on as it was: calls are still under way: create of driver waiter for [0-9]+ s; try again, or with a longer timeout",
                         json.loads(response.body)["message"]), response.body
    finally:
        gate.touch()
        stuck.join()
    d.gantry("plugin", "reload", "waiter")
    d.docker("volume", "rm", "stuck")
    for timeout in ("-1", "601", "x"):
        assert d.api("POST", f"/plugins/waiter/reload?timeout={timeout}").status == 400
    assert not audited(d)


@pytest.mark.parametrize("isolated", [False, True], ids=["in the daemon", "isolated"])
def test_the_daemon_is_killed_within_reloads(one, isolated):
    """Nothing of a reload is on disk: the next daemon begins with the file that is there, and containers have run on."""
    one.isolated = isolated
    one.configure({})
    d = one.daemon
    d.start()
    d.docker("network", "create", "lan")
    serve(d, "one", 8081)
    d.docker("run", "-d", "--name", "writer", "-v", "data:/data", IMAGE, "sleep", "1000")
    pid = d.inspect("one")["State"]["Pid"]
    for round in range(4 if sanitized() else 8):
        version = f"0.2.{round % 10}"
        for name in IN_USE:
            one.upgrade(name, version)
        ends = [d.popen(os.path.join(BUILD, "bin", "gantry"), "plugin", "reload", *IN_USE) for _ in range(2)]
        time.sleep(0.03 * round)
        d.kill9()
        for end in ends:
            end.communicate()
        d.start()
        assert {one.version(name) for name in IN_USE} == {version}
        assert d.inspect("one")["State"]["Pid"] == pid and fetch(d, 8081) == "one\n"
        assert d.docker("run", "--rm", "--network", "lan", "-v", "data:/m", IMAGE, "wget", "-qO-", "http://one/").out == "one\n"
    assert not audited(d)


# ---- drivers that keep account of others ----

def test_a_volume_driver_that_counts_its_mounts(host, plugin):  # noqa: F811
    host.docker("run", "-d", "--name", "c1", "--volume-driver", "dirs", "-v", "vol:/m", IMAGE, "sleep", "1000")
    user = host.inspect("c1")["Id"]
    host.restart()
    for _ in range(2):
        host.gantry("plugin", "reload", "vol-docker")
        assert host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "ls", "/m").code == 0
        wait_until(lambda: plugin.ids("vol") == [user], what="the mount in use alone")
    # The server forgets: the driver that comes is told its mounts, and tells the server.
    plugin.kill()
    plugin.start(forgetful="yes")
    assert plugin.ids("vol") == []
    host.gantry("plugin", "reload", "vol-docker")
    wait_until(lambda: plugin.ids("vol") == [user], what="the mount in use made known")
    refused = host.gantry("plugin", "disable", "vol-docker", check=False)
    assert refused.code == 1 and f"plugin vol-docker is in use: volume vol (containers {user[:12]})" in refused.err, refused
    host.docker("rm", "-f", "c1")
    assert plugin.ids("vol") == [] and plugin.mounts() == []
    host.docker("volume", "rm", "vol")
    host.gantry("plugin", "disable", "vol-docker")
    assert "dirs" not in host.json("GET", "/info")["Plugins"]["Volume"]
    refused = host.docker("volume", "create", "-d", "dirs", "vol", check=False)
    assert refused.code == 1 and "plugin vol-docker is disabled" in refused.err, refused
    host.gantry("plugin", "enable", "vol-docker")
    host.docker("volume", "create", "-d", "dirs", "vol")
    host.docker("volume", "rm", "vol")


def test_news_of_other_hosts_after_a_reload(make_cluster):  # noqa: F811
    cluster = make_cluster(hosts=2)
    a, b = cluster.hosts
    create(cluster, "ovl", "--subnet", "10.91.0.0/24")
    sleeper(a, "c1")
    sleeper(b, "c2")
    all_meet(cluster, [(a, "c1"), (b, "c2")])
    for round in range(2):
        a.gantry("plugin", "reload", "net-overlay")
        assert pings(a, "c1", "c2") and pings(b, "c2", "c1")
        ip = sleeper(b, f"late{round}")
        wait_until(lambda: resolves(a, "c1", f"late{round}") == [ip] and pings(a, "c1", f"late{round}"), 15, "a's containers reaching a new one of b's")
        b.docker("network", "create", "-d", "overlay", f"net{round}")
        wait_until(lambda: f"net{round}" in networks(a), 15, "a knowing b's new network")
        b.docker("rm", "-f", f"late{round}")
        b.docker("network", "rm", f"net{round}")
        wait_until(lambda: f"net{round}" not in networks(a), 15, "the network going")
    refused = a.gantry("plugin", "disable", "net-overlay", check=False)
    assert refused.code == 1 and "plugin net-overlay is in use: network ovl (containers" in refused.err, refused
    a.docker("rm", "-f", "c1")
    b.docker("rm", "-f", "c2")
    a.docker("network", "rm", "ovl")
    wait_until(lambda: not networks(b), 15, "the network gone on the other host")
    # Disabled it hears nothing; enabled, all there is.
    a.gantry("plugin", "disable", "net-overlay")
    b.docker("network", "create", "-d", "overlay", "unheard")
    b.docker("network", "create", "-d", "overlay", "heard")
    b.docker("network", "rm", "unheard")
    assert not networks(a)
    a.gantry("plugin", "enable", "net-overlay")
    wait_until(lambda: set(networks(a)) == {"heard"}, 15, "a knowing the network")
    b.docker("network", "rm", "heard")
    wait_until(lambda: not networks(a), 15, "the network going")


def test_networks_of_cni(cni):  # noqa: F811
    """What the plugins were asked for is remembered on disk; the namespaces are pinned there."""
    d = cni.daemon
    cni.bridge("10.88.0.0/24")
    cni.create()
    first, second = cni.start("one", "-p", "127.0.0.1:8081:80"), cni.start("two")
    for _ in range(2):
        d.gantry("plugin", "reload", "net-cni")
        assert cni.pings("one", second["IPAddress"]) and cni.pings("two", first["IPAddress"]) and "8081" in str(cni.rules())
    third = cni.start("three")
    assert cni.pings("three", first["IPAddress"]) and len({first["IPAddress"], second["IPAddress"], third["IPAddress"]}) == 3
    d.docker("rm", "-f", "one", "two", "three")
    assert cni.leased() == [] and cni.rules() == [] and cni.pins() == []


@pytest.mark.skipif(not test_macvlan.kernel_has("macvlan"), reason="this kernel has no macvlan links (CONFIG_MACVLAN, module macvlan)")
def test_networks_of_macvlan(fresh_daemon):
    wire = test_macvlan.cable(fresh_daemon)
    try:
        fresh_daemon.start()
        test_macvlan.network(fresh_daemon, "lan")
        fresh_daemon.docker("run", "-d", "--name", "one", "--network", "lan", "--ip", "10.77.0.20", IMAGE, "sleep", "1000")
        wire.reaches("10.77.0.20")
        for last in (21, 22):
            fresh_daemon.gantry("plugin", "reload", "net-macvlan")
            assert not wire.loses("10.77.0.20")
            fresh_daemon.docker("run", "-d", "--network", "lan", "--ip", f"10.77.0.{last}", IMAGE, "sleep", "1000")
            wire.reaches(f"10.77.0.{last}")
        fresh_daemon.remove_everything()
        assert not fresh_daemon.audit()
    finally:
        test_macvlan.unplug(wire)


def test_layers_of_btrfs(btrfs):  # noqa: F811
    btrfs.docker("run", "-d", "--name", "one", IMAGE, "sh", "-c", "echo own >/file; sleep 1000")
    wait_until(lambda: btrfs.docker("exec", "one", "cat", "/file", check=False).out == "own\n", what="the file")

    def commit():
        btrfs.docker("commit", "one", "snapshot")
        assert btrfs.docker("run", "--rm", "snapshot", "cat", "/file").out == "own\n"
        btrfs.docker("image", "rm", "snapshot")

    with Work(commit) as work:
        for _ in range(3):
            btrfs.gantry("plugin", "reload", "--timeout", "60", "storage-btrfs")
            work.more()
    assert btrfs.docker("exec", "one", "cat", "/file").out == "own\n"


# ---- disable, enable ----

def rows(d):
    """What docker plugin ls shows of each: enabled."""
    return {row["Name"]: str(row["Enabled"]).lower() == "true" for row in map(json.loads, d.docker("plugin", "ls", "--format", "{{json .}}").out.splitlines())}


def test_dockers_commands(one):
    d = one.daemon
    d.start()
    assert rows(d)["net-macvlan"] and len(rows(d)) == len(os.listdir(one.dir))
    inspected, = json.loads(d.docker("plugin", "inspect", "net-macvlan").out)
    assert inspected["Name"] == "net-macvlan" and inspected["Enabled"] and inspected["Config"]["Interface"]["Types"]
    with contextlib.closing(d.popen("docker", "events", "--filter", "type=plugin", "--format", "{{.Action}} {{.Actor.ID}}").stdout) as events:
        wait_until(lambda: d.api("GET", "/_ping").status == 200 and (d.docker("plugin", "disable", "net-macvlan", check=False), True)[1], what="the command")
        d.docker("plugin", "enable", "net-macvlan", check=False)
        d.docker("plugin", "disable", "net-macvlan")
        assert not d.json("GET", "/plugins/net-macvlan/json")["Enabled"]
        again = d.docker("plugin", "disable", "net-macvlan", check=False)
        assert again.code == 1 and "plugin is already disabled: plugin net-macvlan is disabled" in again.err, again
        refused = d.docker("network", "create", "-d", "macvlan", "lan", check=False)
        assert refused.code == 1 and 'the network driver "macvlan" is disabled: gantry plugin enable net-macvlan' in refused.err, refused
        assert "macvlan" not in d.json("GET", "/info")["Plugins"]["Network"]
        d.docker("plugin", "enable", "net-macvlan:latest")
        d.gantry("plugin", "reload", "net-macvlan")
        seen = b""
        while b"reload net-macvlan" not in seen:
            seen += events.readline()
        assert b"disable net-macvlan\nenable net-macvlan\n" in seen
    again = d.docker("plugin", "enable", "net-macvlan", check=False)
    assert again.code == 1 and "plugin already enabled: plugin net-macvlan is enabled" in again.err, again
    assert d.api("POST", "/plugins/net-macvlan/enable").status == 409 and d.api("POST", "/plugins/nobody/enable").status == 404
    assert d.api("POST", "/plugins/nobody/disable").status == 404 and d.api("GET", "/plugins/nobody/json").status == 404
    missing = d.gantry("plugin", "reload", "macvlan", check=False)
    assert missing.code == 1 and 'plugin "macvlan" not found: the driver of that name is of plugin net-macvlan' in missing.err, missing
    for args in (["install", "vieux/sshfs"], ["push", "net-macvlan"], ["rm", "net-macvlan"], ["set", "net-macvlan", "a=b"], ["upgrade", "--grant-all-permissions",
                 "net-macvlan", "x/y"]):
        done = d.docker("plugin", *args, check=False)
        assert done.code == 1 and ("plugins are not fetched, made or changed by this API" in done.err or "must be disabled" in done.err), done


def test_filters_of_the_list(one):
    d = one.daemon
    d.start()
    d.docker("plugin", "disable", "net-macvlan")
    def names(*filters):
        return set(d.docker("plugin", "ls", "--format", "{{.Name}}", *[word for each in filters for word in ("--filter", each)]).out.split())
    disabled, enabled = names("enabled=false"), names("enabled=true")
    assert "net-macvlan" in disabled and "net-bridge" in enabled and not disabled & enabled and disabled | enabled == names()
    assert names("capability=volumedriver") == {"vol-local", "vol-docker"} == names("capability=volume", "enabled=true")
    assert names("capability=graphdriver") == {"storage-overlay", "storage-btrfs"} and names("capability=nothing") == set()
    assert d.api("GET", '/plugins?filters={"enabled":["maybe"]}').status == 400 and d.api("GET", '/plugins?filters={"name":["x"]}').status == 400


def test_what_is_in_use_is_not_disabled(one):
    d = one.daemon
    d.start()
    d.docker("run", "-d", "--name", "c1", "-v", "data:/data", IMAGE, "sleep", "1000")
    cid = d.inspect("c1")["Id"][:12]
    for args, why in ((["net-bridge"], rf"plugin net-bridge is in use: network bridge, which is always there \(containers {cid}\)"),
                      (["net-host"], "plugin net-host is in use: network (host|none), which is always there, network (host|none), which is always there"),
                      (["storage-overlay"], "plugin storage-overlay is in use: storage driver overlay of all images and containers"),
                      (["vol-local"], rf"plugin vol-local is in use: volume data \(containers {cid}\)"),
                      (["-f", "vol-local"], rf"volume data \(containers {cid}\); force does not disable what is in use: remove these first")):
        done = d.docker("plugin", "disable", *args, check=False)
        assert done.code == 1 and re.search(why, done.err), done
        assert d.api("POST", f"/plugins/{args[-1]}/disable").status == 409
    done = d.gantry("plugin", "disable", "--force", "vol-local", check=False)
    assert done.code != 0 and "--force" in done.err and "remove these first" in done.err, done
    d.docker("rm", "-f", "c1")
    assert "volume data" in d.docker("plugin", "disable", "vol-local", check=False).err
    d.docker("volume", "rm", "data")
    d.docker("plugin", "disable", "-f", "vol-local")
    refused = d.docker("run", "--rm", "-v", "data:/data", IMAGE, "true", check=False)
    assert refused.code == 125 and 'the volume driver "local" is disabled: gantry plugin enable vol-local' in refused.err, refused
    d.docker("run", "--rm", IMAGE, "true")
    d.docker("plugin", "enable", "vol-local")
    d.docker("run", "--rm", "-v", "data:/data", IMAGE, "true")
    assert not audited(d)


def test_what_is_disabled_stays_so(one):
    d = one.daemon
    d.start()
    d.docker("plugin", "disable", "vol-local")
    document = os.path.join(d.root, "plugins", "vol-local.json")
    assert json.load(open(document)) == {"Version": 1, "Name": "vol-local", "Enabled": False}
    for crash in (False, True):
        d.restart(crash)
        assert not rows(d)["vol-local"]
        refused = d.docker("volume", "create", "data", check=False)
        assert refused.code == 1 and re.search(r'no volume driver named "local" is loaded \(there .*plugin vol-local is disabled', refused.err), refused
    d.docker("plugin", "enable", "vol-local")
    assert not os.path.exists(document)
    d.restart(crash=True)
    d.docker("volume", "create", "data")
    # The configuration outweighs the command.
    one.configure({"plugin.net-macvlan": {"enabled": "no"}})
    d.restart()
    assert not rows(d)["net-macvlan"]
    refused = d.docker("plugin", "enable", "net-macvlan", check=False)
    assert refused.code == 1 and re.search(r"gantryd.ini:\d+: \[plugin.net-macvlan\] enabled: the configuration switches the plugin off", refused.err), refused
    one.configure({})
    d.docker("plugin", "enable", "net-macvlan")


def test_the_daemon_is_killed_while_it_disables_and_enables(one):
    """Whatever was asked last has happened or has not: the next daemon says which, and works either way."""
    d = one.daemon
    d.start()
    for round in range(6 if sanitized() else 12):
        client = d.popen("sh", "-c", "while gantry plugin disable net-macvlan && gantry plugin enable net-macvlan; do :; done")
        time.sleep(0.05 + 0.02 * round)
        d.kill9()
        client.communicate()
        disabled = os.path.exists(os.path.join(d.root, "plugins", "net-macvlan.json"))
        d.start()
        assert rows(d)["net-macvlan"] == (not disabled)
        if disabled:
            d.gantry("plugin", "enable", "net-macvlan")
        assert "macvlan" in d.json("GET", "/info")["Plugins"]["Network"]
    assert os.listdir(os.path.join(d.root, "plugins")) == [] and not os.path.exists(os.path.join(d.root, "quarantine", "plugins"))


def test_documents_that_are_none_disable_nothing(one):
    d = one.daemon
    d.start()
    d.stop()
    place = os.path.join(d.root, "plugins")
    texts = {"vol-local": b'{"Version": 1, "Name": "vol-lo', "net-macvlan": b'{"Version":1,"Name":"../net-macvlan","Enabled":false}', "vol-docker": b"[]",
             "net-cni": b'{"Version":1,"Name":"net-cni","Enabled":"no"}', "nobody": b'{"Version":1,"Name":"nobody","Enabled":false}'}
    for name, text in texts.items():
        with open(os.path.join(place, name + ".json"), "wb") as f:
            f.write(text)
    os.mkdir(os.path.join(place, "net-overlay.json"))
    os.symlink("/etc/passwd", os.path.join(place, "storage-btrfs.json"))
    d.start()
    assert all(enabled for name, enabled in rows(d).items() if name != "storage-btrfs"), rows(d)
    assert "nobody" not in rows(d)
    d.docker("volume", "create", "data")
    d.docker("plugin", "disable", "net-cni")
    d.docker("plugin", "enable", "net-cni")


def test_a_new_plugin_is_taken_into_use_without_a_restart(one, tmp_path):
    d = one.daemon
    d.start()
    subprocess.run([os.path.join(BUILD, "bin", "gantry"), "plugin", "new", "volume", "mine"], cwd=tmp_path, check=True, capture_output=True)
    done = d.gantry("plugin", "enable", "mine", check=False)
    assert done.code == 1 and 'plugin "mine" not found' in done.err, done
    one.put("mine", b"nothing yet")
    done = d.gantry("plugin", "enable", "mine", check=False)
    assert done.code == 1 and "plugin mine was not enabled: plugin " in done.err, done
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-fPIC", "-shared", "-I", os.path.join(os.path.dirname(__file__), "..", "..", "sdk"), "-o", one.path("mine"),
                    tmp_path / "mine" / "driver.c"], check=True)
    d.gantry("plugin", "enable", "mine")
    d.docker("run", "--rm", "--volume-driver", "mine", "-v", "data:/m", IMAGE, "touch", "/m/x")
    assert d.docker("run", "--rm", "-v", "data:/m", IMAGE, "ls", "/m").out == "x\n"
    d.restart()
    assert d.docker("run", "--rm", "-v", "data:/m", IMAGE, "ls", "/m").out == "x\n"
    assert not audited(d)


def test_networks_whose_driver_was_refused_come_back_with_it(one):
    d = one.daemon
    d.start()
    d.docker("network", "create", "lan")
    d.stop()
    one.put("net-bridge", b"no shared object")
    d.start()
    done = d.docker("run", "--rm", "--network", "lan", IMAGE, "true", check=False)
    assert done.code == 125 and 'no network driver named "bridge" is loaded' in done.err, done
    one.upgrade("net-bridge", "0.1.7")
    d.gantry("plugin", "enable", "net-bridge")
    serve(d, "one", 8081)
    assert fetch(d, 8081) == "one\n"
    d.docker("run", "--rm", IMAGE, "true")
    assert not audited(d)
