"""`hub.yaml`: flag over environment over file over default."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewise.hub.settings import load_settings
from edgewise.wire import NotValid

FILE = """
http_port: 1000
host: 0.0.0.0
oidc:
  issuer: https://login.example
  client_id: of-the-file
  rules: [{value: bosses, role: admin}]
"""


def test_each_source_wins_over_the_next_field_by_field(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text(FILE)
    (tmp_path / "secret").write_text("s3cret\n")
    environment = {
        "EDGEWISE_HTTP_PORT": "2000",
        "EDGEWISE_TICK_S": "0.5",
        "EDGEWISE_OIDC__CLIENT_ID": "of-the-environment",
        "EDGEWISE_OIDC__CLIENT_SECRET_FILE": str(tmp_path / "secret"),
        "EDGEWISE_OIDC__AUDIENCES": "[api, other]",
        "EDGEWISE_DATA": "not a setting of the hub",
        "EDGEWISE_TOKEN_FILE": "nor this",
    }
    found = load_settings(None, environment=environment, flags={"data_dir": tmp_path, "http_port": 3000, "host": None})
    assert (found.http_port, found.tick_s, found.host) == (3000, 0.5, "0.0.0.0")
    assert found.oidc is not None
    assert (found.oidc.client_id, found.oidc.issuer) == ("of-the-environment", "https://login.example")
    assert found.oidc.audiences == ("api", "other")
    assert found.oidc.client_secret is not None
    assert found.oidc.client_secret.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(found)


def test_without_a_file_there_are_defaults_and_no_issuer(tmp_path: Path) -> None:
    found = load_settings(None, environment={}, flags={"data_dir": tmp_path})
    assert (found.host, found.http_port, found.oidc) == ("127.0.0.1", 8080, None)


def test_options_of_the_object_store_come_from_file_and_environment_and_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text(
        "objects: s3://b/p\nobject_options: {endpoint: 'http://minio:9000', Region: eu, allow_http: true}\n"
    )
    (tmp_path / "secret").write_text("s3cret\n")
    environment = {
        "EDGEWISE_OBJECT_OPTIONS__REGION": "us",
        "EDGEWISE_OBJECT_OPTIONS__SECRET_ACCESS_KEY_FILE": str(tmp_path / "secret"),
        "EDGEWISE_OBJECT_OPTIONS__WEB_IDENTITY_TOKEN_FILE": "/run/token",
    }
    found = load_settings(None, environment=environment, flags={"data_dir": tmp_path})
    assert found.object_texts == {
        "endpoint": "http://minio:9000",
        "region": "us",
        "allow_http": "true",
        "secret_access_key": "s3cret",
        "web_identity_token_file": "/run/token",  # of obstore itself: it reads the file again when the token is renewed
    }
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour: red", "colour"),
        ("http_port: 99999", "http_port"),
        ("oidc: {issuer: https://x, client_id: c}", "rules"),
        ("oidc: {issuer: 'http://x', client_id: c, rules: [{value: a, role: admin}]}", "https://"),
        ("oidc: {issuer: https://x, client_id: c, algorithms: [none], rules: [{value: a, role: admin}]}", "algorithms"),
        (
            "oidc: {issuer: https://x, client_id: c, algorithms: [HS256], rules: [{value: a, role: admin}]}",
            "algorithms",
        ),
        ("oidc: {issuer: https://x, client_id: c, rules: [{value: a, role: worker}]}", "role"),
        ("object_options: [a]", "object_options"),
        ("object_options: {region: [a]}", "region"),
        ("- a list", "not a mapping"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, says: str) -> None:
    place = tmp_path / "hub.yaml"
    place.write_text(text)
    with pytest.raises(NotValid, match=says):
        load_settings(place, environment={})


def test_a_file_or_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotValid, match=r"missing\.yaml"):
        load_settings(tmp_path / "missing.yaml", environment={})
    with pytest.raises(NotValid, match="EDGEWISE_OIDC__CLIENT_SECRET_FILE"):
        load_settings(None, environment={"EDGEWISE_OIDC__CLIENT_SECRET_FILE": str(tmp_path / "none")})
