"""gantry system doctor: what it finds on a good host, and each check on a host where that is made to be wrong."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest

from fake_registry import FakeRegistry
from harness import BUILD, wait_until

GANTRYD = os.path.join(BUILD, "bin", "gantryd")

# Runs a program in a mount namespace where files are other files ("/proc/x=text"), and with system calls that fail ("429=19": number=errno).
WRAPPER = """
import ctypes, os, struct, subprocess, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
def check(rc, what):
    if rc < 0:
        raise OSError(ctypes.get_errno(), what)
changes, program = sys.argv[1].split(";") if sys.argv[1] else [], sys.argv[2:]
check(libc.unshare(0x00020000), "unshare")
check(libc.mount(b"none", b"/", None, 0x44000, None), "private")
for change in changes:
    path, text = change.split("=", 1)
    if path.isdigit():
        code = [(0x20, 0, 0, 0), (0x15, 0, 1, int(path)), (0x06, 0, 0, 0x00050000 | int(text)), (0x06, 0, 0, 0x7fff0000)]
        room = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in code))
        program_ = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(room))
        check(libc.prctl(22, 2, program_, 0, 0), "seccomp")
    elif text == "tmpfs":
        check(libc.mount(b"none", path.encode(), b"tmpfs", 0, b"size=1m,nr_inodes=50"), path)
    elif text == "gone":
        check(libc.umount2(path.encode(), 2), path)
    else:
        fd, name = tempfile.mkstemp()
        os.write(fd, text.encode())
        check(libc.mount(name.encode(), path.encode(), None, 0x1000, None), path)
        os.unlink(name)
os.execv(program[0], program)
"""


def checks(report):
    """{name: row}; the worst of those with one name."""
    worst = {}
    for row in report["Checks"]:
        assert set(row) == {"Name", "Status", "Message", "Remedy"} and row["Message"]
        assert (row["Status"] == "ok") == (row["Remedy"] == ""), row
        order = ["ok", "warning", "failed"]
        if row["Name"] not in worst or order.index(row["Status"]) > order.index(worst[row["Name"]]["Status"]):
            worst[row["Name"]] = row
    return worst


def ask(daemon, *args, code=None):
    done = daemon.gantry("system", "doctor", "--format", "json", *args, check=False)
    report = json.loads(done.out)
    assert done.code == (1 if any(row["Status"] == "failed" for row in report["Checks"]) else 0), done
    assert code is None or done.code == code, done
    return checks(report)


def host(daemon, *changes, limits=None, code=None):
    """gantryd --check-host on a host with these changes."""
    done = daemon.command(sys.executable, "-c", WRAPPER, ";".join(changes), *(limits or []), GANTRYD, "--check-host", "--config", daemon.ini_path, check=False)
    report = json.loads(done.out)
    assert done.code == (1 if any(row["Status"] == "failed" for row in report["Checks"]) else 0), done
    assert code is None or done.code == code, done
    return checks(report)


def test_a_host_in_order(daemon):
    rows = ask(daemon)
    for name in ("daemon", "kernel.calls", "kernel.namespaces", "kernel.userns", "kernel.idmap", "kernel.overlayfs", "kernel.seccomp", "cgroup",
                 "network.nftables", "network.firewall", "network.forwarding", "storage.root", "storage.run", "programs", "drivers", "api"):
        assert rows[name]["Status"] == "ok", rows[name]
    assert "bridge (network)" in rows["drivers"]["Message"] and "overlay (storage)" in rows["drivers"]["Message"]
    text = daemon.gantry("system", "doctor", check=False).out
    assert "ok       kernel.overlayfs: the kernel has overlayfs\n" in text and text.splitlines()[-1].startswith(f"{len(text.splitlines()) - 2 - text.count('         - ')} checks: ")
    quiet = daemon.gantry("system", "doctor", "-q", check=False).out
    assert "ok  " not in quiet and "checks:" not in quiet
    assert daemon.gantry("system", "doctor", "-f", "{{len .Checks}}", check=False).out.strip() == str(len(text.splitlines()) - 2 - text.count("         - "))


def test_it_leaves_nothing(daemon):
    def state():
        with open(f"/proc/{daemon.process.pid}/mountinfo") as f:
            return [line for line in f if daemon.dir in line or daemon.run_dir in line], daemon.nft()

    def descriptors():
        return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    ask(daemon)
    before, open_before = state(), descriptors()
    for _ in range(5):
        ask(daemon)
    assert state() == before
    wait_until(lambda: descriptors() <= open_before, what="no descriptor more")
    children = subprocess.run(["ps", "--ppid", str(daemon.process.pid), "-o", "stat="], capture_output=True, text=True, check=False).stdout
    assert "Z" not in children


def test_registries_are_asked_where_wanted(daemon):
    assert not any(name.startswith("registry") for name in ask(daemon))
    fake = FakeRegistry(daemon)
    try:
        rows = ask(daemon, "--registry", fake.host, "--registry", "127.0.0.1:1", code=1)
        assert rows["registry." + fake.host]["Status"] == "ok" and fake.requests
        assert rows["registry.127.0.0.1:1"]["Status"] == "failed" and "127.0.0.1:1" in rows["registry.127.0.0.1:1"]["Message"]
    finally:
        fake.close()
    assert daemon.api("GET", "/system/doctor?" + "&".join(["registry=h"] * 17)).status == 400


def test_other_firewalls(daemon):
    def nft(text):
        subprocess.run(daemon.in_netns("nft", "-f", "-"), input=text, text=True, check=True)
    nft("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }\n"
        "table inet fine { chain forward { type filter hook forward priority 0; policy accept; }; chain in { type filter hook input priority 0; policy drop; }; }\n"
        "table inet strict { chain through { type filter hook forward priority 5; policy drop; }; }\n")
    try:
        row = ask(daemon)["network.firewall"]
        assert row["Status"] == "warning" and "ip filter FORWARD" in row["Message"] and "inet strict through" in row["Message"] and "fine" not in row["Message"]
        assert "gtb*" in row["Remedy"]
    finally:
        nft("delete table ip filter\ndelete table inet fine\ndelete table inet strict\n")
    assert ask(daemon)["network.firewall"]["Status"] == "ok"


def test_forwarding_turned_off(daemon):
    daemon.command("sysctl", "-qw", "net.ipv4.ip_forward=0")
    try:
        assert ask(daemon, code=1)["network.forwarding"]["Status"] == "failed"
        assert host(daemon)["network.forwarding"]["Status"] == "ok"      # without a daemon it is yet to be turned on
    finally:
        daemon.command("sysctl", "-qw", "net.ipv4.ip_forward=1")


def test_few_files(daemon):
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (5000, 5000))
    assert ask(daemon)["limits.files"]["Status"] == "warning"
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (500, 500))
    row = ask(daemon, code=1)["limits.files"]
    assert row["Status"] == "failed" and "500 files" in row["Message"] and "LimitNOFILE" in row["Remedy"]
    daemon.restart()


@pytest.mark.parametrize("change,name,status,words", [
    ("428=38", "kernel.calls", "ok", ""),                                                   # open_tree alone is not looked for by name
    ("437=38", "kernel.calls", "failed", "openat2 (Linux 5.6)"),
    ("442=38", "kernel.calls", "failed", "mount_setattr (Linux 5.12)"),
    ("442=22", "kernel.idmap", "warning", "Invalid argument"),
    ("430=19", "kernel.overlayfs", "failed", "No such device"),
    ("317=22", "kernel.seccomp", "failed", "Invalid argument"),
    ("/proc/sys/user/max_net_namespaces=0", "kernel.namespaces", "failed", "net"),
    ("/proc/sys/user/max_user_namespaces=0", "kernel.userns", "warning", "no user namespaces"),
    ("/sys/fs/cgroup=gone", "cgroup", "failed", "no control groups"),
    ("/proc/sys/kernel/pid_max=100", "limits.processes", "failed", "of 100 that there may be"),
    ("/proc/sys/kernel/pid_max=20000", "limits.processes", "warning", "of 20000"),
    ("/proc/sys/kernel/keys/maxkeys=10", "limits.keys", "warning", "10 kernel keys"),
    ("/proc/key-users=    0:     9 8/8 8/1000000 133/25000000\n 1000:   199 199/199 199/200 20000/20000\n", "limits.keys", "warning", "user 1000 has 199 of 200"),
    ("/proc/sys/fs/inotify/max_user_instances=7", "limits.inotify", "warning", "7 inotify instances"),
    ("ROOT=tmpfs", "storage.root", "failed", "1 MiB left"),
    ("ROOT=tmpfs", "storage.root.inodes", "failed", "inodes left"),
])
def test_a_host_that_lacks_something(daemon, change, name, status, words):
    row = host(daemon, change.replace("ROOT", daemon.root))[name]
    assert row["Status"] == status and words in row["Message"], row


def test_a_host_without_room(daemon):
    with open("/proc/self/mountinfo") as f:
        before = f.read()
    rows = host(daemon, f"{daemon.root}=tmpfs", code=1)
    assert rows["storage.root"]["Status"] == "failed" and "prune" in rows["storage.root"]["Remedy"]
    with open("/proc/self/mountinfo") as f:
        assert f.read() == before


def test_settings(fresh_daemon):
    extra = {"daemon": {"listen": f"unix://{fresh_daemon.socket}, tcp://127.0.0.1:7778, tcp://0.0.0.0:7779", "insecure_tcp": "yes"},
             "log": {"driver": "journald"}}
    fresh_daemon.write_ini(extra)
    fresh_daemon.start()
    rows = ask(fresh_daemon, code=1)
    assert rows["api"]["Status"] == "failed" and "0.0.0.0:7779" in rows["api"]["Message"] and "root" in rows["api"]["Message"]
    if not os.path.exists("/run/systemd/journal/socket"):
        assert rows["journal"]["Status"] == "failed"
    fresh_daemon.write_ini({"daemon": {"listen": f"unix://{fresh_daemon.socket}, tcp://127.0.0.1:7778", "insecure_tcp": "yes"}})
    assert host(fresh_daemon)["api"]["Status"] == "warning"


def test_a_driver_that_is_refused(fresh_daemon):
    plugins = os.path.join(fresh_daemon.dir, "plugins")
    shutil.copytree(os.path.join(BUILD, "plugins"), plugins)
    with open(plugins + "/bad.so", "w") as f:
        f.write("no ELF file")
    fresh_daemon.write_ini({"daemon": {"plugin_dir": plugins}})
    fresh_daemon.start()
    row = ask(fresh_daemon, code=1)["drivers"]
    assert row["Status"] == "failed" and "bad.so" in row["Message"]
    fresh_daemon.stop()
    row = ask(fresh_daemon, "--daemon-config", fresh_daemon.ini_path, code=1)["drivers"]
    assert row["Status"] == "failed" and "bad.so" in row["Message"]
    shutil.rmtree(plugins)
    row = host(fresh_daemon, code=1)["drivers"]
    assert row["Status"] == "failed" and plugins in row["Message"]


def test_without_a_daemon(fresh_daemon):
    rows = ask(fresh_daemon, "--daemon-config", fresh_daemon.ini_path, "--registry", "x", code=1)
    assert rows["daemon"]["Status"] == "failed" and "systemctl start gantryd" in rows["daemon"]["Remedy"]
    assert rows["programs"]["Status"] == "ok" and rows["drivers"]["Status"] == "ok" and rows["kernel.overlayfs"]["Status"] == "ok"
    assert rows["registry"]["Status"] == "warning"
    text = fresh_daemon.gantry("system", "doctor", "-q", "--daemon-config", fresh_daemon.ini_path, check=False)
    assert text.code == 1 and text.out.startswith("failed   daemon: ") and "\n         - start it" in text.out
    with open(fresh_daemon.ini_path, "a") as f:
        f.write("[nonsense]\nx = 1\n")
    rows = ask(fresh_daemon, "--daemon-config", fresh_daemon.ini_path, code=1)
    assert "nonsense" in rows["gantryd"]["Message"] and set(rows) == {"daemon", "gantryd"}


def test_a_daemon_elsewhere_that_does_not_answer(fresh_daemon):
    done = fresh_daemon.gantry("-H", "tcp://127.0.0.1:1", "system", "doctor", "--format", "json", check=False)
    assert done.code == 1 and [row["Name"] for row in json.loads(done.out)["Checks"]] == ["daemon"]


def test_another_engine(daemon):
    """A process that is no gantryd serves /run/docker.sock of this mount namespace."""
    if os.path.exists("/run/docker.sock"):
        pytest.skip("there is one already")
    script = WRAPPER.replace("os.execv(program[0], program)", """
import socket
s = socket.socket(socket.AF_UNIX)
s.bind("/run/docker.sock")
s.listen(1)
sys.exit(subprocess.run(program).returncode)
""")
    done = daemon.command(sys.executable, "-c", script, "/run=tmpfs", GANTRYD, "--check-host", "--config", daemon.ini_path, check=False)
    row = checks(json.loads(done.out))["docker"]
    assert row["Status"] == "warning" and "python" in row["Message"] and "address_pools" in row["Remedy"]
    assert not os.path.exists("/run/docker.sock")


def test_as_a_user_who_is_not_root(daemon):
    done = daemon.command("setpriv", "--reuid=65534", "--clear-groups", GANTRYD, "--check-host", "--config", "/nonexistent", check=False)
    assert done.code == 1 and "nonexistent" in done.err
    done = daemon.command("setpriv", "--reuid=65534", "--clear-groups", GANTRYD, "--check-host", check=False)
    rows = checks(json.loads(done.out))
    assert rows["user"]["Status"] == "warning" and "kernel.overlayfs" not in rows and rows["kernel.calls"]["Status"] == "ok"
