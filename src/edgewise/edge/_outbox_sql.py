"""The outbox's statements, each named after what it asks or does. SQL of the device stays in this one file.

What could tell of a person or a frame lies encrypted in its cell. ``seal(kind, row, bytes)`` and ``unseal(kind, row,
cell)`` do that (a damaged cell is NULL), bound to the kind and the row, so that cells cannot be moved; ``hide(digest)``
and ``show(name)`` turn a blob's digest into its keyed name and back. Everything outside sees plain values. In clear are
counts, sizes, classes, times and the opaque ids of records.
"""

from __future__ import annotations

FORMAT = 2
COUNTS = "counts"  # the one state in clear: `edge status` reads it without the key

SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
-- Sums are kept up to date by every change, so that a start never has to count the backlog.
CREATE TABLE totals (
    class INTEGER PRIMARY KEY,
    offered INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0, waiting_bytes INTEGER NOT NULL DEFAULT 0,
    sealed INTEGER NOT NULL DEFAULT 0, sealed_bytes INTEGER NOT NULL DEFAULT 0,
    shed INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0, stored INTEGER NOT NULL DEFAULT 0,
    erased INTEGER NOT NULL DEFAULT 0
);
-- Of a record about a frame: of whom the frame is, and when it was taken (Unix time). Also while the ledger remembers a
-- stored one: only this device can tell the hub which records are about a subject.
CREATE TABLE made (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, class INTEGER NOT NULL,
    made_at TEXT NOT NULL, fate TEXT NOT NULL, number INTEGER, subject BLOB, about_at REAL
);
CREATE INDEX made_by_number ON made (number) WHERE fate = 'sealed';
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, class INTEGER NOT NULL, spacing INTEGER NOT NULL, policy_version INTEGER NOT NULL,
    transform TEXT NOT NULL, body BLOB NOT NULL, blob BLOB, size_bytes INTEGER NOT NULL
);
CREATE INDEX records_by_class ON records (class, seq);
CREATE INDEX records_by_spacing ON records (class, spacing, seq);
CREATE TABLE segments (
    number INTEGER PRIMARY KEY, class INTEGER NOT NULL, header BLOB NOT NULL, payload BLOB NOT NULL,
    size_bytes INTEGER NOT NULL, count INTEGER NOT NULL
);
CREATE TABLE blobs (digest BLOB PRIMARY KEY, uses INTEGER NOT NULL) WITHOUT ROWID;
"""

ABOUT = "SELECT key, value FROM about"
ABOUT_OF = "SELECT value FROM about WHERE key = ?"
SET_ABOUT = "INSERT INTO about (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
RAISE_ABOUT = (
    "INSERT INTO about (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)"
)
STATE_OF = f"SELECT CASE key WHEN '{COUNTS}' THEN value ELSE unseal('state', key, value) END FROM state WHERE key = ?"
RAW_STATE_OF = "SELECT value FROM state WHERE key = ?"
COUNTS_OF = f"SELECT value FROM state WHERE key = '{COUNTS}'"
SET_STATE = (
    f"INSERT INTO state (key, value) VALUES (?1, CASE ?1 WHEN '{COUNTS}' THEN ?2 ELSE seal('state', ?1, ?2) END) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)

TOTALS = (
    "SELECT class, waiting, waiting_bytes, sealed, sealed_bytes, shed, refused, stored, erased FROM totals "
    "ORDER BY class"
)
HELD_BYTES = "SELECT coalesce(sum(waiting_bytes + sealed_bytes), 0) FROM totals WHERE class >= ?"
OFFER = "UPDATE totals SET offered = offered + 1 WHERE class = ? RETURNING offered"
MORE_WAIT = "UPDATE totals SET waiting = waiting + ?, waiting_bytes = waiting_bytes + ? WHERE class = ?"
MORE_SEALED = "UPDATE totals SET sealed = sealed + ?, sealed_bytes = sealed_bytes + ? WHERE class = ?"
MORE_SHED = "UPDATE totals SET shed = shed + ? WHERE class = ?"
MORE_ERASED = "UPDATE totals SET erased = erased + 1 WHERE class = ?"
MORE_DONE = "UPDATE totals SET stored = stored + ?, refused = refused + ? WHERE class = ?"
# Two look-ups in an index for each class, whatever the backlog is.
ENDS_OF_CLASSES = (
    "SELECT class, (SELECT min(seq) FROM records WHERE class = totals.class), "
    "(SELECT max(seq) FROM records WHERE class = totals.class) FROM totals WHERE waiting > 0"
)
LAST_WAITING_CLASS = "SELECT max(class) FROM totals WHERE waiting > 0"

IS_KNOWN = "SELECT 1 FROM made WHERE id = ?"
IS_HELD = "SELECT 1 FROM made WHERE id = ? AND fate <> 'shed'"
NOTE_MADE = (
    "INSERT INTO made (id, class, made_at, fate, subject, about_at) VALUES (?1, ?2, ?3, ?4, "
    "CASE ?4 WHEN 'waiting' THEN hide(?5) END, CASE ?4 WHEN 'waiting' THEN ?6 END)"
)
SET_FATE = "UPDATE made SET fate = ?, subject = NULL, about_at = NULL WHERE seq = ?"
SET_FATE_BY_ID = "UPDATE made SET fate = ?, number = NULL, subject = NULL, about_at = NULL WHERE id = ?"
SET_SEALED = "UPDATE made SET fate = 'sealed', number = ? WHERE seq = ?"
SET_DONE = "UPDATE made SET fate = ?, number = NULL WHERE number = ? AND fate = 'sealed'"
RENUMBER_MADE = "UPDATE made SET number = ? WHERE number = ? AND fate = 'sealed'"
FORGET_MADE = "DELETE FROM made WHERE seq <= (SELECT max(seq) FROM made) - ? AND fate NOT IN ('waiting', 'sealed')"
MADE = "SELECT id, class, made_at, fate FROM made ORDER BY seq DESC LIMIT ?"

ADD = (
    "INSERT INTO records (seq, class, spacing, policy_version, transform, body, blob, size_bytes) "
    "VALUES (?1, ?2, ?3, ?4, ?5, seal('record', ?1, ?6), hide(?7), ?8)"
)
THINNEST = "SELECT seq, spacing, size_bytes, show(blob) FROM records WHERE class = ? ORDER BY spacing, seq LIMIT 1"
OLDEST_OF_CLASS = (
    "SELECT seq, policy_version, transform, unseal('record', seq, body), show(blob), size_bytes FROM records "
    "WHERE class = ? ORDER BY seq LIMIT ?"
)
NEWEST_OF_CLASS = OLDEST_OF_CLASS.replace("ORDER BY seq", "ORDER BY seq DESC")
REMOVE = "DELETE FROM records WHERE seq = ?"
OLDEST_MADE = "SELECT min(made_at) FROM made WHERE fate IN ('waiting', 'sealed')"

SEAL = (
    "INSERT INTO segments (number, class, header, payload, size_bytes, count) "
    "VALUES (?1, ?2, seal('header', ?1, ?3), seal('payload', ?1, ?4), ?5, ?6)"
)
OPEN_SEGMENTS = "SELECT unseal('header', number, header) FROM segments ORDER BY number"
OPEN_BYTES = "SELECT count(*), coalesce(sum(size_bytes), 0) FROM segments"
PAYLOAD = "SELECT unseal('payload', number, payload) FROM segments WHERE number = ?"
SEGMENTS_UP_TO = (
    "SELECT number, class, unseal('header', number, header), size_bytes, count FROM segments "
    "WHERE number <= ? ORDER BY number"
)
ALL_SEGMENTS = (
    "SELECT number, class, unseal('header', number, header), unseal('payload', number, payload), size_bytes, count "
    "FROM segments ORDER BY number"
)
SEALED_CELLS = "SELECT number, header, payload FROM segments ORDER BY number"
RENUMBER = (
    "UPDATE segments SET number = ?1, header = seal('header', ?1, ?2), "
    "payload = seal('payload', ?1, unseal('payload', ?3, payload)) WHERE number = ?3"
)
RESEAL = (
    "UPDATE segments SET class = ?1, header = seal('header', ?6, ?2), payload = seal('payload', ?6, ?3), "
    "size_bytes = ?4, count = ?5 WHERE number = ?6"
)
DROP_SEGMENT = "DELETE FROM segments WHERE number = ?"

ABOUT_WHAT = (
    "SELECT seq, id, class, number FROM made WHERE fate = ?1 AND about_at BETWEEN ?3 AND ?4 "
    "AND (?2 IS NULL OR subject = hide(?2)) ORDER BY seq LIMIT ?5"
)
UNLINK = (
    "UPDATE made SET subject = NULL, about_at = NULL WHERE fate IN ('stored', 'refused') "
    "AND about_at BETWEEN ?2 AND ?3 AND (?1 IS NULL OR subject = hide(?1))"
)
# Everything that is held, for moving it to another outbox.
WAITING_WHOLE = (
    "SELECT r.seq, r.class, r.policy_version, r.transform, unseal('record', r.seq, r.body), show(m.subject), "
    "m.about_at FROM records r JOIN made m ON m.seq = r.seq WHERE r.seq > ? ORDER BY r.seq LIMIT ?"
)
ABOUT_OF_ID = "SELECT show(subject), about_at FROM made WHERE id = ?"
WAITING_CONTENT = "SELECT size_bytes, show(blob) FROM records WHERE seq = ?"
WAITS_FOR_BLOB = "SELECT 1 FROM records WHERE blob = hide(?) LIMIT 1"

USE_BLOB = "INSERT INTO blobs (digest, uses) VALUES (hide(?), 1) ON CONFLICT (digest) DO UPDATE SET uses = uses + 1"
FREE_BLOB = "UPDATE blobs SET uses = uses - 1 WHERE digest = hide(?)"
HAS_BLOB = "SELECT 1 FROM blobs WHERE digest = hide(?)"
BLOB_USES = "SELECT uses FROM blobs WHERE digest = hide(?)"
DROP_UNUSED_BLOBS = "DELETE FROM blobs WHERE uses <= 0 RETURNING show(digest)"
