-- A route of the API: `members` is the JSON object that was posted; times count seconds since the epoch.
CREATE TABLE route (
    key TEXT PRIMARY KEY NOT NULL,
    members TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created REAL NOT NULL,
    last_activity REAL NOT NULL
);

-- One row: the revision of the last change, which may have been a deletion.
CREATE TABLE state (revision INTEGER NOT NULL);
INSERT INTO state VALUES (0);
