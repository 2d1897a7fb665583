"""Trouble on the way: connections that break, servers that fail, clients that hang up, daemons that are killed."""

import random
import threading
import time

import pytest

from fake_registry import FakeRegistry, Image, orphans, tree
from harness import DOCKER as DOCKER_CLI, wait_until
from registries import clean, error_of, pull, pulled, slow


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
