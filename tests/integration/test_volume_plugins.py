"""vol-docker: servers of Docker's volume plugin protocol as volume drivers, by the real docker CLI, through trouble and deaths of either side."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading

import pytest

from harness import BUILD, IMAGE, wait_until
from volume_plugin import VolumePlugin


@pytest.fixture
def place():
    """Where plugins listen; the path of a socket is short."""
    path = tempfile.mkdtemp(prefix="gtp-", dir="/var/tmp")
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def host(fresh_daemon, place, isolation):
    """A daemon that looks for plugins in `place`; nothing of a test's stays mounted."""
    os.mkdir(os.path.join(place, "specs"))
    fresh_daemon.write_ini({"plugin.vol-docker": {"sockets": place, "specs": os.path.join(place, "specs"), "timeout": 3, "connect_timeout": 1, **isolation}})
    fresh_daemon.start()
    yield fresh_daemon
    if fresh_daemon.process:
        fresh_daemon.remove_everything()
        assert not fresh_daemon.audit()


@pytest.fixture
def plugin(host, place):
    p = VolumePlugin(place, "dirs")
    yield p
    p.stop()


def test_a_plugin_that_appears_is_a_driver(host, place):
    refused = host.docker("volume", "create", "-d", "later", "vol", check=False)
    assert refused.code == 1 and 'no volume driver named "later" is loaded (there are: local)' in refused.err
    assert not os.path.exists(os.path.join(host.root, "volumes", "later"))
    p = VolumePlugin(place, "later")
    try:
        host.docker("volume", "create", "-d", "later", "vol")
        assert host.json("GET", "/info")["Plugins"]["Volume"] == ["later", "local"]
        host.docker("volume", "rm", "vol")
    finally:
        p.stop()


def test_a_volume_of_a_plugin(host, plugin):
    host.docker("volume", "create", "-d", "dirs", "-o", "size=1g", "--label", "a=b", "data")
    assert plugin.calls("Create") == [{"Name": "data", "Opts": {"size": "1g"}}]
    volume = host.json("GET", "/volumes/data")
    assert (volume["Driver"], volume["Scope"], volume["Mountpoint"], volume["Status"]["options"]) == ("dirs", "local", "", {"size": "1g"})
    host.docker("run", "-d", "--name", "c1", "-v", "data:/data", IMAGE, "sh", "-c", "echo kept > /data/file; sleep 100")
    container = host.inspect("c1")
    wait_until(lambda: os.path.exists(os.path.join(plugin.dir, "data", "data", "file")), what="the file in the plugin's directory")
    assert plugin.ids("data") == [container["Id"]] and plugin.mounts() == [os.path.join(plugin.dir, "mounts", "data")]
    assert host.json("GET", "/volumes/data")["Mountpoint"] == plugin.mounts()[0]
    out = host.docker("run", "--rm", "-v", "data:/a:ro", "-v", "data:/b", IMAGE, "sh", "-c", "cat /a/file; touch /a/x || touch /b/x; ls /b").out
    assert out == "kept\nfile\nx\n"
    assert plugin.ids("data") == [container["Id"]]
    assert "in use" in host.docker("volume", "rm", "data", check=False).err
    host.docker("rm", "-f", "c1")
    assert plugin.ids("data") == [] and plugin.mounts() == []
    assert len(plugin.calls("Mount")) == len(plugin.calls("Unmount")) == 2
    host.docker("volume", "rm", "data")
    assert plugin.state() == {}
    assert os.listdir(os.path.join(host.root, "volumes", "dirs")) == []


def test_other_ways_to_a_plugins_volume(host, plugin, place, tmp_path):
    host.docker("run", "--rm", "--volume-driver", "dirs", "-v", "one:/etc", IMAGE, "true")
    assert "root" in open(os.path.join(plugin.dir, "data", "one", "passwd")).read(), "the image's content is copied up"
    host.docker("run", "--rm", "--mount", "type=volume,source=two,target=/m,volume-driver=dirs,volume-opt=color=red", IMAGE, "touch", "/m/x")
    assert plugin.state()["two"]["options"] == {"color": "red"}
    host.gantry("run", "--rm", "--volume-driver", "dirs", "-v", "/anonymous", IMAGE, "touch", "/anonymous/x")
    assert sorted(plugin.state()) == ["one", "two"]
    # Files of a container that does not run: the mount is held as long as that takes.
    host.docker("create", "--name", "c1", "-v", "two:/m", IMAGE)
    host.docker("cp", "c1:/m/x", str(tmp_path / "x"))
    (tmp_path / "y").write_text("y")
    host.docker("cp", str(tmp_path / "y"), "c1:/m/y")
    assert (tmp_path / "x").exists() and os.path.exists(os.path.join(plugin.dir, "data", "two", "y"))
    assert plugin.ids("two") == [] and plugin.mounts() == []
    assert sorted(host.docker("volume", "ls", "-q", "--filter", "driver=dirs").out.split()) == ["one", "two"]


def test_a_volume_that_the_plugin_has_is_adopted(host, plugin):
    host.docker("volume", "create", "-d", "dirs", "vol")
    host.stop()
    shutil.rmtree(os.path.join(host.root, "volumes"))
    host.start()
    assert host.docker("volume", "ls", "-q").out == ""
    host.docker("run", "--rm", "--volume-driver", "dirs", "-v", "vol:/m", IMAGE, "touch", "/m/x")
    assert plugin.calls("Create") == [{"Name": "vol", "Opts": {}}]
    host.docker("volume", "rm", "vol")
    assert plugin.state() == {}


def test_what_a_plugin_refuses_is_one_sentence(host, plugin):
    refused = host.docker("volume", "create", "-d", "dirs", "-o", "nonsense=1", "vol", check=False)
    assert refused.code == 1 and refused.err.strip().endswith("create vol: driver dirs: the plugin dirs says: unknown option nonsense")
    assert os.listdir(os.path.join(host.root, "volumes", "dirs")) == []
    host.docker("volume", "create", "-d", "dirs", "vol")
    assert "different options" in host.docker("volume", "create", "-d", "dirs", "-o", "size=1", "vol", check=False).err
    plugin.fault("Mount", "err no\\nway\\x1b[31m out " + "x" * 5000)
    refused = host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "true", check=False)
    assert refused.code == 125 and "the plugin dirs says: no way [31m out xxx" in refused.err and "\x1b" not in refused.err and len(refused.err) < 1000
    plugin.fault("Mount", None)
    assert plugin.ids("vol") == [] and json.load(open(os.path.join(host.root, "volumes", "dirs", "vol.json")))["Mounts"] == {}
    plugin.fault("Remove", "err busy elsewhere")
    assert "busy elsewhere" in host.docker("volume", "rm", "vol", check=False).err
    assert host.docker("volume", "ls", "-q").out == "vol\n"
    plugin.fault("Remove", None)
    host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "true")


@pytest.mark.parametrize("fault, words", [
    ("body {\"Mountpoint\": \"relative\"}", "no absolute path"), ("body {\"Mountpoint\": 5}", "no absolute path"), ("body {}", "no absolute path"),
    ("body {\"Mountpoint\": \"/no/such/place\"}", "not there on this host"), ("body {\"Mountpoint\": \"/" + "x/" * 4000 + "\"}", "no absolute path"),
    ("body [1]", "no JSON object"), ("garbage", "no JSON object"), ("big", "more than"), ("status 500", "status 500"), ("status 404", "has no VolumeDriver.Mount"),
    ("hang 10", "does not answer VolumeDriver.Mount"), ("after", "does not answer VolumeDriver.Mount"),
])
def test_answers_that_are_none_leave_nothing(host, plugin, fault, words):
    host.docker("volume", "create", "-d", "dirs", "vol")
    plugin.fault("Mount", fault + "\nonce")
    refused = host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "true", check=False)
    assert refused.code == 125 and words in refused.err, refused
    assert plugin.ids("vol") == [] and plugin.mounts() == []
    host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "touch", "/m/x")


def test_a_plugin_that_dies_and_comes_back(host, plugin):
    host.docker("run", "-d", "--name", "c1", "--volume-driver", "dirs", "-v", "vol:/m", IMAGE, "sleep", "100")
    plugin.kill()
    started = host.docker("exec", "c1", "touch", "/m/x")
    assert started.code == 0, "a container's mount does not hang on the plugin's process"
    refused = host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "true", check=False)
    assert refused.code == 125 and "the plugin dirs cannot be reached" in refused.err
    volume = host.json("GET", "/volumes/vol")
    assert volume["Driver"] == "dirs" and volume["Mountpoint"] == ""
    host.docker("rm", "-f", "c1")                       # cannot be taken back now
    plugin.start()
    assert len(plugin.ids("vol")) == 1
    host.restart(crash=True)                            # but then
    wait_until(lambda: plugin.ids("vol") == [], what="the mount taken back")
    assert plugin.mounts() == []
    plugin.fault("Create", "die\nonce")
    refused = host.docker("volume", "create", "-d", "dirs", "wol", check=False)
    assert refused.code == 1 and "broke off VolumeDriver.Create" in refused.err
    plugin.kill()
    plugin.start()
    host.docker("volume", "create", "-d", "dirs", "wol")


def test_a_plugin_that_is_gone_for_good(host, plugin, place):
    host.docker("volume", "create", "-d", "dirs", "vol")
    plugin.stop()
    refused = host.docker("volume", "rm", "vol", check=False)
    assert refused.code == 1 and "there is no plugin dirs: no dirs.sock in " + place in refused.err
    host.restart()
    assert "there is no plugin dirs" in host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "true", check=False).err
    host.docker("volume", "rm", "-f", "vol")
    assert host.docker("volume", "ls", "-q").out == ""


def test_counts_after_the_daemon_was_killed(host, plugin):
    run = host.docker("run", "-d", "--name", "c1", "--volume-driver", "dirs", "-v", "vol:/m", "-v", "wol:/w", IMAGE, "sleep", "1000").out.strip()
    host.docker("run", "-d", "--name", "c2", "-v", "vol:/m", IMAGE, "sleep", "1000")
    gone = host.inspect("c2")["State"]["Pid"]
    host.kill9()
    os.kill(gone, signal.SIGKILL)                       # c2 ends while nobody looks
    host.start()
    wait_until(lambda: plugin.ids("vol") == [run], what="the mount of the container that ended taken back")
    assert plugin.ids("wol") == [run]
    # The plugin begins anew, and knows nothing of its mounts: it is told of those that are in use.
    host.kill9()
    plugin.kill()
    plugin.start(forgetful="yes")
    assert plugin.ids("vol") == []
    host.start()
    wait_until(lambda: plugin.ids("vol") == [run] and plugin.ids("wol") == [run], what="the mounts in use made known")
    host.docker("rm", "-f", "c1", "c2")
    assert plugin.ids("vol") == plugin.ids("wol") == [] and plugin.mounts() == []


def test_the_daemon_is_killed_within_a_mount(host, plugin):
    host.docker("volume", "create", "-d", "dirs", "vol")
    plugin.fault("Mount", "after\nonce")
    client = host.popen("docker", "run", "--rm", "-v", "vol:/m", IMAGE, "true")
    wait_until(lambda: plugin.ids("vol"), what="the plugin's mount")
    host.kill9()
    client.wait()
    host.start()
    wait_until(lambda: plugin.ids("vol") == [], what="the mount taken back")
    assert plugin.mounts() == []
    plugin.fault("Create", "hang 5\nonce")
    client = host.popen("docker", "volume", "create", "-d", "dirs", "half")
    wait_until(lambda: len(plugin.calls("Create")) == 2, what="the plugin asked")
    host.kill9()
    client.wait()
    host.start()
    assert "half" in plugin.state() and "half" in host.docker("volume", "ls", "-q").out


def test_a_torn_record_stops_nothing(host, plugin):
    host.docker("volume", "create", "-d", "dirs", "vol")
    host.stop()
    record = os.path.join(host.root, "volumes", "dirs", "vol.json")
    with open(record, "w") as f:
        f.write('{"Options": {}, "Mou')
    host.start()
    host.docker("run", "--rm", "-v", "vol:/m", IMAGE, "touch", "/m/x")
    assert os.path.exists(record.replace(".json", ".torn")) and "cannot be read" in host.log()


def background(call, *args):
    """A call under way on a thread: .join() is its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call(*args, check=False)))
    thread.start()
    thread.result = lambda: (thread.join(), results[0])[1]
    return thread


def test_a_plugin_that_hangs_holds_up_its_own_volume_alone(host, plugin, place, isolation):
    host.stop()
    host.write_ini({"plugin.vol-docker": {"sockets": place, "specs": os.path.join(place, "specs"), "timeout": 25, "connect_timeout": 1, **isolation}})
    host.start()
    host.docker("volume", "create", "-d", "dirs", "old")
    plugin.fault("Create", "hang")
    making = background(host.docker, "volume", "create", "-d", "dirs", "new")
    wait_until(lambda: {"Name": "new", "Opts": None} in plugin.calls("Create") or len(plugin.calls("Create")) == 2, what="the plugin's call")
    second = background(host.docker, "volume", "create", "-d", "dirs", "new")
    host.docker("run", "--rm", "-v", "mine:/m", "-v", "/anonymous", IMAGE, "touch", "/m/x")
    host.docker("volume", "create", "local")
    assert host.docker("volume", "ls", "-q").out.split() == ["local", "mine", "old"], "one that is being made is not there yet"
    assert host.docker("volume", "inspect", "new", check=False).code == 1
    host.docker("volume", "rm", "mine", "local")
    host.docker("run", "--rm", "-v", "old:/m", IMAGE, "true")
    assert making.is_alive() and second.is_alive() and len(plugin.calls("Create")) == 2
    plugin.fault("Create", None)
    plugin.kill()
    plugin.start()
    assert making.result().code == 1 and "broke off VolumeDriver.Create" in making.result().err
    assert second.result().code == 0, "who waited for the name tries for itself"
    plugin.fault("Remove", "hang")
    removing = background(host.docker, "volume", "rm", "new")
    wait_until(lambda: plugin.calls("Remove"), what="the plugin's call")
    assert host.docker("volume", "ls", "-q").out.split() == ["new", "old"]
    host.docker("run", "--rm", "-v", "mine:/m", IMAGE, "true")
    assert removing.is_alive()
    plugin.fault("Remove", None)
    plugin.kill()
    plugin.start()
    assert removing.result().code == 1 and "broke off VolumeDriver.Remove" in removing.result().err
    host.docker("run", "--rm", "-v", "new:/m", IMAGE, "touch", "/m/x")
    assert host.docker("volume", "prune", "-af").code == 0 and host.docker("volume", "ls", "-q").out == ""


def test_scope_and_files_that_tell_of_plugins(host, place):
    specs = os.path.join(place, "specs")
    p = VolumePlugin(place, "far", sockets=specs, scope="global")
    other = VolumePlugin(place, "netonly", implements="NetworkDriver")
    try:
        with open(os.path.join(specs, "byspec.spec"), "w") as f:
            f.write(f"unix://{p.socket}\n")
        with open(os.path.join(specs, "byjson.json"), "w") as f:
            json.dump({"Name": "byjson", "Addr": "unix://" + p.socket}, f)
        for name in ("byspec", "byjson"):
            host.docker("volume", "create", "-d", name, "v-" + name)
            assert host.json("GET", "/volumes/v-" + name)["Scope"] == "global"
        refused = host.docker("volume", "create", "-d", "netonly", "net", check=False)
        assert "it does not implement VolumeDriver" in refused.err
        for name, text, words in (("bad1", "nonsense", "is no address"), ("bad2", "ftp://x", "no known scheme"), ("bad3", "unix://relative", "no absolute path")):
            with open(os.path.join(specs, name + ".spec"), "w") as f:
                f.write(text)
            refused = host.docker("volume", "create", "-d", name, "xx", check=False)
            assert refused.code == 1 and words in refused.err and name + ".spec" in refused.err
        with open(os.path.join(specs, "bad4.json"), "w") as f:
            f.write('{"Addr": ')
        assert "bad4.json: line" in host.docker("volume", "create", "-d", "bad4", "xx", check=False).err
        os.chmod(place, 0o777)
        assert 'no volume driver named "fresh"' in host.docker("volume", "create", "-d", "fresh", "xx", check=False).err
        assert "others than root can put plugins there" in host.log()
        os.chmod(place, 0o700)
    finally:
        for server in (p, other):
            server.stop()
        os.chmod(place, 0o700)


def test_many_at_once(host, plugin):
    containers = [host.popen("docker", "run", "--rm", "--volume-driver", "dirs", "-v", f"v{i % 4}:/m", IMAGE, "touch", f"/m/{i}") for i in range(16)]
    for container in containers:
        assert container.wait(60) == 0, container.stderr.read()
    wait_until(lambda: all(not volume["ids"] for volume in plugin.state().values()), what="all taken back")
    assert plugin.mounts() == []
    assert sorted(os.listdir(os.path.join(plugin.dir, "data", "v0"))) == sorted(["0", "4", "8", "12"])


def test_the_kit(place):
    sockets = os.path.join(place, "s")
    os.mkdir(sockets)
    path = os.path.join(BUILD, "plugins", "vol-docker.so")

    def check():
        done = subprocess.run([os.path.join(BUILD, "bin", "gantry"), "plugin", "check", path, "sockets=" + sockets, "specs=" + sockets],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240)
        return done.returncode, done.stdout
    code, report = check()
    assert code == 0 and "SKIP the family has no driver now" in report
    p = VolumePlugin(place, "dirs", sockets=sockets)
    try:
        code, report = check()
        assert code == 0 and "not ok" not in report and "volume driver dirs" in report, report
        assert p.mounts() == []
    finally:
        p.stop()
