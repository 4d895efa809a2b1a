-- Times are Unix seconds. Secrets are here as SHA-256 (keys, tokens) or Argon2id (passwords) only.

CREATE TABLE accounts (
    id            TEXT PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE,
    name          TEXT,
    password_hash TEXT NOT NULL,
    registered_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    started_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX sessions_by_account ON sessions (account_id);

-- A used token stays until its session goes, so that its reuse is recognised.
CREATE TABLE refresh_tokens (
    sha256     TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);

CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    sha256     TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;
CREATE INDEX api_keys_by_account ON api_keys (account_id, id);

CREATE TABLE apis (
    id           TEXT PRIMARY KEY,
    owner_id     TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name         TEXT NOT NULL UNIQUE,
    title        TEXT NOT NULL,
    description  TEXT NOT NULL,
    base_path    TEXT NOT NULL,
    published_at INTEGER NOT NULL
) STRICT;
CREATE INDEX apis_by_owner ON apis (owner_id);

-- No reference to accounts or apis: usage outlives both, and moves to another database one day.
CREATE TABLE daily_statistics (
    consumer_id TEXT NOT NULL,
    day         TEXT NOT NULL,
    api         TEXT NOT NULL,
    route       TEXT NOT NULL,
    status      INTEGER NOT NULL,
    requests    INTEGER NOT NULL,
    PRIMARY KEY (consumer_id, day, api, route, status)
) STRICT, WITHOUT ROWID;

CREATE TABLE signing_keys (
    kid        TEXT PRIMARY KEY,
    pem        TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
