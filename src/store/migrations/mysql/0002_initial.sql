-- MariaDB's schema; versions are numbered as those of SQLite, which begins with 0001. A statement that defines tables commits by itself, so a
-- migration can die half-way: every statement in this folder must do no harm when it is executed again.
--
-- Names compare byte by byte, without padding; a TEXT would end at 64 KiB.

CREATE TABLE IF NOT EXISTS checks_meta (name VARCHAR(255) NOT NULL PRIMARY KEY, value LONGTEXT NOT NULL)
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS checks_check (name VARCHAR(255) NOT NULL PRIMARY KEY, body LONGTEXT NOT NULL)
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS checks_profile (name VARCHAR(255) NOT NULL PRIMARY KEY, body LONGTEXT NOT NULL)
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS checks_pool (name VARCHAR(255) NOT NULL PRIMARY KEY, body LONGTEXT NOT NULL)
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS checks_run (epoch BIGINT NOT NULL, run BIGINT NOT NULL, body LONGTEXT NOT NULL, PRIMARY KEY (epoch, run))
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS checks_batch (
    epoch BIGINT NOT NULL, run BIGINT NOT NULL, batch BIGINT NOT NULL, body LONGTEXT NOT NULL, PRIMARY KEY (epoch, run, batch)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS nodes_meta (name VARCHAR(255) NOT NULL PRIMARY KEY, value LONGTEXT NOT NULL)
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS nodes_node (name VARCHAR(255) NOT NULL PRIMARY KEY, body LONGTEXT NOT NULL)
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS nodes_tombstone (name VARCHAR(255) NOT NULL PRIMARY KEY, body LONGTEXT NOT NULL)
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS nodes_result (
    id BIGINT NOT NULL PRIMARY KEY, block BIGINT NOT NULL, node VARCHAR(255) NOT NULL, check_name VARCHAR(255) NOT NULL,
    stored_at BIGINT NOT NULL, body LONGTEXT NOT NULL, INDEX nodes_result_by_node (block, node),
    INDEX nodes_result_by_check (check_name, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS nodes_record (
    seq BIGINT NOT NULL PRIMARY KEY, node VARCHAR(255) NOT NULL, at BIGINT NOT NULL, body LONGTEXT NOT NULL, hash VARCHAR(64) NOT NULL,
    INDEX nodes_record_by_node (node, seq)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS nodes_seen (
    id VARCHAR(255) NOT NULL PRIMARY KEY, forget_at BIGINT NOT NULL, INDEX nodes_seen_by_age (forget_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE TABLE IF NOT EXISTS nodes_outbox (
    id BIGINT NOT NULL PRIMARY KEY, lane VARCHAR(32) NOT NULL, body LONGTEXT NOT NULL, INDEX nodes_outbox_by_lane (lane, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- The last transaction of each writer, written in that transaction: so a writer that lost its connection while it was committed finds out
-- whether it was.
CREATE TABLE IF NOT EXISTS spice_commit (writer VARCHAR(64) NOT NULL PRIMARY KEY, number BIGINT NOT NULL, at BIGINT NOT NULL)
    ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
