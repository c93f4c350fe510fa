// Implementation of stream_width.hpp.
#include "sync/stream_width.hpp"

#include <algorithm>
#include <utility>

namespace psource {

stream_width::stream_width(width_settings settings)
    : settings_(settings), now_(std::min(settings.least, settings.most)) {}

std::chrono::milliseconds stream_width::look(std::size_t fed, bool all_run, std::size_t done) {
  if (looks_ == 0) done_at_first_ = done;
  fed_ += fed;
  all_run_ = all_run_ && all_run;
  if (++looks_ < looks_of_a_judgement) return between;
  judge(done);
  looks_ = fed_ = 0;
  all_run_ = true;
  return between + pause_;
}

// Between the two limits nothing changes: a stream more or less is fed from one judgement to the next.
void stream_width::judge(std::size_t done) {
  const std::size_t before = now_;
  // On the average: less than one for every second worker; more than two for each.
  const bool hungry = 2 * fed_ < settings_.workers * looks_;
  const bool sated = fed_ > 2 * settings_.workers * looks_;
  // With so many at once more than one stream ends in each place from one look to the next.
  const auto brief = [&](std::size_t at_once) { return done - done_at_first_ > at_once * (looks_ - 1); };
  if ((hungry || brief(now_)) && all_run_)
    now_ = std::min(settings_.most, 2 * now_);
  else if (sated && !brief(now_ / 2))
    now_ = std::max(std::min(settings_.least, settings_.most), now_ / 2);
  pause_ = now_ != before ? std::chrono::milliseconds(0)
                          : std::min(longest_pause, std::max(first_pause, 2 * pause_));
}

}  // namespace psource
