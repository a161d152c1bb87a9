"""Tests of `proxyd.stores.database` and `proxyd.stores.place`: what a file may be, and what may happen to it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import StoreError
from proxyd.stores.database import Database, connect, read_migrations
from proxyd.stores.place import file_system_of
from proxyd.testing.contracts import make_route
from tests.stores.test_sqlite import fresh_directory

SCHEMAS = Path(__file__).parent / "schemas"


class DatabaseCase(SynchronousTestCase):
    """A path in a fresh directory."""

    def setUp(self) -> None:
        self.directory = fresh_directory(self)
        self.path = self.directory / "routes.sqlite"

    def fill(self, count: int = 1) -> None:
        """Make a database of `count` routes, and close it."""
        with closing(Database(self.path)) as database:
            for each in database.commit([lambda it: it.replace([make_route(f"/r{n}") for n in range(count)], 5.0)]):
                self.assertIsInstance(each, list)

    def keys(self) -> list[object]:
        """What is in the file."""
        with closing(Database(self.path)) as database:
            return [row[0] for row in database.rows()]

    def assert_refused(self, words: str) -> None:
        """It cannot be opened, for this reason; every file is as it was, and nobody is kept from it."""
        before = self.contents()
        with self.assertRaises(StoreError) as caught:
            Database(self.path)
        self.assertIn(words, str(caught.exception))
        self.assertTrue(str(caught.exception).startswith(f"store {self.path}: "), str(caught.exception))
        self.assertEqual(self.contents(), before)

    def contents(self) -> dict[str, bytes]:
        """All files but the lock."""
        files = [path for path in self.directory.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
        return {path.name: path.read_bytes() for path in files}


class PlaceTests(DatabaseCase):
    """Where no database can be."""

    def test_a_directory(self) -> None:
        """In its place."""
        self.path.mkdir()
        self.assert_refused("is a directory")

    def test_something_that_is_no_file(self) -> None:
        """To open it could last for ever."""
        os.mkfifo(self.path)
        self.assert_refused("is not a file")

    def test_no_directory(self) -> None:
        """It may be that of a disk that is not mounted: it is not made."""
        self.path = self.directory / "sub" / "routes.sqlite"
        self.assert_refused(f"there is no directory {self.directory}/sub")

    def test_a_network_file_system(self) -> None:
        """Is found by the mount that the directory is on."""
        mounts = self.directory / "mounts"
        mounts.write_text(
            "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
            "23 22 0:40 / /home/my\\040files rw shared:1 master:2 - nfs4 server:/ rw\n"
            "24 22 0:41 / /mnt rw - cifs //server/x rw\n"
            "25 22 0:42 / /mnt rw - tmpfs tmpfs rw\n"
            "26 24 0:43 / /mnt/a rw - fuse.sshfs me@server: rw\n"
            "nonsense\n"
        )
        for directory, expected in (
            ("/home/my files/a/b", "nfs4"),
            ("/home/my files", "nfs4"),
            ("/home/my", "ext4"),
            ("/", "ext4"),
            ("/mnt", "tmpfs"),
            ("/mnt/ab", "tmpfs"),
            ("/mnt/a/b", "fuse.sshfs"),
        ):
            self.assertEqual(file_system_of(Path(directory), mounts), expected)
        self.assertEqual(file_system_of(Path("/mnt"), self.directory / "none"), "")
        self.patch(sys.modules["proxyd.stores.place"], "file_system_of", lambda _: "nfs4")
        self.assert_refused("is on a network file system (nfs4)")

    def test_what_is_not_ours(self) -> None:
        """Is not touched: other programs' databases, other files, and what a newer proxyd has written."""
        for content, words in ((b"", "is empty"), (b"routes: {}\n" * 100, "is not a SQLite database")):
            self.path.write_bytes(content)
            self.assert_refused(words)
        self.path.unlink()
        for mode in ("DELETE", "WAL"):
            for application in (0, 7):
                with closing(sqlite3.connect(self.path)) as other:
                    other.execute(f"PRAGMA application_id = {application}")
                    other.execute(f"PRAGMA journal_mode = {mode}")
                    other.execute("CREATE TABLE IF NOT EXISTS route (key TEXT)")
                self.assert_refused("is the database of another program")
        self.path.unlink()
        self.fill()
        with closing(connect(self.path)) as connection:
            connection.execute(f"PRAGMA user_version = {max(read_migrations()) + 1}")
        self.assert_refused("was written by a newer proxyd: schema 2, and this one knows 1")

    def test_a_database_that_is_in_use(self) -> None:
        """By another process, which is named, or by this one; whatever the name that leads to it."""
        link = self.directory / "link.sqlite"
        link.symlink_to(self.path)
        code = f"import sys; from proxyd.stores.database import *; Database(Path({str(link)!r})); print(); input()"
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with self.assertRaises(StoreError) as caught:
                Database(self.path)
            self.assertEqual(
                str(caught.exception), f"store {self.path}: is in use by another proxyd, process {other.pid}"
            )
            other.kill()
        with closing(Database(self.path)), self.assertRaises(StoreError):
            Database(self.path)
        self.assertEqual(self.keys(), [])

    def test_a_database_that_lost_its_main_file(self) -> None:
        """Is not begun anew on top of what is left of it, nor in the middle of a restore."""
        for suffix in ("-wal", "-journal", ".restored"):
            left = self.directory / f"routes.sqlite{suffix}"
            left.write_bytes(b"x")
            self.assert_refused(f"is missing, but its routes.sqlite{suffix} is there")
            left.unlink()

    def test_the_file_is_for_its_owner_only(self) -> None:
        """Routes may have secrets in their options."""
        with closing(Database(self.path)):
            for path in self.directory.iterdir():
                self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)

    def test_a_user_who_may_not_write(self) -> None:
        """Neither the file nor beside it; each is told at the start."""
        self.fill()
        (self.directory / "routes.sqlite.lock").unlink()
        code = (
            f"import os, sys; sys.path.insert(0, {str(Path.cwd())!r}); from proxyd.stores.database import *\n"
            f"migrations = read_migrations()\n"  # which nobody else may be able to read
            f"if os.getuid() == 0: os.setuid(65534)\n"
            f"try: Database(Path({str(self.path)!r}), migrations)\nexcept StoreError as error: print(error)\n"
        )
        self.path.chmod(0o444)
        for mode, words in (
            (0o555, "routes.sqlite.lock cannot be written: Permission denied"),
            (0o777, "cannot be opened: attempt to write a readonly database (SQLITE_READONLY)"),
        ):
            self.directory.chmod(mode)
            ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
            self.assertIn(words, ended.stdout)
            self.assertEqual(ended.stdout.count("\n"), 1)


class DamageTests(DatabaseCase):
    """A file that is not what it was."""

    def test_a_part_of_the_file(self) -> None:
        """Wherever it ends."""
        self.fill(2000)
        whole = self.path.read_bytes()
        for size in (99, 100, 1000, 4096, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
            self.path.write_bytes(whole[:size])
            self.assert_refused("is")

    def test_flipped_bits(self) -> None:
        """Wherever they are: either it is refused, or all that can be read is there."""
        self.fill(300)
        whole = self.path.read_bytes()
        refused = 0
        for place in range(0, len(whole), 97):
            for path in self.directory.iterdir():
                path.unlink()
            self.path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
            try:
                keys = self.keys()
            except StoreError:
                refused += 1
            else:
                self.assertGreaterEqual(len(keys), 299, place)
        self.assertGreater(refused, 20)

    def test_a_database_without_its_revision(self) -> None:
        """Does not begin at 0 again."""
        self.fill()
        with closing(connect(self.path)) as connection:
            connection.execute("DELETE FROM state")
        with self.assertRaises(StoreError):
            Database(self.path)


class DurabilityTests(DatabaseCase):
    """A commit is on the disk."""

    def test_the_log_is_synced_with_each_commit(self) -> None:
        """By the settings that SQLite promises it for; only a loss of power would tell."""
        for _ in range(2):
            with closing(Database(self.path)) as database:
                values = [
                    database._connection.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("journal_mode", "synchronous", "locking_mode")
                ]
                self.assertEqual(values, ["wal", 2, "normal"])


class FullDiskTests(DatabaseCase):
    """A disk without any room left."""

    def test_what_has_no_room_is_not_done(self) -> None:
        """Not a part of it; what has is done, and everything is as soon as there is room."""
        self.fill()
        with closing(Database(self.path)) as database:
            (pages,) = database._connection.execute("PRAGMA page_count").fetchone()
            database._connection.execute(f"PRAGMA max_page_count = {pages + 5}")
            large = [make_route(f"/large/{number}") for number in range(3000)]
            results = database.commit([
                lambda it: it.put(make_route("/a"), 1.0),
                lambda it: it.replace(large, 1.0),
                lambda it: it.delete("/r0"),
            ])  # fmt: skip
            self.assertEqual([isinstance(each, StoreError) for each in results], [False, True, False])
            self.assertIn("database or disk is full (SQLITE_FULL)", str(results[1]))
            self.assertEqual([row[0] for row in database.rows()], ["/a"])
            self.assertEqual(database.revision, 3)
            database._connection.execute("PRAGMA max_page_count = 100000")
            (changes,) = database.commit([lambda it: it.replace(large, 1.0)])
            assert isinstance(changes, list)
            self.assertEqual((len(changes), changes[-1].revision), (3001, 3004))


class MigrationTests(DatabaseCase):
    """Files of every schema that there was."""

    def test_every_older_file_is_brought_to_the_newest_schema(self) -> None:
        """With all that is in it; there is a file of each schema among the tests."""
        newest = max(read_migrations())
        self.assertEqual(sorted(read_migrations()), list(range(1, newest + 1)))
        self.assertEqual(
            [path.name for path in sorted(SCHEMAS.glob("*.sql"))], [f"{n:03d}.sql" for n in range(1, newest + 1)]
        )
        for schema in sorted(SCHEMAS.glob("*.sql")):
            self.path = self.directory / f"{schema.stem}.sqlite"
            with closing(sqlite3.connect(self.path)) as old:
                old.executescript(schema.read_text(encoding="utf-8"))
            with closing(Database(self.path)) as database:
                expected = [
                    ("/a", '{"target": "http://h:1", "x": [1]}', 3, 1000.0, 1005.5),
                    ("/ä ?", '{"target": "http://h:2"}', 5, 1001.0, 1001.0),
                ]
                self.assertEqual((database.rows(), database.revision), (expected, 7))
                self.assertEqual(database._connection.execute("PRAGMA user_version").fetchone(), (newest,))
                self.assertEqual(self.shape_of(database), self.shape_of_a_new_one())

    def shape_of(self, database: Database) -> list[tuple[object, ...]]:
        """Tables and columns."""
        return database._connection.execute(
            "SELECT m.name, c.name, c.type, c.pk, c.[notnull] FROM sqlite_master m, pragma_table_info(m.name) c"
            " WHERE m.type = 'table' ORDER BY 1, 2"
        ).fetchall()

    def shape_of_a_new_one(self) -> list[tuple[object, ...]]:
        """The same of a database that was just made."""
        with closing(Database(self.directory / f"new-{self.path.name}")) as database:
            return self.shape_of(database)

    def test_a_migration_that_fails_leaves_everything(self) -> None:
        """As it was, for the proxyd that it was for; one that does not is done once."""
        self.fill()
        column = "ALTER TABLE route ADD COLUMN note TEXT NOT NULL DEFAULT ''"
        bad = {**read_migrations(), 2: f"{column}; INSERT INTO nowhere VALUES (1)"}
        with self.assertRaises(StoreError) as caught:
            Database(self.path, bad)
        self.assertIn("no such table: nowhere", str(caught.exception))
        self.assertEqual(self.keys(), ["/r0"])
        for _ in range(2):
            with closing(Database(self.path, {**read_migrations(), 2: column})) as database:
                self.assertEqual(len(database.rows()), 1)
        shutil.copy(self.path, self.directory / "copy")
        self.assert_refused("was written by a newer proxyd")
