-- Who changed which definition: append-only, each row's hash covers the one before it.

CREATE TABLE IF NOT EXISTS checks_record (
    seq BIGINT NOT NULL PRIMARY KEY, at BIGINT NOT NULL, body LONGTEXT NOT NULL, hash VARCHAR(64) NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
