"""vol-docker with a plugin of somebody else's: rclone's server of Docker's volume plugin protocol (Debian's package rclone), whose volumes are FUSE mounts of a
remote. The remote here is a directory."""

import os
import shutil
import signal
import subprocess

import pytest

from harness import IMAGE, run, wait_until
from test_volume_plugins import host, place  # noqa: F401
from volume_plugin import mounts_below

pytestmark = [pytest.mark.skipif(not shutil.which("rclone"), reason="rclone is not installed (scripts/install-dependencies --tests)"),
              pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="this kernel has no FUSE (CONFIG_FUSE_FS, module fuse)")]


class Rclone:
    def __init__(self, place):
        self.place = place
        self.base, self.remote = os.path.join(place, "base"), os.path.join(place, "remote")
        for path in (self.base, self.remote, os.path.join(place, "cache")):
            os.mkdir(path)
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["rclone", "serve", "docker", "--socket-addr", self.place + "/rclone.sock", "--base-dir", self.base, "--cache-dir", self.place + "/cache",
             "--config", self.place + "/rclone.conf", "--vfs-cache-mode", "full", "--vfs-write-back", "10ms"],
            stdout=subprocess.DEVNULL, stderr=open(self.place + "/rclone.log", "a"))
        wait_until(lambda: os.path.exists(self.place + "/rclone.sock"), what="rclone's socket")

    def mounts(self):
        return mounts_below(self.base)

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None
        for path in self.mounts():
            run("umount", "-l", path)


    def await_remote(self, name, text):
        """It writes back when it likes, and a mount that comes before that shows zeros."""
        path = os.path.join(self.remote, name)
        wait_until(lambda: os.path.exists(path) and open(path).read() == text, what=f"{name} in the remote")


@pytest.fixture
def rclone(host, place):  # noqa: F811
    made = Rclone(place)
    yield made
    host.remove_everything()
    made.stop()
    assert made.mounts() == []


def test_a_volume_of_rclone(host, rclone):  # noqa: F811
    host.docker("volume", "create", "-d", "rclone", "-o", f"remote={rclone.remote}", "-o", "allow-other=true", "data")
    assert host.json("GET", "/info")["Plugins"]["Volume"] == ["local", "rclone"]
    host.docker("run", "-d", "--name", "c1", "-v", "data:/data", IMAGE, "sh", "-c", "mkdir /data/dir; echo kept > /data/dir/file; sleep 1000")
    assert len(rclone.mounts()) == 1
    rclone.await_remote("dir/file", "kept\n")
    with open(rclone.remote + "/given", "w") as f:
        f.write("from outside\n")
    assert host.docker("run", "--rm", "-v", "data:/other:ro", IMAGE, "cat", "/other/dir/file").out == "kept\n"
    assert "in use" in host.docker("volume", "rm", "data", check=False).err
    volume = host.json("GET", "/volumes/data")
    assert volume["Driver"] == "rclone" and volume["Mountpoint"] == rclone.mounts()[0]
    host.docker("rm", "-f", "c1")
    wait_until(lambda: rclone.mounts() == [], what="the end of the mount")
    assert host.docker("run", "--rm", "-v", "data:/data", IMAGE, "cat", "/data/given").out == "from outside\n"
    host.docker("volume", "rm", "data")
    assert host.docker("volume", "ls", "-q").out == "" and os.path.exists(rclone.remote + "/dir/file")


def test_what_rclone_refuses_is_told(host, rclone):  # noqa: F811
    for options in (["-o", "type=no-such-backend", "-o", "path=/x"], ["-o", "no-such-option=1"]):
        refused = host.docker("volume", "create", "-d", "rclone", *options, "data", check=False)
        assert refused.code == 1 and "rclone" in refused.err, refused
    assert host.docker("volume", "ls", "-q").out == ""


def test_the_daemons_death_and_rclones(host, rclone):  # noqa: F811
    host.docker("volume", "create", "-d", "rclone", "-o", f"remote={rclone.remote}", "data")
    host.docker("run", "-d", "--name", "stays", "-v", "data:/data", IMAGE, "sleep", "1000")
    host.docker("run", "-d", "--name", "ends", "-v", "data:/data", IMAGE, "sleep", "1000")
    pid = host.inspect("ends")["State"]["Pid"]
    host.kill9()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the container's end")
    host.start()
    host.docker("exec", "stays", "sh", "-c", "echo still > /data/file")
    rclone.await_remote("file", "still\n")
    host.docker("rm", "-f", "stays", "ends")
    wait_until(lambda: rclone.mounts() == [], what="the end of the mount: nobody holds it")
    rclone.stop()
    rclone.start()
    assert host.docker("run", "--rm", "-v", "data:/data", IMAGE, "cat", "/data/file").out == "still\n"


def test_docker_cp_with_a_volume_of_rclone(host, rclone, tmp_path):  # noqa: F811
    host.docker("volume", "create", "-d", "rclone", "-o", f"remote={rclone.remote}", "data")
    host.docker("run", "-d", "--name", "c1", "-v", "data:/data", IMAGE, "sleep", "1000")     # what was not written back by the end of a mount is late
    (tmp_path / "in").write_text("copied\n")
    host.docker("cp", str(tmp_path / "in"), "c1:/data/in")
    rclone.await_remote("in", "copied\n")
    host.docker("cp", "c1:/data/in", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "copied\n"
    host.docker("rm", "-f", "c1")
    wait_until(lambda: rclone.mounts() == [], what="the end of the mount")
