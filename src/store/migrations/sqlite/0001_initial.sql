-- One schema for every database SPICE runs on: names are VARCHAR keys, everything structured is JSON text, ids are given
-- by the program. Tables of one role are never read by another.

CREATE TABLE checks_meta (name VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE checks_check (name VARCHAR(64) NOT NULL PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE checks_profile (name VARCHAR(64) NOT NULL PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE checks_pool (name VARCHAR(64) NOT NULL PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE checks_run (epoch BIGINT NOT NULL, run BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (epoch, run));
CREATE TABLE checks_batch (
    epoch BIGINT NOT NULL, run BIGINT NOT NULL, batch BIGINT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (epoch, run, batch)
);

CREATE TABLE nodes_meta (name VARCHAR(64) NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE nodes_node (name VARCHAR(255) NOT NULL PRIMARY KEY, body TEXT NOT NULL);
-- What distrust leaves behind when a node is deleted, for whoever registers under its name or identity.
CREATE TABLE nodes_tombstone (name VARCHAR(255) NOT NULL PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE nodes_result (
    id BIGINT NOT NULL PRIMARY KEY, node VARCHAR(255) NOT NULL, check_name VARCHAR(64) NOT NULL, stored_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX nodes_result_by_node ON nodes_result (node, id);
CREATE INDEX nodes_result_by_check ON nodes_result (check_name, id);
CREATE INDEX nodes_result_by_age ON nodes_result (stored_at);
-- The trust record: append-only, each row's hash covers the one before it.
CREATE TABLE nodes_record (
    seq BIGINT NOT NULL PRIMARY KEY, node VARCHAR(255) NOT NULL, at BIGINT NOT NULL, body TEXT NOT NULL, hash VARCHAR(64) NOT NULL
);
CREATE INDEX nodes_record_by_node ON nodes_record (node, seq);
-- Ids of work already done, so that a redelivery is done and not an attack.
CREATE TABLE nodes_seen (id VARCHAR(64) NOT NULL PRIMARY KEY, forget_at BIGINT NOT NULL);
CREATE INDEX nodes_seen_by_age ON nodes_seen (forget_at);
-- What must still be sent, written in the transaction that made it true.
CREATE TABLE nodes_outbox (id BIGINT NOT NULL PRIMARY KEY, lane VARCHAR(32) NOT NULL, body TEXT NOT NULL);
CREATE INDEX nodes_outbox_by_lane ON nodes_outbox (lane, id);
