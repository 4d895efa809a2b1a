-- What was revoked, by a name: each revocation gives it another, whoever writes it. Random, so that a database that was
-- restored never has a name twice. That a session is deleted is no news to gateways.
CREATE TABLE revocation_version (version TEXT NOT NULL) STRICT;
INSERT INTO revocation_version VALUES (hex(randomblob(16)));

CREATE TRIGGER session_revoked AFTER UPDATE OF revoked_at ON sessions BEGIN
    UPDATE revocation_version SET version = hex(randomblob(16));
END;
CREATE TRIGGER api_key_revoked AFTER UPDATE OF revoked_at ON api_keys BEGIN
    UPDATE revocation_version SET version = hex(randomblob(16));
END;
