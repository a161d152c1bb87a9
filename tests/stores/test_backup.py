"""Tests of `proxyd.stores.backup`; tests.integration.test_sqlite_store has the commands."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from proxyd.errors import StoreError
from proxyd.stores import backup
from proxyd.stores.backup import back_up, restore
from proxyd.stores.database import Database
from proxyd.testing.contracts import make_route
from tests.stores.test_database import DatabaseCase


class BackupTests(DatabaseCase):
    """A copy."""

    def setUp(self) -> None:
        super().setUp()
        self.copy = self.directory / "copy"

    def test_a_copy_while_it_is_written(self) -> None:
        """Has everything that was committed, is one file for its owner only, and leaves nothing beside it."""
        self.fill(10)
        with closing(Database(self.path)) as database:
            database.commit([lambda it: it.put(make_route("/new"), 1.0)])
            self.assertEqual(back_up(self.path, self.copy), 11)
            database.commit([lambda it: it.delete("/new")])
        self.assertEqual([path.name for path in self.directory.glob("copy*")], ["copy"])
        self.assertEqual(self.copy.stat().st_mode & 0o777, 0o600)
        self.path = self.copy
        self.assertEqual(len(self.keys()), 11)

    def test_what_cannot_be_copied(self) -> None:
        """No store, no place, a place that is taken: nothing is left, nothing is overwritten."""
        with self.assertRaises(StoreError):
            back_up(self.path, self.copy)
        self.fill()
        with self.assertRaises(StoreError):
            back_up(self.path, self.directory / "sub" / "copy")
        self.assertEqual([path.name for path in self.directory.glob("*copy*")], [])
        self.copy.write_text("mine")
        with self.assertRaises(StoreError):
            back_up(self.path, self.copy)
        self.assertEqual(self.copy.read_text(), "mine")

    def test_a_damaged_store_is_not_copied(self) -> None:
        """A back-up that cannot be restored is none."""
        self.fill(2000)
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[:8192] + bytes(4096) + whole[12288:])
        with self.assertRaises(StoreError):
            back_up(self.path, self.copy)
        self.assertEqual([path.name for path in self.directory.glob("*copy*")], [])


class RestoreTests(DatabaseCase):
    """A copy takes the place of the store."""

    def setUp(self) -> None:
        super().setUp()
        self.copy = self.directory / "copy"
        self.fill(3)
        back_up(self.path, self.copy)
        with closing(Database(self.path)) as database:
            database.commit([lambda it: it.delete("/r0")])

    def former(self) -> list[str]:
        return sorted(path.name for path in self.directory.glob("*before*"))

    def test_the_former_store_is_kept(self) -> None:
        """However often; it can be restored as well."""
        count, former = restore(self.path, self.copy)
        assert former is not None
        self.assertEqual((count, len(self.keys())), (3, 3))
        self.assertEqual(restore(self.path, former)[0], 2)
        self.assertEqual(restore(self.path, self.copy)[0], 3)
        self.assertEqual(len(self.former()), 3)

    def test_without_a_former_store(self) -> None:
        """On a new machine."""
        self.path.unlink()
        self.assertEqual(restore(self.path, self.copy), (3, None))
        self.assertEqual(len(self.keys()), 3)

    def test_a_damaged_store_is_replaced(self) -> None:
        """That is what back-ups are for."""
        self.path.write_bytes(b"")
        self.assertEqual(restore(self.path, self.copy)[0], 3)
        self.assertEqual(len(self.keys()), 3)

    def test_what_cannot_be_restored(self) -> None:
        """A file that is no store, or a damaged one, or while the store is in use: nothing changes."""
        whole = self.copy.read_bytes()
        for content in (b"", b"text", whole[:5000], whole[:4096] + bytes(len(whole) - 4096)):
            self.copy.write_bytes(content)
            with self.assertRaises(StoreError):
                restore(self.path, self.copy)
        with self.assertRaises(StoreError):
            restore(self.path, self.directory / "nothing")
        self.copy.write_bytes(whole)
        with closing(Database(self.path)), self.assertRaises(StoreError):
            restore(self.path, self.copy)
        self.assertEqual((self.keys(), self.former()), (["/r1", "/r2"], []))
        self.assertFalse((self.directory / "routes.sqlite.restored").exists())

    def test_an_end_in_the_middle(self) -> None:
        """No store without routes is begun; to restore again is all that it takes."""

        class Killed(BaseException):
            pass

        move_away = backup._move_away

        def killed(path: Path) -> None:
            move_away(path)
            raise Killed

        self.patch(backup, "_move_away", killed)
        with self.assertRaises(Killed):
            restore(self.path, self.copy)
        self.assert_refused("is missing, but its routes.sqlite.restored is there")
        self.patch(backup, "_move_away", move_away)
        self.assertEqual(restore(self.path, self.copy), (3, None))
        self.assertEqual((len(self.keys()), len(self.former())), (3, 1))
