"""PyAirbyte, a real client: check, discover and reads of a 4-shard branch into DuckDB."""
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

from tests.e2e.harness import CONNECTOR, BranchTest, closed_port, difference, sbtest_truth  # noqa: E402


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

        later = []
        for _ in range(20):
            result = source.read(cache=cache, write_strategy=WriteStrategy.APPEND)
            later.append(result.processed_records)
            if later[-1] == 0:
                break
        self.assertEqual(0, later[-1], "the stored state is not used, or the branch never became quiet")
        self.assertGreater(sum(later), 0, "no read brought the writes made meanwhile")

        truth = sbtest_truth(branch.stop())
        found = {("commerce", table): self.rows(cache, table) for table in ("sbtest1", "sbtest2")}
        self.assertEqual("", difference(found, truth))

    def test_a_failed_check_is_told_with_the_connectors_sentence(self):
        branch = self.branch(rows=1)
        source = self.source(branch.config(port=closed_port()))
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
