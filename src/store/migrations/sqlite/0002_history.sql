-- The id of a result is where its row lies, so that it needs no index beside it, and results lie in the order in which they came: what is
-- too old is found at their beginning, and needs no index either.
--
-- A block is a stretch of 65536 results in that order. The index by node begins anew in each: results are written for many nodes at once,
-- and would each touch another page of an index over all of history, but few of the small part that is a block's.

CREATE TABLE nodes_history (
    id INTEGER PRIMARY KEY, block BIGINT NOT NULL, node VARCHAR(255) NOT NULL, check_name VARCHAR(64) NOT NULL,
    stored_at BIGINT NOT NULL, body TEXT NOT NULL
);
INSERT INTO nodes_history (id, block, node, check_name, stored_at, body)
    SELECT id, id / 65536, node, check_name, stored_at, body FROM nodes_result ORDER BY id;
DROP TABLE nodes_result;
ALTER TABLE nodes_history RENAME TO nodes_result;
CREATE INDEX nodes_result_by_node ON nodes_result (block, node);
CREATE INDEX nodes_result_by_check ON nodes_result (check_name, id);
