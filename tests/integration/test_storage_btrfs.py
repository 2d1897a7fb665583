"""The whole engine on the storage driver btrfs, below a btrfs file system of the test's own: an image file that is mounted for the time of the test."""

import json
import os
import re
import subprocess
import tarfile
import time

import pytest

from disks import mounted
from harness import BUILD, IMAGE, Daemon, wait_until

SIZE = 1 << 30


@pytest.fixture(scope="module")
def disk(workdir):
    with mounted(workdir, "btrfs", SIZE) as top:
        yield top


def settings(**plugin):
    return {"storage": {"driver": "btrfs"}, **({"plugin.storage-btrfs": plugin} if plugin else {})}


@pytest.fixture
def btrfs(disk):
    """A daemon on it; afterwards no subvolume is left once its containers and images are gone."""
    d = Daemon(disk, settings())
    try:
        d.start()
        yield d
        if d.process is not None:
            d.remove_everything()
            d.docker("image", "prune", "-af")
            for image in d.json("GET", "/images/json?all=1"):
                d.api("DELETE", f"/images/{image['Id']}?force=1")
            wait_until(lambda: not subvolumes(d), what="no subvolume")
    finally:
        d.destroy()


def subvolumes(daemon):
    found = subprocess.run(["btrfs", "subvolume", "list", daemon.dir], check=True, capture_output=True, text=True).stdout
    name = os.path.basename(daemon.dir)
    return [line for line in found.splitlines() if name in line]


def layers(daemon):
    return sorted(os.listdir(os.path.join(daemon.root, "storage", "btrfs", "layers")))


def build(daemon, tmp_path, dockerfile, tag, files=()):
    context = tmp_path / ("context-" + tag)
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files:
        (context / name).write_text(text)
    return daemon.gantry("build", "-t", tag, str(context))


def test_containers_run_on_snapshots(btrfs):
    assert btrfs.docker("info", "-f", "{{.Driver}}").out.strip() == "btrfs"
    assert "Storage Driver: btrfs" in btrfs.gantry("info").out
    btrfs.docker("run", "--name", "one", IMAGE, "sh", "-c", "echo hello >/file; mkdir /new; echo x >/new/x")
    assert btrfs.inspect("one")["GraphDriver"]["Name"] == "btrfs"
    changes = btrfs.docker("diff", "one").out.splitlines()
    assert "A /file" in changes and "A /new" in changes and "A /new/x" in changes
    assert "SizeRw" in btrfs.json("GET", "/containers/one/json?size=1")
    assert btrfs.json("GET", "/containers/one/json?size=1")["SizeRw"] == len("hello\n") + len("x\n")
    btrfs.docker("cp", "one:/file", btrfs.dir + "/copied")
    assert open(btrfs.dir + "/copied").read() == "hello\n"
    btrfs.docker("cp", btrfs.dir + "/copied", "one:/new/back")
    assert "A /new/back" in btrfs.docker("diff", "one").out.splitlines()
    read_only = btrfs.docker("run", "--rm", "--read-only", IMAGE, "sh", "-c", "echo x >/f", check=False)
    assert read_only.code != 0 and "Read-only file system" in read_only.err
    assert btrfs.docker("run", "--rm", IMAGE, "sh", "-c", "ls /file /new", check=False).code != 0
    btrfs.docker("rm", "one")
    assert len(subvolumes(btrfs)) == len(layers(btrfs))


DOCKERFILE = f"""FROM {IMAGE}
RUN mkdir -p /data/sub && echo one >/data/one && echo two >/data/two && echo mode >/data/mode && echo three >/data/sub/three && ln /data/one /data/again && mknod /data/zero c 1 5
RUN rm /data/two && chmod 600 /data/mode && mv /data/sub /data/moved
RUN rm -rf /data/moved && mkdir /data/moved && echo four >/data/moved/four && ln -s four /data/moved/link
COPY added /data/added
"""


def content(daemon, tag, directory):
    """The entries of all layers of a saved image, in order, without what two builds cannot have in common."""
    path = os.path.join(directory, f"{daemon.name}.tar")
    daemon.docker("save", "-o", path, tag)
    found = []
    with tarfile.open(path) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))
        for name in manifest[0]["Layers"]:
            with tarfile.open(fileobj=saved.extractfile(name)) as layer:
                found.append([(m.name, m.type, oct(m.mode), m.uid, m.gid, m.linkname, m.size, layer.extractfile(m).read() if m.isreg() else b"") for m in layer])
    return found


def test_a_build_saves_the_same_as_with_the_overlay_driver(btrfs, workdir, tmp_path):
    overlay = Daemon(workdir)
    try:
        overlay.start()
        saved = []
        for d in (overlay, btrfs):
            d.env["BUILDKIT_PROGRESS"] = "plain"
            context = tmp_path / d.name
            context.mkdir()
            build(d, context, DOCKERFILE, "built", [("added", "added\n")])
            saved.append(content(d, "built", str(tmp_path)))
        assert [[entry[:6] for entry in layer] for layer in saved[0]] == [[entry[:6] for entry in layer] for layer in saved[1]]
        assert saved[0] == saved[1]
        # what one saved, the other loads
        btrfs.docker("rmi", "built")
        btrfs.docker("load", "-i", str(tmp_path / f"{overlay.name}.tar"))
        listed = btrfs.docker("run", "--rm", "built", "sh", "-c", "cd /data; find . | sort; cat one again added moved/link; stat -c %a mode").out
        assert listed == ".\n./added\n./again\n./mode\n./moved\n./moved/four\n./moved/link\n./one\n./zero\none\none\nadded\nfour\n600\n"
    finally:
        overlay.destroy()


def test_a_container_is_committed(btrfs):
    btrfs.docker("run", "--name", "one", IMAGE, "sh", "-c", "echo hello >/file; mkdir /d; echo x >/d/x; rm -rf /home /var")
    btrfs.docker("commit", "one", "first")
    btrfs.docker("run", "--name", "two", "first", "sh", "-c", "cat /file; rm -r /d; echo more >>/file")
    btrfs.docker("commit", "two", "second")
    assert btrfs.docker("diff", "two").out == "D /d\nC /file\n"
    assert btrfs.docker("run", "--rm", "second", "sh", "-c", "cat /file; ls -d /d /home 2>/dev/null", check=False).out == "hello\nmore\n"
    btrfs.docker("rm", "one", "two")
    btrfs.docker("rmi", "second", "first")


def test_ids_are_mapped(btrfs):
    btrfs.stop()
    btrfs.write_ini({**settings(), "runtime": {"cgroup_parent": btrfs.cgroup_parent, "userns_remap": "100000:65536"}})
    btrfs.start()
    script = "stat -c %u:%g / /bin; id -u; echo x >/file; chown 5:6 /file; cat /proc/self/uid_map"
    done = btrfs.docker("run", "--name", "one", IMAGE, "sh", "-c", script)
    assert done.out.split() == ["0:0", "0:0", "0", "0", "100000", "65536"], done
    st = os.stat(os.path.join(btrfs.root, "storage", "btrfs", "layers", btrfs.inspect("one")["Id"], "tree", "file"))
    assert (st.st_uid, st.st_gid) == (5, 6)
    assert btrfs.docker("diff", "one").out.splitlines() == ["A /file"]
    btrfs.docker("rm", "one")


@pytest.mark.parametrize("quotas", ["full", "simple"])
def test_a_size_is_kept(workdir, quotas):
    """On a disk of its own, as what is turned on stays on."""
    with mounted(workdir, "btrfs", SIZE) as top:
        d = Daemon(top, settings(quotas=quotas))
        try:
            d.start()
            fill = "dd if=/dev/urandom of=/f bs=64k count=400; rc=$?; rm -f /f; exit $rc"
            full = d.docker("run", "--name", "one", "--storage-opt", "size=16m", IMAGE, "sh", "-c", fill, check=False)
            assert full.code == 1 and ("quota exceeded" in full.err.lower()), full
            assert d.inspect("one")["HostConfig"]["StorageOpt"] == {"size": "16m"}
            assert d.docker("run", "--rm", IMAGE, "sh", "-c", fill).code == 0
            d.restart()
            assert d.docker("start", "-a", "one", check=False).code == 1
            for options, words in ((["size=lots"], '"lots" is no size'), (["size=1k"], "too little"), (["inodes=5"], "unknown storage option inodes")):
                refused = d.docker("create", "--storage-opt", *options, IMAGE, check=False)
                assert refused.code != 0 and words in refused.err, refused
            assert len(layers(d)) == len(subvolumes(d)) and len(d.json("GET", "/containers/json?all=1")) == 1
        finally:
            d.destroy()


def test_subvolumes_that_a_container_made_go_with_it(btrfs):
    btrfs.docker("run", "-d", "--name", "one", "--privileged", IMAGE, "sleep", "1000")
    root = f"/proc/{btrfs.inspect('one')['State']['Pid']}/root"
    subprocess.run(["btrfs", "subvolume", "create", root + "/own"], check=True, capture_output=True)
    subprocess.run(["btrfs", "subvolume", "snapshot", "-r", root + "/own", root + "/own/copy"], check=True, capture_output=True)
    assert "A /own/copy" in btrfs.docker("diff", "one").out.splitlines()
    btrfs.docker("rm", "-f", "one")
    assert len(subvolumes(btrfs)) == len(layers(btrfs))


def test_what_a_killed_daemon_left_is_removed(btrfs, tmp_path):
    """Killed again and again in the midst of making, sealing and removing layers: what is there afterwards is whole, and nothing else is."""
    btrfs.docker("run", "--name", "kept", IMAGE, "sh", "-c", "echo kept >/kept")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nARG N\nRUN echo $N >/a && dd if=/dev/zero of=/b bs=64k count=50\nRUN rm /b; echo $N >/c\n")
    for number in range(6):
        work = f"gantry build -t built --build-arg N={number} {context}; docker run --rm {IMAGE} true; docker rmi built"
        busy = btrfs.popen("sh", "-c", f"while {work}; do :; done")
        try:
            time.sleep(0.3 + 0.35 * number)
            btrfs.kill9()
        finally:
            busy.kill()
            busy.communicate()
        btrfs.start()
        assert os.listdir(os.path.join(btrfs.root, "storage", "btrfs", "trash")) == []
        assert len(subvolumes(btrfs)) == len(layers(btrfs))
        for layer in layers(btrfs):
            assert set(os.listdir(os.path.join(btrfs.root, "storage", "btrfs", "layers", layer))) >= {"about", "tree"}
        btrfs.docker("cp", "kept:/kept", str(tmp_path / "kept"))
        assert (tmp_path / "kept").read_text() == "kept\n"
        assert btrfs.docker("run", "--rm", IMAGE, "echo", "alive").out == "alive\n"


def test_another_file_system_is_refused_at_the_start(workdir):
    d = Daemon(workdir, settings())
    try:
        d.start(wait=False)
        assert d.process.wait(30) != 0
        assert re.search(r"is not on btrfs, which the storage driver btrfs needs; put \[daemon\] root on a btrfs file system", d.log())
        d.process = None
    finally:
        d.destroy()


def test_the_driver_keeps_every_rule(disk):
    done = subprocess.run([os.path.join(BUILD, "libexec", "gantry-plugin-check"), os.path.join(BUILD, "plugins", "storage-btrfs.so")], capture_output=True, text=True,
                          env={**os.environ, "TMPDIR": disk}, timeout=300)
    assert done.returncode == 0 and "not ok" not in done.stdout, done.stdout + done.stderr
    assert "ok 46" in done.stdout
