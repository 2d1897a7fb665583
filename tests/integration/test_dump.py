"""SIGUSR1: the debug dump, above all while something hangs."""

import json
import os
import shutil
import signal
import stat
import subprocess
import threading

import pytest

from harness import BUILD, IMAGE, REPO, wait_until

BLOCKER = r"""
/* A volume whose name begins with "stuck" is made once the file of that name is there. */
int blocker_waits_for_its_file(const char *name);
int blocker_waits_for_its_file(const char *name)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%.64s", DIRECTORY, name);
	while (access(path, F_OK) != 0)
		usleep(20000);
	return 0;
}
"""


def dumps(daemon):
    try:
        return sorted(name for name in os.listdir(daemon.run_dir + "/dumps") if name.startswith("gantryd-"))
    except FileNotFoundError:
        return []


def dump(daemon):
    before = dumps(daemon)
    daemon.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: dumps(daemon)[-1:] != before[-1:], timeout=30, what="a dump")
    path = f"{daemon.run_dir}/dumps/{dumps(daemon)[-1]}"
    wait_until(lambda: path in daemon.log(), what="its path in the log")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and stat.S_IMODE(os.stat(daemon.run_dir + "/dumps").st_mode) == 0o700
    with open(path) as f:
        return json.load(f)


def stack_of(document, function):
    """document: a dump, or a plugin's process in it."""
    return [thread for thread in document["Threads"] if any(frame.startswith(function + "+") for frame in thread.get("Stack", []))]


def test_a_dump_tells_of_everything(daemon):
    cid = daemon.docker("run", "-d", "--name", "shown", IMAGE, "sleep", "600").out.strip()
    daemon.docker("volume", "create", "seen")
    follower = daemon.popen("docker", "logs", "-f", "shown")
    try:
        wait_until(lambda: any("/logs?" in request["Uri"] for request in dump(daemon)["Requests"]), what="the follower in a dump")
        document = dump(daemon)
    finally:
        follower.kill()
        follower.communicate()
    engine = document["Engine"]
    row = next(row for row in engine["Containers"] if row["Id"] == cid)
    assert row["Name"] == "shown" and row["Status"] == "running" and row["Pid"] == daemon.inspect("shown")["State"]["Pid"]
    assert {"bridge", "host", "none"} <= {network["Name"] for network in engine["Networks"]} and "seen" in engine["Volumes"]
    assert any(event["Action"] == "start" and event["Actor"]["ID"] == cid for event in engine["Events"])
    assert engine["PluginProcesses"] == [] and engine["DriverCalls"] == [] and engine["LocksHeld"] == [] and engine["Closing"] is False
    assert document["Pid"] == daemon.process.pid and document["Memory"]["VmRSS"].endswith("kB")
    assert any(target.startswith("socket:") for target in document["Descriptors"].values())
    threads = document["Threads"]
    assert len(threads) >= 3 and all(thread["Name"] and thread["State"] in "RSDTtIZ" for thread in threads)
    assert "main" in " ".join(frame for thread in threads for frame in thread.get("Stack", []))
    assert stack_of(document, "serve") or stack_of(document, "events_read") or any("Stack" in thread for thread in threads)


def add_blocker(daemon, tmp_path, isolate):
    """The plugin blocker in a plugin directory of the daemon's own; the directory of the files that it waits for."""
    files = tmp_path / "files"
    files.mkdir()
    plugins = tmp_path / "plugins"
    shutil.copytree(os.path.join(BUILD, "plugins"), plugins)
    subprocess.run([os.path.join(BUILD, "bin", "gantry"), "plugin", "new", "volume", "blocker"], cwd=tmp_path, check=True, capture_output=True)
    source, = (tmp_path / "blocker").glob("*.c")
    before = "static int volume_create("
    text = source.read_text().replace(before, f'#define DIRECTORY "{files}"\n{BLOCKER}\n{before}', 1)
    source.write_text(text.replace("snprintf(mount->type", 'if (strncmp(name, "stuck", 5) == 0)\n\t\tblocker_waits_for_its_file(name);\n\tsnprintf(mount->type', 1))
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-g", "-O1", "-fPIC", "-shared", "-I", REPO + "/sdk", "-o", plugins / "blocker.so", source], check=True)
    daemon.write_ini({"daemon": {"plugin_dir": plugins}, "plugin.blocker": {"isolate": isolate}})
    return files


@pytest.mark.parametrize("isolate", ["none", "process"])
def test_a_driver_that_hangs(fresh_daemon, tmp_path, isolate):
    files = add_blocker(fresh_daemon, tmp_path, isolate)
    fresh_daemon.start()
    fresh_daemon.docker("volume", "create", "-d", "blocker", "free")
    fresh_daemon.docker("volume", "create", "-d", "blocker", "stuck1")
    cid = fresh_daemon.docker("create", "--name", "held", "-v", "stuck1:/m", IMAGE, "true").out.strip()
    stuck = [threading.Thread(target=fresh_daemon.api, args=("POST", "/containers/held/start")) for _ in range(2)]
    stuck[0].start()
    try:
        wait_until(lambda: dump(fresh_daemon)["Engine"]["DriverCalls"], what="the call in a dump")
        stuck[1].start()
        waiting = wait_until(lambda: [t for t in dump(fresh_daemon)["Threads"] if t.get("WaitsForLock") == f"op of container {cid[:12]}"], what="a thread that waits for the lock")
        document = dump(fresh_daemon)
        engine = document["Engine"]
        call, = engine["DriverCalls"]
        assert (call["Kind"], call["Driver"], call["Op"]) == ("volume", "blocker", "mount") and call["Seconds"] > 0
        if isolate == "none":
            assert engine["PluginProcesses"] == []
            hanging, = stack_of(document, "blocker_waits_for_its_file")
            assert hanging["Thread"] == call["Thread"]
        else:
            process, = engine["PluginProcesses"]
            assert (process["Plugin"], process["State"], process["Starts"], process["CallsInProgress"]) == ("blocker", "running", 1, 1)
            hanging, = stack_of(process, "blocker_waits_for_its_file")
            assert process["Pid"] in [thread["Thread"] for thread in process["Threads"]] and process["Pid"] != fresh_daemon.process.pid
            assert call["Thread"] in [thread["Thread"] for thread in document["Threads"]]
        assert any(frame.endswith(" blocker.so") for frame in hanging["Stack"])
        lock, = [lock for lock in engine["LocksHeld"] if lock["Name"] == f"op of container {cid[:12]}"]
        assert lock["HeldBy"] == call["Thread"] and waiting[0]["Thread"] != call["Thread"]
        assert sorted(engine["Volumes"]) == ["free", "stuck1"], "no table is locked while a driver works"
        assert {"POST"} == {request["Method"] for request in document["Requests"] if request["Uri"].endswith("/held/start")}
        assert call["Thread"] in [request["Thread"] for request in document["Requests"]]
        assert fresh_daemon.docker("run", "--rm", IMAGE, "echo", "goes on").out == "goes on\n"
    finally:
        (files / "stuck1").touch()
        for thread in stuck:
            if thread.ident:
                thread.join(30)
    assert dump(fresh_daemon)["Engine"]["DriverCalls"] == []


def test_a_plugin_process_that_stands_still(fresh_daemon):
    """It answers no one, but can be looked at."""
    fresh_daemon.write_ini({"plugin.vol-local": {"isolate": "process"}})
    fresh_daemon.start()
    process, = dump(fresh_daemon)["Engine"]["PluginProcesses"]
    os.kill(process["Pid"], signal.SIGSTOP)
    try:
        stopped, = dump(fresh_daemon)["Engine"]["PluginProcesses"]
        assert stopped["Pid"] == process["Pid"] and {thread["State"] for thread in stopped["Threads"]} == {"T"}
    finally:
        os.kill(process["Pid"], signal.SIGKILL)
    row = wait_until(lambda: next((row for row in dump(fresh_daemon)["Engine"]["PluginProcesses"] if row["Starts"] == 2), None), what="another process")
    assert "signal 9" in row["LastEnd"] and row["Pid"] != process["Pid"] and row["Threads"]


def test_few_are_kept(daemon):
    for _ in range(11):
        dump(daemon)
    assert len(dumps(daemon)) == 8
    before = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    dump(daemon)
    assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) <= before
    children = subprocess.run(["ps", "--ppid", str(daemon.process.pid), "-o", "comm="], capture_output=True, text=True, check=False).stdout
    assert "gantry-stacks" not in children


def test_it_goes_without_stacks(fresh_daemon, tmp_path):
    """The helper is gone, or hangs, or says nonsense."""
    libexec = tmp_path / "libexec"
    shutil.copytree(os.path.join(BUILD, "libexec"), libexec)
    helper = libexec / "gantry-stacks"
    fresh_daemon.write_ini({"daemon": {"libexec_dir": libexec}})
    fresh_daemon.start()
    helper.unlink()
    assert not any("Stack" in thread for thread in dump(fresh_daemon)["Threads"]) and "without stacks" in fresh_daemon.log()
    helper.write_text("#!/bin/sh\necho nonsense; echo; printf '1 \\377 x\\n'; exec sleep 600\n")
    helper.chmod(0o755)
    assert len(dump(fresh_daemon)["Threads"]) >= 2
    assert not [pid for pid in fresh_daemon.pids() if b"sleep\0600" in open(f"/proc/{pid}/cmdline", "rb").read()]
