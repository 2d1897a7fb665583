"""userns_remap: containers whose root is nobody on the host, on images that are shared with all others."""

import os
import subprocess

import pytest

from harness import DOCKER, IMAGE, Daemon, wait_until

FIRST, COUNT = 200000, 65536


@pytest.fixture(scope="module")
def shared_daemon(workdir):
    d = Daemon(workdir)
    d.write_ini({"runtime": {"userns_remap": f"{FIRST}:{COUNT}", "cgroup_parent": d.cgroup_parent}})
    try:
        d.start()
        yield d
    finally:
        d.destroy()


def owners(pid):
    with open(f"/proc/{pid}/status") as f:
        return {line.split()[0][:-1]: [int(word) for word in line.split()[1:]] for line in f if line.startswith(("Uid", "Gid"))}


def test_root_is_nobody_outside(daemon):
    daemon.docker("run", "-d", "--name", "ctr", IMAGE, "sleep", "1000")
    pid = daemon.inspect("ctr")["State"]["Pid"]
    assert owners(pid)["Uid"] == [FIRST] * 4 and owners(pid)["Gid"] == [FIRST] * 4
    assert daemon.docker("exec", "ctr", "cat", "/proc/self/uid_map").out.split() == ["0", str(FIRST), str(COUNT)]
    assert daemon.docker("exec", "ctr", "cat", "/proc/self/gid_map").out.split() == ["0", str(FIRST), str(COUNT)]
    assert daemon.docker("exec", "ctr", "id", "-u").out == "0\n"
    assert daemon.docker("exec", "-u", "1000:1000", "ctr", "id", "-u").out == "1000\n"
    assert os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    assert "name=userns" in daemon.json("GET", "/info")["SecurityOptions"]


def test_what_is_written_belongs_to_the_containers_users(daemon):
    """On the disk a layer has the same owners as without a map: that is what lets images be shared and containers be committed."""
    daemon.docker("run", "--name", "ctr", IMAGE, "sh", "-c", "touch /root-file && echo u:x:1234:1234::/:/bin/sh >>/etc/passwd && touch /u-file && chown u /u-file")
    changes = daemon.docker("diff", "ctr").out.splitlines()
    assert {"A /root-file", "A /u-file", "C /etc/passwd"} <= set(changes)
    daemon.docker("commit", "ctr", "shifted:1")
    try:
        seen = daemon.docker("run", "--rm", "--userns", "host", "shifted:1", "stat", "-c", "%u", "/root-file", "/u-file", "/etc/passwd").out.split()
        assert seen == ["0", "1234", "0"]
        seen = daemon.docker("run", "--rm", "shifted:1", "stat", "-c", "%u", "/root-file", "/u-file", "/etc/passwd").out.split()
        assert seen == ["0", "1234", "0"]
        assert daemon.docker("run", "--rm", "--user", "u", "shifted:1", "sh", "-c", "id -u; touch /root-file 2>&1; touch /u-file && echo mine").out.split("\n")[0] == "1234"
    finally:
        daemon.docker("rm", "ctr")
        daemon.docker("rmi", "shifted:1")


def test_cp_both_ways(daemon, tmp_path):
    (tmp_path / "in").write_text("text")
    daemon.docker("run", "-d", "--name", "ctr", IMAGE, "sleep", "1000")
    for state in ("running", "stopped"):
        daemon.docker("cp", str(tmp_path / "in"), "ctr:/tmp/" + state)
        daemon.docker("cp", "ctr:/tmp/" + state, str(tmp_path / state))
        assert (tmp_path / state).read_text() == "text"
        if state == "running":
            assert daemon.docker("exec", "ctr", "stat", "-c", "%u", "/tmp/running").out == "0\n"
            daemon.docker("stop", "-t", "0", "ctr")


def test_volumes_binds_and_tmpfs(daemon, tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    out = daemon.docker("run", "--rm", "-v", "data:/data", "-v", f"{shared}:/bind", "--tmpfs", "/t", IMAGE, "sh", "-c",
                        "touch /data/f /bind/f /t/f && stat -c '%u' /data /data/f /bind/f /t /t/f").out.split()
    assert out == ["0"] * 5
    assert os.stat(shared / "f").st_uid == 0, "a bind is seen by the container's ids: its root writes the host root's files there, and only there"
    assert daemon.docker("run", "--rm", "--userns", "host", "-v", "data:/data", IMAGE, "stat", "-c", "%u", "/data/f").out == "0\n"
    daemon.docker("run", "--name", "first", "-v", "/etc", IMAGE, "true")
    assert daemon.docker("run", "--rm", "--volumes-from", "first", IMAGE, "stat", "-c", "%u", "/etc/passwd").out == "0\n"


def test_devices_proc_and_sys(daemon):
    script = "echo x >/dev/null && head -c 4 /dev/zero | wc -c && test -c /dev/urandom && ls /proc/1/ns/user && ls /sys/class/net | head -1; cat /proc/sys/kernel/pid_max"
    assert daemon.docker("run", "--rm", IMAGE, "sh", "-c", script).out.split()[0] == "4"
    for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/sys/kernel/uevent_seqnum"):
        done = daemon.docker("run", "--rm", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined", IMAGE,
                             "sh", "-c", f"echo x >{path}", check=False)
        assert done.code != 0, path
    done = daemon.docker("run", "--rm", "--cap-add", "ALL", IMAGE, "mknod", "/disk", "b", "8", "0", check=False)
    assert done.code != 0 and "not permitted" in done.err


def test_its_capabilities_are_none_outside(daemon, tmp_path):
    """Root with every capability, and a file of the host's root that only its owner may read."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    os.chmod(secret, 0o600)
    os.chown(secret, 70000, 70000)     # of nobody in the map that binds are seen by
    done = daemon.docker("run", "--rm", "--cap-add", "ALL", "-v", f"{secret}:/secret", IMAGE, "cat", "/secret", check=False)
    assert done.code != 0 and "ermission denied" in done.err
    done = daemon.docker("run", "--rm", "--cap-add", "ALL", "--network", "host", IMAGE, "ip", "link", "add", "gtvx", "type", "dummy", check=False)
    assert done.code != 0 and "not permitted" in done.err


def test_networks_and_published_ports(daemon):
    daemon.docker("network", "create", "net")
    daemon.docker("run", "-d", "--name", "server", "--network", "net", "-p", "127.0.0.1:18080:80", IMAGE, "httpd", "-f", "-p", "80", "-h", "/etc")
    out = daemon.docker("run", "--rm", "--network", "net", IMAGE, "sh", "-c", "for i in 1 2 3 4 5; do wget -qO- http://server/hostname && break; sleep 0.2; done").out
    assert out.strip() == daemon.inspect("server")["Config"]["Hostname"]
    def fetch():
        done = subprocess.run(daemon.in_netns("curl", "-sf", "http://127.0.0.1:18080/hostname"), capture_output=True, text=True)
        return done.stdout.strip() == daemon.inspect("server")["Config"]["Hostname"]
    wait_until(fetch, what="the published port")
    assert daemon.docker("run", "--rm", "--sysctl", "net.ipv4.ip_unprivileged_port_start=81", "--network", "net", IMAGE, "cat",
                         "/proc/sys/net/ipv4/ip_unprivileged_port_start").out == "81\n"


def test_namespaces_of_others_are_refused_by_name(daemon):
    daemon.docker("run", "-d", "--name", "ctr", "--ipc", "shareable", IMAGE, "sleep", "1000")
    for option in ("--pid=container:ctr", "--ipc=container:ctr"):
        done = daemon.docker("run", "--rm", option, IMAGE, "true", check=False)
        assert done.code == 125 and "userns_remap" in done.err, option
    assert daemon.docker("run", "--rm", "--network", "container:ctr", IMAGE, "echo", "x").out == "x\n"
    daemon.docker("run", "-d", "--name", "on-host", "--userns", "host", IMAGE, "sleep", "1000")
    assert daemon.docker("run", "--rm", "--userns", "host", "--pid", "container:on-host", IMAGE, "echo", "x").out == "x\n"


def test_life_goes_on_as_ever(daemon, tmp_path):
    daemon.docker("run", "-d", "--name", "ctr", "--init", "--memory", "64m", "--read-only", "--hostname", "named", "--health-cmd", "true", "--health-interval", "200ms",
                  IMAGE, "sh", "-c", "while true; do echo tick; sleep 0.1; done")
    wait_until(lambda: daemon.inspect("ctr")["State"]["Health"]["Status"] == "healthy", what="health")
    assert daemon.docker("exec", "ctr", "hostname").out == "named\n"
    assert "Read-only" in daemon.docker("exec", "ctr", "touch", "/x", check=False).err
    daemon.docker("pause", "ctr")
    daemon.docker("unpause", "ctr")
    daemon.docker("update", "--memory", "96m", "ctr")
    daemon.restart(crash=True)
    assert daemon.state("ctr") == "running" and daemon.docker("exec", "ctr", "id", "-u").out == "0\n"
    daemon.docker("restart", "-t", "0", "ctr")
    terminal = daemon.terminal(DOCKER, "exec", "-it", "ctr", "sh")
    terminal.send("tty; exit\n")
    terminal.expect("/dev/pts/")
    terminal.wait()
    with open(tmp_path / "c.tar", "wb") as f:
        f.write(daemon.api("GET", "/containers/ctr/export").body)
    listing = subprocess.run(["tar", "-tvf", tmp_path / "c.tar", "--numeric-owner"], capture_output=True, text=True, check=True).stdout
    assert " 0/0 " in listing and str(FIRST) not in listing


def test_builds(daemon, tmp_path):
    daemon.env["DOCKER_BUILDKIT"] = "0"
    (tmp_path / "file").write_text("x")
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY --chown=5:6 file /file\nRUN id -u >/id && chown 7 /id\nUSER 8\nRUN touch /tmp/of-8\n")
    daemon.docker("build", "-t", "mapped:1", str(tmp_path))
    try:
        for extra in ([], ["--userns", "host"]):
            out = daemon.docker("run", "--rm", *extra, "mapped:1", "stat", "-c", "%u:%g", "/file", "/id", "/tmp/of-8").out.split()
            assert [word.split(":")[0] for word in out] == ["5", "7", "8"], extra
    finally:
        daemon.docker("rmi", "mapped:1")
