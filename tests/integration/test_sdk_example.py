"""The worked example of the SDK, from outside: built of what is installed, checked by the conformance kit, and used."""

import os
import re
import shutil
import subprocess

import pytest

from disks import devices_of
from harness import IMAGE, wait_until
from test_plugin_kit import GANTRY, check_plugin, make, sdk  # noqa: F401


@pytest.fixture(scope="module")
def example(sdk, tmp_path_factory):  # noqa: F811
    """A copy of the installed example, built."""
    if subprocess.run(["pkg-config", "--exists", "ext2fs"]).returncode:
        pytest.skip("no libext2fs-dev here")
    docs = subprocess.run(["pkg-config", "--variable=docdir", "gantry-sdk"], env=sdk, check=True, capture_output=True, text=True).stdout.strip()
    directory = tmp_path_factory.mktemp("example") / "vol-loop"
    shutil.copytree(os.path.join(docs, "examples", "vol-loop"), directory)
    built = make(directory, sdk, "CFLAGS=-O1 -g -Werror")
    assert built.returncode == 0 and not built.stdout, built.stdout
    return directory


def given_back(daemon):
    """No volume has a loop device: the kernel takes them back when the last mount is gone, which is a moment after its container."""
    wait_until(lambda: not devices_of(daemon.root), what="the loop devices are given back")
    return True


@pytest.fixture(params=["none", "process"])
def loop_daemon(request, example, fresh_daemon):
    fresh_daemon.write_ini({"plugin.vol-loop": {"path": example / "vol-loop.so", "isolate": request.param, "size": "24m"}})
    fresh_daemon.start()
    yield fresh_daemon
    for container in fresh_daemon.docker("ps", "-aq").out.split():
        fresh_daemon.docker("rm", "-f", container)
    for volume in fresh_daemon.docker("volume", "ls", "-q").out.split():
        fresh_daemon.docker("volume", "rm", volume)
    assert given_back(fresh_daemon)


def test_it_keeps_every_rule(example):
    for settings in ([], ["isolate=process"], ["size=16m", "discard=no"]):
        code, report = check_plugin(example / "vol-loop.so", *settings)
        assert code == 0 and "SKIP" not in report, report
    code, report = check_plugin(example / "vol-loop.so", "size=1m")
    assert code == 2 and "size" in report


def test_its_own_test_passes(example, loop_daemon):
    done = loop_daemon.command(str(example / "test.sh"))
    assert re.search(r"^1\.\.9$", done.out, re.M) and done.out.count("ok ") == 9, done


def test_containers_keep_their_volumes_when_the_daemon_dies(loop_daemon):
    daemon = loop_daemon
    daemon.docker("run", "-d", "--name", "writer", "-v", "data:/data", "--mount", "type=volume,source=disk,volume-driver=loop,target=/disk", IMAGE,
                  "sh", "-c", "echo kept > /disk/file; while sleep 0.1; do date > /disk/now || exit 1; done")
    daemon.docker("run", "-d", "--name", "short", "--mount", "type=volume,source=other,volume-driver=loop,target=/disk", IMAGE, "sleep", "1")
    wait_until(lambda: daemon.docker("exec", "writer", "cat", "/disk/now", check=False).code == 0)
    before = devices_of(daemon.root)
    assert len(before) == 2
    pid = daemon.inspect("short")["State"]["Pid"]
    daemon.kill9()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    daemon.start()
    wait_until(lambda: len(devices_of(daemon.root)) == 1, what="the device of a container that is gone is given back")
    assert daemon.state("writer") == "running" and set(devices_of(daemon.root)) < set(before)
    assert daemon.docker("run", "--rm", "-v", "disk:/disk:ro", IMAGE, "cat", "/disk/file").out == "kept\n"
    assert set(devices_of(daemon.root)) < set(before)
    status = daemon.json("GET", "/volumes/disk")["Status"]
    assert status == {"size": 24 << 20, "device": devices_of(daemon.root)[0]}
    daemon.docker("rm", "-f", "writer")
    assert given_back(daemon)


def test_a_volume_without_containers_has_no_device(loop_daemon, tmp_path):
    """On a daemon that had none before, with content that the image brings and a file that comes by cp."""
    daemon = loop_daemon
    daemon.docker("volume", "create", "-d", "loop", "-o", "size=20m", "etc")
    assert "root" in daemon.docker("run", "--rm", "-v", "etc:/etc", IMAGE, "cat", "/etc/passwd").out
    assert given_back(daemon)
    (tmp_path / "file").write_text("copied\n")
    daemon.docker("create", "--name", "c1", "-v", "etc:/etc", IMAGE, "cat", "/etc/file")
    daemon.docker("cp", str(tmp_path / "file"), "c1:/etc/file")
    assert daemon.docker("start", "-a", "c1").out == "copied\n"
    assert given_back(daemon)


def test_it_is_taken_up_and_replaced_while_containers_run(example, fresh_daemon):
    daemon = fresh_daemon
    daemon.start()
    daemon.write_ini({"plugin.vol-loop": {"path": example / "vol-loop.so", "size": "16m"}})
    daemon.gantry("plugin", "enable", "vol-loop")
    daemon.docker("volume", "create", "-d", "loop", "data")
    daemon.docker("run", "--rm", "-v", "data:/data", IMAGE, "touch", "/data/file")
    assert given_back(daemon)
    daemon.docker("run", "-d", "--name", "c1", "-v", "data:/data", IMAGE, "sleep", "60")
    daemon.gantry("plugin", "reload", "vol-loop")
    daemon.docker("run", "--rm", "-v", "data:/data", IMAGE, "cat", "/data/file")
    assert len(devices_of(daemon.root)) == 1
    daemon.docker("rm", "-f", "c1")
    assert given_back(daemon)
    daemon.docker("volume", "rm", "data")


def test_in_a_user_namespace_files_are_the_containers(example, fresh_daemon):
    fresh_daemon.write_ini({"plugin.vol-loop": {"path": example / "vol-loop.so"}, "runtime": {"userns_remap": "300000:65536"}})
    fresh_daemon.start()
    fresh_daemon.docker("volume", "create", "-d", "loop", "-o", "size=16m", "data")
    written = fresh_daemon.docker("run", "--rm", "-v", "data:/data", IMAGE, "sh", "-c", "touch /data/mine; chown 1000 /data/mine; stat -c '%u %g' /data /data/mine")
    assert written.out == "0 0\n1000 0\n"
    fresh_daemon.docker("volume", "rm", "data")
    assert given_back(fresh_daemon)
