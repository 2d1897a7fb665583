"""Trouble on the way: connections that break, servers that fail, clients that hang up, daemons that are killed."""

import gzip
import itertools
import random
import subprocess
import tarfile
import threading
import time

import pytest

from fake_registry import FakeRegistry, Image, entry, orphans, tree
from files import of_container
from harness import DOCKER as DOCKER_CLI, wait_until
from registries import Cutter, clean, error_of, pull, pulled, slow


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
    lines = pulled(pull(images, name))
    assert any("trying again in 2 seconds" in line["status"] for line in lines)
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


def test_a_silent_registry_does_not_keep_the_daemon(fresh_daemon):
    d = fresh_daemon.start()
    fake = FakeRegistry(d)
    spoke = []
    fake.hooks.append(lambda request: time.sleep(30) or spoke.append(request) or True)
    clients = [d.popen(DOCKER_CLI, "pull", fake.host + "/a:1"),
               d.popen("curl", "-s", "--unix-socket", d.socket, f"http://x/distribution/{fake.host}/a:1/json")]
    wait_until(lambda: len(fake.requests) >= 2, 10, "both at the registry")
    d.stop()
    assert not spoke
    for client in clients:
        client.wait(10)
    fake.close()


# ---- interruptions ----

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


def rich(scale):
    """Layers of all sorts: plain, large, with whiteouts, leaning on those below, with links; gzip, zstd and plain are mixed."""
    return [[*tree(0, scale).items(), entry("opt", tarfile.DIRTYPE, mode=0o2770, gid=6, mtime=7), (entry("opt/f", mode=0o640, uid=7, mtime=8), b"below"),
             ("opt/gone", b"x")],
            [*tree(1, 2 * scale).items(), ("opt/new", b"n"), entry("opt/.wh.gone"), entry("link", tarfile.LNKTYPE, linkname="opt/f")],
            tree(2, scale),
            [*tree(3, scale).items(), entry("f1-0", tarfile.SYMTYPE, linkname="f2-0"), ("f1-1", b"replaced"), entry(".wh.f0-1")]]


def packed_in_turn():
    turn = itertools.cycle((lambda data: gzip.compress(data, 6), lambda data: subprocess.run(["zstd", "-c"], input=data, capture_output=True).stdout))
    return lambda data: next(turn)(data)


def files_of(daemon, name):
    """What the image has; etc, dev, proc and sys are the container's own."""
    found = of_container(daemon, name, ["/busybox", "sleep", "100"])
    found = {path: item for path, item in found.items() if path.partition("/")[0] not in ("etc", "dev", "proc", "sys")}
    assert "opt/f" in found
    return found


def test_a_pull_cut_at_any_point_ends_in_the_same_image(images, registry, fake):
    """docker-registry behind a wire that breaks once, at 20 points from the first byte to the last; and one that breaks 20 times in one pull."""
    image = Image(rich(400_000), pack=packed_in_turn(), layer_type="application/vnd.oci.image.layer.v1.tar")
    name = fake.add(image)
    pulled(pull(images, name))
    wanted = files_of(images, name)
    images.docker("tag", name, f"{registry.host}/app:1")
    images.docker("push", f"{registry.host}/app:1")
    clean(images)
    before, source = orphans(images), random.Random(20)
    cutter = Cutter(images, registry.host)
    name = f"{cutter.host}/app:1"
    pulled(pull(images, name))
    whole = cutter.passed
    assert whole > sum(len(image.blobs[d]) for d in image.layers)
    rounds = [[point] for point in sorted(source.sample(range(whole), 20))] + [sorted(source.sample(range(whole), 20))]
    for points in rounds:
        clean(images)
        assert orphans(images) == before
        cutter.cut_at(points)
        pulled(pull(images, name))
        assert not cutter.points, "not all of the cuts came"
        assert images.json("GET", f"/images/{name}/json")["Id"] == image.id, points
        assert files_of(images, name) == wanted, points
    cutter.close()


def test_a_pull_of_a_killed_daemon_ends_in_the_same_image(fresh_daemon):
    d = fresh_daemon
    d.write_ini({"storage": {"fsync": "no"}, "plugin.storage-overlay": {"sync": "no"}})
    d.start()
    fake = FakeRegistry(d)
    image = Image(rich(200_000), pack=packed_in_turn(), layer_type="application/vnd.oci.image.layer.v1.tar")
    name = fake.add(image)
    pulled(pull(d, name))
    wanted = files_of(d, name)
    clean(d)
    hook = slow(fake, image, 0.01)
    before = orphans(d)
    source = random.Random(3)
    for _ in range(20):
        client = d.popen(DOCKER_CLI, "pull", name)
        time.sleep(source.uniform(0.02, 0.45))
        d.kill9()
        client.kill()
        client.wait()
        d.start()
        left = orphans(d)
        whole = d.api("GET", f"/images/{name}/json").status == 200
        assert whole or left == before, set(left) - set(before)
        if whole:
            assert d.json("GET", f"/images/{name}/json")["Id"] == image.id
            assert files_of(d, name) == wanted
            clean(d)
            assert orphans(d) == before
    fake.hooks.remove(hook)
    pulled(pull(d, name))
    assert d.json("GET", f"/images/{name}/json")["Id"] == image.id
    assert files_of(d, name) == wanted
    fake.close()
