"""Records of what happened here, as far as the policy lets them leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from edgewise.edge._period import Item, Urgent
from edgewise.edge.outbox import Entry
from edgewise.edge.private import Chosen, event_id, private_entry
from edgewise.edge.ring import Ring
from edgewise.frames import masked
from edgewise.policy import frame_name, hide_words, may_leave, subject_hash
from edgewise.wire import AnyRecord, DataPolicy, Event, Feedback, NotValid, RecordClass


class PrivateRecords:
    """Makes outbox entries, each with the policy it was made under; it holds and stores nothing.

    Args:
        ring: the frames' bytes.
        name_key: hides names and values that may not travel.
        subject_key: hides subjects.
    """

    def __init__(
        self, ring: Ring, *, device: str, site: str, policy: DataPolicy, name_key: bytes, subject_key: bytes
    ) -> None:
        self._ring = ring
        self._device = device
        self._site = site
        self._policy = policy
        self._name_key = name_key
        self._subject_key = subject_key
        # Remembered: an erasure asks for each of some thousand recent frames, which are about few subjects.
        self._hidden = lru_cache(maxsize=4096)(lambda subject: subject_hash(subject, subject_key))

    def hidden(self, subject: str) -> str:
        """The keyed hash of a subject's id, as it stands in erasures."""
        return self._hidden(subject)

    def may_leave(self, kind: str) -> bool:
        """Whether the policy lets this kind of record leave."""
        try:
            may_leave(self._policy, kind)
        except NotValid:
            return False
        return True

    def plain(self, record_class: RecordClass, record: AnyRecord) -> Entry:
        """The entry of a record about no frame."""
        return Entry(record=record, record_class=record_class, policy_version=self._policy.version)

    def sample(self, item: Item, why: str, probability: float, now: datetime) -> Entry:
        """The entry of a frame itself.

        What a second bundle said goes with it only where nothing but chance chose the frame among the pairs, and once:
        a choice by margin, novelty, alarm or an operator's word would speak for one of the two.

        Raises:
            NotValid: the frame is no longer in memory, may not leave, or cannot be made private.
        """
        frame = self._ring.get(item.name)
        if frame is None:
            raise NotValid("the frame is no longer in memory", code="ring_passed")
        pair = item.shadow if why == "disagreement" or (why == "audit" and not item.pair_told) else None
        chosen = Chosen(
            frame=frame,
            why=why,  # type: ignore[arg-type]
            inclusion_probability=probability,
            decision=item.decision.record(),
            shadow=pair.record() if pair is not None else None,
            rollout=item.rollout if pair is not None else None,
        )
        item.pair_told = item.pair_told or pair is not None
        return private_entry(
            chosen,
            policy=self._policy,
            device=self._device,
            site=self._site,
            name_key=self._name_key,
            subject_key=self._subject_key,
            now=now,
        )

    def alarm(self, urgent: Urgent) -> Entry:
        """The entry of an alarm's event."""
        item = urgent.item
        decision = item.decision
        data: dict[str, Any] = {"label": decision.label, "release": decision.release, "defect": decision.defect}
        if decision.stated is not None:
            data["stated"] = list(decision.stated)
        # Decided again after a crash, it is the same alarm.
        name = event_id(self._device, "alarm", frame_name(self._policy, item.name, self._name_key))
        record = Event(id=name, at=urgent.at, what="alarm", text=self._words(urgent)[:500], data=data)
        return self._about(item, self.plain("alarm", record), urgent.at)

    def _words(self, urgent: Urgent) -> str:
        """The app's words about a frame, as far as they may travel."""
        frame = self._ring.get(urgent.item.name)
        group, facts = (frame.group, frame.facts) if frame is not None else ("", {})
        return masked(hide_words(self._policy, urgent.text[:2000], frame=urgent.item.name, group=group, facts=facts))

    def feedback(
        self,
        item: Item | None,
        frame: str,
        now: datetime,
        record_id: str,
        *,
        verdict: str,
        label: str | None,
        note: str,
    ) -> Entry:
        """The entry of an operator's word.

        Args:
            item: what was decided on the frame, as far as that is remembered.
        Raises:
            NotValid: the policy lets no feedback leave, or the verdict is not one.
        """
        may_leave(self._policy, "feedback")
        record = Feedback.model_validate(
            {
                "id": record_id,
                "frame": frame_name(self._policy, frame, self._name_key),
                "site": self._site,
                "given_at": now,
                "verdict": verdict,
                "label": label,
                "note": masked(note[:2000]),
            }
        )
        return self._about(item, self.plain("feedback", record), now)

    def _about(self, item: Item | None, entry: Entry, now: datetime) -> Entry:
        """The entry, with whom and when it is about, as far as that is known."""
        if item is None:
            return replace(entry, about_at=now)
        return replace(entry, subject=self.hidden(item.subject), about_at=item.taken_at or now)
