"""Reads what a run left behind – the hub's tables, the stored segments, the devices' folders – as plain evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import sqlalchemy as sa

from edgewise.edge.outbox import unpack
from edgewise.hub import Hub, audit
from edgewise.hub.store import rollouts, tables
from edgewise.hub.versions import version_of
from edgewise.policy import required_transform
from edgewise.signer import Desk
from edgewise.sim._evidence import DeviceEvidence, Evidence, Return, SegmentEvidence
from edgewise.sim._keeper import NearHub
from edgewise.sim._machine import Machine
from edgewise.sim._people import Operator
from edgewise.sim._world import NAME, use_case
from edgewise.trust.roles import parse, role_of
from edgewise.wire import DataPolicy, loads

LEDGER_MAX = 1_000_000


def gather(hub: Hub, machines: Sequence[Machine], operator: Operator, not_quiet: Sequence[str]) -> Evidence:
    """Everything that the checks look at."""
    policy = use_case().data
    checked = audit.verify(hub.store)
    with hub.store.read() as connection:
        found = rollouts.find(connection, use_case=NAME)
    # Without an earlier release there is nothing to return to: such a rollout is aborted and its devices stay.
    named = {row.release: row.previous for row in found if row.state in ("reverting", "reverted") and row.previous}
    bad = next((row for row in found if row.id == operator.rollout), None)
    return Evidence(
        devices=tuple(_device(machine) for machine in machines),
        segments=tuple(_segments(hub, policy)),
        rows=_rows(hub),
        fields=frozenset(policy.fields),
        released=_vouched(hub),
        reverted=frozenset(named),
        returns=tuple(item for machine in machines for item in _returns(machine, named)),
        audit_broken=checked.broken,
        audit_entries=checked.entries,
        bad_release=operator.release,
        bad_stopped_by="" if bad is None else f"{bad.state}: {bad.why}",
        not_quiet=tuple(not_quiet),
    )


def _vouched(hub: Hub) -> frozenset[str]:
    """The bundles that the published, verified metadata vouch for."""
    body = Desk(NearHub(hub)).document(role_of(NAME))
    targets = {} if body is None else parse(body, role_of(NAME)).signed.targets
    return frozenset(target.hashes["sha256"] for path, target in targets.items() if path.endswith("/manifest.json"))


def _device(machine: Machine) -> DeviceEvidence:
    device, witness = machine.device, machine.witness
    assert device is not None, f"{machine.name} is off after the run"
    machine.look_at_ledger(device, LEDGER_MAX)
    running, backlog = device.updater.running, device.outbox.backlog()
    return DeviceEvidence(
        name=machine.name,
        made=dict(witness.made),
        acked=frozenset(witness.acked),
        shed=sum(backlog.shed.values()),
        numbers=tuple(witness.numbers),
        bundle=running.bundle if running else None,
        release=running.release if running else None,
        whole=machine.slot_problem(),
        torn=tuple(witness.torn),
        offered_offline=witness.offered_offline,
        decided_offline=witness.decided_offline,
        waiting=backlog.records,
    )


def _returns(machine: Machine, named: Mapping[str, str]) -> list[Return]:
    """Where the device went from each release that was taken back, unless that was to something newer."""
    ran = [release for release, _ in machine.witness.ran]
    found = []
    for was_on, went_to in pairwise(ran):
        back = named.get(was_on or "")
        if was_on is None or back is None or version_of(went_to) > version_of(was_on):
            continue
        found.append(Return(device=machine.name, was_on=was_on, went_to=went_to or "nothing", named=back))
    return found


def _segments(hub: Hub, policy: DataPolicy) -> list[SegmentEvidence]:
    table = tables.segments
    statement = sa.select(table).where(table.c.refused_code.is_(None))
    statement = statement.order_by(table.c.device, table.c.epoch, table.c.number)
    found = []
    with hub.store.read() as connection:
        for row in connection.execute(statement).mappings():
            records = [loads(line) for line in unpack(row["body"])]
            samples = [record for record in records if record["kind"] == "sample"]
            needs = {required_transform(policy, sample["media_type"]) for sample in samples}
            found.append(
                SegmentEvidence(
                    device=row["device"],
                    number=row["number"],
                    transform=row["transform"],
                    needed="+".join(sorted(needs)) or "none",
                    ids=tuple(record["id"] for record in records),
                    facts=frozenset(name for sample in samples for name in sample.get("facts", {})),
                )
            )
    return found


def _rows(hub: Hub) -> dict[str, int]:
    """How many rows each record has in the tables, those that people imported apart."""
    counts: Counter[str] = Counter()
    with hub.store.read() as connection:
        for table in (tables.samples, tables.telemetry, tables.readings, tables.events, tables.feedback):
            statement = sa.select(table.c.id).where(table.c.device.is_not(None))
            counts.update(connection.execute(statement).scalars())
    return dict(counts)
