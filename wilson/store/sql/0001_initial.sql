-- Times are RFC 3339 in UTC; lists and objects inside a column are JSON.

CREATE TABLE conversations (
    id          TEXT PRIMARY KEY,
    workspace   TEXT NOT NULL,
    title       TEXT NOT NULL DEFAULT '',
    created_at  TEXT NOT NULL,
    updated_at  TEXT NOT NULL
) STRICT;

CREATE INDEX conversations_by_workspace ON conversations (workspace, updated_at DESC);

-- Every message as it is sent to the model, byte for byte, so that the next request begins with the same bytes.
CREATE TABLE messages (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation  TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    role          TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content       TEXT NOT NULL,
    shown         TEXT,              -- what the user typed, where more than that is sent; '' hides the message
    tool_calls    TEXT NOT NULL DEFAULT '[]',
    tool_call_id  TEXT,
    tool_name     TEXT,
    at            TEXT NOT NULL
) STRICT;

CREATE INDEX messages_by_conversation ON messages (conversation, number);

CREATE TABLE tasks (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,
    key              TEXT UNIQUE,    -- of whoever asked, so that asking twice makes one task
    goal             TEXT NOT NULL,
    title            TEXT NOT NULL,
    type             TEXT NOT NULL CHECK (type IN ('research', 'code', 'test', 'review', 'analysis', 'general')),
    state            TEXT NOT NULL CHECK (state IN ('new', 'ready', 'assigned', 'in_progress', 'in_review', 'blocked',
                                                    'done', 'failed')),
    outcome_reason   TEXT CHECK (outcome_reason IN ('error', 'cancelled', 'interrupted', 'timeout', 'rejected')),
    agent            TEXT NOT NULL,
    attempt          INTEGER NOT NULL DEFAULT 0,
    priority         INTEGER NOT NULL DEFAULT 0,
    parent           INTEGER REFERENCES tasks (number),
    conversation     TEXT REFERENCES conversations (id) ON DELETE SET NULL,
    model_requested  TEXT,
    model_used       TEXT,
    endpoint         TEXT,
    used_fallback    INTEGER NOT NULL DEFAULT 0,
    tier             TEXT NOT NULL DEFAULT 'local',
    progress         REAL NOT NULL DEFAULT 0,
    message          TEXT NOT NULL DEFAULT '',
    error_kind       TEXT,           -- the name of the error that a task failed with, if it was one
    result           TEXT,
    unseen           INTEGER NOT NULL DEFAULT 0, -- interrupted, and no window has said so yet
    prompt_tokens    INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    cost_usd         REAL NOT NULL DEFAULT 0,
    cost_seconds     REAL NOT NULL DEFAULT 0,
    created_at       TEXT NOT NULL,
    started_at       TEXT,
    completed_at     TEXT,
    CHECK ((state = 'failed') = (outcome_reason IS NOT NULL))
) STRICT;

CREATE INDEX tasks_by_state ON tasks (state, priority DESC, number);
CREATE INDEX tasks_by_parent ON tasks (parent) WHERE parent IS NOT NULL;

CREATE TABLE dependencies (
    task   INTEGER NOT NULL REFERENCES tasks (number) ON DELETE CASCADE,
    needs  INTEGER NOT NULL REFERENCES tasks (number),
    PRIMARY KEY (task, needs)
) STRICT, WITHOUT ROWID;

CREATE INDEX dependencies_by_need ON dependencies (needs);

CREATE TABLE steps (
    task          INTEGER NOT NULL REFERENCES tasks (number) ON DELETE CASCADE,
    attempt       INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    name          TEXT NOT NULL,
    description   TEXT NOT NULL,
    state         TEXT NOT NULL CHECK (state IN ('pending', 'in_progress', 'passed', 'failed', 'skipped')),
    started_at    TEXT,
    completed_at  TEXT,
    output        TEXT,
    error         TEXT,
    PRIMARY KEY (task, attempt, number)
) STRICT, WITHOUT ROWID;

-- The history: one row for every change of state, written in the same transaction as the change.
CREATE TABLE moves (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    task        INTEGER NOT NULL REFERENCES tasks (number) ON DELETE CASCADE,
    attempt     INTEGER NOT NULL,
    move        TEXT NOT NULL,
    from_state  TEXT NOT NULL,
    to_state    TEXT NOT NULL,
    reason      TEXT,
    message     TEXT NOT NULL DEFAULT '',
    at          TEXT NOT NULL
) STRICT;

CREATE INDEX moves_by_task ON moves (task, number);

CREATE TABLE artifacts (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    task     INTEGER NOT NULL REFERENCES tasks (number) ON DELETE CASCADE,
    attempt  INTEGER NOT NULL,
    kind     TEXT NOT NULL CHECK (kind IN ('file', 'answer', 'raw_answer')),
    path     TEXT,
    size     INTEGER NOT NULL,
    sha256   TEXT NOT NULL,
    content  TEXT NOT NULL,
    at       TEXT NOT NULL
) STRICT;

CREATE INDEX artifacts_by_task ON artifacts (task, attempt, number);

CREATE TABLE reviews (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    task      INTEGER NOT NULL REFERENCES tasks (number) ON DELETE CASCADE,
    attempt   INTEGER NOT NULL,
    type      TEXT NOT NULL CHECK (type IN ('code_review', 'security_review', 'quality_review')),
    verdict   TEXT NOT NULL CHECK (verdict IN ('pending', 'approved', 'needs_changes', 'rejected')),
    reviewer  TEXT NOT NULL,
    findings  TEXT NOT NULL DEFAULT '[]',
    at        TEXT NOT NULL
) STRICT;

CREATE INDEX reviews_by_task ON reviews (task, number);

CREATE TABLE communications (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    task       INTEGER REFERENCES tasks (number) ON DELETE CASCADE,
    sender     TEXT NOT NULL,
    recipient  TEXT NOT NULL,
    type       TEXT NOT NULL CHECK (type IN ('question', 'response', 'notification', 'handoff')),
    content    TEXT NOT NULL,
    at         TEXT NOT NULL
) STRICT;

CREATE INDEX communications_by_task ON communications (task, number);
