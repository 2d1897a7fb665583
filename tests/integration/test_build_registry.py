"""Builds that pull: from Debian's docker-registry and from one that a test scripts; and builds that are cut off, which leave nothing."""

import json
import os
import subprocess
import threading
import time

import pytest

from building import build, config, idle, sh, write
from fake_registry import Image, index_of, orphans
from harness import IMAGE, SLOW, sanitized, wait_until
from registries import Registry, clean


@pytest.fixture
def puller(images):
    """The module's daemon without images and without cache, before and after."""
    images.env["DOCKER_BUILDKIT"] = "0"
    images.json("POST", "/build/prune?all=1")
    yield images
    clean(images)
    images.json("POST", "/build/prune?all=1")


def push(daemon, directory, name, text):
    """Builds an image, pushes it, and forgets it."""
    build(daemon, directory, text, tag=name)
    daemon.docker("push", name)
    (digest,) = daemon.json("GET", f"/images/{name}/json")["RepoDigests"]
    daemon.docker("rmi", name)
    daemon.json("POST", "/build/prune?all=1")
    return digest


def test_base_images_come_from_the_registry(puller, registry, tmp_path):
    base, other = f"{registry.host}/base:1", f"{registry.host}/other:1"
    first = push(puller, tmp_path, base, f"FROM {IMAGE}\nRUN echo first > /which\nENV WHICH=first\n")
    push(puller, tmp_path, other, "FROM scratch\nCOPY Dockerfile /thing\n")
    text = f"FROM {base} AS b\nFROM b\nCOPY --from={other} /thing /t\nRUN --mount=from={other},target=/m cp /m/thing /t2\n"
    out = build(puller, tmp_path, text).out
    assert "Pull complete" in out and f"Digest: {first.split('@')[1]}" in out and f"Downloaded newer image for {base}" in out
    assert sh(puller, "cat /which; cmp /t /t2 && echo same").split() == ["first", "same"] and "WHICH=first" in config(puller)["Env"]
    assert build(puller, tmp_path, text).out.count("Using cache") == 2

    build(puller, tmp_path, f"FROM {IMAGE}\nRUN echo second > /which\n", tag="test/second:1")
    puller.docker("tag", "test/second:1", f"{registry.host}/base:new")
    puller.docker("push", f"{registry.host}/base:new")
    puller.command("skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", f"docker://{registry.host}/base:new", "docker://" + base)
    build(puller, tmp_path, f"FROM {base}\n")
    assert sh(puller, "cat /which") == "first\n"
    build(puller, tmp_path, f"FROM {base}\n", "--pull")
    assert sh(puller, "cat /which") == "second\n"
    build(puller, tmp_path, f"FROM {first}\n")
    assert sh(puller, "cat /which") == "first\n"
    for name, words in ((f"{registry.host}/base:none", "base:none"), (f"{registry.host}/base@sha256:{'0' * 64}", "0000")):
        refused = build(puller, tmp_path, f"FROM {name}\n", check=False)
        assert refused.code == 1 and words in refused.err, refused


def test_cache_from_an_image_in_the_registry_and_push(puller, registry, tmp_path):
    name = f"{registry.host}/app:1"
    text = f"FROM {IMAGE}\nRUN date +%N > /when\nCOPY Dockerfile /d\n"
    (tmp_path / "Dockerfile").write_text(text)
    puller.gantry("build", "-t", name, "--push", str(tmp_path))
    when = sh(puller, "cat /when", name)
    puller.docker("rmi", name)
    puller.json("POST", "/build/prune?all=1")
    puller.docker("pull", name)
    out = puller.gantry("build", "-t", "test/again:1", "--cache-from", name, str(tmp_path)).out
    assert out.count("Using cache") == 2 and sh(puller, "cat /when", "test/again:1") == when
    puller.gantry("build", "-o", f"type=registry,name={registry.host}/app:2", str(tmp_path))
    inspected = json.loads(puller.command("skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/app:2").out)
    assert len(inspected["Layers"]) == len(puller.json("GET", f"/images/{name}/json")["RootFS"]["Layers"])


def test_credentials_reach_the_registry(puller, tmp_path):
    path = tmp_path / "registry"
    path.mkdir()
    lines = subprocess.run(["htpasswd", "-Bbn", "user", "pass"], check=True, capture_output=True).stdout
    (path / "htpasswd").write_bytes(lines)
    registry = Registry(puller, path, auth={"htpasswd": {"realm": "r", "path": str(path / "htpasswd")}})
    try:
        puller.docker("login", "-u", "user", "-p", "pass", registry.host)
        (tmp_path / "c").mkdir()
        push(puller, tmp_path / "c", f"{registry.host}/private:1", f"FROM {IMAGE}\nRUN echo private > /p\n")
        build(puller, tmp_path / "c", f"FROM {registry.host}/private:1\n")
        assert sh(puller, "cat /p") == "private\n"
        puller.docker("rmi", "test/build:1", f"{registry.host}/private:1")
        puller.gantry("build", "-t", "test/build:1", str(tmp_path / "c"))
        puller.docker("rmi", "test/build:1", f"{registry.host}/private:1")
        puller.docker("logout", registry.host)
        assert build(puller, tmp_path / "c", f"FROM {registry.host}/private:1\n", check=False).code == 1
    finally:
        registry.stop()


def test_platforms(puller, fake, tmp_path):
    kinds = {arch: Image([{"etc/arch": arch.encode()}], architecture=arch) for arch in ("amd64", "arm64")}
    for image in kinds.values():
        fake.add(image, "many", image.config["architecture"])
    fake.put("many", "application/vnd.oci.image.index.v1+json",
             index_of([(image, {"os": "linux", "architecture": arch}) for arch, image in kinds.items()]), "1")
    name = f"{fake.host}/many:1"
    for arch in ("amd64", "arm64"):
        build(puller, tmp_path, f"FROM --platform=linux/{arch} {name}\nENV A=1\nCOPY Dockerfile /d\n", tag=f"test/{arch}:1")
        made = puller.json("GET", f"/images/test/{arch}:1/json")
        assert made["Architecture"] == arch
    build(puller, tmp_path, f"FROM {name}\nCOPY Dockerfile /d\n", "--platform", "linux/arm64", tag="test/flag:1")
    assert puller.json("GET", "/images/test/flag:1/json")["Architecture"] == "arm64"
    build(puller, tmp_path, f"FROM {IMAGE}\nCOPY --from={name} /etc/arch /a\n")
    refused = build(puller, tmp_path, f"FROM --platform=linux/s390x {name}\n", check=False)
    assert refused.code == 1 and "no matching manifest for linux/s390x" in refused.err


# ---- interrupted ----


def settled(daemon):
    """Nothing of a build is left, once its cache is pruned."""
    wait_until(lambda: idle(daemon) and not os.listdir(os.path.join(daemon.root, "builds", "trash")), 30, "the end of the build")
    daemon.json("POST", "/build/prune?all=1")


def test_a_client_that_goes_during_a_pull_leaves_nothing(puller, fake, tmp_path):
    before = set(orphans(puller))
    name = fake.add(Image([{"big": os.urandom(1 << 20)}]))
    stalled, go = threading.Event(), threading.Event()

    def hook(request):
        if "/blobs/" not in request.path or request.command != "GET":
            return False
        data = fake.blobs[request.path.rsplit("/", 1)[1]]
        if len(data) < 1 << 19:
            return False
        request.blob(data, upto=1 << 18)
        stalled.set()
        go.wait(30)
        request.drop()
        return True
    fake.hooks.append(hook)
    write(tmp_path, {"Dockerfile": f"FROM {name}\nCOPY Dockerfile /d\n"})
    client = puller.popen("docker", "build", str(tmp_path))
    assert stalled.wait(30)
    client.kill()
    client.wait()
    try:
        settled(puller)
    finally:
        go.set()
    assert puller.api("GET", f"/images/{name}/json").status == 404
    assert set(orphans(puller)) <= before


ROUNDS = 4 if sanitized() else 10


def test_a_daemon_killed_at_any_moment_of_a_build_leaves_nothing(puller, registry, tmp_path):
    """The daemon is killed somewhere between the upload and the last step; the next one has no file too many, and builds the same to the end."""
    base = f"{registry.host}/base:1"
    write(tmp_path, {f"ctx/{i}": os.urandom(100000) for i in range(40)})
    push(puller, tmp_path / "ctx", base, f"FROM {IMAGE}\nRUN dd if=/dev/urandom of=/r bs=1M count=3\n")
    text = f"FROM {base}\nCOPY . /c\nRUN cp -r /c /d\nRUN --mount=type=cache,target=/k touch /k/x; rm -r /d\nWORKDIR /made/here\nENV A=1\n"
    (tmp_path / "ctx/Dockerfile").write_text(text)
    clean(puller)
    puller.json("POST", "/build/prune?all=1")
    before = set(orphans(puller))
    began = time.monotonic()
    build(puller, tmp_path / "ctx", text)
    whole = time.monotonic() - began
    for i in range(ROUNDS):
        clean(puller)
        puller.json("POST", "/build/prune?all=1")
        client = puller.popen("docker", "build", "-t", "test/build:1", str(tmp_path / "ctx"))
        time.sleep(whole * (i + 0.5) / ROUNDS)
        puller.restart(crash=True)
        client.communicate(timeout=60 * SLOW)
        settled(puller)
        clean(puller)
        puller.json("POST", "/build/prune?all=1")
        left = set(orphans(puller)) - before
        assert not left, left
    build(puller, tmp_path / "ctx", text)
    assert sh(puller, "ls /c | wc -l; ls -d /d /made/here 2>/dev/null; true").split() == ["41", "/made/here"]
