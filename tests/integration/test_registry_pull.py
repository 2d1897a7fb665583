"""What images in registries may be: kinds of layers, indexes and platforms; and what is refused."""

import gzip
import subprocess
import tarfile

import pytest

from fake_registry import DOCKER, OCI, FakeRegistry, Image, entry, index_of, sha256, tree
from registries import error_of, pull, pulled


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


def leaning():
    """Layers that take directories and files of those below for granted."""
    return [[(entry("opt", tarfile.DIRTYPE, mode=0o1770, uid=5, gid=6, mtime=7), b""), (entry("opt/f", mode=0o640, uid=7, mtime=8), b"below"),
             (entry("opt/deep", tarfile.DIRTYPE, mode=0o700), b""), ("busybox", tree(0)["busybox"])],
            [("opt/new", b"n"), ("opt/deep/er/x", b"x"), entry("opt/deep/er", tarfile.DIRTYPE, mode=0o711, uid=9)],
            [entry("link", tarfile.LNKTYPE, linkname="opt/f"), entry("again", tarfile.LNKTYPE, linkname="link")],
            [entry("gone", tarfile.LNKTYPE, linkname="opt/f"), ("gone", b"replaced"), ("opt/sub/x", b"x")]]


def test_layers_that_lean_on_those_below_are_fetched_once(images, fake, tmp_path):
    image = Image(leaning())
    name = fake.add(image)
    pulled(pull(images, name))
    fetched = [path[-71:] for verb, path, _ in fake.requests if "/blobs/" in path and path[-71:] != image.id]
    # the last one replaces what it takes: it comes once more, when all below it is there
    assert sorted(fetched) == sorted(image.layers + image.layers[3:])
    out = images.docker("run", "--rm", name, "/busybox", "stat", "-c", "%n %a %u %g %s %h", "/opt", "/opt/deep", "/opt/deep/er", "/link", "/again",
                        "/gone", "/opt/sub").out.splitlines()
    assert [line.rpartition(" ")[0] for line in out] == ["/opt 1770 5 6 4096", "/opt/deep 700 0 0 4096", "/opt/deep/er 711 9 0 4096", "/link 640 7 0 5",
                                                         "/again 640 7 0 5", "/gone 755 0 0 8", "/opt/sub 755 0 0 4096"]
    assert out[3].endswith(" 2") and out[4].endswith(" 2")
    # on top of what is there already nothing needs to be fetched again
    more = fake.add(Image(leaning() + [[("opt/late/x", b"x")]]), "more")
    fake.requests.clear()
    pulled(pull(images, more))
    assert len([path for _, path, _ in fake.requests if "/blobs/" in path]) == 2
    images.docker("save", "-o", str(tmp_path / "both.tar"), name, more)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["direct", "redirected"])
def test_connections_are_used_again(images, fake, elsewhere):
    store = FakeRegistry(images)
    image = Image([tree(i, 30_000) for i in range(12)])
    name = fake.add(image)
    store.add(image)
    if elsewhere:
        fake.hooks.append(lambda r: "/blobs/" in r.path and (r.reply(307, b"moved", Location=f"http://{store.host}{r.path}"), True)[1])
    pulled(pull(images, name))
    assert len(fake.requests) == 15     # /v2/, manifest, config, layers
    # one for each worker, and the one that asked first is among them
    assert len(fake.clients) <= 3 and len(store.clients) <= 3
    store.close()


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
