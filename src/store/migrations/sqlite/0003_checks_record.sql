-- Who changed which definition: append-only, each row's hash covers the one before it.

CREATE TABLE checks_record (
    seq BIGINT NOT NULL PRIMARY KEY, at BIGINT NOT NULL, body TEXT NOT NULL, hash VARCHAR(64) NOT NULL
);
