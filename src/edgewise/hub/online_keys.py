"""The hub's online keys, by what they sign; older ones are kept until the offline roles name them no longer."""

from __future__ import annotations

from edgewise.ports import Keys
from edgewise.trust import PrivateKey
from edgewise.trust.roles import SNAPSHOT, TIMESTAMP
from edgewise.wire import NotValid

ASSIGNMENT = "assignment"
NAMES = (SNAPSHOT, TIMESTAMP, ASSIGNMENT)
KEYS_MAX = 100  # of one name, one rotation each


class OnlineKeys:
    """Keys ``<name>-1``, ``<name>-2``, … of a keyring. Release, targets and root keys are never here (invariant 5)."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._held: dict[str, list[PrivateKey]] = {name: self._load(name) for name in NAMES}
        for name in NAMES:
            if not self._held[name]:
                self.make(name)

    def of(self, name: str) -> tuple[PrivateKey, ...]:
        """The keys that sign this, oldest first.

        Raises:
            NotValid: the hub signs no such thing.
        """
        if name not in self._held:
            raise NotValid(f"the hub signs no {name[:40]!r}; it signs {', '.join(NAMES)}", code="online_unknown")
        return tuple(self._held[name])

    def make(self, name: str) -> PrivateKey:
        """One more key. It signs once the offline roles name it.

        Raises:
            NotValid: the hub signs no such thing, or has too many keys of it.
        """
        count = len(self.of(name)) + 1
        if count > KEYS_MAX:
            raise NotValid(f"the hub has {KEYS_MAX} {name} keys already; remove old ones", code="keys_too_many")
        key = self._keys.create(f"{name}-{count}")
        self._held[name].append(key)
        return key

    def _load(self, name: str) -> list[PrivateKey]:
        found: list[PrivateKey] = []
        try:
            for count in range(1, KEYS_MAX + 1):
                found.append(self._keys.load(f"{name}-{count}"))
        except NotValid as error:
            if error.code != "key_missing":
                raise
        return found
