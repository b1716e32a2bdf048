-- Maintenance windows.

CREATE TABLE checks_window (name VARCHAR(64) NOT NULL PRIMARY KEY, body TEXT NOT NULL);
