-- Who is active in a role, until when by this database's clock, and under which epoch. A standby takes the row over when its time has run out.

CREATE TABLE role_lease (
    role VARCHAR(32) NOT NULL PRIMARY KEY, holder VARCHAR(255) NOT NULL, epoch BIGINT NOT NULL, expires_at BIGINT NOT NULL
);
INSERT INTO role_lease (role, holder, epoch, expires_at)
    SELECT 'checks', '', COALESCE(MAX(CAST(value AS DECIMAL)), 0), 0 FROM checks_meta WHERE name = 'epoch';
INSERT INTO role_lease (role, holder, epoch, expires_at)
    SELECT 'nodes', '', COALESCE(MAX(CAST(value AS DECIMAL)), 0), 0 FROM nodes_meta WHERE name = 'epoch';
DELETE FROM checks_meta WHERE name = 'epoch';
DELETE FROM nodes_meta WHERE name = 'epoch';

-- Every time somebody became active, and why the epoch is what it is. Append-only.
CREATE TABLE role_tenure (
    role VARCHAR(32) NOT NULL, epoch BIGINT NOT NULL, holder VARCHAR(255) NOT NULL, at BIGINT NOT NULL, cause VARCHAR(1024) NOT NULL,
    PRIMARY KEY (role, at, epoch)
);
