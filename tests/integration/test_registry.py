"""Images from and to registries: Debian's docker-registry (plain, with passwords, with TLS), skopeo as another reader and writer, and a scripted
registry for everything that can go wrong."""

import base64
import gzip
import json
import os
import random
import subprocess
import threading
import time

import pytest

from fake_registry import DOCKER, OCI, FakeRegistry, Image, index_of, orphans, sha256, tree
from harness import DOCKER as DOCKER_CLI, IMAGE, Daemon, wait_until


class Registry:
    """Debian's docker-registry in a daemon's network namespace."""

    def __init__(self, daemon, path, address="127.0.0.1", port=5000, http=None, auth=None):
        config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(path / "data")}, "delete": {"enabled": True}},
                  "http": {"addr": f"{address}:{port}", **(http or {})}, "log": {"level": "error", "accesslog": {"disabled": True}}}
        if auth:
            config["auth"] = auth
        (path / "config.yml").write_text(json.dumps(config))
        self.host = f"{address}:{port}"
        self.process = daemon.popen("docker-registry", "serve", str(path / "config.yml"),
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: daemon.command("bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}", check=False).code == 0, 20, "docker-registry")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def clean(daemon):
    """Removes every image but the embedded one."""
    daemon.remove_everything()
    for image in daemon.json("GET", "/images/json?all=1"):
        for name in image["RepoTags"] + image["RepoDigests"]:
            if name != IMAGE + ":latest":
                daemon.api("DELETE", f"/images/{name}?force=1")
        if IMAGE + ":latest" not in image["RepoTags"]:
            daemon.api("DELETE", f"/images/{image['Id']}?force=1")


@pytest.fixture
def images(daemon):
    """The module's daemon; nothing of the test's images stays, not even a file."""
    clean(daemon)
    embedded = "manifests/" + daemon.json("GET", f"/images/{IMAGE}/json")["Id"][7:] + ".json"
    before = orphans(daemon)
    yield daemon
    clean(daemon)
    assert set(orphans(daemon)) - {embedded} == set(before) - {embedded}


@pytest.fixture
def registry(images, tmp_path):
    r = Registry(images, tmp_path)
    yield r
    r.stop()


@pytest.fixture
def fake(images):
    r = FakeRegistry(images)
    yield r
    r.close()


def pull(daemon, reference, auth=None, platform=None, timeout=120):
    """POST /images/create; returns (status, messages)."""
    name, _, tag = reference.rpartition("@") if "@" in reference else reference.rpartition(":")
    path = f"/images/create?fromImage={name}&tag={tag}" + (f"&platform={platform}" if platform else "")
    headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()} if auth is not None else {}
    response = daemon.api("POST", path, headers=headers, timeout=timeout)
    lines = [json.loads(line) for line in response.body.decode().split("\n") if line.strip()]
    return response.status, lines


def error_of(result):
    status, lines = result
    if status != 200:
        return lines[0]["message"]
    assert "errorDetail" in lines[-1], lines
    return lines[-1]["errorDetail"]["message"]


def pulled(result):
    status, lines = result
    assert status == 200 and "errorDetail" not in lines[-1], lines[-3:]
    return lines


# ---- real registries ----

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


def test_passwords(images, tmp_path):
    passwords = subprocess.run(["htpasswd", "-Bbn", "me", "secret"], capture_output=True, text=True, check=True).stdout
    (tmp_path / "htpasswd").write_text(passwords)
    r = Registry(images, tmp_path, auth={"htpasswd": {"realm": "here", "path": str(tmp_path / "htpasswd")}})
    try:
        name = f"{r.host}/private:1"
        images.docker("tag", IMAGE, name)
        assert "no basic auth credentials" in images.docker("push", name, check=False).err
        wrong = images.docker("login", "-u", "me", "--password-stdin", r.host, stdin="wrong", check=False)
        assert wrong.code != 0 and "unauthorized" in wrong.err
        for cli in (images.docker, images.gantry):
            assert "Login Succeeded" in cli("login", "-u", "me", "--password-stdin", r.host, stdin="secret").out
            cli("push", name)
            images.docker("rmi", name)
            cli("pull", name)
            cli("logout", r.host)
            images.docker("rmi", name)
            denied = cli("pull", name, check=False)
            assert denied.code != 0 and "pull access denied" in denied.err
            images.docker("tag", IMAGE, name)
        assert "secret" not in images.log()
    finally:
        r.stop()


HELPER = """#!/usr/bin/python3
import json, os, sys
path = os.environ["HOME"] + "/secrets.json"
known = json.load(open(path)) if os.path.exists(path) else {}
said = sys.stdin.read()
verb = sys.argv[1]
if verb == "store":
    entry = json.loads(said)
    known[entry["ServerURL"]] = [entry["Username"], entry["Secret"]]
elif verb == "list":
    print(json.dumps({server: user for server, (user, _) in known.items()}))
elif said.strip() not in known:
    print("credentials not found in native keychain")
    sys.exit(1)
elif verb == "get":
    user, secret = known[said.strip()]
    print(json.dumps({"ServerURL": said.strip(), "Username": user, "Secret": secret}))
else:
    del known[said.strip()]
json.dump(known, open(path, "w"))
"""


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_credential_helpers(images, fake, tmp_path, key):
    helper = tmp_path / "docker-credential-testing"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    config = os.path.join(images.env["DOCKER_CONFIG"], "config.json")
    os.makedirs(os.path.dirname(config), exist_ok=True)
    with open(config, "w") as f:
        json.dump({key: "testing" if key == "credsStore" else {fake.host: "testing"}}, f)
    name = fake.add(Image([tree(0)]))
    secret = "Basic " + base64.b64encode(b"me:secret").decode()
    fake.hooks.append(lambda r: r.headers.get("Authorization") != secret and
                      (r.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="x"'), True)[1])
    before = dict(images.env)
    missing = images.gantry("pull", name, check=False)
    assert "docker-credential-testing" in missing.err and "not on PATH" in missing.err
    images.env["PATH"] = f"{tmp_path}:{images.env['PATH']}"
    try:
        assert images.gantry("pull", name, check=False).code != 0
        images.gantry("login", "-u", "me", "--password-stdin", "http://" + fake.host + "/", stdin="secret")
        with open(config) as f:
            kept = json.load(f)
        assert kept["auths"] == {fake.host: {}}
        images.gantry("pull", name)
        assert "Removing login" in images.gantry("logout", fake.host).out
        assert "Not logged in" in images.gantry("logout", fake.host).out
        clean(images)
        assert images.gantry("pull", name, check=False).code != 0
    finally:
        images.env.clear()
        images.env.update(before)
        os.unlink(config)


def certificates(path, address):
    """A CA, a server certificate for the address, and a client certificate."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=path, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test ca", "-keyout", "ca.key", "-out", "ca.crt")
    for name, extension in (("server", f"subjectAltName=IP:{address}"), ("client", "extendedKeyUsage=clientAuth")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", name + ".key", "-out", name + ".csr")
        (path / "ext").write_text(extension)
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext",
                "-out", name + ".crt")


ADDRESS = "10.99.0.1"


@pytest.fixture
def tls(fresh_daemon, tmp_path):
    """A daemon that is not started, with an address that is not loopback, and certificates for it."""
    fresh_daemon.in_ns = subprocess.run(["ip", "-n", fresh_daemon.name, "addr", "add", ADDRESS + "/32", "dev", "lo"], check=True)
    certificates(tmp_path, ADDRESS)
    return fresh_daemon


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


# ---- what images may be ----

def zstd(data):
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("kind", ["oci", "docker"])
@pytest.mark.parametrize("pack", ["gzip", "zstd", "plain", "members"])
def test_kinds_of_layers(images, fake, kind, pack):
    how = {"gzip": None, "zstd": zstd, "plain": lambda d: d, "members": lambda d: gzip.compress(d[:1000]) + gzip.compress(d[1000:])}[pack]
    suffix = {"gzip": "+gzip", "zstd": "+zstd", "plain": "", "members": "+gzip"}[pack]
    image = Image([tree(0), tree(1), tree(2)], pack=how, kind=kind, layer_type=OCI + "layer.v1.tar" + suffix if kind == "oci" else None)
    name = fake.add(image)
    lines = pulled(pull(images, name))
    assert lines[0]["status"] == "Pulling from " + name.rpartition(":")[0] and lines[0]["id"] == "1"
    assert [line["status"] for line in lines[-2:]] == ["Digest: " + image.digest, "Status: Downloaded newer image for " + name]
    complete = {line["id"] for line in lines if line["status"] == "Pull complete"}
    assert complete == {d[7:19] for d in image.layers}
    assert images.json("GET", f"/images/{name}/json")["Id"] == image.id
    assert images.docker("run", "--rm", name, "/busybox", "sha256sum", "/f2-1").code == 0
    fake.sent = 0
    assert pulled(pull(images, name))[-1]["status"].startswith("Status: Image is up to date")
    assert fake.sent == 0


def test_index_and_platform(images, fake):
    amd, arm, arm6 = Image([tree(0)]), Image([tree(1)], "arm64"), Image([tree(2)], "arm", "v6")
    attestation = Image([{"x": b"y"}], "unknown")
    for image in (amd, arm, arm6, attestation):
        fake.blobs.update(image.blobs)
        fake.put("app", image.type, image.bytes)
    index = index_of([(attestation, {"os": "unknown", "architecture": "unknown"}), (arm, {"os": "linux", "architecture": "arm64", "variant": "v8"}),
                      (arm6, {"os": "linux", "architecture": "arm", "variant": "v6"}), (amd, {"os": "linux", "architecture": "amd64"})])
    fake.put("app", OCI + "index.v1+json", index, "1")
    name = fake.host + "/app:1"
    pulled(pull(images, name))
    inspected = images.json("GET", f"/images/{name}/json")
    assert inspected["Id"] == amd.id and inspected["RepoDigests"] == [f"{fake.host}/app@{sha256(index)}"]
    pulled(pull(images, name, platform="linux/arm64"))
    assert images.json("GET", f"/images/{name}/json")["Id"] == arm.id
    pulled(pull(images, name, platform="linux/arm/v7"))
    assert images.json("GET", f"/images/{name}/json")["Id"] == arm6.id
    assert "no matching manifest for linux/s390x" in error_of(pull(images, name, platform="linux/s390x"))
    assert images.docker("pull", "--platform", "linux/amd64", name).code == 0
    single = fake.add(arm, "single")
    assert "wanted linux/amd64, found linux/arm64" in error_of(pull(images, single, platform="linux/amd64"))


def refuse(change, text):
    return pytest.param(change, text, id=text.replace(" ", "-")[:30])


def schema1(image):
    image.manifest = {"schemaVersion": 1, "name": "app", "fsLayers": []}


def foreign(image):
    image.manifest["layers"][0]["urls"] = ["https://elsewhere/"]


def short_blob(image):
    image.blobs[image.layers[0]] = image.blobs[image.layers[0]][:-7]


def other_blob(image):
    data = bytearray(image.blobs[image.layers[0]])
    data[-5] ^= 1
    image.blobs[image.layers[0]] = bytes(data)


def wrong_size(image):
    image.manifest["layers"][0]["size"] += 1


def wrong_diff(image):
    image.config["rootfs"]["diff_ids"][0] = sha256(b"")
    image.finish()


def too_many_layers(image):
    image.manifest["layers"] *= 2


def huge_count(image):
    image.manifest["layers"] *= 600


def huge_manifest(image):
    image.manifest["annotations"] = {"x": "y" * (5 << 20)}


def other_digest(image):
    image.blobs[image.id] = image.blobs[image.id].replace(b"step", b"pets")


def not_json(image):
    image.manifest = "hello"


def both(image):
    image.manifest["manifests"] = []


def windows(image):
    image.config["os"] = "windows"
    image.finish()


def helm(image):
    image.config_type = "application/vnd.cncf.helm.config.v1+json"
    image.finish()


@pytest.mark.parametrize("change, text", [
    refuse(schema1, "schema 1, which is not supported"), refuse(foreign, "is foreign"), refuse(short_blob, "bytes where its descriptor says"),
    refuse(other_blob, "damaged"), refuse(wrong_size, "where its descriptor says"), refuse(wrong_diff, "the config says"),
    refuse(too_many_layers, "the manifest has 4 layers"), refuse(huge_count, "at most 512"), refuse(huge_manifest, "larger than 4194304"),
    refuse(other_digest, "config is damaged"), refuse(not_json, "not a JSON object"), refuse(both, "an index and a manifest at once"),
    refuse(windows, '"windows" cannot be used'), refuse(helm, "not a container image")])
def test_bad_images_are_refused_and_leave_nothing(images, fake, change, text):
    image = Image([tree(0), tree(1)])
    change(image)
    name = fake.add(image)
    assert text in error_of(pull(images, name))
    assert images.api("GET", f"/images/{name}/json").status == 404


# ---- trouble on the way ----

def test_a_pull_goes_on_where_the_connection_broke(images, fake):
    image = Image([tree(i, 2_000_000) for i in range(3)])
    name = fake.add(image)
    source = random.Random(7)

    def cut(request):
        if "/blobs/" not in request.path or request.path[-71:] == image.id or request.start > 1_500_000:
            return False
        request.blob(fake.blobs[request.path[-71:]], source.randrange(100_000, 500_000))
        request.drop()
        return True
    fake.hooks.append(cut)
    pulled(pull(images, name))
    assert images.json("GET", f"/images/{name}/json")["Id"] == image.id
    total = sum(len(image.blobs[d]) for d in image.layers)
    assert any(headers.get("Range") for _, _, headers in fake.requests)
    assert fake.sent < total * 1.05, "bytes were sent again"


def test_a_registry_without_ranges_sends_again(images, fake):
    image = Image([tree(0, 2_000_000)])
    name = fake.add(image)
    cuts = []

    def cut(request):
        request.start = 0
        if "/blobs/" not in request.path or len(cuts) == 3 or request.path[-71:] == image.id:
            return False
        cuts.append(1)
        request.blob(fake.blobs[request.path[-71:]], 400_000)
        request.drop()
        return True
    fake.hooks.append(cut)
    pulled(pull(images, name))
    assert images.json("GET", f"/images/{name}/json")["Id"] == image.id


def test_server_errors_are_tried_again(images, fake):
    name = fake.add(Image([tree(0)]))
    seen = {}

    def fail(request):
        seen[request.path] = seen.get(request.path, 0) + 1
        if seen[request.path] > 2 or request.path == "/v2/":
            return False
        request.error(503, "UNAVAILABLE", "in a moment")
        return True
    fake.hooks.append(fail)
    pulled(pull(images, name))


def test_too_many_requests(images, fake):
    name = fake.add(Image([tree(0)]))
    answers = [("2", True)]

    def limit(request):
        if "/manifests/" not in request.path or not answers:
            return False
        wait, once = answers[0]
        if once:
            answers.pop()
        request.error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit", Retry_After=wait)
        return True
    fake.hooks.append(limit)
    begin = time.monotonic()
    pulled(pull(images, name))
    assert time.monotonic() - begin >= 2
    clean(images)
    answers.append(("3600", False))
    text = error_of(pull(images, name))
    assert "You have reached your pull rate limit" in text and "3600 seconds" in text


@pytest.mark.parametrize("target, text", [
    ("/v2/app/blobs/loop", "redirected more than 5 times"), ("ftp://127.0.0.1/x", "only http and https"),
    ("http://user:pw@127.0.0.1/x", "user name"), ("http://[broken", "no URL"), (None, "without a Location")])
def test_bad_redirects(images, fake, target, text):
    name = fake.add(Image([tree(0)]))

    def redirect(request):
        if "/blobs/" not in request.path:
            return False
        request.reply(307, b"", **({"Location": target} if target else {}))
        return True
    fake.hooks.append(redirect)
    assert text in error_of(pull(images, name))


def test_credentials_stay_with_the_registry(images, fake):
    elsewhere = FakeRegistry(images)
    image = Image([tree(0), tree(1)])
    name = fake.add(image)
    elsewhere.add(image)
    secret = "Basic " + base64.b64encode(b"me:secret").decode()

    def gate(request):
        if request.headers.get("Authorization") != secret:
            request.error(401, "UNAUTHORIZED", "who are you", WWW_Authenticate='Basic realm="x"')
        elif "/blobs/" in request.path:
            request.reply(302, b"", Location=f"http://{elsewhere.host}{request.path}")
        else:
            return False
        return True
    fake.hooks.append(gate)
    assert "pull access denied" in error_of(pull(images, name))
    pulled(pull(images, name, auth={"username": "me", "password": "secret"}))
    assert elsewhere.requests and not any("Authorization" in headers for _, _, headers in elsewhere.requests)
    elsewhere.close()


def test_https_does_not_lead_to_http(tls, tmp_path):
    certs = tmp_path / "certs.d"
    tls.write_ini({"registry": {"certs": certs}})
    tls.start()
    fake = FakeRegistry(tls, ADDRESS, (str(tmp_path / "server.crt"), str(tmp_path / "server.key")))
    (certs / fake.host).mkdir(parents=True)
    (certs / fake.host / "ca.crt").write_bytes((tmp_path / "ca.crt").read_bytes())
    name = fake.add(Image([tree(0)]))
    fake.hooks.append(lambda request: "/blobs/" in request.path and (request.reply(307, b"", Location="http://127.0.0.1/x"), True)[1])
    assert "not encrypted" in error_of(pull(tls, name))
    fake.hooks[:] = [lambda r: r.path == "/v2/" and (r.error(401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="http://{ADDRESS}/t"'), True)[1]]
    assert "without encryption" in error_of(pull(tls, name))
    fake.close()


# ---- tokens ----

class Tokens:
    """A token server in front of the fake registry's own paths."""

    def __init__(self, fake, lifetime=300, first_uses=1000):
        self.fake, self.given, self.uses, self.count, self.left = fake, [], [first_uses], 0, {}
        self.answer = lambda: {"token": f"t{self.count}", "expires_in": lifetime}
        fake.hooks.append(self.hook)

    def hook(self, request):
        if request.path.startswith("/token"):
            self.count += 1
            self.left[f"Bearer t{self.count}"] = self.uses.pop() if self.uses else 1000
            body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
            self.given.append((request.command, request.path, body, request.headers.get("Authorization")))
            answer = self.answer()
            request.reply(200, answer)
            return True
        token = request.headers.get("Authorization")
        if self.left.get(token, 0) > 0:
            self.left[token] -= 1
            return False
        request.error(401, "UNAUTHORIZED", "authentication required",
                      WWW_Authenticate=f'Bearer realm="http://{self.fake.host}/token",service="the, service",error="invalid_token"')
        return True


def test_bearer_tokens(images, fake):
    name = fake.add(Image([tree(0), tree(1)]), "some/app")
    tokens = Tokens(fake)
    pulled(pull(images, name))
    assert tokens.given == [("GET", "/token?service=the%2C%20service&scope=repository:some/app:pull", "", None)]
    clean(images)
    pulled(pull(images, name, auth={"username": "me", "password": "pw"}))
    assert tokens.given[1][1].endswith("&account=me") and tokens.given[1][3] == "Basic " + base64.b64encode(b"me:pw").decode()
    clean(images)
    pulled(pull(images, name, auth={"identitytoken": "remember me"}))
    method, path, body, _ = tokens.given[2]
    assert (method, path) == ("POST", "/token") and "grant_type=refresh_token" in body and "refresh_token=remember%20me" in body
    clean(images)
    pulled(pull(images, name, auth={"registrytoken": f"t{tokens.count}"}))
    assert len(tokens.given) == 3


def test_a_token_that_expires_on_the_way_is_renewed(images, fake):
    name = fake.add(Image([tree(i) for i in range(5)]))
    tokens = Tokens(fake, first_uses=2)
    pulled(pull(images, name))
    assert len(tokens.given) == 2               # once, however many layers were refused at the same time


@pytest.mark.parametrize("answer, text", [
    ({}, "no usable token"), ({"token": "a\r\nX-Evil: 1"}, "no usable token"), ({"token": "x" * 200_000}, "larger than"),
    (b"hello", "token server's answer"), ({"token": 7}, "token")])
def test_bad_token_servers(images, fake, answer, text):
    name = fake.add(Image([tree(0)]))
    tokens = Tokens(fake)
    tokens.answer = lambda: answer
    assert text in error_of(pull(images, name))


def test_a_realm_that_is_no_url(images, fake):
    name = fake.add(Image([tree(0)]))
    fake.hooks.append(lambda r: (r.error(401, "UNAUTHORIZED", WWW_Authenticate='Bearer realm="file:///etc/passwd"'), True)[1])
    assert "no http or https URL" in error_of(pull(images, name))


def test_login_gives_an_identity_token(images, fake):
    tokens = Tokens(fake)
    tokens.answer = lambda: {"token": f"t{tokens.count}", "refresh_token": "keep-this"}
    answer = images.json("POST", "/auth", {"username": "me", "password": "pw", "serveraddress": fake.host})
    assert answer == {"Status": "Login Succeeded", "IdentityToken": "keep-this"}
    assert "offline_token=true" in tokens.given[0][1]


@pytest.mark.parametrize("header", ["e30=", "", "bnVsbA==", "e30"])
def test_empty_credentials_are_nobody(images, fake, header):
    name, _, tag = fake.add(Image([tree(0)])).rpartition(":")
    assert images.api("POST", f"/images/create?fromImage={name}&tag={tag}", headers={"X-Registry-Auth": header}).status == 200


@pytest.mark.parametrize("header", ["!!", "Ww==", "eyJ1c2VybmFtZSI6N30="])
def test_bad_credentials_are_refused(images, fake, header):
    name, _, tag = fake.add(Image([tree(0)])).rpartition(":")
    assert images.api("POST", f"/images/create?fromImage={name}&tag={tag}", headers={"X-Registry-Auth": header}).status == 400


# ---- interruptions ----

def slow(fake, image, delay=0.02):
    """Blobs come in drops."""
    def drip(request):
        if "/blobs/" not in request.path or request.path[-71:] == image.id:
            return False
        data = fake.blobs[request.path[-71:]][request.start:]
        request.send_response(206 if request.start else 200)
        if request.start:
            request.send_header("Content-Range", f"bytes {request.start}-{request.start + len(data) - 1}/{request.start + len(data)}")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        for at in range(0, len(data), 50_000):
            request.wfile.write(data[at:at + 50_000])
            time.sleep(delay)
        return True
    fake.hooks.append(drip)
    return drip


def test_a_client_that_hangs_up_ends_the_pull(images, fake):
    image = Image([tree(i, 1_000_000) for i in range(3)])
    name = fake.add(image)
    hook = slow(fake, image)
    before = orphans(images)
    for _ in range(4):
        client = images.popen(DOCKER_CLI, "pull", name)
        time.sleep(random.uniform(0.05, 0.5))
        client.kill()
        client.wait()
        wait_until(lambda: orphans(images) == before, 10, "nothing of the pull being left")
    fake.hooks.remove(hook)
    pulled(pull(images, name))
    assert images.json("GET", f"/images/{name}/json")["Id"] == image.id


def test_a_daemon_that_is_killed_leaves_nothing_and_pulls_again(fresh_daemon):
    d = fresh_daemon
    d.write_ini({"storage": {"fsync": "no"}})
    d.start()
    fake = FakeRegistry(d)
    image = Image([tree(i, 400_000) for i in range(4)])
    name = fake.add(image)
    hook = slow(fake, image, 0.01)
    before = orphans(d)
    source = random.Random(3)
    for _ in range(20):
        client = d.popen(DOCKER_CLI, "pull", name)
        time.sleep(source.uniform(0.02, 0.35))
        d.kill9()
        client.kill()
        client.wait()
        d.start()
        left = orphans(d)
        status = d.api("GET", f"/images/{name}/json").status
        assert status == 200 or left == before, set(left) - set(before)
        if status == 200:
            assert d.json("GET", f"/images/{name}/json")["Id"] == image.id
            clean(d)
            assert orphans(d) == before
    fake.hooks.remove(hook)
    pulled(pull(d, name))
    assert d.json("GET", f"/images/{name}/json")["Id"] == image.id
    assert d.docker("run", "--rm", name, "/busybox", "true").code == 0
    fake.close()


def test_a_registry_that_goes_away(images, fake):
    image = Image([tree(i, 500_000) for i in range(2)])
    name = fake.add(image)
    gone = []

    def vanish(request):
        if not gone and "/blobs/" in request.path and request.path[-71:] != image.id:
            request.blob(fake.blobs[request.path[-71:]], 100_000)
            gone.append(1)
        if gone:
            request.drop()
        return bool(gone)
    fake.hooks.append(vanish)
    result = pull(images, name)
    assert fake.host in error_of(result)
    fake.hooks.clear()
    pulled(pull(images, name))


def test_two_pulls_of_one_image_meet(images, fake):
    image = Image([tree(i, 500_000) for i in range(3)])
    name = fake.add(image)
    slow(fake, image, 0.01)
    results = []
    threads = [threading.Thread(target=lambda: results.append(pull(images, name))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        pulled(result)
    assert images.json("GET", f"/images/{name}/json")["Id"] == image.id


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


def test_a_silent_registry_does_not_keep_the_daemon(fresh_daemon):
    d = fresh_daemon.start()
    fake = FakeRegistry(d)
    fake.hooks.append(lambda request: time.sleep(30) or True)
    clients = [d.popen(DOCKER_CLI, "pull", fake.host + "/a:1"),
               d.popen("curl", "-s", "--unix-socket", d.socket, f"http://x/distribution/{fake.host}/a:1/json")]
    wait_until(lambda: len(fake.requests) >= 2, 10, "both at the registry")
    begin = time.monotonic()
    d.stop()
    assert time.monotonic() - begin < 5
    for client in clients:
        client.wait(10)
    fake.close()


def test_push_of_what_is_not_there(images, registry):
    missing = images.docker("push", f"{registry.host}/nope:1", check=False)
    assert missing.code != 0 and "does not exist locally" in missing.err


def test_a_registry_that_nobody_serves(images):
    refused = images.docker("pull", "127.0.0.1:9/nope:1", check=False)
    assert refused.code != 0 and "127.0.0.1:9" in refused.err
