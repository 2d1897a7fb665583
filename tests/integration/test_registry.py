"""Debian's docker-registry and skopeo beside the daemon: images go and come, over TLS, through mirrors and proxies."""

import json
import time

import pytest

from fake_registry import FakeRegistry, Image, sha256, tree
from harness import IMAGE
from registries import ADDRESS, Registry, clean, pull, pulled


def test_push_pull_and_run(images, registry):
    name = f"{registry.host}/team/box:1"
    images.docker("tag", IMAGE, name)
    out = images.docker("push", name).out
    assert "Pushed" in out and "digest: sha256:" in out
    assert "Layer already exists" in images.docker("push", name).out
    digest = json.loads(images.command("skopeo", "inspect", "--tls-verify=false", "docker://" + name).out)["Digest"]
    inspected = images.json("GET", f"/images/{name}/json")
    assert inspected["RepoDigests"] == [f"{registry.host}/team/box@{digest}"]

    images.docker("rmi", name, IMAGE)
    out = images.docker("pull", name).out
    assert f"Digest: {digest}" in out and "Pull complete" in out and f"Downloaded newer image for {name}" in out
    assert images.json("GET", f"/images/{name}/json")["Id"] == inspected["Id"]
    assert "Image is up to date" in images.docker("pull", name).out
    assert images.docker("run", "--rm", name, "echo", "hello").out == "hello\n"
    images.docker("tag", name, IMAGE)


def test_gantry_cli_pulls_by_digest_and_removes_by_it(images, registry):
    name = f"{registry.host}/box"
    images.gantry("tag", IMAGE, name + ":a")
    images.gantry("push", name + ":a")
    (by_digest,) = images.json("GET", f"/images/{name}:a/json")["RepoDigests"]
    images.gantry("rmi", name + ":a")
    assert images.api("GET", f"/images/{by_digest}/json").status == 404
    out = images.gantry("pull", by_digest).out
    assert by_digest in out
    assert images.json("GET", f"/images/{by_digest}/json")["RepoDigests"] == [by_digest]
    assert "up to date" in images.gantry("pull", by_digest).out
    listed = images.gantry("images", "--digests").out
    assert by_digest.split("@")[1] in listed
    assert by_digest in images.gantry("rmi", by_digest).out
    assert images.api("GET", f"/images/{by_digest}/json").status == 404


def test_all_tags_go_and_come(images, registry):
    name = f"{registry.host}/many"
    for tag in ("a", "b", "c"):
        images.docker("tag", IMAGE, f"{name}:{tag}")
    out = images.docker("push", "--all-tags", name).out
    assert all(f"{tag}: digest:" in out for tag in "abc")
    images.docker("rmi", *(f"{name}:{tag}" for tag in "abc"))
    images.docker("pull", "--all-tags", name)
    for tag in "abc":
        assert images.api("GET", f"/images/{name}:{tag}/json").status == 200


def test_a_committed_layer_is_pushed_and_its_base_is_mounted(images, registry, tmp_path):
    base, derived = f"{registry.host}/base:1", f"{registry.host}/derived:1"
    images.docker("tag", IMAGE, base)
    images.docker("push", base)
    cid = images.docker("create", IMAGE, "true").out.strip()
    images.docker("cp", "/bin/busybox", f"{cid}:/more")
    images.docker("commit", cid, derived)
    out = images.docker("push", derived).out
    assert "Mounted from base" in out and "Pushed" in out
    images.command("skopeo", "copy", "--src-tls-verify=false", "docker://" + derived, f"oci:{tmp_path}/layout:1")
    image_id = images.json("GET", f"/images/{derived}/json")["Id"]
    images.docker("rm", cid)
    images.docker("rmi", derived)
    images.docker("pull", derived)
    assert images.json("GET", f"/images/{derived}/json")["Id"] == image_id
    images.docker("run", "--rm", derived, "cmp", "/more", "/bin/busybox")


def test_an_image_of_skopeo_keeps_its_manifest(images, registry, tmp_path):
    first, second = f"{registry.host}/from/skopeo:1", f"{registry.host}/to/other:1"
    archive = str(tmp_path / "box.tar")
    images.docker("save", "-o", archive, IMAGE)
    images.docker("rmi", IMAGE)
    for kind in ("oci", "v2s2"):
        images.command("skopeo", "copy", "--format", kind, "--dest-tls-verify=false", "docker-archive:" + archive, "docker://" + first)
        images.docker("pull", first)
        images.docker("tag", first, second)
        images.docker("push", second)
        look = [json.loads(images.command("skopeo", "inspect", "--tls-verify=false", "docker://" + n).out)["Digest"] for n in (first, second)]
        assert look[0] == look[1]
        images.docker("rmi", first, second)
    images.docker("load", "-i", archive)


def test_layers_are_packed_again_where_their_blobs_are_lost(images, registry, fake):
    image = Image([tree(i, 3_000_000) for i in range(3)])
    name = fake.add(image)
    pulled(pull(images, name))
    target = f"{registry.host}/again:1"
    images.docker("tag", name, target)
    out = images.docker("push", target).out
    assert out.count("Pushed") == 3
    raw = images.command("skopeo", "inspect", "--raw", "--tls-verify=false", "docker://" + target).out
    assert json.loads(raw)["config"]["digest"] == image.id
    first = sha256(raw.encode())
    # the same layers always give the same blobs
    images.docker("rmi", target)
    clean(images)
    pulled(pull(images, name))
    images.docker("tag", name, f"{registry.host}/fresh:1")
    images.docker("push", f"{registry.host}/fresh:1")
    assert sha256(images.command("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.host}/fresh:1").out.encode()) == first
    clean(images)
    images.docker("pull", target)
    assert images.json("GET", f"/images/{target}/json")["Id"] == image.id


def test_events(images, registry):
    name = f"{registry.host}/box:1"
    since = str(time.time())
    images.docker("tag", IMAGE, name)
    images.docker("push", name)
    images.docker("pull", name)
    out = images.docker("events", "--since", since, "--until", str(time.time() + 0.1), "--format", "{{.Action}} {{.Actor.ID}}").out
    assert f"push {name}" in out and f"pull {name}" in out


def test_push_of_what_is_not_there(images, registry):
    missing = images.docker("push", f"{registry.host}/nope:1", check=False)
    assert missing.code != 0 and "does not exist locally" in missing.err


def test_a_registry_that_nobody_serves(images):
    refused = images.docker("pull", "127.0.0.1:9/nope:1", check=False)
    assert refused.code != 0 and "127.0.0.1:9" in refused.err


# ---- how registries are reached ----

def test_tls_with_an_own_ca_and_client_certificates(tls, tmp_path):
    certs = tmp_path / "certs.d"
    mine = certs / (ADDRESS + ":5443")
    mine.mkdir(parents=True)
    tls.write_ini({"registry": {"certs": certs}})
    tls.start()
    r = Registry(tls, tmp_path, ADDRESS, 5443, {"tls": {"certificate": str(tmp_path / "server.crt"), "key": str(tmp_path / "server.key"),
                                                        "clientcas": [str(tmp_path / "ca.crt")]}})
    try:
        name = f"{r.host}/box:1"
        tls.docker("tag", IMAGE, name)
        refused = tls.docker("push", name, check=False)
        assert refused.code != 0 and "certificate" in refused.err
        (mine / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
        refused = tls.docker("push", name, check=False)
        assert refused.code != 0 and r.host in refused.err
        (mine / "client.cert").write_bytes((tmp_path / "client.crt").read_bytes())
        refused = tls.docker("push", name, check=False)
        assert "has no key" in refused.err
        (mine / "client.key").write_bytes((tmp_path / "client.key").read_bytes())
        tls.docker("push", name)
        tls.docker("rmi", name)
        tls.docker("pull", name)
    finally:
        r.stop()


def test_insecure_registries_are_those_that_are_listed(tls, tmp_path):
    server = {"certificate": str(tmp_path / "server.crt"), "key": str(tmp_path / "server.key")}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tls.start()
    plain = Registry(tls, tmp_path / "a", ADDRESS, 5001)
    odd = Registry(tls, tmp_path / "b", ADDRESS, 5002, {"tls": server})
    try:
        for r in (plain, odd):
            tls.docker("tag", IMAGE, f"{r.host}/box:1")
            assert tls.docker("push", f"{r.host}/box:1", check=False).code != 0
        tls.stop()
        tls.write_ini({"registry": {"insecure": f"{ADDRESS}:5001, 10.99.0.0/24"}})
        tls.start()
        for r in (plain, odd):
            tls.docker("push", f"{r.host}/box:1")
    finally:
        plain.stop()
        odd.stop()


def test_a_mirror_is_asked_first_and_may_fail(tls, tmp_path):
    fake, other = FakeRegistry(tls), FakeRegistry(tls)
    tls.write_ini({"registry": {"mirrors": f"{fake.host}=http://{other.host}"}})
    tls.start()
    try:
        image = Image([tree(0)])
        name = fake.add(image)
        other.add(image)
        pulled(pull(tls, name))
        assert any("/blobs/" in path for _, path, _ in other.requests) and not any("/blobs/" in path for _, path, _ in fake.requests)
        clean(tls)
        other.manifests.clear()
        pulled(pull(tls, name, auth={"username": "u", "password": "p"}))
        assert any("/blobs/" in path for _, path, _ in fake.requests)
        assert not any("Authorization" in headers for _, _, headers in other.requests)
    finally:
        fake.close()
        other.close()


def test_a_proxy_is_used_but_not_for_loopback(tls):
    proxy, local = FakeRegistry(tls), FakeRegistry(tls)
    tls.write_ini({"registry": {"insecure": "10.99.0.0/16", "http_proxy": "http://" + proxy.host, "https_proxy": "http://" + proxy.host}})
    tls.start()
    try:
        image = Image([tree(0)])
        proxy.add(image)
        local.add(image)

        def forward(request):
            request.path = request.path.replace("http://10.99.7.7:5000", "")
            return False
        proxy.hooks.append(forward)
        pulled(pull(tls, "10.99.7.7:5000/app:1"))
        clean(tls)
        before = len(proxy.requests)
        pulled(pull(tls, local.host + "/app:1"))
        assert len(proxy.requests) == before
    finally:
        proxy.close()
        local.close()


def test_search_and_distribution(images, registry, fake):
    images.docker("tag", IMAGE, f"{registry.host}/box:1")
    images.docker("push", f"{registry.host}/box:1")
    answer = images.json("GET", f"/distribution/{registry.host}/box:1/json")
    digest = json.loads(images.command("skopeo", "inspect", "--tls-verify=false", f"docker://{registry.host}/box:1").out)["Digest"]
    assert answer["Descriptor"]["digest"] == digest
    assert answer["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    assert images.api("GET", f"/distribution/{registry.host}/nope:1/json").status == 404
    refused = images.gantry("search", registry.host + "/box", check=False)
    assert refused.code != 0 and "does not offer search" in refused.err

    def index(request):
        if not request.path.startswith("/v1/search?q=word&n=5"):
            return False
        request.reply(200, {"results": [{"name": "a/b", "description": "x", "star_count": 7, "is_official": False},
                                        {"name": "c", "description": "y", "star_count": 1, "is_official": True}]})
        return True
    fake.hooks.append(index)
    assert "a/b" in images.docker("search", "--limit", "5", fake.host + "/word").out
    assert [r["name"] for r in images.json("GET", f'/images/search?term={fake.host}/word&limit=5&filters={{"is-official":["true"]}}')] == ["c"]
