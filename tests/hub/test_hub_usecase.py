"""``usecase.yaml``: mistakes are named with their lines; versions are kept; the published schema is current."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise import wire
from edgewise.hub import read_usecase, usecase_schema, usecases
from edgewise.hub.store import tables
from edgewise.hub.store import usecases as rows
from edgewise.wire import NotValid, plain

SCHEMA = Path(wire.__file__).with_name("usecase.schema.json")
GOOD = """\
name: press
app: factory
outcome:
  goal: find pits
  labels: [good, pit]
people: {owner: ann, approver: bob, oversight: stop button}
sites:
  - name: north
"""


def test_the_published_schema_is_current():
    assert json.loads(SCHEMA.read_text()) == usecase_schema(), (
        f"write it again: python -c 'import json; from edgewise.hub import usecase_schema; "
        f"print(json.dumps(usecase_schema(), indent=2, ensure_ascii=False))' > {SCHEMA.name}"
    )


def test_the_schema_takes_what_the_reader_takes():
    jsonschema.Draft202012Validator.check_schema(usecase_schema())
    jsonschema.validate(yaml.safe_load(GOOD), usecase_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(GOOD + "colour: red\n"), usecase_schema())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("  goal: find pits\n", ""), ["line 3: outcome.goal: Field required"]),
        (("labels: [good, pit]", "labels: good"), ["line 5: outcome.labels: Input should be a valid"]),
        (("name: north", "nam: north"), ["line 8: sites.0.name: Field required", "line 8: sites.0.nam: Extra inputs"]),
        (("app: factory", "app: factory\ngate:\n  margin: 3"), ["line 4: gate.margin: ", "(seen 3)"]),
        (("app: factory", "app: factory\napp: shop"), ["line 3: app was given in line 2 already"]),
        (("app: factory", "app: [factory"), ["not YAML", "line "]),
        (("app: factory", "app: &a factory\nowner: *a"), ["line 3: an alias"]),
        (("  - name: north", "  - name: north\n  - name: north"), ["two sites share a name"]),
        (("app: factory", "rollout:\n  waves: [{devices: 1, percent: 3}]\napp: factory"), ["line 3: rollout.waves.0"]),
        (("press", "press\tx: 1\n"), ["not YAML"]),
        (
            (
                "app: factory",
                "app: factory\nslices:\n  - name: worn\n    conditions:\n      - {fact: lamp, op: eq, value: 1}",
            ),
            ["line 6: slices.0.conditions.0.fact: lamp may not travel", "add lamp there"],
        ),
        (
            ("app: factory", "slices: [{name: n, conditions: [{fact: hour, op: ge, value: 24}]}]\napp: factory"),
            ["line 2: slices.0.conditions.0.value: 24 is never the hour of a sample; give a number from 0 to 23"],
        ),
        (
            ("app: factory", "slices: [{name: n, conditions: [{fact: site, op: eq, value: south}]}]\napp: factory"),
            ["'south' is never the site of a sample; give one of north"],
        ),
        (
            (
                "app: factory",
                "data: {fields: [group]}\nslices: [{name: n, conditions: [{fact: hour, op: ge, value: 22}]},\n"
                "  {name: n, conditions: [{fact: frame, op: eq, value: x}]}]\napp: factory",
            ),
            ["has 3 mistakes", "line 3: slices.0", "comes from taken_at", "line 4: slices.1.name", "makes no slice"],
        ),
    ],
)
def test_every_mistake_is_named_with_its_line(change, expected):
    with pytest.raises(NotValid) as caught:
        read_usecase(GOOD.replace(*change), name="my.yaml")
    assert str(caught.value).startswith("my.yaml has ")
    for text in expected:
        assert text in str(caught.value)


def test_json_and_bytes_are_taken_too():
    usecase = read_usecase(GOOD)
    assert read_usecase(json.dumps(plain(usecase)).encode()) == usecase


@settings(max_examples=60, deadline=None, database=None)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=60), st.just("[" * 5000), st.just("a: " * 50)))
def test_any_other_text_is_refused_with_a_sentence(text):
    with pytest.raises(NotValid, match=r"usecase\.yaml has"):
        read_usecase(text)


def test_each_change_is_a_version_and_the_same_again_is_none(yard):
    usecase = yard.apply()
    yard.apply()
    changed = yard.apply(upload=usecase.upload.model_copy(update={"share_of_bytes": 0.5}))
    with yard.hub.store.read() as connection:
        assert [row.version for row in rows.versions(connection, "press")] == [1, 2]
        assert rows.newest(connection, "press").usecase == changed
    assert [row["action"] for row in yard.rows(tables.audit)].count("usecase.applied") == 2


def test_a_changed_policy_needs_a_new_version_and_never_an_older_one(yard):
    policy = yard.apply().data
    with pytest.raises(NotValid, match=r"raise data\.version"):
        yard.apply(data=policy.model_copy(update={"transforms": ("grey",)}))
    yard.apply(data=policy.model_copy(update={"transforms": ("grey",), "version": 2}))
    with pytest.raises(NotValid, match="versions only grow"):
        yard.apply(data=policy)


def test_what_was_sealed_under_the_older_policy_is_still_taken_under_its_rules(yard):
    device = yard.enrol("one")
    policy = yard.apply().data
    yard.apply(data=policy.model_copy(update={"transforms": ("strip-metadata", "grey"), "version": 2}))
    old = device.segment(1, device.sample(), policy_version=1, transform="strip-metadata")
    lying = device.segment(2, device.sample(), policy_version=2, transform="strip-metadata")
    new = device.segment(3, device.sample(), policy_version=2, transform="strip-metadata+grey")
    receipt = device.send(old, lying, new)
    assert (receipt.watermark, [refusal.number for refusal in receipt.refused]) == (3, [2])


def test_an_unknown_use_case_or_site_is_named_with_what_there_is(yard):
    with pytest.raises(NotValid, match="known: press"), yard.hub.store.read() as connection:
        usecases.need(connection, "pres")
    with pytest.raises(NotValid, match="it has north, south"):
        yard.token(site="west")
