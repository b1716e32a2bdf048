-- The id of a result is where its row lies, so that it needs no index beside it, and results lie in the order in which they came: what is
-- too old is found at their beginning, and needs no index either.

CREATE TABLE nodes_history (
    id INTEGER PRIMARY KEY, node VARCHAR(255) NOT NULL, check_name VARCHAR(64) NOT NULL, stored_at BIGINT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO nodes_history (id, node, check_name, stored_at, body)
    SELECT id, node, check_name, stored_at, body FROM nodes_result ORDER BY id;
DROP TABLE nodes_result;
ALTER TABLE nodes_history RENAME TO nodes_result;
CREATE INDEX nodes_result_by_node ON nodes_result (node, id);
CREATE INDEX nodes_result_by_check ON nodes_result (check_name, id);
