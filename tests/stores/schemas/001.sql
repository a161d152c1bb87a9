-- What `.dump` printed of a store with schema 1.
PRAGMA application_id=1886550116;
PRAGMA user_version=1;
CREATE TABLE route (
    key TEXT PRIMARY KEY NOT NULL,
    members TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created REAL NOT NULL,
    last_activity REAL NOT NULL
);
INSERT INTO route VALUES('/a','{"target": "http://h:1", "x": [1]}',3,1000.0,1005.5);
INSERT INTO route VALUES('/ä ?','{"target": "http://h:2"}',5,1001.0,1001.0);
CREATE TABLE state (revision INTEGER NOT NULL);
INSERT INTO state VALUES(7);
