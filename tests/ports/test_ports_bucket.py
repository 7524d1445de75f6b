"""A bucket is looked at before anything is stored in it, and what is wrong with it is one sentence."""

from __future__ import annotations

import urllib.request

import pytest

import s3_server as s3
from edgewise.ports import BucketLimits, ObjectBlobs, open_bucket
from edgewise.wire import NotNow, NotValid

QUICK = BucketLimits(connect_s=1, read_s=2, tries_max=1, wait_s_max=2)


def wrong(url: str, options: dict[str, str], **more) -> str:
    with pytest.raises(NotValid) as caught:
        open_bucket(url, options, limits=QUICK, **more)
    assert caught.value.code == "objects_invalid"
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_bucket_that_keeps_its_promises_is_taken_and_left_empty(s3_server, bucket_url):
    blobs = open_bucket(f"{bucket_url}/some/where", s3_server.options)
    assert list(blobs.digests()) == []
    name = blobs.put(b"content")
    listed = urllib.request.urlopen(f"{s3_server.url}/{bucket_url.removeprefix('s3://')}?list-type=2").read().decode()
    assert listed.count("<Key>") == 1, "the probe's own object is gone"
    assert f"some/where/blobs/{name[:2]}/{name}" in listed


def test_one_that_is_not_there_is_named(s3_server):
    text = wrong("s3://never-made", s3_server.options)
    assert "s3://never-made does not exist; make the bucket" in text


def test_one_that_ignores_put_if_absent_is_refused():
    with s3.misbehaving() as endpoint:
        text = wrong("s3://careless", {"endpoint": endpoint, "access_key_id": "a", "secret_access_key": "b"})
    assert "only if absent (If-None-Match)" in text
    assert "use a service that honours it" in text


@pytest.mark.parametrize("status", [401, 403])
def test_keys_that_are_refused_are_told(status):
    with s3.misbehaving(status) as endpoint:
        text = wrong("s3://closed", {"endpoint": endpoint, "access_key_id": "a", "secret_access_key": "b"})
    assert "refuses these keys; check access_key_id" in text


def test_wrong_keys_at_a_server_that_checks_them():
    with s3.served() as server:
        url = server.make_bucket("checked")
        head = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{server.url}/moto-api/reset-auth", b"0", head, method="POST")
        urllib.request.urlopen(request).close()
        assert "refuses these keys" in wrong(url, server.options)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no.such.host.invalid"])
def test_no_network_is_told(endpoint):
    text = wrong("s3://far", {"endpoint": endpoint, "access_key_id": "a", "secret_access_key": "b"})
    assert "does not answer" in text
    assert "check its address, the network and keys" in text


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("ftp://x/y", {}, "begins with none of s3://"),
        ("bucket", {}, "begins with none of s3://"),
        ("https://example.org/bucket", {}, "address of no bucket"),
        ("s3://b", {"colour": "red"}, "'colour' is not valid"),
        ("az://container", {"account_key": "a2V5"}, "Account must be specified"),
        ("abfss://c@account.dfs.core.windows.net/p", {"account_key": "!!"}, "Invalid Access Key"),
        ("gs://b", {"service_account": "/not/there.json"}, "Unable to open service account file"),
        ("gs://b", {"account_name": "of another cloud"}, "account_name"),
        ("s3://b", {"timeout": "soon"}, '"soon" as Duration'),
    ],
)
def test_an_address_or_option_that_cannot_be_is_told_without_asking_anybody(url, options, says):
    text = wrong(url, options, probe=False)
    assert says in text
    assert url in text


def test_a_switch_is_true_or_false():
    assert "needs to be true or false" in wrong("s3://b", {"allow_http": "perhaps"}, probe=False)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://b/p", {"region": "eu-central-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}),
        ("s3a://b/p", {"endpoint": "http://minio:9000", "allow_http": "true", "timeout": "60s"}),
        ("https://account.r2.cloudflarestorage.com/b", {"access_key_id": "a", "secret_access_key": "b"}),
        ("gs://b/p", {"skip_signature": "true"}),
        ("gs://b/p", {}),
        ("az://container/p", {"account_name": "acc", "account_key": "a2V5"}),
        ("az://container/p", {"account_name": "acc", "sas_token": "sv=2022&sig=x"}),
        ("abfss://c@acc.dfs.core.windows.net/p", {"client_id": "i", "client_secret": "s", "tenant_id": "t"}),
        ("az://container", {"use_emulator": "true"}),
    ],
)
def test_every_cloud_is_known_by_its_url(url, options):
    assert isinstance(open_bucket(url, options, probe=False), ObjectBlobs)


def test_a_folder_is_a_bucket_too(tmp_path):
    blobs = open_bucket(f"file://{tmp_path}/new", {})
    assert blobs.get(blobs.put(b"x")) == b"x"


def test_a_bucket_that_stops_answering_is_not_now():
    with s3.served() as server:
        blobs = open_bucket(server.make_bucket("here"), server.options, limits=QUICK)
        name = blobs.put(b"x")
    for ask in (
        lambda: blobs.get(name),
        lambda: blobs.has(name),
        lambda: blobs.put(b"y"),
        lambda: blobs.put_pieces(name, [b"x"]),
        lambda: list(blobs.pieces(name)),
        lambda: list(blobs.digests()),
        lambda: blobs.delete(name),
    ):
        with pytest.raises(NotNow, match="the object store does not answer") as caught:
            ask()
        assert "\n" not in str(caught.value)
