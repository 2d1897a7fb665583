"""Independent readers and writers: skopeo and umoci take what we push and save, and we take what skopeo writes."""

import json
import os
import re
import subprocess
import tarfile

import pytest

from fake_registry import DOCKER, OCI, Image, index_of, sha256, tree
from files import listing, of_export
from harness import IMAGE
from registries import clean

PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


def inspect(daemon, name, *options):
    """What skopeo says of a reference in a registry; --raw gives the manifest's bytes."""
    done = subprocess.run(daemon.in_netns("skopeo", "inspect", "--tls-verify=false", *options, "docker://" + name), capture_output=True,
                          env=daemon.env, check=True)
    assert not done.stderr, done.stderr
    return done.stdout if "--raw" in options else json.loads(done.stdout)


def copy(daemon, source, target, *options):
    """skopeo copy, which must have nothing to complain about."""
    plain = tuple(o for o, where in zip(PLAIN, (source, target)) if where.startswith("docker://"))
    result = daemon.command("skopeo", "copy", *plain, *options, source, target)
    assert not result.err, result.err


def push(daemon, name):
    """Pushes; returns the digest we tell."""
    out = daemon.docker("push", name).out
    return re.search(r"digest: (sha256:[0-9a-f]{64}) size: \d+", out)[1]


def layout_tar(directory, path):
    """An OCI layout's directory as a tar."""
    with tarfile.open(path, "w") as tar:
        for name in sorted(os.listdir(directory)):
            tar.add(os.path.join(directory, name), name)
    return str(path)


# ---- what we push ----

def built(daemon, registry, fake, tmp_path):
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "file").write_text("content\n")
    (tmp_path / "context" / "Dockerfile").write_text(
        f"FROM {IMAGE}\nENV A=b\nCOPY file /dir/file\nRUN echo more >/more && rm /dir/file\nWORKDIR /w\nLABEL x=y\nCMD [\"true\"]\n")
    daemon.docker("build", "-t", f"{registry.host}/some/built:1", str(tmp_path / "context"), timeout=300)


def committed(daemon, registry, fake, tmp_path):
    daemon.docker("run", "--name", "source", IMAGE, "sh", "-c", "mkdir -m 1777 /d; echo x >/d/x; ln /d/x /d/y; ln -s x /d/z; rm /etc/group")
    daemon.docker("commit", "-c", "ENV K=v", "source", f"{registry.host}/some/committed:1")
    daemon.docker("rm", "source")


def loaded(daemon, registry, fake, tmp_path):
    archive = str(tmp_path / "in.tar")
    daemon.docker("save", "-o", str(tmp_path / "first.tar"), IMAGE)
    copy(daemon, f"docker-archive:{tmp_path}/first.tar", f"docker-archive:{archive}:{registry.host}/some/loaded:1")
    daemon.docker("load", "-i", archive)


def imported(daemon, registry, fake, tmp_path):
    daemon.docker("create", "--name", "source", IMAGE, "true")
    daemon.docker("export", "-o", str(tmp_path / "root.tar"), "source")
    daemon.docker("rm", "source")
    daemon.docker("import", "-c", 'CMD ["true"]', str(tmp_path / "root.tar"), f"{registry.host}/some/imported:1")


def pulled_of(kind, pack=None, layer_type=None):
    def make(daemon, registry, fake, tmp_path):
        name = fake.add(Image([tree(i) for i in range(4)], kind=kind, pack=pack, layer_type=layer_type))
        daemon.docker("pull", name)
        daemon.docker("tag", name, f"{registry.host}/some/pulled:1")
    return make


def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


def many_layers(daemon, registry, fake, tmp_path):
    name = fake.add(Image([{f"f{i}": b"%d" % i} if i else tree(0) for i in range(60)]))
    daemon.docker("pull", name)
    daemon.docker("tag", name, f"{registry.host}/some/many:1")


KINDS = {
    "built": built, "committed": committed, "loaded": loaded, "imported": imported, "many": many_layers,
    "pulled-oci": pulled_of("oci"), "pulled-schema2": pulled_of("docker"),
    "pulled-zstd": pulled_of("oci", zstd, OCI + "layer.v1.tar+zstd"), "pulled-plain": pulled_of("oci", lambda data: data, OCI + "layer.v1.tar"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_skopeo_takes_whatever_we_push(images, registry, fake, tmp_path, kind):
    KINDS[kind](images, registry, fake, tmp_path)
    name = next(tag for image in images.json("GET", "/images/json") for tag in image["RepoTags"] if tag.startswith(registry.host))
    digest, image_id = push(images, name), images.json("GET", f"/images/{name}/json")["Id"]

    raw, seen = inspect(images, name, "--raw"), inspect(images, name)
    manifest = json.loads(raw)
    assert sha256(raw) == digest == seen["Digest"]
    assert manifest["config"]["digest"] == image_id
    assert seen["Layers"] == [layer["digest"] for layer in manifest["layers"]]
    assert seen["Architecture"] == "amd64" and seen["Os"] == "linux"
    inspect(images, name, "--config")

    # out as it is, and in again: nothing changes on the way
    target = name.replace("/some/", "/back/")
    copy(images, "docker://" + name, f"dir:{tmp_path}/dir", "--preserve-digests")
    copy(images, f"dir:{tmp_path}/dir", "docker://" + target, "--preserve-digests")
    assert inspect(images, target)["Digest"] == digest
    copy(images, "docker://" + name, f"oci:{tmp_path}/layout:1", *(["--preserve-digests"] if manifest["mediaType"].startswith(OCI) else []))
    copy(images, f"oci:{tmp_path}/layout:1", "docker://" + target)
    again = json.loads(inspect(images, target, "--raw"))
    assert [d["digest"] for d in again["layers"]] == [d["digest"] for d in manifest["layers"]]
    if manifest["mediaType"].startswith(OCI):
        assert inspect(images, target)["Digest"] == digest
    else:   # skopeo writes a config of its own where it turns Docker's format into OCI's
        image_id = again["config"]["digest"]
        assert rootfs(images, target) == rootfs(images, name)

    # umoci unpacks what a container of ours sees
    images.command("umoci", "unpack", "--image", f"{tmp_path}/layout:1", str(tmp_path / "bundle"))
    assert listing(tmp_path / "bundle" / "rootfs", directory_times=False) == of_export(images, name, tmp_path / "look", directory_times=False)

    # the same image comes back
    clean(images)
    images.docker("pull", target)
    assert images.json("GET", f"/images/{target}/json")["Id"] == image_id


def rootfs(daemon, name):
    return json.loads(daemon.command("skopeo", "inspect", "--tls-verify=false", "--config", "--raw", "docker://" + name).out)["rootfs"]


# ---- what we save ----

@pytest.fixture
def sample(images, fake):
    """Two images that share layers, under three names."""
    first, second = Image([tree(i) for i in range(3)]), Image([tree(i) for i in (0, 1, 5)])
    names = [fake.add(first, "first"), fake.add(second, "second", "2")]
    for name in names:
        images.docker("pull", name)
    images.docker("tag", names[0], "example.com/other:9")
    return first, second, names


def test_skopeo_reads_what_we_save(images, registry, sample, tmp_path):
    first, second, names = sample
    archive = str(tmp_path / "all.tar")
    images.docker("save", "-o", archive, *names, "example.com/other:9")
    for name, image in ((names[0], first), (names[1], second), ("example.com/other:9", first)):
        target = f"{registry.host}/copied:{name.rpartition(':')[2]}"
        copy(images, f"docker-archive:{archive}:{name}", "docker://" + target)
        assert json.loads(inspect(images, target, "--raw"))["config"]["digest"] == image.id
    listed = json.loads(images.command("skopeo", "inspect", f"docker-archive:{archive}:{names[1]}").out)
    assert len(listed["Layers"]) == 3

    archive = str(tmp_path / "one.tar")
    images.docker("save", "-o", archive, names[1])
    copy(images, f"oci-archive:{archive}:2", f"oci:{tmp_path}/layout:2", "--preserve-digests")
    copy(images, f"oci-archive:{archive}", "docker://" + f"{registry.host}/copied:oci")
    raw = json.loads(inspect(images, f"{registry.host}/copied:oci", "--raw"))
    assert raw["config"]["digest"] == second.id
    images.command("umoci", "unpack", "--image", f"{tmp_path}/layout:2", str(tmp_path / "bundle"))
    assert listing(tmp_path / "bundle" / "rootfs") == of_export(images, names[1], tmp_path / "look")


# ---- what skopeo writes ----

@pytest.mark.parametrize("kind", ["oci", "docker"])
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci", "oci-zstd"])
def test_we_load_what_skopeo_writes(images, fake, tmp_path, kind, form):
    image = Image([tree(i) for i in range(3)], kind=kind)
    source, name = "docker://" + fake.add(image), "example.com/by/skopeo:7"
    path = str(tmp_path / "out.tar")
    if form == "docker-archive":
        copy(images, source, f"docker-archive:{path}:{name}")
    elif form == "oci-archive":
        copy(images, source, f"oci-archive:{path}:{name}")
    else:
        copy(images, source, f"oci:{tmp_path}/layout:{name}", *(["--dest-compress-format", "zstd"] if form == "oci-zstd" else []))
        layout_tar(tmp_path / "layout", path)
    assert f"Loaded image: {name}" in images.docker("load", "-i", path).out
    found = images.json("GET", f"/images/{name}/json")
    assert found["RootFS"]["Layers"] == image.config["rootfs"]["diff_ids"]
    assert found["Id"] == image.id or (kind == "docker" and form != "docker-archive")    # skopeo makes an OCI config of Docker's
    assert images.docker("run", "--rm", name, "/busybox", "cmp", "/f1-0", "/f2-0", check=False).code == 1


def test_several_images_of_skopeo_in_one_archive(images, fake, tmp_path):
    """A layout that grew by several copies, and has layers once."""
    made = [Image([tree(0), tree(i)]) for i in (1, 2, 3)]
    for i, image in enumerate(made):
        copy(images, "docker://" + fake.add(image, f"app{i}"), f"oci:{tmp_path}/layout:example.com/app:{i}")
    out = images.docker("load", "-i", layout_tar(tmp_path / "layout", tmp_path / "all.tar")).out
    for i, image in enumerate(made):
        assert f"Loaded image: example.com/app:{i}" in out
        assert images.json("GET", f"/images/example.com/app:{i}/json")["Id"] == image.id


# ---- several platforms ----

def several(fake, kind="oci"):
    """An index of three platforms; returns its name and the images."""
    found = {arch: Image([tree(i), tree(7)], arch, kind=kind) for i, arch in enumerate(("amd64", "arm64", "s390x"))}
    for image in found.values():
        fake.blobs.update(image.blobs)
        fake.put("multi", image.type, image.bytes)
    index = json.loads(index_of([(image, {"os": "linux", "architecture": arch}) for arch, image in found.items()]))
    if kind == "docker":
        index["mediaType"] = DOCKER + "manifest.list.v2+json"
    data = json.dumps(index).encode()
    fake.put("multi", index["mediaType"], data, "1")
    return fake.host + "/multi:1", found, sha256(data)


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_indexes_of_several_platforms(images, registry, fake, tmp_path, kind):
    name, made, digest = several(fake, kind)
    target = f"{registry.host}/multi:1"
    copy(images, "docker://" + name, "docker://" + target, "--all", "--preserve-digests")
    assert sha256(inspect(images, target, "--raw")) == digest
    images.docker("pull", target)
    assert images.json("GET", f"/images/{target}/json")["Id"] == made["amd64"].id
    assert images.json("GET", f"/images/{target}/json")["RepoDigests"] == [f"{registry.host}/multi@{digest}"]
    # one of them goes out by itself, as it came
    images.docker("pull", "--platform", "linux/arm64", target)
    images.docker("tag", target, f"{registry.host}/single:1")
    assert push(images, f"{registry.host}/single:1") == made["arm64"].digest == inspect(images, f"{registry.host}/single:1")["Digest"]

    # a layout of all of them gives the one for this host
    clean(images)
    copy(images, "docker://" + name, f"oci:{tmp_path}/layout:example.com/multi:1", "--all")
    assert "Loaded image: example.com/multi:1" in images.docker("load", "-i", layout_tar(tmp_path / "layout", tmp_path / "multi.tar")).out
    found = images.json("GET", "/images/example.com/multi:1/json")
    assert found["Architecture"] == "amd64" and found["RootFS"]["Layers"] == made["amd64"].config["rootfs"]["diff_ids"]
