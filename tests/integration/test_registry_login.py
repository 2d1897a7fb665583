"""Who may pull and push: passwords, credential helpers, tokens, and where credentials never go."""

import base64
import json
import os
import subprocess

import pytest

from fake_registry import FakeRegistry, Image, tree
from harness import IMAGE
from registries import ADDRESS, Registry, Tokens, clean, error_of, pull, pulled


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
