"""PyAirbyte, a real client: check, discover and reads of a 4-shard branch into DuckDB."""
import datetime
import decimal
import json
import os
import pathlib
import tempfile
import unittest

# Before the import: no registry, no telemetry, log files that do not stay.
LOGS = tempfile.TemporaryDirectory(prefix="psource-pyairbyte-logs-")
os.environ.update(AIRBYTE_OFFLINE_MODE="1", DO_NOT_TRACK="1", AIRBYTE_LOGGING_ROOT=LOGS.name)

import airbyte  # noqa: E402
from airbyte import exceptions  # noqa: E402
from airbyte.strategies import WriteStrategy  # noqa: E402

from tests.e2e import all_types  # noqa: E402
from tests.e2e.harness import CONNECTOR, BranchTest, difference, sbtest_truth  # noqa: E402


class PyAirbyte(BranchTest):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="psource-pyairbyte-")
        self.addCleanup(self.folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        # It writes its files into the working folder.
        os.chdir(self.folder.name)

    def source(self, config):
        return airbyte.get_source("source-planetscale", config=config, local_executable=CONNECTOR.resolve())

    def rows(self, cache, table):
        """The rows of a table as a destination that deduplicates would hold them."""
        sql = (
            f"select id, k, c, pad from (select *, row_number() over (partition by id order by _ab_cdc_cursor desc) as n"
            f" from {table}) where n = 1 and _ab_cdc_deleted_at is null"
        )
        engine = cache.get_sql_engine()
        with engine.connect() as connection:
            found = connection.exec_driver_sql(sql.replace("from " + table, f"from {cache.schema_name}.{table}")).fetchall()
        engine.dispose()
        return {row[0]: {"id": row[0], "k": row[1], "c": row[2], "pad": row[3]} for row in found}

    def test_check_discover_and_reads_with_stored_state(self):
        branch = self.branch(["commerce:4"], tables=2, rows=2000, write_rate=2000, write_total=8000)
        source = self.source(branch.config())
        source.check()
        self.assertEqual({"sbtest1", "sbtest2"}, set(source.get_available_streams()))
        source.select_all_streams()
        cache = airbyte.DuckDBCache(db_path=pathlib.Path(self.folder.name) / "cache.duckdb")
        first = source.read(cache=cache, write_strategy=WriteStrategy.APPEND)
        self.assertGreater(first.processed_records, 3000)

        later = self.read_until_quiet_into(source, cache)
        self.assertGreater(sum(later), 0, "no read brought the writes made meanwhile")

        truth = sbtest_truth(branch.stop())
        found = {("commerce", table): self.rows(cache, table) for table in ("sbtest1", "sbtest2")}
        self.assertEqual("", difference(found, truth))

    def read_until_quiet_into(self, source, cache):
        """Reads until one brings nothing; how many records each brought."""
        counts = []
        for _ in range(30):
            counts.append(source.read(cache=cache, write_strategy=WriteStrategy.APPEND).processed_records)
            if counts[-1] == 0 and not any([branch.wait_until_quiet() for branch in self.branches]):
                return counts
        self.fail("the stored state is not used, or the branch never became quiet")

    def typed_rows(self, cache):
        """all_types as a destination that deduplicates would hold it, {id: {column: value}}; and how many deletes came."""
        columns = list(all_types.COLUMNS)
        table = f"{cache.schema_name}.all_types"
        newest = (
            f"select {', '.join(columns)} from (select *, row_number() over (partition by id order by _ab_cdc_cursor desc) as n"
            f" from {table}) where n = 1 and _ab_cdc_deleted_at is null"
        )
        engine = cache.get_sql_engine()
        with engine.connect() as connection:
            rows = connection.exec_driver_sql(newest).fetchall()
            deletes = connection.exec_driver_sql(f"select count(*) from {table} where _ab_cdc_deleted_at is not null").scalar()
        engine.dispose()
        return {row[0]: dict(zip(columns, row)) for row in rows}, deletes

    def assert_stored(self, column, found, wanted):
        """A value in DuckDB: decimals have 9 places there and passed through floats, lists and times are its own."""
        if wanted is None or wanted is all_types.NULLED:
            self.assertIsNone(found, column)
        elif isinstance(wanted, (float, decimal.Decimal)):
            wanted = float(wanted)
            self.assertAlmostEqual(0, float(found) - wanted, delta=max(1e-6, abs(wanted) * 1e-6), msg=column)
        elif isinstance(wanted, list):
            self.assertEqual(wanted, [float(v) for v in (json.loads(found) if isinstance(found, str) else found)], column)
        elif isinstance(found, datetime.datetime):
            if found.tzinfo is not None:
                found = found.astimezone(datetime.timezone.utc).replace(tzinfo=None)
            self.assertEqual(wanted.rstrip("Z"), found.isoformat(timespec="microseconds"), column)
        elif isinstance(found, datetime.date):
            self.assertEqual(wanted, found.isoformat(), column)
        elif isinstance(found, datetime.time):
            self.assertEqual(wanted, found.replace(tzinfo=None).isoformat(timespec="microseconds"), column)
        else:
            self.assertEqual(wanted, int(found) if isinstance(found, decimal.Decimal) else found, column)

    def test_every_type_within_what_it_can_hold(self):
        """A copy, then changes with deletes from the stored state; the rows equal the truth, type by type."""
        branch = self.branch(["commerce:4"], rows=200, options=["--portable-types"], write_burst=1500)
        source = self.source(branch.config())
        source.select_streams(["all_types"])
        cache = airbyte.DuckDBCache(db_path=pathlib.Path(self.folder.name) / "cache.duckdb")
        copied = source.read(cache=cache, write_strategy=WriteStrategy.APPEND)
        self.assertEqual(200, copied.processed_records)
        branch.burst()
        counts = self.read_until_quiet_into(source, cache)
        self.assertGreater(sum(counts), 200)
        stored, deletes = self.typed_rows(cache)
        self.assertGreater(deletes, 20)
        truth = {int(line["row"]["id"]): line["row"] for line in branch.stop() if line["table"] == "all_types"}
        self.assertEqual(set(truth), set(stored))
        for key, row in truth.items():
            for column, value in row.items():
                self.assert_stored(column, stored[key][column], all_types.expected(column, value))

    def test_a_failed_check_is_told_with_the_connectors_sentence(self):
        branch = self.branch(rows=1)
        source = self.source(branch.config(port=self.closed_port()))
        with self.assertRaises(exceptions.AirbyteConnectorCheckFailedError) as raised:
            source.check()
        self.assertIn("port", str(raised.exception))

    def test_a_failed_read_raises(self):
        branch = self.branch(rows=10)
        source = self.source(branch.config())
        source.select_all_streams()
        cache = airbyte.DuckDBCache(db_path=pathlib.Path(self.folder.name) / "cache.duckdb")
        branch.stop()
        with self.assertRaises(exceptions.AirbyteConnectorFailedError):
            source.read(cache=cache, write_strategy=WriteStrategy.APPEND)


if __name__ == "__main__":
    unittest.main()
