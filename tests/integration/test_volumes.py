"""Volumes and mounts: named, anonymous, bind, tmpfs, volumes-from, copy-up."""

import os

import pytest

from disks import device
from harness import IMAGE


def test_a_named_volume_outlives_its_containers(daemon):
    daemon.docker("run", "--rm", "-v", "data:/data", IMAGE, "sh", "-c", "echo kept > /data/file")
    assert daemon.docker("run", "--rm", "-v", "data:/data:ro", IMAGE, "cat", "/data/file").out == "kept\n"
    assert daemon.docker("run", "--rm", "-v", "data:/data:ro", IMAGE, "touch", "/data/x", check=False).code == 1
    volume = daemon.json("GET", "/volumes/data")
    assert volume["Driver"] == "local" and os.path.isdir(volume["Mountpoint"])


def test_volume_commands(daemon):
    assert daemon.docker("volume", "create", "--label", "a=b", "one").out.strip() == "one"
    anonymous = daemon.docker("volume", "create").out.strip()
    assert len(anonymous) == 64
    assert sorted(daemon.docker("volume", "ls", "-q").out.split()) == sorted(["one", anonymous])
    assert daemon.docker("volume", "ls", "-q", "--filter", "label=a=b").out.split() == ["one"]
    daemon.docker("create", "--name", "c1", "-v", "one:/x", IMAGE)
    refused = daemon.docker("volume", "rm", "one", check=False)
    assert refused.code == 1 and "in use" in refused.err
    assert daemon.docker("volume", "ls", "-q", "--filter", "dangling=true").out.split() == [anonymous]
    daemon.docker("rm", "c1")
    daemon.docker("volume", "rm", "one")
    assert daemon.docker("volume", "rm", "one", check=False).code == 1
    assert daemon.docker("volume", "create", "../escape", check=False).code == 1
    assert daemon.docker("volume", "create", "-d", "no-such-driver", check=False).code == 1
    assert daemon.docker("volume", "create", "-o", "nonsense=1", check=False).code == 1
    assert anonymous in daemon.docker("volume", "prune", "-f").out


def test_anonymous_volumes_go_with_rm_v_and_run_rm(daemon):
    daemon.docker("run", "--rm", "-v", "/data", IMAGE, "touch", "/data/x")
    assert daemon.docker("volume", "ls", "-q").out == ""
    daemon.docker("run", "--name", "c1", "-v", "/data", IMAGE, "touch", "/data/x")
    assert len(daemon.docker("volume", "ls", "-q").out.split()) == 1
    daemon.docker("rm", "-v", "c1")
    assert daemon.docker("volume", "ls", "-q").out == ""


def test_bind_mounts(daemon, tmp_path):
    (tmp_path / "file").write_text("host")
    out = daemon.docker("run", "--rm", "-v", f"{tmp_path}:/m", IMAGE, "sh", "-c", "cat /m/file; echo container > /m/back").out
    assert out == "host" and (tmp_path / "back").read_text() == "container\n"
    assert daemon.docker("run", "--rm", "-v", f"{tmp_path}/file:/etc/one:ro", IMAGE, "cat", "/etc/one").out == "host"
    assert daemon.docker("run", "--rm", "-v", f"{tmp_path}:/m:ro", IMAGE, "touch", "/m/x", check=False).code == 1
    daemon.docker("run", "--rm", "-v", f"{tmp_path}/made/for/me:/m", IMAGE, "true")
    assert (tmp_path / "made" / "for" / "me").is_dir()
    missing = daemon.docker("run", "--rm", "--mount", f"type=bind,source={tmp_path}/missing,target=/m", IMAGE, "true", check=False)
    assert missing.code == 125 and f"{tmp_path}/missing" in missing.err


@pytest.mark.parametrize("spec, words", [
    (["-v", "relative/path:/m"], "relative"),
    (["-v", "name:relative"], "relative"),
    (["-v", "/a:/b:nonsense"], "nonsense"),
    (["-v", "/a:/"], "/"),
    (["-v", "/tmp:/m", "-v", "/var:/m"], "/m"),
    (["--mount", "type=nonsense,target=/m"], "nonsense"),
    (["--tmpfs", "/m:nonsense=1"], "nonsense"),
    (["--volumes-from", "nobody"], "nobody"),
])
def test_bad_mounts_are_refused_and_leave_nothing(daemon, spec, words):
    result = daemon.docker("run", "--rm", *spec, IMAGE, "true", check=False)
    assert result.code == 125, result
    assert words in result.err
    assert daemon.json("GET", "/containers/json?all=1") == []
    assert not daemon.json("GET", "/volumes")["Volumes"]


def test_tmpfs_mounts(daemon):
    out = daemon.docker("run", "--rm", "--mount", "type=tmpfs,target=/t,tmpfs-size=1048576,tmpfs-mode=700", IMAGE, "sh", "-c",
                        "stat -c %a /t; df -k /t | tail -1; mount | grep ' /t '").out
    assert out.split()[0] == "700" and "1024" in out and "noexec" in out


def test_an_empty_volume_gets_the_images_content(daemon):
    daemon.docker("run", "--rm", "-v", "etc:/etc", IMAGE, "true")
    assert "root" in daemon.docker("run", "--rm", "-v", "etc:/x", IMAGE, "cat", "/x/passwd").out
    assert daemon.docker("run", "--rm", "-v", "empty:/etc:nocopy", IMAGE, "ls", "/etc").out.split() in (
        ["hostname", "hosts", "resolv.conf"], ["hosts", "hostname", "resolv.conf"])
    mode = daemon.docker("run", "--rm", "-v", "tmp:/tmp", IMAGE, "stat", "-c", "%a", "/tmp").out.strip()
    assert mode == "1777"


def test_a_volume_on_a_block_device(daemon, tmp_path):
    """Which the container itself may not open."""
    with device(tmp_path, "ext4", 16 << 20) as disk:
        daemon.docker("volume", "create", "-o", "type=ext4", "-o", f"device={disk}", "disk")
        both = ["--rm", "-v", "disk:/data"]
        shown = daemon.docker("run", *both, IMAGE, "sh", "-c", "echo kept > /data/file; grep ' /data ' /proc/mounts").out
        assert shown.split()[:3] == [disk, "/data", "ext4"]
        number = os.stat(disk).st_rdev
        opened = daemon.docker("run", *both, IMAGE, "sh", "-c", f"mknod /disk b {os.major(number)} {os.minor(number)} && head -c 1 /disk", check=False)
        assert opened.code == 1 and "not permitted" in opened.err
        daemon.docker("run", "-d", "--name", "reader", "-v", "disk:/data:ro", IMAGE, "sleep", "60")
        daemon.docker("run", *both, IMAGE, "sh", "-c", "echo more >> /data/file")
        assert daemon.docker("exec", "reader", "cat", "/data/file").out == "kept\nmore\n"
        assert daemon.docker("exec", "reader", "touch", "/data/x", check=False).code == 1
        daemon.docker("rm", "-f", "reader")
        full = daemon.docker("run", *both, IMAGE, "dd", "if=/dev/zero", "of=/data/fill", "bs=1M", "count=32", check=False)
        assert full.code == 1 and "No space left" in full.err
        daemon.docker("volume", "rm", "disk")


def test_volumes_from(daemon, tmp_path):
    daemon.docker("create", "--name", "source", "-v", "data:/data", "-v", f"{tmp_path}:/host:ro", IMAGE)
    daemon.docker("run", "--rm", "--volumes-from", "source", IMAGE, "touch", "/data/x")
    assert daemon.docker("run", "--rm", "--volumes-from", "source", IMAGE, "touch", "/host/x", check=False).code == 1
    assert daemon.docker("run", "--rm", "--volumes-from", "source:ro", IMAGE, "touch", "/data/y", check=False).code == 1


def test_subpath_of_a_volume(daemon):
    daemon.docker("run", "--rm", "-v", "data:/data", IMAGE, "sh", "-c", "mkdir -p /data/a/b; echo deep > /data/a/b/f; ln -s /etc /data/out")
    out = daemon.gantry("run", "--rm", "--mount", "type=volume,source=data,target=/m,volume-subpath=a/b", IMAGE, "cat", "/m/f").out
    assert out == "deep\n"
    for bad in ("../..", "out", "missing"):
        result = daemon.gantry("run", "--rm", "--mount", f"type=volume,source=data,target=/m,volume-subpath={bad}", IMAGE, "ls", "/m", check=False)
        assert result.code != 0, (bad, result)


def test_no_mount_appears_on_the_host(daemon, tmp_path):
    daemon.docker("run", "-d", "--name", "c1", "-v", "data:/data", "-v", f"{tmp_path}:/m", IMAGE, "sleep", "100")
    with open("/proc/self/mountinfo") as f:
        mounts = f.read()
    assert daemon.root not in mounts and daemon.run_dir not in mounts


def test_propagation(daemon, tmp_path):
    (tmp_path / "inner").mkdir()
    daemon.docker("run", "-d", "--name", "c1", "--mount", f"type=bind,source={tmp_path},target=/m,bind-propagation=rprivate", IMAGE, "sleep", "100")
    mount = daemon.inspect("c1")["Mounts"][0]
    assert (mount["Type"], mount["Source"], mount["Destination"], mount["RW"], mount["Propagation"]) == ("bind", str(tmp_path), "/m", True, "rprivate")
