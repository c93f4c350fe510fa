"""Errors as users meet them: each text of Vitess and PlanetScale that is known, said by a branch, and the message that the
user reads in the end: what happened, where, and what to do.

Faults without a text (purged binary logs, positions of another server, tablet types that no shard has, tables that are
gone) are in test_failover, test_state, test_check and test_errors; broken connections in test_faults."""
import ast
import unittest

from tests.e2e.faults import FaultTest
from tests.e2e.harness import RECORDINGS, configure, stream_of

REFRESH = (
    ' Use "Refresh and remove records" for this stream, or set invalid_cdc_cursor_position_behavior to "Re-sync data".'
)
GIVEN_UP = " Given up after 1 attempt without progress; the next sync goes on from the last state."
TABLET = "target: commerce.-80.primary: vttablet: rpc error: code = Unknown desc = "
COLUMNS = (
    "Vitess cannot match older changes on commerce/-80 with the present columns of {}. --track-schema-versions of vttablet"
    " prevents this." + REFRESH
)
GONE = "The shard commerce/-80 no longer exists: the keyspace was resharded and the old shard removed."

# Status, the server's words, the phase, the failure_type, the message.
CASES = [
    (
        "UNAUTHENTICATED",
        "username and password must be provided",
        "copy",
        "config_error",
        "The server refused the user name or password for commerce/-80 (username and password must be provided). Check"
        " `username` and `password`, and that they may read this branch.",
    ),
    (
        "PERMISSION_DENIED",
        "auth failure: caller provided invalid credentials",
        "binlog",
        "config_error",
        "The server refused the user name or password for commerce/-80 (auth failure: caller provided invalid credentials)."
        " Check `username` and `password`, and that they may read this branch.",
    ),
    (
        "UNIMPLEMENTED",
        "unknown service vtgateservice.Vitess",
        "copy",
        "config_error",
        "The server at this host and port does not offer VStream. Check `host` and `port` (vtgate's gRPC port), and that the"
        " branch has VStream enabled.",
    ),
    (
        "RESOURCE_EXHAUSTED",
        "grpc: trying to send message larger than max (167772160 vs. 16777216)",
        "copy",
        "config_error",
        "A response of commerce/-80 is larger than the connector or the server allows (grpc: trying to send message larger than"
        " max (167772160 vs. 16777216)). A single row of this size cannot be read. Raise --grpc-max-message-size of vtgate and"
        " vttablet if that is the limit, or deselect the table.",
    ),
    (
        "UNKNOWN",
        TABLET + "Cannot replicate because the source purged required binary logs. (errno 1236) (sqlstate HY000)",
        "binlog",
        "config_error",
        "The binary logs that the saved position of commerce/-80 needs were purged." + REFRESH,
    ),
    (
        "UNKNOWN",
        TABLET + "Cannot replicate because the master purged required binary logs",
        "binlog",
        "config_error",
        "The binary logs that the saved position of commerce/-80 needs were purged." + REFRESH,
    ),
    (
        "UNKNOWN",
        TABLET + "stream ended (errno 1789) (sqlstate HY000)",
        "binlog",
        "config_error",
        "The binary logs that the saved position of commerce/-80 needs were purged." + REFRESH,
    ),
    (
        "INVALID_ARGUMENT",
        "GTIDSet Mismatch: requested source position:16cec08d-f91b-11ee-8afb-aacaf4984ae5:1-99, current target vrep position: 1-10",
        "binlog",
        "transient_error",
        "The primary tablet of commerce/-80 has not executed all of the position that the stream starts from: it lags behind, or"
        ' the position was lost in a failover. If this stays, use "Refresh and remove records" for the stream.' + GIVEN_UP,
    ),
    (
        "CANCELLED",
        "failed to find a PRIMARY tablet for VStream in commerce/-80 within the zone1 cell(s): context has expired",
        "copy",
        "transient_error",
        "No primary tablet of commerce/-80 could serve the stream. The shard may be failing over; if this stays, check `cells`."
        + GIVEN_UP,
    ),
    (
        "CANCELLED",
        "failed to find a PRIMARY tablet for VStream in commerce/-80 within the zone1 cell(s): context has expired",
        "binlog",
        "transient_error",
        "No primary tablet of commerce/-80 could serve the stream. The shard may be failing over; if this stays, check `cells`; or the"
        " saved position can no longer be read there." + GIVEN_UP,
    ),
    (
        "FAILED_PRECONDITION",
        "failed to determine if keyspace commerce has been resharded: shard provided in VGTID, -80, not found in the commerce"
        " keyspace",
        "binlog",
        "config_error",
        GONE + REFRESH,
    ),
    (
        "UNKNOWN",
        TABLET + "table sbtest1 is not present in the database",
        "copy",
        "config_error",
        "The table commerce.sbtest1 does not exist on commerce/-80. Refresh the connection's schema and deselect it.",
    ),
    (
        "UNKNOWN",
        TABLET + "cannot use column names in vstream filter with a table that has changed",
        "binlog",
        "config_error",
        COLUMNS.format("the table"),
    ),
    ("UNKNOWN", TABLET + "column k2 not found in table sbtest1", "binlog", "config_error", COLUMNS.format("commerce.sbtest1")),
    (
        "UNKNOWN",
        TABLET + "cannot determine table columns for sbtest1: event has [8 8 254 254 8], schema has [id k c pad]",
        "binlog",
        "config_error",
        COLUMNS.format("commerce.sbtest1"),
    ),
    ("UNKNOWN", TABLET + "unknown table sbtest1 in schema", "binlog", "config_error", COLUMNS.format("commerce.sbtest1")),
    (
        "UNKNOWN",
        TABLET + "Query was empty (errno 1065) (sqlstate 42000): failed to build table replication plan for table sbtest1",
        "binlog",
        "config_error",
        COLUMNS.format("commerce.sbtest1"),
    ),
    (
        "UNKNOWN",
        TABLET + "in Engine.reload(), reading table sbtest1: failed to reload schema after DDL encountered in stream",
        "binlog",
        "transient_error",
        "The server was reloading the schema of commerce/-80 after a DDL." + GIVEN_UP,
    ),
    (
        "UNKNOWN",
        TABLET + "Query execution was interrupted, maximum statement execution time exceeded (errno 3024) (sqlstate HY000)",
        "copy",
        "transient_error",
        "The server ended the copy query of commerce/-80 at its time limit." + GIVEN_UP,
    ),
    (
        "CANCELLED",
        "timed out while waiting for skew to reduce",
        "binlog",
        "transient_error",
        "The stream of commerce/-80 ended with: timed out while waiting for skew to reduce." + GIVEN_UP,
    ),
    (
        "UNAVAILABLE",
        "vstream failed liveness checks as there was no activity, including heartbeats, within the last 10m0s",
        "binlog",
        "transient_error",
        "The connection of commerce/-80 broke (vstream failed liveness checks as there was no activity, including heartbeats,"
        " within the last 10m0s)." + GIVEN_UP,
    ),
    (
        "INTERNAL",
        "vstream has been fully throttled for 10m0s, giving up",
        "binlog",
        "transient_error",
        "The stream of commerce/-80 ended with: vstream has been fully throttled for 10m0s, giving up." + GIVEN_UP,
    ),
    (
        "UNAVAILABLE",
        "no healthy tablet available for 'keyspace:\"commerce\" shard:\"-80\" tablet_type:PRIMARY'",
        "copy",
        "transient_error",
        "The connection of commerce/-80 broke (no healthy tablet available for 'keyspace:\"commerce\" shard:\"-80\""
        " tablet_type:PRIMARY')." + GIVEN_UP,
    ),
    (
        "UNKNOWN",
        TABLET + "something that no one has seen yet",
        "copy",
        "transient_error",
        "The stream of commerce/-80 ended with: " + TABLET + "something that no one has seen yet." + GIVEN_UP,
    ),
]


def recorded(name):
    """(status, text) at the end of a recorded error of a real Vitess."""
    text = (RECORDINGS / "errors" / f"{name}.txt").read_text(encoding="utf-8")
    return ast.literal_eval(text.split("# end: ", 1)[1].split("\n", 1)[0])


# The same for recorded errors; they tell of keyspaces and tables of their own.
RECORDED = [
    (
        "bad_gtid",
        "binlog",
        "config_error",
        "The server does not understand the saved position of commerce/-80." + REFRESH,
    ),
    ("old_shard_deleted", "binlog", "config_error", GONE + REFRESH),
    (
        "no_keyspace",
        "copy",
        "config_error",
        'The branch has no keyspace "commerce". Check `database`.',
    ),
    (
        "missing_table_copy",
        "copy",
        "config_error",
        "The table commerce.nosuch does not exist on commerce/-80. Refresh the connection's schema and deselect it.",
    ),
    (
        "lastpk_no_fields",
        "copy",
        "transient_error",
        "The server refuses to resume a copy on commerce/-80: the primary key has changed. The next sync starts the copy over.",
    ),
]


class FinalMessages(FaultTest):
    def read_against(self, status, text, phase, repeat=20):
        """The transcript of a read whose stream of the shard -80 ends with the error each time."""
        fault = {"do": "status", "code": status, "message": text, "phase": phase, "shard": "-80", "repeat": repeat}
        branch = self.faulty([{**fault, "on_signal": phase == "binlog"}], ["commerce:2"], rows=60)
        connector = self.connector(branch.config(max_retries=0))
        configured = configure(connector.catalog)
        state = None
        if phase == "binlog":
            state = connector.read(configured).state_file()
            self.arm(branch, "status")
        transcript = connector.read(configured, state, ok=False)
        branch.close()
        return transcript

    def assert_final(self, transcript, text, failure_type, message):
        self.assertEqual(1, transcript.code, transcript.explain())
        self.assertEqual(1, len(transcript.errors), transcript.explain())
        error = transcript.errors[0]
        self.assertEqual(message, error["message"])
        self.assertEqual(failure_type, error["failure_type"])
        self.assertEqual({"name": "sbtest1", "namespace": "commerce"}, error["stream_descriptor"])
        self.assertIn(text, error["internal_message"], "the server's own words")
        self.assertEqual("INCOMPLETE", dict(transcript.statuses)[stream_of(error["stream_descriptor"])])

    def test_each_text_of_a_server(self):
        for status, text, phase, failure_type, message in CASES:
            with self.subTest(text=text, phase=phase):
                self.assert_final(self.read_against(status, text, phase), text, failure_type, message)

    def test_each_recorded_text(self):
        for name, phase, failure_type, message in RECORDED:
            with self.subTest(recording=name):
                status, text = recorded(name)
                self.assert_final(self.read_against(status, text, phase), text, failure_type, message)

    def test_no_recorded_text_is_left_out(self):
        told = {name for name, *_ in RECORDED}
        for file in (RECORDINGS / "errors").glob("*.txt"):
            if "# end: None" not in file.read_text(encoding="utf-8"):
                # shard_gone is the text of old_shard_deleted, with other names.
                self.assertIn(file.stem, told | {"shard_gone"})

    def test_a_merge_is_planned_again_and_read_to_its_end(self):
        text = "not all journaling participants are in the stream: journal: [keyspace:\"commerce\"], stream: [-80]"
        transcript = self.read_against("INTERNAL", text, "binlog", repeat=1)
        self.assertEqual(0, transcript.code, transcript.explain())
        self.assertTrue([log for log in transcript.logs if "have to be read together from now on" in log])

    def test_re_sync_data_copies_again_with_a_warning(self):
        """The same texts under the other behaviour: no error, a warning that says what stays behind."""
        for text in ("the source purged required binary logs", "cannot determine table columns for sbtest1: event has []"):
            with self.subTest(text=text):
                fault = {"do": "status", "code": "UNKNOWN", "message": text, "phase": "binlog", "shard": "-80", "on_signal": True}
                branch = self.faulty([fault], ["commerce:2"], rows=60)
                connector = self.connector(branch.config(invalid_cdc_cursor_position_behavior="Re-sync data", max_retries=0))
                configured = configure(connector.catalog)
                first = connector.read(configured)
                self.arm(branch, "status")
                second = connector.read(configured, first.state_file())
                warnings = [log for log in second.logs if log.startswith("WARN")]
                self.assertTrue(any("copied again; rows deleted meanwhile stay" in w for w in warnings), second.explain())

    def test_columns_that_do_not_match_for_a_moment_are_no_lost_position(self):
        text = "cannot determine table columns for sbtest1: event has []"
        fault = {"do": "status", "code": "UNKNOWN", "message": text, "phase": "binlog", "shard": "-80", "on_signal": True}
        branch = self.faulty([fault], ["commerce:2"], rows=60)
        connector = self.connector(branch.config(invalid_cdc_cursor_position_behavior="Re-sync data"))
        configured = configure(connector.catalog)
        first = connector.read(configured)
        self.arm(branch, "status")
        second = connector.read(configured, first.state_file())
        self.assertTrue(any("Trying again" in log for log in second.logs), second.explain())
        self.assertFalse(any("copied again" in log for log in second.logs), second.explain())


if __name__ == "__main__":
    unittest.main()
