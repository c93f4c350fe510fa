// All typed actors of the engine and every message between them. Read this first.
//
//   coordinator ───task───▶ stream_reader ──batch──▶ emitter ──bytes──▶ output (a thread that writes standard output)
//        ▲  ▲ done, failed ────┘  ▲ written ────────────┘ ▲ written ──────────┘
//        │  └ all written ────────────────────────────────┘
//        └ signal, output failed
//
// All messages are one-way; nothing here has a request time-out, because standard output may stand still for minutes.
// Death is seen by monitoring, and the coordinator's ends the others (docs/design.md, section 2).
#pragma once

#include <caf/allowed_unsafe_message_type.hpp>
#include <caf/atom.hpp>
#include <caf/fwd.hpp>
#include <caf/replies_to.hpp>
#include <caf/typed_actor.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "actors/returned_batches.hpp"
#include "clients/vstream.hpp"
#include "protocol/airbyte/messages.hpp"
#include "protocol/failure.hpp"
#include "sync/batch.hpp"
#include "sync/branch_questions.hpp"
#include "sync/schedule.hpp"

namespace psource {

struct reader_task;

// Payloads travel as shared pointers: CAF copies a message's parts, and these are large or not copyable for free.
using batch_ptr = std::shared_ptr<batch>;
using returned_batches_ptr = std::shared_ptr<returned_batches>;
using cursors_ptr = std::shared_ptr<const std::map<shard_name, shard_cursor>>;
using failure_ptr = std::shared_ptr<const failure>;
using stream_end_ptr = std::shared_ptr<const stream_end>;
using tables_ptr = std::shared_ptr<std::vector<session_table>>;
using reader_task_ptr = std::shared_ptr<reader_task>;
using rows_answer_ptr = std::shared_ptr<result<looked_up_rows>>;
using stops_answer_ptr = std::shared_ptr<const result<std::map<shard_id, gtid_set>>>;
using serving_answer_ptr = std::shared_ptr<const result<std::vector<shard_id>>>;
using positions_answer_ptr = std::shared_ptr<const result<server_positions>>;

using task_atom = caf::atom_constant<caf::atom("task")>;
using start_atom = caf::atom_constant<caf::atom("start")>;
using ready_atom = caf::atom_constant<caf::atom("ready")>;
using ended_atom = caf::atom_constant<caf::atom("ended")>;
using retry_atom = caf::atom_constant<caf::atom("retry")>;
using watch_atom = caf::atom_constant<caf::atom("watch")>;
using tick_atom = caf::atom_constant<caf::atom("tick")>;
using look_atom = caf::atom_constant<caf::atom("look")>;
using written_atom = caf::atom_constant<caf::atom("written")>;
using stop_atom = caf::atom_constant<caf::atom("stop")>;
using batch_atom = caf::atom_constant<caf::atom("batch")>;
using verdict_atom = caf::atom_constant<caf::atom("verdict")>;
using error_atom = caf::atom_constant<caf::atom("error")>;
using log_atom = caf::atom_constant<caf::atom("log")>;
using finish_atom = caf::atom_constant<caf::atom("finish")>;
using broken_atom = caf::atom_constant<caf::atom("broken")>;
using done_atom = caf::atom_constant<caf::atom("done")>;
using failed_atom = caf::atom_constant<caf::atom("failed")>;
using stopped_atom = caf::atom_constant<caf::atom("stopped")>;
using serving_atom = caf::atom_constant<caf::atom("serving")>;
using stops_atom = caf::atom_constant<caf::atom("stops")>;
using rows_atom = caf::atom_constant<caf::atom("rows")>;
using positions_atom = caf::atom_constant<caf::atom("positions")>;
using plan_atom = caf::atom_constant<caf::atom("plan")>;
using report_atom = caf::atom_constant<caf::atom("report")>;

/// The STREAM READER actor interface: one VStream call after another, each across its reconnects.
using stream_reader_actor = caf::typed_actor<
    // From the coordinator, after `done` or `failed`: the next stream.
    caf::reacts_to<task_atom, reader_task_ptr>,
    // INTERNAL: opens the call, the first time or again after a delay; the number is the attempt it belongs to.
    caf::reacts_to<retry_atom, std::uint64_t>,
    // From the transport: responses of this attempt can be taken. INTERNAL as well: the reader goes on after it gave others
    // their turn.
    caf::reacts_to<ready_atom, std::uint64_t>,
    // From the transport: this attempt is over.
    caf::reacts_to<ended_atom, std::uint64_t, stream_end_ptr>,
    // From the emitter: a batch has come back that this reader looked for in vain.
    caf::reacts_to<written_atom>,
    // From the question worker: the rows that this attempt's session misses.
    caf::reacts_to<rows_atom, std::uint64_t, rows_answer_ptr>,
    // From the question worker: what the server of a shard says of its binary log, asked because this attempt is silent.
    caf::reacts_to<positions_atom, std::uint64_t, std::string, positions_answer_ptr>,
    // From the coordinator, every few seconds: look whether the stream has stalled. A timer of its own would wake the
    // clock's thread for each of thousands of calls.
    caf::reacts_to<watch_atom>,
    // From the coordinator: hand over what is complete and end; after `done` or `failed`: there is no further stream.
    caf::reacts_to<stop_atom>>;

/// The EMITTER actor interface: the one place that decides what standard output says, in which order.
using emitter_actor = caf::typed_actor<
    // From a reader: write these lines, then hold these cursors. When it is written, the batch goes back there, and the reader
    // is told if it waits.
    caf::reacts_to<batch_atom, batch_ptr, returned_batches_ptr, stream_reader_actor>,
    // From the output's thread: everything up to this ticket is written (not of what the output wrote at once).
    caf::reacts_to<written_atom, std::uint64_t>,
    // From the output's thread: nothing can be written any more.
    caf::reacts_to<broken_atom, failure_ptr>,
    // From the coordinator: the stream is over (true = complete); write its last state and its final status.
    caf::reacts_to<verdict_atom, stream_index, bool>,
    // From the coordinator, before the stream's readers: it was planned again, from these cursors.
    caf::reacts_to<plan_atom, stream_index, cursors_ptr>,
    // From anyone: a TRACE ERROR.
    caf::reacts_to<error_atom, failure_ptr>,
    // From anyone: a LOG line; the number is a log_level.
    caf::reacts_to<log_atom, std::uint8_t, std::string>,
    // INTERNAL: looks which states are due.
    caf::reacts_to<watch_atom>,
    // From the coordinator: write the last states of what is not over, tell the coordinator when all is written, quit.
    caf::reacts_to<finish_atom>>;

/// The COORDINATOR actor interface: starts streams, judges their ends, decides when the read is over.
using coordinator_actor = caf::typed_actor<
    // Starts the first streams.
    caf::reacts_to<start_atom>,
    // From a reader: its stream reached its end; the tables hold the final cursors.
    caf::reacts_to<done_atom, task_id, tables_ptr>,
    // From a reader: it gave up.
    caf::reacts_to<failed_atom, task_id, failure_ptr, tables_ptr>,
    // From a reader: it ended because it was told to.
    caf::reacts_to<stopped_atom, task_id>,
    // From the emitter: nothing can be written any more.
    caf::reacts_to<broken_atom, failure_ptr>,
    // From the emitter: everything is written; the run is over.
    caf::reacts_to<finish_atom>,
    // INTERNAL: tables that are done may have to catch up again, because copies take long.
    caf::reacts_to<watch_atom>,
    // INTERNAL: readers shall look at their clocks.
    caf::reacts_to<tick_atom>,
    // INTERNAL: looks whether more streams, or fewer, should run at once.
    caf::reacts_to<look_atom>,
    // From the question worker: fresh stop positions.
    caf::reacts_to<stops_atom, stops_answer_ptr>,
    // From the question worker: the shards that serve now. Every inquiry begins with them.
    caf::reacts_to<serving_atom, serving_answer_ptr>,
    // INTERNAL: tables whose shards were replaced are planned again now.
    caf::reacts_to<plan_atom>,
    // From the signal thread: end in good order; the number is the signal.
    caf::reacts_to<stop_atom, int>>;

/// The PROGRESS actor interface: tells people how far the read is.
using progress_actor = caf::typed_actor<
    // INTERNAL: the next report is due.
    caf::reacts_to<report_atom>,
    // From the coordinator: the run is over.
    caf::reacts_to<stop_atom>>;

}  // namespace psource

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::batch_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::returned_batches_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::cursors_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::failure_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::stream_end_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::tables_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::reader_task_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::rows_answer_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::positions_answer_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::stops_answer_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(psource::serving_answer_ptr)
