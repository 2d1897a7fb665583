"""What images cost and how they go: df that adds up, rmi by every name, prune by filters; and whatever a kill interrupts leaves no orphan."""

import json
import os
import random
import stat
import subprocess
import tarfile
import time

from fake_registry import Image, entry, orphans, tar_of, tree
from harness import DOCKER as DOCKER_CLI, IMAGE
from registries import clean, pull, pulled


def bytes_on_disk(daemon):
    """{layer id: bytes of its files, each inode once}, of image layers."""
    found, top = {}, os.path.join(daemon.root, "storage", "overlay", "layers")
    for layer in os.listdir(top):
        if not os.readlink(os.path.join(top, layer, "about")).startswith("image"):
            continue
        sizes = {}
        for path, _, files in os.walk(os.path.join(top, layer, "diff")):
            for name in files:
                st = os.lstat(os.path.join(path, name))
                if stat.S_ISREG(st.st_mode):
                    sizes[st.st_ino] = st.st_size
        found[layer] = sum(sizes.values())
    return found


def test_df_adds_up(images, fake):
    """Layers that are shared, lean on each other, have links, holes and replaced files: df tells what lies on the disk, each layer once."""
    shared = [tree(0), [("opt/f", b"x" * 5000), entry("l", tarfile.LNKTYPE, linkname="opt/f"), entry("s", tarfile.SYMTYPE, linkname="l")]]
    own = [[entry("copy", tarfile.LNKTYPE, linkname="opt/f"), ("opt/g", b"y" * 100)], [("a", b"first"), entry("h", tarfile.LNKTYPE, linkname="a"), ("a", b"second"), ("b", b"first"), ("b", b"second, longer"),
                               entry("d", tarfile.DIRTYPE), ("d/x", b"goes"), ("d", b"file"), entry(".wh.l")]]
    names = [fake.add(Image(shared + [layer]), f"app{i}") for i, layer in enumerate(own)] + [fake.add(Image(shared), "app2")]
    for name in names:
        pulled(pull(images, name))
    images.docker("run", "--name", "box", names[0], "/busybox", "sh", "-c", "echo changed > /opt/g")
    images.docker("commit", "box", "made/here:1")
    df, disk = images.json("GET", "/system/df"), bytes_on_disk(images)
    assert df["LayersSize"] == sum(disk.values())
    assert df["LayersSize"] == images.json("GET", "/system/df?type=image")["LayersSize"]
    by_name = {tag: image for image in df["Images"] for tag in image["RepoTags"]}
    common = by_name[names[2]]["Size"]
    assert by_name[names[0]]["Size"] == common + 5000 + 100 and by_name[names[1]]["Size"] == common + len("first" "second" "second, longer" "file")
    assert by_name[names[2]]["SharedSize"] == common == by_name[names[1]]["SharedSize"]
    # what is shared is shared by name0 and the image made of it, too
    assert by_name[names[0]]["SharedSize"] == by_name[names[0]]["Size"] == by_name["made/here:1"]["SharedSize"]
    assert by_name[names[0]]["Containers"] == 1 and by_name[names[1]]["Containers"] == 0
    unique = {image["Id"]: image["Size"] - image["SharedSize"] for image in df["Images"]}
    assert sum(unique.values()) + by_name[names[0]]["Size"] + sum(
        image["SharedSize"] for image in df["Images"] if IMAGE + ":latest" in image["RepoTags"]) == df["LayersSize"]
    images.docker("rm", "box")
    # removing gives back what it says
    for name in ["made/here:1", *names]:
        images.docker("rmi", name)
        assert images.json("GET", "/system/df")["LayersSize"] == sum(bytes_on_disk(images).values())


def test_rmi_by_every_name(images, registry):
    name = f"{registry.host}/box"
    images.docker("tag", IMAGE, name + ":1")
    images.docker("push", name + ":1")
    made = images.docker("run", "--name", "box", IMAGE, "sh", "-c", "echo > /x").out
    assert made == ""
    images.docker("commit", "box", "made/one:1")
    images.docker("rm", "box")
    whole = images.json("GET", "/images/made/one:1/json")["Id"]
    (digest,) = [d for d in images.json("GET", f"/images/{name}:1/json")["RepoDigests"] if d.startswith(name)]
    # a tag goes alone, its digest with the last tag of the repository
    out = images.docker("rmi", name + ":1").out
    assert out.splitlines() == [f"Untagged: {name}:1", f"Untagged: {digest}"]
    # in use, by name and by id
    images.docker("create", "--name", "user", whole)
    for way in ("made/one:1", whole[7:19]):
        refused = images.docker("rmi", way, check=False)
        assert refused.code == 1 and "conflict" in refused.err and "must" in refused.err
    images.docker("rm", "user")
    # several names: by id only by force
    images.docker("tag", whole, "made/two:1")
    refused = images.docker("rmi", whole[7:], check=False)
    assert refused.code == 1 and "multiple repositories" in refused.err
    out = images.docker("rmi", "-f", whole[7:17]).out
    assert "Untagged: made/one:1" in out and "Untagged: made/two:1" in out and f"Deleted: {whole}" in out
    assert images.docker("rmi", whole, check=False).code == 1
    # by digest
    images.docker("pull", digest)
    assert f"Untagged: {digest}" in images.docker("rmi", digest).out
    assert "No such image" in images.docker("rmi", "made/one:1", check=False).err


def make(daemon, name, created, labels, number):
    """An image of its own, of a given age; name None: dangling."""
    image = Image([[(f"f{number}", b"%d" % number)]])
    image.config.update(created=created)
    image.config["config"]["Labels"] = labels
    image.blobs.clear()
    layer = tar_of([(f"f{number}", b"%d" % number)])
    archive = tar_of([("c.json", json.dumps(image.config).encode()), ("l.tar", layer),
                      ("manifest.json", json.dumps([{"Config": "c.json", "RepoTags": [name] if name else None, "Layers": ["l.tar"]}]).encode())])
    daemon.docker("load", stdin=archive)


def left(daemon):
    return {(image["RepoTags"] or ["<none>"])[0] for image in daemon.json("GET", "/images/json?all=1")} - {IMAGE + ":latest"}


def test_prune_by_filters(images):
    def fill():
        make(images, "old/red:1", "2020-01-01T00:00:00Z", {"color": "red"}, 1)
        make(images, "new/red:1", "2034-01-01T00:00:00Z", {"color": "red"}, 2)
        make(images, "old/blue:1", "2020-01-01T00:00:00Z", {"color": "blue", "keep": ""}, 3)
        make(images, None, "2020-01-01T00:00:00Z", {"color": "red"}, 4)
        make(images, None, "2034-01-01T00:00:00Z", {}, 5)
    everything = {"old/red:1", "new/red:1", "old/blue:1", "<none>"}
    for options, expected in (
            ([], everything - {"<none>"}), (["-a"], set()), (["--filter", "until=2021-01-01T00:00:00"], everything),
            (["-a", "--filter", "until=24h"], {"new/red:1", "<none>"}), (["-a", "--filter", "label=color=red"], {"old/blue:1", "<none>"}),
            (["-a", "--filter", "label=color"], {"<none>"}), (["-a", "--filter", "label!=keep"], {"old/blue:1"}),
            (["-a", "--filter", "label=color=red", "--filter", "until=24h"], {"new/red:1", "old/blue:1", "<none>"})):
        clean(images)
        fill()
        images.docker("create", "--name", "user", "--entrypoint", "/x", IMAGE)
        before = sum(bytes_on_disk(images).values())
        answer = images.docker("image", "prune", "-f", *options).out
        assert left(images) == expected, options
        freed = before - sum(bytes_on_disk(images).values())
        assert f"Total reclaimed space: {freed}B" in answer
        images.docker("rm", "user")
    for bad in ("nonsense=1", "until=soon"):
        assert images.docker("image", "prune", "-f", "--filter", bad, check=False).code == 1


def test_what_a_kill_interrupts_leaves_no_orphan(fresh_daemon, tmp_path):
    """kill -9 at random moments of load, import, commit and rmi: at the next start everything is there, or nothing of it."""
    d = fresh_daemon
    d.write_ini({"storage": {"fsync": "no"}, "plugin.storage-overlay": {"sync": "no"}})
    d.start()
    d.docker("run", "--name", "box", IMAGE, "sh", "-c", "i=0; while [ $i -lt 800 ]; do echo $i > /f$i; i=$((i+1)); done; rm /etc/group")
    d.docker("commit", "box", "sample/one:1")
    d.docker("commit", "-c", "ENV A=b", "box", "sample/two:1")
    d.docker("save", "-o", str(tmp_path / "images.tar"), "sample/one:1", "sample/two:1")
    d.docker("export", "-o", str(tmp_path / "root.tar"), "box")
    d.docker("rmi", "sample/one:1", "sample/two:1")
    before, source = orphans(d), random.Random(11)
    whole = {}
    works = {"load": ["load", "-i", str(tmp_path / "images.tar")], "import": ["import", str(tmp_path / "root.tar"), "sample/one:1"],
             "commit": ["commit", "box", "sample/one:1"], "rmi": ["rmi", "sample/one:1", "sample/two:1"]}
    for turn in range(24):
        work = list(works)[turn % len(works)]
        if work == "rmi":
            d.docker("load", "-i", str(tmp_path / "images.tar"))
        client = d.popen(DOCKER_CLI, *works[work], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(source.uniform(0.0, 0.25))
        d.kill9()
        client.kill()
        client.wait()
        d.start()
        names = {tag for image in d.json("GET", "/images/json?all=1") for tag in image["RepoTags"]} - {IMAGE + ":latest"}
        for name in names:
            d.docker("run", "--rm", name, "sh", "-c", "test -e /f799 && test ! -e /etc/group")
            d.docker("save", "-o", str(tmp_path / "again.tar"), name)
        whole[work] = whole.get(work, 0) + bool(names)
        dangling = d.json("GET", '/images/json?all=1&filters={"dangling":["true"]}')
        for image in dangling:      # complete, and not named yet
            d.docker("rmi", image["Id"])
        for name in names:
            d.docker("rmi", name)
        assert orphans(d) == before, (turn, work, set(orphans(d)) ^ set(before))
        assert d.json("GET", "/system/df")["LayersSize"] == sum(bytes_on_disk(d).values())
