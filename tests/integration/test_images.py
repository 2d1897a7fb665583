"""Images in and out: load, save, import, export, commit, tag, rmi, history; and the files of containers: cp and diff."""

import hashlib
import io
import json
import os
import subprocess
import tarfile

import pytest

from building import serve_files
from fake_registry import Image, index_of
from harness import IMAGE


def tar_of(files):
    """A tar in memory: {name: bytes | TarInfo}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def test_the_embedded_image_is_there_from_the_start(daemon):
    (image,) = daemon.json("GET", "/images/json")
    assert image["RepoTags"] == ["gantry/busybox:latest"]
    inspected = daemon.json("GET", f"/images/{IMAGE}/json")
    assert inspected["Os"] == "linux" and inspected["Config"]["Cmd"] == ["sh"]
    assert inspected["Id"] == image["Id"]
    assert len(daemon.docker("history", "-q", IMAGE).out.split()) >= 1


def test_save_and_load_keep_the_image_to_the_byte(images, tmp_path):
    archive = str(tmp_path / "image.tar")
    cid = images.docker("create", IMAGE, "true").out.strip()
    images.docker("cp", "/etc/hostname", f"{cid}:/marker")
    images.docker("commit", "-c", "ENV MARK=1", "-c", 'CMD ["cat","/marker"]', cid, "test/marked:v1")
    images.docker("rm", cid)
    image_id = images.json("GET", "/images/test/marked:v1/json")["Id"]
    images.docker("save", "-o", archive, "test/marked:v1")
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        assert "manifest.json" in names and "index.json" in names and "oci-layout" in names
        manifest = json.load(tar.extractfile("manifest.json"))
        config = tar.extractfile(manifest[0]["Config"]).read()
        assert "sha256:" + hashlib.sha256(config).hexdigest() == image_id
        for layer, diff_id in zip(manifest[0]["Layers"], json.loads(config)["rootfs"]["diff_ids"]):
            assert "sha256:" + hashlib.sha256(tar.extractfile(layer).read()).hexdigest() == diff_id
    images.docker("rmi", "test/marked:v1")
    assert images.api("GET", "/images/test/marked:v1/json").status == 404
    assert "test/marked:v1" in images.docker("load", "-i", archive).out
    assert images.json("GET", "/images/test/marked:v1/json")["Id"] == image_id
    with open("/etc/hostname") as f:
        assert images.docker("run", "--rm", "test/marked:v1").out == f.read()


def test_platforms_of_an_archive(images, tmp_path):
    """An OCI layout of an image for three platforms; and what asks for a platform that an image has not."""
    archive = str(tmp_path / "layout.tar")
    made = {architecture: Image([{"bin/which": architecture.encode()}], architecture=architecture, variant=variant)
            for architecture, variant in (("amd64", None), ("arm64", "v8"), ("arm", "v7"))}
    index = index_of([(image, {"os": "linux", "architecture": architecture, **({"variant": image.config["variant"]} if "variant" in image.config else {})})
                      for architecture, image in made.items()])
    digest = "sha256:" + hashlib.sha256(index).hexdigest()
    top = {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": len(index),
                                              "annotations": {"io.containerd.image.name": "docker.io/test/many:1"}}]}
    with tarfile.open(archive, "w") as tar:
        files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": json.dumps(top).encode(), "blobs/sha256/" + digest[7:]: index}
        for image in made.values():
            files.update({"blobs/sha256/" + name[7:]: data for name, data in {**image.blobs, image.digest: image.bytes}.items()})
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    def load(*options, tool=images.docker, check=True):
        return tool("load", "-i", archive, *options, check=check)
    for options, architecture in (((), "amd64"), (("--platform", "linux/arm64"), "arm64"), (("--platform", "linux/arm/v7"), "arm")):
        for tool in (images.docker, images.gantry):
            load(*options, tool=tool)
            assert images.json("GET", "/images/test/many:1/json")["Architecture"] == architecture
            images.docker("rmi", "test/many:1")
    refused = load("--platform", "linux/s390x", check=False)
    assert "has no image for linux/s390x" in refused.err + refused.out
    load("--platform", "linux/arm64")
    for tool in (images.docker, images.gantry):
        out = str(tmp_path / "saved.tar")
        assert tool("save", "--platform", "linux/arm64", "-o", out, "test/many:1").code == 0
        for args in (("save", "--platform", "linux/amd64", "-o", out + "2", "test/many:1"), ("history", "--platform", "linux/amd64", "test/many:1"),
                     ("load", "--platform", "linux/amd64", "-i", out)):
            refused = tool(*args, check=False)
            assert refused.code != 0 and "wanted linux/amd64, found linux/arm64" in refused.err + refused.out or "has no image for linux/amd64" in refused.err, refused
        assert tool("history", "--platform", "linux/arm64", "-q", "test/many:1").code == 0
    bad = images.gantry("save", "--platform", "amiga", "-o", out, "test/many:1", check=False)
    assert "a platform is OS/ARCHITECTURE" in bad.err
    assert images.api("GET", "/images/test/many:1/json?platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D").status == 200
    assert images.api("GET", "/images/test/many:1/json?platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22amd64%22%7D").status == 404
    assert images.api("GET", "/images/test/many:1/json?platform=%7Bx").status == 400
    images.docker("rmi", "test/many:1")


@pytest.mark.parametrize("packer", ["gzip", "zstd", "xz"])
def test_load_takes_compressed_archives(images, tmp_path, packer):
    archive = str(tmp_path / "image.tar")
    images.docker("tag", IMAGE, "test/packed:1")
    images.docker("save", "-o", archive, "test/packed:1")
    images.docker("rmi", "test/packed:1")
    with open(archive, "rb") as plain:
        packed = subprocess.run([packer, "-c"], stdin=plain, capture_output=True, check=True).stdout
    assert "test/packed:1" in images.docker("load", stdin=packed).out
    assert images.docker("run", "--rm", "test/packed:1", "echo", "ok").out == "ok\n"
    images.docker("rmi", "test/packed:1")


def test_a_damaged_archive_leaves_nothing(images, tmp_path):
    archive = str(tmp_path / "image.tar")
    cid = images.docker("create", IMAGE, "true").out.strip()
    images.docker("cp", "/etc/hostname", f"{cid}:/marker")
    images.docker("commit", cid, "test/broken:1")
    images.docker("rm", cid)
    images.docker("save", "-o", archive, "test/broken:1")
    images.docker("rmi", "test/broken:1")
    before = images.json("GET", "/system/df")["LayersSize"]
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        victim = tar.getmember(manifest[0]["Layers"][-1])
    with open(archive, "r+b") as f:
        f.seek(victim.offset_data + 700)
        f.write(b"\xff" * 8)
    result = images.docker("load", "-i", archive, check=False)
    assert result.code == 1, result
    assert images.api("GET", "/images/test/broken:1/json").status == 404
    assert images.json("GET", "/system/df")["LayersSize"] == before
    for junk in (b"", b"not a tar at all" * 100, open(archive, "rb").read()[:100000]):
        assert images.docker("load", stdin=junk, check=False).code == 1


@pytest.mark.parametrize("name, entry", [
    ("dotdot", "../../../../../../tmp/gantry-escaped"),
    ("absolute", "/tmp/gantry-escaped"),
])
def test_an_imported_tar_cannot_write_outside(images, name, entry):
    data = tar_of({entry: b"evil", "ok": b"fine"})
    result = images.docker("import", "-", f"test/{name}:1", stdin=data, check=False)
    assert not os.path.exists("/tmp/gantry-escaped")
    assert result.code in (0, 1)


def test_a_symlink_in_a_tar_does_not_lead_outside(images):
    link = tarfile.TarInfo("way")
    link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
    images.docker("import", "-", "test/symlink:1", stdin=tar_of({"way": link, "way/gantry-escaped": b"evil"}), check=False)
    assert not os.path.exists("/tmp/gantry-escaped")


def test_import_and_export(images, tmp_path):
    cid = images.docker("create", IMAGE, "true").out.strip()
    tarball = str(tmp_path / "root.tar")
    images.docker("export", "-o", tarball, cid)
    images.docker("rm", cid)
    with tarfile.open(tarball) as tar:
        assert "bin/busybox" in tar.getnames()
    iid = images.docker("import", "-c", 'CMD ["echo","imported"]', "-c", "ENV A=b", "-m", "why", tarball, "test/imported:1").out.strip()
    assert iid.startswith("sha256:")
    assert images.docker("run", "--rm", "test/imported:1").out == "imported\n"
    image = images.json("GET", "/images/test/imported:1/json")
    assert "A=b" in image["Config"]["Env"] and image["Comment"] == "why" and len(image["RootFS"]["Layers"]) == 1
    assert images.docker("import", "-c", "NONSENSE x", tarball, check=False).code == 1


@pytest.mark.parametrize("client", ["docker", "gantry"])
def test_import_from_a_url(images, tmp_path, client):
    call = getattr(images, client)
    (tmp_path / "root.tar").write_bytes(tar_of({"etc/from": b"afar"}))
    with serve_files(images, tmp_path):
        shown = call("import", "http://127.0.0.1:8123/root.tar", "test/far:1").out.split()
        assert shown[-1] == images.json("GET", "/images/test/far:1/json")["Id"]
        image = images.json("GET", "/images/test/far:1/json")
        assert image["Comment"] == "Imported from http://127.0.0.1:8123/root.tar" and len(image["RootFS"]["Layers"]) == 1
        refused = call("import", "http://127.0.0.1:8123/none.tar", "test/none:1", check=False)
        assert refused.code == 1 and "fetch http://127.0.0.1:8123/none.tar: the server answered with status 404" in refused.err
    for source, words in (("http://127.0.0.1:8123/root.tar", "fetch http://127.0.0.1:8123/root.tar: "), ("ftp://127.0.0.1/x", "only http and https URLs are fetched")):
        answer = images.api("POST", f"/images/create?fromSrc={source}&repo=test/none")
        assert words in answer.body.decode()
    assert images.api("GET", "/images/test/none:1/json").status == 404
    assert os.listdir(os.path.join(images.root, "builds", "work")) == []
    images.docker("rmi", "test/far:1")


def test_commit_keeps_changes_and_deletions(images):
    images.docker("run", "--name", "c1", "-e", "KEEP=me", IMAGE, "sh", "-c", "echo new > /new; rm /etc/group; mkdir -p /d/e; chown 12:34 /d/e; chmod 4750 /d/e")
    images.docker("commit", "-a", "An Author", "-m", "a message", "c1", "test/commit:1")
    out = images.docker("run", "--rm", "test/commit:1", "sh", "-c", "cat /new; ls /etc/group 2>&1; stat -c '%u %g %a' /d/e; echo $KEEP").out
    assert out.splitlines()[0] == "new" and "No such file" in out and "12 34 4750" in out and out.splitlines()[-1] == "me"
    image = images.json("GET", "/images/test/commit:1/json")
    assert image["Author"] == "An Author" and len(image["RootFS"]["Layers"]) == 2
    history = images.json("GET", "/images/test/commit:1/history")
    assert history[0]["Comment"] == "a message" and "test/commit:1" in history[0]["Tags"]
    deleted = images.json("DELETE", "/images/test/commit:1?force=1")
    assert {"Untagged": "test/commit:1"} in deleted and any("Deleted" in d for d in deleted)


def test_tags_and_removal(images):
    images.docker("tag", IMAGE, "a/b:1")
    images.docker("tag", IMAGE, "localhost:5000/x")
    tags = images.json("GET", f"/images/{IMAGE}/json")["RepoTags"]
    assert {"a/b:1", "localhost:5000/x:latest", "gantry/busybox:latest"} <= set(tags)
    assert images.docker("rmi", "a/b:1").out.strip() == "Untagged: a/b:1"
    assert images.docker("tag", IMAGE, "Bad/Name", check=False).code == 1
    images.docker("rmi", "localhost:5000/x")
    assert images.docker("rmi", "a/b:1", check=False).code == 1
    images.docker("create", "--name", "user", IMAGE)
    refused = images.docker("rmi", IMAGE, check=False)
    assert refused.code == 1 and "conflict" in refused.err
    images.docker("rm", "user")


def test_image_list_filters(images):
    images.docker("tag", IMAGE, "alpha/one:1")
    images.docker("tag", IMAGE, "alpha/two:2")
    out = images.docker("images", "--filter", "reference=alpha/*", "--format", "{{.Repository}}:{{.Tag}}").out.split()
    assert sorted(out) == ["alpha/one:1", "alpha/two:2"]
    assert images.docker("images", "--filter", "dangling=true", "-q").out == ""
    assert images.docker("images", "-q", "--no-trunc", "alpha/one").out.strip().startswith("sha256:")
    images.docker("rmi", "alpha/one:1", "alpha/two:2")


# ---- cp and diff ----

def test_cp_in_and_out_of_running_and_stopped(daemon, tmp_path):
    source = tmp_path / "dir"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("one")
    (source / "sub" / "deep").write_text("two")
    os.symlink("file", source / "link")
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sleep", "100")
    for _ in ("running", "stopped"):
        daemon.docker("cp", str(source), "c1:/data")
        daemon.docker("cp", str(source), "c1:/data")
        target = tmp_path / _
        daemon.docker("cp", "c1:/data", str(target))
        assert (target / "sub" / "deep").read_text() == "two"
        assert (target / "dir" / "file").read_text() == "one"
        assert os.readlink(target / "link") == "file"
        single = tmp_path / (_ + "-file")
        daemon.docker("cp", "c1:/data/file", str(single))
        assert single.read_text() == "one"
        data = daemon.command("docker", "cp", "c1:/data/sub", "-").out
        assert "deep" in data
        daemon.docker("exec", "c1", "rm", "-r", "/data", check=False)
        daemon.docker("stop", "-t", "0", "c1")
    assert daemon.docker("cp", "c1:/missing", str(tmp_path), check=False).code == 1
    assert daemon.docker("cp", str(source), "c1:/missing/way/down", check=False).code == 1


def test_cp_does_not_follow_links_out_of_the_container(daemon, tmp_path):
    daemon.docker("run", "-d", "--name", "c1", IMAGE, "sh", "-c", "ln -s /etc /abs; ln -s ../../../../../../../../etc /rel; sleep 100")
    secret = "/etc/gantry-test-secret"
    for path in ("abs", "rel"):
        result = daemon.docker("cp", f"c1:/{path}/debian_version", str(tmp_path / path), check=False)
        assert result.code == 1, result
    (tmp_path / "payload").write_text("x")
    daemon.docker("cp", str(tmp_path / "payload"), f"c1:/abs/{os.path.basename(secret)}")
    assert not os.path.exists(secret)
    assert daemon.docker("exec", "c1", "cat", secret).out == "x"


def test_cp_reaches_volumes_and_respects_read_only(daemon, tmp_path):
    (tmp_path / "f").write_text("x")
    daemon.docker("create", "--name", "c1", "-v", "vol:/v", "-v", "vol:/ro:ro", IMAGE)
    daemon.docker("cp", str(tmp_path / "f"), "c1:/v/f")
    assert daemon.docker("run", "--rm", "-v", "vol:/v", IMAGE, "cat", "/v/f").out == "x"
    refused = daemon.docker("cp", str(tmp_path / "f"), "c1:/ro/g", check=False)
    assert refused.code == 1 and "read-only" in refused.err
    daemon.docker("create", "--name", "r1", "--read-only", IMAGE)
    refused = daemon.docker("cp", str(tmp_path / "f"), "r1:/g", check=False)
    assert refused.code == 1 and "read-only" in refused.err


def test_diff(daemon):
    daemon.docker("run", "--name", "c1", "-v", "/vol", IMAGE, "sh", "-c",
                  "echo > /new; rm /etc/group; echo x >> /etc/passwd; mkdir -p /d/e; echo > /vol/unseen")
    lines = set(daemon.docker("diff", "c1").out.strip().splitlines())
    assert {"A /new", "D /etc/group", "C /etc/passwd", "C /etc", "A /d", "A /d/e"} <= lines
    assert not any("unseen" in line for line in lines)
